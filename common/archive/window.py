"""Large ranges of a file, read into one aligned buffer: out of the page cache where they are there, else past it (ADR 0021).

An archive that was just verified lies in memory, and reading it from its medium again would take the time of the medium. One
that does not is read once: for that the page cache costs a copy of every page, and drives out what others need.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common.archive.disk import ALIGNMENT, LIBC, UNSUPPORTED, File, read_into


class Window:
    """Reads ranges of at most `size` bytes; what one call returned is valid until the next."""

    def __init__(self, file: File, direct: int | None, size: int) -> None:
        self._file = file
        self._direct = direct
        self._buffer = memoryview(mmap.mmap(-1, -(-size // ALIGNMENT) * ALIGNMENT + ALIGNMENT))

    def read(self, begin: int, end: int) -> memoryview:
        """Return the bytes of a range, to be changed at will. Raises ContentError when the file ends before, OSError."""
        first = begin - begin % ALIGNMENT
        wanted = self._buffer[begin - first : end - first]
        got = 0 if self._direct is None else self._past_cache(first, -(-end // ALIGNMENT) * ALIGNMENT)
        done = max(min(first + got, end) - begin, 0)
        if done < len(wanted):
            read_into(self._file, [wanted[done:]], begin + done)
        return wanted

    def _past_cache(self, first: int, last: int) -> int:
        """Fill the buffer from its beginning; return how many bytes came, none where the file system refuses."""
        assert self._direct is not None
        try:
            return os.preadv(self._direct, [self._buffer[: last - first]], first)
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise
            return 0


@contextmanager
def opened_direct(path: Path, begin: int, end: int) -> Iterator[int | None]:
    """Open a file for reading a range past the page cache; None where that is of no use: it is there, or cannot be passed."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_DIRECT) if hasattr(os, "O_DIRECT") else None
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        file = None
    try:
        yield None if file is None or cached(file, begin, end) else file
    finally:
        if file is not None:
            os.close(file)


def cached(file: int, begin: int, end: int) -> bool:
    """Say whether most of a range of a file is in the page cache; no where the system does not tell.

    Linux tells only who owns a file or may write it; of others' it says that all is there.
    """
    first = begin - begin % mmap.ALLOCATIONGRANULARITY
    pages = -(-(end - first) // mmap.PAGESIZE)
    there = (ctypes.c_ubyte * pages)()
    try:
        if os.geteuid() not in (0, os.fstat(file).st_uid):
            return False
        with mmap.mmap(file, end - first, offset=first, access=mmap.ACCESS_COPY) as view:
            place = ctypes.c_char.from_buffer(view)
            failed = LIBC is None or LIBC.mincore(ctypes.byref(place), ctypes.c_size_t(end - first), there)
            del place  # the map is not closed while somebody points into it
    except (OSError, ValueError):
        return False
    return not failed and 2 * bytes(there).count(1) > pages
