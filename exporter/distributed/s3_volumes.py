"""Volumes of an archive in object storage: each is made on a scratch disk, uploaded when it is closed, and removed there.

An object cannot be changed, and is not visible before it is whole. So a volume is written under its final name, and a record
next to it names what closed it and the version of the object (its ETag): a process that comes late is recognized (ADR 0023).
"""

from __future__ import annotations

import re
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from msgspec.structs import replace as replaced

from common.archive import checksums, parity
from common.archive.volume import JOURNAL_NAME
from common.errors import ArchiveDamagedError, UsageError
from common.files import locked, require_space
from common.oci.image import Digest, digest_of, hex_of
from common.progress import step
from common.storage.upload import upload
from common.text import counted
from exporter.archive import output
from exporter.distributed import part, part_directory
from exporter.distributed.part import PartWriter, copy_file
from exporter.distributed.part_selection import volumes_of
from exporter.distributed.rewriting import VolumesSource, copy_volumes
from exporter.settings import Making

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from common.archive.layout import Layout
    from common.archive.signature import Signer
    from common.progress import Progress
    from common.storage.location import S3Location
    from exporter.archive.volume_writer import Closing, Sign
    from exporter.context import ExportContext
    from exporter.distributed.part import MissingBlob, Part
    from exporter.distributed.plan_file import PlanFile


# Records: one next to each volume, true of one version of its objects.

