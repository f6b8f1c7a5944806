"""The export, step by step. Start reading here.

    image set ─► catalogs ─► selections ─► catalog images ─► related images ─► signatures ─► plan ─► archive

Everything before the plan reads only small things; `create` then fills the positions that the plan fixed.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from common.archive.inventory import ImageKind, Inventory, Problem, ProblemCode
from common.archive.output import CATALOGS, is_begun, require_free
from common.columns import counted
from common.content import DirectoryStore
from common.errors import ExitCode, ProblemsError, RegistryError, UsageError
from common.log import logger
from common.oci.platform import Platform
from common.progress import Progress
from common.reference import Reference
from common.registry.client import RegistryClient
from exporter import records, signatures
from exporter.catalog.opening import CatalogOpener, OpenedCatalog, unique_names
from exporter.catalog.related_images import images_of
from exporter.catalog.selection import Selection, select
from exporter.fetch import Media, fetch
from exporter.images import ResolvedImage, WantedImage, meeting, merged, needed, resolve
from exporter.imageset import ImageSet, OperatorRequest
from exporter.plan import ExportPlan, make_plan
from exporter.rebuilding import CarriedCatalog, carry
from exporter.settings import ExportSettings, SignaturePolicy

_LOG = logger(__name__)


@dataclass(frozen=True, slots=True)
class Chosen:
    """A catalog, what was asked of it, and what that keeps. `name` is unique in the archive."""

    name: str
    request: OperatorRequest
    opened: OpenedCatalog
    selection: Selection


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan with the selections that led to it."""

    plan: ExportPlan
    chosen: tuple[Chosen, ...]


def look(settings: ExportSettings, progress: Progress) -> tuple[Chosen, ...]:
    """Read the catalogs of the image set and select. Contacts nothing but the catalogs."""
    with _media(settings, progress, None) as media:
        return _choose(settings, media)


def plan(settings: ExportSettings, progress: Progress) -> Planned:
    """Work out what would be carried. Fetches no layer but those of the catalogs."""
    with _media(settings, progress, None) as media:
        return _plan(settings, media)


def export(settings: ExportSettings, progress: Progress) -> Inventory:
    """Make the archive in `settings.output`; return its inventory, whose problems a caller has to show.

    Raises the errors of its steps: UsageError, CatalogError, RegistryError for a catalog, SpaceError before the first layer;
    under `strict`, and for images without a signature where they are required, ProblemsError before anything is fetched.
    An image that cannot be had is a problem, not an error.
    """
    with _output(settings.output), _media(settings, progress, settings.output) as media:
        planned = _plan(settings, media)
        if settings.strict and planned.plan.problems:
            raise strict_error(planned.plan.problems)
        _require_signed(planned.plan.problems)
        _require_content(planned.plan)
        return fetch(planned.plan, settings, media)


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
        first, many = plan.problems[0], len(plan.images)
        lead = f"none of the {many} images can be had; the first: " if many > 1 else ""
        raise RegistryError(f"{lead}{first.subject}: {first.message}")


def outcome(problems: Sequence[Problem], *, strict: bool) -> ExitCode:
    """Return what problems mean: 3 when anything asked for is not there. Raises ProblemsError for any under `strict`."""
    if strict and problems:
        raise strict_error(problems)
    return ExitCode.PROBLEMS if any(problem.severity == "error" for problem in problems) else ExitCode.DONE


def strict_error(problems: Sequence[Problem]) -> ProblemsError:
    """Return the error that `--strict` makes of problems."""
    listed = "".join(f"\n  {p.severity}: {p.subject}: {p.message}" for p in problems[:20])
    return ProblemsError(f"{len(problems)} problems, and --strict was given:{listed}")


@contextmanager
def _output(directory: Path) -> Iterator[None]:
    """Hold an output directory that an archive may be made in; what failed before the archive was begun leaves nothing."""
    existed = directory.exists()
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{directory}: cannot be made: {error.strerror}", hint="Choose another --output.") from error
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


@contextmanager
def _media(settings: ExportSettings, progress: Progress, output: Path | None) -> Iterator[Media]:
    """Open the registries, and a place for the catalogs' layers: beside the archive for a later run, or a temporary one."""
    with ExitStack() as stack:
        client = stack.enter_context(RegistryClient(settings.registry, notify=progress.waiting))
        if output is None:
            store = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hub-export-")))
        else:
            store = output / CATALOGS
        yield Media(client, DirectoryStore(store), progress)


def _choose(settings: ExportSettings, media: Media) -> tuple[Chosen, ...]:
    opener = CatalogOpener(media.client, media.store)
    requests = settings.image_set.operators
    opened = [opener.open(request.catalog, _platforms(request, settings)) for request in requests]
    chosen = tuple(
        Chosen(name, request, catalog, select(catalog.catalog, request))
        for name, request, catalog in zip(unique_names(opened), requests, opened, strict=True)
    )
    for note in (*settings.image_set.notes, *(note for item in chosen for note in item.selection.notes)):
        _LOG.warning("%s", note)
    return chosen


