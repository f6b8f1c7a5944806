"""A server that is never silent: the first bytes of its answers come at once, the rest one at a time."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType
from typing import Self

_HANDSHAKE = b"\x16"  # of TLS, which it does not speak


class DrippingServer:
    """Answers each request with `quick`, then a byte of `slow` every `pause_s`, over and over if it is `endless`."""

    def __init__(self, quick: bytes, slow: bytes, *, pause_s: float = 0.01, endless: bool = True) -> None:
        self._quick, self._slow = quick, slow
        self._pause_s, self._endless = pause_s, endless
        self._over = threading.Event()
        self.requests: list[bytes] = []

    def __enter__(self) -> Self:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._over.set()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            self._threads.append(threading.Thread(target=self._serve, args=(client,), daemon=True))
            self._threads[-1].start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            client.settimeout(10)
            request = b""
            while b"\r\n\r\n" not in request and not request.startswith(_HANDSHAKE):
                if not (more := client.recv(65536)):
                    return
                request += more
            if request.startswith(_HANDSHAKE):
                return
            self.requests.append(request)
            client.sendall(self._quick)
            while not self._over.wait(self._pause_s):
                for byte in self._slow:
                    client.sendall(bytes([byte]))
                    if self._over.wait(self._pause_s):
                        return
                if not self._endless:
                    return