_NAME = re.compile(re.escape(part.NAME) + r"-(\d{4,6})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Records:
    """The records below a prefix, of volumes that are made by a plan. I/O raises StorageError."""

    place: S3Location
    plan: PlanFile

    def all(self) -> dict[int, Part]:
        """Return the records by volume number. Raises UsageError for one that cannot be read, or is of another plan."""
        return {number: self._read(child) for child, number in records_in(self.place)}

    def of(self, number: int) -> Part | None:
        """Return the record of a volume; None where there is none. Raises UsageError as `all` does."""
        at = self.at(number)
        return None if at.stat() is None else self._read(at)

    def at(self, number: int) -> S3Location:
        """Return the location of the record of a volume."""
        return self.place / f"{part.NAME}-{number:04d}"

    def write(self, number: int, record: Part) -> None:
        """Write the record of a volume."""
        self.at(number).write(part.encode(record))

    def volume(self, number: int) -> S3Location:
        """Return the location of a volume."""
        return self.place / self.plan.spec.layout.volumes[number - 1].name

    def is_stored(self, number: int, record: Part) -> bool:
        """Say whether a volume, with its parity, exists in the version that its record names."""
        for name in record.sums or (self.volume(number).name,):
            stat = (self.place / name).stat()
            # The ETag and not the size: a volume of another key has the same size.
            if stat is None or stat.tag != record.tags.get(name):
                return False
        return True

    def sums(self, number: int, record: Part) -> dict[str, str]:
        """Return the checksums of a volume and its parity. Raises UsageError when its record has others."""
        name = self.volume(number).name
        names = [name, name + parity.SUFFIX] if self.plan.spec.terms.parity else [name]
        if sorted(record.sums) != names:
            raise UsageError(f"{self.at(number)}: not the checksums of {' and '.join(names)}", hint="Delete it there.")
        return record.sums

    def _read(self, at: S3Location) -> Part:
        record, layout = part.decode(at.read(part.MAX_SIZE), str(at)), self.plan.spec.layout
        match = _NAME.fullmatch(at.name)
        numbers = (int(match[1]),) if match else ()
        # Records come from the bucket, where other accounts may write; a volume number out of range would be a wrong path.
        known = record.lost.keys() <= layout.blobs.keys() and numbers and 1 <= numbers[0] <= len(layout.volumes)
        if record.volumes != numbers or record.plan != self.plan.identity or not known:
            raise UsageError(f"{at}: the record of another volume or plan", hint="Delete it, and its volume.")
        return record


def records_in(place: S3Location) -> Iterator[tuple[S3Location, int]]:
    """Give the locations of the records below a prefix, with the numbers of their volumes."""
    for child, _ in place.children():
        match = _NAME.fullmatch(child.name)
        if match is not None:
            yield child, int(match[1])


# Scratch disk: a directory for each volume that is being made, named by archive and number, locked until it is uploaded.

_NAMED = 12  # hex digits in the name of a directory: enough for any number of archives on one disk


@dataclass(frozen=True, slots=True)
class Scratch:
    """The directories of one archive on a scratch disk, which several processes and archives may share."""

    root: Path
    owner: str

    @classmethod
    def of(cls, root: Path, place: S3Location, plan: Digest) -> Scratch:
        """Return the scratch disk for the archive of a plan below a prefix."""
        return cls(root, hex_of(digest_of(f"{place} {plan}".encode()))[:_NAMED])

    def has(self, number: int) -> bool:
        """Say whether an interrupted run left the directory of a volume."""
        return self._directory(number).exists()

    @contextmanager
    def held(self, number: int) -> Iterator[Path]:
        """Lock the directory of a volume, with the files that an interrupted run left; removed when the block succeeds.

        Raises UsageError where it cannot be made, and what `locked` raises when another process holds it.
        """
        directory = self._directory(number)
        lock = directory.with_name(f"{directory.name}.lock")
        output.make_directory(self.root, "--scratch")
        with locked(lock, f"the scratch directory {directory}"):
            directory.mkdir(exist_ok=True)
            yield directory
            # Not in a `finally`: after a failure the next run continues with these files.
            shutil.rmtree(directory)
            lock.unlink(missing_ok=True)

    def _directory(self, number: int) -> Path:
        return self.root / f"hub-export-{self.owner}-{number:04d}"


# Making and replacing volumes.

_UPLOADS = 4  # parts in flight: 64 MiB of memory for volumes of up to 160 GB


@dataclass(frozen=True, slots=True)
class S3Settings:
    """Settings for making an archive in object storage: as `Making`, with a `scratch` disk that has room for a volume."""

    place: S3Location
    scratch: Path | None
    jobs: int = 6
    signer: Signer | None = None

    def making(self, directory: Path) -> Making:
        """Return the settings for a part in a directory."""
        return Making(directory, self.jobs, self.signer)

    @property
    def sign(self) -> Sign | None:
        """What signs a file."""
        return self.signer.sign if self.signer else None


class _OvertakenError(Exception):
    """Another process has finished the volume meanwhile: `record` is its record."""

    def __init__(self, record: Part) -> None:
        super().__init__()
        self.record = record


@dataclass(frozen=True)
class Volumes:
    """The volumes of an archive that is being made by a plan."""

    plan: PlanFile
    work: S3Settings
    progress: Progress

    @cached_property
    def records(self) -> Records:
        """Their records."""
        return Records(self.work.place, self.plan)

    @property
    def _layout(self) -> Layout:
        return self.plan.spec.layout

    @cached_property
    def _planned(self) -> Closing:
        """What closes the archive when no blob is missing."""
        return self.plan.spec.closing({}, self.work.sign)

    def _scratch(self, why: str) -> Scratch:
        """Return the scratch disk of this archive. Raises UsageError without one."""
        if self.work.scratch is None:
            # Only with `finish`: `create` requires --scratch before anything is read.
            raise UsageError(why, hint="Give --scratch DIR, with room for a volume.")
        return Scratch.of(self.work.scratch, self.work.place, self.plan.identity)

    def made(self, number: int, record: Part | None, media: ExportContext) -> Part:
        """Make and upload a volume, unless it is there already; return its record. Raises what `part_directory.make` raises."""
        scratch, numbers = self._scratch("volumes are made on a scratch disk"), range(number, number + 1)
        if record is not None and self._is_right(number, record) and not scratch.has(number):
            return record
        with scratch.held(number) as directory:
            # Read again under the lock: another process on this machine may have just finished the volume.
            record = self.records.of(number)
            if record is not None and self._is_right(number, record):
                return record  # made by a run that was interrupted before it removed the directory
            here = part_directory.directory_of(directory, numbers)
            if record is not None:
                self._take_up(number, record, here)
            # In a directory like any part, with its parallel writers, resuming and reading back.
            made = part_directory.make(self.plan, self.work.making(directory), numbers, media).record
            try:
                return self._bring(number, made, here, lambda: self._give_way(number, made))
            except _OvertakenError as error:
                return error.record

    def _is_right(self, number: int, record: Part) -> bool:
        """Say whether a volume is there, closed with the inventory as planned."""
        return not record.lost and record.closed_by(self._planned) and self.records.is_stored(number, record)

    def _take_up(self, number: int, record: Part, directory: Path) -> None:
        """Fetch an unfinished volume back to the scratch disk, so that only its missing blobs are fetched from the source."""
        volume = self._layout.volumes[number - 1]
        if (
            record.lost
            and record.inventory is None
            and not (directory / volume.name).exists()
            and self.records.is_stored(number, record)
        ):
            directory.mkdir(exist_ok=True)
            output.write_journal(directory / JOURNAL_NAME, self._layout)
            self._fetch(number, record, directory)

    def _give_way(self, number: int, made: Part) -> None:
        """Check right before a volume is replaced that no other process was faster, then delete its record.

        S3 has no condition that would make the check and the upload one step (ADR 0023). Raises UsageError when the archive was
        finished meanwhile, _OvertakenError when another process has finished the volume.
        """
        self._require_unfinished()
        other = self.records.of(number)
        # A finished volume is never replaced by an unfinished one; two finished ones have the same bytes.
        if made.lost and other is not None and self._is_right(number, other):
            raise _OvertakenError(other)
        self.records.at(number).delete()

    def _require_unfinished(self) -> None:
        if (self.work.place / checksums.NAME).stat() is not None:
            raise UsageError(f"{self.work.place} was finished meanwhile", hint="It is not touched; hub-import verify reads it.")

    def _bring(self, number: int, record: Part, directory: Path, before: Callable[[], None]) -> Part:
        """Upload a volume and its parity, with a call of `before` right before each is visible; write and return its record."""
        tags: dict[str, str] = {}
        for name in record.sums or (self.records.volume(number).name,):
            source, target, advance = directory / name, self.work.place / name, self.progress.advance
            with step(self.progress, f"uploading {name}", source.stat().st_size, kept=True):
                tags[name] = upload(source, target, jobs=_UPLOADS, advance=advance, before_complete=before)
        before()
        # The record comes last: killed before, the volume is made again, and never taken for another one.
        there = replaced(record, tags=tags)
        self.records.write(number, there)
        return there

    def rewritten(self, number: int, record: Part, closing: Closing, missing: Mapping[Digest, MissingBlob]) -> Part:
        """Write a volume from the content of the stored ones, closed by `closing`, and upload it in place of the present one.

        From before the upload its record lists the blobs that are `missing` in it: it never counts as finished again.
        """
        if record.tags and not self.records.is_stored(number, record):
            raise self.changed(number)
        # Also where another process had the blob: from now on its place in this volume is empty.
        cleared = {each: missing[each] for each in missing if number in volumes_of(each, self._layout)}
        known = replaced(record, lost={**record.lost, **cleared}, inventory=None, signature=None, sums={}, tags={})
        numbers, share = range(number, number + 1), self.plan.spec.terms.parity
        with self._scratch(self._why_rewritten(number, closing)).held(number) as directory:
            here = part_directory.directory_of(directory, numbers)
            source = VolumesSource(self._layout, self.records.volume, missing)
            with PartWriter(here, self._layout, numbers, self.plan.identity, progress=self.progress, share=share) as writer:
                copy_volumes(writer, self._layout, numbers, source, missing, jobs=self.work.jobs, progress=self.progress)
                made = writer.finish(closing, known.lost)
            return self._bring(number, made, here, lambda: self._announce(number, known))

    def _announce(self, number: int, known: Part) -> None:
        """Write a record that is true of a volume before and after it is replaced."""
        self._require_unfinished()
        self.records.write(number, known)

    def _fetch(self, number: int, record: Part, directory: Path) -> None:
        """Copy a volume to the scratch disk, which needs room for the volume and its parity."""
        source, share = self.records.volume(number), self.plan.spec.terms.parity
        room = self._layout.volumes[number - 1].data_size + self._layout.reserve
        # Before the download, which takes minutes.
        require_space(directory, parity.bound(room, share) + room if share else room, "a volume")
        with step(self.progress, f"fetching {source.name}", room):
            copy_file(source, directory / source.name, record.sums.get(source.name), self.progress.advance)

    def _why_rewritten(self, number: int, closing: Closing) -> str:
        missing = sum(1 for record in closing.inventory.blobs.values() if record.missing is not None)
        why = f"{counted(missing, 'blob')} missing" if missing else "it was made with another --sign, or none"
        return f"{self.records.volume(number)} has to be written again on a scratch disk: {why}"

    def changed(self, number: int) -> ArchiveDamagedError:
        """Return the error for a volume whose objects are not the versions that its record names."""
        return ArchiveDamagedError(
            f"{self.records.volume(number)}: not the object that was uploaded, or its parity is not",
            hint=f"Make it again: hub-export create --plan … --volumes {number}, then finish.",
        )
