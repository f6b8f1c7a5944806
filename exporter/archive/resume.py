"""State of blobs after an interrupted export: how many of their bytes are in their places.

The blocks that were begun are read and hashed. A blob is complete when its digest matches; otherwise it continues from the last
whole block. After a loss of power any block may be wrong: then the digest is wrong in the end, and the blob is fetched from its
beginning (ADR 0010). The same reading computes the checksum of a volume, as far as complete blobs follow each other (ADR 0084).
From the volumes of an interrupted export with another layout, whole blobs are moved (`PreviousVolumes`).
"""

from __future__ import annotations

import logging
import os
from collections import deque
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING

from common.archive import direct_io
from common.archive.direct_io import read_exactly
from common.archive.frames import BLOCK, begun_blocks, read_frame, read_raw
from common.archive.inventory import Encoding
from common.archive.single_pass import SinglePass
from common.archive.volume import entry_name, extent, header_frame, padding_frame
from common.content import Chunks, verified
from common.errors import ContentError
from common.oci.image import Hasher

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator
    from pathlib import Path

    from common.archive.frames import View
    from common.archive.inventory import Piece
    from common.archive.layout import Layout, PlacedBlob
    from common.oci.image import Descriptor, Digest
    from exporter.archive.output import PreviousExport

    Opened = Callable[[Path], bool]


STEP = "reading what an interrupted export wrote"  # of the progress
_AT_ONCE = 16 * BLOCK  # bytes of a blob that are hashed by one call
_LOG = logging.getLogger(__name__)


@dataclass(slots=True)
class Begun:
    """The first `size` bytes of a blob are in their places, and hashed by `hasher`. `complete`: these are all of its bytes."""

    size: int = 0
    hasher: Hasher = field(default_factory=Hasher)
    complete: bool = False
    _padded: bool = True  # so is the padding behind each piece, which comes last

    def take(self, once: SinglePass, placed: PlacedBlob, number: int, buffer: memoryview) -> None:
        """Add a piece, if the pieces before it are whole; it is hashed in `buffer`. Raises OSError."""
        piece = placed.pieces[number - 1]
        if self.size != sum(before.size for before in placed.pieces[: number - 1]):
            return
        is_begun = False
        for blocks in _joined(begun_blocks(once.read, piece.offset, piece.size), buffer):
            is_begun = True  # also by the one block of an empty blob
            self.hasher.update(blocks)
            self.size += len(blocks)
        self._padded &= _is_there(once.read, padding_frame(piece.size), piece.offset + piece.stored)
        if is_begun and self.size == placed.descriptor.size:
            self.complete = self._padded and self.hasher.digest() == placed.descriptor.digest


@dataclass(slots=True)
class LeftBehind:
    """What an interrupted export left in its volumes.

    `checksums`, by volume: that of the bytes that will not be written again, from the beginning on, and their number.
    """

    complete: list[Digest] = field(default_factory=list)
    begun: dict[Digest, Begun] = field(default_factory=dict)
    checksums: dict[int, tuple[Hasher, int]] = field(default_factory=dict)


def left_behind(
    layout: Layout,
    directory: Path,
    numbers: Collection[int],
    advance: Callable[[int], None],
    opened: Opened = lambda _path: True,
) -> LeftBehind:
    """Read once what an interrupted export left in the volumes `numbers` in `directory`.

    `opened` gets the path of each volume before it is read, and says whether it is. `advance` gets the length of each step,
    and 0 between them; it may raise to stop. Raises OSError.
    """
    found, buffer = LeftBehind(), memoryview(bytearray(_AT_ONCE))
    readings: list[_VolumeReading] = []
    pieces = ((piece, number, placed) for placed in layout.blobs.values() for number, piece in enumerate(placed.pieces, 1))
    # The order of the archive is that of the places.
    for number, there in groupby(pieces, key=lambda each: each[0].volume):
        record = layout.volumes[number - 1]
        if number in numbers and opened(directory / record.name):
            readings.append(_VolumeReading(directory / record.name, number, numbers, found.begun, advance))
            found.complete += readings[-1].read(record.data_size, there, buffer)
    whole = {digest for digest in found.complete if len(layout.blobs[digest].pieces) > 1}
    found.checksums = {reading.number: reading.checksum(whole) for reading in readings}
    # Which byte of a blob with a wrong digest is wrong is not known, so all of them are fetched again.
    found.begun = {digest: begun for digest, begun in found.begun.items() if begun.size < layout.blobs[digest].descriptor.size}
    return found


