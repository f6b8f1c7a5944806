"""Proving an archive: every byte of every volume at hand against the inventory, or quickly only what holds it together.

A full check reads each volume once, in order: tar headers, frames, padding, metadata and footer are compared with what a writer
makes, blobs with their digests, the file with SHA256SUMS where that is here. One damage never hides the next. Signatures are
`signature.py`'s, mending is parity's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from common.archive import checksums, inventory_file, media, parity
from common.archive.disk import read_some
from common.archive.media import Place
from common.archive.needs import needed_by
from common.archive.opening import SignatureState
from common.archive.reader import Archive
from common.archive.signature import MAX_SIGNATURE, Verifier
from common.archive.volume_check import CheckedVolume, VolumeCheck
from common.columns import counted
from common.digest import Digest
from common.errors import ArchiveDamagedError, ContentError, HubError
from common.progress import Progress, Silent

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
    trusted: bool = True
    mendable: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """All volumes are here, nothing is damaged, and the signature is what was asked for."""
        here = all(volume.status is VolumeStatus.OK for volume in self.volumes)
        return here and self.trusted and not self.damage and not self.bad

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


def verify(archive: Archive, *, quick: bool = False, jobs: int = 2, progress: Progress | None = None) -> VerifyResult:
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


def _cut(archive: Archive) -> Iterator[Digest]:
    """Give the blobs at hand that lie in several pieces: no single volume can prove them."""
    for digest, record in archive.inventory.blobs.items():
        if len(record.pieces) > 1 and not archive.missing_volumes(digest):
            yield digest


def _check_cut(archive: Archive, digest: Digest) -> tuple[Digest, str]:
    """Return the digest and what is wrong with it, if anything."""
    try:
        for _ in archive.content(digest):
            pass
    except (ArchiveDamagedError, ContentError) as error:
        return digest, error.message
    return digest, ""


def _result(
    archive: Archive, results: Sequence[VolumeCheck], cut: Sequence[tuple[Digest, str]], damage: Sequence[str]
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
        trusted=archive.found.trusted,
        mendable=tuple(
            archive.inventory.volumes[number - 1].name for number in sorted(damaged) if _has_parity(archive, number)
        ),
        damage=(*lines, *(f"{digest}: {why}" for digest, why in sorted(bad.items())), *damage),
    )


def _has_parity(archive: Archive, number: int) -> bool:
    place = archive.found.volumes[number].path
    return media.is_file(place.with_name(place.name + parity.SUFFIX))


def _statuses(archive: Archive, damaged: set[int]) -> Iterator[VolumeResult]:
    for number, volume in enumerate(archive.inventory.volumes, 1):
        status = VolumeStatus.DAMAGED if number in damaged else VolumeStatus.OK
        yield VolumeResult(volume.name, status if number in archive.found.volumes else VolumeStatus.MISSING)


def _bad(archive: Archive, bad: dict[Digest, str]) -> Iterator[BadBlob]:
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
                raw = media.read(path, checksums.MAX_SIZE)
                if key is not None:
                    self._check_signature(path, raw, key)
                self._sums[path.parent.resolve()] = checksums.parse(raw)
            except (HubError, OSError) as error:
                self.damage.append(f"{path}: {error}")

    def _check_signature(self, path: Place, raw: bytes, key: Verifier) -> None:
        beside = path.with_name(checksums.SIGNATURE_NAME)
        if not media.is_file(beside):
            self.damage.append(f"{path}: is not signed: there is no {beside.name} beside it")
        elif not key.accepts(raw, media.read(beside, MAX_SIGNATURE)):
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
            if inventory_file.NAME not in sums and media.is_file(directory / inventory_file.NAME):
                yield f"{directory / inventory_file.NAME}: {checksums.NAME} beside it does not list it"
            for name, wanted in sums.items():
                path = directory / name
                if path not in self._volumes and media.is_file(path) and _checksum(path) != wanted:
                    yield f"{path}: its checksum is not the one in {checksums.NAME}"


def _checksum(place: Place) -> str:
    hasher, position = hashlib.sha256(), 0
    with media.opened(place) as file:
        while chunk := read_some(file, _STEP, position):
            hasher.update(chunk)
            position += len(chunk)
    return hasher.hexdigest()
