"""Runs of bytes into a file: small ones as they come, large ones in aligned steps past the page cache.

Content that goes to a medium is not read again by this process, so keeping it in the page cache costs memory, a copy for every
page and a long flush at the end; and many writers of one file wait for each other there. Only the pages that a run shares with
its neighbours, at its two ends, go through the cache: a page belongs to one way of writing alone (ADR 0021).
"""

from __future__ import annotations

import mmap
import os
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from common.archive.disk import ALIGNMENT, UNSUPPORTED, write_all
from common.content import Chunk

STEP = 2 * 1024 * 1024
"""Bytes of one direct write, and of one buffer; a multiple of ALIGNMENT."""


class Run(Protocol):
    """Bytes one after another into a file."""

    def write(self, parts: Sequence[Chunk]) -> None:
        """Write `parts` behind what was written before; they are not kept. Raises OSError."""
        ...

    def close(self) -> None:
        """See that all is handed to the kernel. Raises OSError."""
        ...


class PlainRun:
    """A run that begins at byte `offset` of a file; each write is one system call."""

    def __init__(self, file: int, offset: int) -> None:
        self._file = file
        self._position = offset

    def write(self, parts: Sequence[Chunk]) -> None:
        """See `Run.write`."""
        write_all(self._file, parts, self._position)
        self._position += sum(map(len, parts))

    def close(self) -> None:
        """See `Run.close`."""


class DiscardedRun:
    """A run that keeps nothing."""

    def write(self, parts: Sequence[Chunk]) -> None:
        """See `Run.write`."""

    def close(self) -> None:
        """See `Run.close`."""


class Buffers:
    """Buffers of STEP bytes, aligned, for runs to borrow. Shared by threads; a buffer that does not come back is made anew."""

    def __init__(self) -> None:
        self._free: deque[mmap.mmap] = deque()

    def take(self) -> mmap.mmap:
        """Return a buffer that nobody else has."""
        try:
            return self._free.pop()
        except IndexError:
            return mmap.mmap(-1, STEP)

    def give(self, buffer: mmap.mmap) -> None:
        """Take a buffer back."""
        self._free.append(buffer)


class StagedRun:
    """A run that begins at byte `offset`: whole pages through `direct`, opened with O_DIRECT, its two ends through `file`."""

    def __init__(self, file: int, direct: int, offset: int, buffers: Buffers) -> None:
        self._file = file
        self._direct = direct
        self._buffers = buffers
        self._buffer = buffers.take()
        self._view = memoryview(self._buffer)
        self._base = offset - offset % ALIGNMENT  # where the buffer's first byte lies in the file
        self._begin = self._end = offset % ALIGNMENT  # what of the buffer is filled

    def write(self, parts: Sequence[Chunk]) -> None:
        """See `Run.write`."""
        for part in parts:
            rest = memoryview(part)
            while rest:
                piece = rest[: STEP - self._end]
                self._view[self._end : self._end + len(piece)] = piece
                self._end += len(piece)
                rest = rest[len(piece) :]
                if self._end == STEP:
                    self._flush()

    def close(self) -> None:
        """See `Run.close`."""
        self._flush()
        self._view.release()
        self._buffers.give(self._buffer)

    def _flush(self) -> None:
        """Hand over what the buffer holds, and begin the next one where it ends, which is a page's end but for the last."""
        first = min(-(-self._begin // ALIGNMENT) * ALIGNMENT, self._end)
        last = max(self._end // ALIGNMENT * ALIGNMENT, first)
        self._through_cache(self._begin, first)
        self._past_cache(first, last)
        self._through_cache(last, self._end)
        self._base += STEP
        self._begin = self._end = 0

    def _through_cache(self, begin: int, end: int) -> None:
        if begin < end:
            write_all(self._file, [self._view[begin:end]], self._base + begin)

    def _past_cache(self, begin: int, end: int) -> None:
        """Write whole pages; what the file system does not take that way, or only in part, goes through the cache."""
        if begin == end:
            return
        try:
            done = os.pwrite(self._direct, self._view[begin:end], self._base + begin)
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise
            done = 0
        self._through_cache(begin + done, end)


def open_direct(path: Path) -> int | None:
    """Open a file for writing past the page cache; None where the file system, or the system, has no such thing."""
    if not hasattr(os, "O_DIRECT"):
        return None
    try:
        return os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_DIRECT)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        return None
