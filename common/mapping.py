"""Source reference → mirror reference: the one rule that push, resources, serve and plan use. Pure.

`HOST[:PORT][/PREFIX]/<source path>`; the source host is left out unless asked for; `max_path_components` joins the tail
with `-` for registries without nesting (docs/reference/registry.md, *Paths on the mirror*). OpenShift releases have fixed paths
(ADR 0066).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from ipaddress import IPv6Address
from typing import TYPE_CHECKING

from common.archive.inventory import CatalogRecord, ImageKind, ImageRecord, Inventory
from common.errors import ArchiveDamagedError, UsageError
from common.oci.image import Digest, hex_of
from common.oci.reference import MAX_REPOSITORY, Reference, is_repository, is_tag, split_registry

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from common.archive.inventory import ReleaseRecord


OWN_PATH = "hub-airgap"  # the path of a catalog that was a directory, and has none of its own
# As oc-mirror and the documentation of OpenShift name them. Two repositories: the OpenShift Update Service reads every tag of
# the first one (openshift/cincinnati-operator, disconnected-cincinnati-operator.md; bug 1850781).
PAYLOADS = "openshift/release-images"
COMPONENTS = "openshift/release"
GRAPH_DATA = "openshift/graph-image"
# Names in tags; the others are the same (openshift/oc-mirror, internal/pkg/release/local_stored_collector.go).
_TAG_ARCHITECTURES = {"amd64": "x86_64", "arm64": "aarch64"}


@dataclass(frozen=True, slots=True)
class Mirror:
    """The target registry: host, an optional path before all repositories, and how source paths are mapped below it.

    `releases_by_source`: the images of OpenShift releases have the paths of their sources too, in place of fixed ones.
    """

    host: str
    prefix: str = ""
    max_path_components: int | None = None
    keep_source_host: bool = False
    releases_by_source: bool = False

    @classmethod
    def parse(
        cls,
        text: str,
        *,
        max_path_components: int | None = None,
        keep_source_host: bool = False,
        releases_by_source: bool = False,
    ) -> Mirror:
        """Read `HOST[:PORT][/PREFIX]`, also after `docker://`. Raises UsageError."""
        host, prefix = split_registry(text, "PREFIX", "registry.example:5000/mirror")
        taken = len(prefix.split("/")) if prefix else 0
        # At least one component has to be left: all images would get the prefix as their repository.
        if max_path_components is not None and max_path_components <= taken:
            raise UsageError(
                f"--max-path-components {max_path_components} leaves no room below the prefix {prefix!r}",
                hint=f"Give at least {taken + 1}.",
            )
        return cls(host, prefix, max_path_components, keep_source_host, releases_by_source)

    def __str__(self) -> str:
        return f"{self.host}/{self.prefix}" if self.prefix else self.host

    @property
    def joins_paths(self) -> bool:
        """Whether repositories may end differently from their sources, so that mirror rules need repository scope."""
        return self.max_path_components is not None

    def repository(self, source: Reference) -> Reference:
        """Return the repository on the mirror for a source."""
        path = source.repository
        if self.keep_source_host:
            path = f"{_host_path(source)}/{path}"
        return self.at(path)

    def at(self, path: str) -> Reference:
        """Return the repository for a path below the prefix."""
        parts = [part for part in self.prefix.split("/") if part] + path.split("/")
        limit = self.max_path_components
        if limit is not None and len(parts) > limit:
            parts = [*parts[: limit - 1], "-".join(parts[limit - 1 :])]
        # Lower case: repository names have no upper case, but hosts (--keep-source-host) and prefixes may.
        joined = "/".join(parts).lower()
        if len(joined) > MAX_REPOSITORY:
            raise UsageError(
                f"{joined[:80]!r}… has {len(joined)} characters; a repository path has at most {MAX_REPOSITORY}",
                hint="Choose a shorter --registry prefix"
                f"{', or leave --keep-source-host out' if self.keep_source_host else ''}.",
            )
        if not is_repository(joined):
            raise UsageError(f"{joined[:300]!r} is no repository path", hint="Choose a shorter or simpler --registry prefix.")
        return Reference(self.host, joined)


def _host_path(source: Reference) -> str:
    """Return the host of a source as a component of a repository path."""
    # A port's colon and the brackets of an IPv6 address are not allowed in a repository.
    plain = source.registry.replace(":", "-").strip("[]").lower()
    return plain if is_repository(plain) else _spelled_out(source.registry)


def _spelled_out(host: str) -> str:
    """Return a component for a host whose own spelling gives none, such as `[::1]:5000` (ADR 0043).

    No other host has it: names have no underscore, and the full form of an address has no other spelling.
    """
    name, _, port = host.rpartition(":") if re.search(r":\d+$", host) else (host, "", "")
    if name.startswith("["):
        try:
            groups = IPv6Address(name.strip("[]")).exploded.split(":")
        except ValueError:
            return host  # by the grammar of references, but no address: refused by its caller as no repository path
        name = "ipv6_" + "-".join(f"{int(group, 16):x}" for group in groups)
    else:
        name = "fqdn_" + name.rstrip(".").lower()  # `quay.io.`, with the root of DNS
    return f"{name}_{port}" if port else name


@dataclass(frozen=True, slots=True)
class MappedImage:
    """An image of the inventory and where it goes. `source` is None for a catalog that was a directory, and for graph data.

    `rebuilt`: a filtered catalog, which does not exist at its source; `fixed`: its path does not depend on that of its source.
    """

    record: ImageRecord
    digest: Digest
    source: Reference | None
    repository: Reference
    tags: tuple[str, ...]
    rebuilt: bool = False
    fixed: bool = False

    @property
    def name(self) -> str:
        """The source of the image, as the inventory names it."""
        return self.record.source

    @property
    def pinned(self) -> Reference:
        """The image on the mirror, by digest."""
        return self.repository.pinned(self.digest)

    def tagged(self, tag: str) -> Reference:
        """Return the image on the mirror under one of its tags."""
        return Reference(self.repository.registry, self.repository.repository, tag)


def stable_tag(digest: Digest) -> str:
    """Return the tag that protects an image from garbage collection when its other tags move (docs/reference/registry.md)."""
    # Not `sha256-<hex>`: that is the tag of the referrers fallback (distribution specification, *Referrers tag schema*).
    return f"hub-sha256-{hex_of(digest)}"


def map_images(inventory: Inventory, mirror: Mirror) -> tuple[MappedImage, ...]:
    """Return every resolved image of the inventory with its repository and tags, in the inventory's order.

    Raises UsageError when two images would get one repository and tag with different digests, or when a target repository is
    no repository path.
    """
    mapped = place_images(inventory.catalogs, inventory.images, mirror, inventory.carried_releases)
    for collision in collisions(mapped):
        raise UsageError(f"{collision}, with different content", hint=collision.advice(mirror))
    return mapped


def place_images(
    catalogs: Iterable[CatalogRecord], images: Sequence[ImageRecord], mirror: Mirror, releases: Sequence[ReleaseRecord] = ()
) -> tuple[MappedImage, ...]:
    """Return every resolved image with its repository and tags, in their order; some may collide. Raises UsageError."""
    # Catalogs by source and digest of the image, for a rebuilt one has the source of its original.
    names = {(catalog.source, catalog.image): catalog for catalog in catalogs}
    moved = _moved_tags(images)
    places = _places(releases) if not mirror.releases_by_source else _Places()
    return tuple(
        _map(
            image,
            image.digest,
            names.get((image.source, image.digest)),
            mirror,
            places,
            keeps_tag=_claim(image) not in moved,
        )
        for image in images
        if image.digest is not None
    )


@dataclass(frozen=True, slots=True)
class _Places:
    """The fixed paths of releases by the name of the source's repository, and the tags by source."""

    paths: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def release_tag(version: str, architecture: str) -> str:
    """Return the tag of a payload; that of a component is this with `-<component>`."""
    return f"{version}-{_TAG_ARCHITECTURES.get(architecture, architecture)}"


