"""A server that takes requests and does not answer, or not to the end; or that does not even take connections."""

from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

_SYN_SENT = "02"  # include/net/tcp_states.h


class SilentServer:
    """Sends `begin` to each connection that has sent something, and nothing more. `asked` is set by the first one.

    `deaf`: connections are not completed, since the queue of those that wait is full (listen(2)).
    """

    def __init__(self, begin: bytes = b"", *, deaf: bool = False) -> None:
        self._begin, self._deaf = begin, deaf
        self.asked = threading.Event()
        self._open: list[socket.socket] = []

    def __enter__(self) -> Self:
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=0 if self._deaf else 64)
        self._address: tuple[str, int] = self._socket.getsockname()
        self.host = f"localhost:{self._address[1]}"
        if self._deaf:
            self._fill()
        else:
            threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for each in (self._socket, *self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    @property
    def is_dialled(self) -> bool:
        """Whether something, other than what fills the queue, tries to connect."""
        own = {f"{each.getsockname()[1]:04X}" for each in self._open}
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        to = f"0100007F:{self._address[1]:04X}"
        return any(row[2] == to and row[3] == _SYN_SENT and row[1].partition(":")[2] not in own for row in rows)

    def _fill(self) -> None:
        for _ in range(4):
            filler = socket.socket()
            filler.settimeout(0)
            filler.connect_ex(self._address)
            self._open.append(filler)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._socket.accept()
                self._open.append(client)
                threading.Thread(target=self._take, args=(client,), daemon=True).start()

    def _take(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            is_first = True
            while client.recv(65536):
                if is_first and self._begin:
                    client.sendall(self._begin)
                is_first = False
                self.asked.set()
