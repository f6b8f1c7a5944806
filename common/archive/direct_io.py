"""What the archive asks of a file system: positioned reads and writes that are whole, room, holes, and reading back.

Python's own `posix_fallocate` falls back to writing into every block where the file system has no such call; the archive must
not (docs/archive-format.md, *Writing*), so Linux's `fallocate` is called directly.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import sys
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from common.errors import ContentError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from common.content import Chunk
    from common.oci.image import Hasher

READ_BACK_STEP = 4 * 1024 * 1024
ALIGNMENT = max(4096, mmap.PAGESIZE)
"""Of direct reads and writes: a page of the cache is written one way only, and pages have 64 KiB on some machines."""
_KEEP_SIZE_PUNCH_HOLE = 0x03
UNSUPPORTED = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EPERM})
_ZEROS = bytes(1024 * 1024)
LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


class Ranges(Protocol):
    """What is read by position and is no file: an object in object storage."""

    size: int

    def read(self, size: int, offset: int) -> bytes:
        """Return `size` bytes at `offset`, fewer only at the end."""
        ...


File = int | Ranges  # a file descriptor, or what stands for one


def size_of(file: File) -> int:
    """Return the size in bytes."""
    return os.fstat(file).st_size if isinstance(file, int) else file.size


def read_some(file: File, size: int, offset: int) -> bytes:
    """Return up to `size` bytes at `offset`; nothing where the file has ended."""
    return os.pread(file, size, offset) if isinstance(file, int) else file.read(size, offset)


def read_exactly(file: File, size: int, offset: int) -> bytes:
    """Return `size` bytes at `offset`. Raises ContentError when the file ends before."""
    content = read_some(file, size, offset)
    while len(content) < size:
        more = read_some(file, size - len(content), offset + len(content))
        if not more:
            raise ContentError(f"the file ends at byte {offset + len(content)}, wanted {offset + size}")
        content += more
    return content


def read_into(file: File, buffers: Sequence[memoryview], offset: int) -> None:
    """Fill `buffers` one after another from `offset` on. Raises ContentError when the file ends before."""
    if not isinstance(file, int):
        for buffer in buffers:
            buffer[:] = read_exactly(file, len(buffer), offset)
            offset += len(buffer)
        return
    wanted = sum(map(len, buffers))
    done = os.preadv(file, buffers, offset)
    while done < wanted:
        more = os.preadv(file, _after(buffers, done), offset + done)
        if not more:
            raise ContentError(f"the file ends at byte {offset + done}, wanted {offset + wanted}")
        done += more


def write_all(file: int, parts: Sequence[Chunk], offset: int) -> None:
    """Write `parts` one after another from `offset` on, in one system call where the kernel takes all of it."""
    wanted = sum(map(len, parts))
    done = os.pwritev(file, parts, offset)
    while done < wanted:
        done += os.pwritev(file, _after(parts, done), offset + done)


def _after(parts: Sequence[Chunk], done: int) -> list[memoryview]:
    """Return what is left of `parts` behind their first `done` bytes."""
    left = []
    for part in parts:
        if done < len(part):
            left.append(memoryview(part)[done:])
        done = max(done - len(part), 0)
    return left


def preallocate(file: int, size: int) -> bool:
    """Reserve `size` bytes, reading as zeros; False where the file system cannot without writing. Raises OSError when full."""
    return _fallocate(file, 0, 0, size)


def zero(file: int, offset: int, length: int) -> None:
    """Make a range read as zeros: a hole where the file system has them, else written."""
    if length == 0 or _fallocate(file, _KEEP_SIZE_PUNCH_HOLE, offset, length):
        end = os.fstat(file).st_size
        if end < offset + length:
            os.ftruncate(file, offset + length)
        return
    write_zeros(file, offset, length)


def release(file: int, offset: int, length: int) -> None:
    """Give the room of a range back where the file system can; elsewhere nothing happens."""
    if length:
        _fallocate(file, _KEEP_SIZE_PUNCH_HOLE, offset, length)


def allocated(path: Path) -> int:
    """Return the bytes that a file takes on its file system."""
    return path.lstat().st_blocks * 512


def write_zeros(file: int, offset: int, length: int) -> None:
    """Write zeros into a range, for file systems without holes."""
    for position in range(offset, offset + length, len(_ZEROS)):
        write_all(file, [memoryview(_ZEROS)[: offset + length - position]], position)


def _fallocate(file: int, mode: int, offset: int, length: int) -> bool:
    if LIBC is None:
        return False
    arguments = (ctypes.c_int(file), ctypes.c_int(mode), ctypes.c_int64(offset), ctypes.c_int64(length))
    while LIBC.fallocate64(*arguments) != 0:
        code = ctypes.get_errno()
        if code in UNSUPPORTED:
            return False
        if code != errno.EINTR:
            raise OSError(code, os.strerror(code))
    return True


def read_back(path: Path, start: int, end: int, hasher: Hasher, advance: Callable[[int], None]) -> None:
    """Hash bytes `start` to `end` of a file as the medium has them, past the page cache where the file system allows that.

    What was written is flushed before. `advance` is told of each step and may raise to stop. Raises ContentError when the file
    is shorter.
    """
    file = _open_direct(path)
    try:
        for chunk in _read_ahead(file, start, end):
            if not chunk:
                raise ContentError(f"{path.name}: ends at byte {start} when read back, wanted {end}")
            hasher.update(chunk)
            advance(len(chunk))
            start += len(chunk)
    finally:
        os.close(file)


def _read_ahead(file: int, start: int, end: int) -> Iterator[memoryview]:
    """Give the bytes of a range; the next step is read while the caller is busy with one. Empty where the file ends."""
    buffers = [memoryview(mmap.mmap(-1, READ_BACK_STEP)) for _ in range(2)]

    def read(position: int, buffer: memoryview) -> memoryview:
        skipped = position % ALIGNMENT
        got = os.preadv(file, [buffer], position - skipped)
        return buffer[skipped : max(min(got, end - position + skipped), skipped)]

    with ThreadPoolExecutor(1, thread_name_prefix="read-ahead") as pool:
        coming = pool.submit(read, start, buffers[0]) if start < end else None
        while coming is not None:
            chunk = coming.result()
            start += len(chunk)
            buffers.reverse()
            coming = pool.submit(read, start, buffers[0]) if chunk and start < end else None
            yield chunk


def _open_direct(path: Path) -> int:
    """Open for reading past the page cache; where that is refused, drop what the cache has and read as usual."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | getattr(os, "O_DIRECT", 0))
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    else:
        if _reads_direct(file):
            _flush(file)
            return file
        os.close(file)
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    _flush(file)  # only what is clean can be dropped
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    return file


def _flush(file: int) -> None:
    """Bring what was written of a file to its medium, where it has one."""
    try:
        os.fdatasync(file)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise


def _reads_direct(file: int) -> bool:
    """Say whether the file system takes our alignment; some open for direct access and then refuse every read."""
    with mmap.mmap(-1, ALIGNMENT) as buffer, memoryview(buffer) as view:
        try:
            os.preadv(file, [view], 0)
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise
            return False
    return True


# Runs of bytes into a file: small ones as they come, large ones in aligned steps past the page cache.
#
# Content that goes to a medium is not read again by this process, so keeping it in the page cache costs memory, a copy
# for every
# page and a long flush at the end; and many writers of one file wait for each other there. Only the pages that a run
# shares with
# its neighbours, at its two ends, go through the cache: a page belongs to one way of writing alone (ADR 0021).

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


# Large ranges of a file, read into one aligned buffer: out of the page cache where they are there, else past it (ADR 0021).
#
# An archive that was just verified lies in memory, and reading it from its medium again would take the time of the medium. One
# that does not is read once: for that the page cache costs a copy of every page, and drives out what others need.


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
