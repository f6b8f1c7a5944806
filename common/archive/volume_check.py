"""The check of one volume, from its first byte to its footer (`verification.py` puts the volumes together)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

from common.archive import frames, metadata
from common.archive.disk import File, read_exactly, read_some, size_of
from common.archive.inventory import MAX_SIZE, BlobRecord, Encoding, Piece
from common.archive.layout import extent
from common.archive.media import opened
from common.archive.raw_blocks import position as raw_position
from common.archive.raw_blocks import read_raw
from common.archive.reader import Archive
from common.archive.volume import (
    CLOSING_SIZE,
    END_MARK,
    OPENING,
    TAR_BLOCK,
    Footer,
    entry_name,
    header_frame,
    padded,
    padding,
    padding_frame,
    tar_header,
)
from common.content import Chunk
from common.digest import Digest, Hasher, digest_of, hex_of
from common.errors import ContentError, InterruptedByUserError
from common.progress import Progress

_STEP = 256 * 1024
_MAX_SIGNATURE = 1024


@dataclass(slots=True)
class VolumeCheck:
    """What was found: `bad` blobs that lie whole in this volume, and `damage` to everything around them."""

    number: int
    checked: int = 0
    bad: dict[Digest, str] = field(default_factory=dict)
    damage: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Place:
    digest: Digest
    record: BlobRecord
    number: int  # of the piece, from 1

    @property
    def piece(self) -> Piece:
        return self.record.pieces[self.number - 1]

    @property
    def whole(self) -> bool:
        return len(self.record.pieces) == 1

    @property
    def name(self) -> str:
        return entry_name(self.digest, self.number, len(self.record.pieces))


class CheckedVolume:
    """A volume to be checked. `checksum`: what SHA256SUMS says of the file, if anything."""

    def __init__(self, archive: Archive, number: int, checksum: str | None, progress: Progress) -> None:
        self._archive = archive
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
        """Check, and return what was found. Raises InterruptedByUserError after `stop`."""
        footer = self._volume.footer
        if footer is None:
            self._result.damage.append(self._volume.damage)
        try:
            with opened(self._volume.path) as file:
                tape = _Tape(file, self._stop, self._progress, hashing=self._checksum is not None)
                if not quick:
                    self._check_content(file, tape)
                if footer is not None:
                    self._attempt(lambda: self._check_metadata(file, footer))
                if not quick and self._checksum is not None and tape.checksum() != self._checksum:
                    self._result.damage.append("its checksum is not the one in SHA256SUMS")
        except OSError as error:
            self._result.damage.append(f"cannot be read: {error}")
        return self._result

    def _attempt(self, check: Callable[[], None]) -> None:
        try:
            check()
        except (ContentError, OSError) as error:
            self._result.damage.append(str(error))

    def _check_content(self, file: File, tape: _Tape) -> None:
        self._attempt(lambda: _compare(file, 0, OPENING, "the entry oci-layout"))
        end = len(OPENING)
        for place in self._places():
            start, after = extent(place.piece)
            self._attempt(partial(_check_gap, file, end, start, tape))
            self._check_place(file, place, tape)
            end = after
        self._attempt(lambda: _check_gap(file, end, self._data_size, tape))

    def _places(self) -> list[_Place]:
        found = [
            _Place(digest, record, number)
            for digest, record in self._archive.inventory.blobs.items()
            for number, piece in enumerate(record.pieces, 1)
            if piece.volume == self._result.number
        ]
        return sorted(found, key=lambda place: place.piece.offset)

    def _check_place(self, file: File, place: _Place, tape: _Tape) -> None:
        piece = place.piece
        start, _ = extent(piece)
        self._attempt(lambda: _compare(file, start, header_frame(place.name, piece.size), f"the tar header of {place.name}"))
        try:
            got = _hash(file, place, tape)
            if place.whole and got != place.digest:
                self._result.bad[place.digest] = f"its content has digest {got}"
        except (ContentError, OSError) as error:
            self._result.bad[place.digest] = str(error)
        self._result.checked += place.whole
        after = piece.offset + piece.stored
        self._attempt(lambda: _compare(file, after, padding_frame(piece.size), f"the padding of {place.name}"))

    def _check_metadata(self, file: File, footer: Footer) -> None:
        inventory = self._archive.inventory
        index = self._archive.scan(self._result.number)
        names = {metadata.INDEX_NAME, *map(entry_name, inventory.manifests)}
        if index.names() != names:
            raise ContentError(f"its metadata has other entries than the inventory lists: {sorted(index.names() ^ names)[:3]}")
        for digest, record in inventory.manifests.items():
            index.manifest(file, digest, record.size)
        index_json = metadata.index_json(inventory.images, inventory.manifests)
        if index.index_json(file, len(index_json)) != index_json:
            raise ContentError("its index.json is not that of the inventory")
        self._check_inventory(file, footer, index.inventory_size)

    def _check_inventory(self, file: File, footer: Footer, size: int) -> None:
        raw = frames.decompress(read_exactly(file, footer.inventory_stored, footer.inventory_offset), min(size, MAX_SIZE))
        if digest_of(raw) != self._archive.digest or len(raw) != size:
            raise ContentError("its copy of the inventory is damaged")
        end = size_of(file) - CLOSING_SIZE
        _check_tail(_decompressed(file, footer.inventory_offset + footer.inventory_stored, end), padding(size))
        _compare(file, end, END_MARK, "the tar end mark")


def _hash(file: File, place: _Place, tape: _Tape) -> Digest:
    """Return the digest of a piece. Raises ContentError when its frame is damaged."""
    hasher = Hasher()
    for chunk, end in _content(file, place):
        hasher.update(chunk)
        tape.advance_to(end)
    return hasher.digest()


def _content(file: File, place: _Place) -> Iterator[tuple[Chunk, int]]:
    """Give each chunk of a piece with the place in the file where it ends."""
    piece, done = place.piece, 0
    if place.record.encoding is Encoding.ZSTD:
        for compressed in frames.read_frame(file, piece.offset, piece.stored, piece.size):
            yield compressed, piece.offset
        return
    for chunk in read_raw(file, piece.offset, piece.size):
        done += len(chunk)
        yield chunk, piece.offset + raw_position(done - 1) + 1


def _compare(file: File, offset: int, wanted: bytes, what: str) -> None:
    if read_exactly(file, len(wanted), offset) != wanted:
        raise ContentError(f"{what} is damaged, at offset {offset}")


def _check_gap(file: File, start: int, end: int, tape: _Tape) -> None:
    """Check that nothing but zeroed skippable frames lies between two places: blobs that could not be fetched."""
    while start < end:
        head = read_exactly(file, frames.SKIPPABLE_HEADER, start)
        size = int.from_bytes(head[4:], "little")
        if head[:4] != frames.PLACEHOLDER_MAGIC or start + len(head) + size > end:
            raise ContentError(f"the place of a missing blob is damaged, at offset {start}")
        start += len(head)
        for position in range(start, start + size, _STEP):
            part = read_exactly(file, min(_STEP, start + size - position), position)
            if part.count(0) != len(part):
                raise ContentError(f"the place of a missing blob is not empty, at offset {position}")
            tape.advance_to(position + len(part))
        start += size


def _decompressed(file: File, start: int, end: int) -> bytes:
    """Return the content of the few small frames behind the inventory's."""
    content = b""
    while start < end:
        after = frames.frame_end(file, start, end)
        content += frames.decompress(read_exactly(file, after - start, start), 4 * TAR_BLOCK)
        start = after
        if len(content) > 4 * TAR_BLOCK:
            raise ContentError("entries behind the inventory's")
    return content


