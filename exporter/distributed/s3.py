"""An archive in object storage: each volume made on a scratch disk, uploaded as soon as it is closed, and removed there.

Nothing can be changed in an object, and none of it is seen before it is whole; so a volume goes right to where it will stay,
and finishing writes the small files beside. A record for each volume says what it is closed with, and which version of the
object it means: whoever was away for long, and comes after others, is found out by that (ADR 0023).
"""

from __future__ import annotations

import re
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace as replaced

from common.archive import checksums, inventory_file, metadata, parity
from common.archive.direct_io import Buffers
from common.archive.inventory import MAX_SIZE, Inventory
from common.archive.volume import JOURNAL_NAME
from common.errors import ArchiveDamagedError, ArchiveIncompleteError, UsageError
from common.files import locked, require_space
from common.oci.image import Digest, digest_of, hex_of
from common.storage.upload import upload
from common.text import counted
from exporter.archive import output
from exporter.archive.output import REPORT, is_ours
from exporter.archive.volume_writer import Closing, Sign, VolumeFile
from exporter.distributed import join_state, joining, part, part_directory, plan_file
from exporter.distributed.part_directory import PLAN, MadePart
from exporter.report.page import Report
from exporter.settings import Making

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from common.archive.layout import Layout
    from common.archive.signature import Signer
    from common.progress import Progress
    from common.storage.location import StoredPlace
    from exporter.context import ExportContext
    from exporter.distributed.part import Lost, Part
    from exporter.distributed.plan_file import PlanFile

# What is known of the volumes of an archive in object storage: a record beside each, true of one version of its objects.

_NAME = re.compile(re.escape(part.NAME) + r"-(\d{4,6})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Records:
    """The records at a place, of volumes that are made by a plan. I/O raises StorageError."""

    place: StoredPlace
    plan: PlanFile

    def all(self) -> dict[int, Part]:
        """Return the records by volume. Raises UsageError for one that cannot be read, or is of another plan."""
        return {number: self._read(child) for child, number in records_in(self.place)}

    def of(self, number: int) -> Part | None:
        """Return the record of a volume; None where there is none. Raises UsageError as `all` does."""
        at = self.at(number)
        return None if at.stat() is None else self._read(at)

    def at(self, number: int) -> StoredPlace:
        """Return where the record of a volume lies."""
        return self.place / f"{part.NAME}-{number:04d}"

    def write(self, number: int, record: Part) -> None:
        """Note what is known of a volume."""
        self.at(number).write(part.encode(record))

    def volume(self, number: int) -> StoredPlace:
        """Return where a volume lies."""
        return self.place / self.plan.drawn.layout.volumes[number - 1].name

    def is_stored(self, number: int, record: Part) -> bool:
        """Say whether a volume, with its parity, is there in the version that the record speaks of."""
        for name in record.sums or (self.volume(number).name,):
            stat = (self.place / name).stat()
            if stat is None or stat.tag != record.tags.get(name):
                return False
        return True

    def sums(self, number: int, record: Part) -> dict[str, str]:
        """Return the checksums of a volume and its parity. Raises UsageError when its record has others."""
        name = self.volume(number).name
        names = [name, name + parity.SUFFIX] if self.plan.drawn.terms.parity else [name]
        if sorted(record.sums) != names:
            raise UsageError(f"{self.at(number)}: not the checksums of {' and '.join(names)}", hint="Delete it there.")
        return record.sums

    def _read(self, at: StoredPlace) -> Part:
        record, layout = part.decode(at.read(part.MAX_SIZE), str(at)), self.plan.drawn.layout
        match = _NAME.fullmatch(at.name)
        numbers = (int(match[1]),) if match else ()
        known = record.lost.keys() <= layout.blobs.keys() and numbers and 1 <= numbers[0] <= len(layout.volumes)
        if record.volumes != numbers or record.plan != self.plan.identity or not known:
            raise UsageError(f"{at}: the record of another volume or plan", hint="Delete it, and its volume.")
        return record


def records_in(place: StoredPlace) -> Iterator[tuple[StoredPlace, int]]:
    """Give where the records at a place lie, and of which volumes they are."""
    for child, _ in place.children():
        match = _NAME.fullmatch(child.name)
        if match is not None:
            yield child, int(match[1])


# A scratch disk, where volumes are made before they are uploaded: a directory for each, of one archive and one process.

_NAMED = 12  # hex digits that tell archives apart


@dataclass(frozen=True, slots=True)
class Scratch:
    """What one archive has on a scratch disk. Several processes, and several archives, may share the disk."""

    root: Path
    owner: str

    @classmethod
    def of(cls, root: Path, place: StoredPlace, plan: Digest) -> Scratch:
        """Return what the archive of a plan at a place has there."""
        return cls(root, hex_of(digest_of(f"{place} {plan}".encode()))[:_NAMED])

    def has(self, number: int) -> bool:
        """Say whether an interrupted run left something of a volume."""
        return self._directory(number).exists()

    @contextmanager
    def held(self, number: int) -> Iterator[Path]:
        """Hold the directory of a volume, with what an interrupted run left in it; it goes when all went well.

        Raises UsageError where none can be made, and what `locked` raises when another process has it.
        """
        directory = self._directory(number)
        lock = directory.with_name(f"{directory.name}.lock")
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"{self.root}: cannot be made: {error.strerror}", hint="Give --scratch another directory."
            ) from error
        with locked(lock, f"the scratch directory {directory}"):
            directory.mkdir(exist_ok=True)
            yield directory
            shutil.rmtree(directory)
            lock.unlink(missing_ok=True)

    def _directory(self, number: int) -> Path:
        return self.root / f"hub-export-{self.owner}-{number:04d}"


