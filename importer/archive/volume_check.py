"""The check of one volume, from its first byte to its footer: tar headers, frames, padding, metadata, and blobs by digest.

One damage never hides the next.
"""

from __future__ import annotations

import logging
import threading
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from common import files
from common.archive import frames, inventory_file, metadata
from common.archive.direct_io import File, opened_direct, read_exactly, read_some, size_of
from common.archive.frames import raw_blocks
from common.archive.inventory import MAX_SIZE, BlobRecord, Encoding, Piece
from common.archive.location import opened
from common.archive.signature import MAX_SIGNATURE
from common.archive.single_pass import SinglePass
from common.archive.volume import (
    CLOSING_SIZE,
    END_MARK,
    OPENING,
    TAR_BLOCK,
    Footer,
    entry_name,
    extent,
    header_frame,
    octal,
    padded,
    padding,
    padding_frame,
    tar_header,
)
from common.errors import ContentError, InterruptedByUserError, MediumGoneError
from common.oci.image import Digest, Hasher, digest_of, hex_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from common.archive.reader import ArchiveReader, MetadataIndex
    from common.content import Chunk
    from common.progress import Progress


_CHECK_STEP = 256 * 1024  # what one read adds to a checksum; a check that is stopped ends after one of them
_LOG = logging.getLogger(__name__)


@dataclass(slots=True)
class VolumeCheck:
    """The result for one volume: `bad` blobs that are stored whole in it, and `damage` to everything around them."""

    number: int
    checked: int = 0
    bad: dict[Digest, str] = field(default_factory=dict)
    damage: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class StoredPiece:
    """A piece of a blob, as a volume has it; `number` from 1."""

    digest: Digest
    record: BlobRecord
    number: int

    @property
    def piece(self) -> Piece:
        """Its place in the volume."""
        return self.record.pieces[self.number - 1]

    @property
    def whole(self) -> bool:
        """Whether it is all of its blob."""
        return len(self.record.pieces) == 1

    @property
    def name(self) -> str:
        """The name of its tar entry."""
        return entry_name(self.digest, self.number, len(self.record.pieces))


def pieces_of(archive: ArchiveReader) -> dict[int, list[StoredPiece]]:
    """Return the pieces of blobs by volume, in one pass: an archive may have many volumes and many blobs."""
    found: dict[int, list[StoredPiece]] = {}
    for digest, record in archive.inventory.blobs.items():
        for number, piece in enumerate(record.pieces, 1):
            found.setdefault(piece.volume, []).append(StoredPiece(digest, record, number))
    # By offset: one pass over the file, since a seek on optical media takes a tenth of a second.
    for pieces in found.values():
        pieces.sort(key=lambda stored: stored.piece.offset)
    return found