def _check_tail(tail: bytes, pad: int) -> None:
    """Check what follows the inventory: padding, and where it is signed the entry of its signature."""
    rest = tail[pad:]
    size = int(rest[124:135], 8) if rest[124:135].isdigit() else 0
    signature = rest[TAR_BLOCK : TAR_BLOCK + size]
    entry = tar_header(metadata.SIGNATURE_NAME, size) + padded(signature) if rest else b""
    if any(tail[:pad]) or len(tail) < pad or size > _MAX_SIGNATURE or rest != entry:
        raise ContentError("entries behind the inventory's")


class _Tape:
    """A volume read once from its beginning: every byte goes into its checksum, close behind where the check reads.

    Without `hashing`, when nothing says what the checksum should be, it only counts.
    """

    def __init__(self, file: File, stop: threading.Event, progress: Progress, *, hashing: bool) -> None:
        self._file = file
        self._hashing = hashing
        self._stop = stop
        self._progress = progress
        self._hasher = Hasher()
        self._position = 0

    def advance_to(self, end: int) -> None:
        """Take in the bytes up to `end`, or to the end of the file."""
        while self._position < end:
            if self._stop.is_set():
                raise InterruptedByUserError("stopped")
            size = min(_STEP, end - self._position)
            if self._hashing:
                chunk = read_some(self._file, size, self._position)
                if not chunk:
                    return
                self._hasher.update(chunk)
                size = len(chunk)
            self._position += size
            self._progress.advance(size)

    def checksum(self) -> str:
        """Return the checksum (64 hex digits) of the whole file."""
        self.advance_to(size_of(self._file))
        return hex_of(self._hasher.digest())
