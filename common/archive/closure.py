"""Bounds on what images need together, and the images that need a blob, in time proportional to the inventory.

Any number of images may name one manifest, and any number of indexes may list it. So a few megabytes of inventory can stand
for billions of pairs of image and blob, and every loop over the blobs of all images would go through them.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from common.archive.inventory import blobs_of
from common.errors import ArchiveDamagedError, ContentError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from common.archive.inventory import ImageRecord, Inventory
    from common.oci.image import Digest


# An image index and its manifests are usually listed once each, so a real closure has one or two entries for each of these.
_MAX_SHARING = 16  # entries of all closures for each listed one
_FREE = 1_000_000  # entries that any inventory may have
_NAMES_ROOM = 64 * 1024 * 1024  # bytes of names, before lists of names are cut short
_SHORT = 1024  # bytes of names of one blob after that
_NAME = 64  # bytes that a name takes besides its text


def check_documents(inventory: Inventory) -> None:
    """Raise ContentError when the closures of different images have too many entries. Nesting must have been checked."""
    _require(inventory, {image.digest for image in inventory.images if image.digest in inventory.manifests}, "its images need")


def require_bounded_images(inventory: Inventory) -> None:
    """Raise ArchiveDamagedError when there are too many pairs of an image and something that it needs."""
    try:
        _require(
            inventory,
            [image.digest for image in inventory.images if image.digest in inventory.manifests],
            "to bring its images,",
        )
    except ContentError as error:
        raise ArchiveDamagedError(
            f"the archive cannot be used: {error}", hint="Images that share that much need archives of their own: make several."
        ) from error


def _require(inventory: Inventory, roots: Collection[Digest | None], what: str) -> None:
    sizes = _sizes(inventory)
    listed = sum(len(one.manifests) + len(one.blobs) + 1 for one in inventory.manifests.values()) + len(inventory.images)
    limit = _FREE + _MAX_SHARING * listed
    entries = sum(sizes[root] for root in roots if root is not None)
    if entries > limit:
        raise ContentError(f"{what} {entries} blobs and manifests counted for each image; the limit is {limit} for its size")


def _sizes(inventory: Inventory) -> dict[Digest, int]:
    """Return for each document the entries that a walk through it passes."""
    found: dict[Digest, int] = {}

    # Recursion is bounded, as in `documents_of`.
    def size(digest: Digest) -> int:
        if digest not in found:
            record = inventory.manifests[digest]
            children = (child for child in record.manifests if child in inventory.manifests)
            found[digest] = 1 + len(record.blobs) + len(record.manifests) + sum(map(size, children))
        return found[digest]

    for digest in inventory.manifests:
        size(digest)
    return found


class Users:
    """The operators or images that need a blob. Used from several threads."""

    def __init__(self, inventory: Inventory) -> None:
        self._names: dict[Digest, dict[str, None]] = {}
        for image in inventory.images:
            if image.digest in inventory.manifests and image.digest is not None:
                self._names.setdefault(image.digest, {}).update(dict.fromkeys(image.needed_by or (image.source,)))
        self._roots: dict[Digest, list[Digest]] = {}
        # Once for each manifest or index, not for each image that names it.
        for root in self._names:
            for blob in blobs_of(inventory, root):
                self._roots.setdefault(blob, []).append(root)
        self._known: dict[tuple[Digest, ...], tuple[str, ...]] = {}
        self._room = _NAMES_ROOM
        self._lock = threading.Lock()

    def names(self, blob: Digest) -> tuple[str, ...]:
        """Return the operators (`catalog/package/bundle`) that need a blob, or the images where none does.

        Once all lists have 64 MiB of names, further ones are cut to 1 KiB.
        """
        roots = tuple(self._roots.get(blob, ()))
        with self._lock:
            if roots not in self._known:
                self._known[roots] = self._collected(roots)
            return self._known[roots]

    def _collected(self, roots: Iterable[Digest]) -> tuple[str, ...]:
        found: set[str] = set()
        room = max(self._room, _SHORT)
        for root in roots:
            for name in self._names[root]:
                # Also for a name that is known already: it bounds the time with the memory.
                room -= len(name) + _NAME
                self._room -= len(name) + _NAME
                if found and room < 0:
                    return tuple(sorted(found))
                found.add(name)
        return tuple(sorted(found))


def needed_by(inventory: Inventory, blobs: Collection[Digest]) -> dict[Digest, tuple[str, ...]]:
    """Return for each of `blobs` the operators that need it, or the images where none does; cut as by `Users.names`."""
    users, room = Users(inventory), _NAMES_ROOM
    found: dict[Digest, tuple[str, ...]] = {}
    for blob in sorted(set(blobs)):
        names = users.names(blob)
        # Blobs share one list in memory, but not where the lists are printed.
        found[blob] = _cut(names, max(room, _SHORT))
        room -= sum(map(len, found[blob])) + _NAME * len(found[blob])
    return found


def _cut(names: tuple[str, ...], room: int) -> tuple[str, ...]:
    """Return the first names that `room` bytes hold, at least one."""
    for number, name in enumerate(names):
        room -= len(name) + _NAME
        if room < 0:
            return names[: max(number, 1)]
    return names


def images_by_digest(inventory: Inventory) -> dict[Digest, list[ImageRecord]]:
    """Return the resolved images of each digest that the inventory lists, so that its blobs are collected once."""
    found: dict[Digest, list[ImageRecord]] = {}
    for image in inventory.images:
        if image.digest is not None and image.digest in inventory.manifests:
            found.setdefault(image.digest, []).append(image)
    return found