class CheckedVolume:
    """The check of one volume, from its first byte to its footer.

    `pieces`: those of blobs, by offset; `checksum`: its entry in SHA256SUMS, if any.
    """

    def __init__(
        self, archive: ArchiveReader, number: int, pieces: Sequence[StoredPiece], checksum: str | None, progress: Progress
    ) -> None:
        self._archive = archive
        self._pieces = pieces
        self._volume = archive.found.volumes[number]
        self._data_size = archive.inventory.volumes[number - 1].data_size
        self._checksum = checksum
        self._progress = progress
        self._stop = threading.Event()
        self._result = VolumeCheck(number)

    def stop(self) -> None:
        """Make a running check end at its next chunk."""
        self._stop.set()

    def run(self, *, quick: bool) -> VolumeCheck:
        """Run the check. Raises InterruptedByUserError after `stop`."""
        # Without a footer the metadata cannot be located; the content still can, from another volume's inventory.
        footer = self._volume.footer
        if footer is None:
            self._result.damage.append(self._volume.damage)
        try:
            with opened(self._volume.path) as file, self._reading(file, quick=quick) as reading:
                if reading is not None:
                    self._check_content(reading)
                if footer is not None:
                    self._attempt(lambda: self._check_metadata(file, footer))
                if reading is not None and self._checksum is not None and reading.checksum() != self._checksum:
                    self._result.damage.append("its checksum is not the one in SHA256SUMS")
        except OSError as error:  # EIO on a scratched disc, or a medium that was removed: a result like any other
            self._result.damage.append(f"cannot be read: {files.medium_error(error)}")
        except MediumGoneError as error:
            self._result.damage.append(f"cannot be read: {error.message.removeprefix(f'{self._volume.path}: ')}")
        return self._result

    @contextmanager
    def _reading(self, file: File, *, quick: bool) -> Iterator[_Reading | None]:
        """Give the one reading of the volume; None where its content is not checked."""
        if quick:
            yield None
            return
        # Past the page cache, unless most of it is there: an archive that was just copied, or verified by another program.
        path, size = self._volume.path, size_of(file)
        past_cache = opened_direct(path, 0, size) if isinstance(path, Path) else nullcontext()
        # A file of its own for the thread that reads ahead: one in object storage is for one thread.
        with opened(path) as ahead, past_cache as direct:
            reading = _Reading(file, ahead, direct, self._advance, hashing=self._checksum is not None)
            try:
                yield reading
            finally:
                reading.close()

    def _advance(self, size: int) -> None:
        # The finest step that every part of the check goes through, so Ctrl-C ends a check of 50 GB at once.
        if self._stop.is_set():
            raise InterruptedByUserError("stopped")
        self._progress.advance(size)

    def _attempt(self, check: Callable[[], None]) -> None:
        # Each part on its own: a person who copies a volume again needs to know all of its damage, not the first byte of it.
        try:
            check()
        except (ContentError, OSError) as error:
            if files.medium_gone(self._volume.path, error):  # one line for the volume, not one for each of its blobs
                raise
            self._result.damage.append(str(error))

    def _check_content(self, reading: _Reading) -> None:
        self._attempt(lambda: _compare(reading, 0, OPENING, "the entry oci-layout"))
        end = len(OPENING)  # of the part that is checked; a piece that starts later leaves a gap
        for stored in self._pieces:
            start, after = extent(stored.piece)
            self._attempt(partial(_check_gap, reading, end, start))
            self._check_piece(reading, stored)
            end = after
        self._attempt(lambda: _check_gap(reading, end, self._data_size))

    def _check_piece(self, reading: _Reading, stored: StoredPiece) -> None:
        piece = stored.piece
        start, _ = extent(piece)
        # Header and padding are known from the inventory, so they are compared as bytes instead of being parsed.
        header = header_frame(stored.name, piece.size)
        self._attempt(lambda: _compare(reading, start, header, f"the tar header of {stored.name}"))
        try:
            got = _hash(reading, stored)
            # Of a split blob only the frame is checked here; its digest is `_check_split`'s.
            if stored.whole and got != stored.digest:
                self._result.bad[stored.digest] = f"its content has digest {got}"
        except (ContentError, OSError) as error:
            if files.medium_gone(self._volume.path, error):
                raise
            self._result.bad[stored.digest] = str(error)
        self._result.checked += stored.whole
        after = piece.offset + piece.stored
        self._attempt(lambda: _compare(reading, after, padding_frame(piece.size), f"the padding of {stored.name}"))

    def _check_metadata(self, file: File, footer: Footer) -> None:
        index = self._archive.scan(self._result.number)
        try:
            self._check_entries(file, index)
        finally:
            index.forget()
        self._check_inventory(file, footer, index.inventory_size)

    def _check_entries(self, file: File, index: MetadataIndex) -> None:
        inventory = self._archive.inventory
        # Reading a manifest verifies its digest; `index.json` follows from the inventory, so its bytes can be compared.
        for digest in index.ordered(inventory.manifests):
            index.manifest(file, digest, inventory.manifests[digest].size)
        index_json = metadata.index_json(inventory.images, inventory.manifests)
        if index.index_json(file, len(index_json)) != index_json:
            raise ContentError("its index.json is not that of the inventory")

    def _check_inventory(self, file: File, footer: Footer, size: int) -> None:
        # Bounded by what the header says, and by the format's limit: a frame may claim to decompress to terabytes.
        raw = frames.decompress(read_exactly(file, footer.inventory_stored, footer.inventory_offset), min(size, MAX_SIZE))
        if digest_of(raw) != self._archive.digest or len(raw) != size:
            raise ContentError("its copy of the inventory is damaged")
        end = size_of(file) - CLOSING_SIZE
        _check_tail(_decompressed(file, footer.inventory_offset + footer.inventory_stored, end), padding(size))
        _compare(file, end, END_MARK, "the tar end mark")


