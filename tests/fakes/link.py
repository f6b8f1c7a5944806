"""A slow and unreliable wire: forwards connections to a port, so many bytes a second, and cuts them when told to."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import yaml

_STEP_S = 0.05


class Link:
    """Bytes towards the client take their time; `cut_after` bytes of one answer the connection breaks, `cuts` times.

    `delay_s`: what clients send arrives so much later, as on a long line: a question and its answer take that long.
    After `hold_after` bytes on all connections together nothing moves until `release`, so that a test need not be quick; nor
    towards the server after `hold_up_after`.
    """

    def __init__(
        self,
        host: str,
        *,
        rate: int,
        cut_after: int = 0,
        cuts: int = 0,
        hold_after: int = 0,
        hold_up_after: int = 0,
        delay_s: float = 0.0,
    ) -> None:
        name, _, port = host.rpartition(":")
        self._target = (name, int(port))
        self._rate, self._cut_after, self.cuts, self._delay_s = rate, cut_after, cuts, delay_s
        self._hold_after, self._moved = {"down": hold_after, "up": hold_up_after}, {"down": 0, "up": 0}
        self.held, self._released = threading.Event(), threading.Event()
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []

    def __enter__(self) -> Self:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.host = f"localhost:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    @property
    def queued(self) -> str:
        """What clients have sent and this link has not taken, by socket; empty where it has taken all."""
        to = f":{self._socket.getsockname()[1]:04X}"
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        sent = [(row[1], row[4].partition(":")[0]) for row in rows if row[2].endswith(to)]
        return " ".join(f"{client}={size}" for client, size in sorted(sent) if int(size, 16))

    def hold(self) -> None:
        """Let nothing more move to clients until `release`."""
        with self._lock:
            self._hold_after["down"] = 1

    def release(self) -> None:
        """Let everything move again, for good."""
        self._released.set()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.release()
        for each in (self._socket, *self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            server = socket.create_connection(self._target)
            with self._lock:
                self._open += [client, server]
            threading.Thread(target=self._up, args=(client, server), daemon=True).start()
            threading.Thread(target=self._down, args=(server, client), daemon=True).start()

    def _up(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                self._hold("up", len(data))
                time.sleep(self._delay_s)
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)

    def _down(self, server: socket.socket, client: socket.socket) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while data := server.recv(max(int(self._rate * _STEP_S), 1)):
                self._hold("down", len(data))
                client.sendall(data)
                passed += len(data)
                time.sleep(len(data) / self._rate)
                if self._is_cut(passed):
                    break
            client.shutdown(socket.SHUT_RDWR)
            server.shutdown(socket.SHUT_RDWR)

    def _hold(self, way: str, size: int) -> None:
        with self._lock:
            self._moved[way] += size
            full = bool(self._hold_after[way]) and self._moved[way] > self._hold_after[way]
        if full:
            self.held.set()
            self._released.wait()

    def _is_cut(self, passed: int) -> bool:
        with self._lock:
            if self.cuts and self._cut_after and passed >= self._cut_after:
                self.cuts -= 1
                return True
        return False


def redirect(kubeconfig: Path, link: Link) -> None:
    """Let a kubeconfig, of a cluster without TLS, lead to a link."""
    document = yaml.safe_load(kubeconfig.read_text())
    document["clusters"][0]["cluster"]["server"] = f"http://{link.host}"
    kubeconfig.write_text(yaml.safe_dump(document))
