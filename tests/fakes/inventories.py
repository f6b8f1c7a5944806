"""Inventories made in memory: one catalog image, and the images that it needs."""

from __future__ import annotations

from typing import Any

from common.archive.inventory import CatalogRecord, ImageKind, ImageRecord, Inventory
from common.oci.image import Digest

A, B, C = (Digest("sha256:" + letter * 64) for letter in "abc")
INDEX = "registry.redhat.io/redhat/redhat-operator-index:v4.18"
NEEDED = ("redhat-operators/alpha/alpha.v1.0.0",)


def image(
    source: str, digest: Digest | None = A, kind: str = ImageKind.RELATED, needed_by: tuple[str, ...] = NEEDED, **fields: Any
) -> ImageRecord:
    """Return an image of the inventory, needed by the catalog unless said otherwise."""
    return ImageRecord(source, digest, None, ImageKind(kind), (), complete=True, needed_by=needed_by, size=1, **fields)


def catalog(name: str = "redhat-operators", source: str = INDEX, **fields: Any) -> CatalogRecord:
    """Return a file-based catalog that was filtered, so that its digest B is not the source's A."""
    told = {"digest": A, "image": B, "format": "file-based", "filtered": True, "packages": (), **fields}
    return CatalogRecord(source=source, name=name, **told)


def inventory(*images: ImageRecord, catalogs: tuple[CatalogRecord, ...] = (catalog(),)) -> Inventory:
    """Return an inventory with catalogs, their images, and other images."""
    own = [image(each.source, each.image, ImageKind.CATALOG, ()) for each in catalogs]
    return Inventory("", "", "", {}, (), catalogs, (*own, *images), {}, {}, (), ())