def _hash(reading: _Reading, stored: StoredPiece) -> Digest:
    """Return the digest of a piece. Raises ContentError when its frame is damaged."""
    hasher, piece = Hasher(), stored.piece
    chunks: Iterator[Chunk]
    if stored.record.encoding is Encoding.ZSTD:
        # A document of some KiB, whose blocks are visited before they are decompressed: not in order.
        chunks = frames.read_frame(reading.file, piece.offset, piece.stored, piece.size)
    else:
        chunks = raw_blocks(reading.view, piece.offset, piece.size)
    for chunk in chunks:
        hasher.update(chunk)
    return hasher.digest()


def _compare(file: File, offset: int, expected: bytes, what: str) -> None:
    if read_exactly(file, len(expected), offset) != expected:
        raise ContentError(f"{what} is damaged, at offset {offset}")


def _check_gap(file: File, start: int, end: int) -> None:
    """Check that there are only zeroed skippable frames between two offsets: the space of blobs that could not be fetched."""
    # Anything else there would be bytes that no digest covers.
    while start < end:
        head = read_exactly(file, frames.SKIPPABLE_HEADER, start)
        size = int.from_bytes(head[4:], "little")
        if head[:4] != frames.PLACEHOLDER_MAGIC or start + len(head) + size > end:
            raise ContentError(f"the space of a missing blob is damaged, at offset {start}")
        start += len(head)
        for position in range(start, start + size, _CHECK_STEP):
            part = read_exactly(file, min(_CHECK_STEP, start + size - position), position)
            if part.count(0) != len(part):
                raise ContentError(f"the space of a missing blob is not empty, at offset {position}")
        start += size


def _decompressed(file: File, start: int, end: int) -> bytes:
    """Return the content of the frames after the inventory's: padding, and the entry of a signature."""
    # At most four tar blocks, so that a damaged or forged tail cannot fill the memory.
    content = b""
    while start < end:
        after = frames.frame_end(file, start, end)
        content += frames.decompress(read_exactly(file, after - start, start), 4 * TAR_BLOCK)
        start = after
        if len(content) > 4 * TAR_BLOCK:
            raise ContentError("entries behind the inventory's")
    return content


def _check_tail(tail: bytes, pad: int) -> None:
    """Check the bytes after the inventory: padding, and in a signed archive the entry of its signature."""
    rest = tail[pad:]
    size = octal(rest[124:135]) or 0
    signature = rest[TAR_BLOCK : TAR_BLOCK + size]
    entry = tar_header(inventory_file.SIGNATURE_NAME, size) + padded(signature) if rest else b""
    if any(tail[:pad]) or len(tail) < pad or size > MAX_SIGNATURE or rest != entry:
        raise ContentError("entries behind the inventory's")


class _Reading:
    """The one reading of a volume, for its check and, in another thread, for its checksum.

    A sector that cannot be read costs its own bytes alone: then ranges are read one by one, and so is the rest for the
    checksum. Without `hashing`, for volumes that SHA256SUMS does not list, there is no checksum.
    """

    def __init__(self, file: File, ahead: File, direct: int | None, advance: Callable[[int], None], *, hashing: bool) -> None:
        self.file = file
        self.size = size_of(file)
        self._advance = advance
        self._hasher = Hasher()
        self._pass = SinglePass(ahead, direct, self.size, self._hasher.update if hashing else None, advance)

    def view(self, begin: int, end: int) -> memoryview:
        """Return a range, valid until the next call. Raises OSError, ContentError at the end of the file."""
        try:
            return self._pass.read(begin, end)
        except (OSError, ContentError):
            self._advance(0)  # raises after Ctrl-C, also where nothing can be read
            return memoryview(read_exactly(self.file, end - begin, begin))

    def read(self, size: int, offset: int) -> bytes:
        """Return `size` bytes at `offset`, fewer only at the end; see `Ranges`."""
        return bytes(self.view(offset, min(offset + size, self.size))) if offset < self.size else b""

    def checksum(self) -> str:
        """Return the checksum (64 hex digits) of the whole file, when its check is done. Raises OSError."""
        try:
            self._pass.drain()
        except (OSError, ContentError):
            _LOG.debug("the rest is read in small steps", exc_info=True)
        position = self._pass.close()
        while chunk := read_some(self.file, _CHECK_STEP, position):
            self._advance(len(chunk))
            self._hasher.update(chunk)
            position += len(chunk)
        return hex_of(self._hasher.digest())

    def close(self) -> None:
        """Wait for the threads, which use the file."""
        self._pass.close()
