"""Zstandard frames: what a volume is made of, apart from the raw blocks (`raw_blocks.py`).

Owns compressing with content size and checksum, decompressing within limits, walking over a frame without decompressing it,
and the skippable frames that stand where a blob is missing. Sources: RFC 8878, docs/archive-format.md. Errors are
ContentError; whoever knows volume and blob puts them into the message.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import IO, cast

import zstandard

from common.archive.disk import File, read_exactly
from common.compression import MAX_WINDOW
from common.errors import ContentError

MAGIC = b"\x28\xb5\x2f\xfd"
PLACEHOLDER_MAGIC = b"\x5a\x2a\x4d\x18"  # 0x184D2A5A: the place of a missing blob
FOOTER_MAGIC = b"\x5b\x2a\x4d\x18"  # 0x184D2A5B: the footer of a volume
SKIPPABLE_HEADER = 8
MAX_SKIPPABLE = 0x7FFFFFF0  # payload; some tools read the length as a signed number
_LEVEL = 3
_MAX_RATIO = 128
_FREE = 4 * 1024 * 1024  # bytes that any frame may hold
_MAX_HEADER = 18
_STEP = 256 * 1024
_BLOCK_RLE, _BLOCK_RESERVED = 1, 3


def compress(content: bytes) -> bytes:
    """Return one frame with content size and checksum; same bytes in, same bytes out."""
    frame = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True, write_content_size=True).compress(content)
    return bytes(memoryview(frame))  # what it gives holds on to the room of the content, however small it is


def content_bound(stored: int) -> int:
    """Return how much a frame of records may decompress to: real inventories take 5 to 60 times their compressed size."""
    return _FREE + _MAX_RATIO * stored


def compress_bound(size: int) -> int:
    """Return a number of bytes that the frame of `size` bytes of content never exceeds."""
    return size + (size >> 8) + 128


def decompress(frame: bytes, limit: int) -> bytes:
    """Return the content of exactly one frame. Raises ContentError when it is broken, followed by more, or beyond `limit`."""
    size = _content_size(frame, limit)
    try:
        content = zstandard.ZstdDecompressor().decompress(frame, max_output_size=size, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise ContentError(f"broken frame: {error}") from error
    if len(content) != size:
        raise ContentError(f"frame holds {len(content)} bytes, its header says {size}")
    return content


def read_frame(file: File, offset: int, stored: int, size: int) -> Iterator[bytes]:
    """Give the content of the frame of `stored` bytes at `offset`, which must hold exactly `size` bytes.

    Never more than a step of it is in memory, whatever the frame claims. Raises ContentError.
    """
    head = read_exactly(file, min(stored, _MAX_HEADER), offset)
    if _content_size(head, size) != size:
        raise ContentError(f"frame holds {_content_size(head, size)} bytes, wanted {size}")
    if frame_end(file, offset, offset + stored) != offset + stored:
        raise ContentError(f"frame is shorter than the {stored} bytes it should have")
    source = _Window(file, offset, stored)
    done = 0
    try:
        with zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW).stream_reader(
            cast("IO[bytes]", source), read_size=_STEP
        ) as reader:
            while chunk := reader.read(_STEP):
                done += len(chunk)
                yield chunk
    except zstandard.ZstdError as error:
        raise ContentError(f"broken frame: {error}") from error
    if done != size:
        raise ContentError(f"frame holds {done} bytes, wanted {size}")


def frame_end(file: File, offset: int, limit: int) -> int:
    """Return where the frame at `offset` ends, found by its block headers alone. Raises ContentError when beyond `limit`."""
    head = read_exactly(file, min(_MAX_HEADER, max(limit - offset, 0)), offset)
    position = offset + _header_size(head)
    while position + 3 <= limit:
        block = int.from_bytes(read_exactly(file, 3, position), "little")
        kind, size = block >> 1 & 3, block >> 3
        if kind == _BLOCK_RESERVED:
            raise ContentError("broken frame: unknown kind of block")
        position += 3 + (1 if kind == _BLOCK_RLE else size)
        if block & 1:
            end = position + (4 if head[4] & 4 else 0)
            if end <= limit:
                return end
            break
    raise ContentError("frame goes past its place")


def placeholders(length: int) -> Iterator[tuple[int, bytes]]:
    """Give position and header of the skippable frames that fill `length` bytes (at least 8), payloads left to be zero.

    Their payloads keep the limit of the format, and never 1 to 7 bytes are left over.
    """
    position = 0
    while position < length:
        payload = min(length - position - SKIPPABLE_HEADER, MAX_SKIPPABLE)
        if 0 < length - position - SKIPPABLE_HEADER - payload < SKIPPABLE_HEADER:
            payload -= SKIPPABLE_HEADER
        yield position, PLACEHOLDER_MAGIC + payload.to_bytes(4, "little")
        position += SKIPPABLE_HEADER + payload


def _content_size(frame: bytes, limit: int) -> int:
    """Return the content size in a frame's header, once all of the header is within our limits."""
    try:
        header = zstandard.get_frame_parameters(frame)
    except zstandard.ZstdError as error:
        raise ContentError(f"not a frame: {error}") from error
    if not frame.startswith(MAGIC) or header.content_size == zstandard.CONTENTSIZE_UNKNOWN or header.dict_id:
        raise ContentError("not a frame of an archive: it has no content size, or wants a dictionary")
    if header.content_size > limit:
        raise ContentError(f"frame grows to {header.content_size} bytes; the limit is {limit}")
    if header.window_size > MAX_WINDOW:
        raise ContentError(f"frame wants a window of {header.window_size} bytes; the limit is {MAX_WINDOW}")
    return int(header.content_size)


def _header_size(head: bytes) -> int:
    """Return the length of a frame's header (RFC 8878, 3.1.1.1)."""
    if len(head) <= len(MAGIC) or not head.startswith(MAGIC):
        raise ContentError("not a frame: wrong magic number")
    descriptor = head[4]
    single, size_flag = descriptor >> 5 & 1, descriptor >> 6
    if descriptor & 0b1011:
        raise ContentError("not a frame of an archive: it wants a dictionary, or a later version of the format")
    return 5 + (1 - single) + (single, 2, 4, 8)[size_flag]


class _Window(io.RawIOBase):
    """A file object over part of a volume, read by position so that threads can share the file."""

    def __init__(self, file: File, offset: int, length: int) -> None:
        super().__init__()
        self._file = file
        self._position = offset
        self._end = offset + length

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes; all that are left without `size`."""
        left = self._end - self._position
        content = read_exactly(self._file, left if size < 0 else min(size, left), self._position)
        self._position += len(content)
        return content
