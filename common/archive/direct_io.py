"""File access of the archive: positioned reads and writes, preallocation, holes, and I/O past the page cache (O_DIRECT)."""

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
# Of direct reads and writes. A whole page, 64 KiB on some machines: a page is written either through the cache or past it.
ALIGNMENT = max(4096, mmap.PAGESIZE)
_KEEP_SIZE_PUNCH_HOLE = 0x03  # FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE (linux/falloc.h)
# What file systems answer to fallocate and O_DIRECT that they do not have; EPERM comes from seccomp filters of containers.
UNSUPPORTED = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EPERM})
_ZEROS = bytes(1024 * 1024)
# os.posix_fallocate writes into every block where the file system has no such call; preallocation must not write (FAT, USB).
LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


class Ranges(Protocol):
    """Content that is read by position without a file descriptor: an object in object storage."""

    size: int

    def read(self, size: int, offset: int) -> bytes:
        """Return `size` bytes at `offset`, fewer only at the end."""
        ...


File = int | Ranges  # a file descriptor, or an object in object storage


def size_of(file: File) -> int:
    """Return the size in bytes."""
    return os.fstat(file).st_size if isinstance(file, int) else file.size


def read_some(file: File, size: int, offset: int) -> bytes:
    """Return up to `size` bytes at `offset`; none at the end of the file."""
    return os.pread(file, size, offset) if isinstance(file, int) else file.read(size, offset)


def read_exactly(file: File, size: int, offset: int) -> bytes:
    """Return `size` bytes at `offset`. Raises ContentError when the file ends before."""
    content = read_some(file, size, offset)
    # One pread may return less: at 2 GiB (read(2)), after a signal, and on network file systems.
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
        done += os.pwritev(file, _after(parts, done), offset + done)  # less than all when the disk is nearly full


def _after(parts: Sequence[Chunk], done: int) -> list[memoryview]:
    """Return what remains of `parts` after their first `done` bytes."""
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
    """Make a range read as zeros, by a hole where the file system has holes, else by writing zeros."""
    if length == 0 or _fallocate(file, _KEEP_SIZE_PUNCH_HOLE, offset, length):
        # A hole never makes a file longer (FALLOC_FL_KEEP_SIZE).
        end = os.fstat(file).st_size
        if end < offset + length:
            os.ftruncate(file, offset + length)
        return
    write_zeros(file, offset, length)


def release(file: int, offset: int, length: int) -> None:
    """Deallocate a range where the file system supports that; elsewhere do nothing."""
    if length:
        _fallocate(file, _KEEP_SIZE_PUNCH_HOLE, offset, length)


def allocated(path: Path) -> int:
    """Return the bytes that a file takes on its file system."""
    return path.lstat().st_blocks * 512  # of 512 bytes on Linux, independent of the block size of the file system


def write_zeros(file: int, offset: int, length: int) -> None:
    """Write zeros into a range, for file systems without holes."""
    for position in range(offset, offset + length, len(_ZEROS)):
        write_all(file, [memoryview(_ZEROS)[: offset + length - position]], position)


def _fallocate(file: int, mode: int, offset: int, length: int) -> bool:
    if LIBC is None:
        return False
    arguments = (ctypes.c_int(file), ctypes.c_int(mode), ctypes.c_int64(offset), ctypes.c_int64(length))
    while LIBC.fallocate64(*arguments) != 0:
        code = ctypes.get_errno()  # the copy that ctypes keeps for this thread (use_errno)
        if code in UNSUPPORTED:
            return False
        if code != errno.EINTR:
            raise OSError(code, os.strerror(code))
    return True


def read_back(path: Path, start: int, end: int, hasher: Hasher, advance: Callable[[int], None]) -> None:
    """Hash bytes `start` to `end` of a file as the medium has them: flushed before, and read past the page cache.

    `advance` gets the length of each step and may raise to stop. Raises ContentError when the file is shorter.
    """
    file = open_medium(path)
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
    """Yield the bytes of a range, reading one step ahead of the caller; an empty chunk at the end of the file."""
    # Anonymous maps are aligned to pages, as O_DIRECT needs; two, since one is hashed while the other is filled.
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


def open_medium(path: Path) -> int:
    """Flush a file and open it for reading past the page cache; where that is unsupported, drop it from the cache first."""
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
    _flush(file)  # POSIX_FADV_DONTNEED skips pages that are dirty
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    return file


def _flush(file: int) -> None:
    """Flush the content of a file to its medium. No error where the file system has none (EINVAL)."""
    try:
        os.fdatasync(file)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise


def _reads_direct(file: int) -> bool:
    """Return whether direct reads work: some file systems accept O_DIRECT at open and then fail every read with EINVAL."""
    with mmap.mmap(-1, ALIGNMENT) as buffer, memoryview(buffer) as view:
        try:
            os.preadv(file, [view], 0)
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise
            return False
    return True


# Sequential writing at a position: small content through the page cache, large content in aligned steps past it.
#
# The exporter does not read the content of a medium again, so caching it costs memory, a copy of every page and one long flush
# at the end; and threads that write one file wait for its lock in the kernel. The two pages that a range shares with its
# neighbours go through the cache, since the kernel keeps a page consistent only for one way of writing (ADR 0021).

STEP = 2 * 1024 * 1024  # bytes of one direct write, and of one buffer; a multiple of ALIGNMENT


