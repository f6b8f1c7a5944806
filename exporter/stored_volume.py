"""One volume of an archive in object storage: made on a scratch disk and uploaded, or fetched, closed again and uploaded.

Whoever was away for long may come after others: right before a volume is replaced one looks once more, and its record goes
first (ADR 0023).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from msgspec.structs import replace as replaced

from common.archive import checksums, joining, journal, parity
from common.archive.closing import Closing, Sign
from common.archive.layout import Layout
from common.archive.part import Lost, Part
from common.archive.signature import Signer
from common.archive.staging import Buffers
from common.archive.volume_file import VolumeFile
from common.columns import counted
from common.digest import Digest
from common.errors import ArchiveDamagedError, UsageError
from common.files import require_space
from common.progress import Progress
from common.storage.place import StoredPlace
from common.storage.upload import upload
from exporter import parts
from exporter.fetch import Media
from exporter.plan_file import PlanFile
from exporter.scratch import Scratch
from exporter.settings import Making
from exporter.stored_records import Records

_UPLOADS = 4  # parts of a volume on their way at the same time
_NAMED = 20  # volumes in a message


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

    def made(self, number: int, record: Part | None, media: Media) -> Part:
        """Make and upload one volume, unless it is there already; return its record. Raises what `parts.make` raises."""
        scratch, numbers = self._scratch("volumes are made on a scratch disk"), range(number, number + 1)
        if record is not None and self._is_right(number, record) and not scratch.has(number):
            return record
        with scratch.held(number) as directory:
            record = self.records.of(number)
            if record is not None and self._is_right(number, record):
                return record  # by a run that was interrupted while it tidied up
            here = parts.directory_of(directory, numbers)
            if record is not None:
                self._take_up(number, record, here)
            made = parts.make(self.plan, self.work.making(directory), numbers, media).record
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
            journal.write(directory / journal.NAME, self._layout)
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
        named = ", ".join(parted[:_NAMED]) + (", …" if len(parted) > _NAMED else "")
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
