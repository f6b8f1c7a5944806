"""The connections to a cluster, for lightkube: answers are bounded in time and in size.

The timeouts of httpx bound silence alone (CWE-400, a slow read), and nothing there bounds a body. The heads and bodies of
answers, and the answer of a proxy to CONNECT, have the bounds of `Pace` on the connection itself, which httpcore takes as a
network backend. httpx passes none on, so this is its transport over httpcore, with public parts of both.
"""

from __future__ import annotations

import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Self

import httpcore
import httpx

from common.interruption import is_stopped
from common.registry.http.pace import Pace, SlowAnswerError
from common.serialization import COMPACT, values_in

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator


# The largest list is that of PackageManifests, some dozen MB where a catalog has descriptions and icons of 300 packages.
MAX_ANSWER = 256 * 1024 * 1024
MAX_PAGES = 100  # an API server gives a list whole, unless it is asked for pages
# Of a list that is asked for in pages (`ClusterClient.scan`), and not kept: 50,000 objects in pages of 50, and one page more,
# which shows that there are others.
MAX_SCANNED_PAGES = 1001
MAX_SCANNED = 8 * 1024 * 1024 * 1024
MAX_LOG = 8 * 1024 * 1024  # of 50 lines; the kubelet cuts lines at 16 KiB
FREE_VALUES = 200_000
_GZIP = 16 + zlib.MAX_WBITS
_STEP = 1024 * 1024
# Those of httpx (`httpx.Limits`), which closes idle connections before a load balancer does.
_CONNECTIONS, _KEPT, _KEPT_S = 100, 20, 5.0
_LAST_S = 5.0  # for a request that cleans up after a stop


class OutOfBoundsError(ValueError):
    """An answer that is larger than any of an API server."""


class Transport(httpx.BaseTransport):
    """The connections to a cluster. `small_s`: see `Pace`, for the heads and the bodies of answers.

    `warned` gets the `Warning` headers of answers to requests that may write.
    """

    def __init__(
        self,
        *,
        verify: ssl.SSLContext | None = None,
        proxy: httpx.Proxy | None = None,
        small_s: float = 60.0,
        warned: Callable[[list[str]], None] = lambda _headers: None,
    ) -> None:
        self._warned = warned
        options: dict[str, Any] = {
            "ssl_context": verify,
            "max_connections": _CONNECTIONS,
            "max_keepalive_connections": _KEPT,
            "keepalive_expiry": _KEPT_S,
            "network_backend": _PacedBackend(small_s),
        }
        if proxy is None:
            self._pool = httpcore.ConnectionPool(**options)
        else:
            self._pool = httpcore.HTTPProxy(
                _address(proxy.url),
                proxy_auth=proxy.raw_auth,
                proxy_headers=proxy.headers.raw,
                proxy_ssl_context=proxy.ssl_context,
                **options,
            )
        self._list = Room(MAX_ANSWER)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Return the answer to a request; its body ends in time, see `Pace`, and is bounded, see `Room`."""
        # The only encoding of API servers (KEP-156, compression of large responses); decoded here, where it is bounded.
        request.headers["Accept-Encoding"] = "gzip"
        assert isinstance(request.stream, httpx.SyncByteStream)
        if is_stopped():
            request.extensions["timeout"] = httpx.Timeout(_LAST_S).as_dict()
        asked = httpcore.Request(
            request.method,
            _address(request.url),
            headers=request.headers.raw,
            content=request.stream,
            extensions=request.extensions,
        )
        with _errors_of_httpx():
            answer = self._pool.handle_request(asked)
        connection = answer.extensions.get("network_stream")
        if isinstance(connection, _PacedStream):
            connection.pace.small()
        headers = httpx.Headers(answer.headers)
        # A read warns of a deprecated version that hub-import chose for the cluster: nothing that a person can change.
        if request.method != "GET":
            self._warned(headers.get_list("Warning"))
        zipped = headers.pop("Content-Encoding", "identity").lower() == "gzip"
        body = _Bounded(answer, self._room(request), zipped=zipped)
        return httpx.Response(answer.status, headers=headers, stream=body, extensions=answer.extensions)

    def close(self) -> None:
        """Close every connection."""
        self._pool.close()

    def _room(self, request: httpx.Request) -> Room:
        if request.url.path.endswith("/log"):
            return Room(MAX_LOG, json=False)
        # All pages of a list share one limit, also empty ones without end. Pages that were asked for are decoded one by one.
        if "continue" not in request.url.params:
            self._list = Scan(MAX_ANSWER, MAX_SCANNED) if "limit" in request.url.params else Room(MAX_ANSWER)
        self._list.take_page()
        return self._list

    # lightkube copies its parameters with dataclasses.asdict, and an SSLContext cannot be copied.
    def __deepcopy__(self, _memo: object) -> Self:
        return self


def _address(url: httpx.URL) -> httpcore.URL:
    return httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)


@contextmanager
def _errors_of_httpx() -> Iterator[None]:
    """Raise the errors of httpcore as those of httpx, which have the same names."""
    try:
        yield
    except Exception as error:
        kind = getattr(httpx, type(error).__name__, None)
        if not type(error).__module__.startswith("httpcore") or not isinstance(kind, type):
            raise
        raise kind(str(error)) from error


class _PacedBackend(httpcore.NetworkBackend):
    """Makes connections that are read at a pace."""

    def __init__(self, small_s: float) -> None:
        self._backend = httpcore.SyncBackend()
        self._small_s = small_s

    def connect_tcp(self, *args: Any, **options: Any) -> httpcore.NetworkStream:
        """Connect; see `httpcore.NetworkBackend`."""
        return _PacedStream(self._backend.connect_tcp(*args, **options), self._small_s)

    def sleep(self, seconds: float) -> None:
        """Wait."""
        self._backend.sleep(seconds)


class _PacedStream(httpcore.NetworkStream):
    """A connection on which a head follows what is written, until the transport says that a body does."""

    def __init__(self, stream: httpcore.NetworkStream, small_s: float) -> None:
        self._stream = stream
        self._small_s = small_s
        self.pace = Pace(small_s)

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Return what is there; see `httpcore.NetworkStream`."""
        try:
            left_s = self.pace.left_s() if self.pace.is_on else None
        except SlowAnswerError as error:
            raise httpcore.ReadTimeout(str(error)) from error
        if left_s is None or (timeout is not None and timeout <= left_s):
            content = self._stream.read(max_bytes, timeout)
        else:
            content = self._within(max_bytes, left_s)
        self.pace.arrived(len(content))
        return content

    def _within(self, max_bytes: int, left_s: float) -> bytes:
        try:
            return self._stream.read(max_bytes, left_s)
        except httpcore.ReadTimeout as error:
            raise httpcore.ReadTimeout("the answer takes too long") from error

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send; see `httpcore.NetworkStream`."""
        self.pace.head()
        self._stream.write(buffer, timeout)

    def close(self) -> None:
        """Close the connection."""
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        """Return the connection with TLS; Python's timeout of a handshake is one for all of it."""
        return _PacedStream(self._stream.start_tls(ssl_context, server_hostname, timeout), self._small_s)

    def get_extra_info(self, info: str) -> Any:
        """Return what httpcore asks for."""
        return self._stream.get_extra_info(info)


