"""The export, step by step. Start reading here.

    image set ─► plan (planning.py) ─► archive (fetch.py), with its report (report/)
    re-request ─► plan (healing.py) ─► archive
    plan ─► file (plan_file.py) ─► parts, on any machines (parts.py) ─► archive
                              └─► volumes in object storage (stored.py) ─► archive

Everything before the plan reads only small things; `export` then fills the positions that the plan fixed.
"""

from __future__ import annotations

import shutil
import tempfile
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from common.archive import parity
from common.archive.inventory import Inventory, Problem, ProblemCode
from common.content import DirectoryStore
from common.errors import ExitCode, ProblemsError, RegistryError, UsageError, first_of
from common.files import write_atomic
from common.registry.client import RegistryClient
from common.text import counted
from exporter import catalog_builder
from exporter.archive.archive_spec import Blueprint
from exporter.archive.fetch import fetch
from exporter.archive.output import CATALOGS, is_begun, require_free, tidy_finished
from exporter.catalog import steps
from exporter.context import ExportContext
from exporter.distributed import part_directory, plan_file, s3
from exporter.kit import making
from exporter.plan import mapping, planning, rerequest_plan
from exporter.report.facts import facts_of
from exporter.report.page import Report

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from common.progress import Progress
    from common.registry.settings import RegistrySettings
    from exporter.catalog.steps import Chosen
    from exporter.catalog_builder import BuildSettings, BuiltCatalog
    from exporter.distributed.part_directory import MadePart
    from exporter.distributed.plan_file import PlanFile
    from exporter.distributed.s3 import StoredMaking
    from exporter.kit.making import Kit
    from exporter.kit.settings import KitSettings
    from exporter.plan.plan import ExportPlan
    from exporter.plan.planning import Planned
    from exporter.settings import ExportSettings, Making


def look(settings: ExportSettings, progress: Progress, *, dependencies: bool) -> tuple[Chosen, ...]:
    """Read the catalogs of the image set and select, with what is required or without. Contacts nothing but the catalogs."""
    with _media(settings.registry, progress, None) as media:
        return steps.choose(settings, media, dependencies=dependencies)


