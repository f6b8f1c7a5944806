"""Archive in object storage that is made of a plan: begin or continue it, make its volumes, and finish it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace as replaced

from common.archive import checksums, inventory_file
from common.archive.inventory import MAX_SIZE
from common.archive.volume import JOURNAL_NAME, REPORT_NAME
from common.errors import ArchiveIncompleteError, UsageError
from common.oci.image import digest_of
from exporter.archive import output
from exporter.archive.finished import Finished
from exporter.archive.output import is_ours
from exporter.distributed import part_selection, plan_file
from exporter.distributed.part_directory import PLAN, MadePart
from exporter.distributed.s3_volumes import Volumes, records_in
from exporter.report.page import Report

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from common.archive.layout import Layout
    from common.progress import Progress
    from common.storage.location import S3Location
    from exporter.context import ExportContext
    from exporter.distributed.part import Part
    from exporter.distributed.plan_file import PlanFile
    from exporter.distributed.s3_volumes import Records, S3Settings


_OTHER = "Choose another prefix, or delete the objects."
_UNFINISHED = (
    "Run hub-export create --plan … for these volumes again: it continues. If the blobs are gone for good, "
    "finish --accept-missing --scratch DIR writes all volumes again without them."
)


@dataclass(frozen=True)
class Stored:
    """An archive that is being made by a plan."""

    plan: PlanFile
    work: S3Settings
    progress: Progress

    @classmethod
    def claimed(cls, plan: PlanFile, work: S3Settings, progress: Progress) -> Stored:
        """Begin or continue the archive of a plan. Raises UsageError for a prefix with other objects, StorageError."""
        place = work.place
        names = {child.name for child, _ in place.children()}
        if checksums.NAME in names:
            raise UsageError(f"{place} holds a finished archive", hint=f"It is not touched. {_OTHER}")
        if PLAN not in names and (strange := sorted(filter(is_ours, names))):
            raise UsageError(f"{place} holds {strange[0]}, which this export did not make", hint=_OTHER)
        if PLAN not in names:
            # The plan first: it marks the prefix as this export's, for a second process that starts at the same time.
            (place / PLAN).write(plan.packed.content())
        # Read back, since a second process with another plan may have written its own in between.
        if digest_of((place / PLAN).read(plan_file.MAX_SIZE)) != plan.identity:
            raise UsageError(f"{place} holds parts of another plan", hint=_OTHER)
        if JOURNAL_NAME not in names:
            (place / JOURNAL_NAME).write(output.encode_journal(plan.spec.layout))
        return cls(plan, work, progress)

    @classmethod
    def begun(cls, work: S3Settings, progress: Progress) -> Stored | None:
        """Return an archive that was begun; None where there is none. Raises UsageError for a damaged plan, StorageError."""
        at = work.place / PLAN
        if at.stat() is None:
            return None
        return cls(plan_file.load(at), work, progress)

    def make(self, numbers: range, media: ExportContext) -> MadePart:
        """Make the volumes `numbers` that are not finished. Raises what `part_directory.make` raises, StorageError."""
        records = self._records.all()
        made = [self._volumes.made(number, records.get(number), media) for number in numbers]
        lost = {digest: each for record in made for digest, each in record.lost.items()}
        return MadePart(
            self.work.place, numbers, len(self._layout.volumes), replaced(made[0], volumes=tuple(numbers), lost=lost)
        )

    def finish(self, *, accept_missing: bool) -> Finished:
        """Make the archive whole; volumes are written again where its inventory is another.

        Raises ArchiveIncompleteError when volumes are absent, UsageError when volumes are unfinished and their missing blobs
        are not accepted, ArchiveDamagedError when a volume is not the one that was uploaded.
        """
        records = self._records.all()
        part_selection.require_all(records, self._layout)
        missing = {digest: each for record in records.values() for digest, each in record.lost.items()}
        if not accept_missing:
            unfinished = [str(self._records.volume(number)) for number, record in sorted(records.items()) if record.lost]
            part_selection.require_finished(unfinished, missing, _UNFINISHED)
        closing = self.plan.spec.closing({digest: each.error for digest, each in missing.items()}, self.work.sign)
        for number, record in sorted(records.items()):
            # An interrupted `finish` has written some volumes already; these are left as they are.
            if not record.closed_by(closing):
                records[number] = self._volumes.rewritten(number, record, closing, missing)
        # Checked last, so that a volume that was replaced in the meantime does not get into SHA256SUMS.
        sums = self._sums(records)
        if closing.signature is None:  # an interrupted run that signed may have left these
            for name in (inventory_file.SIGNATURE_NAME, checksums.SIGNATURE_NAME):
                (self.work.place / name).delete()
        report = Report(self.plan.facts, self.work.making(Path()), self.work.place)
        closing.complete(self.work.place, sums, lambda listed: {REPORT_NAME: report.render(closing.inventory, listed)})
        tidy(self.work.place)
        return Finished(closing.inventory, closing.identity)

    @property
    def _layout(self) -> Layout:
        return self.plan.spec.layout

    @cached_property
    def _volumes(self) -> Volumes:
        return Volumes(self.plan, self.work, self.progress)

    @property
    def _records(self) -> Records:
        return self._volumes.records

    def _sums(self, records: Mapping[int, Part]) -> dict[str, str]:
        """Return the checksums of all volumes. Raises ArchiveDamagedError for one that is not the version in its record."""
        sums: dict[str, str] = {}
        for number, record in sorted(records.items()):
            if not self._records.is_stored(number, record):
                raise self._volumes.changed(number)
            sums |= self._records.sums(number, record)
        return sums


def make(found: PlanFile, work: S3Settings, numbers: range, media: ExportContext) -> MadePart:
    """Make the volumes `numbers` of the archive of a plan in object storage. Raises what `Stored` raises."""
    return Stored.claimed(found, work, media.progress).make(numbers, media)


def finish(work: S3Settings, progress: Progress, *, accept_missing: bool = False) -> Finished:
    """Make the archive in object storage whole. A finished one is left as it is, but tidied up."""
    place = work.place
    # SHA256SUMS is the last object that is written, so it marks a finished archive.
    finished = (place / checksums.NAME).stat() is not None
    begun = None if finished else Stored.begun(work, progress)
    if begun is not None:
        return begun.finish(accept_missing=accept_missing)
    if not finished:
        raise ArchiveIncompleteError(f"{place}: no part of an archive is there", hint="hub-export create --plan … makes parts.")
    tidy(place)
    at = place / inventory_file.NAME
    raw = at.read(MAX_SIZE)
    return Finished(inventory_file.decode(raw, str(at)), digest_of(raw))


def tidy(place: S3Location) -> None:
    """Delete the objects that exist only while the archive is made; SHA256SUMS marks the end of that."""
    for child in _working(place):
        child.delete()


def _working(place: S3Location) -> Iterator[S3Location]:
    """Give the objects to delete; the plan and the journal last, since they mark the prefix as an export's."""
    # A list: deleting while a listing is read would skip objects on some services.
    yield from [child for child, _ in records_in(place)]
    here = {child.name for child, _ in place.children()}
    yield from (place / name for name in (PLAN, JOURNAL_NAME) if name in here)