def fixed_paths(releases: Iterable[ReleaseRecord]) -> Mapping[str, str]:
    """Return the paths below the prefix of the repositories that releases use, by the names of their sources."""
    return _places(releases).paths


def _places(releases: Iterable[ReleaseRecord]) -> _Places:
    paths: dict[str, str] = {}
    tags: dict[str, dict[str, None]] = {}
    for release in releases:
        tag = release_tag(release.version, release.architecture)
        tags.setdefault(release.source, {})[tag] = None
        for component in release.components:
            # By the repository, not by the image: operators name images of it too, and one rule has to serve all of them.
            paths[Reference.parse(component.source).name] = COMPONENTS
            tags.setdefault(component.source, {})[f"{tag}-{component.name}"] = None
    # Last: a payload whose components are in its own repository is found by the OpenShift Update Service there.
    paths.update((Reference.parse(release.source).name, PAYLOADS) for release in releases)
    return _Places(paths, {source: tuple(found) for source, found in tags.items()})


@dataclass(frozen=True, slots=True)
class Collision:
    """Images of different content that would get one name on the mirror."""

    place: Reference
    images: tuple[MappedImage, ...]

    def __str__(self) -> str:
        return f"{self.sources} would both become {self.place}"

    @property
    def sources(self) -> str:
        """The names of the images, for messages: two with one source differ in their kind."""
        return " and ".join(dict.fromkeys(map(_named, self.images)))

    @property
    def certain(self) -> bool:
        """Whether they collide on every mirror, with --keep-source-host too."""
        # That option does not separate images of one host, nor those whose target the image set names.
        digests: dict[str | None, set[Digest]] = {}
        for image in self.images:
            digests.setdefault(_host(image), set()).add(image.digest)
        return any(len(found) > 1 for found in digests.values())

    def advice(self, mirror: Mirror | None = None) -> str:
        """Return how to separate them; `mirror` None: it is not known yet."""
        # The fields of the image set that choose a target; bundles and related images have none, and can only be left out.
        kinds = {image.record.kind for image in self.images}
        fields = ", ".join(field for kind, field in _TARGETS.items() if kind in kinds)
        ways = [f"give one of them another {fields} or targetTag" if fields else "leave one of them out with blockedImages"]
        if mirror is not None and mirror.joins_paths:
            ways.insert(0, "give --max-path-components more")
        if not self.certain and not (mirror is not None and mirror.keep_source_host):
            ways.insert(0, "add --keep-source-host" if mirror is not None else "push with --keep-source-host")
        text = ", or ".join(ways)
        return f"{text[0].upper()}{text[1:]}."


