"""Verification of an archive: every byte of the available volumes, or with `quick` structure and completeness.

A full check reads each volume once, in order: tar headers, frames, padding, metadata and footer are compared with those that a
writer makes, blobs with their digests, the file with SHA256SUMS where that is present. One damage never hides the next.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from common.archive import parity
from common.archive.inventory import needed_by
from common.archive.naming import heading, left_out_text
from common.errors import ArchiveDamagedError, ArchiveUntrustedError, ContentError, MediumGoneError
from common.progress import Progress, Silent, step
from common.text import counted, enumeration
from importer.archive.checksum_files import NOTHING, ChecksumFiles, Neighbours, is_file
from importer.archive.volume_check import CheckedVolume, VolumeCheck, pieces_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from common.archive.reader import ArchiveReader
    from common.archive.signature import SignatureState
    from common.oci.image import Digest


_NAMED = 5  # files named in one message


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

    `name` may be empty. `repairable`: the damaged volumes that have a parity file next to them.
    `neighbours`: what is next to the volumes and not signed with the given key. `left_out`: the images that it never had.
    """

    inventory: Digest
    name: str
    created: str
    signature: SignatureState
    volumes: tuple[VolumeResult, ...]
    checked: int
    bad: tuple[BadBlob, ...]
    damage: tuple[str, ...]
    is_trusted: bool = True
    repairable: tuple[str, ...] = ()
    neighbours: Neighbours = NOTHING
    left_out: str = ""

    @property
    def heading(self) -> str:
        """Name, date and digest of the archive."""
        return heading(self.inventory, self.name, self.created)

    @property
    def lacks_volumes(self) -> bool:
        """Whether a volume is not here."""
        return any(volume.status is VolumeStatus.MISSING for volume in self.volumes)

    @property
    def ok(self) -> bool:
        """Whether all volumes are present, nothing is damaged, and the signature is valid where a key was given."""
        complete = all(volume.status is VolumeStatus.OK for volume in self.volumes)
        return complete and self.is_trusted and not self.damage and not self.bad and not self.neighbours.unvouched

    def require_usable(self, label: str, *, more_may_follow: bool) -> None:
        """Raise ArchiveUntrustedError or ArchiveDamagedError for an archive that must not be pushed and applied as a whole."""
        if self.neighbours.unvouched:
            raise ArchiveUntrustedError(
                f"next to the volumes of {label} is what its key did not sign: "
                f"{enumeration(self.neighbours.unvouched, _NAMED)}",
                hint="Copy it again with SHA256SUMS and SHA256SUMS.sig, or remove it: the volumes are signed in themselves.",
            )
        if self.damage or not (self.ok or more_may_follow):
            raise ArchiveDamagedError(
                f"{label} is not whole: {'; '.join(self.damage) or 'volumes are missing'}",
                hint="Bring the missing volumes, or copy the archive again. hub-import push takes the volumes that are there.",
            )

    def document(self) -> dict[str, Any]:
        """Return the JSON of `verify` (docs/reference/cli.md)."""
        bad = [{"digest": b.digest, "volume": b.volume, "offset": b.offset, "neededBy": list(b.needed_by)} for b in self.bad]
        return {
            "ok": self.ok,
            "inventory": self.inventory,
            "name": self.name or None,
            "created": self.created,
            "signature": self.signature,
            "volumes": [{"name": volume.name, "status": volume.status.value} for volume in self.volumes],
            "blobs": {"checked": self.checked, "bad": bad},
        } | self.neighbours.document()


def verify(archive: ArchiveReader, *, quick: bool = False, jobs: int = 2, progress: Progress | None = None) -> VerifyResult:
    """Check the available volumes, `jobs` at a time; `quick` leaves the content out. Damage is a result, not an error."""
    progress = progress or Silent()
    sums = ChecksumFiles(archive.found, quick=quick)
    size = 0 if quick else sum(archive.inventory.volumes[number - 1].data_size for number in archive.found.volumes)
    with step(progress, f"checking {counted(len(archive.found.volumes), 'volume')}", size):
        pieces = {} if quick else pieces_of(archive)
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
        name=archive.inventory.name or "",
        created=archive.inventory.created,
        signature=archive.found.signature,
        volumes=tuple(_statuses(archive, damaged)),
        checked=sum(result.checked for result in results) + len(split),
        bad=tuple(_bad(archive, bad)),
        is_trusted=archive.found.is_trusted,
        left_out=left_out_text(archive.inventory),
        repairable=tuple(
            archive.inventory.volumes[number - 1].name for number in sorted(damaged) if _has_parity(archive, number)
        ),
        damage=(*lines, *(f"{digest}: {why.removeprefix(f'{digest}: ')}" for digest, why in sorted(bad.items())), *damage),
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
