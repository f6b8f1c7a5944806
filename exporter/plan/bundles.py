"""Looks into bundle images: what their ClusterServiceVersions name is often in no list of the catalog.

Bundle images are tens of kilobytes and carried anyway, so their layers are kept beside the archive, as those of catalogs are
(ADR 0007). Sources: facts/openshift.md §8, design/selection.md *Images of a bundle*.
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from common.archive.inventory import ImageKind, Problem, ProblemCode
from common.content import Chunks, DirectoryStore, verified
from common.errors import CatalogError, ContentError, HubError, InterruptedByUserError, SpaceError, UsageError
from common.files import size_text
from common.interruption import workers
from common.log import logger
from common.oci.compression import decompressed
from common.oci.image import Descriptor, Digest, parse_config
from common.serialization import DocumentError, load_yaml_documents
from common.text import counted
from exporter.catalog.readers.layer_tree import LayerTree, TreeLimits
from exporter.catalog.readers.opening import MAX_CONFIG_SIZE, readable
from exporter.catalog.related_images import KIND as CSV
from exporter.catalog.related_images import FoundImage, csvs_of, images_in_csv, images_of
from exporter.images.resolve import needed, resolve

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from common.oci.reference import Reference
    from common.progress import Progress
    from common.registry.client import RegistryClient
    from exporter.catalog.model import Bundle
    from exporter.images.resolve import ResolvedImage, WantedImage

MANIFESTS_LABEL = "operators.operatorframework.io.bundle.manifests.v1"
_DIRECTORY = "manifests"
_EXTENSIONS = (".yaml", ".yml", ".json")
_OBJECT = re.compile(rb"""^[ \t]*["']?kind["']?[ \t]*:""", re.MULTILINE)  # what a file of another name has, if it is an object
MAX_SIZE = 64 * 1024**2  # of a bundle image; real ones have a hundredth
_LIMITS = TreeLimits(size=MAX_SIZE, entries=100_000, extended=16 * 1024**2)
Resources = tuple[Any, ...]
_LOG = logger(__name__)


@dataclass(frozen=True, slots=True)
class BundleContents:
    """What lies in bundle images, by source.

    `resolved`: the images; `named`: what their ClusterServiceVersions name; `resources`: the Kubernetes objects as JSON values,
    of the bundles whose contents were wanted: of all it would be gigabytes. `problems` names every file of these that is lost.
    """

    resolved: Mapping[str, ResolvedImage]
    named: Mapping[str, tuple[FoundImage, ...]]
    resources: Mapping[str, Resources]
    problems: tuple[Problem, ...]

    def images(self, bundle: Bundle) -> tuple[FoundImage, ...]:
        """Return what a bundle's resources name; nothing where nobody has looked, or could."""
        return self.named.get(source_of(bundle), ())

    def objects(self, bundle: Bundle) -> Resources:
        """Return the objects of a bundle whose contents were wanted."""
        return self.resources.get(source_of(bundle), ())


def source_of(bundle: Bundle) -> str:
    """Return what the inventory calls a bundle's image; empty where it has none that can be meant."""
    return next((image.source for image in images_of(bundle)[0] if image.kind is ImageKind.BUNDLE), "")


@dataclass(frozen=True, slots=True)
class _Found:
    named: tuple[FoundImage, ...] = ()
    resources: Resources = ()
    problems: tuple[Problem, ...] = ()


class BundleReader:
    """Reads the objects of bundle images. Shared by threads: each image is read once."""

    def __init__(self, client: RegistryClient, store: DirectoryStore) -> None:
        self._client = client
        self._store = store
        self._lock = threading.Lock()
        self._locks: dict[Digest, threading.Lock] = {}

    def look(
        self, wanted: Sequence[WantedImage], contents: Collection[str], *, jobs: int, progress: Progress
    ) -> BundleContents:
        """Resolve bundle images and read them; one that cannot be had or read is a problem, and the rest goes on.

        `contents`: the sources of those whose objects are wanted too.
        """
        if not wanted:
            return BundleContents({}, {}, {}, ())
        images = resolve(wanted, self._client, jobs=jobs, progress=progress)
        progress.begin(f"looking into {counted(len(images), 'bundle')}", len(images), "bundles")

        def one(image: ResolvedImage) -> _Found:
            found = self._attempt(image, inside=image.wanted.source in contents)
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

    def _attempt(self, image: ResolvedImage, *, inside: bool) -> _Found:
        """Return what is in an image, or the problem; nothing for an image that has a problem already.

        `inside`: its objects go into the catalog, where OLM takes them from. A file of it that cannot be read is an error.
        """
        if image.tree is None or image.problem is not None:
            return _Found()
        try:
            objects, unread = self._read(image)
        except (SpaceError, InterruptedByUserError):
            raise
        except HubError as error:
            if isinstance(error, UsageError) and not isinstance(error, DocumentError):
                raise  # a setting that makes no sense hurts every image
            return _Found(problems=(_unreadable(image.wanted, error, inside=inside),))
        named = tuple(each for csv in csvs_of(objects) for each in images_in_csv(csv))
        if not inside:
            return _Found(named)
        return _Found(named, objects, tuple(_lost(image.wanted, error) for error in unread))

    def _read(self, image: ResolvedImage) -> tuple[Resources, list[DocumentError]]:
        """Return the objects of an image, and the errors of its files that cannot be read."""
        assert image.tree is not None
        manifest, reference = readable(image.tree), image.wanted.reference
        size = sum(layer.size for layer in manifest.layers)
        if size > MAX_SIZE:
            raise CatalogError(f"{size_text(size)} are too much for a bundle")
        if manifest.config.size > MAX_CONFIG_SIZE:
            raise CatalogError(f"a config of {size_text(manifest.config.size)} is too much")
        config = parse_config(b"".join(bytes(chunk) for chunk in self._stored(reference, manifest.config)))
        tree = LayerTree(f"/{config.labels.get(MANIFESTS_LABEL, _DIRECTORY).strip('/')}", _LIMITS)
        for layer in manifest.layers:
            tree.apply(decompressed(self._stored(reference, layer), MAX_SIZE * 4))
        files = tree.files()
        if not files:
            raise ContentError("it has no manifests, so it is no bundle")
        unread: list[DocumentError] = []
        objects = tuple(one for name, content in sorted(files.items()) for one in _objects(name, content, unread))
        if not any(csvs_of(objects)):
            raise ContentError(f"it has no {CSV}")
        return objects, unread

    def _stored(self, reference: Reference, blob: Descriptor) -> Chunks:
        """Give the content of a blob, fetched once however many bundles share it."""
        with self._lock:
            lock = self._locks.setdefault(blob.digest, threading.Lock())
        with lock:
            self._store.write(blob, lambda _start: verified(self._client.blob(reference, blob), blob))
        return self._store.read(blob)


def _objects(name: str, content: bytes, unread: list[DocumentError]) -> Iterator[Any]:
    """Give the objects of a file. Raises DocumentError for an unreadable ClusterServiceVersion; other errors go to `unread`."""
    try:
        for document in load_yaml_documents(content, name, forgiving=True):
            if isinstance(document, dict):
                yield document
            elif name.lower().endswith(_EXTENSIONS):
                unread.append(DocumentError(f"{name}: not a Kubernetes object"))
    except DocumentError as error:
        if CSV.encode() in content or CSV.lower() in name.lower():
            raise
        _LOG.info("%s", error.message)
        if name.lower().endswith(_EXTENSIONS) or _OBJECT.search(content):
            unread.append(error)


def _unreadable(wanted: WantedImage, error: HubError, *, inside: bool) -> Problem:
    if inside:
        message = f"cannot be read, so the catalog lacks its resources, and OLM cannot install it: {error.message}"
        return Problem("error", ProblemCode.BUNDLE_UNREADABLE, wanted.source, message + needed(wanted))
    message = f"cannot be looked into, so images that only its resources name are not known: {error.message}"
    return Problem("warning", ProblemCode.BUNDLE_UNREADABLE, wanted.source, message + needed(wanted))


def _lost(wanted: WantedImage, error: DocumentError) -> Problem:
    message = f"a file of it cannot be read, so the catalog lacks its objects: {error.message}"
    return Problem("error", ProblemCode.BUNDLE_UNREADABLE, wanted.source, message + needed(wanted))
