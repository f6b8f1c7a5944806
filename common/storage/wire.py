"""The connections to object storage: answers that end, and calls that end as soon as the process is told to stop.

boto3 reads whatever an answer has into memory before it looks at it, and a call that hangs is heard of after its timeout. Both
are mended where it sends a request; nothing else reaches that deep into it.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from weakref import WeakSet

from urllib3.exceptions import HTTPError

from common.errors import StorageError
from common.interruption import on_stop, pause
from common.tls import client_context, trusting

_MAX_ANSWER = 4 * 1024 * 1024  # a thousand entries of a listing, with the longest of names, as they are written in a URL
_REFUSED = 300  # the first HTTP status that is no success


class Wire:
    """Sends requests in place of a client's own session."""

    def __init__(self, session: Any, errors: Any) -> None:
        self._session = session
        self._errors = errors
        self._lock = threading.RLock()  # the signal may come while this very thread holds it
        self._lines: WeakSet[Any] = WeakSet()

    @classmethod
    def put_into(cls, client: Any, errors: Any) -> None:
        """Let a boto3 client send its requests here."""
        wire = cls(client._endpoint.http_session, errors)  # noqa: SLF001 - there is no other way in
        wire._watch()
        wire._trust()
        client._endpoint.http_session = wire  # noqa: SLF001
        on_stop(wire.hang_up)

    def send(self, request: Any) -> Any:
        """Send a request; return the answer, read already where it is no stream. Raises StorageError for one without an end."""
        is_stream, request.stream_output = request.stream_output, True
        answer = self._session.send(request)
        if not is_stream or answer.status_code >= _REFUSED:
            answer.raw = _Content(self._whole(answer.raw))
        return answer

    def close(self) -> None:
        """Close what is idle."""
        self._session.close()

    def hang_up(self) -> None:
        """Break every connection: who waits for an answer on one hears at once that there is none."""
        with self._lock:
            lines = list(self._lines)
        for line in lines:
            if line.sock is not None:
                with suppress(OSError):
                    socket.socket.shutdown(line.sock, socket.SHUT_RDWR)  # not that of TLS, which another thread is just using

    def _whole(self, raw: Any) -> bytes:
        content = bytearray()
        try:
            for piece in raw.stream():
                content += piece
                if len(content) > _MAX_ANSWER:
                    raw.close()
                    raise StorageError(f"the service answers with more than {_MAX_ANSWER} bytes, where there should be few")
        except (HTTPError, OSError) as error:
            raise self._errors.HTTPClientError(error=error) from error
        raw.release_conn()  # where there was nothing to read, nothing else does
        return bytes(content)

    def _trust(self) -> None:
        """Verify the service, and a proxy before it, as everything else is verified (common/tls.py)."""
        session = self._session
        trusting(session._manager.connection_pool_kw["ssl_context"])  # noqa: SLF001
        own, make = session._get_ssl_context, session._setup_proxy_ssl_context  # noqa: SLF001
        bundle = session._verify  # noqa: SLF001 - the path that AWS_CA_BUNDLE names; else True

        def for_proxy(url: str) -> ssl.SSLContext | None:
            context = make(url)  # None: urllib3 would make one, by the rules of this Python
            if context is None and url.startswith("https:"):
                context = client_context()
                if isinstance(bundle, str):
                    context.load_verify_locations(cafile=bundle)
            return context and trusting(context)

        session._get_ssl_context = lambda: trusting(own())  # noqa: SLF001
        session._setup_proxy_ssl_context = for_proxy  # noqa: SLF001

    def _watch(self) -> None:
        """Know of every connection that is made from now on."""
        session = self._session
        watched = {scheme: self._watched(pool) for scheme, pool in session._pool_classes_by_scheme.items()}  # noqa: SLF001
        session._pool_classes_by_scheme = watched  # noqa: SLF001 - for those through a proxy
        session._manager.pool_classes_by_scheme = watched  # noqa: SLF001

    def _watched(self, pool: Any) -> Any:
        """Return the class of a pool whose connections are known here."""
        kind = pool.ConnectionCls

        def connect(line: Any) -> None:
            with self._lock:
                self._lines.add(line)
            kind.connect(line)
            pause(0)  # told to stop while it was being made

        line = type(kind.__name__, (kind,), {"connect": connect})
        return type(pool.__name__, (pool,), {"ConnectionCls": line})


class _Content:
    """An answer that has been read."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def stream(self) -> Iterator[bytes]:
        yield self._content
