"""What will be carried: catalogs read and selected from, images resolved, everything put into one plan.

image set ─► catalogs ─► selections ─► catalog images ─► related images ─► signatures ─► plan
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from common.archive import receipt
from common.archive.inventory import BundleRecord, CatalogRecord, ChannelRecord, ImageKind, PackageRecord, Problem, ProblemCode
from common.errors import CatalogError, FaultsError, UsageError, each_fault, one_error
from common.log import logger
from common.oci.reference import Reference
from common.text import counted
from exporter.catalog.dependencies import Selected, close
from exporter.catalog.readers.opening import CatalogOpener, OpenedCatalog, unique_names
from exporter.catalog.rebuild import CarriedCatalog, carry
from exporter.catalog.related_images import images_of, inline_csvs, unreadable_objects
from exporter.catalog.selection import Selection, filled, lacking, select
from exporter.catalog.update_graph import UpdateGraph
from exporter.images import signatures
from exporter.images.resolve import ResolvedImage, WantedImage, merged, needed, resolve
from exporter.imageset import file
from exporter.plan import mapping
from exporter.plan.baseline import Delivered, leave_out
from exporter.plan.bundles import BundleContents, BundleReader, source_of
from exporter.plan.plan import ExportPlan, make_plan
from exporter.plan.target import stranded
from exporter.settings import ExportSettings, SignaturePolicy

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from common.oci.image import Platform
    from common.target_profile import TargetProfile
    from exporter.catalog.model import Bundle, Catalog, Channel, Package
    from exporter.catalog.related_images import FoundImage
    from exporter.context import ExportContext
    from exporter.imageset.model import ImageSet, OperatorRequest

# From catalogs to the records of the inventory, which are also what `list` and `plan` print.


def package_records(catalog: Catalog) -> tuple[PackageRecord, ...]:
    """Return what OLM will list: packages and channels by name, bundles head first along the update graph."""
    return tuple(
        PackageRecord(
            package.name,
            package.default_channel,
            tuple(channel_record(package, package.channels[name]) for name in sorted(package.channels)),
        )
        for package in catalog.packages.values()
    )


def channel_record(package: Package, channel: Channel) -> ChannelRecord:
    """Return a channel with every entry; one without a bundle has no version. Raises CatalogError for a broken graph."""
    graph = UpdateGraph.of(channel.entries, f"{package.name}/{channel.name}")
    return ChannelRecord(channel.name, graph.head, tuple(_bundle(package, name) for name in graph.order()))


def catalog_record(
    name: str, opened: OpenedCatalog, request: OperatorRequest, selection: Selection, carried: CarriedCatalog
) -> CatalogRecord:
    """Return what the inventory says of a carried catalog: with the content of its template, for the file stays here."""
    template = request.target_catalog_source_template
    return CatalogRecord(
        source=carried.resolved.wanted.source,
        digest=opened.digest,
        image=carried.root.digest,
        name=name,
        format=carried.format,
        filtered=not selection.unmodified,
        packages=package_records(carried.catalog),
        target_repository=request.target_catalog,
        target_tag=request.target_tag,
        catalog_source_template=file.load_template(template) if template else None,
    )


def _bundle(package: Package, name: str) -> BundleRecord:
    bundle = package.bundles.get(name)
    return BundleRecord(name, bundle.version_text if bundle else None)


_LOG = logger(__name__)
_NO_BUNDLE_IMAGES = (4, 3)  # the last release that cannot look into bundle images
_NO_TAG_RULES = (4, 12)  # the last release without mirror rules for tags


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


def choose(settings: ExportSettings, media: ExportContext, *, dependencies: bool = True) -> tuple[Chosen, ...]:
    """Read the catalogs of the image set and select, with what is required. Contacts nothing but the catalogs."""
    opener = CatalogOpener(media.client, media.store)
    requests = settings.image_set.operators
    opened = [opener.open(request.catalog, _platforms(request, settings)) for request in requests]
    selections = _selected(opened, requests)
    if dependencies:
        closed = [not request.skip_dependencies for request in requests]
        selections = close(
            [Selected(one.catalog, kept, wanted) for one, kept, wanted in zip(opened, selections, closed, strict=True)]
        )
    chosen = tuple(map(Chosen, unique_names(opened), requests, opened, selections))
    for note in (*settings.image_set.notes, *(note for item in chosen for note in item.selection.notes)):
        _LOG.warning("%s", note)
    return chosen


def _selected(opened: Sequence[OpenedCatalog], requests: Sequence[OperatorRequest]) -> list[Selection]:
    """Return what is kept of each catalog. Raises UsageError with the faults of all requests, then CatalogError."""
    selections: list[Selection] = []
    faults: list[UsageError] = []
    broken: list[CatalogError] = []
    for catalog, request in zip(opened, requests, strict=True):
        try:
            selections.append(select(catalog.catalog, request))
        except UsageError as error:
            faults.append(error if len(requests) == 1 else _with_catalog(error, request))
        except CatalogError as error:
            broken.append(error)
    if faults:
        raise faults[0] if len(requests) == 1 else one_error("the image set", faults)
    if broken:
        raise broken[0]
    return selections


def _with_catalog(error: UsageError, request: OperatorRequest) -> UsageError:
    """Return the error with the catalog's name in each fault."""
    where = f"catalog {request.catalog}"
    faults = [
        fault if fault.message.startswith(f"{where} ") else UsageError(f"{where}: {fault.message}", hint=fault.hint)
        for fault in each_fault([error])
    ]
    return one_error(where, faults, cut=isinstance(error, FaultsError) and error.cut)