class RangeWriter(Protocol):
    """Sequential writing into a file, from a position on."""

    def write(self, parts: Sequence[Chunk]) -> None:
        """Append `parts`; the caller may reuse their memory at once. Raises OSError."""
        ...

    def close(self) -> None:
        """Pass everything that is buffered to the kernel. Raises OSError."""
        ...


class CachedWriter:
    """Writing through the page cache, from byte `offset` on; each write is one system call."""

    def __init__(self, file: int, offset: int) -> None:
        self._file = file
        self._position = offset

    def write(self, parts: Sequence[Chunk]) -> None:
        """Append `parts`. Raises OSError."""
        write_all(self._file, parts, self._position)
        self._position += sum(map(len, parts))

    def close(self) -> None:
        """Do nothing: there is no buffer."""


class NullWriter:
    """Writer whose content is not kept, for a part that needs a blob only to verify it."""

    def write(self, parts: Sequence[Chunk]) -> None:
        """Discard `parts`."""

    def close(self) -> None:
        """Do nothing."""


class Buffers:
    """Pool of aligned buffers of STEP bytes, shared by threads. A buffer that is not given back is replaced by a new one."""

    def __init__(self) -> None:
        # A deque, since its append and pop are atomic; an anonymous map costs page faults whenever it is made.
        self._free: deque[mmap.mmap] = deque()

    def take(self) -> mmap.mmap:
        """Return a buffer for exclusive use."""
        try:
            return self._free.pop()
        except IndexError:
            return mmap.mmap(-1, STEP)

    def give(self, buffer: mmap.mmap) -> None:
        """Return a buffer to the pool."""
        self._free.append(buffer)


class DirectWriter:
    """Writing from byte `offset` on: whole pages through `direct`, opened with O_DIRECT, the two ends through `file`."""

    def __init__(self, file: int, direct: int, offset: int, buffers: Buffers) -> None:
        self._file = file
        self._direct = direct
        self._buffers = buffers
        self._buffer = buffers.take()
        self._view = memoryview(self._buffer)
        self._base = offset - offset % ALIGNMENT  # position in the file of the buffer's first byte
        self._begin = self._end = offset % ALIGNMENT  # the part of the buffer that is filled

    def write(self, parts: Sequence[Chunk]) -> None:
        """Append `parts`. Raises OSError."""
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
        """Write the rest of the buffer and return it to the pool. Raises OSError."""
        self._flush()
        self._view.release()  # a map with exported views cannot be closed
        self._buffers.give(self._buffer)

    def _flush(self) -> None:
        """Write the buffer and advance by STEP; every flush but the last one ends at the end of a page."""
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
        """Write whole pages; through the cache where the file system refuses a direct write or takes only a part of it."""
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
    """Open a file for writing past the page cache; return None where the file system or the platform has no O_DIRECT."""
    if not hasattr(os, "O_DIRECT"):  # macOS
        return None
    try:
        return os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_DIRECT)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        return None


# Reading of large ranges into one aligned buffer: from the page cache where they are in it, else past it (ADR 0021). An archive
# that was verified a moment ago is cached; one that is read once would displace the cache of other processes.


class Window:
    """Reader of ranges of at most `size` bytes; the result of one call is valid until the next call."""

    def __init__(self, file: File, direct: int | None, size: int) -> None:
        self._file = file
        self._direct = direct
        self._buffer = memoryview(mmap.mmap(-1, -(-size // ALIGNMENT) * ALIGNMENT + ALIGNMENT))

    def read(self, begin: int, end: int) -> memoryview:
        """Return the bytes of a range, which the caller may change. Raises OSError, ContentError at the end of the file."""
        first = begin - begin % ALIGNMENT
        wanted = self._buffer[begin - first : end - first]
        got = 0 if self._direct is None else self._past_cache(first, -(-end // ALIGNMENT) * ALIGNMENT)
        done = max(min(first + got, end) - begin, 0)
        if done < len(wanted):
            read_into(self._file, [wanted[done:]], begin + done)
        return wanted

    def _past_cache(self, first: int, last: int) -> int:
        """Fill the buffer from its beginning; return the number of bytes read, 0 where the file system refuses."""
        assert self._direct is not None
        try:
            return os.preadv(self._direct, [self._buffer[: last - first]], first)
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise
            return 0


@contextmanager
def opened_direct(path: Path, begin: int, end: int) -> Iterator[int | None]:
    """Open a file for reading a range past the page cache; yield None where the range is cached, or O_DIRECT unsupported."""
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
    """Return whether most of a range of a file is in the page cache; False where the system does not report that."""
    first = begin - begin % mmap.ALLOCATIONGRANULARITY
    pages = -(-(end - first) // mmap.PAGESIZE)
    there = (ctypes.c_ubyte * pages)()
    try:
        # Since Linux 5.2 mincore reports every page as present, unless the caller owns the file or may write to it.
        if os.geteuid() not in (0, os.fstat(file).st_uid):
            return False
        with mmap.mmap(file, end - first, offset=first, access=mmap.ACCESS_COPY) as view:
            place = ctypes.c_char.from_buffer(view)
            # Not preadv2 with RWF_NOWAIT: it starts reading ahead (ADR 0021).
            failed = LIBC is None or LIBC.mincore(ctypes.byref(place), ctypes.c_size_t(end - first), there)
            del place  # a map with exported pointers cannot be closed
    except (OSError, ValueError):
        return False
    return not failed and 2 * bytes(there).count(1) > pages
