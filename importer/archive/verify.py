"""Proving an archive: every byte of every volume at hand against the inventory, or quickly only what holds it together.

A full check reads each volume once, in order: tar headers, frames, padding, metadata and footer are compared with what a writer
makes, blobs with their digests, the file with SHA256SUMS where that is here. One damage never hides the next. Signatures are
`signature.py`'s, mending is parity's.
"""

from __future__ import annotations

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from common.archive import checksums, frames, inventory_file, location, metadata, parity
from common.archive.direct_io import File, read_exactly, read_some, size_of
from common.archive.frames import position as raw_position
from common.archive.frames import read_raw
from common.archive.inventory import MAX_SIZE, BlobRecord, Encoding, Piece, needed_by
from common.archive.layout import extent
from common.archive.location import Place, opened
from common.archive.signature import MAX_SIGNATURE, SignatureState, Verifier
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
from common.errors import ArchiveDamagedError, ContentError, HubError, InterruptedByUserError
from common.oci.image import Digest, Hasher, digest_of, hex_of
from common.progress import Progress, Silent
from common.text import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from common.content import Chunk
    from importer.archive.reader import ArchiveReader

# The check of one volume, from its first byte to its footer (`verification.py` puts the volumes together).

_CHECK_STEP = 256 * 1024
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

    def __init__(self, archive: ArchiveReader, number: int, checksum: str | None, progress: Progress) -> None:
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
        for position in range(start, start + size, _CHECK_STEP):
            part = read_exactly(file, min(_CHECK_STEP, start + size - position), position)
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
            size = min(_CHECK_STEP, end - self._position)
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


_STEP = 1024 * 1024


class VolumeStatus(StrEnum):
    """What a check found of a volume."""

    OK = "ok"
    MISSING = "missing"
    DAMAGED = "damaged"


class VolumeResult(NamedTuple):
    """A volume of the archive and what a check found of it."""

    name: str
    status: VolumeStatus


@dataclass(frozen=True, slots=True)
class BadBlob:
    """A blob that is not what its digest says; `offset` is the place of its content frame in the volume."""

    digest: Digest
    volume: str
    offset: int
    needed_by: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """What a check found. `checked` counts blobs; `damage` tells people, one line for each thing that is wrong.

    `mendable`: the damaged volumes that have parity beside them.
    """

    inventory: Digest
    signature: SignatureState
    volumes: tuple[VolumeResult, ...]
    checked: int
    bad: tuple[BadBlob, ...]
    damage: tuple[str, ...]
    is_trusted: bool = True
    mendable: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """All volumes are here, nothing is damaged, and the signature is what was asked for."""
        here = all(volume.status is VolumeStatus.OK for volume in self.volumes)
        return here and self.is_trusted and not self.damage and not self.bad

    def document(self) -> dict[str, Any]:
        """Return the JSON of `verify` (docs/cli.md)."""
        bad = [{"digest": b.digest, "volume": b.volume, "offset": b.offset, "neededBy": list(b.needed_by)} for b in self.bad]
        return {
            "ok": self.ok,
            "inventory": self.inventory,
            "signature": self.signature,
            "volumes": [{"name": volume.name, "status": volume.status.value} for volume in self.volumes],
            "blobs": {"checked": self.checked, "bad": bad},
        }


def verify(archive: ArchiveReader, *, quick: bool = False, jobs: int = 2, progress: Progress | None = None) -> VerifyResult:
    """Check what is at hand, `jobs` volumes at a time; `quick` leaves the content out. Damage is a result, not an error."""
    progress = progress or Silent()
    sums = _Sums(() if quick else archive.found.checksums, archive.found.key)
    size = 0 if quick else sum(archive.inventory.volumes[number - 1].data_size for number in archive.found.volumes)
    progress.begin(f"checking {counted(len(archive.found.volumes), 'volume')}", size)
    checks = [
        CheckedVolume(archive, number, sums.expected(volume.path), progress) for number, volume in archive.found.volumes.items()
    ]
    with ThreadPoolExecutor(max(jobs, 1), thread_name_prefix="verify") as pool:
        try:
            results = list(pool.map(lambda check: check.run(quick=quick), checks))
            cut = [] if quick else list(pool.map(lambda digest: _check_cut(archive, digest), _cut(archive)))
        finally:
            for check in checks:
                check.stop()
            pool.shutdown(wait=True, cancel_futures=True)
    progress.end()
    return _result(archive, results, cut, [*sums.damage, *sums.others()])


def _cut(archive: ArchiveReader) -> Iterator[Digest]:
    """Give the blobs at hand that lie in several pieces: no single volume can prove them."""
    for digest, record in archive.inventory.blobs.items():
        if len(record.pieces) > 1 and not archive.missing_volumes(digest):
            yield digest


