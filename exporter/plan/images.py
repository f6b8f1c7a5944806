"""The images of a plan: those that catalogs, bundle images and the image set name, without the blocked ones, and manifests."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from common.archive.inventory import ImageKind, Problem, ProblemCode
from common.errors import HubError, InterruptedByUserError, SpaceError, UsageError
from common.interruption import done_for_each
from common.oci.reference import Reference
from common.progress import step
from common.serialization import DocumentError
from common.text import counted
from exporter.catalog.readers import bundle_image
from exporter.catalog.related_images import (
    KIND,
    FoundImage,
    csvs_of,
    images_in_csv,
    images_of,
    inline_csvs,
    runs_something,
    unreadable_objects,
)
from exporter.catalog.selection import lacking
from exporter.images.resolve import BlockedImages, WantedImage, merged, needed, resolve
from exporter.images.stored import StoredBlobs

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from common.content import DirectoryStore
    from common.progress import Progress
    from common.registry.client import RegistryClient
    from exporter.catalog.model import Bundle
    from exporter.catalog.readers.bundle_image import Resources
    from exporter.catalog.steps import Chosen
    from exporter.context import ExportContext
    from exporter.images.resolve import ResolvedImage
    from exporter.imageset.model import ImageSet
    from exporter.settings import ExportSettings


# The contents of bundle images: the images that their ClusterServiceVersions name are often in no list of the catalog.
#
# Bundle images are tens of kilobytes and part of the archive, so their layers are kept next to it, as those of catalogs are
# (ADR 0007).


@dataclass(frozen=True, slots=True)
class BundleContents:
    """The contents of bundle images, by source.

    `resolved`: the images; `named`: the images that their ClusterServiceVersions name; `resources`: the Kubernetes objects as
    JSON values, of the requested bundles only, because those of a whole catalog are gigabytes. `problems` names each file of
    these that cannot be read.
    """

    resolved: Mapping[str, ResolvedImage]  # reused by `resolved_images`, which saves a second lookup of each bundle
    named: Mapping[str, tuple[FoundImage, ...]]
    resources: Mapping[str, Resources]
    problems: tuple[Problem, ...]

    def images(self, bundle: Bundle) -> tuple[FoundImage, ...]:
        """Return the images that the objects of a bundle name; empty where its image was not read."""
        return self.named.get(source_of(bundle), ())

    def objects(self, bundle: Bundle) -> Resources:
        """Return the objects of a bundle; empty where they were not requested."""
        return self.resources.get(source_of(bundle), ())


def source_of(bundle: Bundle) -> str:
    """Return the source of a bundle's image in the inventory; empty where the bundle has no valid reference."""
    return next((image.source for image in images_of(bundle)[0] if image.kind is ImageKind.BUNDLE), "")


@dataclass(frozen=True, slots=True)
class _Found:
    named: tuple[FoundImage, ...] = ()
    resources: Resources = ()
    problems: tuple[Problem, ...] = ()


class BundleReader:
    """Reader of bundle images, shared by threads: each blob is fetched once."""

    def __init__(self, client: RegistryClient, store: DirectoryStore) -> None:
        self._client = client
        self._blobs = StoredBlobs(client, store)

    def read(
        self,
        wanted: Sequence[WantedImage],
        contents: Collection[str],
        alone: Collection[str] = (),
        *,
        jobs: int,
        progress: Progress,
    ) -> BundleContents:
        """Resolve bundle images and read them; an image that cannot be fetched or read becomes a problem.

        `contents`: the sources of the images whose objects are returned too; `alone`: of those whose bundles have no other
        image in the catalog.
        """
        if not wanted:  # no progress line for nothing
            return BundleContents({}, {}, {}, ())
        images = resolve(wanted, self._client, jobs=jobs, progress=progress)

        def one(image: ResolvedImage) -> _Found:
            source = image.wanted.source
            found = self._read(image, inside=source in contents, alone=source in alone)
            progress.advance(1)
            return found

        with step(progress, f"looking into {counted(len(images), 'bundle')}", len(images), "bundles"):
            contents_of = done_for_each(one, images, jobs, "bundles")
        found = dict(zip([image.wanted.source for image in images], contents_of, strict=True))
        return BundleContents(
            {image.wanted.source: image for image in images},
            {source: each.named for source, each in found.items()},
            {source: each.resources for source, each in found.items() if each.resources},
            tuple(problem for each in found.values() for problem in each.problems),
        )

    def _read(self, image: ResolvedImage, *, inside: bool, alone: bool) -> _Found:
        """Return the contents of an image, or the problem; empty for an image that has a problem already.

        `inside`: its objects go into the catalog, from which OLM installs them, so a file that cannot be read is an error.
        `alone`: without its ClusterServiceVersion no image of the operator is known.
        """
        # Reported when the image is resolved for the archive.
        if image.tree is None or image.problem is not None:
            return _Found()
        try:
            objects, unread = bundle_image.read(image.tree, lambda blob: self._blobs.read(image.wanted.reference, blob))
        except (SpaceError, InterruptedByUserError):
            raise  # no fault of this image: the next one would fail as well
        except HubError as error:
            if isinstance(error, UsageError) and not isinstance(error, DocumentError):
                raise  # a wrong setting affects every image: one error instead of thousands of problems
            return _Found(problems=(_unreadable(image.wanted, error, inside=inside, alone=alone),))
        named = tuple(each for csv in csvs_of(objects) for each in images_in_csv(csv))
        problems = (_imageless(image.wanted),) if alone and not named and any(map(runs_something, csvs_of(objects))) else ()
        # Other files of it matter to OLM only, which reads them from the image.
        if not inside:
            return _Found(named, problems=problems)
        return _Found(named, objects, (*problems, *(_unreadable_file(image.wanted, error) for error in unread)))


