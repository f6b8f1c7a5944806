"""A forward proxy, over TLS or plain: CONNECT (RFC 9110, 9.3.6), then bytes both ways."""

from __future__ import annotations

import contextlib
import selectors
import socket
import ssl
import threading
from collections.abc import Mapping
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Self


class TlsProxy:
    """Listens on 127.0.0.1 with a certificate of `authority`, for `names` and until `until`; None: without TLS.

    `asked`: the targets of CONNECT, in order. `refusals`: the statuses that the next ones are answered with. `clients`: the
    authority of client certificates, which are required then. `routes`: where targets are, `name:port` by `name:port`.
    """

    def __init__(
        self,
        authority: Any,
        *,
        names: tuple[str, ...] = ("127.0.0.1", "localhost"),
        until: datetime | None = None,
        clients: Any = None,
        routes: Mapping[str, str] | None = None,
    ) -> None:
        self.routes = dict(routes or {})
        self._context: ssl.SSLContext | None = None
        if authority is not None:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            begin = until - timedelta(days=30) if until else None
            authority.issue_cert(*names, not_before=begin, not_after=until).configure_cert(self._context)
            if clients is not None:
                clients.configure_trust(self._context)
                self._context.verify_mode = ssl.CERT_REQUIRED
        self.asked: list[str] = []
        self.refusals: list[int] = []
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"{'https' if self._context else 'http'}://127.0.0.1:{self._socket.getsockname()[1]}"
        self._start(self._serve)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for each in (self._socket, *self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        for each in (self._socket, *self._open):
            each.close()

    def _start(self, target: Any, *arguments: Any) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client = self._socket.accept()[0]
                self._open.append(client)
                self._start(self._connect, client)

    def _connect(self, plain: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError):
            client = self._context.wrap_socket(plain, server_side=True) if self._context else plain
            self._open.append(client)
            head = b""
            while b"\r\n\r\n" not in head:
                if not (received := client.recv(1)):
                    return
                head += received
            target = head.split(b" ")[1].decode()
            self.asked.append(target)
            if self.refusals:
                client.sendall(b"HTTP/1.1 %d Refused\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % self.refusals.pop(0))
                client.shutdown(socket.SHUT_RDWR)
                return
            name, _, port = self.routes.get(target, target).rpartition(":")
            server = socket.create_connection((name, int(port)))
            self._open.append(server)
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            _forward(client, server)


def _forward(client: socket.socket, server: socket.socket) -> None:
    with selectors.DefaultSelector() as waiting:
        waiting.register(client, selectors.EVENT_READ, server)
        waiting.register(server, selectors.EVENT_READ, client)
        while True:
            for key, _ in waiting.select():
                source, target = key.fileobj, key.data
                assert isinstance(source, socket.socket)
                content = source.recv(1 << 16)
                while isinstance(source, ssl.SSLSocket) and source.pending():
                    content += source.recv(source.pending())
                if not content:
                    target.shutdown(socket.SHUT_WR)
                    return
                target.sendall(content)
