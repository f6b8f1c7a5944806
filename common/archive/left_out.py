"""The images that the archive does not have, because they could not be fetched when it was made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from common.archive.inventory import ATTACHED
from common.text import counted, enumeration

if TYPE_CHECKING:
    from common.archive.inventory import ImageRecord, Inventory

_NAMED = 5  # operators in one line


def left_out_images(inventory: Inventory) -> list[ImageRecord]:
    """Return the images that are listed, and not or only partly there."""
    # Signatures and attachments do not count: operators run without them, and their absence is a warning
    # (docs/reference/registry.md).
    return [image for image in inventory.images if not image.complete and image.kind not in ATTACHED]


def left_out_text(inventory: Inventory) -> str:
    """Return how many images the archive lacks, and the operators that need them; empty where it lacks none."""
    images = left_out_images(inventory)
    if not images:
        return ""
    packages = {package.name for catalog in inventory.catalogs for package in catalog.packages}
    # `CATALOG/PACKAGE/BUNDLE`; other images are needed by the image set itself.
    named = {part for image in images for name in image.needed_by for part in name.split("/")[1:2] if part in packages}
    operators = f", of {enumeration(sorted(named), _NAMED)}" if named else ""
    fetched = "it" if len(images) == 1 else "they"
    return (
        f"{counted(len(images), 'image')}{operators}: not in the archive, because {fetched} could not be fetched "
        "when it was made (hub-import inspect has the details)"
    )