# One volume of an archive in object storage: made on a scratch disk and uploaded, or fetched, closed again and uploaded.
#
# Whoever was away for long may come after others: right before a volume is replaced one looks once more, and its record goes
# first (ADR 0023).

_UPLOADS = 4  # parts of a volume on their way at the same time
_VOLUME_NAMED = 20  # volumes in a message


@dataclass(frozen=True, slots=True)
class StoredMaking:
    """Who makes an archive in object storage: as `Making`, on a `scratch` disk with room for a volume, where one is needed."""

    place: StoredPlace
    scratch: Path | None
    jobs: int = 6
    signer: Signer | None = None

    def making(self, directory: Path) -> Making:
        """Return the same for what is made in a directory."""
        return Making(directory, self.jobs, self.signer)

    @property
    def sign(self) -> Sign | None:
        """What signs a file."""
        return self.signer.sign if self.signer else None


class _OvertakenError(Exception):
    """Somebody else has made the volume meanwhile, and better: `record` says what it is."""

    def __init__(self, record: Part) -> None:
        super().__init__()
        self.record = record


@dataclass(frozen=True)
class Volumes:
    """The volumes of an archive that is being made by a plan."""

    plan: PlanFile
    work: StoredMaking
    progress: Progress

    @cached_property
    def records(self) -> Records:
        """What is known of them."""
        return Records(self.work.place, self.plan)

    @property
    def _layout(self) -> Layout:
        return self.plan.drawn.layout

    @cached_property
    def _planned(self) -> Closing:
        """What closes the archive when nothing is lost."""
        return self.plan.drawn.closing({}, self.work.sign)

    def _scratch(self, why: str) -> Scratch:
        """Return what this archive has on the scratch disk. Raises UsageError without one."""
        if self.work.scratch is None:
            raise UsageError(
                why, hint="Give --scratch DIR, with room for a volume; or make the parts again first: they ask for blobs anew."
            )
        return Scratch.of(self.work.scratch, self.work.place, self.plan.identity)

    def made(self, number: int, record: Part | None, media: ExportContext) -> Part:
        """Make and upload one volume, unless it is there already; return its record. Raises what `parts.make` raises."""
        scratch, numbers = self._scratch("volumes are made on a scratch disk"), range(number, number + 1)
        if record is not None and self._is_right(number, record) and not scratch.has(number):
            return record
        with scratch.held(number) as directory:
            record = self.records.of(number)
            if record is not None and self._is_right(number, record):
                return record  # by a run that was interrupted while it tidied up
            here = part_directory.directory_of(directory, numbers)
            if record is not None:
                self._take_up(number, record, here)
            made = part_directory.make(self.plan, self.work.making(directory), numbers, media).record
            try:
                return self._bring(number, made, here, lambda: self._give_way(number, made))
            except _OvertakenError as error:
                return error.record

    def _is_right(self, number: int, record: Part) -> bool:
        """Say whether a volume is there as the plan wants it when nothing is lost."""
        return not record.lost and record.closed_by(self._planned) and self.records.is_stored(number, record)

    def _take_up(self, number: int, record: Part, directory: Path) -> None:
        """Fetch a volume that lacks blobs back to the scratch disk: only these are then asked for at the source again."""
        volume = self._layout.volumes[number - 1]
        if record.lost and not (directory / volume.name).exists() and self.records.is_stored(number, record):
            directory.mkdir(exist_ok=True)
            output.write_journal(directory / JOURNAL_NAME, self._layout)
            self._fetch(number, record, directory)

    def _give_way(self, number: int, made: Part) -> None:
        """Look once more before a volume is replaced, then take away the record of the one that is there.

        Raises UsageError when the archive was finished meanwhile, _OvertakenError when somebody else lost nothing.
        """
        self._require_unfinished()
        other = self.records.of(number)
        if made.lost and other is not None and self._is_right(number, other):
            raise _OvertakenError(other)
        self.records.at(number).delete()

    def _require_unfinished(self) -> None:
        if (self.work.place / checksums.NAME).stat() is not None:
            raise UsageError(f"{self.work.place} was finished meanwhile", hint="It is not touched; hub-import verify reads it.")

    def _bring(self, number: int, record: Part, directory: Path, before: Callable[[], None]) -> Part:
        """Upload a volume with all that belongs to it, `before` each of it is seen; note and return what it is then."""
        tags: dict[str, str] = {}
        for name in record.sums or (self.records.volume(number).name,):
            self.progress.begin(f"uploading {name}", (directory / name).stat().st_size)
            tags[name] = upload(
                directory / name, self.work.place / name, jobs=_UPLOADS, advance=self.progress.advance, before_complete=before
            )
            self.progress.end()
        before()
        there = replaced(record, tags=tags)
        self.records.write(number, there)
        return there

    def closed_again(self, number: int, record: Part, closing: Closing, lost: Mapping[Digest, Lost]) -> Part:
        """Fetch a volume to the scratch disk, close it with what is known now, and upload it again.

        Its record then says what was cleared in it, before any of that is seen: such a volume never counts as whole again.
        """
        with self._scratch(self._why_again(number, closing)).held(number) as directory:
            here = directory / "closing"
            for left in directory.iterdir():  # of a run that was interrupted
                shutil.rmtree(left)
            here.mkdir()
            self._fetch(number, record, here)
            sums = self._close_again(number, here, closing, lost)
            blobs = self._layout.blobs
            cleared = {each: lost[each] for each in lost if any(piece.volume == number for piece in blobs[each].pieces)}
            known = replaced(record, lost={**record.lost, **cleared}, inventory=None, signature=None, sums={}, tags={})
            return self._bring(number, known.closed(closing, sums), here, lambda: self._unsettle(number, known))

    def _unsettle(self, number: int, known: Part) -> None:
        """Note what is true of a volume whether it was replaced or not."""
        self._require_unfinished()
        self.records.write(number, known)

    def _fetch(self, number: int, record: Part, directory: Path) -> None:
        """Copy a volume to the scratch disk, where there has to be room for it and what becomes of it."""
        source, share = self.records.volume(number), self.plan.drawn.terms.parity
        if record.tags and not self.records.is_stored(number, record):
            raise self.strange(number)
        room = self._layout.volumes[number - 1].data_size + self._layout.reserve
        require_space(directory, parity.bound(room, share) + room if share else room, "a volume")
        self.progress.begin(f"fetching {source.name}", room)
        joining.bring(source, directory / source.name, record.sums.get(source.name), self.progress.advance)
        self.progress.end()

    def _close_again(self, number: int, directory: Path, closing: Closing, lost: Mapping[Digest, Lost]) -> dict[str, str]:
        volume = self._layout.volumes[number - 1]
        file = VolumeFile(directory / volume.name, number, volume, 0, Buffers())
        self.progress.begin(f"closing {volume.name} again", volume.data_size + self._layout.reserve)
        sums = joining.close_again(
            file, self._layout, closing, lost.keys(), share=self.plan.drawn.terms.parity, progress=self.progress
        )
        self.progress.end()
        return sums

    def _why_again(self, number: int, closing: Closing) -> str:
        lost = sum(1 for record in closing.inventory.blobs.values() if record.missing is not None)
        parted = [str(each) for each, record in sorted(self.records.all().items()) if record.lost]
        named = ", ".join(parted[:_VOLUME_NAMED]) + (", …" if len(parted) > _VOLUME_NAMED else "")
        why = (
            f"{counted(lost, 'blob')} could not be had (volumes {named})"
            if lost
            else "it was made with another --sign, or none"
        )
        return f"{self.records.volume(number)} has to be closed again: {why}"

    def strange(self, number: int) -> ArchiveDamagedError:
        """Return the error for a volume that somebody changed."""
        return ArchiveDamagedError(
            f"{self.records.volume(number)}: not what was uploaded, or its parity is not",
            hint=f"Make it again: hub-export create --plan … --volumes {number}, then finish.",
        )


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
        if JOURNAL_NAME not in names:
            (place / JOURNAL_NAME).write(output.encode_journal(plan.drawn.layout))
        return cls(plan, work, progress)

    @classmethod
    def begun(cls, work: StoredMaking, progress: Progress) -> Stored | None:
        """Take up what was begun; None where nothing was. Raises UsageError for a plan that is none, StorageError."""
        at = work.place / PLAN
        if at.stat() is None:
            return None
        return cls(plan_file.load(at), work, progress)

    def make(self, numbers: range, media: ExportContext) -> MadePart:
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
        join_state.require_all(records, self._layout)
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


def make(found: PlanFile, work: StoredMaking, numbers: range, media: ExportContext) -> MadePart:
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
    yield from (place / name for name in (PLAN, JOURNAL_NAME) if name in here)
