"""An httpx transport on urllib3 (ADR 0005): connections, TLS, proxies, and network errors as errors of this project.

Bodies arrive in chunks of CHUNK_SIZE and more, as sent: nothing is decoded. Redirects, retries and credentials are left to
the layers above.
"""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable, Generator, Iterator
from functools import cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx
import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError

from common.content import CHUNK_SIZE
from common.registry.http.errors import MAX_ERROR_BODY, PROXY_HINT, unreachable
from common.registry.http.pace import PacedResponse
from common.registry.http.tls import Trust, proxy_for, proxy_way, tls_context, trust_for
from common.retry import RetryableError
from common.tls import Certificate, Explanation, Proxy, Server, explained, presented

if TYPE_CHECKING:
    import ssl
    from pathlib import Path

    from common.registry.registries_conf import Hosts
    from common.registry.settings import RegistrySettings


_POOLS = 64
_HTTPS = 443
_Broken = Callable[[Exception], RetryableError]
_BROKEN = (HTTPError, OSError, http.client.HTTPException)


class _Route(NamedTuple):
    """How requests reach one origin; `proxy`: `HOST:PORT`, empty for a direct connection; `way` is that proxy.

    `given`, `proxy_given`: the files with authorities for the origin, and for the proxy.
    """

    urlopen: Callable[..., urllib3.BaseHTTPResponse]
    close: Callable[[], None]
    given: tuple[Path, ...]
    proxy: str = ""
    way: Proxy | None = None
    proxy_given: tuple[Path, ...] = ()


@cache
def _timeout(connect_s: float, read_s: float) -> urllib3.Timeout:
    return urllib3.Timeout(connect=connect_s, read=read_s)  # urllib3 clones it for each request


def _answer(connection: Any, *args: Any, **options: Any) -> PacedResponse:
    """Return the answer that http.client reads next on a connection, to a request or to CONNECT."""
    connection.answer = answer = PacedResponse(*args, small_s=connection.small_s, **options)
    return answer


class _Stalling:
    """A connection on which writing may stall for `stall_s`; urllib3 would allow the connect timeout."""

    stall_s = 60.0
    small_s = 60.0

    response_class: Any = _answer  # a method of the connection, so that its answer is known

    def getresponse(self: Any) -> Any:
        """Return urllib3's response; `hasten` of it bounds the time of its body, to be called before that is read."""
        response = super().getresponse()  # type: ignore[misc]
        response.hasten = self.answer.pace.small
        return response

    def connect(self: Any) -> None:
        super().connect()  # type: ignore[misc]
        self.is_verified = True  # silences urllib3's warning at every request; `Exchange` warns once of an unverified host
        self.sock.settimeout(self.stall_s)

    def request(self: Any, *args: Any, **kwargs: Any) -> None:
        if self.sock is not None:  # a connection that is used again
            self.timeout = self.stall_s
        super().request(*args, **kwargs)  # type: ignore[misc]


class _Plain(_Stalling, HTTPConnection):
    """Plain HTTP."""


class _Secure(_Stalling, HTTPSConnection):
    """HTTP over TLS."""


