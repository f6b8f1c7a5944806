"""The pace of answers: how long a head, and a small body, may take in all.

The timeout of a socket bounds silence alone. A server that sends a byte a second is never silent, and holds a thread for as
long as it likes (CWE-400; as an attack on servers it is known as slowloris). Blobs have no such bound: layers are as large as
they are.
"""

from __future__ import annotations

import http.client
import io
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable


# Of small bodies, beyond their seconds: a satellite link that others use as well brings as much.
_SLOWEST = 16 * 1024  # bytes a second
_LARGEST = 16 * 1024 * 1024  # bytes that earn time: no document is larger
MAX_HEAD = 1024 * 1024  # bytes; the heads of registries have one or two KiB
_BLANK = (b"\r\n", b"\n", b"")  # the end of a head or of trailers; nothing: that of the connection
MAX_INTERIM = 16  # heads of one answer: 100 (Continue) before the final one


class SlowAnswerError(TimeoutError):
    """The head of an answer, or a small body, did not arrive in time, although the server was not silent."""


class Pace:
    """The bound for the next read from a socket; none at first."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._began_s: float | None = None
        self._rate = 0
        self._received = 0
        self.is_on = False

    def head(self) -> None:
        """A head follows. Its time begins with its first byte: until then, the server may think (a closing PUT)."""
        self.is_on, self._began_s, self._rate, self._received = True, None, 0, 0

    def small(self) -> None:
        """A small body follows."""
        self.is_on, self._began_s, self._rate, self._received = True, time.monotonic(), _SLOWEST, 0

    def off(self) -> None:
        """A body of any size follows."""
        self.is_on = False

    def left_s(self) -> float | None:
        """Return for how many seconds to wait; None before the first byte of a head. Raises SlowAnswerError."""
        if self._began_s is None:
            return None
        earned_s = min(self._received, _LARGEST) / self._rate if self._rate else 0.0
        left_s = self._began_s + self._seconds + earned_s - time.monotonic()
        if left_s <= 0:
            raise SlowAnswerError("the answer takes too long")
        return left_s

    def arrived(self, size: int) -> None:
        """So many bytes arrived."""
        if self._began_s is None:
            self._began_s = time.monotonic()
        self._received += size
        if not self._rate and self._received > MAX_HEAD:
            raise http.client.HTTPException(f"a head of more than {MAX_HEAD} bytes")


class _Paced(io.RawIOBase):
    """Reads a socket at a pace."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, pace: Pace) -> None:
        self._raw = raw
        self._socket = sock
        self._pace = pace

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def fileno(self) -> int:
        """Return the descriptor of the socket."""
        return self._raw.fileno()

    def close(self) -> None:
        """Release the socket."""
        if not self.closed:
            self._raw.close()
        super().close()

    def readinto(self, buffer: Any) -> int | None:
        """Read the available bytes; see `io.RawIOBase.readinto`."""
        read: Callable[[Any], int | None] = self._raw.readinto
        if not self._pace.is_on:
            return read(buffer)
        left_s, silent_s = self._pace.left_s(), self._socket.gettimeout()
        if left_s is None or (silent_s is not None and silent_s <= left_s):
            size = read(buffer)
        else:
            size = self._read_within(read, buffer, left_s, silent_s)
        self._pace.arrived(size or 0)
        return size

    def _read_within(self, read: Callable[[Any], int | None], buffer: Any, left_s: float, silent_s: float | None) -> int | None:
        self._socket.settimeout(left_s)
        try:
            return read(buffer)
        except TimeoutError as error:
            raise SlowAnswerError("the answer takes too long") from error
        finally:
            self._socket.settimeout(silent_s)


class _Lines(io.BufferedReader):
    """An answer as http.client reads it: heads, sizes of chunks and trailers by lines, content by bytes."""

    # The methods of http.client that read a head or trailers are private. What they read from is not, and the lines that pass
    # say where a head, or the trailers, begin and end (RFC 9112, sections 2.1 and 7.1).
    def __init__(self, raw: io.RawIOBase, pace: Pace) -> None:
        super().__init__(raw)
        self._pace = pace
        self._heads = 0
        self._is_first = True  # the next line is the status line of a head
        self._is_trailer = False
        self.is_body = False

    def readline(self, size: int | None = -1) -> bytes:
        """Read a line; see `io.IOBase.readline`."""
        if not self.is_body and self._is_first:
            self._begin_head()
        line = super().readline(size)
        is_end = line in _BLANK
        if not self.is_body:
            self._is_first = is_end  # of an interim answer, where another head follows
        elif self._is_trailer:
            if is_end:
                self._pace.off()
        elif _is_last_chunk(line):
            self._is_trailer = True
            self._pace.head()  # http.client reads trailers without an end
        return line

    def _begin_head(self) -> None:
        self._heads += 1
        if self._heads > MAX_INTERIM:
            raise http.client.HTTPException(f"more than {MAX_INTERIM} interim answers")
        self._pace.head()


def _is_last_chunk(line: bytes) -> bool:
    """Say whether a line is the size of the last chunk, `0` with or without extensions."""
    size = line.partition(b";")[0].strip()
    return bool(size) and not size.strip(b"0")


class PacedResponse(http.client.HTTPResponse):
    """An answer whose heads and trailers are bounded in time and size; that of a proxy to CONNECT too, a head alone."""

    def __init__(self, sock: socket.socket, *args: Any, small_s: float = 60.0, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self.pace = Pace(small_s)
        self._lines = _Lines(_Paced(self.fp.detach(), sock, self.pace), self.pace)
        self.fp: Any = self._lines

    def begin(self) -> None:
        """Read the head."""
        super().begin()
        self._lines.is_body = True
        self.pace.off()