def _unreadable(wanted: WantedImage, error: HubError, *, inside: bool, alone: bool) -> Problem:
    # The bundle image itself is carried in any case, and OLM of later releases unpacks it on the cluster.
    if inside:
        message = f"cannot be read, so the catalog lacks its resources, and OLM cannot install it: {error.message}"
        return Problem("error", ProblemCode.BUNDLE_UNREADABLE, wanted.source, message + needed(wanted))
    # As okderators/okderators-catalog-index#21, where the operator's own image was in no list.
    if alone:
        message = f"cannot be looked into, and the catalog lists no image of the operator, so none is carried: {error.message}"
        return Problem("error", ProblemCode.BUNDLE_UNREADABLE, wanted.source, message + needed(wanted))
    message = f"cannot be looked into, so images that only its resources name are not known: {error.message}"
    return Problem("warning", ProblemCode.BUNDLE_UNREADABLE, wanted.source, message + needed(wanted))


def _imageless(wanted: WantedImage) -> Problem:
    message = f"neither its {KIND} nor the catalog names an image of the operator, so none is carried"
    return Problem("error", ProblemCode.BUNDLE_UNREADABLE, wanted.source, message + needed(wanted))


def _unreadable_file(wanted: WantedImage, error: DocumentError) -> Problem:
    message = f"a file of it cannot be read, so the catalog lacks its objects: {error.message}"
    return Problem("error", ProblemCode.BUNDLE_UNREADABLE, wanted.source, message + needed(wanted))


_RELEASED = (ImageKind.RELEASE, ImageKind.COMPONENT)
# ImageTagMirrorSet is served from OpenShift 4.13 on (openshift/api, config/v1/types_image_tag_mirror_set.go).
_NO_TAG_RULES = (4, 12)


def inlines(chosen: Iterable[Chosen]) -> bool:
    """Return whether objects of bundle images have to be inlined in a catalog."""
    return any(one for item in chosen for one in lacking(item.selection, every=item.inline_all))


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
    alone = {source_of(bundle) for item, bundle in _bundles(chosen) if not _lists_images(item, bundle)}
    return reader.read(unblocked, within, alone, jobs=settings.jobs, progress=context.progress)


def _lists_images(item: Chosen, bundle: Bundle) -> bool:
    """Return whether the catalog names another image of a bundle than its own."""
    return any(image.kind is ImageKind.RELATED for image in _images(item, bundle, ())[0])


def _bundles(chosen: Iterable[Chosen]) -> Iterator[tuple[Chosen, Bundle]]:
    return ((item, bundle) for item in chosen for bundle in item.bundles)


def _images(item: Chosen, bundle: Bundle, more: Iterable[FoundImage]) -> tuple[tuple[WantedImage, ...], tuple[Problem, ...]]:
    """Return the images of a bundle for the platforms of its catalog, and a problem for each entry that is not a reference."""
    needed_by = (f"{item.name}/{bundle.package}/{bundle.name}",)
    return images_of(bundle, more, needed_by=needed_by, platforms=item.platforms)


def wanted_images(
    chosen: Sequence[Chosen], contents: BundleContents, settings: ExportSettings, released: Sequence[WantedImage] = ()
) -> tuple[list[WantedImage], list[Problem]]:
    """Return each image that the selections and the image set name, without the blocked ones, and the problems met.

    `released`: the images of releases, of which operators may name some too.
    """
    wanted: list[WantedImage] = [*released]
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
    wanted: Sequence[WantedImage], looked_up: Mapping[str, ResolvedImage], settings: ExportSettings, context: ExportContext
) -> list[ResolvedImage]:
    """Return the images with their documents, sorted by source. Those in `looked_up` are not requested again."""
    known = {
        image.source: replace(found, wanted=image)
        for image in wanted
        if (found := looked_up.get(image.source)) is not None and found.wanted.platforms == image.platforms
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
    where = "--platform, or platforms in the image set,"
    message = f"{counted(count, 'index', 'indexes')} will lack platforms on the mirror; {who} that: leave {where} out for them"
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
    # A release without one of its images is none.
    left_out = [image for image in wanted if image.source not in sources and image.kind not in _RELEASED]
    problems += [
        Problem("warning", ProblemCode.IMAGE_BLOCKED, image.source, f"left out by --images{needed(image)}")
        for image in left_out
    ]
    gone = {image.source for image in left_out}
    return [image for image in wanted if image.source not in gone], problems


def _unblocked(
    wanted: Iterable[WantedImage], image_set: ImageSet, problems: list[Problem]
) -> tuple[list[WantedImage], list[Problem]]:
    """Return the images that no pattern of `blockedImages` matches, and `problems` with a warning for each of the others."""
    blocked = BlockedImages(image_set.blocked_images)
    kept: list[WantedImage] = []
    for image in wanted:
        if image in blocked:
            message = f"left out by blockedImages{needed(image)}"
            problems.append(Problem("warning", ProblemCode.IMAGE_BLOCKED, image.source, message))
        else:
            kept.append(image)
    return kept, problems
