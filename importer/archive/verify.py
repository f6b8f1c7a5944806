"""Verification of an archive: every byte of the available volumes, or with `quick` structure and completeness.

A full check reads each volume once, in order: tar headers, frames, padding, metadata and footer are compared with those that a
writer makes, blobs with their digests, the file with SHA256SUMS where that is present. One damage never hides the next.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from common import files
from common.archive import frames, inventory_file, metadata, parity
from common.archive.direct_io import File, read_exactly, read_some, size_of
from common.archive.frames import position as raw_position
from common.archive.frames import read_raw
from common.archive.inventory import MAX_SIZE, BlobRecord, Encoding, Piece, needed_by
from common.archive.layout import extent
from common.archive.location import opened
from common.archive.signature import MAX_SIGNATURE
from common.archive.volume import (
    CLOSING_SIZE,
    END_MARK,
    OPENING,
    TAR_BLOCK,
    Footer,
    entry_name,
    header_frame,
    octal,
    padded,
    padding,
    padding_frame,
    tar_header,
)
from common.errors import ArchiveDamagedError, ContentError, InterruptedByUserError, MediumGoneError
from common.oci.image import Digest, Hasher, digest_of, hex_of
from common.progress import Progress, Silent
from common.text import counted
from importer.archive.checksum_files import NOTHING, ChecksumFiles, Neighbours, is_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from common.archive.signature import SignatureState
    from common.content import Chunk
    from importer.archive.reader import ArchiveReader, MetadataIndex


_CHECK_STEP = 256 * 1024  # what one read adds to a checksum; a check that is stopped ends after one of them
_STEP = 1024 * 1024


class VolumeStatus(StrEnum):
    """The state of a volume after a check."""

    OK = "ok"
    MISSING = "missing"
    DAMAGED = "damaged"


class VolumeResult(NamedTuple):
    """A volume of the archive and its state after a check."""

    name: str
    status: VolumeStatus


@dataclass(frozen=True, slots=True)
class BadBlob:
    """A blob whose content has another digest; `offset` is that of its content frame in the volume."""

    digest: Digest
    volume: str
    offset: int
    needed_by: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """The result of a check. `checked` counts blobs; `damage` has one line for each error, for people.

    `repairable`: the damaged volumes that have a parity file next to them. `neighbours`: what is next to the volumes and
    not signed with the given key.
    """

    inventory: Digest
    signature: SignatureState
    volumes: tuple[VolumeResult, ...]
    checked: int
    bad: tuple[BadBlob, ...]
    damage: tuple[str, ...]
    is_trusted: bool = True
    repairable: tuple[str, ...] = ()
    neighbours: Neighbours = NOTHING

    @property
    def ok(self) -> bool:
        """Whether all volumes are present, nothing is damaged, and the signature is valid where a key was given."""
        complete = all(volume.status is VolumeStatus.OK for volume in self.volumes)
        return complete and self.is_trusted and not self.damage and not self.bad and not self.neighbours.unvouched

    def document(self) -> dict[str, Any]:
        """Return the JSON of `verify` (docs/cli.md)."""
        bad = [{"digest": b.digest, "volume": b.volume, "offset": b.offset, "neededBy": list(b.needed_by)} for b in self.bad]
        return {
            "ok": self.ok,
            "inventory": self.inventory,
            "signature": self.signature,
            "volumes": [{"name": volume.name, "status": volume.status.value} for volume in self.volumes],
            "blobs": {"checked": self.checked, "bad": bad},
        } | self.neighbours.document()


def verify(archive: ArchiveReader, *, quick: bool = False, jobs: int = 2, progress: Progress | None = None) -> VerifyResult:
    """Check the available volumes, `jobs` at a time; `quick` leaves the content out. Damage is a result, not an error."""
    progress = progress or Silent()
    sums = ChecksumFiles(archive.found, quick=quick)
    size = 0 if quick else sum(archive.inventory.volumes[number - 1].data_size for number in archive.found.volumes)
    progress.begin(f"checking {counted(len(archive.found.volumes), 'volume')}", size)
    pieces = {} if quick else _pieces(archive)
    # Threads, not processes: hashing and decompression release the GIL.
    checks = [
        CheckedVolume(archive, number, pieces.get(number, ()), sums.expected(volume.path), progress)
        for number, volume in archive.found.volumes.items()
    ]
    with ThreadPoolExecutor(max(jobs, 1), thread_name_prefix="verify") as pool:
        try:
            results = list(pool.map(lambda check: check.run(quick=quick), checks))
            joined = [] if quick else list(pool.map(lambda digest: _check_split(archive, digest), _split_blobs(archive)))
        finally:
            # Ctrl-C reaches the main thread alone; without this, the pool would read its volumes to their end.
            for check in checks:
                check.stop()
            pool.shutdown(wait=True, cancel_futures=True)
    progress.end()
    split = [each for each in joined if each is not None]
    result = _result(archive, results, split, [*sums.damage, *sums.others()])
    return replace(result, neighbours=sums.neighbours())


def _split_blobs(archive: ArchiveReader) -> Iterator[Digest]:
    """Give the available blobs that are split over volumes: the check of a single volume cannot hash them."""
    for digest, record in archive.inventory.blobs.items():
        if len(record.pieces) > 1 and not archive.missing_volumes(digest):
            yield digest


def _check_split(archive: ArchiveReader, digest: Digest) -> tuple[Digest, str] | None:
    """Return the digest and the error of its content, if any; None where a medium is gone, which its volume says."""
    # The reader joins the pieces and verifies the digest; its error names all volumes that hold a piece.
    try:
        for _ in archive.content(digest):
            pass
    except MediumGoneError:
        return None
    except (ArchiveDamagedError, ContentError) as error:
        return digest, error.message
    return digest, ""


def _result(
    archive: ArchiveReader, results: Sequence[VolumeCheck], split: Sequence[tuple[Digest, str]], damage: Sequence[str]
) -> VerifyResult:
    bad = {digest: why for result in results for digest, why in result.bad.items()}
    # A split blob counts for the volume of its first piece: the digest cannot show which piece is damaged.
    bad.update((digest, why) for digest, why in split if why)
    holding_bad_split = {archive.inventory.blobs[digest].pieces[0].volume for digest, why in split if why}
    damaged = {result.number for result in results if result.damage or result.bad} | holding_bad_split
    lines = [f"{archive.inventory.volumes[r.number - 1].name}: {line}" for r in results for line in r.damage]
    return VerifyResult(
        inventory=archive.digest,
        signature=archive.found.signature,
        volumes=tuple(_statuses(archive, damaged)),
        checked=sum(result.checked for result in results) + len(split),
        bad=tuple(_bad(archive, bad)),
        is_trusted=archive.found.is_trusted,
        repairable=tuple(
            archive.inventory.volumes[number - 1].name for number in sorted(damaged) if _has_parity(archive, number)
        ),
        damage=(*lines, *(f"{digest}: {why}" for digest, why in sorted(bad.items())), *damage),
    )


def _has_parity(archive: ArchiveReader, number: int) -> bool:
    place = archive.found.volumes[number].path
    return is_file(place.with_name(place.name + parity.SUFFIX))


def _statuses(archive: ArchiveReader, damaged: set[int]) -> Iterator[VolumeResult]:
    for number, volume in enumerate(archive.inventory.volumes, 1):
        status = VolumeStatus.DAMAGED if number in damaged else VolumeStatus.OK
        yield VolumeResult(volume.name, status if number in archive.found.volumes else VolumeStatus.MISSING)


def _bad(archive: ArchiveReader, bad: dict[Digest, str]) -> Iterator[BadBlob]:
    # For the person who decides whether a damaged blob matters: the operators that need it.
    needs = needed_by(archive.inventory, bad) if bad else {}
    for digest in sorted(bad):
        piece = archive.inventory.blobs[digest].pieces[0]
        yield BadBlob(digest, archive.inventory.volumes[piece.volume - 1].name, piece.offset, needs[digest])


@dataclass(slots=True)
class VolumeCheck:
    """The result for one volume: `bad` blobs that are stored whole in it, and `damage` to everything around them."""

    number: int
    checked: int = 0
    bad: dict[Digest, str] = field(default_factory=dict)
    damage: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _StoredPiece:
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


def _pieces(archive: ArchiveReader) -> dict[int, list[_StoredPiece]]:
    """Return the pieces of blobs by volume, in one pass: an archive may have many volumes and many blobs."""
    found: dict[int, list[_StoredPiece]] = {}
    for digest, record in archive.inventory.blobs.items():
        for number, piece in enumerate(record.pieces, 1):
            found.setdefault(piece.volume, []).append(_StoredPiece(digest, record, number))
    # By offset: one pass over the file, since a seek on optical media takes a tenth of a second.
    for pieces in found.values():
        pieces.sort(key=lambda stored: stored.piece.offset)
    return found


class CheckedVolume:
    """The check of one volume, from its first byte to its footer.

    `pieces`: those of blobs, by offset; `checksum`: its entry in SHA256SUMS, if any.
    """

    def __init__(
        self, archive: ArchiveReader, number: int, pieces: Sequence[_StoredPiece], checksum: str | None, progress: Progress
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
            with opened(self._volume.path) as file:
                checksum = _SequentialChecksum(file, self._stop, self._progress, hashing=self._checksum is not None)
                if not quick:
                    self._check_content(file, checksum)
                if footer is not None:
                    self._attempt(lambda: self._check_metadata(file, footer))
                if not quick and self._checksum is not None and checksum.hexdigest() != self._checksum:
                    self._result.damage.append("its checksum is not the one in SHA256SUMS")
        except OSError as error:  # EIO on a scratched disc, or a medium that was removed: a result like any other
            self._result.damage.append(f"cannot be read: {files.medium_error(error)}")
        except MediumGoneError as error:
            self._result.damage.append(f"cannot be read: {error.message.removeprefix(f'{self._volume.path}: ')}")
        return self._result

    def _attempt(self, check: Callable[[], None]) -> None:
        # Each part on its own: a person who copies a volume again needs to know all of its damage, not the first byte of it.
        try:
            check()
        except (ContentError, OSError) as error:
            if files.medium_gone(self._volume.path, error):  # one line for the volume, not one for each of its blobs
                raise
            self._result.damage.append(str(error))

    def _check_content(self, file: File, checksum: _SequentialChecksum) -> None:
        self._attempt(lambda: _compare(file, 0, OPENING, "the entry oci-layout"))
        end = len(OPENING)  # of the part that is checked; a piece that starts later leaves a gap
        for stored in self._pieces:
            start, after = extent(stored.piece)
            self._attempt(partial(_check_gap, file, end, start, checksum))
            self._check_piece(file, stored, checksum)
            end = after
        self._attempt(lambda: _check_gap(file, end, self._data_size, checksum))

    def _check_piece(self, file: File, stored: _StoredPiece, checksum: _SequentialChecksum) -> None:
        piece = stored.piece
        start, _ = extent(piece)
        # Header and padding are known from the inventory, so they are compared as bytes instead of being parsed.
        self._attempt(lambda: _compare(file, start, header_frame(stored.name, piece.size), f"the tar header of {stored.name}"))
        try:
            got = _hash(file, stored, checksum)
            # Of a split blob only the frame is checked here; its digest is `_check_split`'s.
            if stored.whole and got != stored.digest:
                self._result.bad[stored.digest] = f"its content has digest {got}"
        except (ContentError, OSError) as error:
            if files.medium_gone(self._volume.path, error):
                raise
            self._result.bad[stored.digest] = str(error)
        self._result.checked += stored.whole
        after = piece.offset + piece.stored
        self._attempt(lambda: _compare(file, after, padding_frame(piece.size), f"the padding of {stored.name}"))

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


def _hash(file: File, stored: _StoredPiece, checksum: _SequentialChecksum) -> Digest:
    """Return the digest of a piece. Raises ContentError when its frame is damaged."""
    hasher = Hasher()
    for chunk, end in _content(file, stored):
        hasher.update(chunk)
        checksum.advance_to(end)
    return hasher.digest()


def _content(file: File, stored: _StoredPiece) -> Iterator[tuple[Chunk, int]]:
    """Give each chunk of a piece with the offset of its end in the file."""
    piece, done = stored.piece, 0
    if stored.record.encoding is Encoding.ZSTD:
        for compressed in frames.read_frame(file, piece.offset, piece.stored, piece.size):
            # The end of a chunk inside a compressed frame is not known; the checksum catches up at the next piece.
            yield compressed, piece.offset
        return
    for chunk in read_raw(file, piece.offset, piece.size):
        done += len(chunk)
        yield chunk, piece.offset + raw_position(done - 1) + 1


def _compare(file: File, offset: int, expected: bytes, what: str) -> None:
    if read_exactly(file, len(expected), offset) != expected:
        raise ContentError(f"{what} is damaged, at offset {offset}")


def _check_gap(file: File, start: int, end: int, checksum: _SequentialChecksum) -> None:
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
            checksum.advance_to(position + len(part))
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


class _SequentialChecksum:
    """The checksum of a volume, computed close behind the offset that the check reads, so that the page cache still has it.

    Without `hashing`, for volumes that SHA256SUMS does not list, it only counts bytes for the progress display.
    """

    def __init__(self, file: File, stop: threading.Event, progress: Progress, *, hashing: bool) -> None:
        self._file = file
        self._hashing = hashing
        self._stop = stop
        self._progress = progress
        self._hasher = Hasher()
        self._position = 0

    def advance_to(self, end: int) -> None:
        """Add the bytes up to `end`, or to the end of the file."""
        while self._position < end:
            # The finest step that every part of the check goes through, so Ctrl-C ends a check of 50 GB at once.
            if self._stop.is_set():
                raise InterruptedByUserError("stopped")
            size = min(_CHECK_STEP, end - self._position)
            if self._hashing:
                chunk = read_some(self._file, size, self._position)
                if not chunk:
                    return
                self._hasher.update(chunk)
                size = len(chunk)
            self._position += size
            self._progress.advance(size)

    def hexdigest(self) -> str:
        """Return the checksum (64 hex digits) of the whole file."""
        self.advance_to(size_of(self._file))
        return hex_of(self._hasher.digest())