class _VolumeReading:
    """The one reading of a volume: for the digests of its blobs, and for its checksum. `found`: blobs that were begun."""

    def __init__(
        self, path: Path, number: int, numbers: Collection[int], found: dict[Digest, Begun], advance: Callable[[int], None]
    ) -> None:
        self._path = path
        self.number = number
        self._numbers = numbers
        self._found = found
        self._advance = advance
        self._checksum = _Checkpoints()
        self._is_whole = True  # up to the last piece that was read
        self._split: tuple[Digest, int] | None = None  # a blob that ends in a later volume, and the end of its piece here

    def read(self, data_size: int, pieces: Iterable[tuple[Piece, int, PlacedBlob]], buffer: memoryview) -> list[Digest]:
        """Return the blobs that are complete with their pieces here. Raises OSError."""
        complete: list[Digest] = []
        with _opened(self._path) as (file, direct):
            # Places that were reserved, and never written, are not there on a file system that cannot reserve.
            size = min(data_size, direct_io.size_of(file))
            with SinglePass(file, direct, size, self._checksum.take, self._advance) as once:
                for piece, number, placed in pieces:
                    self._advance(0)
                    if self._is_complete(file, once, placed, number, buffer):
                        complete.append(placed.descriptor.digest)
                        self._found.pop(placed.descriptor.digest, None)
                        if self._is_whole:
                            self._checksum.settled = extent(piece)[1]
                    elif self._is_whole:
                        self._end(once, piece, placed)
        return complete

    def checksum(self, whole: Collection[Digest]) -> tuple[Hasher, int]:
        """Return the checksum up to the end of the complete blobs, with its position; `whole`: those in several pieces."""
        if self._split is not None and self._split[0] in whole:
            self._checksum.settled = self._split[1]
        return self._checksum.last()

    def _is_complete(self, file: int, once: SinglePass, placed: PlacedBlob, number: int, buffer: memoryview) -> bool:
        if any(piece.volume not in self._numbers for piece in placed.pieces):
            return False  # a blob with a piece in another part cannot be verified here
        # Behind the first incomplete blob most places may be empty: a small read for each, and no step of 2 MiB.
        if not _has_header(once.read if self._is_whole else partial(_read_small, file), placed, number):
            return False
        if placed.encoding is Encoding.ZSTD:
            return self._is_compressed(file, once, placed)
        begun = self._found.get(placed.descriptor.digest) or Begun()
        begun.take(once, placed, number, buffer)
        if begun.size:
            self._found[placed.descriptor.digest] = begun
        return begun.complete

    def _is_compressed(self, file: int, once: SinglePass, placed: PlacedBlob) -> bool:
        """Say whether a blob is there as one compressed frame."""
        piece, hasher = placed.pieces[0], Hasher()
        try:
            # Its blocks are visited before they are decompressed: not in order, so not from the single pass.
            for chunk in read_frame(file, piece.offset, piece.stored, piece.size):
                self._advance(0)  # a frame may decompress to a thousand times its bytes, which no step of the file ends
                hasher.update(chunk)
        except ContentError:
            return False
        padding = _is_there(once.read, padding_frame(piece.size), piece.offset + piece.stored)
        return padding and hasher.digest() == placed.descriptor.digest

    def _end(self, once: SinglePass, piece: Piece, placed: PlacedBlob) -> None:
        """Note that what comes from a piece on will be written again, unless it is the first one of a split blob."""
        self._is_whole = False
        if piece.volume == placed.pieces[-1].volume:
            once.stop_taking()
        else:
            self._split = placed.descriptor.digest, extent(piece)[1]


