"""The images of the pull test: the smallest carried one of each architecture. No I/O."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from common.archive.inventory import ATTACHED, ImageKind, lacking_images
from common.errors import UsageError
from common.oci.reference import Reference
from importer.cluster.record import PullImage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from common.archive.inventory import Inventory

ANY = ""  # the architecture of an image without an index: the inventory does not state it

# Nodes pull catalogs by their names on the mirror, and graph data exists nowhere else: no rule leads to these.
_WITHOUT_SOURCE = frozenset((ImageKind.CATALOG, ImageKind.GRAPH_DATA, *ATTACHED))


def smallest(inventory: Inventory) -> tuple[PullImage, ...]:
    """Return the smallest image of each architecture that a mirror gets and that nodes pull by digest from its source."""
    lacking, found = lacking_images(inventory), dict[str, PullImage]()
    for record in inventory.images:
        if not record.complete or record.source in lacking or record.kind in _WITHOUT_SOURCE:
            continue
        # By tag, a pull could be answered by another image; and of a name with a digest the content has to be that digest.
        source = _parsed(record.source)
        if source is None or record.digest is None or source.digest != record.digest:
            continue
        for architecture in _architectures(record.platforms):
            one = PullImage(architecture, str(source.pinned(record.digest)), record.size)
            if architecture not in found or _order(one) < _order(found[architecture]):
                found[architecture] = one
    return tuple(found[each] for each in sorted(found))


def _parsed(source: str) -> Reference | None:
    with suppress(UsageError):
        return Reference.parse(source)
    return None


def _order(image: PullImage) -> tuple[int, str]:
    return image.size, image.image


def _architectures(platforms: Sequence[str]) -> Iterator[str]:
    if not platforms:
        yield ANY
    for platform in platforms:
        system, _, rest = platform.partition("/")
        if system == "linux" and rest:
            yield rest.partition("/")[0]  # a node states no variant


def for_architecture(images: Iterable[PullImage], architecture: str) -> PullImage | None:
    """Return the image for nodes of an architecture: one that states it, else one that states none."""
    # CRI-O pulls an image without an index on every node. containerd refuses it where its config names another architecture.
    known = {each.architecture: each for each in images}
    return known.get(architecture) or known.get(ANY)
