"""Zstandard frames, the parts of a volume: compressed, skippable, and of raw blocks.

Specification: RFC 8878; docs/reference/archive-format.md.

Errors are ContentError; the caller adds volume and blob to the message.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

import zstandard

from common.archive.direct_io import File, RangeWriter, Window, opened_direct, read_exactly, read_into
from common.errors import ContentError
from common.oci.compression import MAX_WINDOW

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from common.archive.inventory import Piece
    from common.archive.location import Place
    from common.content import Chunk


MAGIC = b"\x28\xb5\x2f\xfd"
PLACEHOLDER_MAGIC = b"\x5a\x2a\x4d\x18"  # 0x184D2A5A: the place of a missing blob
FOOTER_MAGIC = b"\x5b\x2a\x4d\x18"  # 0x184D2A5B: the footer of a volume
SKIPPABLE_HEADER = 8
MAX_SKIPPABLE = 0x7FFFFFF0  # payload; some tools read the length as a signed number
_LEVEL = 3
# A volume of 8 KB could make a reader take gigabytes of memory (ADR 0030); real inventories compress 5 to 60 times.
_MAX_RATIO = 128
_FREE = 4 * 1024 * 1024  # bytes that any frame may hold, so that short records may compress further
# Compressed are manifests, and of blobs only configurations and layers made by the exporter; they are less dense. Blocks of
# one repeated byte would decompress to 32,768 times their size (RFC 8878, 3.1.1.2.4).
_MAX_BLOB_RATIO = 1024
_FREE_OF_BLOB = 64 * 1024
_MAX_HEADER = 18  # bytes: magic, descriptor, window, dictionary and content size, each at its longest (RFC 8878, 3.1.1.1)
_STEP = 256 * 1024
_BLOCK_RLE, _BLOCK_RESERVED = 1, 3
_FREE_BLOCKS, _SMALLEST_BLOCK = 64, 4096


def compress(content: bytes) -> bytes:
    """Return one frame with content size and checksum; same bytes in, same bytes out."""
    frame = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True, write_content_size=True).compress(content)
    # zstandard allocates as many bytes as the content has and keeps them all; a copy is as small as the frame.
    return bytes(memoryview(frame))


def compress_parts(parts: Iterable[bytes], size: int) -> bytes:
    """Return one frame of `size` bytes that come in parts; the same bytes for the same content, however it is divided.

    Of content of megabytes it is not the frame that `compress` makes: matches are found in a copy of a window of it.
    """
    compressor = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True, write_content_size=True).compressobj(size=size)
    made = io.BytesIO()  # grows in place, where joining a list would hold the bytes twice
    for part in parts:
        made.write(compressor.compress(part))
    made.write(compressor.flush())
    return made.getvalue()


@dataclass(frozen=True, slots=True)
class Packed:
    """`size` bytes that are needed once more, much later: in one compressed frame until then."""

    frame: bytes
    size: int

    @classmethod
    def of(cls, content: bytes) -> Packed:
        """Compress content in memory."""
        steps = (content[at : at + _STEP] for at in range(0, len(content), _STEP))
        return cls(compress_parts(steps, len(content)), len(content))

    def parts(self) -> Iterator[bytes]:
        """Yield the content in parts of some 256 KiB."""
        with zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW).stream_reader(self.frame) as reader:
            while chunk := reader.read(_STEP):
                yield chunk

    def content(self) -> bytes:
        """Return the content."""
        return b"".join(self.parts())


def content_bound(stored: int) -> int:
    """Return the limit of bytes that a frame of records may decompress to."""
    return _FREE + _MAX_RATIO * stored


def blob_bound(stored: int) -> int:
    """Return the limit of bytes that the compressed frame of a blob, or of manifests, may decompress to."""
    return _FREE_OF_BLOB + _MAX_BLOB_RATIO * stored


def compress_bound(size: int) -> int:
    """Return a number of bytes that the frame of `size` bytes of content never exceeds."""
    # ZSTD_compressBound (zstd.h); its term for small content is at most 64.
    return size + (size >> 8) + 128


def decompress(frame: bytes, limit: int) -> bytes:
    """Return the content of exactly one frame. Raises ContentError when it is broken, followed by more, or beyond `limit`."""
    size = _content_size(frame, limit)  # first: the library allocates what the header claims
    try:
        content = zstandard.ZstdDecompressor().decompress(frame, max_output_size=size, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise ContentError(f"broken frame: {error}") from error
    if len(content) != size:
        raise ContentError(f"frame holds {len(content)} bytes, its header says {size}")
    return content


def read_frame(file: File, offset: int, stored: int, size: int) -> Iterator[bytes]:
    """Yield the content of the frame of `stored` bytes at `offset`, which must hold exactly `size` bytes.

    Memory stays within one step of 256 KiB, for any size that the frame claims. Raises ContentError.
    """
    head = read_exactly(file, min(stored, _MAX_HEADER), offset)
    if _content_size(head, size) != size:
        raise ContentError(f"frame holds {_content_size(head, size)} bytes, wanted {size}")
    # A reader would accept a second frame behind the first; the format has exactly one at a place.
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
    # Compressors make blocks of 8 KiB at least (`ZSTD_splitBlock`). Three zeros are a block of nothing: without a limit, a hole
    # of a sparse file would be read three bytes at a time.
    blocks = _FREE_BLOCKS + _claimed(head) // _SMALLEST_BLOCK
    while position + 3 <= limit and blocks:
        blocks -= 1
        block = int.from_bytes(read_exactly(file, 3, position), "little")
        kind, size = block >> 1 & 3, block >> 3
        if kind == _BLOCK_RESERVED:
            raise ContentError("broken frame: unknown kind of block")
        position += 3 + (1 if kind == _BLOCK_RLE else size)  # RLE: one byte, to be repeated `size` times
        if block & 1:  # the last block
            end = position + (4 if head[4] & 4 else 0)  # the checksum of the content, where the descriptor announces one
            if end <= limit:
                return end
            break
    raise ContentError("frame goes past its place")


def placeholders(length: int) -> Iterator[tuple[int, bytes]]:
    """Yield position and header of the skippable frames that fill `length` bytes (at least 8); their payloads stay zero.

    They take the place of a blob that could not be fetched: positions are fixed before content is (ADR 0003).
    """
    position = 0
    while position < length:
        payload = min(length - position - SKIPPABLE_HEADER, MAX_SKIPPABLE)
        # A rest of 1 to 7 bytes would have no room for the header of a frame.
        if 0 < length - position - SKIPPABLE_HEADER - payload < SKIPPABLE_HEADER:
            payload -= SKIPPABLE_HEADER
        yield position, PLACEHOLDER_MAGIC + payload.to_bytes(4, "little")
        position += SKIPPABLE_HEADER + payload


def _content_size(frame: bytes, limit: int) -> int:
    """Return the content size in a frame's header. Raises ContentError where the header is beyond the limits of the format."""
    try:
        header = zstandard.get_frame_parameters(frame)
    except zstandard.ZstdError as error:
        raise ContentError(f"not a frame: {error}") from error
    if not frame.startswith(MAGIC) or header.content_size == zstandard.CONTENTSIZE_UNKNOWN or header.dict_id:
        raise ContentError("not a frame of an archive: it has no content size, or wants a dictionary")
    if header.content_size > limit:
        raise ContentError(f"frame grows to {header.content_size} bytes; the limit is {limit}")
    # The window is memory that the decompressor allocates at once.
    if header.window_size > MAX_WINDOW:
        raise ContentError(f"frame wants a window of {header.window_size} bytes; the limit is {MAX_WINDOW}")
    return int(header.content_size)