_TARGETS = {ImageKind.CATALOG: "targetCatalog", ImageKind.ADDITIONAL: "targetRepo"}


def _named(image: MappedImage) -> str:
    return f"the catalog {image.name}" if image.record.kind is ImageKind.CATALOG else image.name


def _host(image: MappedImage) -> str | None:
    """Return the prefix of --keep-source-host; None where it adds none."""
    if image.source is None or image.record.target_repository or image.fixed:
        return None
    return _host_path(image.source)


def collisions(images: Iterable[MappedImage]) -> Iterator[Collision]:
    """Yield every name on the mirror that images of different content would get, in the order of the images."""
    claims: dict[Reference, list[MappedImage]] = {}
    for image in images:
        for tag in image.tags:
            claims.setdefault(image.tagged(tag), []).append(image)
    for place, found in claims.items():
        if len({image.digest for image in found}) > 1:
            # One image for each digest and host, the first of them: a source that is listed twice is not a collision of three.
            yield Collision(place, tuple({(image.digest, _host(image)): image for image in reversed(found)}.values())[::-1])


def _moved_tags(images: Iterable[ImageRecord]) -> set[tuple[str, str, str]]:
    """Return the tags that several digests of one source claim: the tag moved between two versions in one archive."""
    # Images that are pulled by digest do not need the tag; each keeps its stable one. An image pulled by the tag keeps it.
    claims: dict[tuple[str, str, str], set[Digest]] = {}
    for image in images:
        if (claim := _claim(image) or _claim(image, by_tag=True)) is not None and image.digest is not None:
            claims.setdefault(claim, set()).add(image.digest)
    return {claim for claim, digests in claims.items() if len(digests) > 1}


def _claim(image: ImageRecord, *, by_tag: bool = False) -> tuple[str, str, str] | None:
    """Return name, target repository and tag of an image that is pulled by digest; with `by_tag`, of one pulled by its tag."""
    if not image.tag or image.target_tag:
        return None
    name, at, _ = image.source.partition("@")
    if by_tag:
        name = image.source.removesuffix(f":{image.tag}")
    if bool(at) is by_tag or (by_tag and name == image.source):
        return None
    return name, image.target_repository or "", image.tag


def _map(
    record: ImageRecord, digest: Digest, catalog: CatalogRecord | None, mirror: Mirror, places: _Places, *, keeps_tag: bool
) -> MappedImage:
    made_here = record.kind is ImageKind.GRAPH_DATA or (catalog is not None and catalog.digest is None)
    source = None if made_here else Reference.parse(record.source)
    if source is not None and source.digest == digest:
        source = replace(source, digest=digest)  # the text that the inventory has already
    fixed = None if source is None else places.paths.get(source.name)
    # A tag from a hostile inventory would end up in the URL of a request.
    chosen = record.target_tag or (record.tag if keeps_tag else None) or None
    named = places.tags.get(record.source, ())
    for tag in (chosen, *named):
        if tag and not is_tag(tag):  # the inventory is input, and a tag goes into the path of a URL
            raise ArchiveDamagedError(f"the inventory gives {record.source[:200]!r} the tag {tag[:200]!r}, which is none")
    # The tags of releases do not move, and the OpenShift Update Service would read every further one.
    tags = tuple(dict.fromkeys((*named, *((chosen,) if chosen else ()))))
    if not (fixed and tags):
        tags = (*tags, stable_tag(digest))
    repository = _target(record, source, catalog, mirror, fixed)
    rebuilt = made_here or (catalog is not None and catalog.digest != digest)
    return MappedImage(record, digest, source, repository, tags, rebuilt, fixed is not None)


def _target(
    record: ImageRecord, source: Reference | None, catalog: CatalogRecord | None, mirror: Mirror, fixed: str | None
) -> Reference:
    """Return the repository: the one that the image set names, a fixed one, or that of the source's path."""
    if target := record.target_repository or fixed:
        return mirror.at(target)
    if source is not None:
        return mirror.repository(source)
    return mirror.at(GRAPH_DATA if catalog is None else f"{OWN_PATH}/{catalog.name}")
