"""The steps of an export. Start reading here.

    image set ─► plan (plan/planning.py) ─► archive (archive/fetch.py), with its report (report/)
    re-request ─► plan (plan/rerequest_plan.py) ─► archive
    plan ─► file (distributed/plan_file.py) ─► planned_workflow.py

Planning reads manifests, catalogs and bundles only; `export` then fills the positions that the plan fixed (ADR 0003).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from common.errors import ExitCode, first_of, of_problems
from exporter.archive import early_reading, finished
from exporter.archive.archive_spec import ArchiveSpec
from exporter.archive.fetch import fetch
from exporter.archive.output import CATALOGS, prepared
from exporter.context import opened
from exporter.distributed import plan_file
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
    from exporter.kit.making import Kit
    from exporter.kit.settings import KitSettings
    from exporter.plan.planning import Planned
    from exporter.settings import ExportSettings


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
    there = finished.left_in(settings.output)
    with (
        prepared(settings.output, with_parity=bool(settings.parity), finished=there is not None),
        opened(settings.registry, progress, None if there else settings.output / CATALOGS) as context,
        early_reading.begun(settings.output) as reading,
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
