"""An archive in object storage: each volume made on a scratch disk, uploaded as soon as it is closed, and removed there.

Nothing can be changed in an object, and none of it is seen before it is whole; so a volume goes right to where it will stay,
and finishing writes the small files beside. A record for each volume says what it is closed with, and which version of the
object it means: whoever was away for long, and comes after others, is found out by that (ADR 0023).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from msgspec.structs import replace as replaced

from common.archive import checksums, inventory_file, journal, metadata, owners
from common.archive.inventory import MAX_SIZE, Inventory
from common.archive.layout import Layout
from common.archive.output import REPORT, is_ours
from common.archive.part import Part
from common.digest import digest_of
from common.errors import ArchiveIncompleteError, UsageError
from common.progress import Progress
from common.storage.place import StoredPlace
from exporter import plan_file
from exporter.fetch import Media
from exporter.parts import PLAN, MadePart
from exporter.plan_file import PlanFile
from exporter.report.page import Report
from exporter.stored_records import Records, records_in
from exporter.stored_volume import StoredMaking, Volumes

_OTHER = "Choose another prefix, or delete what is there."


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
        records = self._records.all()
        made = [self._volumes.made(number, records.get(number), media) for number in numbers]
        lost = {digest: each for record in made for digest, each in record.lost.items()}
        return MadePart(
            self.work.place, numbers, len(self._layout.volumes), replaced(made[0], volumes=tuple(numbers), lost=lost)
        )

    def finish(self) -> Inventory:
        """Make the archive whole, and return its inventory; volumes are closed again where something of it was lost.

        Raises ArchiveIncompleteError when volumes are not there, ArchiveDamagedError when one is not what was uploaded.
        """
        records = self._records.all()
        owners.require_all(records, self._layout)
        lost = {digest: each for record in records.values() for digest, each in record.lost.items()}
        closing = self.plan.drawn.closing({digest: each.error for digest, each in lost.items()}, self.work.sign)
        for number, record in sorted(records.items()):
            if not record.closed_by(closing):
                records[number] = self._volumes.closed_again(number, record, closing, lost)
        sums = self._sums(records)
        if closing.signature is None:  # of a run that was interrupted, and signed
            for name in (metadata.SIGNATURE_NAME, checksums.SIGNATURE_NAME):
                (self.work.place / name).delete()
        report = Report(self.plan.facts, self.work.making(Path()), self.work.place)
        closing.complete(self.work.place, sums, lambda listed: {REPORT: report.render(closing.inventory, listed)})
        tidy(self.work.place)
        return closing.inventory

    @property
    def _layout(self) -> Layout:
        return self.plan.drawn.layout

    @cached_property
    def _volumes(self) -> Volumes:
        return Volumes(self.plan, self.work, self.progress)

    @property
    def _records(self) -> Records:
        return self._volumes.records

    def _sums(self, records: Mapping[int, Part]) -> dict[str, str]:
        """Return the checksums of all volumes. Raises ArchiveDamagedError for one that is not what was uploaded."""
        sums: dict[str, str] = {}
        for number, record in sorted(records.items()):
            if not self._records.is_stored(number, record):
                raise self._volumes.strange(number)
            sums |= self._records.sums(number, record)
        return sums


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
    yield from [child for child, _ in records_in(place)]
    here = {child.name for child, _ in place.children()}
    yield from (place / name for name in (PLAN, journal.NAME) if name in here)
