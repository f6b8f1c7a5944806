"""Frames: compressed within limits, walked over, and the placeholders of missing blobs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import zstandard

from common.archive import frames
from common.errors import ContentError
from tests.fakes.archives import noise


def _file(tmp_path: Path, content: bytes) -> int:
    path = tmp_path / "frames"
    path.write_bytes(content)
    return os.open(path, os.O_RDONLY)


@pytest.fixture
def opened(tmp_path):
    files = []

    def make(content: bytes) -> int:
        files.append(_file(tmp_path, content))
        return files[-1]

    yield make
    for file in files:
        os.close(file)


@pytest.mark.parametrize("content", [b"", b"a", noise("x", 5000), b"zero" * 200_000], ids=len)
def test_compress_gives_one_frame_with_size_and_checksum(content):
    frame = frames.compress(content)
    header = zstandard.get_frame_parameters(frame)
    assert (header.content_size, header.has_checksum) == (len(content), True)
    assert header.window_size <= 8 * 1024 * 1024
    assert len(frame) <= frames.compress_bound(len(content))
    assert frames.decompress(frame, len(content)) == content
    assert frames.compress(content) == frame


def test_decompress_refuses_a_frame_beyond_its_limit():
    bomb = frames.compress(bytes(10_000_000))
    assert len(bomb) < 2000
    with pytest.raises(ContentError, match=r"grows to 10000000 bytes; the limit is 9999999"):
        frames.decompress(bomb, 9_999_999)


def test_decompress_refuses_flipped_bits_and_trailing_bytes():
    frame = frames.compress(noise("x", 3000))
    with pytest.raises(ContentError, match="broken frame"):
        frames.decompress(frame[:1500] + bytes([frame[1500] ^ 1]) + frame[1501:], 3000)
    with pytest.raises(ContentError, match="broken frame"):
        frames.decompress(frame + b"\0", 3000)
    with pytest.raises(ContentError, match=r"not a frame|broken"):
        frames.decompress(b"", 3000)


def test_a_frame_needs_a_content_size_and_a_window_within_the_limit():
    sizeless = zstandard.ZstdCompressor(write_content_size=False).compress(b"abc")
    with pytest.raises(ContentError, match="no content size"):
        frames.decompress(sizeless, 100)
    parameters = zstandard.ZstdCompressionParameters(window_log=24, write_content_size=True)
    wide = zstandard.ZstdCompressor(compression_params=parameters).compress(bytes(20_000_000))
    with pytest.raises(ContentError, match=r"wants a window of \d+ bytes; the limit is 8388608"):
        frames.decompress(wide, 20_000_000)


def test_a_skippable_frame_is_no_content():
    with pytest.raises(ContentError, match="not a frame"):
        frames.decompress(frames.PLACEHOLDER_MAGIC + (4).to_bytes(4, "little") + b"\0\0\0\0", 100)


def test_frame_end_steps_over_compressed_raw_and_repeated_blocks(opened):
    parts = [
        frames.compress(noise("a", 300_000)),
        frames.compress(bytes(300_000)),
        frames.raw_frame(b"raw"),
        frames.compress(b""),
    ]
    file = opened(b"".join(parts))
    position = 0
    for part in parts:
        position_after = frames.frame_end(file, position, sum(map(len, parts)))
        assert position_after == position + len(part)
        position = position_after


def test_frame_end_stops_at_its_limit(opened):
    frame = frames.compress(noise("a", 1000))
    file = opened(frame * 2)
    with pytest.raises(ContentError, match="goes past its place"):
        frames.frame_end(file, 0, len(frame) - 1)
    with pytest.raises(ContentError, match="wrong magic"):
        frames.frame_end(file, 1, len(frame))
    with pytest.raises(ContentError, match="wrong magic"):
        frames.frame_end(file, len(frame), len(frame))


def test_frame_end_refuses_dictionaries_and_unknown_blocks(opened):
    frame = bytearray(frames.compress(noise("a", 1000)))
    frame[4] |= 1
    with pytest.raises(ContentError, match="dictionary"):
        frames.frame_end(opened(bytes(frame)), 0, len(frame))
    raw = bytearray(frames.raw_frame(b"abc"))
    raw[14] |= 0b110
    with pytest.raises(ContentError, match="unknown kind of block"):
        frames.frame_end(opened(bytes(raw)), 0, len(raw))


def test_read_frame_gives_content_in_steps(opened):
    content = noise("a", 1_000_000)
    frame = frames.compress(content)
    chunks = list(frames.read_frame(opened(b"before" + frame + b"after"), 6, len(frame), len(content)))
    assert b"".join(chunks) == content
    assert max(map(len, chunks)) <= 256 * 1024


def test_read_frame_refuses_another_size_another_length_and_flipped_bits(opened):
    frame = frames.compress(bytes(1000))
    with pytest.raises(ContentError, match="limit is 999"):
        list(frames.read_frame(opened(frame), 0, len(frame), 999))
    with pytest.raises(ContentError, match="holds 1000 bytes, wanted 1001"):
        list(frames.read_frame(opened(frame), 0, len(frame), 1001))
    with pytest.raises(ContentError, match="shorter than"):
        list(frames.read_frame(opened(frame + b"1234567"), 0, len(frame) + 7, 1000))
    flipped = frame[:-1] + bytes([frame[-1] ^ 1])
    with pytest.raises(ContentError, match="broken frame"):
        list(frames.read_frame(opened(flipped), 0, len(frame), 1000))
    with pytest.raises(ContentError, match="the file ends"):
        list(frames.read_frame(opened(b"\x28"), 0, 2000, 1000))


@pytest.mark.parametrize(
    "length",
    [
        8,
        9,
        16,
        529,
        frames.MAX_SKIPPABLE + 8,
        frames.MAX_SKIPPABLE + 9,
        frames.MAX_SKIPPABLE + 15,
        frames.MAX_SKIPPABLE + 16,
        10**12,
    ],
)
def test_placeholders_fill_a_place_exactly(length):
    end = 0
    for position, header in frames.placeholders(length):
        assert position == end
        assert header[:4] == bytes.fromhex("5a2a4d18")
        payload = int.from_bytes(header[4:], "little")
        assert payload <= 0x7FFFFFF0
        end = position + 8 + payload
        assert end == length or length - end >= 8
    assert end == length
