"""Source reference → mirror reference: the one rule that push, resources and serve follow, and plan looks ahead by. Pure.

`HOST[:PORT][/PREFIX]/<source path>`; the source host is left out unless asked for; `max_path_components` joins the tail
with `-` for registries without nesting (docs/registry.md, *Paths on the mirror*).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from common.archive.inventory import CatalogRecord, ImageRecord, Inventory
from common.digest import Digest, hex_of
from common.errors import ArchiveDamagedError, UsageError
from common.reference import Reference, is_host, is_repository, is_tag

OWN_PATH = "hub-airgap"  # where a catalog goes that was a directory, and so has no path of its own


@dataclass(frozen=True, slots=True)
class Mirror:
    """The registry pushed to: host, an optional path before all repositories, and how source paths are laid below it."""

    host: str
    prefix: str = ""
    max_path_components: int | None = None
    keep_source_host: bool = False

    @classmethod
    def parse(cls, text: str, *, max_path_components: int | None = None, keep_source_host: bool = False) -> Mirror:
        """Read `HOST[:PORT][/PREFIX]`. Raises UsageError."""
        host, slash, prefix = text.removesuffix("/").partition("/")
        if not is_host(host) or (slash and not is_repository(prefix)):
            raise UsageError(
                f"not a registry: {text[:200]!r}", hint="Wanted: HOST[:PORT][/PREFIX], for example registry.example:5000/mirror"
            )
        taken = len(prefix.split("/")) if prefix else 0
        if max_path_components is not None and max_path_components <= taken:
            raise UsageError(
                f"--max-path-components {max_path_components} leaves no room below the prefix {prefix!r}",
                hint=f"Wanted: at least {taken + 1}.",
            )
        return cls(host, prefix, max_path_components, keep_source_host)

    def __str__(self) -> str:
        return f"{self.host}/{self.prefix}" if self.prefix else self.host

    @property
    def joins_paths(self) -> bool:
        """Whether repositories may end otherwise than their sources, so that rules need repository scope."""
        return self.max_path_components is not None

    def repository(self, source: Reference) -> Reference:
        """Return the repository on the mirror for a source."""
        path = source.repository
        if self.keep_source_host:
            path = f"{source.registry.replace(':', '-').strip('[]')}/{path}"
        return self.at(path)

    def at(self, path: str) -> Reference:
        """Return the repository for a path below the prefix."""
        parts = [part for part in self.prefix.split("/") if part] + path.split("/")
        limit = self.max_path_components
        if limit is not None and len(parts) > limit:
            parts = [*parts[: limit - 1], "-".join(parts[limit - 1 :])]
        joined = "/".join(parts).lower()
        if not is_repository(joined):
            raise UsageError(f"{joined[:300]!r} is no repository path", hint="Choose a shorter or simpler --registry prefix.")
        return Reference(self.host, joined)


@dataclass(frozen=True, slots=True)
class MappedImage:
    """An image of the inventory and where it goes. `source` is None for a catalog that was a directory.

    `rebuilt`: a filtered catalog, which nobody finds at its source.
    """

    record: ImageRecord
    digest: Digest
    source: Reference | None
    repository: Reference
    tags: tuple[str, ...]
    rebuilt: bool = False

    @property
    def name(self) -> str:
        """What the inventory calls the image."""
        return self.record.source

    @property
    def pinned(self) -> Reference:
        """The image on the mirror, by digest."""
        return self.repository.pinned(self.digest)

    def tagged(self, tag: str) -> Reference:
        """Return the image on the mirror under one of its tags."""
        return Reference(self.repository.registry, self.repository.repository, tag)


def stable_tag(digest: Digest) -> str:
    """Return the tag that spares an image from garbage collection when its other tags move (docs/registry.md)."""
    return f"hub-sha256-{hex_of(digest)}"


def map_images(inventory: Inventory, mirror: Mirror) -> tuple[MappedImage, ...]:
    """Return every resolved image of the inventory with its place, in the inventory's order.

    Raises UsageError when two sources would meet in one repository under one tag with different digests, or when a target
    repository is no repository path.
    """
    names = {(catalog.source, catalog.image): catalog for catalog in inventory.catalogs}
    moved = _moved_tags(inventory)
    mapped = tuple(
        _map(
            image,
            image.digest,
            names.get((image.source, image.digest)),
            mirror,
            keeps_tag=(image.source.partition("@")[0], image.tag) not in moved,
        )
        for image in inventory.images
        if image.digest is not None
    )
    _refuse_collisions(mapped)
    return mapped


def _moved_tags(inventory: Inventory) -> set[tuple[str, str]]:
    """Return the source tags that several digests claim: the tag moved between two versions that both are carried.

    They are pulled by digest, so that none of them needs the tag; each keeps its stable one.
    """
    claims: dict[tuple[str, str], set[Digest]] = {}
    for image in inventory.images:
        name, at, _ = image.source.partition("@")
        if at and image.tag and image.digest is not None:
            claims.setdefault((name, image.tag), set()).add(image.digest)
    return {claim for claim, digests in claims.items() if len(digests) > 1}


def _map(record: ImageRecord, digest: Digest, catalog: CatalogRecord | None, mirror: Mirror, *, keeps_tag: bool) -> MappedImage:
    source = None if catalog is not None and catalog.digest is None else Reference.parse(record.source)
    target = record.target_repository or None
    if target:
        repository = mirror.at(target)
    elif source is not None:
        repository = mirror.repository(source)
    else:
        assert catalog is not None
        repository = mirror.at(f"{OWN_PATH}/{catalog.name}")
    chosen = record.target_tag or (record.tag if keeps_tag else None) or None
    if chosen and not is_tag(chosen):
        raise ArchiveDamagedError(f"the inventory gives {record.source[:200]!r} the tag {chosen[:200]!r}, which is none")
    tags = (chosen, stable_tag(digest)) if chosen else (stable_tag(digest),)
    return MappedImage(record, digest, source, repository, tags, rebuilt=catalog is not None and catalog.digest != digest)


def _refuse_collisions(images: Iterable[MappedImage]) -> None:
    seen: dict[Reference, MappedImage] = {}
    for image in images:
        for tag in image.tags:
            other = seen.setdefault(image.tagged(tag), image)
            if other.digest != image.digest:
                raise UsageError(
                    f"{other.name} and {image.name} would both become {image.tagged(tag)}, with different content",
                    hint="Add --keep-source-host, or give one of them another targetRepo or targetTag.",
                )
