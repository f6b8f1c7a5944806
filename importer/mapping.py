"""The repositories and tags of an inventory's images on the mirror (`common/mapping.py`), and the closure of images. Pure."""

from __future__ import annotations

from itertools import chain, groupby
from typing import TYPE_CHECKING

from common.archive.inventory import (
    CatalogRecord,
    ImageKind,
    Inventory,
    Problem,
    ProblemCode,
    documents_of,
    lacking_images,
    require_bounded_images,
)
from common.errors import UsageError
from common.mapping import OWN_PATH, MappedImage, Mirror, map_images, stable_tag
from common.text import counted

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from common.archive.inventory import BlobRecord
    from common.oci.image import Digest
    from common.oci.reference import Reference


__all__ = [
    "OWN_PATH",
    "MappedImage",
    "Mirror",
    "components_of",
    "left_out_payloads",
    "map_catalog",
    "map_images",
    "mapping_lines",
    "pushed_images",
    "stable_tag",
]


def map_catalog(catalog: CatalogRecord, images: Iterable[MappedImage]) -> MappedImage:
    """Return the image of a catalog among mapped images. Raises UsageError when the inventory has none."""
    for image in images:
        # By source and digest: a filtered catalog and its original can be in one archive under one source.
        if image.record.kind is ImageKind.CATALOG and (image.record.source, image.digest) == (catalog.source, catalog.image):
            return image
    raise UsageError(f"the inventory lists the catalog {catalog.name}, but no image for it")


def pushed_images(inventory: Inventory, images: Iterable[MappedImage]) -> list[MappedImage]:
    """Return the images that a mirror gets: complete ones, without the payloads of incomplete releases."""
    # A tag has to mean that a pull succeeds; that of a payload, that an update does: the OpenShift Update Service offers
    # every payload of its repository (openshift/cincinnati, cincinnati/src/plugins/internal/release_scrape_dockerv2).
    lacking = lacking_images(inventory)
    return [image for image in images if image.record.complete and image.name not in lacking]


def left_out_payloads(inventory: Inventory) -> Iterator[Problem]:
    """Yield an error for each payload that is left out, although the archive has it."""
    lacking = lacking_images(inventory)
    complete = {image.source for image in inventory.images if image.complete}
    for release in inventory.carried_releases:
        if release.source in lacking and release.source in complete:
            subject = f"OpenShift {release.version} ({release.architecture})"
            message = (
                f"the archive lacks {counted(lacking[release.source], 'image')} of it: its payload is left out, "
                "because an update service would offer the release; export it again"
            )
            yield Problem("error", ProblemCode.RELEASE_INCOMPLETE, subject, message)


def components_of(inventory: Inventory, payload: MappedImage) -> frozenset[str]:
    """Return the sources of the components of the releases that have a payload."""
    found = (release.components for release in inventory.carried_releases if release.source == payload.name)
    return frozenset(component.source for components in found for component in components)


def mapping_lines(images: Iterable[MappedImage]) -> list[str]:
    """Return `SRC=DST` lines as `oc image mirror -f` reads them, sorted: sources by digest, destinations by tag.

    A rebuilt catalog exists only in the archive and on the mirror, so it has no line.
    """
    lines: set[str] = set()
    for image in images:
        exists = not image.rebuilt and image.record.complete
        # Content that differs from the digest in its source's name cannot be copied from that source.
        if image.source is not None and image.source.digest in (None, image.digest) and exists:
            lines.update(f"{image.source.pinned(image.digest)}={image.tagged(tag)}" for tag in image.tags)
    return sorted(lines)


