"""What the bytes of an archive are for: each blob counts for the one operator that needs it, or as shared. Pure.

Only what the archive itself carries counts: not what lies in earlier archives, and not what could not be fetched.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from common.archive.inventory import ATTACHED, ImageKind, ImageRecord, Inventory
from common.archive.needs import blobs_of
from common.digest import Digest


class Purpose(NamedTuple):
    """What bytes are for: an operator (catalog and package), or one of the groups below (no package)."""

    group: str
    package: str = ""


SHARED = Purpose("shared by several")
CATALOGS = Purpose("catalogs")
ADDITIONAL = Purpose("additional images")
ATTACHMENTS = Purpose("signatures and attachments")


@dataclass(frozen=True, slots=True)
class Weights:
    """Bytes by purpose: in all, by volume, and for each operator what it shares with others.

    `whole` sums to the bytes that are carried; so do `volumes`, whose order is that of the inventory.
    """

    whole: Mapping[Purpose, int]
    volumes: Sequence[Mapping[Purpose, int]]
    shared: Mapping[Purpose, int]


def weigh(inventory: Inventory) -> Weights:
    """Return the weights of an archive."""
    purposes: defaultdict[Digest, set[Purpose]] = defaultdict(set)
    for image in inventory.images:
        for blob in blobs_of(inventory, image.digest):
            purposes[blob].update(purposes_of(image))
    whole: Counter[Purpose] = Counter()
    shared: Counter[Purpose] = Counter()
    volumes: list[Counter[Purpose]] = [Counter() for _ in inventory.volumes]
    for digest, record in inventory.blobs.items():
        needed = purposes[digest]
        purpose = next(iter(needed)) if len(needed) == 1 else SHARED
        for piece in record.pieces:
            whole[purpose] += piece.size
            volumes[piece.volume - 1][purpose] += piece.size
        if record.pieces and len(needed) > 1:
            shared.update(dict.fromkeys(needed, record.size))
    return Weights(whole, volumes, shared)


def purposes_of(image: ImageRecord) -> frozenset[Purpose]:
    """Return what an image is for."""
    if image.needed_by:
        return frozenset(Purpose(*name.split("/")[:2]) for name in image.needed_by)
    if image.kind is ImageKind.CATALOG:
        return frozenset((CATALOGS,))
    return frozenset((ATTACHMENTS if image.kind in ATTACHED else ADDITIONAL,))