def _platforms(request: OperatorRequest, settings: ExportSettings) -> tuple[Platform, ...]:
    """Return the platforms of a catalog and its images; none means all."""
    return request.platforms or settings.platforms


def _plan(settings: ExportSettings, media: Media) -> Planned:
    chosen = _choose(settings, media)
    carried = [_carry(item, settings, media) for item in chosen]
    wanted, problems = _wanted(chosen, settings)
    images = resolve(wanted, media.client, jobs=settings.jobs, progress=media.progress)
    problems += [*_sparse(images), *meeting(images)]
    attached, unfound = _attached([*(image.resolved for image in carried if not image.held), *images], settings, media)
    problems += unfound
    catalogs = [
        records.catalog_record(item.name, item.opened, item.request, item.selection, image)
        for item, image in zip(chosen, carried, strict=True)
    ]
    held = {digest: content for image in carried for digest, content in image.held.items()}
    every = [*(image.resolved for image in carried), *images, *attached]
    return Planned(make_plan(catalogs, every, held, problems), chosen)


def _attached(
    images: Sequence[ResolvedImage], settings: ExportSettings, media: Media
) -> tuple[list[ResolvedImage], list[Problem]]:
    """Return the signatures and attachments of images that exist at their source, by the policy."""
    if settings.signatures is SignaturePolicy.IGNORE:
        return [], []
    found, problems = signatures.find(images, media.client, jobs=settings.jobs, progress=media.progress)
    named = {image.wanted.source for image in images}  # a signature that was asked for by name is carried as such
    found = [image for image in found if image.wanted.source not in named]
    if settings.signatures is SignaturePolicy.REQUIRE:
        problems += signatures.unsigned(images, found)
    return found, problems


def _carry(item: Chosen, settings: ExportSettings, media: Media) -> CarriedCatalog:
    """Return the catalog's image: the original where nothing was selected from it, else rebuilt."""
    base = item.opened.base
    if settings.catalog_base is not None and not (item.selection.unmodified and base):
        opener = CatalogOpener(media.client, media.store)
        base = opener.base(settings.catalog_base, _platforms(item.request, settings))
    if base is None:
        raise UsageError(
            f"{item.opened.source}: a directory has no image that could serve it",
            hint="Name the image to build on with --catalog-base, for example the operator-registry image of your release.",
        )
    return carry(item.opened, item.request, item.selection, base)


def _wanted(chosen: Iterable[Chosen], settings: ExportSettings) -> tuple[list[WantedImage], list[Problem]]:
    """Return every image that the selections and the image set name, without the blocked ones."""
    wanted: list[WantedImage] = []
    problems: list[Problem] = []
    for item in chosen:
        problems += item.selection.problems
        for package in item.selection.catalog.packages.values():
            for bundle in package.bundles.values():
                images, found = images_of(bundle)
                problems += found
                needed_by = (f"{item.name}/{bundle.package}/{bundle.name}",)
                platforms = _platforms(item.request, settings)
                wanted += [WantedImage(image.reference, image.kind, needed_by, platforms) for image in images]
    wanted += _additional(settings.image_set, settings)
    return _unblocked(merged(wanted), settings.image_set, problems)


def _sparse(images: Iterable[ResolvedImage]) -> list[Problem]:
    """Warn once when indexes will lack children on the mirror: the cure, all platforms, exists on this side only."""
    count = sum(1 for image in images if image.missing_platforms)
    if not count:
        return []
    message = (
        f"{counted(count, 'index', 'indexes')} will lack platforms on the mirror; docker-registry 2 and Nexus refuse that: "
        "leave --platform out for them"
    )
    return [Problem("warning", ProblemCode.SPARSE_INDEX, "--platform", message)]


def _additional(image_set: ImageSet, settings: ExportSettings) -> list[WantedImage]:
    return [
        WantedImage(
            Reference.parse(image.name),
            ImageKind.ADDITIONAL,
            platforms=image.platforms or settings.platforms,
            target_repository=image.target_repo,
            target_tag=image.target_tag,
        )
        for image in image_set.additional_images
    ]


def _unblocked(
    wanted: Iterable[WantedImage], image_set: ImageSet, problems: list[Problem]
) -> tuple[list[WantedImage], list[Problem]]:
    blocked = [re.compile(pattern) for pattern in image_set.blocked_images]
    kept: list[WantedImage] = []
    for image in wanted:
        if any(pattern.search(name) for pattern in blocked for name in (image.source, str(image.reference))):
            message = f"left out by blockedImages{needed(image)}"
            problems.append(Problem("warning", ProblemCode.IMAGE_BLOCKED, image.source, message))
        else:
            kept.append(image)
    return kept, problems
