"""What an inventory says of needs: the blobs of an image, its repository on any mirror, the operators that a blob is for."""

from __future__ import annotations

from collections.abc import Collection

from common.archive.inventory import ImageRecord, Inventory
from common.digest import Digest


def needed_by(inventory: Inventory, blobs: Collection[Digest]) -> dict[Digest, tuple[str, ...]]:
    """Return for each of `blobs` the operators (`catalog/package/bundle`) that need it, or the images where none does."""
    wanted = frozenset(blobs)
    found: dict[Digest, set[str]] = {blob: set() for blob in wanted}
    for image in inventory.images:
        names = image.needed_by or (image.source,)
        for blob in blobs_of(inventory, image.digest) & wanted:
            found[blob].update(names)
    return {blob: tuple(sorted(names)) for blob, names in found.items()}


def blobs_of(inventory: Inventory, root: Digest | None) -> frozenset[Digest]:
    """Return the blobs of an image, over all of its platforms; none for an image that was never resolved."""
    return frozenset(
        blob for digest in documents_of(inventory, root) for record in (inventory.manifests[digest],) for blob in record.blobs
    )


def documents_of(inventory: Inventory, root: Digest | None) -> list[Digest]:
    """Return the manifests and indexes of an image, itself first."""
    found: dict[Digest, None] = {}
    pending = [root]
    while pending:
        digest = pending.pop()
        if digest is not None and digest in inventory.manifests and digest not in found:
            found[digest] = None
            pending.extend(inventory.manifests[digest].manifests)
    return list(found)


def repository_of(image: ImageRecord) -> str:
    """Return what decides an image's repository on any mirror: the one chosen for it, or that of its source."""
    if image.target_repository:
        return image.target_repository
    folder, slash, name = image.source.partition("@")[0].rpartition("/")
    return f"{folder}{slash}{name.partition(':')[0]}"