def _claimed(head: bytes) -> int:
    """Return the content size in a frame's header, 0 for one without."""
    try:
        size = int(zstandard.get_frame_parameters(head).content_size)
    except zstandard.ZstdError as error:
        raise ContentError(f"not a frame: {error}") from error
    return 0 if size == zstandard.CONTENTSIZE_UNKNOWN else size


def _header_size(head: bytes) -> int:
    """Return the length of a frame's header (RFC 8878, 3.1.1.1)."""
    if len(head) <= len(MAGIC) or not head.startswith(MAGIC):
        raise ContentError("not a frame: wrong magic number")
    descriptor = head[4]
    single, size_flag = descriptor >> 5 & 1, descriptor >> 6
    if descriptor & 0b1011:  # the reserved bit, and the two bits that announce a dictionary
        raise ContentError("not a frame of an archive: it wants a dictionary, or a later version of the format")
    return 5 + (1 - single) + (single, 2, 4, 8)[size_flag]


class _Window(io.RawIOBase):
    """A file object over part of a volume. Reads by position, so that threads can share the file descriptor."""

    def __init__(self, file: File, offset: int, length: int) -> None:
        super().__init__()
        self._file = file
        self._position = offset
        self._end = offset + length

    def read(self, size: int = -1) -> bytes:
        """Return the next `size` bytes; without it all that remain."""
        left = self._end - self._position
        content = read_exactly(self._file, left if size < 0 else min(size, left), self._position)
        self._position += len(content)
        return content


