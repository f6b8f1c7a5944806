"""One reading of a file for two hashes: that of each part, by the caller, and that of all bytes, by another thread.

The medium is asked for each byte once, one step ahead, and two cores hash at the same time (ADR 0084).
"""

from __future__ import annotations

import mmap
import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Self

from common.archive.direct_io import ALIGNMENT, STEP, UNSUPPORTED, File, read_exactly, read_into

if TYPE_CHECKING:
    from collections.abc import Callable


MARGIN = 256 * 1024  # ranges up to this length are contiguous at any offset: more than a block with its headers
_BUFFERS = 4  # one is filled, one is read by the caller, two wait for the other hash


class SinglePass:
    """Reader of ranges in ascending order; the result of one call is valid until the next call.

    `direct`: the same file, opened for reading past the page cache. `take` gets every byte, in order, in a thread of its own;
    without it, bytes between two ranges are not read. `advance` gets the length of each step and may raise to stop.
    Close it: threads read from buffers that belong to it.
    """

    def __init__(
        self,
        file: File,
        direct: int | None,
        size: int,
        take: Callable[[memoryview], object] | None,
        advance: Callable[[int], None],
    ) -> None:
        self._file = file
        self._direct = direct
        self._size = size
        self._take = take
        self._advance = advance
        # Anonymous maps are aligned to pages, as O_DIRECT needs. The margin in front has the end of the step before.
        self._buffers = [memoryview(mmap.mmap(-1, MARGIN + STEP)) for _ in range(_BUFFERS)]
        self._turn = 0  # the buffer that the caller reads
        self._start = self._end = self._kept = 0  # the range of the file in it; bytes of its margin
        self._taken: deque[Future[object]] = deque()
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="read-ahead")
        self._taker = ThreadPoolExecutor(1, thread_name_prefix="hash")
        self._coming = self._read_ahead()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, begin: int, end: int) -> memoryview:
        """Return the bytes of a range. Raises OSError, ContentError at the end of the file."""
        if self._take is None and begin > self._end:
            self._jump(begin)
        while end > self._end and self._coming is not None:
            self._next()
        at = MARGIN + begin - self._start
        if end > self._end or at < MARGIN - self._kept:  # behind the end, before the margin, or longer than it
            return memoryview(read_exactly(self._file, end - begin, begin))
        return self._buffers[self._turn][at : at + end - begin]

    def drain(self) -> None:
        """Pass all that is left to `take`. Raises OSError, ContentError."""
        while self._coming is not None:
            self._next()

    def stop_taking(self) -> None:
        """Pass nothing more to `take`."""
        self._take = None
        while self._taken:
            self._taken.popleft().result()

    def close(self) -> int:
        """Wait for the threads; return how many bytes from the beginning on `take` has had."""
        self._reader.shutdown(wait=True, cancel_futures=True)
        self._taker.shutdown(wait=True)
        return self._end

    def _next(self) -> None:
        """Continue with the next step, which was read meanwhile."""
        assert self._coming is not None
        if (failure := self._coming.exception()) is not None:
            # Raised again for each range that follows: an exception keeps the frames of all places where it was raised before.
            raise failure.with_traceback(None)
        got = self._coming.result()
        self._advance(got)
        before, length = self._buffers[self._turn], MARGIN + self._end - self._start
        self._turn = (self._turn + 1) % _BUFFERS
        self._kept = min(MARGIN, length - MARGIN + self._kept)
        buffer = self._buffers[self._turn]
        buffer[MARGIN - self._kept : MARGIN] = before[length - self._kept : length]
        self._start, self._end = self._end, self._end + got
        if self._take is not None:
            self._taken.append(self._taker.submit(self._take, buffer[MARGIN : MARGIN + got]))
        self._coming = self._read_ahead()

    def _jump(self, begin: int) -> None:
        """Continue with the step at `begin`, reading nothing before it."""
        first = begin - begin % ALIGNMENT
        if first - self._end < STEP:
            return
        self._start = self._end = min(first, self._size)
        self._kept = 0
        if self._coming is not None:
            self._coming.exception()  # it fills the buffer that is filled next; a failure is of a step that is left out
        self._coming = self._read_ahead()

    def _read_ahead(self) -> Future[int] | None:
        """Begin to read the next step; None at the end."""
        if self._end >= self._size:
            return None
        # The next buffer was passed to `take` so many steps ago.
        if len(self._taken) == _BUFFERS:
            self._taken.popleft().result()
        return self._reader.submit(self._fill, self._buffers[(self._turn + 1) % _BUFFERS][MARGIN:], self._end)

    def _fill(self, buffer: memoryview, position: int) -> int:
        """Read a step; return its length."""
        wanted = min(STEP, self._size - position)
        got = 0
        if self._direct is not None:
            try:
                got = min(os.preadv(self._direct, [buffer], position), wanted)
            except OSError as error:
                if error.errno not in UNSUPPORTED:
                    raise
        if got < wanted:
            read_into(self._file, [buffer[got:wanted]], position + got)
        return wanted