class Room:
    """What is left of the bounds of an answer: bytes, pages, and values, each of which takes dozens of bytes in memory."""

    most_pages: ClassVar[int] = MAX_PAGES

    def __init__(self, limit: int, *, json: bool = True) -> None:
        self._left = self._limit = limit
        self._pages = self.most_pages
        self._json = json
        self._values = 0

    def take_page(self) -> None:
        """Count a page of a list. Raises OutOfBoundsError."""
        self._pages -= 1
        if self._pages < 0:
            raise OutOfBoundsError(f"a list of more than {self.most_pages} pages")

    def take(self, chunk: bytes) -> None:
        """Count a part of a body. Raises OutOfBoundsError."""
        self._left -= len(chunk)
        if self._left < 0:
            raise OutOfBoundsError(f"an answer of more than {self._limit} bytes")
        self._values += values_in(chunk) if self._json else 0
        if self._values > FREE_VALUES + (self._limit - self._left) // COMPACT:
            raise OutOfBoundsError(f"an answer of about {self._values} values in {self._limit - self._left} bytes")


class Scan(Room):
    """What is left of the bounds of a list in pages: `limit` and values are those of one page, `total` are the bytes of all."""

    most_pages: ClassVar[int] = MAX_SCANNED_PAGES

    def __init__(self, limit: int, total: int) -> None:
        super().__init__(limit)
        self._total = self._whole = total

    def take_page(self) -> None:
        """Count a page of a list, which may have as much as the first one. Raises OutOfBoundsError."""
        super().take_page()
        self._left, self._values = self._limit, 0

    def take(self, chunk: bytes) -> None:
        """Count a part of a page. Raises OutOfBoundsError."""
        super().take(chunk)
        self._total -= len(chunk)
        if self._total < 0:
            raise OutOfBoundsError(f"a list of more than {self._whole} bytes")


class _Bounded(httpx.SyncByteStream):
    """The body of an answer, decoded and up to its bounds."""

    def __init__(self, answer: httpcore.Response, room: Room, *, zipped: bool) -> None:
        self._answer = answer
        self._room = room
        self._inflate = zlib.decompressobj(_GZIP) if zipped else None

    def __iter__(self) -> Iterator[bytes]:
        with _errors_of_httpx():
            for chunk in self._answer.iter_stream():
                yield from self._decoded(chunk)

    def _decoded(self, chunk: bytes) -> Iterator[bytes]:
        while chunk:
            try:
                part = self._inflate.decompress(chunk, _STEP) if self._inflate else chunk
            except zlib.error as error:
                raise OutOfBoundsError(f"an answer that is not gzip: {error}") from error
            chunk = self._inflate.unconsumed_tail if self._inflate else b""
            self._room.take(part)
            yield part

    def close(self) -> None:
        """Release the connection."""
        self._answer.close()