class Urllib3Transport(httpx.BaseTransport):
    """Sends one request and returns one response. Shared by threads.

    Raises RetryableError, about the `Question` that is in the request's extensions.
    """

    def __init__(self, settings: RegistrySettings, hosts: Hosts) -> None:
        self._settings = settings
        self._hosts = hosts
        self._lock = threading.Lock()
        self._routes: dict[tuple[str, str], _Route] = {}
        self._answered: set[tuple[str, bytes]] = set()  # origins: their name, port and route are right
        self._contexts: dict[Trust, ssl.SSLContext] = {}
        self._proxied: dict[tuple[Trust, str], urllib3.ProxyManager] = {}
        self._presented: dict[str, Certificate | None] = {}
        times = settings.timeouts
        limits = {"stall_s": times.stall_s, "small_s": times.small_s}
        plain, secure = type("Plain", (_Plain,), limits), type("Secure", (_Secure,), limits)
        self._pools: dict[str, type[HTTPConnectionPool]] = {
            "http": type("PlainPool", (HTTPConnectionPool,), {"ConnectionCls": plain}),
            "https": type("SecurePool", (HTTPSConnectionPool,), {"ConnectionCls": secure}),
        }

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Return the response, its body unread. An error of the request's own body passes through as it is."""
        route = self._route(request.url)
        timeout = request.extensions["timeout"]
        broken = partial(
            unreachable, request.extensions["question"], request.url, route.proxy, partial(self._explained, request.url, route)
        )
        origin = (request.url.scheme, request.url.netloc)
        body = _Body(request)
        try:
            raw = route.urlopen(
                request.method,
                str(request.url) if route.proxy else request.url.raw_path.decode("ascii"),
                body=body if body.size else None,
                headers={key.decode("latin-1"): value.decode("latin-1") for key, value in request.headers.raw},
                timeout=_timeout(timeout["connect"], timeout["read"]),
                redirect=False,
                retries=False,
                preload_content=False,
                decode_content=False,
            )
        except _BROKEN as error:
            is_first = origin not in self._answered
            sent = None if is_first else body.size
            raise body.failure or broken(error, sent=sent, is_first=is_first) from (None if body.failure else error)
        finally:
            body.close()
        self._answered.add(origin)
        return _response(raw, broken)

    def close(self) -> None:
        """Close every connection."""
        with self._lock:
            for route in self._routes.values():
                route.close()

    def _route(self, url: httpx.URL) -> _Route:
        key = (url.scheme, url.netloc.decode())
        with self._lock:
            if key not in self._routes:
                self._routes[key] = self._new_route(url)
            return self._routes[key]

    def _new_route(self, url: httpx.URL) -> _Route:
        """Return the way to an origin. What needs the same trust shares a TLS context, which takes long to load."""
        scheme, host = url.scheme, url.netloc.decode()
        trust = trust_for(self._settings, host, insecure=self._hosts.insecure(host)) if scheme == "https" else Trust()
        if trust not in self._contexts:
            self._contexts[trust] = tls_context(trust)
        options: dict[str, Any] = {"maxsize": 2 * self._settings.jobs, "ssl_context": self._contexts[trust]}
        if not trust.verify:
            options["cert_reqs"] = "CERT_NONE"
        proxy = proxy_for(self._settings.environ, scheme, host)
        if not proxy:
            # A pool without urllib3's PoolManager, which parses each URL again and normalizes it.
            if scheme == "http":
                del options["ssl_context"]
            pool = self._pools[scheme](url.raw_host.decode("ascii"), url.port, **options)
            return _Route(pool.urlopen, pool.close, trust.authorities)
        way, proxy_trust = proxy_way(proxy, self._settings)
        if (trust, proxy) not in self._proxied:
            self._proxied[trust, proxy] = manager = urllib3.ProxyManager(
                way.url, num_pools=_POOLS, proxy_headers=dict(way.headers), proxy_ssl_context=way.context, **options
            )
            manager.pool_classes_by_scheme = self._pools
        manager = self._proxied[trust, proxy]
        at = manager.proxy.netloc or "" if manager.proxy else ""
        return _Route(manager.urlopen, manager.clear, trust.authorities, at, way, proxy_trust.authorities)

    def _explained(self, url: httpx.URL, route: _Route, error: ssl.SSLCertVerificationError, *, is_proxys: bool) -> Explanation:
        """Explain a refused certificate with a look at what the proxy or the origin presents; one look at each."""
        host = url.netloc.decode()
        at = route.proxy if is_proxys else host if url.port else f"{host}:{_HTTPS}"
        if at not in self._presented:
            self._presented[at] = presented(f"https://{at}", None if is_proxys else route.way)
        add = "with --ca FILE, or as certs.d/{}/ca.crt"
        if is_proxys:
            server = Server("the certificate of the proxy", at, add.format(at), route.proxy_given, PROXY_HINT)
        else:
            server = Server("its certificate", at, add.format(host), route.given)
        return explained(error, self._presented[at], server)


