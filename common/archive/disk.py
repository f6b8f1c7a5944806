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
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from common.content import Chunk
from common.digest import Hasher
from common.errors import ContentError

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
