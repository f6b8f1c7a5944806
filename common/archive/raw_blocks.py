"""Raw-block frames: content as it is, in blocks of a Zstandard frame that no compressor wrote.

Since no byte moves, every position is known before the content is (docs/archive-format.md, *Content frames*): blobs are
written in parallel, resumed in the middle, and read from any byte on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from common.archive.disk import File, read_exactly, read_into
from common.archive.frames import MAGIC
from common.archive.inventory import Piece
from common.archive.media import Place
from common.archive.staging import Run
from common.archive.window import Window, opened_direct
from common.content import Chunk
from common.errors import ContentError

BLOCK = 128 * 1024
HEADER_SIZE = 14
BLOCK_HEADER_SIZE = 3
_DESCRIPTOR_AND_WINDOW = b"\xc0\x38"  # 8-byte content size, no checksum; a window of 128 KiB
_AT_ONCE = 2  # blocks read by one system call
_WHOLE = BLOCK_HEADER_SIZE + BLOCK
_WINDOW = 8  # blocks read at once of what is large
LARGE = 2 * _WINDOW * BLOCK  # content that is worth a window
_STEP = 16 * BLOCK  # content written by one system call; far below the kernel's limit of 1024 parts


def stored_size(size: int) -> int:
    """Return the length of the frame of `size` bytes of content."""
    return HEADER_SIZE + _stored(size)


def position(index: int) -> int:
    """Return where byte `index` of the content lies, counted from the frame's magic."""
    return HEADER_SIZE + (index // BLOCK) * (BLOCK_HEADER_SIZE + BLOCK) + BLOCK_HEADER_SIZE + index % BLOCK


def frame_header(size: int) -> bytes:
    """Return the frame header for `size` bytes of content."""
    return MAGIC + _DESCRIPTOR_AND_WINDOW + size.to_bytes(8, "little")


def block_header(size: int, *, last: bool) -> bytes:
    """Return the header of a raw block."""
    return (size << 3 | last).to_bytes(BLOCK_HEADER_SIZE, "little")


def frame(content: bytes) -> bytes:
    """Return the whole frame of content that is small."""
    if len(content) > BLOCK:
        raise ValueError(f"{len(content)} bytes are no small content")
    return frame_header(len(content)) + block_header(len(content), last=True) + content


def long_frame(content: bytes) -> bytes:
    """Return the whole frame of content of any size."""
    blocks = [content[at : at + BLOCK] for at in range(0, len(content), BLOCK)] or [b""]
    last = len(blocks) - 1
    parts = (block_header(len(block), last=number == last) + block for number, block in enumerate(blocks))
    return frame_header(len(content)) + b"".join(parts)


class RawFrameWriter:
    """Writes one frame at its place, `offset`, while the content arrives in chunks of any size.

    `run` opens the file there, once the first byte is to be written. `before` and `after` are the finished frames around it
    (tar header, padding); they go with the first and last bytes, so that a small blob takes one system call. Close it when the
    content is complete: only then is empty content written. `done`: how many bytes are there from an earlier try, whole blocks.
    """

    def __init__(
        self, run: Callable[[int], Run], offset: int, size: int, before: bytes = b"", after: bytes = b"", *, done: int = 0
    ) -> None:
        if done % BLOCK and done != size:
            raise ValueError(f"byte {done} is inside a block")
        self._open = run
        self._run: Run | None = None
        self._offset = offset
        self._size = size
        self._before = before
        self._after = after
        self._done = done

    @property
    def room(self) -> int:
        """The bytes of content that are still wanted."""
        return self._size - self._done

    def write(self, chunk: Chunk) -> None:
        """Write the next bytes of the content, at most `room`. Raises OSError."""
        if len(chunk) > self.room:
            raise ContentError(f"{len(chunk)} bytes more, and only {self.room} of {self._size} are wanted")
        view = memoryview(chunk)
        for start in range(0, len(view), _STEP):
            self._write(view[start : start + _STEP])

    def close(self) -> None:
        """Finish the frame. Raises ContentError when content is wanting."""
        if self.room:
            raise ContentError(f"content ended after {self._done} of {self._size} bytes")
        if self._size == 0:
            self._write(memoryview(b""))
        if self._run is not None:
            self._run.close()

    def _write(self, view: memoryview) -> None:
        if self._run is None:
            self._run = self._open(self._begin())
        parts: list[Chunk] = [self._before, frame_header(self._size)] if self._done == 0 else []
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
        self._run.write(parts)

    def _begin(self) -> int:
        """Return where the first byte that is still wanted lies: that of the tar header, or of a block header."""
        return self._offset + position(self._done) - BLOCK_HEADER_SIZE if self._done else self._offset - len(self._before)

    def _block_header(self) -> bytes:
        size = min(self.room, BLOCK)
        return block_header(size, last=size == self.room)


def read_raw(file: File, offset: int, size: int, start: int = 0) -> Iterator[memoryview]:
    """Give the content of the frame at `offset` from byte `start` on; a chunk is valid until the next is asked for.

    Raises ContentError when a frame or block header is not the one that was written for `size` bytes, or the file ends.
    """
    if read_exactly(file, HEADER_SIZE, offset) != frame_header(size):
        raise ContentError("the header of the content frame is damaged")
    if size == 0:
        check_block_header(read_exactly(file, BLOCK_HEADER_SIZE, offset + HEADER_SIZE), 0, size)
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
    """Open a volume for reading a piece past the page cache, where it is large and not in the cache already."""
    if piece.size < LARGE or not isinstance(place, Path):
        yield None
        return
    with opened_direct(place, piece.offset, piece.offset + piece.stored) as file:
        yield file


def read_large(file: File, direct: int | None, offset: int, size: int, start: int = 0) -> Iterator[memoryview]:
    """Give what `read_raw` gives of a frame that is larger than a window, in larger chunks; `direct`: past the page cache."""
    if read_exactly(file, HEADER_SIZE, offset) != frame_header(size):
        raise ContentError("the header of the content frame is damaged")
    window = Window(file, direct, _WINDOW * _WHOLE)
    for first in range(start // BLOCK * BLOCK, size, _WINDOW * BLOCK):
        length = min(_WINDOW * BLOCK, size - first)
        begin = offset + position(first) - BLOCK_HEADER_SIZE
        blocks = window.read(begin, begin + _stored(length))
        for number, index in enumerate(range(first, first + length, BLOCK)):
            check_block_header(blocks[number * _WHOLE : number * _WHOLE + BLOCK_HEADER_SIZE], index, size)
        yield _joined(blocks, length)[max(start - first, 0) :]


def read_begun(file: File, direct: int | None, offset: int, size: int) -> Iterator[memoryview]:
    """Give the content of a frame that may be unfinished: the blocks that have another begun behind them, and the last one.

    The block that was begun last may be half written; the last block of the frame is given all the same, for the digest of
    the whole tells. `direct` as in `read_large`. Raises OSError.
    """
    try:
        head = read_exactly(file, HEADER_SIZE, offset)
    except ContentError:
        return
    if head != frame_header(size):
        return
    window = Window(file, direct, _WINDOW * _WHOLE + BLOCK_HEADER_SIZE)
    first, blocks = 0, _WINDOW
    while first < max(size, 1):
        end = min(first + blocks * BLOCK, size)
        behind = BLOCK_HEADER_SIZE if end < size else 0  # the block after these has to be begun
        begin = offset + position(first) - BLOCK_HEADER_SIZE
        try:
            found = window.read(begin, begin + _stored(end - first) + behind)
        except ContentError:
            if blocks == 1:
                return
            blocks = 1  # the file ends here: block by block
            continue
        whole = _begun(found, first, size, end)
        yield _joined(found, whole)
        if whole < end - first:
            return
        first = max(end, 1)


def _begun(found: memoryview, first: int, size: int, end: int) -> int:
    """Return how much content is surely whole from block `first` on: all before the last block whose header is there."""
    headers: list[int] = [*range(first, max(end, 1), BLOCK), *([end] if end < size else [])]
    for index in headers:
        at = (index - first) // BLOCK * _WHOLE
        length = min(size - index, BLOCK)
        if bytes(found[at : at + BLOCK_HEADER_SIZE]) != block_header(length, last=index + length == size):
            return max(index - first - BLOCK, 0)
    return end - first


def _joined(blocks: memoryview, length: int) -> memoryview:
    """Move the content of blocks together, in their own place, and return it: `length` bytes."""
    for number, start in enumerate(range(0, length, BLOCK)):
        at = number * _WHOLE + BLOCK_HEADER_SIZE
        size = min(BLOCK, length - start)
        blocks[start : start + size] = blocks[at : at + size]
    return blocks[:length]


def _stored(length: int) -> int:
    """Return the bytes that blocks with so much content take, from the first header on."""
    return length + BLOCK_HEADER_SIZE * max(1, -(-length // BLOCK))


def _parts(headers: memoryview, content: memoryview, length: int) -> list[memoryview]:
    """Return block header, block, block header, block: the content side by side, the headers apart."""
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
