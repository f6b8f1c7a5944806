"""Whether the mirror has the images of an archive, before a cluster is changed to pull them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from common.text import shortened
from importer.cluster.finding import Finding
from importer.mapping import pushed_images

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from common.archive.reader import Archive
    from importer.mapping import MappedImage

    # Given images, returns the names of those that are missing on the mirror.
    FindMissing = Callable[[Sequence[MappedImage]], Sequence[str]]

_SHOWN = 5  # missing images named in one finding


def missing_images(archive: Archive, images: Sequence[MappedImage], find_missing: FindMissing) -> list[Finding]:
    """Return an error for images that are missing on the mirror."""
    # Those that were never pushed are in the problems of the inventory and of the plan.
    pushed = pushed_images(archive.inventory, images)
    missing = find_missing(pushed)
    if not missing:
        return []
    cause = f"the mirror lacks {len(missing)} of {len(pushed)} images"
    fix = "Push the archive first: hub-import push, or deploy, which does both."
    return [Finding("image-not-in-mirror", "mirror", cause, tuple(shortened(missing, _SHOWN)), fix)]
