"""HTTP itself: an httpx transport that sits on urllib3 (ADR 0005), which moves bytes at less than half of the CPU.

Owns connections, TLS, proxies and the translation of urllib3's errors into httpx's. Bodies come in chunks of CHUNK_SIZE, as
sent: nothing is decoded, no redirect is followed, nothing is tried twice, no cookie is kept.
"""

from __future__ import annotations

import http.client
import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import httpx
import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError

from common.content import CHUNK_SIZE
from common.log import SECRETS
from common.registry.http.tls import Trust, proxy_for, proxy_parts, tls_context, trust_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from common.registry.registries_conf import Hosts
    from common.registry.settings import RegistrySettings

_POOLS = 64
_Route = tuple[Trust, str | None]


class _Plain(HTTPConnection):
    """A connection on which writing may stall for `stall_s`; urllib3 would allow the connect timeout."""

    stall_s = 60.0

    def connect(self) -> None:
        super().connect()
        self.sock.settimeout(self.stall_s)

    def request(self, *args: Any, **kwargs: Any) -> None:
        if self.sock is not None:
            self.timeout = self.stall_s
        super().request(*args, **kwargs)


class _Secure(HTTPSConnection):
    """The same over TLS. `is_verified` only silences urllib3's warning at every request: `--insecure` is our own to tell."""

    stall_s = 60.0

    def connect(self) -> None:
        super().connect()
        self.is_verified = True
        self.sock.settimeout(self.stall_s)

    def request(self, *args: Any, **kwargs: Any) -> None:
        if self.sock is not None:
            self.timeout = self.stall_s
        super().request(*args, **kwargs)


class Urllib3Transport(httpx.BaseTransport):
    """Sends one request and gives one response. Shared by threads."""

    def __init__(self, settings: RegistrySettings, hosts: Hosts) -> None:
        self._settings = settings
        self._hosts = hosts
        self._lock = threading.Lock()
        self._routes: dict[tuple[str, str], urllib3.PoolManager] = {}
        self._managers: dict[_Route, urllib3.PoolManager] = {}

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """See httpx. Raises httpx.TransportError; an error of the request's own body passes through as it is."""
        body = _Body(request)
        timeout = request.extensions.get("timeout", {})
        manager = self._manager(request.url)
        if isinstance(manager, urllib3.ProxyManager) and manager.proxy:
            request.extensions["proxy"] = manager.proxy.netloc  # for messages
        try:
            raw = manager.urlopen(
                request.method,
                str(request.url),
                body=body if body.size else None,
                headers={key.decode("latin-1"): value.decode("latin-1") for key, value in request.headers.raw},
                timeout=urllib3.Timeout(connect=timeout.get("connect"), read=timeout.get("read")),
                redirect=False,
                retries=False,
                preload_content=False,
                decode_content=False,
            )
        except (HTTPError, OSError, http.client.HTTPException) as error:
            if body.failure is not None:
                raise body.failure from None
            raise _translated(error, request) from error
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in raw.headers.items()]
        return httpx.Response(raw.status, headers=headers, stream=_Chunks(raw, request))

    def close(self) -> None:
        """Close every connection."""
        with self._lock:
            for manager in self._managers.values():
                manager.clear()

    def _manager(self, url: httpx.URL) -> urllib3.PoolManager:
        key = (url.scheme, url.netloc.decode())
        with self._lock:
            if key not in self._routes:
                self._routes[key] = self._shared(*key)
            return self._routes[key]

    def _shared(self, scheme: str, host: str) -> urllib3.PoolManager:
        """Hosts that need the same trust and the same proxy share a manager, and so a TLS context."""
        trust = trust_for(self._settings, host, insecure=self._hosts.insecure(host)) if scheme == "https" else Trust()
        route = (trust, proxy_for(self._settings.environ, scheme, host))
        if route not in self._managers:
            self._managers[route] = _make(route, self._settings)
        return self._managers[route]


def _make(route: _Route, settings: RegistrySettings) -> urllib3.PoolManager:
    trust, proxy = route
    options: dict[str, Any] = {"num_pools": _POOLS, "maxsize": 2 * settings.jobs, "ssl_context": tls_context(trust)}
    if not trust.verify:
        options["cert_reqs"] = "CERT_NONE"
    manager = _through(proxy, settings, options) if proxy else urllib3.PoolManager(**options)
    stall = {"stall_s": settings.timeouts.stall_s}
    plain, secure = type("Plain", (_Plain,), stall), type("Secure", (_Secure,), stall)
    manager.pool_classes_by_scheme = {
        "http": type("PlainPool", (HTTPConnectionPool,), {"ConnectionCls": plain}),
        "https": type("SecurePool", (HTTPSConnectionPool,), {"ConnectionCls": secure}),
    }
    return manager


def _through(proxy: str, settings: RegistrySettings, options: dict[str, Any]) -> urllib3.ProxyManager:
    parts = proxy_parts(proxy)
    host = parts.netloc.rpartition("@")[2]
    headers = None
    if parts.username:
        SECRETS.add(parts.password or "")
        headers = urllib3.make_headers(proxy_basic_auth=f"{unquote(parts.username)}:{unquote(parts.password or '')}")
    if parts.scheme == "https":  # the proxy is verified for itself, also where the registry behind it is not (--insecure)
        options["proxy_ssl_context"] = tls_context(trust_for(settings, host, insecure=False))
    return urllib3.ProxyManager(f"{parts.scheme}://{host}", proxy_headers=headers, **options)


class _Body:
    """The request's body; remembers its own failure, so that it is not taken for the network's."""

    def __init__(self, request: httpx.Request) -> None:
        self.size = int(request.headers.get("Content-Length", "0"))
        self.failure: Exception | None = None
        self._stream = request.stream

    def __iter__(self) -> Iterator[bytes]:
        assert isinstance(self._stream, httpx.SyncByteStream)
        try:
            yield from self._stream
        except Exception as error:
            self.failure = error
            raise


class _Chunks(httpx.SyncByteStream):
    """The response's body in chunks of CHUNK_SIZE. A connection that was not read to its end is closed, not reused."""

    def __init__(self, raw: urllib3.BaseHTTPResponse, request: httpx.Request) -> None:
        self._raw = raw
        self._request = request

    def __iter__(self) -> Iterator[bytes]:
        read: Callable[[], bytes] = lambda: self._raw.read(CHUNK_SIZE, decode_content=False)  # noqa: E731 - for iter()
        try:
            yield from iter(read, b"")
        except (HTTPError, OSError, http.client.HTTPException) as error:
            raise _translated(error, self._request) from error

    def close(self) -> None:
        if self._raw.length_remaining == 0:
            self._raw.drain_conn()  # takes note that nothing is left, as after HEAD; only then may it be used again
            self._raw.release_conn()
        else:
            self._raw.close()


def _translated(error: Exception, request: httpx.Request) -> httpx.TransportError:
    kinds: tuple[tuple[type[Exception], type[httpx.TransportError]], ...] = (
        (urllib3.exceptions.NewConnectionError, httpx.ConnectError),
        (urllib3.exceptions.ConnectTimeoutError, httpx.ConnectTimeout),
        (urllib3.exceptions.ReadTimeoutError, httpx.ReadTimeout),
        (urllib3.exceptions.SSLError, httpx.ConnectError),
        (urllib3.exceptions.ProxyError, httpx.ProxyError),
        (urllib3.exceptions.ProtocolError, httpx.RemoteProtocolError),
        (TimeoutError, httpx.WriteTimeout),
    )
    kind = next((to for of, to in kinds if isinstance(error, of)), httpx.ReadError)
    return kind(str(error), request=request)