@contextmanager
def _opened(path: Path) -> Iterator[tuple[int, int]]:
    """Open a volume for reading, also as its medium has it, flushed. Raises OSError."""
    with ExitStack() as stack:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        stack.callback(os.close, file)
        direct = direct_io.open_medium(path)
        stack.callback(os.close, direct)
        yield file, direct


def _read_small(file: int, begin: int, end: int) -> memoryview:
    return memoryview(read_exactly(file, end - begin, begin))


class _Checkpoints:
    """A checksum in steps, which can return to the last step that has only settled bytes; used by one thread at a time."""

    def __init__(self) -> None:
        self.settled = 0  # before it nothing will be written again; set by another thread
        self._hasher = Hasher()
        self._position = 0
        self._earlier: deque[tuple[Hasher, int]] = deque()

    def take(self, chunk: memoryview) -> None:
        """Add the next bytes."""
        self._earlier.append((self._hasher.copy(), self._position))
        # A large blob is complete many steps after its beginning.
        while len(self._earlier) > 1 and self._earlier[1][1] <= self.settled:
            self._earlier.popleft()
        self._hasher.update(chunk)
        self._position += len(chunk)

    def last(self) -> tuple[Hasher, int]:
        """Return the checksum of as many settled bytes as possible, and their number."""
        states = [(self._hasher, self._position), *reversed(self._earlier)]
        return next(state for state in states if state[1] <= self.settled)


def _joined(blocks: Iterable[memoryview], buffer: memoryview) -> Iterator[memoryview]:
    """Yield the same bytes in larger pieces, copied into a buffer.

    Hashing releases the lock of the interpreter, and gets it back when a thread that makes the plan leaves it, or after 5 ms
    (`sys.getswitchinterval`). Block by block this wait is longer than the hashing; a copy of the block is a tenth of it.
    """
    size, is_any = 0, False
    for block in blocks:
        is_any = True
        if size + len(block) > len(buffer):
            yield buffer[:size]
            size = 0
        buffer[size : size + len(block)] = block
        size += len(block)
    if is_any:
        yield buffer[:size]


def _has_header(view: View, placed: PlacedBlob, number: int) -> bool:
    # The name in the header has the digest: bytes of another blob are never taken for this one.
    piece = placed.pieces[number - 1]
    name = entry_name(placed.descriptor.digest, number, len(placed.pieces))
    return _is_there(view, header_frame(name, piece.size), extent(piece)[0])


def _is_there(view: View, wanted: bytes, offset: int) -> bool:
    try:
        return view(offset, offset + len(wanted)) == wanted
    except ContentError:
        return False


class PreviousVolumes:
    """The volumes of one previous export; their files are closed with `stack`. Thread-safe."""

    def __init__(self, export: PreviousExport, stack: ExitStack) -> None:
        self._layout = export.layout
        self._files: dict[int, int] = {}
        for number, volume in enumerate(export.layout.volumes, 1):
            path = export.directory / volume.name
            # Some may have been removed, or never created before the export was interrupted.
            if path.is_file() and not path.is_symlink():
                self._files[number] = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
                stack.callback(os.close, self._files[number])

    def move(self, blob: Descriptor, write: Callable[[Chunks], None]) -> bool:
        """Pass a whole blob to `write`, and free its room; False when it is absent or not whole."""
        placed = self._layout.blobs.get(blob.digest)
        # Only raw frames: a compressed blob is small, and may be planned uncompressed now.
        if placed is None or placed.encoding is not Encoding.RAW or any(p.volume not in self._files for p in placed.pieces):
            return False
        try:
            write(verified(self._read(placed), blob))
        except ContentError as error:
            _LOG.debug("%s: not whole in the earlier export: %s", blob.digest, error.message)
            return False
        for piece in placed.pieces:
            start, end = extent(piece)
            # Punching the hole keeps the disk from needing room for two archives.
            direct_io.release(self._file(piece), start, end - start)
        return True

    def _read(self, placed: PlacedBlob) -> Chunks:
        for piece in placed.pieces:
            yield from read_raw(self._file(piece), piece.offset, piece.size)

    def _file(self, piece: Piece) -> int:
        return self._files[piece.volume]