def _platforms(request: OperatorRequest, settings: ExportSettings) -> tuple[Platform, ...]:
    """Return the platforms of a catalog and its images; none means all."""
    return request.platforms or settings.platforms


def make(settings: ExportSettings, media: ExportContext) -> Planned:
    """Return the plan for an image set. Fetches no layer but those of the catalogs and their bundles."""
    delivered = _delivered(settings)
    chosen = choose(settings, media)
    contents = _look(chosen, settings, media)
    chosen = tuple(replace(item, selection=_filled(item, contents, settings)) for item in chosen)
    carried = [rebuilt(item, settings, media) for item in chosen]
    wanted, problems = _wanted(chosen, contents, settings)
    images = _resolved(wanted, contents, settings, media)
    problems = [
        *settings.image_set.problems,
        *problems,
        *contents.problems,
        *_sparse(images, settings),
        *_by_tag(images, settings),
    ]
    problems += left_behind(chosen, settings.target)
    published = [
        image.resolved for item, image in zip(chosen, carried, strict=True) if not image.held and item.opened.digest is not None
    ]
    attached, unfound = _attached([*published, *images], settings, media)
    problems += unfound
    catalogs = [
        catalog_record(item.name, item.opened, item.request, item.selection, image)
        for item, image in zip(chosen, carried, strict=True)
    ]
    held = {digest: content for image in carried for digest, content in image.held.items()}
    every = [*(image.resolved for image in carried), *images, *attached]
    plan = make_plan(catalogs, every, held, problems)
    plan = replace(plan, problems=(*plan.problems, *mapping.find(plan)))
    return Planned(leave_out(plan, delivered), chosen)


def _delivered(settings: ExportSettings) -> Delivered:
    """Return what earlier archives and receipts cover. Raises UsageError, and what opening them raises."""
    delivered = Delivered.of_archives(settings.since)
    for path in settings.receipts:
        delivered.add_receipt(*receipt.load(path, settings.receipt_key))
    return delivered


