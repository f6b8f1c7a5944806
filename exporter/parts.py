"""Parts of an archive, each in a directory of its own with the plan that made it; and the archive that they are together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.archive import checksums, inventory_file, joining, part
from common.archive.inventory import Inventory
from common.archive.joining import FoundPart
from common.archive.media import Place
from common.archive.output import require_free, tidy_finished
from common.archive.part import Part
from common.digest import digest_of
from common.errors import UsageError
from common.files import write_atomic
from common.progress import Progress
from exporter import differences, fetch, plan_file
from exporter.fetch import Media
from exporter.plan_file import PlanFile
from exporter.report.page import Report
from exporter.settings import Making

PLAN = "hub-export.plan"


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


def make(found: PlanFile, work: Making, numbers: range, media: Media) -> MadePart:
    """Make a part; leave one that is whole as it is. Raises what `fetch_part` raises."""
    directory = directory_of(work.output, numbers)
    here = Making(directory, work.jobs, work.signer)
    record = _whole(found, here)
    if record is None:
        if work.output.is_dir():
            require_free(work.output)
        directory.mkdir(parents=True, exist_ok=True)
        part.forget(directory)
        write_atomic(directory / PLAN, found.raw)
        record = fetch.fetch_part(found.drawn, here, media, numbers, found.identity)
    return MadePart(directory, numbers, len(found.drawn.layout.volumes), record)


def _whole(found: PlanFile, work: Making) -> Part | None:
    """Return the record of a part that needs nothing more."""
    record = part.read(work.output) if work.output.is_dir() else None
    if record is None or record.lost or record.plan != found.identity:
        return None
    here = all((work.output / found.drawn.layout.volumes[number - 1].name).is_file() for number in record.volumes)
    return record if here and record.closed_by(found.drawn.closing({}, work.sign)) else None


def join(directories: Sequence[Path], work: Making, progress: Progress) -> Inventory:
    """Make the archive of the parts in `directories`, or directly below them, in `work.output`; return its inventory.

    Raises UsageError for what is no part, and what `joining` raises. An archive that is finished already is left as it is.
    """
    if work.output.is_dir():
        tidy_finished(work.output)
    found = list(_parts(directories))
    finished = (work.output / checksums.NAME).is_file()
    if not found and finished:
        return differences.load(work.output)
    if not found:
        named = ", ".join(map(str, directories))
        raise UsageError(f"no part of an archive in {named}", hint="hub-export create --plan … --volumes … makes parts.")
    plan = plan_file.load(found[0].directory / PLAN)
    if finished and (_is_whole(work.output, plan) or _is_of(work.output, plan, found)):
        for one in found:
            joining.tidy(one.directory)
        return differences.load(work.output)
    owned = joining.owners(found, plan.drawn.layout, plan.identity)
    return fetch.join(plan.drawn, work, owned, Report(plan.facts, work), progress)


def _parts(directories: Sequence[Path]) -> Iterator[FoundPart]:
    for directory in directories:
        if not directory.is_dir():
            raise UsageError(f"{directory} is no directory", hint="Name the directories that create --volumes wrote into.")
        for place in (directory, *sorted(directory.glob("volumes-*"))):
            record = part.read(place) if place.is_dir() else None
            if record is not None:
                yield FoundPart(place, record)


def _is_whole(output: Path, plan: PlanFile) -> bool:
    """Say whether a finished archive is the one that the plan makes when nothing is lost."""
    return digest_of((output / inventory_file.NAME).read_bytes()) == plan.drawn.closing({}, None).identity


def _is_of(output: Path, plan: PlanFile, found: Sequence[FoundPart]) -> bool:
    """Say whether a finished archive is what the parts became: all were used up, and it is that of their plan, with losses."""
    made = differences.load(output)
    same = (made.created, made.volumes) == (plan.drawn.terms.created, plan.drawn.layout.volumes)
    return same and made.manifests.keys() == plan.drawn.plan.documents.keys() and all(map(_is_used_up, found))


def _is_used_up(one: FoundPart) -> bool:
    return joining.is_used_up(one.directory)
