"""An archive in object storage: each volume made on a scratch disk, uploaded as soon as it is closed, and removed there.

Nothing can be changed in an object, and none of it is seen before it is whole; so a volume goes right to where it will stay,
and finishing writes the small files beside. A record for each volume says what it is closed with. What several processes write
is the same bytes, whoever comes first (ADR 0023).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from msgspec.structs import replace as replaced

from common.archive import checksums, inventory_file, joining, journal, parity, part
from common.archive.closing import Closing
from common.archive.inventory import MAX_SIZE, Inventory
from common.archive.layout import Layout
from common.archive.output import REPORT, is_ours
from common.archive.part import Part
from common.archive.signature import Signer
from common.archive.staging import Buffers
from common.archive.volume import CLOSING_SIZE
from common.archive.volume_file import VolumeFile
from common.columns import counted
from common.digest import Digest, digest_of
from common.errors import ArchiveDamagedError, ArchiveIncompleteError, UsageError
from common.files import require_space
from common.progress import Progress
from common.storage.place import StoredPlace
from common.storage.upload import upload
from exporter import parts, plan_file
from exporter.fetch import Media
from exporter.parts import PLAN, MadePart
from exporter.plan_file import PlanFile
from exporter.report.page import Report
from exporter.settings import Making

_RECORD = re.compile(re.escape(part.NAME) + r"-(\d{4,6})", re.ASCII)
_UPLOADS = 4  # parts of a volume on their way at the same time
_OTHER = "Choose another prefix, or delete what is there."


@dataclass(frozen=True, slots=True)
class StoredMaking:
    """Who makes an archive in object storage: as `Making`, on a `scratch` disk with room for a volume, where one is needed."""

    place: StoredPlace
    scratch: Path | None
    jobs: int = 6
    signer: Signer | None = None

    @property
    def making(self) -> Making:
        """The same for what is made on the scratch disk."""
        return Making(self.scratch or Path(), self.jobs, self.signer)


@dataclass(frozen=True)
class Stored:
    """An archive that is being made by a plan."""

    plan: PlanFile
    work: StoredMaking
    progress: Progress

    @classmethod
    def claimed(cls, plan: PlanFile, work: StoredMaking, progress: Progress) -> Stored:
        """Begin the archive of a plan, or go on with it. Raises UsageError for a place that has anything else, StorageError."""
        place = work.place
        names = {child.name for child, _ in place.children()}
        if checksums.NAME in names:
            raise UsageError(f"{place} holds a finished archive", hint=f"It is not touched. {_OTHER}")
        if PLAN not in names and (strange := sorted(filter(is_ours, names))):
            raise UsageError(f"{place} holds {strange[0]}, which this export did not make", hint=_OTHER)
        if PLAN not in names:
            (place / PLAN).write(plan.raw)
        if digest_of((place / PLAN).read(plan_file.MAX_SIZE)) != plan.identity:
            raise UsageError(f"{place} holds parts of another plan", hint=_OTHER)
        if journal.NAME not in names:
            (place / journal.NAME).write(journal.encode(plan.drawn.layout))
        return cls(plan, work, progress)

    @classmethod
    def begun(cls, work: StoredMaking, progress: Progress) -> Stored | None:
        """Take up what was begun; None where nothing was. Raises UsageError for a plan that is none, StorageError."""
        at = work.place / PLAN
        if at.stat() is None:
            return None
        return cls(plan_file.load(at), work, progress)

    def make(self, numbers: range, media: Media) -> MadePart:
        """Make the volumes `numbers`, but those that are there and whole. Raises what `parts.make` raises, StorageError."""
        records = self._records()
        made = [self._made(number, records.get(number), media) for number in numbers]
        lost = {digest: each for record in made for digest, each in record.lost.items()}
        return MadePart(
            self.work.place, numbers, len(self._layout.volumes), replaced(made[0], volumes=tuple(numbers), lost=lost)
        )

    def finish(self) -> Inventory:
        """Make the archive whole, and return its inventory; volumes are closed again where something of it was lost.

        Raises ArchiveIncompleteError when volumes are not there, ArchiveDamagedError when one is not what was uploaded.
        """
        records = self._records()
        joining.require_all(records, self._layout)
        lost = {digest: each.error for record in records.values() for digest, each in record.lost.items()}
        closing = self.plan.drawn.closing(lost, self.work.making.sign)
        sums: dict[str, str] = {}
        for number in range(1, len(self._layout.volumes) + 1):
            record = records[number]
            again = not record.closed_by(closing)
            sums |= self._sums(number, self._closed_again(number, record, closing, lost) if again else record)
        self._check_sizes(closing)
        report = Report(self.plan.facts, self.work.making, self.work.place)
        closing.complete(self.work.place, sums, lambda listed: {REPORT: report.render(closing.inventory, listed)})
        tidy(self.work.place)
        return closing.inventory

    @property
    def _layout(self) -> Layout:
        return self.plan.drawn.layout

    @cached_property
    def _planned(self) -> Closing:
        """What closes the archive when nothing is lost."""
        return self.plan.drawn.closing({}, self.work.making.sign)

    def _name(self, number: int) -> str:
        return self._layout.volumes[number - 1].name

    def _records(self) -> dict[int, Part]:
        """Return the records by volume. Raises UsageError for one that cannot be read, or is of another plan."""
        found = {}
        for child, _ in self.work.place.children():
            match = _RECORD.fullmatch(child.name)
            if match is not None:
                record = part.decode(child.read(part.MAX_SIZE), str(child))
                if record.volumes != (int(match[1]),) or record.plan != self.plan.identity:
                    raise UsageError(f"{child}: the record of another volume or plan", hint="Delete it, and its volume.")
                found[int(match[1])] = record
        return found

    def _made(self, number: int, record: Part | None, media: Media) -> Part:
        """Make and upload one volume, unless it is there already."""
        numbers, making = range(number, number + 1), self.work.making
        directory = parts.directory_of(making.output, numbers)
        if record is not None and self._is_right(number, record):
            self._clear(directory, record)  # of a run that was interrupted while it did so
            return record
        made = parts.make(self.plan, making, numbers, media).record
        self._upload(number, directory, made)
        self._clear(directory, made)
        return made

    def _is_right(self, number: int, record: Part) -> bool:
        """Say whether a volume is there as the plan wants it when nothing is lost."""
        if record.lost or not record.closed_by(self._planned):
            return False
        stat = (self.work.place / self._name(number)).stat()
        return stat is not None and stat.size == self._size(number, self._planned)

    def _size(self, number: int, closing: Closing) -> int:
        return self._layout.volumes[number - 1].data_size + closing.region.size + CLOSING_SIZE

    def _clear(self, directory: Path, record: Part) -> None:
        """Remove a part from the scratch disk."""
        for number in record.volumes if directory.is_dir() else ():
            for name in (self._name(number), self._name(number) + parity.SUFFIX):
                (directory / name).unlink(missing_ok=True)
            joining.tidy(directory)

    def _upload(self, number: int, directory: Path, record: Part) -> None:
        """Bring a volume to its place with all that belongs to it, its record last."""
        names = list(record.sums) or [self._name(number)]
        for name in names:
            self.progress.begin(f"uploading {name}", (directory / name).stat().st_size)
            upload(directory / name, self.work.place / name, jobs=_UPLOADS, advance=self.progress.advance)
            self.progress.end()
        self._note(number, record)

    def _note(self, number: int, record: Part) -> None:
        (self.work.place / f"{part.NAME}-{number:04d}").write(part.encode(record))

    def _closed_again(self, number: int, record: Part, closing: Closing, lost: Collection[Digest]) -> Part:
        """Bring a volume to the scratch disk, close it with what is known now, and upload it again."""
        volume = self._layout.volumes[number - 1]
        scratch = self._scratch_for(number, closing)
        room, share = volume.data_size + self._layout.reserve, self.plan.drawn.terms.parity
        require_space(scratch, parity.bound(room, share) + room if share else room, "a volume")
        self.progress.begin(f"fetching {volume.name}", room)
        joining.bring(self.work.place / volume.name, scratch / volume.name, record.sums.get(volume.name), self.progress.advance)
        self.progress.end()
        self.progress.begin(f"closing {volume.name} again", room)
        file = VolumeFile(scratch / volume.name, number, volume, 0, Buffers())
        sums = joining.close_again(file, self._layout, closing, lost, share=share, progress=self.progress)
        self.progress.end()
        again = record.closed(closing, sums)
        self._note(number, replaced(record, inventory=None, signature=None, sums={}))  # true of the volume, whichever is there
        self._upload(number, scratch, again)
        self._empty(scratch)
        scratch.rmdir()
        return again

    def _scratch_for(self, number: int, closing: Closing) -> Path:
        """Return an empty directory for a volume that is to be closed again. Raises UsageError without a scratch disk."""
        if self.work.scratch is None:
            lost = sum(1 for record in closing.inventory.blobs.values() if record.missing is not None)
            why = f"{counted(lost, 'blob')} could not be had" if lost else "it was made with another --sign, or none"
            raise UsageError(
                f"{self.work.place / self._name(number)} has to be closed again: {why}",
                hint="Give --scratch DIR, with room for a volume; or make the parts again first: they ask for blobs anew.",
            )
        place = self.work.scratch / f"closing-{number:04d}"
        place.mkdir(parents=True, exist_ok=True)
        self._empty(place)  # of a run that was interrupted
        return place

    @staticmethod
    def _empty(directory: Path) -> None:
        for path in directory.iterdir():
            path.unlink()

    def _sums(self, number: int, record: Part) -> dict[str, str]:
        """Return the checksums of a volume and its parity. Raises UsageError when its record lacks one."""
        name = self._name(number)
        names = [name, name + parity.SUFFIX] if self.plan.drawn.terms.parity else [name]
        if lacking := [each for each in names if each not in record.sums]:
            raise UsageError(
                f"{self.work.place}: its records lack {lacking[0]}", hint=f"Delete {part.NAME}-{number:04d} there."
            )
        return {each: record.sums[each] for each in names}

    def _check_sizes(self, closing: Closing) -> None:
        """Raise ArchiveDamagedError for a volume that is not as long as one that was closed."""
        sizes = {child.name: size for child, size in self.work.place.children()}
        for number, volume in enumerate(self._layout.volumes, 1):
            wanted = self._size(number, closing)
            if sizes.get(volume.name) != wanted:
                raise ArchiveDamagedError(
                    f"{self.work.place / volume.name}: {sizes.get(volume.name, 'no')} bytes, wanted {wanted}",
                    hint=f"Delete it and its record {part.NAME}-…, and make it again: hub-export create --plan … --volumes …",
                )


def make(found: PlanFile, work: StoredMaking, numbers: range, media: Media) -> MadePart:
    """Make the volumes `numbers` of the archive of a plan in object storage. Raises what `Stored` raises."""
    return Stored.claimed(found, work, media.progress).make(numbers, media)


def finish(work: StoredMaking, progress: Progress) -> Inventory:
    """Make the archive in object storage whole; return its inventory. Done again it does nothing, but tidies up."""
    place = work.place
    finished = (place / checksums.NAME).stat() is not None
    begun = None if finished else Stored.begun(work, progress)
    if begun is not None:
        return begun.finish()
    if not finished:
        raise ArchiveIncompleteError(f"{place}: no part of an archive is there", hint="hub-export create --plan … makes parts.")
    tidy(place)
    at = place / inventory_file.NAME
    return inventory_file.decode(at.read(MAX_SIZE), str(at))


def tidy(place: StoredPlace) -> None:
    """Take away what was there only while the archive was made: SHA256SUMS says that it is done."""
    for child in _working(place):
        child.delete()


def _working(place: StoredPlace) -> Iterator[StoredPlace]:
    """Give what is to be taken away, what says that it is ours last."""
    here = {child.name: child for child, _ in place.children()}
    names = [name for name in here if _RECORD.fullmatch(name)]
    yield from (here[name] for name in (*names, PLAN, journal.NAME) if name in here)
