"""Where the images of an inventory go on the mirror, by the rule of `common/mapping.py`; and the catalogs among them. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from common.archive.inventory import CatalogRecord, ImageKind, Inventory, blobs_of, documents_of
from common.errors import UsageError
from common.mapping import OWN_PATH, MappedImage, Mirror, map_images, stable_tag
from common.oci.image import Descriptor, Digest

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from common.oci.reference import Reference

__all__ = ["OWN_PATH", "MappedImage", "Mirror", "map_catalog", "map_images", "mapping_lines", "stable_tag"]


def map_catalog(catalog: CatalogRecord, images: Iterable[MappedImage]) -> MappedImage:
    """Return the image of a catalog among mapped images. Raises UsageError when the inventory has none."""
    for image in images:
        if image.record.kind is ImageKind.CATALOG and (image.record.source, image.digest) == (catalog.source, catalog.image):
            return image
    raise UsageError(f"the inventory lists the catalog {catalog.name}, but no image for it")


def mapping_lines(images: Iterable[MappedImage]) -> list[str]:
    """Return `SRC=DST` lines as `oc image mirror -f` reads them, sorted: sources by digest, destinations by tag.

    A rebuilt catalog exists nowhere but in the archive and on the mirror, so it has no line.
    """
    lines: set[str] = set()
    for image in images:
        exists = not image.rebuilt and image.record.complete
        if image.source is not None and image.source.digest in (None, image.digest) and exists:
            lines.update(f"{image.source.pinned(image.digest)}={image.tagged(tag)}" for tag in image.tags)
    return sorted(lines)


# What images need, and where on the mirror: by the inventory's word alone. Pure.


class Contents:
    """What images need, by the inventory's word alone."""

    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory
        self._needs: dict[Digest, frozenset[Digest]] = {}

    def documents(self, digest: Digest) -> list[Digest]:
        """Return an image's manifests and indexes, children first: a registry refuses an index before its manifests."""
        return documents_of(self._inventory, digest)

    def needs(self, image: MappedImage) -> frozenset[Digest]:
        """Return the blobs of an image."""
        if image.digest not in self._needs:
            self._needs[image.digest] = blobs_of(self._inventory, image.digest)
        return self._needs[image.digest]

    def places(self, images: Iterable[MappedImage]) -> dict[Digest, tuple[Reference, ...]]:
        """Return for each blob the repositories of the mirror that need it."""
        places: dict[Digest, dict[Reference, None]] = {}
        for image in images:
            for digest in self.needs(image):
                places.setdefault(digest, {})[image.repository] = None
        return {digest: tuple(sorted(found)) for digest, found in places.items()}

    def blobs(self, images: Sequence[MappedImage]) -> list[Descriptor]:
        """Return the blobs of images: the most shared first, so that they can be mounted, then in the archive's order."""
        places = self.places(images)
        records = self._inventory.blobs
        order = sorted(places, key=lambda d: (-len(places[d]), [(p.volume, p.offset) for p in records[d].pieces], d))
        return [Descriptor(records[d].media_type, d, records[d].size) for d in order]


class Completion:
    """Which images have all of their blobs on the mirror, as blob after blob arrives."""

    def __init__(self, images: Sequence[MappedImage], contents: Contents) -> None:
        self._waiting = {position: len(contents.needs(image)) for position, image in enumerate(images)}
        self._images = images
        self._users: dict[Digest, list[int]] = {}
        for position, image in enumerate(images):
            for digest in contents.needs(image):
                self._users.setdefault(digest, []).append(position)

    def without_blobs(self) -> list[MappedImage]:
        """Return the images that need no blob at all."""
        return [self._images[position] for position, count in self._waiting.items() if not count]

    def arrived(self, digest: Digest, refused: Collection[Reference] = ()) -> list[MappedImage]:
        """Note that a blob is in every repository that needs it but those that `refused` it.

        Returns the images that it was the last one for.
        """
        complete = []
        for position in self._users.get(digest, ()):
            if self._images[position].repository in refused:
                continue
            self._waiting[position] -= 1
            if not self._waiting[position]:
                complete.append(self._images[position])
        return complete
