"""Finish an archive: find its parts in directories, and join them, or write the archive from them."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from common.archive import checksums
from common.archive.discover import find
from common.archive.volume import JOURNAL_NAME, REPORT_NAME
from common.errors import UsageError
from exporter.archive.finished import Finished
from exporter.archive.output import JOINING, is_journal_of, refuse_part, tidy_finished
from exporter.archive.writer import ArchiveWriter
from exporter.distributed import joining, part, part_selection, plan_file
from exporter.distributed.part_directory import PLAN
from exporter.distributed.part_selection import FoundPart
from exporter.distributed.rewriting import VolumesSource, copy_volumes
from exporter.report.page import Report

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from common.archive.inventory import Inventory
    from common.oci.image import Digest
    from common.progress import Progress
    from exporter.archive.volume_writer import Closing
    from exporter.distributed.part import MissingBlob
    from exporter.distributed.part_selection import Selection
    from exporter.distributed.plan_file import PlanFile
    from exporter.settings import Making


_UNFINISHED = (
    "Run hub-export create --plan … for them again: it continues. If the blobs are gone for good, finish --accept-missing "
    "makes the archive without them."
)
_LOG = logging.getLogger(__name__)


def join(directories: Sequence[Path], work: Making, progress: Progress, *, accept_missing: bool = False) -> Finished:
    """Make the archive of the parts in `directories`, or directly below them, in `work.output`.

    Raises UsageError for a directory without parts, and for unfinished parts unless their missing blobs are accepted; and what
    `joining` raises. A finished archive of the same parts is left as it is.
    """
    if work.output.is_dir():
        tidy_finished(work.output)
    made = _made(work.output)
    found = list(_parts(directories))
    if made is not None:
        found = [one for one in found if not _is_nearly_removed(one)]
    # All parts were moved by an earlier run: nothing is left to compare.
    if not found and made is not None:
        return made
    if not found:
        named = ", ".join(map(str, directories))
        raise UsageError(f"no part of an archive in {named}", hint="hub-export create --plan … --volumes … makes parts.")
    # Every part has a copy of the plan; `select` compares its digest with the records of the others.
    plan = plan_file.load(found[0].directory / PLAN)
    selection = part_selection.select(found, plan.spec.layout, plan.identity)
    if made is None or not _is_done(made.inventory, plan, selection):
        part_selection.require_all(selection, plan.spec.layout)
        made = _finish(plan, selection, work, progress, accept_missing=accept_missing)
    for one in (one for one in found if one.directory.is_dir()):
        joining.tidy(one.directory)
        if one.directory.is_dir() and not joining.is_without_volumes(one.directory):
            _LOG.warning("%s: its volumes are in %s now; it is no longer needed", one.directory, work.output)
    return made


def _made(directory: Path) -> Finished | None:
    """Return the finished archive in a directory, if any. Raises the errors of opening it."""
    if not (directory / checksums.NAME).is_file():
        return None
    found = find([directory])
    return Finished(found.inventory, found.digest)


def _finish(plan: PlanFile, selection: Selection, work: Making, progress: Progress, *, accept_missing: bool) -> Finished:
    """Make the archive of the selected parts."""
    spec = plan.spec
    missing = part_selection.missing_blobs(selection, spec.layout)
    if not accept_missing:
        unfinished = [str(one.directory) for one in part_selection.parts_of(selection) if one.record.lost]
        part_selection.require_finished(unfinished, missing, _UNFINISHED)
    closing = spec.closing({digest: each.error for digest, each in missing.items()}, work.sign)
    finish = _Finish(plan, selection, missing, work, progress, closing)
    # The usual case: files are moved, and nothing of the content is read.
    closed = all(one.record.closed_by(closing) for one in part_selection.parts_of(selection))
    if closed and not _is_being_rewritten(plan, work.output):
        joining.join(selection, work.output, spec.layout, closing, progress=progress, further=finish.further)
    else:
        finish.rewrite()
    return Finished(closing.inventory, closing.identity)


@dataclass(frozen=True, slots=True)
class _Finish:
    """One archive that is made of its parts, and what closes it."""

    plan: PlanFile
    selection: Selection
    missing: Mapping[Digest, MissingBlob]
    work: Making
    progress: Progress
    closing: Closing

    @property
    def _report(self) -> Report:
        return Report(self.plan.facts, self.work)

    def further(self, sums: Mapping[str, str]) -> Mapping[str, bytes]:
        """Return the report, for the checksums of all other files."""
        return {REPORT_NAME: self._report.render(self.closing.inventory, sums)}

    def rewrite(self) -> None:
        """Write the volumes of the archive from those of its parts, which stay as they are: see `rewriting`."""
        layout, share, output = self.plan.spec.layout, self.plan.spec.terms.parity, self.work.output
        # A part has a journal of the same layout, and would be taken for an interrupted export.
        if output.is_dir():
            refuse_part(output)
        source = VolumesSource(layout, self._volume, self.missing)
        with (
            part_selection.locked_parts(part_selection.parts_of(self.selection)),
            ArchiveWriter(output, layout, progress=self.progress, share=share, beside=self._report.room) as writer,
        ):
            copy_volumes(
                writer, layout, self.selection.keys(), source, self.missing, jobs=self.work.jobs, progress=self.progress
            )
            writer.finish(self.closing, self.further)

    def _volume(self, number: int) -> Path:
        return self.selection[number].directory / self.plan.spec.layout.volumes[number - 1].name


def _is_being_rewritten(plan: PlanFile, directory: Path) -> bool:
    """Say whether an interrupted export by the layout of a plan is in a directory: `_Finish.rewrite` continues it."""
    journal = directory / JOURNAL_NAME
    if not journal.is_file() or (directory / JOINING).exists() or joining.is_without_volumes(directory):
        return False  # a joining that was interrupted before its mark has a journal, but no volumes
    return is_journal_of(journal, plan.spec.layout)


def _parts(directories: Sequence[Path]) -> Iterator[FoundPart]:
    for directory in directories:
        if not directory.is_dir():
            raise UsageError(f"{directory} is no directory", hint="Name the directories that create --volumes wrote into.")
        # The directory itself may be a part, when it was copied from the disk of another machine.
        for place in (directory, *sorted(directory.glob("volumes-*"))):
            record = part.read(place) if place.is_dir() else None
            if record is not None:
                yield FoundPart(place, record)


def _is_nearly_removed(one: FoundPart) -> bool:
    """Say whether the removal of a part was interrupted; end it then."""
    if (one.directory / PLAN).is_file() or not joining.is_without_volumes(one.directory):
        return False
    joining.tidy(one.directory)
    return True


def _is_done(made: Inventory, plan: PlanFile, selection: Selection) -> bool:
    """Say whether a finished archive is the one of a plan, and the parts have no blob that it lacks."""
    layout, planned = plan.spec.layout, plan.spec.inventory({})
    missing = {digest for digest in layout.blobs if digest in made.blobs and made.blobs[digest].missing is not None}
    # Compared without what is missing, which the plan cannot know.
    present = {digest: planned.blobs[digest] if digest in missing else blob for digest, blob in made.blobs.items()}
    same = (made.created, made.volumes, present) == (planned.created, planned.volumes, planned.blobs)
    more = len(selection) == len(layout.volumes) and bool(missing - part_selection.missing_blobs(selection, layout).keys())
    return same and made.manifests.keys() == planned.manifests.keys() and not more
