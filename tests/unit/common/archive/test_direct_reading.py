"""Reading of large content past the page cache: the same as in small steps through it."""

from __future__ import annotations

import errno
import os
from functools import partial

import pytest

from common.archive import direct_io
from common.archive.direct_io import ALIGNMENT, CachedWriter, Window, cached, opened_direct
from common.archive.frames import (
    BLOCK,
    HEADER_SIZE,
    LARGE,
    RawFrameWriter,
    begun_blocks,
    opened_large,
    position,
    raw_blocks,
    raw_frame_size,
    read_large,
    read_raw,
)
from common.archive.inventory import Piece
from common.archive.single_pass import MARGIN, SinglePass
from common.errors import ContentError
from tests.fakes.archives import noise

OFFSET = 12_345
SIZES = (0, 1, BLOCK, BLOCK + 1, 8 * BLOCK - 1, 8 * BLOCK, 8 * BLOCK + 1, 17 * BLOCK + 99)


@pytest.fixture(name="path")
def _path(tmp_path):
    return tmp_path / "volume"


@pytest.fixture(name="file")
def _file(path):
    file = os.open(path, os.O_RDWR | os.O_CREAT)
    yield file
    os.close(file)


def written(file, size):
    content = noise("window", size)
    writer = RawFrameWriter(partial(CachedWriter, file), OFFSET, size, after=b"behind")
    writer.write(content)
    writer.close()
    return content


def forget(file):
    """Bring a file to its medium and out of the page cache."""
    os.fsync(file)
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)


def joined(chunks):
    return b"".join(bytes(chunk) for chunk in chunks)


def begun(file, direct, offset, size):
    with SinglePass(file, direct, os.fstat(file).st_size, None, lambda _size: None) as once:
        return joined(begun_blocks(once.read, offset, size))


@pytest.mark.parametrize("size", [size for size in SIZES if size])
@pytest.mark.parametrize("start", [0, 1, BLOCK - 1, BLOCK, 8 * BLOCK + 1])
def test_large_content_is_that_of_small_steps(path, file, size, start):
    content = written(file, size)
    forget(file)
    with opened_direct(path, OFFSET, OFFSET + raw_frame_size(size)) as direct:
        assert joined(read_large(file, direct, OFFSET, size, start)) == content[start:]
    assert joined(read_large(file, None, OFFSET, size, start)) == content[start:]
    assert joined(read_raw(file, OFFSET, size, start)) == content[start:]


@pytest.mark.parametrize("index", [0, BLOCK, 9 * BLOCK, 17 * BLOCK])
def test_a_damaged_block_header_is_detected(file, index):
    size = SIZES[-1]
    written(file, size)
    os.pwrite(file, b"\xff", OFFSET + position(index) - 1)
    with pytest.raises(ContentError, match=f"the header of the block at byte {index} "):
        joined(read_large(file, None, OFFSET, size))


def test_a_truncated_file_is_detected(path, file):
    size = SIZES[-1]
    written(file, size)
    os.ftruncate(file, OFFSET + 10 * BLOCK)
    forget(file)
    with (
        opened_direct(path, OFFSET, OFFSET + 10 * BLOCK) as direct,
        pytest.raises(ContentError, match="the file ends at byte"),
    ):
        joined(read_large(file, direct, OFFSET, size))


@pytest.mark.parametrize("size", SIZES)
def test_an_unfinished_read_of_a_finished_frame_gives_all(file, size):
    content = written(file, size)
    assert begun(file, None, OFFSET, size) == content


@pytest.mark.parametrize("room", [0, 40 * BLOCK])
@pytest.mark.parametrize("whole", [0, 1, 2, 7, 8, 9, 16])
def test_only_blocks_with_a_following_header_count(path, file, whole, room):
    """`whole` blocks and a half were written; `room`: the file is that long already, as reserved places are."""
    size = SIZES[-1]
    if room:
        os.ftruncate(file, room)
    content = noise("window", size)
    writer = RawFrameWriter(partial(CachedWriter, file), OFFSET, size)
    writer.write(content[: whole * BLOCK + 98])
    forget(file)
    with opened_large(path, Piece(1, OFFSET, raw_frame_size(size), size)) as direct:
        assert begun(file, direct, OFFSET, size) == content[: whole * BLOCK]


def test_nothing_is_read_without_a_frame_header(file):
    assert begun(file, None, 0, 5 * BLOCK) == b""
    os.ftruncate(file, 6 * BLOCK)
    assert begun(file, None, 0, 5 * BLOCK) == b""