def _attached(
    images: Sequence[ResolvedImage], settings: ExportSettings, media: ExportContext
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


def rebuilt(item: Chosen, settings: ExportSettings, media: ExportContext) -> CarriedCatalog:
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
    return carry(item.opened, item.request, item.selection, base, settings.catalog_format)


def _look(chosen: Sequence[Chosen], settings: ExportSettings, media: ExportContext) -> BundleContents:
    """Look into the images of the bundles whose ClusterServiceVersion is not in the catalog."""
    wanted = [
        image
        for item, bundle in _bundles(chosen)
        if not any(inline_csvs(bundle))
        for image in _images(item, bundle, (), settings)[0]
        if image.kind is ImageKind.BUNDLE
    ]
    unblocked, _ = _unblocked(merged(wanted), settings.image_set, [])
    reader = BundleReader(media.client, media.store)
    within = {source_of(one) for item in chosen for one in lacking(item.selection, every=_every(item, settings))}
    return reader.look(unblocked, within, jobs=settings.jobs, progress=media.progress)


def _filled(item: Chosen, contents: BundleContents, settings: ExportSettings) -> Selection:
    """Return what is kept, with the resources inside that OLM of the wanted release looks for there."""
    return filled(item.selection, contents.objects, every=_every(item, settings))


def _every(item: Chosen, settings: ExportSettings) -> bool:
    """Say whether all bundles of a catalog need their resources inside it."""
    old = settings.release is not None and settings.release <= _NO_BUNDLE_IMAGES
    return old and item.opened.place.format == "sqlite"


def _bundles(chosen: Iterable[Chosen]) -> Iterator[tuple[Chosen, Bundle]]:
    return ((item, bundle) for item in chosen for bundle in item.selection.catalog.bundles)


def _images(
    item: Chosen, bundle: Bundle, more: Iterable[FoundImage], settings: ExportSettings
) -> tuple[tuple[WantedImage, ...], tuple[Problem, ...]]:
    """Return the images of a bundle for the platforms of its catalog, and a problem for each entry that is not a reference."""
    needed_by = (f"{item.name}/{bundle.package}/{bundle.name}",)
    return images_of(bundle, more, needed_by=needed_by, platforms=_platforms(item.request, settings))


def _wanted(
    chosen: Sequence[Chosen], contents: BundleContents, settings: ExportSettings
) -> tuple[list[WantedImage], list[Problem]]:
    """Return every image that the selections and the image set name, without the blocked ones."""
    wanted: list[WantedImage] = []
    problems: list[Problem] = [problem for item in chosen for problem in item.selection.problems]
    for item, bundle in _bundles(chosen):
        images, found = _images(item, bundle, contents.images(bundle), settings)
        problems += found
        if not bundle.image.strip() or _every(item, settings):
            problems += unreadable_objects(bundle, filtered=not item.selection.unmodified)
        wanted += images
    wanted += _additional(settings.image_set, settings)
    unblocked, problems = _unblocked(merged(wanted), settings.image_set, problems)
    return _listed(unblocked, settings.images, problems)


def _resolved(
    wanted: Sequence[WantedImage], contents: BundleContents, settings: ExportSettings, media: ExportContext
) -> list[ResolvedImage]:
    """Return the images with their documents; what was looked into is not asked for again."""
    known = {
        image.source: replace(found, wanted=image)
        for image in wanted
        if (found := contents.resolved.get(image.source)) is not None and found.wanted.platforms == image.platforms
    }
    others = [image for image in wanted if image.source not in known]
    asked = resolve(others, media.client, jobs=settings.jobs, progress=media.progress)
    return sorted((*known.values(), *asked), key=lambda image: image.wanted.source)


def _sparse(images: Iterable[ResolvedImage], settings: ExportSettings) -> list[Problem]:
    """Tell once when indexes will lack children on the mirror: the cure, all platforms, exists on this side only.

    A warning, unless the target profile knows: an error where the mirror refuses such indexes, nothing where it takes them.
    """
    taken = settings.target.registry.sparse_indexes if settings.target else None
    count = sum(1 for image in images if image.missing_platforms)
    if not count or taken:
        return []
    who = "docker-registry 2 and Nexus refuse" if taken is None else "the mirror of the target profile refuses"
    message = (
        f"{counted(count, 'index', 'indexes')} will lack platforms on the mirror; {who} that: leave --platform out for them"
    )
    return [Problem("warning" if taken is None else "error", ProblemCode.SPARSE_INDEX, "--platform", message)]


def _by_tag(images: Iterable[ResolvedImage], settings: ExportSettings) -> list[Problem]:
    """Name the images of operators that are pulled by tag, where the cluster's release redirects digests alone."""
    if settings.release is None or settings.release > _NO_TAG_RULES:
        return []
    release = ".".join(map(str, settings.release))
    message = f"is pulled by its tag, and OpenShift {release} has mirror rules for digests alone: the operator will not find it"
    return [
        Problem("error", ProblemCode.TAG_UNMIRRORABLE, image.wanted.source, message + needed(image.wanted))
        for image in images
        if image.tree is not None and image.wanted.needed_by and image.wanted.reference.digest is None
    ]


def left_behind(chosen: Iterable[Chosen], target: TargetProfile | None) -> list[Problem]:
    """Name the operators of the target's cluster that could not be updated from what is kept."""
    operators = target.operators if target else None
    return stranded([(item.opened.catalog, item.selection.catalog) for item in chosen], operators or ())


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


def _listed(
    wanted: list[WantedImage], sources: frozenset[str] | None, problems: list[Problem]
) -> tuple[list[WantedImage], list[Problem]]:
    """Return the images that `--images` lists. Raises UsageError for a line that nothing wants: it would be missed."""
    if sources is None:
        return wanted, problems
    if unknown := sorted(sources - {image.source for image in wanted}):
        raise UsageError(
            f"--images lists {unknown[0]}, and {counted(len(unknown), 'image')} in all, that the image set does not want",
            hint="Make the file anew with --manifests-only, or ask for further images with additionalImages.",
        )
    left_out = [image for image in wanted if image.source not in sources]
    problems += [
        Problem("warning", ProblemCode.IMAGE_BLOCKED, image.source, f"left out by --images{needed(image)}")
        for image in left_out
    ]
    return [image for image in wanted if image.source in sources], problems


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
