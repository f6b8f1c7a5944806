"""What the report says, in the order in which it says it: inventory, selection and earlier archive → frozen parts. Pure."""

from __future__ import annotations

import base64
import binascii
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from common.archive.inventory import (
    ATTACHED,
    CatalogRecord,
    ChannelRecord,
    ImageKind,
    ImageRecord,
    Inventory,
    PackageRecord,
    blobs_of,
    documents_of,
)
from common.oci.image import Digest
from common.serialization import UNDECODABLE
from common.text import sanitize
from exporter.catalog.model import CSV_METADATA, Bundle, Package
from exporter.catalog.related_images import inline_csvs

# What the bytes of an archive are for: each blob counts for the one operator that needs it, or as shared. Pure.
#
# Only what the archive itself carries counts: not what lies in earlier archives, and not what could not be fetched.


class Purpose(NamedTuple):
    """What bytes are for: an operator (catalog and package), or one of the groups below (no package)."""

    group: str
    package: str = ""


SHARED = Purpose("shared by several")
CATALOGS = Purpose("catalogs")
ADDITIONAL = Purpose("additional images")
ATTACHMENTS = Purpose("signatures and attachments")


@dataclass(frozen=True, slots=True)
class OperatorSizes:
    """Bytes by purpose: in all, by volume, and for each operator what it shares with others.

    `total` sums to the bytes that are carried; so does `by_volume`, whose order is that of the inventory.
    """

    total: Mapping[Purpose, int]
    by_volume: Sequence[Mapping[Purpose, int]]
    shared: Mapping[Purpose, int]


def sizes_by_operator(inventory: Inventory) -> OperatorSizes:
    """Return the weights of an archive."""
    purposes: defaultdict[Digest, set[Purpose]] = defaultdict(set)
    for image in inventory.images:
        for blob in blobs_of(inventory, image.digest):
            purposes[blob].update(purposes_of(image))
    total: Counter[Purpose] = Counter()
    shared: Counter[Purpose] = Counter()
    by_volume: list[Counter[Purpose]] = [Counter() for _ in inventory.volumes]
    for digest, record in inventory.blobs.items():
        needed = purposes[digest]
        purpose = next(iter(needed)) if len(needed) == 1 else SHARED
        for piece in record.pieces:
            total[purpose] += piece.size
            by_volume[piece.volume - 1][purpose] += piece.size
        if record.pieces and len(needed) > 1:
            shared.update(dict.fromkeys(needed, record.size))
    return OperatorSizes(total, by_volume, shared)


def purposes_of(image: ImageRecord) -> frozenset[Purpose]:
    """Return what an image is for."""
    if image.needed_by:
        return frozenset(Purpose(*name.split("/")[:2]) for name in image.needed_by)
    if image.kind is ImageKind.CATALOG:
        return frozenset((CATALOGS,))
    return frozenset((ATTACHMENTS if image.kind in ATTACHED else ADDITIONAL,))


# How OperatorHub presents an operator: title, publisher, summary, icon. Pure; from the catalog, and hostile like all of it.
#
# Sources: facts/openshift.md §2.2 (`olm.package`, `olm.csv.metadata`, `olm.bundle.object`).

MAX_ICON = 512 * 1024  # bytes of base64; real ones have up to 394,168
_ICONS = frozenset(("image/png", "image/jpeg", "image/gif", "image/webp", "image/svg+xml"))
_LINE = 120
_SUMMARY = 320


@dataclass(frozen=True, slots=True)
class Presentation:
    """Texts of one line each, and the icon as a `data:` address; empty where the catalog says nothing."""

    title: str = ""
    publisher: str = ""
    summary: str = ""
    icon: str = ""


def presentation_of(package: Package, head: str) -> Presentation:
    """Return how OperatorHub shows a package, by the bundle `head`; what is missing or of the wrong shape is left out."""
    blob = _mapping(_decoded(package.blob.view))
    said = list(_metadata(package.bundles[head])) if head in package.bundles else []
    title = next((text for one in said if (text := sanitize(one.get("displayName"), _LINE))), "")
    publisher = next((text for one in said if (text := sanitize(_mapping(one.get("provider")).get("name"), _LINE))), "")
    notes = [_mapping(one.get("annotations")).get("description") for one in said]
    summaries = [*notes, blob.get("description"), *(one.get("description") for one in said)]
    icons = [blob.get("icon"), *(icon for one in said for icon in _listed(one.get("icon")))]
    return Presentation(
        title=title,
        publisher=publisher,
        summary=next((text for one in summaries if (text := sanitize(one, _SUMMARY).lstrip("#* "))), ""),
        icon=next((address for one in icons if (address := _address(one))), ""),
    )


def _metadata(bundle: Bundle) -> Iterator[dict[str, Any]]:
    """Give what describes a bundle: the property made for that, or the ClusterServiceVersion where it is inside."""
    for one in bundle.properties:
        if one.type == CSV_METADATA:
            yield _mapping(_decoded(one.value))
    for csv in inline_csvs(bundle):
        annotations = _mapping(csv.get("metadata")).get("annotations")
        yield _mapping(csv.get("spec")) | {"annotations": annotations}


def _address(icon: object) -> str:
    """Return an icon as a `data:` address: of a type that a page shows without running anything, and really base64."""
    found = _mapping(icon)
    data, kind = found.get("base64data"), found.get("mediatype")
    if not isinstance(data, str) or not isinstance(kind, str) or kind not in _ICONS or len(data) > MAX_ICON:
        return ""
    try:
        content = base64.b64decode("".join(data.split()), validate=True)
    except (binascii.Error, ValueError):
        return ""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}" if content else ""


