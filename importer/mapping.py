"""Where the images of an inventory go on the mirror, by the rule of `common/mapping.py`; and the catalogs among them. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from common.archive.inventory import CatalogRecord, ImageKind
from common.errors import UsageError
from common.mapping import OWN_PATH, MappedImage, Mirror, map_images, stable_tag

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
