"""Which operators need a blob: what a person wants to know when it is damaged."""

from __future__ import annotations

from collections.abc import Collection

from common.archive.inventory import Inventory
from common.digest import Digest


def needed_by(inventory: Inventory, blobs: Collection[Digest]) -> dict[Digest, tuple[str, ...]]:
    """Return for each of `blobs` the operators (`catalog/package/bundle`) that need it, or the images where none does."""
    wanted = frozenset(blobs)
    found: dict[Digest, set[str]] = {blob: set() for blob in wanted}
    for image in inventory.images:
        names = image.needed_by or (image.source,)
        for blob in _blobs(inventory, image.digest) & wanted:
            found[blob].update(names)
    return {blob: tuple(sorted(names)) for blob, names in found.items()}


def _blobs(inventory: Inventory, root: Digest | None) -> frozenset[Digest]:
    """Return the blobs of an image, over all of its platforms."""
    found: set[Digest] = set()
    pending, seen = [root], set[Digest]()
    while pending:
        digest = pending.pop()
        record = inventory.manifests.get(digest) if digest is not None else None
        if record is None or digest is None or digest in seen:
            continue
        seen.add(digest)
        found.update(record.blobs)
        pending.extend(record.manifests)
    return frozenset(found)
