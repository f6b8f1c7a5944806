"""The images of a plan: those that bundles and the image set name, without the blocked ones, and their manifests."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from common.archive.inventory import ImageKind, Problem, ProblemCode
from common.errors import UsageError
from common.oci.reference import Reference
from common.text import counted
from exporter.catalog.related_images import FoundImage, images_of, inline_csvs, unreadable_objects
from exporter.catalog.selection import lacking
from exporter.images.resolve import ResolvedImage, WantedImage, merged, needed, resolve
from exporter.plan.bundles import BundleContents, BundleReader, source_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from exporter.catalog.model import Bundle
    from exporter.catalog.steps import Chosen
    from exporter.context import ExportContext
    from exporter.imageset.model import ImageSet
    from exporter.settings import ExportSettings

# ImageTagMirrorSet is served from OpenShift 4.13 on (openshift/api, config/v1/types_image_tag_mirror_set.go).
_NO_TAG_RULES = (4, 12)


def bundle_contents(chosen: Sequence[Chosen], settings: ExportSettings, context: ExportContext) -> BundleContents:
    """Read the images of the bundles whose ClusterServiceVersion is not in the catalog."""
    wanted = [
        image
        for item, bundle in _bundles(chosen)
        if not any(inline_csvs(bundle))
        for image in _images(item, bundle, ())[0]
        if image.kind is ImageKind.BUNDLE
    ]
    # Blocked images are reported once, by `wanted_images`.
    unblocked, _ = _unblocked(merged(wanted), settings.image_set, [])
    reader = BundleReader(context.client, context.store)
    within = {source_of(one) for item in chosen for one in lacking(item.selection, every=item.inline_all)}
    return reader.read(unblocked, within, jobs=settings.jobs, progress=context.progress)


def _bundles(chosen: Iterable[Chosen]) -> Iterator[tuple[Chosen, Bundle]]:
    return ((item, bundle) for item in chosen for bundle in item.bundles)


def _images(item: Chosen, bundle: Bundle, more: Iterable[FoundImage]) -> tuple[tuple[WantedImage, ...], tuple[Problem, ...]]:
    """Return the images of a bundle for the platforms of its catalog, and a problem for each entry that is not a reference."""
    needed_by = (f"{item.name}/{bundle.package}/{bundle.name}",)
    return images_of(bundle, more, needed_by=needed_by, platforms=item.platforms)


def wanted_images(
    chosen: Sequence[Chosen], contents: BundleContents, settings: ExportSettings
) -> tuple[list[WantedImage], list[Problem]]:
    """Return each image that the selections and the image set name, without the blocked ones, and the problems met."""
    wanted: list[WantedImage] = []
    problems: list[Problem] = [problem for item in chosen for problem in item.selection.problems]
    for item, bundle in _bundles(chosen):
        images, found = _images(item, bundle, contents.images(bundle))
        problems += found
        # OLM installs these bundles from the objects in the catalog, so one that cannot be read is missing on the cluster.
        if not bundle.image.strip() or item.inline_all:
            problems += unreadable_objects(bundle, filtered=not item.selection.unmodified)
        wanted += images
    # Merged with the images of bundles: one image may be in both, with different platforms.
    wanted += _additional(settings.image_set, settings)
    unblocked, problems = _unblocked(merged(wanted), settings.image_set, problems)
    return _listed(unblocked, settings.images, problems)


def resolved_images(
    wanted: Sequence[WantedImage], contents: BundleContents, settings: ExportSettings, context: ExportContext
) -> list[ResolvedImage]:
    """Return the images with their documents, sorted by source. Bundle images in `contents` are not requested again."""
    known = {
        image.source: replace(found, wanted=image)
        for image in wanted
        if (found := contents.resolved.get(image.source)) is not None and found.wanted.platforms == image.platforms
    }
    # Platforms may have been added by a later mention of the image; then its documents are not complete.
    others = [image for image in wanted if image.source not in known]
    asked = resolve(others, context.client, jobs=settings.jobs, progress=context.progress)
    return sorted((*known.values(), *asked), key=lambda image: image.wanted.source)


def sparse_indexes(images: Iterable[ResolvedImage], settings: ExportSettings) -> list[Problem]:
    """Return one problem when indexes will lack children on the mirror: the cure, all platforms, exists on this side only.

    Without a target profile a warning; with one an error where the mirror refuses such indexes, and none where it accepts them.
    """
    # One problem for all images: each of thousands would have the same cure.
    taken = settings.target.registry.sparse_indexes if settings.target else None
    count = sum(1 for image in images if image.missing_platforms)
    if not count or taken:
        return []
    who = "docker-registry 2 and Nexus refuse" if taken is None else "the mirror of the target profile refuses"
    message = (
        f"{counted(count, 'index', 'indexes')} will lack platforms on the mirror; {who} that: leave --platform out for them"
    )
    return [Problem("warning" if taken is None else "error", ProblemCode.SPARSE_INDEX, "--platform", message)]


def pulled_by_tag(images: Iterable[ResolvedImage], settings: ExportSettings) -> list[Problem]:
    """Return a problem for each image of an operator that is pulled by tag, for releases that redirect digests only."""
    if settings.release is None or settings.release > _NO_TAG_RULES:
        return []
    release = ".".join(map(str, settings.release))
    message = f"is pulled by its tag, and OpenShift {release} has mirror rules for digests alone: the operator will not find it"
    return [
        Problem("error", ProblemCode.TAG_UNMIRRORABLE, image.wanted.source, message + needed(image.wanted))
        for image in images
        if image.tree is not None and image.wanted.needed_by and image.wanted.reference.digest is None
    ]


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
    """Return the images that `--images` lists. Raises UsageError for a line that names no image of the image set."""
    if sources is None:
        return wanted, problems
    # A misspelt line would leave an image out without a word.
    if unknown := sorted(sources - {image.source for image in wanted}):
        raise UsageError(
            f"--images lists {unknown[0]}, and {counted(len(unknown), 'image')} in all, that the image set does not want",
            hint="Make the file again with --manifests-only, or ask for further images with additionalImages.",
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
    """Return the images that no pattern of `blockedImages` matches, and `problems` with a warning for each of the others."""
    blocked = [re.compile(pattern) for pattern in image_set.blocked_images]
    # Patterns are searched in the source of the inventory and in the reference itself, which may have a tag as well.
    kept: list[WantedImage] = []
    for image in wanted:
        if any(pattern.search(name) for pattern in blocked for name in (image.source, str(image.reference))):
            message = f"left out by blockedImages{needed(image)}"
            problems.append(Problem("warning", ProblemCode.IMAGE_BLOCKED, image.source, message))
        else:
            kept.append(image)
    return kept, problems
