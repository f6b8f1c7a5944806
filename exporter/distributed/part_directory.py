"""Parts of an archive, each in a directory of its own with the plan that made it; and the archive that they are together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from common.archive import checksums, parity
from common.errors import UsageError
from common.files import write_atomic
from common.log import logger
from exporter.archive.fetch import Page, copy_planned
from exporter.archive.output import REPORT, require_free, tidy_finished
from exporter.archive.writer import blobs_of
from exporter.distributed import join_state, joining, part, plan_file
from exporter.distributed.join_state import FoundPart, Owners
from exporter.distributed.part import Part, PartWriter
from exporter.plan import diff
from exporter.report.page import Report
from exporter.settings import Making

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from pathlib import Path

    from common.archive.inventory import Inventory
    from common.archive.location import Place
    from common.oci.image import Digest
    from common.progress import Progress
    from exporter.archive.archive_spec import Blueprint
    from exporter.context import ExportContext
    from exporter.distributed.plan_file import PlanFile

PLAN = "hub-export.plan"
_LOG = logger(__name__)


@dataclass(frozen=True, slots=True)
class MadePart:
    """A part as it is now: where, which volumes of how many, and its record."""

    directory: Place
    volumes: range
    count: int
    record: Part


def directory_of(output: Path, numbers: range) -> Path:
    """Return where a part lies within an output directory."""
    return output / f"volumes-{numbers[0]:04d}-{numbers[-1]:04d}"


def make(found: PlanFile, work: Making, numbers: range, media: ExportContext) -> MadePart:
    """Make a part; leave one that is whole as it is. Raises what `fetch` raises."""
    directory = directory_of(work.output, numbers)
    here = Making(directory, work.jobs, work.signer)
    record = _whole(found, here)
    if record is None:
        if work.output.is_dir():
            require_free(work.output)

        def begin() -> None:
            write_atomic(directory / PLAN, found.raw)

        record = _fetch_part(found.drawn, here, media, numbers, found.identity, begin=begin)
    return MadePart(directory, numbers, len(found.drawn.layout.volumes), record)


def _fetch_part(
    drawn: Blueprint,
    making: Making,
    media: ExportContext,
    numbers: Collection[int],
    identity: Digest,
    *,
    begin: Callable[[], None],
) -> Part:
    """Make the volumes `numbers` of the archive, whose plan has the `identity`; return what became of them.

    `begin` is called when the directory is locked, before anything in it changes. Raises what `fetch` raises.
    """
    share = drawn.terms.parity
    if share:
        parity.require_coder()
    with PartWriter(
        making.output, drawn.layout, numbers, identity, progress=media.progress, share=share, begin=begin
    ) as writer:
        lost = copy_planned(drawn.plan, list(blobs_of(drawn.layout, numbers)), making, media, writer)
        return writer.finish(drawn.closing({}, making.sign), lost)


def _join(drawn: Blueprint, making: Making, owned: Owners, report: Page, progress: Progress) -> Inventory:
    """Make the archive out of its parts; return the inventory that it carries. Raises what `joining.join` raises."""
    lost = {digest: each.error for digest, each in join_state.lost(owned, drawn.layout).items()}
    closing = drawn.closing(lost, making.sign)
    joining.join(
        owned,
        making.output,
        drawn.layout,
        closing,
        share=drawn.terms.parity,
        progress=progress,
        further=lambda sums: {REPORT: report.render(closing.inventory, sums)},
    )
    return closing.inventory


def _whole(found: PlanFile, work: Making) -> Part | None:
    """Return the record of a part that needs nothing more."""
    record = part.read(work.output) if work.output.is_dir() else None
    if record is None or record.lost or record.plan != found.identity:
        return None
    here = all((work.output / name).is_file() for name in record.sums)
    return record if here and record.closed_by(found.drawn.closing({}, work.sign)) else None


def join(directories: Sequence[Path], work: Making, progress: Progress) -> Inventory:
    """Make the archive of the parts in `directories`, or directly below them, in `work.output`; return its inventory.

    Raises UsageError for what is no part, and what `joining` raises. An archive of theirs that is finished is left as it is.
    """
    if work.output.is_dir():
        tidy_finished(work.output)
    made = diff.load(work.output) if (work.output / checksums.NAME).is_file() else None
    found = list(_parts(directories))
    if made is not None:
        found = [one for one in found if not _is_nearly_gone(one)]
    if not found and made is not None:
        return made
    if not found:
        named = ", ".join(map(str, directories))
        raise UsageError(f"no part of an archive in {named}", hint="hub-export create --plan … --volumes … makes parts.")
    plan = plan_file.load(found[0].directory / PLAN)
    owned = join_state.held(found, plan.drawn.layout, plan.identity)
    if made is None or not _is_done(made, plan, owned):
        join_state.require_all(owned, plan.drawn.layout)
        made = _join(plan.drawn, work, owned, Report(plan.facts, work), progress)
    for one in (one for one in found if one.directory.is_dir()):
        joining.tidy(one.directory)
        if one.directory.is_dir() and not joining.is_used_up(one.directory):
            _LOG.warning("%s: its volumes are in %s now; it is no longer needed", one.directory, work.output)
    return made


def _parts(directories: Sequence[Path]) -> Iterator[FoundPart]:
    for directory in directories:
        if not directory.is_dir():
            raise UsageError(f"{directory} is no directory", hint="Name the directories that create --volumes wrote into.")
        for place in (directory, *sorted(directory.glob("volumes-*"))):
            record = part.read(place) if place.is_dir() else None
            if record is not None:
                yield FoundPart(place, record)


def _is_nearly_gone(one: FoundPart) -> bool:
    """Say whether a part was being removed when that was interrupted; go on with it then."""
    if (one.directory / PLAN).is_file() or not joining.is_used_up(one.directory):
        return False
    joining.tidy(one.directory)
    return True


def _is_done(made: Inventory, plan: PlanFile, owned: Owners) -> bool:
    """Say whether a finished archive is the one of a plan, and the parts that are here have nothing that it lacks."""
    layout, planned = plan.drawn.layout, plan.drawn.inventory({})
    missing = {digest for digest in layout.blobs if digest in made.blobs and made.blobs[digest].missing is not None}
    present = {digest: planned.blobs[digest] if digest in missing else blob for digest, blob in made.blobs.items()}
    same = (made.created, made.volumes, present) == (planned.created, planned.volumes, planned.blobs)
    more = len(owned) == len(layout.volumes) and bool(missing - join_state.lost(owned, layout).keys())
    return same and made.manifests.keys() == planned.manifests.keys() and not more