def test_a_partial_direct_read_is_completed_through_the_cache(path, file):
    os.pwrite(file, noise("short", 2 * ALIGNMENT + 100), 0)
    refusing = os.open("/proc/version", os.O_RDONLY)  # gives other bytes, and few: all the rest comes from the file
    short = os.preadv(refusing, [bytearray(ALIGNMENT)], 0)
    window = Window(file, refusing, 2 * ALIGNMENT)
    read = bytes(window.read(0, 2 * ALIGNMENT))
    os.close(refusing)
    assert read[short:] == noise("short", 2 * ALIGNMENT + 100)[short : 2 * ALIGNMENT]


class BadMedium:
    """An object in object storage of which nothing can be read."""

    size = 1 << 30

    def read(self, size, offset):
        raise OSError(errno.EIO, f"{size} bytes at {offset}")


def test_a_step_that_cannot_be_read_takes_no_more_memory_with_each_range_behind_it():
    """There are two ranges for each block of 128 KiB: 800,000 in a volume of 50 GB whose first sector is bad."""
    lengths = []
    with SinglePass(BadMedium(), None, BadMedium.size, None, lambda _size: None) as once:
        for number in range(50):
            with pytest.raises(OSError, match="bytes at 0") as caught:
                once.read(number, number + 10)
            lengths.append(len(caught.traceback))
    assert len(set(lengths)) == 1


def test_cached_content_is_not_read_past_the_cache(path, file):
    written(file, LARGE)
    end = OFFSET + raw_frame_size(LARGE)
    assert cached(file, OFFSET, end)
    with opened_direct(path, OFFSET, end) as direct:
        assert direct is None
    forget(file)
    if cached(file, OFFSET, end):
        pytest.skip("this file system keeps its pages")
    with opened_direct(path, OFFSET, end) as direct:
        assert direct is not None


def test_small_content_is_read_through_the_cache(path, file):
    written(file, BLOCK)
    forget(file)
    with opened_large(path, Piece(1, OFFSET, raw_frame_size(BLOCK), BLOCK)) as direct:
        assert direct is None


def test_ranges_beyond_the_file_are_not_cached(file):
    os.ftruncate(file, 10)
    assert not cached(file, 0, 10 * ALIGNMENT)
    assert not cached(-1, 0, ALIGNMENT)


def test_the_head_of_a_frame_is_read_first(file):
    size = SIZES[-1]
    written(file, size)
    direct_io.write_all(file, [bytes(HEADER_SIZE)], OFFSET)
    with pytest.raises(ContentError, match="the header of the content frame"):
        joined(read_large(file, None, OFFSET, size))
    assert begun(file, None, OFFSET, size) == b""


@pytest.mark.parametrize("size", [0, 1, BLOCK, 17 * BLOCK + 99, 100 * BLOCK])
def test_one_reading_serves_both_hashes(path, file, size):
    """Ranges in order, and all bytes for another thread, with and without direct reads; the file is read once."""
    content = written(file, size)
    os.pwrite(file, b"x" * OFFSET, 0)
    forget(file)
    steps, taken = [], bytearray()
    length = os.fstat(file).st_size
    with opened_direct(path, 0, length) as direct, SinglePass(file, direct, length, taken.extend, steps.append) as once:
        assert once.read(0, 100) == b"x" * 100
        assert joined(raw_blocks(once.read, OFFSET, size)) == content
        once.drain()
        assert once.close() == length
    assert sum(steps) == length
    assert bytes(taken) == os.pread(file, length, 0)


def test_bytes_between_ranges_are_not_read_without_a_second_hash(file):
    for begin in (0, 10 * MARGIN + 5, 500 * MARGIN - 1, 1000 * MARGIN - 9):
        os.pwrite(file, b"here", begin)
    os.ftruncate(file, 1000 * MARGIN)
    steps = []
    with SinglePass(file, None, 1000 * MARGIN, None, steps.append) as once:
        for begin in (0, 10 * MARGIN + 5, 500 * MARGIN - 1, 1000 * MARGIN - 9):
            assert once.read(begin, begin + 4) == b"here"
        with pytest.raises(ContentError, match="the file ends at byte"):
            once.read(1000 * MARGIN - 9, 1000 * MARGIN + 1)
    assert sum(steps) < 100 * MARGIN


def test_ranges_that_a_single_pass_does_not_hold_are_read_again(file):
    os.pwrite(file, noise("window", 40 * MARGIN), 0)
    taken = bytearray()
    with SinglePass(file, None, 40 * MARGIN, taken.extend, lambda _size: None) as once:
        for begin, end in ((30 * MARGIN, 31 * MARGIN), (5, 10), (3 * MARGIN, 20 * MARGIN), (31 * MARGIN - 1, 32 * MARGIN - 1)):
            assert once.read(begin, end) == noise("window", 40 * MARGIN)[begin:end]
        once.drain()
    assert bytes(taken) == noise("window", 40 * MARGIN)
