"""The steps of an export whose plan was read from a file.

    plan file (distributed/plan_file.py) ─┬─► archive (archive/fetch.py), on this machine
                                          ├─► parts, on any machines (distributed/part_directory.py) ─► archive
                                          └─► volumes in object storage (distributed/s3.py) ─► archive

The plan may have been made days before, on another machine; no catalog is contacted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from common.errors import ExitCode, UsageError
from exporter.archive import finished
from exporter.archive.fetch import fetch
from exporter.archive.output import CATALOGS, make_directory, prepared
from exporter.context import opened
from exporter.distributed import finishing, part_directory, s3
from exporter.plan.checks import check
from exporter.report.page import Report
from exporter.workflow import Exported, outcome

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from common.progress import Progress
    from common.registry.settings import RegistrySettings
    from exporter.archive.archive_spec import ArchiveSpec
    from exporter.distributed.part_directory import MadePart
    from exporter.distributed.plan_file import PlanFile
    from exporter.distributed.s3_volumes import S3Settings
    from exporter.settings import Making


def export_planned(found: PlanFile, work: Making, registry: RegistrySettings, progress: Progress, *, strict: bool) -> Exported:
    """Make the archive of a plan that was read from a file; see `export`. Contacts no catalog."""
    # The plan may have been made days ago, with other flags: the checks of `export` apply again.
    check(found.spec.plan, strict=strict)
    there = finished.left_in(work.output)
    if there is not None:
        finished.require_same(there.inventory, found.spec, work)
        return Exported(*there, earlier=True)
    with prepared(work.output), opened(registry, progress, work.output / CATALOGS) as context:
        return Exported(*fetch(found.spec, work, context, Report(found.facts, work)))


def export_part(
    found: PlanFile, work: Making, numbers: range, registry: RegistrySettings, progress: Progress, *, strict: bool
) -> MadePart:
    """Make the volumes `numbers` of the archive of a plan, in a directory of their own within `work.output`; see `export`.

    A finished part is left as it is; an unfinished one continues with the blobs that are missing.
    """
    check(found.spec.plan, strict=strict)
    make_directory(work.output, "--output")
    with opened(registry, progress, part_directory.directory_of(work.output, numbers) / CATALOGS) as context:
        return part_directory.make(found, work, numbers, context)


def finish(directories: Sequence[Path], work: Making, progress: Progress, *, accept_missing: bool = False) -> Exported:
    """Join the parts in `directories`, or directly below them, into the archive that one process would have made.

    Raises UsageError without parts, and for unfinished ones unless their missing blobs are accepted; ArchiveIncompleteError
    when volumes are in none of them. A finished archive is left as it is.
    """
    return Exported(*finishing.join(directories, work, progress, accept_missing=accept_missing))


def export_to_s3(
    found: PlanFile,
    work: S3Settings,
    numbers: range | None,
    registry: RegistrySettings,
    progress: Progress,
    *,
    strict: bool,
) -> MadePart | Exported:
    """Make the volumes `numbers` of the archive of a plan in object storage; all of it, when None. See `export`.

    It is finished unless a blob is missing: an archive without it needs `finish` with `accept_missing`.
    """
    if work.scratch is None:
        raise UsageError("an archive in object storage needs --scratch DIR", hint="Name a directory with room for a volume.")
    check(found.spec.plan, strict=strict)
    make_directory(work.scratch, "--scratch")
    with opened(registry, progress) as context:
        made = s3.make(found, work, numbers or range(1, len(found.spec.layout.volumes) + 1), context)
    # One process made all volumes, so no other can still be writing some.
    return Exported(*s3.finish(work, progress)) if numbers is None and not made.record.lost else made


def finish_s3(work: S3Settings, progress: Progress, *, accept_missing: bool = False) -> Exported:
    """Finish the archive in object storage when all its volumes are present. Raises the errors of `s3.finish`."""
    return Exported(*s3.finish(work, progress, accept_missing=accept_missing))


def outcome_of_part(made: MadePart, spec: ArchiveSpec, *, strict: bool, whole: bool = False) -> ExitCode:
    """Return the exit code for the missing blobs of a part, as for the archive. Raises ProblemsError for any under `strict`.

    `whole`: the archive was requested, not a part; it is unfinished then, so the code is 3 in any case.
    """
    status = outcome(spec.problems({digest: each.error for digest, each in made.record.lost.items()}), strict=strict)
    return ExitCode.PROBLEMS if whole else status
