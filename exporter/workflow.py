"""The steps of an export. Start reading here.

    image set ─► plan (plan/planning.py) ─► archive (archive/fetch.py), with its report (report/)
    re-request ─► plan (plan/rerequest_plan.py) ─► archive
    plan ─► file (distributed/plan_file.py) ─► parts, on any machines (distributed/part_directory.py) ─► archive
                              └─► volumes in object storage (distributed/s3.py) ─► archive

Planning reads manifests, catalogs and bundles only; `export` then fills the positions that the plan fixed (ADR 0003).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from common.errors import ExitCode, UsageError, first_of, of_problems
from exporter.archive import finished
from exporter.archive.archive_spec import ArchiveSpec
from exporter.archive.fetch import fetch, read_early
from exporter.archive.output import CATALOGS, make_directory, prepared, tidy_finished
from exporter.context import opened
from exporter.distributed import finishing, part_directory, plan_file, s3
from exporter.kit import making
from exporter.plan import mapping, planning, rerequest_plan
from exporter.plan.checks import check, require_none
from exporter.report.page import Report

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from common.archive.inventory import Inventory, Problem
    from common.oci.image import Digest
    from common.progress import Progress
    from common.registry.settings import RegistrySettings
    from exporter.distributed.part_directory import MadePart
    from exporter.distributed.plan_file import PlanFile
    from exporter.distributed.s3_volumes import S3Settings
    from exporter.kit.making import Kit
    from exporter.kit.settings import KitSettings
    from exporter.plan.planning import Planned
    from exporter.settings import ExportSettings, Making


def plan(settings: ExportSettings, progress: Progress, *, whole: bool = False) -> Planned:
    """Return the plan of an image set. Fetches no layers except those of the catalogs and their bundles.

    With `whole` the plan contains the blobs that exist on this machine only, so that it can be carried out on another.
    """
    # With the default, temporary store: a plan leaves nothing on this machine.
    with opened(settings.registry, progress) as context:
        planned = planning.make(settings, context)
        return plan_file.with_local(planned, context.store) if whole else planned


@dataclass(frozen=True, slots=True)
class Exported:
    """The result of an export: the inventory of its archive, its identity, and the kit next to it where one was requested.

    `earlier`: an earlier run of the same request had finished the archive, and nothing was fetched.
    """

    inventory: Inventory
    digest: Digest
    kit: Kit | None = None
    earlier: bool = False


def export(settings: ExportSettings, progress: Progress, kit: KitSettings | None = None) -> Exported:
    """Make the archive in `settings.output`, and the kit next to it; return its inventory, whose problems a caller has to show.

    Raises the errors of its steps: UsageError, CatalogError, RegistryError for a catalog, SpaceError before the first layer;
    under `strict`, and for images without a signature where they are required, ProblemsError before anything is fetched.
    An image that cannot be fetched is a problem, not an error. A finished archive of the same request is returned as it is.
    """
    there = _finished(settings.output)
    with (
        prepared(settings.output, with_parity=bool(settings.parity), finished=there is not None),
        opened(settings.registry, progress, None if there else settings.output / CATALOGS) as context,
        read_early(settings.output) as reading,
    ):
        planned = rerequest_plan.make(settings.only, settings, context) if settings.only else planning.make(settings, context)
        check(planned.plan, strict=settings.strict)  # before anything is fetched, so that a failure costs nothing
        spec = ArchiveSpec(planned.plan, planned.terms(settings))
        if there is not None:
            finished.require_same(there.inventory, spec, settings.making)
            lacks_kit = kit is not None and not (settings.output / "kit").exists()
            return Exported(*there, making.make(kit, progress) if kit and lacks_kit else None, earlier=True)
        made = making.make(kit, progress) if kit else None  # pip fails in seconds, and layers take hours
        report = Report.of(planned, settings)
        del planned  # and with it the catalogs, which may take more memory than all that follows
        return Exported(*fetch(spec, settings.making, context, report, reading), made)


def _finished(directory: Path) -> finished.Finished | None:
    """Return the finished archive that an output directory has, if any."""
    if directory.is_dir():
        tidy_finished(directory)
    return finished.archive_in(directory)


def export_planned(found: PlanFile, work: Making, registry: RegistrySettings, progress: Progress, *, strict: bool) -> Exported:
    """Make the archive of a plan that was read from a file; see `export`. Contacts no catalog."""
    # The plan may have been made days ago, with other flags: the checks of `export` apply again.
    check(found.spec.plan, strict=strict)
    there = _finished(work.output)
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


def write_mapping(settings: ExportSettings, progress: Progress) -> tuple[Path, tuple[Problem, ...]]:
    """Write `mapping.txt` into `settings.output`: the images of the plan, to be edited. Fetches no layers of images.

    Raises ProblemsError for any problem under `strict`, before it is written.
    """
    # Checked before the file is written, since users edit it at once.
    planned = plan(settings, progress)
    if settings.strict:
        require_none(planned.plan.problems)
    return mapping.write(settings.output, planned.plan.images, planned.plan.releases), planned.plan.problems


def outcome(problems: Sequence[Problem], *, strict: bool) -> ExitCode:
    """Return the exit code for problems: 3 when a requested image is missing. Raises ProblemsError for any under `strict`."""
    if strict:
        require_none(problems)
    return of_problems(problems)


def outcome_of(made: Exported, *, strict: bool) -> ExitCode:
    """Return the exit code of an export with its kit. Raises ProblemsError for problems of the export under `strict`."""
    # Problems of the kit never stop an export: pip may have wheels for one platform and not for another.
    lacking = ExitCode.PROBLEMS if made.kit is not None and made.kit.problems else ExitCode.DONE
    return first_of((outcome(made.inventory.problems, strict=strict), lacking))


def outcome_of_part(made: MadePart, spec: ArchiveSpec, *, strict: bool, whole: bool = False) -> ExitCode:
    """Return the exit code for the missing blobs of a part, as for the archive. Raises ProblemsError for any under `strict`.

    `whole`: the archive was requested, not a part; it is unfinished then, so the code is 3 in any case.
    """
    status = outcome(spec.problems({digest: each.error for digest, each in made.record.lost.items()}), strict=strict)
    return ExitCode.PROBLEMS if whole else status