class _Body:
    """The request's body; remembers its own failure, so that it is not taken for one of the network."""

    def __init__(self, request: httpx.Request) -> None:
        assert isinstance(request.stream, httpx.SyncByteStream)
        self.size = int(request.headers.get("Content-Length", "0"))
        self.failure: Exception | None = None
        self._chunks = self._read(request.stream)

    def __iter__(self) -> Iterator[bytes]:
        return self._chunks

    def close(self) -> None:
        """Release the source: half read, it would keep its turn at a limiter while this thread waits to try again."""
        self._chunks.close()

    def _read(self, stream: httpx.SyncByteStream) -> Generator[bytes]:
        try:
            yield from stream
        except Exception as error:
            self.failure = error
            raise


def _response(raw: urllib3.BaseHTTPResponse, broken: _Broken) -> httpx.Response:
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in raw.headers.items()]
    limit = None
    if raw.status >= httpx.codes.MULTIPLE_CHOICES:
        # httpx reads the bodies of redirects and of 401 whole, and decodes them: 64 KiB of zstd may become gigabytes.
        limit = MAX_ERROR_BODY + 1  # one more shows that a body is too long
        headers = [(name, value) for name, value in headers if name.lower() != b"content-encoding"]
    # `coding`: for `errors.refused`, which decodes with a limit; `hasten`: for who takes the body to be small.
    extensions = {"coding": raw.headers.get("Content-Encoding", ""), "hasten": _hasten(raw)}
    return httpx.Response(raw.status, headers=headers, stream=_Chunks(raw, broken, limit), extensions=extensions)


def _hasten(raw: Any) -> Callable[[], None]:
    """Return what bounds the time of a body, to be called before it is read."""
    hasten: Callable[[], None] = raw.hasten
    return hasten


# Sizes of reads of a body. Each read costs the layers above it and the two hashes a constant: with 1 MiB in place of 256 KiB
# `create` takes 5 % less CPU for a byte. But a broken connection loses what it has brought of one read, and on a slow line
# progress and Ctrl-C wait for the end of it.
_FAST = 2 * 1024 * 1024  # bytes a second, of a line that is read in large steps
# Bytes before the first large read: when that one is lost, the try still counts as progress (`common/registry/download.py`).
_SURE = 2 * 1024 * 1024
LARGE_READ = 1024 * 1024


class ReadSize:
    """Size of the next read of a body: larger on a line that is fast."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._asked_s = clock()
        self._received = 0

    def after(self, received: int) -> int:
        """Return the size, when the last read has brought so many bytes."""
        before_s, self._asked_s = self._asked_s, self._clock()
        self._received += received
        is_fast = received >= _FAST * (self._asked_s - before_s)
        return LARGE_READ if is_fast and self._received >= _SURE else CHUNK_SIZE


class _Chunks(httpx.SyncByteStream):
    """The response's body in chunks (`ReadSize`), cut after `limit` bytes; left unread, it costs the connection."""

    def __init__(self, raw: urllib3.BaseHTTPResponse, broken: _Broken, limit: int | None) -> None:
        self._raw = raw
        self._broken = broken
        self._limit = limit

    def __iter__(self) -> Iterator[bytes]:
        left, sizes = self._limit, ReadSize()
        if left is not None:
            _hasten(self._raw)()
        size = CHUNK_SIZE if left is None else left
        try:
            while size and (chunk := self._raw.read(size, decode_content=False)):
                yield chunk
                size = sizes.after(len(chunk)) if self._limit is None else size - len(chunk)
        except _BROKEN as error:
            raise self._broken(error) from error

    def close(self) -> None:
        if self._raw.length_remaining == 0:
            self._raw.drain_conn()  # lets urllib3 notice that nothing is left, as after HEAD; only then is it used again
            self._raw.release_conn()
        else:
            self._raw.close()