def _check_cut(archive: ArchiveReader, digest: Digest) -> tuple[Digest, str]:
    """Return the digest and what is wrong with it, if anything."""
    try:
        for _ in archive.content(digest):
            pass
    except (ArchiveDamagedError, ContentError) as error:
        return digest, error.message
    return digest, ""


def _result(
    archive: ArchiveReader, results: Sequence[VolumeCheck], cut: Sequence[tuple[Digest, str]], damage: Sequence[str]
) -> VerifyResult:
    bad = {digest: why for result in results for digest, why in result.bad.items()}
    bad.update((digest, why) for digest, why in cut if why)
    hurt = {archive.inventory.blobs[digest].pieces[0].volume for digest, why in cut if why}
    damaged = {result.number for result in results if result.damage or result.bad} | hurt
    lines = [f"{archive.inventory.volumes[r.number - 1].name}: {line}" for r in results for line in r.damage]
    return VerifyResult(
        inventory=archive.digest,
        signature=archive.found.signature,
        volumes=tuple(_statuses(archive, damaged)),
        checked=sum(result.checked for result in results) + len(cut),
        bad=tuple(_bad(archive, bad)),
        is_trusted=archive.found.is_trusted,
        mendable=tuple(
            archive.inventory.volumes[number - 1].name for number in sorted(damaged) if _has_parity(archive, number)
        ),
        damage=(*lines, *(f"{digest}: {why}" for digest, why in sorted(bad.items())), *damage),
    )


def _has_parity(archive: ArchiveReader, number: int) -> bool:
    place = archive.found.volumes[number].path
    return location.is_file(place.with_name(place.name + parity.SUFFIX))


def _statuses(archive: ArchiveReader, damaged: set[int]) -> Iterator[VolumeResult]:
    for number, volume in enumerate(archive.inventory.volumes, 1):
        status = VolumeStatus.DAMAGED if number in damaged else VolumeStatus.OK
        yield VolumeResult(volume.name, status if number in archive.found.volumes else VolumeStatus.MISSING)


def _bad(archive: ArchiveReader, bad: dict[Digest, str]) -> Iterator[BadBlob]:
    needs = needed_by(archive.inventory, bad) if bad else {}
    for digest in sorted(bad):
        piece = archive.inventory.blobs[digest].pieces[0]
        yield BadBlob(digest, archive.inventory.volumes[piece.volume - 1].name, piece.offset, needs[digest])


class _Sums:
    """The checksums beside the volumes: what each file should have, and what is wrong with the files that are no volumes."""

    def __init__(self, files: Sequence[Place], key: Verifier | None) -> None:
        self.damage: list[str] = []
        self._sums: dict[Place, dict[str, str]] = {}
        self._volumes: set[Place] = set()
        for path in files:
            try:
                raw = location.read(path, checksums.MAX_SIZE)
                if key is not None:
                    self._check_signature(path, raw, key)
                self._sums[path.parent.resolve()] = checksums.parse(raw)
            except (HubError, OSError) as error:
                self.damage.append(f"{path}: {error}")

    def _check_signature(self, path: Place, raw: bytes, key: Verifier) -> None:
        beside = path.with_name(checksums.SIGNATURE_NAME)
        if not location.is_file(beside):
            self.damage.append(f"{path}: is not signed: there is no {beside.name} beside it")
        elif not key.accepts(raw, location.read(beside, MAX_SIGNATURE)):
            self.damage.append(f"{path}: its signature is not that of the key {key.fingerprint}")

    def expected(self, volume: Place) -> str | None:
        """Return the checksum that a volume should have; None where nothing says."""
        self._volumes.add(volume.resolve())
        listed = self._sums.get(volume.parent.resolve())
        if listed is not None and volume.name not in listed:
            self.damage.append(f"{volume}: {checksums.NAME} beside it does not list it")
        return (listed or {}).get(volume.name)

    def others(self) -> Iterator[str]:
        """Give a line for each other listed file that is here and has another checksum."""
        for directory, sums in self._sums.items():
            if inventory_file.NAME not in sums and location.is_file(directory / inventory_file.NAME):
                yield f"{directory / inventory_file.NAME}: {checksums.NAME} beside it does not list it"
            for name, wanted in sums.items():
                path = directory / name
                if path not in self._volumes and location.is_file(path) and _checksum(path) != wanted:
                    yield f"{path}: its checksum is not the one in {checksums.NAME}"


def _checksum(place: Place) -> str:
    hasher, position = hashlib.sha256(), 0
    with location.opened(place) as file:
        while chunk := read_some(file, _STEP, position):
            hasher.update(chunk)
            position += len(chunk)
    return hasher.hexdigest()
