"""The contents of the report, in the order of the page: inventory, selection and earlier archive → frozen parts. No I/O."""

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
from common.go_yaml import fold
from common.mapping import release_tag
from common.oci.image import Digest, subject_of_tag
from common.serialization import UNDECODABLE
from common.text import sanitize
from exporter.catalog.model import CSV_METADATA, Bundle, Package
from exporter.catalog.related_images import inline_csvs

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


# The presentation of operators in OperatorHub: title, publisher, summary, icon. Catalogs are untrusted input: any field can
# be missing, of another type, or meant to break the page.
#
# Source: operator-framework/operator-registry, alpha/declcfg/declcfg.go (`olm.package`) and alpha/property/property.go
# (`olm.csv.metadata`, `olm.bundle.object`).

MAX_ICON = 512 * 1024  # bytes of base64; real ones have up to 394,168
# Types that browsers show in <img> without running a script, also SVG (SVG 2, *Secure static mode*).
_ICONS = frozenset(("image/png", "image/jpeg", "image/gif", "image/webp", "image/svg+xml"))
_LINE = 120  # characters of a title
# Brackets without an end take a parser of Markdown time by the square of the length: 0.13 s for 4,000 characters, and an index
# has 300 operators.
MAX_SUMMARY = 1500  # characters of Markdown, of which the page shows less
_NAMES = {"displayname": "displayName", **{name: name for name in ("annotations", "description", "provider", "icon")}}


@dataclass(frozen=True, slots=True)
class Presentation:
    """Texts of one line each, and the icon as a `data:` address; empty where the catalog says nothing.

    `summary` is Markdown as the catalog has it, cut to a length.
    """

    title: str = ""
    publisher: str = ""
    summary: str = ""
    icon: str = ""


def presentation_of(package: Package, head: str) -> Presentation:
    """Return the presentation of a package, by the bundle `head`; fields of a wrong type count as missing."""
    blob = _mapping(_decoded(package.blob.view))
    # Short texts first: `description` of a ClusterServiceVersion can be a whole document in Markdown.
    found = list(_metadata(package.bundles[head])) if head in package.bundles else []
    notes = [_mapping(one.get("annotations")).get("description") for one in found]
    summaries = [*notes, blob.get("description"), *(one.get("description") for one in found)]
    icons = [blob.get("icon"), *(icon for one in found for icon in _listed(one.get("icon")))]
    return Presentation(
        title=_title(found),
        publisher=_publisher(found),
        summary=next((str(one)[:MAX_SUMMARY] for one in summaries if sanitize(one, _LINE).strip("#*- ")), ""),
        icon=next((address for one in icons if (address := _address(one))), ""),
    )


def names_of(package: Package, head: str) -> tuple[str, str]:
    """Return the title of a package and its provider, by the bundle `head`; empty where the catalog has none."""
    found = list(_metadata(package.bundles[head])) if head in package.bundles else []
    return _title(found), _publisher(found)


def _publisher(found: Iterable[Mapping[str, Any]]) -> str:
    return next((text for one in found if (text := sanitize(_mapping(one.get("provider")).get("name"), _LINE))), "")


def _title(found: Iterable[Mapping[str, Any]]) -> str:
    return next((text for one in found if (text := sanitize(one.get("displayName"), _LINE))), "")


def _metadata(bundle: Bundle) -> Iterator[dict[str, Any]]:
    """Give the descriptions of a bundle: its property `olm.csv.metadata`, and its inline ClusterServiceVersion."""
    for one in bundle.properties:
        if one.type == CSV_METADATA:
            # In any case, as Go reads the property.
            yield {_NAMES.get(fold(name), name): value for name, value in _mapping(_decoded(one.value)).items()}
    for csv in inline_csvs(bundle):
        annotations = _mapping(csv.get("metadata")).get("annotations")
        yield _mapping(csv.get("spec")) | {"annotations": annotations}


def _address(icon: object) -> str:
    """Return an icon as a `data:` URL, empty for another type than `_ICONS` and for invalid base64."""
    found = _mapping(icon)
    data, kind = found.get("base64data"), found.get("mediatype")
    if not isinstance(data, str) or not isinstance(kind, str) or kind not in _ICONS or len(data) > MAX_ICON:
        return ""
    try:
        # Decoded and encoded again, so that nothing but the alphabet of base64 gets into the attribute.
        content = base64.b64decode("".join(data.split()), validate=True)
    except (binascii.Error, ValueError):
        return ""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}" if content else ""


def _decoded(raw: memoryview | msgspec.Raw) -> Any:
    """Return the value of JSON that was kept as bytes, None for bytes that are no JSON, such as invalid UTF-8."""
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
    """An image, with its signatures and attachments in the archive."""

    record: ImageRecord
    needs: tuple[Need, ...]
    attached: tuple[ImageRecord, ...]

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
    attached = {
        root: tuple(one for digest in reversed(documents_of(inventory, root)) for one in attachments.get(digest, ()))
        for root in images_by_digest(inventory)
    }
    return tuple(
        ImageRow(image, _needs(image, places), attached.get(image.digest, ()) if image.digest else ())
        for image in sorted(others, key=lambda image: (order.get(image.kind, len(order)), image.source))
    )


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
