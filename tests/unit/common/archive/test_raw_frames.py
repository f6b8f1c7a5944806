"""Raw-block frames: the arithmetic of the format, writing in chunks of any size, reading from any byte."""

from __future__ import annotations

import os
from functools import partial

import pytest
import zstandard

from common.archive import frames
from common.archive.direct_io import CachedWriter
from common.archive.frames import BLOCK, RawFrameWriter, read_raw
from common.errors import ContentError
from tests.fakes.archives import noise

SIZES = [0, 1, 511, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 5 * BLOCK + 17]


@pytest.fixture
def file(tmp_path):
    handle = os.open(tmp_path / "volume", os.O_RDWR | os.O_CREAT)
    yield handle
    os.close(handle)


def _written(file: int, content: bytes, step: int, offset: int = 100) -> bytes:
    writer = RawFrameWriter(partial(CachedWriter, file), offset, len(content), b"before", b"after")
    for at in range(0, len(content), step):
        writer.write(content[at : at + step])
    writer.close()
    size = frames.raw_frame_size(len(content))
    assert os.fstat(file).st_size == offset + size + 5
    assert os.pread(file, 6, offset - 6) == b"before"
    assert os.pread(file, 5, offset + size) == b"after"
    return os.pread(file, size, offset)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("step", [1000, 70_000, BLOCK, 256 * 1024, 10**7])
def test_any_chunks_make_the_same_frame_that_zstd_reads(file, size, step):
    content = noise("raw", size)
    frame = _written(file, content, step)
    assert frame[:14] == bytes.fromhex("28b52ffdc038") + size.to_bytes(8, "little")
    assert zstandard.ZstdDecompressor().decompress(frame, allow_extra_data=False) == content


@pytest.mark.parametrize("index", [0, 1, BLOCK - 1, BLOCK, 2 * BLOCK + 3, 5 * BLOCK + 16])
def test_position_is_the_place_of_a_byte(file, index):
    content = noise("raw", 5 * BLOCK + 17)
    frame = _written(file, content, 100_000)
    assert frames.position(index) == 14 + (index // 131072) * 131075 + 3 + index % 131072
    assert frame[frames.position(index)] == content[index]


@pytest.mark.parametrize("size", SIZES)
def test_reading_from_any_byte(file, size):
    content = noise("raw", size)
    _written(file, content, 256 * 1024)
    for start in {0, 1, size // 2, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, max(size - 1, 0), size}:
        if start <= size:
            assert b"".join(bytes(chunk) for chunk in read_raw(file, 100, size, start)) == content[start:]


@pytest.mark.parametrize("at", [0, 4, 5, 6, 13, 14, 16, 14 + 131075, 16 + 131075], ids=lambda at: f"byte {at}")
def test_a_flipped_bit_in_a_header_is_detected(file, at):
    _written(file, noise("raw", 2 * BLOCK + 9), 100_000)
    os.pwrite(file, bytes([os.pread(file, 1, 100 + at)[0] ^ 2]), 100 + at)
    with pytest.raises(ContentError, match=r"header .* is damaged"):
        list(read_raw(file, 100, 2 * BLOCK + 9))


def test_a_damaged_empty_block_is_detected(file):
    _written(file, b"", 1)
    os.pwrite(file, b"\x09", 114)
    with pytest.raises(ContentError, match="block at byte 0"):
        list(read_raw(file, 100, 0))


def test_a_truncated_file_is_detected(file):
    _written(file, noise("raw", BLOCK * 3), 100_000)
    os.ftruncate(file, 100 + frames.position(BLOCK * 2 + 10))
    taken = 0
    with pytest.raises(ContentError, match=r"the file ends at byte \d+, wanted \d+"):
        for chunk in read_raw(file, 100, BLOCK * 3):
            taken += len(chunk)
    assert taken == BLOCK * 2


def test_too_much_and_too_little_content_are_refused(file):
    writer = RawFrameWriter(partial(CachedWriter, file), 0, 10)
    with pytest.raises(ContentError, match="only 10 of 10"):
        writer.write(bytes(11))
    writer.write(bytes(4))
    assert writer.room == 6
    with pytest.raises(ContentError, match="ended after 4 of 10"):
        writer.close()


def test_a_small_frame_at_once():
    assert zstandard.ZstdDecompressor().decompress(frames.raw_frame(b"abc")) == b"abc"
    assert frames.raw_frame(b"") == frames.raw_frame_header(0) + b"\x01\0\0"
    with pytest.raises(ValueError, match="do not fit into one block"):
        frames.raw_frame(bytes(BLOCK + 1))