class Closure:
    """Everything that images refer to, directly or through indexes, according to the inventory. Contacts nothing.

    Raises ArchiveDamagedError for images that share so much that their blobs cannot be counted for each.
    """

    def __init__(self, inventory: Inventory) -> None:
        require_bounded_images(inventory)  # every user of this class walks through the blobs of each image
        self._inventory = inventory
        self._blobs: dict[Digest, tuple[Digest, ...]] = {}

    def manifests_of(self, digest: Digest) -> list[Digest]:
        """Return the manifests and indexes of an image, children first: a registry refuses an index before its manifests."""
        return documents_of(self._inventory, digest)

    def blobs_of(self, image: MappedImage) -> tuple[Digest, ...]:
        """Return the blobs of an image, each once."""
        # Kept: every pass over the images asks for it, and so does every failure.
        if image.digest not in self._blobs:
            self._blobs[image.digest] = self._listed(image.digest)
        return self._blobs[image.digest]

    def _listed(self, root: Digest) -> tuple[Digest, ...]:
        lists = [self._inventory.manifests[digest].blobs for digest in documents_of(self._inventory, root)]
        found = tuple(dict.fromkeys(chain.from_iterable(lists)))
        # Of an image with one manifest the inventory has that tuple: a set of each would take as much as all other tables.
        return next((one for one in lists if one == found), found)

    def repositories(self, images: Iterable[MappedImage]) -> dict[Digest, tuple[Reference, ...]]:
        """Return for each blob the repositories of the mirror that need it."""
        found: dict[Digest, tuple[Reference, ...]] = {}
        shared: dict[Digest, list[Reference]] = {}
        for repository, digests in self._by_repository(images):
            alone = (repository,)  # most blobs are needed in one repository, and share this tuple
            for digest in digests:
                before = found.setdefault(digest, alone)
                if before is not alone:
                    shared.setdefault(digest, [*before]).append(repository)
        known: dict[tuple[Reference, ...], tuple[Reference, ...]] = {}
        for digest, several in shared.items():
            places = tuple(several)
            found[digest] = known.setdefault(places, places)
        return found

    def _by_repository(self, images: Iterable[MappedImage]) -> Iterator[tuple[Reference, set[Digest]]]:
        """Yield the repositories of images, sorted, each with the blobs that it needs."""
        ordered = sorted(images, key=_repository_of)
        for repository, within in groupby(ordered, key=_repository_of):
            yield repository, set().union(*map(self.blobs_of, within))

    def users(self, images: Iterable[MappedImage]) -> dict[Digest, list[MappedImage]]:
        """Return for each blob the images that need it, in their order."""
        found: dict[Digest, list[MappedImage]] = {}
        for image in images:
            for digest in self.blobs_of(image):
                found.setdefault(digest, []).append(image)
        return found

    def upload_order(self, images: Sequence[MappedImage]) -> list[Digest]:
        """Return the blobs of images: the most shared first, then in the archive's order."""
        # A blob that many repositories need is uploaded once and mounted into the others, so it has to be there early; the
        # rest follows the volumes, because optical and USB media are slow at seeking.
        repositories = self.repositories(images)
        records = self._inventory.blobs
        return sorted(repositories, key=lambda d: (-len(repositories[d]), *_position(records[d]), d))


def _repository_of(image: MappedImage) -> Reference:
    return image.repository


def _position(record: BlobRecord) -> tuple[int, int]:
    """Return volume and offset of a blob; zeros for one of an earlier archive."""
    return (record.pieces[0].volume, record.pieces[0].offset) if record.pieces else (0, 0)


class Completion:
    """The images whose blobs are all on the mirror, as blob after blob arrives."""

    def __init__(self, images: Sequence[MappedImage], closure: Closure) -> None:
        # By position, not digest: one image can be in several repositories, and is complete in each on its own.
        self._waiting = [len(closure.blobs_of(image)) for image in images]
        self._images = images
        self._user: dict[Digest, int] = {}
        self._users: dict[Digest, list[int]] = {}  # of blobs that several need; a list for each blob would take 90 bytes more
        for position, image in enumerate(images):
            for digest in closure.blobs_of(image):
                first = self._user.setdefault(digest, position)
                if first != position:
                    self._users.setdefault(digest, [first]).append(position)

    def without_blobs(self) -> list[MappedImage]:
        """Return the images that need no blob: indexes without children, for example; no arrival completes them."""
        return [self._images[position] for position, count in enumerate(self._waiting) if not count]

    def arrived(self, digest: Digest, refused: Collection[Reference] = ()) -> list[MappedImage]:
        """Record that a blob is in every repository that needs it except those that `refused` it.

        Returns the images that are complete with it.
        """
        complete: list[MappedImage] = []
        if digest not in self._user:
            return complete
        for position in self._users.get(digest) or (self._user[digest],):
            if self._images[position].repository in refused:
                continue
            self._waiting[position] -= 1
            if not self._waiting[position]:
                complete.append(self._images[position])
        return complete
