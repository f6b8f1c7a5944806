"""The contents of the report, in the order of the page: inventory, selection and earlier archive → frozen parts. No I/O."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from common.archive.inventory import (
    ATTACHED,
    RELEASE_GROUP,
    CatalogRecord,
    ChannelRecord,
    ImageKind,
    ImageRecord,
    Inventory,
    PackageRecord,
    ReleaseRecord,
    blobs_of,
    documents_of,
    images_by_digest,
)
from common.mapping import release_tag
from common.oci.image import Digest, subject_of_tag
from exporter.catalog.presentation import Presentation

# Sizes by operator: each blob counts for the only operator that needs it, or as shared.
#
# Blobs count where the archive itself carries them: not those of earlier archives, nor those that could not be fetched.


class Purpose(NamedTuple):
    """The purpose of bytes: an operator (catalog and package), or one of the groups below (no package)."""

    group: str
    package: str = ""


SHARED = Purpose("shared by several")
CATALOGS = Purpose("catalogs")
ADDITIONAL = Purpose("additional images")
GRAPH_DATA = Purpose(RELEASE_GROUP, "graph data")  # counts with the releases
ATTACHMENTS = Purpose("signatures and attachments")


@dataclass(frozen=True, slots=True)
class OperatorSizes:
    """Bytes by purpose: in total, by volume, and for each operator the bytes that it shares with others.

    `total` sums to the bytes that are carried; so does `by_volume`, whose order is that of the inventory.
    `together`: the shared bytes by the purposes that share them.
    """

    total: Counter[Purpose]
    by_volume: Sequence[Mapping[Purpose, int]]
    shared: Mapping[Purpose, int]
    together: Mapping[frozenset[Purpose], int]


def sizes_by_operator(inventory: Inventory) -> OperatorSizes:
    """Return the sizes in an archive by operator."""
    purposes = _purposes_by_blob(inventory)
    total: Counter[Purpose] = Counter()
    shared: Counter[Purpose] = Counter()
    together: Counter[frozenset[Purpose]] = Counter()  # a layer of a common base is one of many with the same operators
    by_volume: list[Counter[Purpose]] = [Counter() for _ in inventory.volumes]
    for digest, record in inventory.blobs.items():
        needed = purposes.get(digest, frozenset())
        # Layers of a common base would otherwise count once for each operator, and the sum would exceed the archive.
        purpose = next(iter(needed)) if len(needed) == 1 else SHARED
        for piece in record.pieces:
            total[purpose] += piece.size
            by_volume[piece.volume - 1][purpose] += piece.size
        if record.pieces and len(needed) > 1:
            together[needed] += record.size
    for needed, size in together.items():
        shared.update(dict.fromkeys(needed, size))
    return OperatorSizes(total, by_volume, shared, together)


def _purposes_by_blob(inventory: Inventory) -> dict[Digest, frozenset[Purpose]]:
    """Return the purposes of each blob; blobs of the same manifests share one set."""
    roots: defaultdict[Digest, list[Digest]] = defaultdict(list)
    named = {}
    # Once for each manifest or index: any number of images may name it.
    for root, images in images_by_digest(inventory).items():
        named[root] = frozenset[Purpose]().union(*map(purposes_of, images))
        for blob in blobs_of(inventory, root):
            roots[blob].append(root)
    known = {one: frozenset[Purpose]().union(*map(named.__getitem__, one)) for one in set(map(tuple, roots.values()))}
    return {blob: known[tuple(one)] for blob, one in roots.items()}


def purposes_of(image: ImageRecord) -> frozenset[Purpose]:
    """Return the purposes of an image: several for one that several operators need."""
    if image.needed_by:
        return frozenset(Purpose(*name.split("/")[:2]) for name in image.needed_by)
    if image.kind is ImageKind.CATALOG:
        return frozenset((CATALOGS,))
    if image.kind is ImageKind.GRAPH_DATA:
        return frozenset((GRAPH_DATA,))
    return frozenset((ATTACHMENTS if image.kind in ATTACHED else ADDITIONAL,))


Reasons = Mapping[tuple[str, str, str], str]  # by catalog, package and bundle


@dataclass(frozen=True, slots=True)
class Version:
    """A bundle of an operator, with its channels, and the reason for which it is carried, if there is one."""

    bundle: str
    version: str
    channels: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Operator:
    """An operator as the page shows it; sizes in bytes.

    `because`: the reason for which it is carried although it was not requested; `incomplete`: the number of its images that
    lack blobs.
    """

    anchor: str
    package: str
    presentation: Presentation
    default_channel: str
    channels: tuple[ChannelRecord, ...]
    versions: tuple[Version, ...]
    images: int
    size: int
    shared: int
    because: str
    change: str
    incomplete: int

    @property
    def title(self) -> str:
        """The name in OperatorHub."""
        return self.presentation.title or self.package

    @property
    def head(self) -> str:
        """The version that a new subscription gets."""
        first = next((c.bundles for c in self.channels if c.name == self.default_channel and c.bundles), ())
        return first[0].version or first[0].name if first else ""


@dataclass(frozen=True, slots=True)
class CatalogPart:
    """A catalog with its operators, sorted by title."""

    record: CatalogRecord
    operators: tuple[Operator, ...]


@dataclass(frozen=True, slots=True)
class Need:
    """An operator that needs an image: its name, its anchor on the page, and the number of its bundles that need it."""

    name: str
    anchor: str
    bundles: int


@dataclass(frozen=True, slots=True)
class ImageRow:
    """An image, with its signatures and attachments in the archive. `further`: those of its attachments, on all levels."""

    record: ImageRecord
    needs: tuple[Need, ...]
    attached: tuple[ImageRecord, ...]
    further: tuple[ImageRecord, ...]

    @property
    def signed(self) -> bool:
        """Whether a signature is carried."""
        return any(one.kind is ImageKind.SIGNATURE for one in self.attached)

    @property
    def words(self) -> str:
        """The words that the filter of the page searches."""
        return f"{self.record.kind}{'' if self.record.complete else ' incomplete'}{'' if self.signed else ' unsigned'}"


@dataclass(frozen=True, slots=True)
class Origin:
    """A registry that images come from; sizes in bytes, layers that images share counted once."""

    registry: str
    images: int
    size: int
    signed: int


@dataclass(frozen=True, slots=True)
class Background:
    """Facts that are not in the inventory.

    `presentations` by catalog and package; `reasons` for which bundles are carried; `asked`: the requested packages by catalog
    (none: the whole catalog was requested); `changes` of each operator since the last archive.
    """

    presentations: Mapping[Purpose, Presentation] = field(default_factory=dict)
    reasons: Reasons = field(default_factory=dict)
    asked: Mapping[str, frozenset[str]] = field(default_factory=dict)
    changes: Mapping[Purpose, str] = field(default_factory=dict)


def catalogs(inventory: Inventory, sizes: OperatorSizes, background: Background) -> tuple[CatalogPart, ...]:
    """Return the catalogs with their operators."""
    images = Counter(purpose for image in inventory.images for purpose in purposes_of(image))
    incomplete = Counter(p for image in inventory.images if not image.complete for p in purposes_of(image))
    parts = []
    for number, record in enumerate(inventory.catalogs, 1):
        found = []
        for place, package in enumerate(record.packages, 1):
            purpose = Purpose(record.name, package.name)
            versions = _versions(package, record.name, background.reasons)
            found.append(
                Operator(
                    anchor=f"operator-{number}-{place}",
                    package=package.name,
                    presentation=background.presentations.get(purpose, Presentation()),
                    default_channel=package.default_channel,
                    channels=package.channels,
                    versions=versions,
                    images=images[purpose],
                    size=sizes.total.get(purpose, 0) + sizes.shared.get(purpose, 0),
                    shared=sizes.shared.get(purpose, 0),
                    because=_because(record.name, package.name, versions, background.asked),
                    change=background.changes.get(purpose, ""),
                    incomplete=incomplete[purpose],
                )
            )
        parts.append(CatalogPart(record, tuple(sorted(found, key=lambda one: (one.title.lower(), one.package)))))
    return tuple(parts)


@dataclass(frozen=True, slots=True)
class ReleasePart:
    """An OpenShift release; `signed_by`: fingerprints of the keys; `size` and `shared` in bytes, as of an operator."""

    record: ReleaseRecord
    anchor: str
    signed_by: tuple[str, ...]
    size: int
    shared: int
    incomplete: int

    @property
    def name(self) -> str:
        """Version and architecture, as in tags."""
        return release_tag(self.record.version, self.record.architecture)


def releases(inventory: Inventory, sizes: OperatorSizes) -> tuple[ReleasePart, ...]:
    """Return the releases, in the order of the inventory."""
    incomplete = Counter(p for image in inventory.images if not image.complete for p in purposes_of(image))
    parts = []
    for number, record in enumerate(inventory.carried_releases, 1):
        purpose = Purpose(RELEASE_GROUP, release_tag(record.version, record.architecture))
        shared = sizes.shared.get(purpose, 0)
        keys = tuple(sorted({one.key for one in record.signatures if one.key}))
        size = sizes.total.get(purpose, 0) + shared
        parts.append(ReleasePart(record, f"release-{number}", keys, size, shared, incomplete[purpose]))
    return tuple(parts)


def anchors(parts: Iterable[CatalogPart], released: Iterable[ReleasePart] = ()) -> dict[Purpose, str]:
    """Return the anchor of each operator and release on the page."""
    found = {Purpose(RELEASE_GROUP, one.name): one.anchor for one in released}
    return found | {Purpose(part.record.name, one.package): one.anchor for part in parts for one in part.operators}


def image_rows(inventory: Inventory, places: Mapping[Purpose, str]) -> tuple[ImageRow, ...]:
    """Return the images with their attachments, ordered by kind (catalogs, bundles, related images, the others) and source."""
    order = {kind: number for number, kind in enumerate(ImageKind)}
    attachments, others = _attachments(inventory)
    known: dict[Digest | None, tuple[tuple[ImageRecord, ...], tuple[ImageRecord, ...]]] = {None: ((), ())}

    def row(image: ImageRecord) -> ImageRow:
        if image.digest not in known:
            direct, *levels = _levels(inventory, image.digest, attachments)
            known[image.digest] = tuple(direct), tuple(one for level in levels for one in level)
        return ImageRow(image, _needs(image, places), *known[image.digest])

    rows = [row(image) for image in others]
    shown = {one.source for each in rows for one in (*each.attached, *each.further)}
    # In a circle: anybody can give an image the tag that makes it an attachment of itself, and the page shows every image.
    rows += [row(one) for found in attachments.values() for one in found if one.source not in shown]
    return tuple(sorted(rows, key=lambda each: (order.get(each.record.kind, len(order)), each.record.source)))


def _levels(
    inventory: Inventory, root: Digest | None, attachments: Mapping[Digest, Sequence[ImageRecord]]
) -> list[list[ImageRecord]]:
    """Return the attachments of an image, those of its attachments, and so on. Referrers have referrers."""
    levels: list[list[ImageRecord]] = []
    roots, seen = [root], {root}
    while roots:
        documents = (digest for each in roots for digest in reversed(documents_of(inventory, each)))
        levels.append([one for digest in documents for one in attachments.get(digest, ())])
        roots = [digest for digest in dict.fromkeys(one.digest for one in levels[-1]) if digest not in seen]
        seen.update(roots)
    return levels


def origins(inventory: Inventory, rows: Sequence[ImageRow]) -> tuple[Origin, ...]:
    """Return the registries that the images come from, the one with the most bytes first."""
    # The source of a catalog from a directory is a path, whose first component is not a registry.
    local = {catalog.source for catalog in inventory.catalogs if catalog.digest is None}
    by_host: defaultdict[str, list[ImageRow]] = defaultdict(list)
    for row in rows:
        by_host["a directory" if row.record.source in local else row.record.source.partition("/")[0]].append(row)
    found = [
        Origin(
            host,
            len(within),
            sum(inventory.blobs[blob].size for blob in _blobs(inventory, within)),
            sum(1 for row in within if row.signed),
        )
        for host, within in by_host.items()
    ]
    return tuple(sorted(found, key=lambda one: (-one.size, one.registry)))


def _blobs(inventory: Inventory, rows: Iterable[ImageRow]) -> set[Digest]:
    roots = {row.record.digest for row in rows}
    return {blob for root in roots for blob in blobs_of(inventory, root)}


def _versions(package: PackageRecord, catalog: str, reasons: Reasons) -> tuple[Version, ...]:
    """Return every bundle once, in the order of the channels, the default one first."""
    ordered = sorted(package.channels, key=lambda channel: (channel.name != package.default_channel, channel.name))
    within: defaultdict[str, list[str]] = defaultdict(list)
    names: dict[str, str] = {}
    for channel in ordered:
        for bundle in channel.bundles:
            within[bundle.name].append(channel.name)
            names[bundle.name] = bundle.version or ""
    return tuple(
        Version(name, version, tuple(within[name]), reasons.get((catalog, package.name, name), ""))
        for name, version in names.items()
    )


def _because(catalog: str, package: str, versions: Sequence[Version], asked: Mapping[str, frozenset[str]]) -> str:
    """Return the reason for which a package is carried that was not requested; empty for a requested one."""
    requested = asked.get(catalog)
    if not requested or package in requested:
        return ""
    return next((version.reason for version in versions if version.reason), "something needs it")


def _attachments(inventory: Inventory) -> tuple[dict[Digest, list[ImageRecord]], list[ImageRecord]]:
    """Return the attachments by the digest of their subject, and the other images, with those whose subject is not here."""
    found: defaultdict[Digest, list[ImageRecord]] = defaultdict(list)
    others = []
    # A signature can be for an index or for one of its manifests: runtimes check the manifest that they run.
    carried = {digest for root in images_by_digest(inventory) for digest in documents_of(inventory, root)}
    for image in inventory.images:
        subject = _subject(inventory, image) if image.kind in ATTACHED else None
        if subject in carried and subject is not None:
            found[subject].append(image)
        else:
            others.append(image)
    return found, others


def _subject(inventory: Inventory, image: ImageRecord) -> Digest | None:
    """Return the digest of the image that an attachment is for: its subject, or the digest in its cosign tag."""
    record = inventory.manifests.get(image.digest) if image.digest else None
    if record is not None and record.subject is not None:
        return record.subject
    # cosign before 3.0 has no subject; it derives the tag from the digest of the image: `sha256-<hex>.sig`.
    return subject_of_tag(image.source.rpartition(":")[2])


def _needs(image: ImageRecord, places: Mapping[Purpose, str]) -> tuple[Need, ...]:
    counts = Counter(Purpose(*name.split("/")[:2]) for name in image.needed_by)
    return tuple(Need(purpose.package, places.get(purpose, ""), count) for purpose, count in sorted(counts.items()))


def changes_of(found: Mapping[str, Any]) -> dict[Purpose, str]:
    """Return the changes of each operator, from the document of `diff.between`."""
    packages = found["packages"]
    changes = {Purpose(one["catalog"], one["package"]): "new" for one in packages["added"]}
    for one in packages["changed"]:
        changes[Purpose(one["catalog"], one["package"])] = "; ".join(_changes(one))
    return changes


def _changes(one: Mapping[str, Any]) -> list[str]:
    """Return the changes of one operator, in the words of the command `diff`."""
    lines = [f"{each['channel']}: {each['from'] or 'no channel'} → {each['to'] or 'no channel'}" for each in one["heads"]]
    if default := one.get("defaultChannel"):
        lines.append(f"default channel: {default['from']} → {default['to']}")
    if not one["heads"] and (one["added"] or one["removed"]):
        lines.append(f"{len(one['added'])} more, {len(one['removed'])} fewer versions")
    return lines or ["the order of its versions, or what updates them"]