def plan(settings: ExportSettings, progress: Progress, *, whole: bool = False) -> Planned:
    """Work out what would be carried. Fetches no layer but those of the catalogs.

    With `whole` the plan holds the blobs that lie on this machine alone: it is to be carried out on another.
    """
    with _media(settings.registry, progress, None) as media:
        planned = planning.make(settings, media)
        return plan_file.with_local(planned, media.store) if whole else planned


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export made: the archive, by its inventory, and the kit beside it where one was wanted."""

    inventory: Inventory
    kit: Kit | None = None


def export(settings: ExportSettings, progress: Progress, kit: KitSettings | None = None) -> Exported:
    """Make the archive in `settings.output`, and the kit beside it; return its inventory, whose problems a caller has to show.

    Raises the errors of its steps: UsageError, CatalogError, RegistryError for a catalog, SpaceError before the first layer;
    under `strict`, and for images without a signature where they are required, ProblemsError before anything is fetched.
    An image that cannot be had is a problem, not an error.
    """
    if settings.parity:
        parity.require_coder()  # before the lookups, which take minutes
    with _output(settings.output), _media(settings.registry, progress, settings.output) as media:
        planned = rerequest_plan.make(settings.only, settings, media) if settings.only else planning.make(settings, media)
        _check(planned.plan, strict=settings.strict)
        made = making.make(kit, progress) if kit else None  # before the first layer: failure costs nothing
        report = Report(facts_of(planned, settings), settings.making)
        return Exported(fetch(Blueprint(planned.plan, settings.terms), settings.making, media, report), made)


def export_planned(found: PlanFile, work: Making, registry: RegistrySettings, progress: Progress, *, strict: bool) -> Exported:
    """Make the archive of a plan that was read from a file; see `export`. Contacts no catalog."""
    _check(found.drawn.plan, strict=strict)
    with _output(work.output), _media(registry, progress, work.output) as media:
        return Exported(fetch(found.drawn, work, media, Report(found.facts, work)))


def export_part(
    found: PlanFile, work: Making, numbers: range, registry: RegistrySettings, progress: Progress, *, strict: bool
) -> MadePart:
    """Make the volumes `numbers` of the archive of a plan, in a directory of their own within `work.output`; see `export`.

    Once made they are left as they are, and blobs that could not be had are asked for again.
    """
    _check(found.drawn.plan, strict=strict)
    _make_directory(work.output, "--output")
    with _media(registry, progress, part_directory.directory_of(work.output, numbers)) as media:
        return part_directory.make(found, work, numbers, media)


def finish(directories: Sequence[Path], work: Making, progress: Progress) -> Exported:
    """Join the parts that lie in `directories`, or directly below them, to the archive that one process would have made.

    Raises UsageError for what is no part, ArchiveIncompleteError when volumes are in none of them. Done again it does nothing.
    """
    return Exported(part_directory.join(directories, work, progress))


def export_stored(
    found: PlanFile,
    work: StoredMaking,
    numbers: range | None,
    registry: RegistrySettings,
    progress: Progress,
    *,
    strict: bool,
) -> MadePart | Exported:
    """Make the volumes `numbers` of the archive of a plan in object storage; all of it, when None. See `export`.

    It is finished when nothing was lost: otherwise every volume has to be fetched, closed again and uploaded once more, and
    whether that is wanted, or another try, is for a person to say.
    """
    if work.scratch is None:
        raise UsageError("an archive in object storage needs --scratch DIR", hint="Name a directory with room for a volume.")
    _check(found.drawn.plan, strict=strict)
    _make_directory(work.scratch, "--scratch")
    with _media(registry, progress, None) as media:
        made = s3.make(found, work, numbers or range(1, len(found.drawn.layout.volumes) + 1), media)
    return Exported(s3.finish(work, progress)) if numbers is None and not made.record.lost else made


def finish_stored(work: StoredMaking, progress: Progress) -> Exported:
    """Make the archive in object storage whole, whose volumes are there. Raises what `stored.finish` raises."""
    return Exported(s3.finish(work, progress))


def write_mapping(settings: ExportSettings, progress: Progress) -> tuple[Path, tuple[Problem, ...]]:
    """Write `mapping.txt` into `settings.output`: what would be carried, to be edited. Fetches no layer of an image.

    Raises ProblemsError for any problem under `strict`, before it is written.
    """
    planned = plan(settings, progress)
    if settings.strict and planned.plan.problems:
        raise strict_error(planned.plan.problems)
    path = settings.output / mapping.NAME
    try:
        settings.output.mkdir(parents=True, exist_ok=True)
        write_atomic(path, mapping.render(planned.plan.images))
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror}", hint="Choose another --output.") from error
    return path, planned.plan.problems


def build_catalog(settings: BuildSettings, progress: Progress) -> BuiltCatalog:
    """Make a catalog image of package manifests and push it. Raises the errors of `building.build`."""
    with (
        tempfile.TemporaryDirectory(prefix="hub-export-") as store,
        RegistryClient(settings.registry, notify=progress.waiting, pushes_to=frozenset({settings.target.name})) as client,
    ):
        return catalog_builder.build(settings, ExportContext(client, DirectoryStore(Path(store)), progress))


def _check(plan: ExportPlan, *, strict: bool) -> None:
    """Raise ProblemsError, UsageError or RegistryError for a plan that must not, or cannot, be carried out."""
    mapping.find(plan)  # of a file too, that an earlier version wrote
    if strict and plan.problems:
        raise strict_error(plan.problems)
    _require_signed(plan.problems)
    _require_content(plan)


def _require_signed(problems: Sequence[Problem]) -> None:
    missing = [problem for problem in problems if problem.code is ProblemCode.SIGNATURE_MISSING]
    if missing:
        listed = "".join(f"\n  {problem.subject}: {problem.message}" for problem in missing[:20])
        raise ProblemsError(
            f"{counted(len(missing), 'image')} without a signature, and --signatures require was given:{listed}",
            hint="Leave them out with blockedImages, or say --signatures carry.",
        )


def _require_content(plan: ExportPlan) -> None:
    """Raise RegistryError when nothing of what was asked for can be had: an empty archive helps nobody."""
    if plan.images and not plan.documents:
        sources, many = {image.source for image in plan.images}, len(plan.images)
        first = next((problem for problem in plan.problems if problem.subject in sources), plan.problems[0])
        lead = f"none of the {many} images can be had; the first: " if many > 1 else ""
        hint = f"Nothing was written. What {first.code} means: docs/problems.md; hub-export plan lists all."
        raise RegistryError(f"{lead}{first.subject}: {first.message}", hint=hint)


def outcome(problems: Sequence[Problem], *, strict: bool) -> ExitCode:
    """Return what problems mean: 3 when anything asked for is not there. Raises ProblemsError for any under `strict`."""
    if strict and problems:
        raise strict_error(problems)
    return ExitCode.PROBLEMS if any(problem.severity == "error" for problem in problems) else ExitCode.DONE


def outcome_of(made: Exported, *, strict: bool) -> ExitCode:
    """Return what the problems of an export and its kit mean. Raises ProblemsError for the export's under `strict`."""
    lacking = ExitCode.PROBLEMS if made.kit is not None and made.kit.problems else ExitCode.DONE
    return first_of((outcome(made.inventory.problems, strict=strict), lacking))


def outcome_of_part(made: MadePart, drawn: Blueprint, *, strict: bool, whole: bool = False) -> ExitCode:
    """Return what the blobs that a part lost mean: the same as for the archive. Raises ProblemsError for any under `strict`.

    `whole`: not a part was asked for but the archive, which is not finished then; that is a problem whatever was lost.
    """
    status = outcome(drawn.problems({digest: each.error for digest, each in made.record.lost.items()}), strict=strict)
    return ExitCode.PROBLEMS if whole else status


def strict_error(problems: Sequence[Problem]) -> ProblemsError:
    """Return the error that `--strict` makes of problems."""
    listed = "".join(f"\n  {p.severity}: {p.subject}: {p.message}" for p in problems[:20])
    return ProblemsError(f"{len(problems)} problems, and --strict was given:{listed}")


@contextmanager
def _output(directory: Path) -> Iterator[None]:
    """Hold an output directory that an archive may be made in; what failed before the archive was begun leaves nothing."""
    existed = directory.exists()
    _make_directory(directory, "--output")
    tidy_finished(directory)
    require_free(directory)  # before anything is fetched; the writer claims the directory for good
    try:
        yield
    except Exception:
        if not is_begun(directory):
            shutil.rmtree(directory / CATALOGS, ignore_errors=True)
            if not existed:
                with suppress(OSError):
                    directory.rmdir()
        raise


def _make_directory(directory: Path, option: str) -> None:
    """Make a directory that an option names, unless it is there. Raises UsageError."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{directory}: cannot be made: {error.strerror}", hint=f"Choose another {option}.") from error


@contextmanager
def _media(registry: RegistrySettings, progress: Progress, output: Path | None) -> Iterator[ExportContext]:
    """Open the registries, and a place for the catalogs' layers: beside the archive for a later run, or a temporary one."""
    with ExitStack() as stack:
        client = stack.enter_context(RegistryClient(registry, notify=progress.waiting))
        if output is None:
            store = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hub-export-")))
        else:
            store = output / CATALOGS
        yield ExportContext(client, DirectoryStore(store), progress)
