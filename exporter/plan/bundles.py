"""The contents of bundle images: the images that their ClusterServiceVersions name are often in no list of the catalog.

Bundle images are tens of kilobytes and part of the archive, so their layers are kept next to it, as those of catalogs are
(ADR 0007).
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from common.archive.inventory import ImageKind, Problem, ProblemCode
from common.content import Chunks, DirectoryStore, verified
from common.errors import HubError, InterruptedByUserError, SpaceError, UsageError
from common.interruption import workers
from common.serialization import DocumentError
from common.text import counted
from exporter.catalog.readers import bundle_image
from exporter.catalog.related_images import FoundImage, csvs_of, images_in_csv, images_of
from exporter.images.resolve import needed, resolve

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from common.oci.image import Descriptor, Digest
    from common.oci.reference import Reference
    from common.progress import Progress
    from common.registry.client import RegistryClient
    from exporter.catalog.model import Bundle
    from exporter.catalog.readers.bundle_image import Resources
    from exporter.images.resolve import ResolvedImage, WantedImage


@dataclass(frozen=True, slots=True)
class BundleContents:
    """The contents of bundle images, by source.

    `resolved`: the images; `named`: the images that their ClusterServiceVersions name; `resources`: the Kubernetes objects as
    JSON values, of the requested bundles only, because those of a whole catalog are gigabytes. `problems` names each file of
    these that cannot be read.
    """

    resolved: Mapping[str, ResolvedImage]  # reused by `images.resolved_images`, which saves a second lookup of each bundle
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
        self._store = store
        self._lock = threading.Lock()
        self._locks: dict[Digest, threading.Lock] = {}

    def read(
        self, wanted: Sequence[WantedImage], contents: Collection[str], *, jobs: int, progress: Progress
    ) -> BundleContents:
        """Resolve bundle images and read them; an image that cannot be fetched or read becomes a problem.

        `contents`: the sources of the images whose objects are returned too.
        """
        if not wanted:  # no progress line for nothing
            return BundleContents({}, {}, {}, ())
        images = resolve(wanted, self._client, jobs=jobs, progress=progress)
        progress.begin(f"looking into {counted(len(images), 'bundle')}", len(images), "bundles")

        def one(image: ResolvedImage) -> _Found:
            found = self._read(image, inside=image.wanted.source in contents)
            progress.advance(1)
            return found

        try:
            with workers(jobs, "bundles") as pool:
                found = dict(zip([image.wanted.source for image in images], pool.map(one, images), strict=True))
        finally:
            progress.end()
        return BundleContents(
            {image.wanted.source: image for image in images},
            {source: each.named for source, each in found.items()},
            {source: each.resources for source, each in found.items() if each.resources},
            tuple(problem for each in found.values() for problem in each.problems),
        )

    def _read(self, image: ResolvedImage, *, inside: bool) -> _Found:
        """Return the contents of an image, or the problem; empty for an image that has a problem already.

        `inside`: its objects go into the catalog, from which OLM installs them, so a file that cannot be read is an error.
        """
        # Reported when the image is resolved for the archive.
        if image.tree is None or image.problem is not None:
            return _Found()
        try:
            objects, unread = bundle_image.read(image.tree, lambda blob: self._stored(image.wanted.reference, blob))
        except (SpaceError, InterruptedByUserError):
            raise  # no fault of this image: the next one would fail as well
        except HubError as error:
            if isinstance(error, UsageError) and not isinstance(error, DocumentError):
                raise  # a wrong setting affects every image: one error instead of thousands of problems
            return _Found(problems=(_unreadable(image.wanted, error, inside=inside),))
        named = tuple(each for csv in csvs_of(objects) for each in images_in_csv(csv))
        # Other files of it matter to OLM only, which reads them from the image.
        if not inside:
            return _Found(named)
        return _Found(named, objects, tuple(_unreadable_file(image.wanted, error) for error in unread))

    def _stored(self, reference: Reference, blob: Descriptor) -> Chunks:
        """Return the contents of a blob from the store, where it is written first. Bundles share layers."""
        # A lock for each digest: two threads that fetch one layer wait for each other, all others run at the same time.
        with self._lock:
            lock = self._locks.setdefault(blob.digest, threading.Lock())
        with lock:
            self._store.write(blob, lambda _start: verified(self._client.blob(reference, blob), blob))
        return self._store.read(blob)


def _unreadable(wanted: WantedImage, error: HubError, *, inside: bool) -> Problem:
    # The bundle image itself is carried in any case, and OLM of later releases unpacks it on the cluster.
    if inside:
        message = f"cannot be read, so the catalog lacks its resources, and OLM cannot install it: {error.message}"
        return Problem("error", ProblemCode.BUNDLE_UNREADABLE, wanted.source, message + needed(wanted))
    message = f"cannot be looked into, so images that only its resources name are not known: {error.message}"
    return Problem("warning", ProblemCode.BUNDLE_UNREADABLE, wanted.source, message + needed(wanted))


def _unreadable_file(wanted: WantedImage, error: DocumentError) -> Problem:
    message = f"a file of it cannot be read, so the catalog lacks its objects: {error.message}"
    return Problem("error", ProblemCode.BUNDLE_UNREADABLE, wanted.source, message + needed(wanted))