# Raw-block frames store content without compression, so every position is known before the content is (ADR 0004): blobs are
# written in parallel, resumed in the middle, and read from any byte on.

BLOCK = 128 * 1024  # the largest block that Zstandard allows (RFC 8878, 3.1.1.2.4)
HEADER_SIZE = 14
BLOCK_HEADER_SIZE = 3
_DESCRIPTOR_AND_WINDOW = b"\xc0\x38"  # 8-byte content size, no checksum; a window of 128 KiB
_AT_ONCE = 2  # blocks read by one system call
_WHOLE = BLOCK_HEADER_SIZE + BLOCK
_WINDOW = 8  # blocks of one read past the page cache
LARGE = 2 * _WINDOW * BLOCK  # from this size on a buffer of its own and a second open file pay off
_RAW_STEP = 16 * BLOCK  # content written by one system call; far below the kernel's limit of 1024 parts


def raw_frame_size(size: int) -> int:
    """Return the length of the frame of `size` bytes of content."""
    return HEADER_SIZE + _stored(size)


def position(index: int) -> int:
    """Return the position of byte `index` of the content, counted from the frame's magic."""
    return HEADER_SIZE + (index // BLOCK) * (BLOCK_HEADER_SIZE + BLOCK) + BLOCK_HEADER_SIZE + index % BLOCK


def raw_spans(offset: int, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield where bytes `start` to `end` of the content of the frame at `offset` are in the file: position and length."""
    at = offset + position(start)
    while start < end:
        length = min(BLOCK - start % BLOCK, end - start)
        yield at, length
        start += length
        at += length + BLOCK_HEADER_SIZE


def raw_frame_header(size: int) -> bytes:
    """Return the frame header for `size` bytes of content."""
    return MAGIC + _DESCRIPTOR_AND_WINDOW + size.to_bytes(8, "little")


def block_header(size: int, *, last: bool) -> bytes:
    """Return the header of a raw block."""
    return (size << 3 | last).to_bytes(BLOCK_HEADER_SIZE, "little")


def raw_frame(content: bytes) -> bytes:
    """Return the whole frame of content of at most one block."""
    if len(content) > BLOCK:
        raise ValueError(f"{len(content)} bytes do not fit into one block")
    return raw_frame_header(len(content)) + block_header(len(content), last=True) + content


def long_raw_frame(content: bytes) -> bytes:
    """Return the whole frame of content of any size."""
    blocks = [content[at : at + BLOCK] for at in range(0, len(content), BLOCK)] or [b""]
    last = len(blocks) - 1
    parts = (block_header(len(block), last=number == last) + block for number, block in enumerate(blocks))
    return raw_frame_header(len(content)) + b"".join(parts)


class RawFrameWriter:
    """Writer of one frame at `offset`, while the content arrives in chunks of any size.

    `opened` opens the file at a position, when the first byte is written. `before` and `after` are the finished frames around
    it (tar header, padding), written together with the first and last bytes, so that a small blob takes one system call.
    `done`: the bytes that an interrupted export left there, in whole blocks. Close it when the content is complete: empty
    content is not written earlier.
    """

    def __init__(
        self,
        opened: Callable[[int], RangeWriter],
        offset: int,
        size: int,
        before: bytes = b"",
        after: bytes = b"",
        *,
        done: int = 0,
    ) -> None:
        if done % BLOCK and done != size:
            raise ValueError(f"byte {done} is inside a block")
        self._opened = opened
        self._writer: RangeWriter | None = None
        self._offset = offset
        self._size = size
        self._before = before
        self._after = after
        self._done = done

    @property
    def room(self) -> int:
        """The number of bytes of content that are still missing."""
        return self._size - self._done

    def write(self, chunk: Chunk) -> None:
        """Write the next bytes of the content, at most `room`. Raises OSError."""
        if len(chunk) > self.room:
            raise ContentError(f"{len(chunk)} bytes more, and only {self.room} of {self._size} are missing")
        view = memoryview(chunk)
        for start in range(0, len(view), _RAW_STEP):
            self._write(view[start : start + _RAW_STEP])

    def close(self) -> None:
        """Finish the frame. Raises ContentError when content is missing."""
        if self.room:
            raise ContentError(f"content ended after {self._done} of {self._size} bytes")
        if self._size == 0:
            self._write(memoryview(b""))  # a frame has at least one block, if an empty one
        if self._writer is not None:
            self._writer.close()

    def _write(self, view: memoryview) -> None:
        if self._writer is None:
            self._writer = self._opened(self._begin())
        parts: list[Chunk] = [self._before, raw_frame_header(self._size)] if self._done == 0 else []
        while True:
            at = self._done % BLOCK
            if at == 0:
                parts.append(self._block_header())
            part = view[: BLOCK - at]
            view = view[len(part) :]
            parts.append(part)
            self._done += len(part)
            if not view:
                break
        if self._done == self._size:
            parts.append(self._after)
        self._writer.write(parts)

    def _begin(self) -> int:
        """Return the position of the first byte to write: that of the tar header, or of a block header."""
        return self._offset + position(self._done) - BLOCK_HEADER_SIZE if self._done else self._offset - len(self._before)

    def _block_header(self) -> bytes:
        size = min(self.room, BLOCK)
        return block_header(size, last=size == self.room)


def read_raw(file: File, offset: int, size: int, start: int = 0) -> Iterator[memoryview]:
    """Yield the content of the frame at `offset` from byte `start` on; a chunk is valid until the next one is requested.

    Raises ContentError when a frame or block header is not the one that was written for `size` bytes, or the file ends.
    """
    if read_exactly(file, HEADER_SIZE, offset) != raw_frame_header(size):
        raise ContentError("the header of the content frame is damaged")
    if size == 0:
        check_block_header(read_exactly(file, BLOCK_HEADER_SIZE, offset + HEADER_SIZE), 0, size)
    # Headers and content go into buffers of their own (preadv), so that the content of several blocks is contiguous at once.
    content = memoryview(bytearray(min(size, _AT_ONCE * BLOCK)))
    headers = memoryview(bytearray(_AT_ONCE * BLOCK_HEADER_SIZE))
    for first in range(start // BLOCK * BLOCK, size, _AT_ONCE * BLOCK):
        end = min(first + _AT_ONCE * BLOCK, size)
        parts = _parts(headers, content, end - first)
        read_into(file, parts, offset + position(first) - BLOCK_HEADER_SIZE)
        for number, header in enumerate(parts[::2]):
            check_block_header(header, first + number * BLOCK, size)
        yield content[max(start - first, 0) : end - first]


@contextmanager
def opened_large(place: Place, piece: Piece) -> Iterator[int | None]:
    """Open a volume for reading a piece past the page cache; yield None for one that is small, remote or cached already."""
    if piece.size < LARGE or not isinstance(place, Path):
        yield None
        return
    with opened_direct(place, piece.offset, piece.offset + piece.stored) as file:
        yield file


def read_large(file: File, direct: int | None, offset: int, size: int, start: int = 0) -> Iterator[memoryview]:
    """Yield what `read_raw` yields, in larger chunks; `direct`: the same file, opened for reading past the page cache."""
    if read_exactly(file, HEADER_SIZE, offset) != raw_frame_header(size):
        raise ContentError("the header of the content frame is damaged")
    window = Window(file, direct, _WINDOW * _WHOLE)
    for first in range(start // BLOCK * BLOCK, size, _WINDOW * BLOCK):
        length = min(_WINDOW * BLOCK, size - first)
        begin = offset + position(first) - BLOCK_HEADER_SIZE
        blocks = window.read(begin, begin + _stored(length))
        for number, index in enumerate(range(first, first + length, BLOCK)):
            check_block_header(blocks[number * _WHOLE : number * _WHOLE + BLOCK_HEADER_SIZE], index, size)
        yield _joined(blocks, length)[max(start - first, 0) :]


View = Callable[[int, int], memoryview]  # returns the bytes of a range of a file, valid until its next call


def raw_blocks(view: View, offset: int, size: int) -> Iterator[memoryview]:
    """Yield the blocks of the frame at `offset`; each is valid until the next one is requested.

    Nothing is moved, unlike in `read_large`: another thread may hash the same buffer. Raises as `read_raw` does.
    """
    if view(offset, offset + HEADER_SIZE) != raw_frame_header(size):
        raise ContentError("the header of the content frame is damaged")
    for first in range(0, max(size, 1), BLOCK):
        begin = offset + position(first) - BLOCK_HEADER_SIZE
        block = view(begin, begin + BLOCK_HEADER_SIZE + min(BLOCK, size - first))
        check_block_header(block[:BLOCK_HEADER_SIZE], first, size)
        yield block[BLOCK_HEADER_SIZE:]


def begun_blocks(view: View, offset: int, size: int) -> Iterator[memoryview]:
    """Yield the blocks of a frame that may be unfinished, as far as they were certainly written.

    A block counts when the header of the next one is present: its bytes and its own header go out in one system call, so the
    last block that has a header may be half written. The last block of the frame has no next one and is yielded unproven:
    the caller compares the digest of the whole. Raises OSError.
    """
    try:
        if view(offset, offset + HEADER_SIZE) != raw_frame_header(size):
            return
        for first in range(0, max(size, 1), BLOCK):
            length = min(BLOCK, size - first)
            begin = offset + position(first) - BLOCK_HEADER_SIZE
            end = begin + BLOCK_HEADER_SIZE + length
            is_last = first + length == size
            block = view(begin, end if is_last else end + BLOCK_HEADER_SIZE)
            check_block_header(block[:BLOCK_HEADER_SIZE], first, size)
            if not is_last:
                check_block_header(block[-BLOCK_HEADER_SIZE:], first + length, size)
            yield block[BLOCK_HEADER_SIZE : BLOCK_HEADER_SIZE + length]
    except ContentError:  # the file ends, or something else is there: so far it was written
        return


def _joined(blocks: memoryview, length: int) -> memoryview:
    """Move the content of blocks together, in the same buffer, and return it: `length` bytes."""
    for number, start in enumerate(range(0, length, BLOCK)):
        at = number * _WHOLE + BLOCK_HEADER_SIZE
        size = min(BLOCK, length - start)
        blocks[start : start + size] = blocks[at : at + size]
    return blocks[:length]


def _stored(length: int) -> int:
    """Return the bytes that blocks with `length` bytes of content take, their headers included."""
    return length + BLOCK_HEADER_SIZE * max(1, -(-length // BLOCK))


def _parts(headers: memoryview, content: memoryview, length: int) -> list[memoryview]:
    """Return buffers in the order of the file, header and block in turn; the content is contiguous, and so are the headers."""
    parts = []
    for number, start in enumerate(range(0, length, BLOCK)):
        parts.append(headers[number * BLOCK_HEADER_SIZE : (number + 1) * BLOCK_HEADER_SIZE])
        parts.append(content[start : min(start + BLOCK, length)])
    return parts


def check_block_header(header: Chunk, index: int, size: int) -> None:
    """Raise ContentError when this is not the header of the block that begins at byte `index` of `size`."""
    length = min(size - index, BLOCK)
    if header != block_header(length, last=index + length == size):
        raise ContentError(f"the header of the block at byte {index} of the content is damaged")
