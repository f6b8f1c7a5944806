"""Sending of parts of files by the kernel (sendfile(2)): their content does not pass through this process."""

from __future__ import annotations

import os
import select
import time
from enum import Enum, auto
from typing import TYPE_CHECKING

from common.archive.direct_io import UNSUPPORTED
from common.errors import ContentError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    # An open file, a position in it, and a number of bytes.
    Span = tuple[int, int, int]
    # Sends so many bytes of a response's body.
    SendFile = Callable[[Iterator[Span], int], Awaitable[None]]


# Key of a scope whose connection can do this; the server sets it (`server.py`).
SEND_FILE = "hub_airgap.send_file"
# Threads are few, and so a transfer has one only for a turn: as long as its client takes bytes, up to so many of them.
_TURN = 16 * 1024 * 1024
_TURN_S = 0.1  # those who take a little at a time, but all the time; 40 of them would be all that is answered
_TAKEN_MS = 20
_COPIED = 256 * 1024  # bytes at once where the kernel cannot


class Progress(Enum):
    """How a turn ended."""

    DONE = auto()
    MORE = auto()
    BLOCKED = auto()
    GONE = auto()


class FileSender:
    """Spans of files on their way to one client, on a socket that does not block."""

    def __init__(self, line: int, spans: Iterator[Span], clock: Callable[[], float] = time.monotonic) -> None:
        self._line = line
        self._spans = spans
        self._clock = clock
        self._file = self._position = self._left = 0
        self._send: Callable[[int, int, int, int], int] = os.sendfile
        self._writable = select.poll()
        self._writable.register(line, select.POLLOUT)

    def turn(self) -> Progress:
        """Send what the client takes. Raises OSError of a file, ContentError where one ends, and as the spans do."""
        end, until_s = _TURN, self._clock() + _TURN_S
        while end > 0 and self._clock() < until_s:
            if not self._left:
                span = next(self._spans, None)
                if span is None:
                    return Progress.DONE
                self._file, self._position, self._left = span
            try:
                sent = self._send(self._line, self._file, self._position, self._left)
            except BlockingIOError:
                if not self._writable.poll(_TAKEN_MS):
                    return Progress.BLOCKED
                continue
            except OSError as error:
                # The error of a file, or of the connection? One that was lost (reset, timeout) is hung up.
                if any(events & (select.POLLERR | select.POLLHUP) for _, events in self._writable.poll(0)):
                    return Progress.GONE
                # Some file systems cannot (FUSE and network ones of older kernels), and filters of containers forbid it.
                if error.errno not in UNSUPPORTED or self._send is _copy:
                    raise
                self._send = _copy
                continue
            if not sent:
                raise ContentError(f"the file ends at byte {self._position}, wanted {self._position + self._left}")
            self._position += sent
            self._left -= sent
            end -= sent
        return Progress.MORE


def _copy(line: int, file: int, position: int, size: int) -> int:
    """Do what sendfile(2) does, through this process."""
    content = os.pread(file, min(size, _COPIED), position)
    return os.write(line, content) if content else 0
