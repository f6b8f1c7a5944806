"""Make a part of an archive in a directory of its own, next to the plan that it is made by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from common.files import write_parts_atomic
from exporter.archive.fetch import PlannedSource, copy_blobs
from exporter.archive.output import require_free
from exporter.archive.writer import blobs_of
from exporter.distributed import part
from exporter.distributed.part import Part, PartWriter
from exporter.settings import Making

if TYPE_CHECKING:
    from pathlib import Path

    from common.archive.location import Place
    from exporter.context import ExportContext
    from exporter.distributed.plan_file import PlanFile


PLAN = "hub-export.plan"


@dataclass(frozen=True, slots=True)
class MadePart:
    """A part in its present state: its location, its volumes, the number of all volumes, and its record."""

    directory: Place
    volumes: range
    count: int
    record: Part


def directory_of(output: Path, numbers: range) -> Path:
    """Return the directory of a part within an output directory."""
    return output / f"volumes-{numbers[0]:04d}-{numbers[-1]:04d}"


def make(found: PlanFile, work: Making, numbers: range, media: ExportContext) -> MadePart:
    """Make a part, or continue one; leave a finished one as it is. Raises what `fetch` raises."""
    directory = directory_of(work.output, numbers)
    here = Making(directory, work.jobs, work.signer)
    record = _finished(found, here)
    if record is None:
        # The output directory may hold the finished archive already; a part in it would only confuse.
        if work.output.is_dir():
            require_free(work.output)
        record = _fetch_part(found, here, numbers, media)
    return MadePart(directory, numbers, len(found.spec.layout.volumes), record)


def _finished(found: PlanFile, work: Making) -> Part | None:
    """Return the record of a part that needs nothing more."""
    record = part.read(work.output) if work.output.is_dir() else None
    if record is None or record.lost or record.plan != found.identity:
        return None
    # `finish` moves the volumes away and leaves the record until the archive is complete.
    here = all((work.output / name).is_file() for name in record.sums)
    return record if here and record.closed_by(found.spec.closing({}, work.sign)) else None


def _fetch_part(found: PlanFile, making: Making, numbers: range, media: ExportContext) -> Part:
    """Fetch the blobs of the volumes `numbers`, and close the volumes unless a blob is missing. Raises what `fetch` raises."""
    spec, directory = found.spec, making.output
    share, source = spec.terms.parity, PlannedSource(spec.plan, media)

    def begin() -> None:
        write_parts_atomic(directory / PLAN, found.packed.parts())

    with PartWriter(
        directory, spec.layout, numbers, found.identity, progress=media.progress, share=share, begin=begin
    ) as writer:
        lost = copy_blobs(
            list(blobs_of(spec.layout, numbers)),
            source,
            writer,
            jobs=making.jobs,
            progress=media.progress,
            on_missing=lambda _digest: None,  # its place is not cleared: the next run continues from there
            names=source.names.name,
        )
        # The volumes stay open: their inventory would have to name a blob that the next run may get.
        return writer.suspend(lost) if lost else writer.finish(spec.closing({}, making.sign))
