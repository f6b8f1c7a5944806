"""What the records of a mirror say about its content: images at their places, documents and blobs. Pure.

Records are added one at a time, and what several archives share is kept once: a year of archives has a few times the content of
one of them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from common.archive.inventory import ATTACHED, RELEASE_GROUP, ImageKind, documents_of, repository_of, require_bounded_images
from common.oci.image import PREFIX, Digest
from common.version import parse
from importer.mapping import map_images, pushed_images

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from common.archive.inventory import Inventory
    from common.mapping import MappedImage, Mirror
    from importer.records.document import Record


T = TypeVar("T")
ATTACHED_TAG = re.compile(r"sha256-([0-9a-f]{64})\.(?:sig|att|sbom)", re.ASCII)  # sigstore/cosign, specs/SIGNATURE_SPEC.md
RELEASES = frozenset((ImageKind.RELEASE, ImageKind.COMPONENT))


@dataclass(frozen=True, slots=True)
class KnownDocument:
    """A manifest or index: its bytes, and the digests of what it names."""

    size: int
    children: tuple[Digest, ...]
    blobs: tuple[Digest, ...]


@dataclass(frozen=True, slots=True)
class OwnImage:
    """An image that an archive brought, at its place. `documents`: children first, the image itself last.

    `groups`: what it belongs to, of which the newest archives are kept: a catalog, a minor release, or itself. `subject`: the
    image that it is attached to. `releases`: payloads that need it.
    """

    archive: Digest
    repository: str
    source: str
    digest: Digest
    tags: tuple[str, ...]
    documents: tuple[Digest, ...]
    kind: ImageKind
    operators: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    subject: Digest | None = None
    releases: tuple[Digest, ...] = ()


@dataclass(frozen=True, slots=True)
class KnownArchive:
    """An archive: `trusted` where its record may be a reason to delete. `catalogs`: groups by the digest of their catalog."""

    digest: Digest
    created: str
    images: tuple[OwnImage, ...]
    name: str = ""
    trusted: bool = True
    catalogs: tuple[tuple[Digest, str], ...] = ()


@dataclass(frozen=True, slots=True)
class _Groups:
    """The groups of an archive's catalogs, by the name of the catalog, and by source and digest of its image."""

    by_name: Mapping[str, str]
    by_image: Mapping[tuple[str, Digest], str]


@dataclass(slots=True)
class Known:
    """The content of all archives. `host`: the registry, without which repositories are named here."""

    host: str
    archives: list[KnownArchive] = field(default_factory=list)
    documents: dict[Digest, KnownDocument] = field(default_factory=dict)
    blobs: dict[Digest, int] = field(default_factory=dict)
    """Sizes."""
    _same: dict[Any, Any] = field(default_factory=dict)

    def add(self, record: Record, mirror: Mirror, *, trusted: bool = True) -> None:
        """Add what a record says. Raises UsageError, ArchiveDamagedError for places that cannot be."""
        inventory, digest = record.inventory, record.digest
        # By the paths of its push, which the record has; what a push leaves out is not in the mirror.
        mapped = pushed_images(inventory, map_images(inventory, record.head.mirror(mirror)))
        self._add_content(inventory, mapped)
        groups = _catalog_groups(inventory, mapped)
        releases = _releases(inventory)
        images = tuple(self._own(digest, inventory, image, groups, releases) for image in mapped)
        catalogs = tuple((catalog.image, groups.by_name[catalog.name]) for catalog in inventory.catalogs)
        self.archives.append(KnownArchive(digest, inventory.created, images, inventory.name or "", trusted, catalogs))

    def _add_content(self, inventory: Inventory, images: Iterable[MappedImage]) -> None:
        require_bounded_images(inventory)
        for image in images:
            for digest in documents_of(inventory, image.digest):
                one = inventory.manifests[digest]
                self.note(self._one(digest), KnownDocument(one.size, self._all(one.manifests), self._all(one.blobs)))
                self.blobs.update((self._one(blob), inventory.blobs[blob].size) for blob in one.blobs)

    def note(self, digest: Digest, said: KnownDocument) -> None:
        """Note what an archive says of a document: all that any archive says counts."""
        known = self.documents.setdefault(digest, said)
        # An archive of one architecture lists a part of an index, and a forged record could list nothing.
        if known.children != said.children or known.blobs != said.blobs:
            children = tuple(dict.fromkeys((*known.children, *said.children)))
            self.documents[digest] = KnownDocument(known.size, children, tuple(dict.fromkeys((*known.blobs, *said.blobs))))

    def _own(
        self,
        archive: Digest,
        inventory: Inventory,
        image: MappedImage,
        groups: _Groups,
        releases: Mapping[str, tuple[Digest, ...]],
    ) -> OwnImage:
        record = image.record
        return OwnImage(
            archive,
            self._one(image.repository.repository),
            self._one(image.name),
            self._one(image.digest),
            self._all(image.tags),
            self._all(documents_of(inventory, image.digest)),
            record.kind,
            self._all(record.needed_by),
            self._all(dict.fromkeys(_groups_of(image, groups))),
            self._one(_subject_of(inventory, image)),
            self._all(releases.get(image.name, ())),
        )

    def _all(self, values: Iterable[T]) -> tuple[T, ...]:
        return self._one(tuple(map(self._one, values)))

    def _one(self, value: T) -> T:
        """Return the same object for the same value: each week's archive names all images again, most of them unchanged."""
        return self._same.setdefault(value, value)  # type: ignore[no-any-return]

    def images(self) -> Iterator[OwnImage]:
        """Give every image of every archive."""
        for archive in self.archives:
            yield from archive.images

    def heights(self) -> dict[Digest, int]:
        """Return how many levels of documents each has below it: a parent is higher than its children."""
        found: dict[Digest, int] = {}
        begun: set[Digest] = set()
        # Without recursion: records of strangers may add up to a chain of any length, or to a ring.
        waiting = list(self.documents)
        while waiting:
            one = waiting[-1]
            known = self.documents.get(one)
            children = known.children if known else ()
            if one not in begun:
                begun.add(one)
                waiting += [child for child in children if child not in begun]
            else:
                waiting.pop()
                found[one] = 1 + max((found.get(child, 0) for child in children), default=0) if known else 0
        return found


