"""What is served: repositories, tags, manifests and blobs just as push would make them on a mirror. Pure.

A blob belongs to the repositories whose manifests list it, and to no other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from common.archive.inventory import Inventory
from common.digest import Digest
from importer.contents import Contents
from importer.mapping import MappedImage, Mirror, map_images


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository; `tags` and `referrers` are sorted, these by the manifest that they refer to."""

    tags: Mapping[str, Digest]
    manifests: frozenset[Digest]
    blobs: frozenset[Digest]
    referrers: Mapping[Digest, tuple[Digest, ...]]


Offer = Mapping[str, Repository]  # by name, sorted


def offer_of(inventory: Inventory, mirror: Mirror) -> Offer:
    """Return what an archive offers. Raises what mapping its images raises."""
    by_name: defaultdict[str, list[MappedImage]] = defaultdict(list)
    for image in map_images(inventory, mirror):
        if image.digest not in inventory.manifests:
            continue  # one that was never found whole, and of which nothing is here
        by_name[image.repository.repository].append(image)
    contents = Contents(inventory)
    return {name: _repository(inventory, contents, by_name[name]) for name in sorted(by_name)}


def count_whole(inventory: Inventory, mirror: Mirror, at_hand: Callable[[Digest], bool]) -> tuple[int, int]:
    """Return how many images can be pulled with all of their blobs, and how many there are. Raises as `offer_of` does."""
    contents = Contents(inventory)

    def is_here(blob: Digest) -> bool:
        return inventory.blobs[blob].missing is None and at_hand(blob)

    images = map_images(inventory, mirror)
    return sum(all(is_here(blob) for blob in contents.needs(image)) for image in images), len(images)


def _repository(inventory: Inventory, contents: Contents, images: Iterable[MappedImage]) -> Repository:
    tags: dict[str, Digest] = {}
    manifests: set[Digest] = set()
    blobs: set[Digest] = set()
    for image in images:
        tags |= dict.fromkeys(image.tags, image.digest)
        manifests.update(contents.documents(image.digest))
        blobs |= contents.needs(image)
    referrers: defaultdict[Digest, list[Digest]] = defaultdict(list)
    for digest in sorted(manifests):
        subject = inventory.manifests[digest].subject
        if subject is not None:
            referrers[subject].append(digest)
    return Repository(
        {tag: tags[tag] for tag in sorted(tags)},
        frozenset(manifests),
        frozenset(blobs),
        {subject: tuple(found) for subject, found in referrers.items()},
    )
