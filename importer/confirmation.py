"""What the mirror really has of an archive: asked blob by blob, repository by repository, for a receipt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from common.archive.needs import repository_of
from common.archive.reader import Archive
from common.columns import counted
from common.digest import Digest
from common.progress import Progress
from common.reference import Reference
from common.registry.client import RegistryClient
from common.workers import workers
from importer.contents import Contents
from importer.mapping import MappedImage

Asked = tuple[Reference, Digest]


@dataclass(frozen=True, slots=True)
class Confirmation:
    """By the repository of the source, the blobs that are there; `inventories`: archives of which everything is."""

    inventories: tuple[Digest, ...]
    repositories: dict[str, frozenset[Digest]]


def take(
    archive: Archive, images: Sequence[MappedImage], client: RegistryClient, *, jobs: int, progress: Progress
) -> Confirmation:
    """Ask for every blob in every repository that needs it, and for every tag. Raises RegistryError."""
    contents = Contents(archive.inventory)
    complete = [image for image in images if image.record.complete]
    asked: list[Asked] = sorted({(image.repository, digest) for image in complete for digest in contents.needs(image)})

    def has(one: Asked) -> bool:
        found = client.has_blob(*one)
        progress.advance(1)
        return found

    progress.begin(f"asking for {counted(len(asked), 'blob')}", len(asked), "blobs")
    with workers(jobs, "receipt") as pool:
        there = {one for one, found in zip(asked, pool.map(has, asked), strict=True) if found}
        tagged = all(pool.map(lambda image: _tagged(image, client), complete))
    progress.end()
    whole = tagged and len(there) == len(asked) and len(complete) == len(archive.inventory.images)
    repositories: dict[str, set[Digest]] = {}
    for image in complete:
        found = {digest for digest in contents.needs(image) if (image.repository, digest) in there}
        repositories.setdefault(repository_of(image.record), set()).update(found)
    inventories = (archive.digest, *archive.inventory.requires) if whole else ()
    return Confirmation(inventories, {name: frozenset(found) for name, found in repositories.items()})


def lacking(images: Sequence[MappedImage], client: RegistryClient, *, jobs: int, progress: Progress) -> list[str]:
    """Return the names of the images that the mirror does not have; those that were never whole do not count.

    Raises RegistryError.
    """
    complete = [image for image in images if image.record.complete]

    def has(image: MappedImage) -> bool:
        found = client.head(image.pinned) is not None
        progress.advance(1)
        return found

    progress.begin(f"asking the mirror for {counted(len(complete), 'image')}", len(complete), "images")
    with workers(jobs, "in-place") as pool:
        missing = [image.name for image, found in zip(complete, pool.map(has, complete), strict=True) if not found]
    progress.end()
    return missing


def _tagged(image: MappedImage, client: RegistryClient) -> bool:
    heads = (client.head(image.tagged(tag)) for tag in image.tags)
    return all(head is not None and head.digest == image.digest for head in heads)