def _catalog_groups(inventory: Inventory, images: Iterable[MappedImage]) -> _Groups:
    """Return the group of each catalog: its place on the mirror, which tells 4.18 from 4.20."""
    places = {(image.name, image.digest): image for image in images if image.record.kind is ImageKind.CATALOG}
    by_name: dict[str, str] = {}
    by_image: dict[tuple[str, Digest], str] = {}
    for catalog in inventory.catalogs:
        image = places.get((catalog.source, catalog.image))
        place = catalog.name
        if image is not None:
            # By digest alone, its tag is one of the digest, and each week's catalog would be a group of its own.
            tag = f":{image.tags[0]}" if image.record.tag or image.record.target_tag else ""
            place = f"{image.repository.repository}{tag}"
            by_image[(image.name, image.digest)] = f"catalog {place}"
        by_name[catalog.name] = f"catalog {place}"
    return _Groups(by_name, by_image)


def _releases(inventory: Inventory) -> dict[str, tuple[Digest, ...]]:
    """Return the payloads that need each image, by its source."""
    found: dict[str, dict[Digest, None]] = {}
    for release in inventory.carried_releases:
        for source in release.sources:
            found.setdefault(source, {})[release.digest] = None
    return {source: tuple(digests) for source, digests in found.items()}


def _groups_of(image: MappedImage, catalogs: _Groups) -> Iterator[str]:
    """Yield the groups of an image; none for what follows its subject."""
    record = image.record
    if record.kind in ATTACHED:
        return
    own = f"image {repository_of(record)}"  # without its tag, which changes with each version
    if record.kind is ImageKind.CATALOG:
        yield catalogs.by_image.get((image.name, image.digest), own)
        return
    if record.kind in (ImageKind.ADDITIONAL, ImageKind.GRAPH_DATA) or not record.needed_by:
        yield own
    for user in record.needed_by:
        # `neededBy` is `catalog/package/version`, or `OpenShift/release`.
        group, _, rest = user.partition("/")
        if group == RELEASE_GROUP:
            yield f"{RELEASE_GROUP} {_minor(rest)}"
        else:
            yield catalogs.by_name.get(group, f"catalog {group}")


def _minor(tag: str) -> str:
    """Return minor release and architecture of a release's tag, such as `4.18 x86_64`; the tag where it has no such form."""
    version, _, architecture = tag.rpartition("-")
    try:
        found = parse(version)
    except ValueError:
        return tag  # a group of its own, which keeps too much
    return f"{found.release[0]}.{found.release[1]} {architecture}"


def _subject_of(inventory: Inventory, image: MappedImage) -> Digest | None:
    """Return the image that one is attached to: by its manifest, or by the tag that cosign gives it."""
    # The manifest first: its subject is part of its digest, and a tag is a name that anybody can set.
    if (subject := inventory.manifests[image.digest].subject) is not None:
        return subject
    for tag in image.tags:
        if found := ATTACHED_TAG.fullmatch(tag):
            return Digest(PREFIX + found[1])
    return None