def _decoded(raw: memoryview | msgspec.Raw) -> Any:
    """Return JSON that nobody has looked at as a whole yet; None for what is none after all, such as text that is not UTF-8."""
    try:
        return msgspec.json.decode(raw)
    except UNDECODABLE:
        return None


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


Reasons = Mapping[tuple[str, str, str], str]  # by catalog, package and bundle


@dataclass(frozen=True, slots=True)
class Version:
    """A bundle of an operator: in which channels, and why it is carried (empty: nobody said)."""

    bundle: str
    version: str
    channels: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Operator:
    """An operator as the page shows it; sizes in bytes.

    `because`: why it is carried although nobody asked for it; `incomplete`: how many of its images are not whole.
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
        """The name that OperatorHub shows."""
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
    """An operator that needs an image: what it is called, where the page tells of it, and by which versions."""

    name: str
    anchor: str
    bundles: int


@dataclass(frozen=True, slots=True)
class ImageRow:
    """An image, with the signatures and attachments that are carried of it."""

    record: ImageRecord
    needs: tuple[Need, ...]
    attached: tuple[ImageRecord, ...]

    @property
    def signed(self) -> bool:
        """Whether a signature is carried."""
        return any(one.kind is ImageKind.SIGNATURE for one in self.attached)

    @property
    def words(self) -> str:
        """What the page filters by."""
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
    """What the page says beyond the inventory.

    `presentations` by catalog and package, `reasons` why bundles are carried, `asked` the packages that were asked for, by
    catalog (a catalog without any was asked for as a whole), `changes` what is new since the last archive.
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


def anchors(parts: Iterable[CatalogPart]) -> dict[Purpose, str]:
    """Return where on the page each operator is."""
    return {Purpose(part.record.name, one.package): one.anchor for part in parts for one in part.operators}


def image_rows(inventory: Inventory, places: Mapping[Purpose, str]) -> tuple[ImageRow, ...]:
    """Return the images, each with what is attached to it: catalogs, bundles, what they need, the rest; by source."""
    order = {kind: number for number, kind in enumerate(ImageKind)}
    beside, alone = _beside(inventory)
    return tuple(
        ImageRow(
            image,
            _needs(image, places),
            tuple(one for digest in reversed(documents_of(inventory, image.digest)) for one in beside.get(digest, ())),
        )
        for image in sorted(alone, key=lambda image: (order.get(image.kind, len(order)), image.source))
    )


def origins(inventory: Inventory, rows: Sequence[ImageRow]) -> tuple[Origin, ...]:
    """Return the registries that the images come from, the one with the most bytes first."""
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
    return {blob for row in rows for blob in blobs_of(inventory, row.record.digest)}


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
    """Return why a package is carried that nobody asked for; empty for one that somebody did."""
    wanted = asked.get(catalog)
    if not wanted or package in wanted:
        return ""
    return next((version.reason for version in versions if version.reason), "something needs it")


def _beside(inventory: Inventory) -> tuple[dict[Digest, list[ImageRecord]], list[ImageRecord]]:
    """Return the attachments by the manifest or index that they are for, and all images that are attached to nothing here."""
    found: defaultdict[Digest, list[ImageRecord]] = defaultdict(list)
    alone = []
    carried = {digest for image in inventory.images for digest in documents_of(inventory, image.digest)}
    for image in inventory.images:
        subject = _subject(inventory, image) if image.kind in ATTACHED else None
        if subject in carried and subject is not None:
            found[subject].append(image)
        else:
            alone.append(image)
    return found, alone


def _subject(inventory: Inventory, image: ImageRecord) -> Digest | None:
    """Return what an attachment is for: its subject, or the digest in its cosign tag."""
    record = inventory.manifests.get(image.digest) if image.digest else None
    if record is not None and record.subject is not None:
        return record.subject
    _, _, tag = image.source.rpartition(":")
    digits = tag.removeprefix("sha256-").partition(".")[0]
    return Digest(f"sha256:{digits}") if tag.startswith("sha256-") else None


def _needs(image: ImageRecord, places: Mapping[Purpose, str]) -> tuple[Need, ...]:
    counts = Counter(Purpose(*name.split("/")[:2]) for name in image.needed_by)
    return tuple(Need(purpose.package, places.get(purpose, ""), count) for purpose, count in sorted(counts.items()))


def changes_of(found: Mapping[str, Any]) -> dict[Purpose, str]:
    """Return what is new of each operator, from the document of `differences.between`."""
    packages = found["packages"]
    said = {Purpose(one["catalog"], one["package"]): "new" for one in packages["added"]}
    for one in packages["changed"]:
        said[Purpose(one["catalog"], one["package"])] = "; ".join(_changes(one))
    return said


def _changes(one: Mapping[str, Any]) -> list[str]:
    """Return what became of an operator, as `diff` says it."""
    said = [f"{each['channel']}: {each['from'] or 'no channel'} → {each['to'] or 'no channel'}" for each in one["heads"]]
    if default := one.get("defaultChannel"):
        said.append(f"default channel: {default['from']} → {default['to']}")
    if not one["heads"] and (one["added"] or one["removed"]):
        said.append(f"{len(one['added'])} more, {len(one['removed'])} fewer versions")
    return said or ["the order of its versions"]
