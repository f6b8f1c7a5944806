"""The catalog: packages, channels, entries, bundles. Frozen, no I/O; `readers` make it, `selection.py` makes it smaller.

A *blob* is one JSON object of a file-based catalog's stream (OLM, *File-based catalogs*; operator-registry,
alpha/declcfg/declcfg.go, there `Meta`).
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import msgspec

from exporter.catalog.go_json import GoError, GoStruct, values

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from common.archive.inventory import Problem
    from common.version import Version


# Schemas and property types: operator-registry, alpha/declcfg/declcfg.go and alpha/property/property.go.
PACKAGE = "olm.package"
CHANNEL = "olm.channel"
BUNDLE = "olm.bundle"
DEPRECATIONS = "olm.deprecations"
# Either of these in the head of a channel satisfies OLM's package server.
BUNDLE_OBJECT = "olm.bundle.object"
CSV_METADATA = "olm.csv.metadata"


@dataclass(frozen=True, slots=True)
class Blob:
    """One object of a catalog's stream. `package` is empty for package-less ones; a package's own blob bears its name."""

    schema: str
    package: str
    name: str
    # The bytes are kept next to the parsed form, and written as they were read: fields that a later OLM introduces survive.
    view: memoryview
    """JSON; a part of the file read, so that a large catalog is in memory once."""

    @property
    def raw(self) -> bytes:
        """The JSON bytes, copied."""
        return bytes(self.view)


class Property(GoStruct, frozen=True):
    """A property of a bundle; `value` is JSON, decoded on demand, since few types matter here; empty where it is missing."""

    type: str = ""
    value: msgspec.Raw = msgspec.Raw(b"")


class RelatedImage(GoStruct, frozen=True):
    """An entry of `relatedImages` as written."""

    name: str = ""
    image: str = ""
    # Some publishers write the reference here; OLM reads `image` only (3scale-operator.v0.5.5, for example). Of any type, for
    # opm ignores the field.
    value: Any = ""

    @property
    def misplaced(self) -> str:
        """The reference that stands under `value` in place of `image`; empty where there is none."""
        return self.value if isinstance(self.value, str) and not self.image.strip() and self.value.strip() else ""


class ChannelEntry(GoStruct, frozen=True, rename="camel"):
    """A node of a channel's update graph; empty strings and tuples stand for missing fields."""

    name: str = ""
    replaces: str = ""
    skips: tuple[str, ...] = ()
    skip_range: str = ""


@dataclass(frozen=True, slots=True)
class Channel:
    """A channel: its entries in the order of the blob."""

    name: str
    # In this order, because `with_entries` drops elements of the blob's list by position.
    entries: tuple[ChannelEntry, ...]
    blob: Blob


def _decoded(raw: msgspec.Raw) -> Any:
    """Return a JSON value, with U+FFFD in place of bytes that are not UTF-8; None where it cannot be decoded."""
    try:
        return values(raw)
    except GoError:
        return None  # numbers are not read before: `1e999` and integers of thousands of digits have no value in Go either


@dataclass(frozen=True, slots=True)
class Bundle:
    """One version of a package. `version` is None where `version_text`, the text in the catalog, is no SemVer version."""

    name: str
    package: str
    image: str
    # OLM refuses a bundle whose version is not SemVer; here it is a problem of that bundle alone, with the text shown.
    version_text: str
    version: Version | None
    properties: tuple[Property, ...]
    related_images: tuple[RelatedImage, ...]
    blob: Blob

    def values(self, kind: str) -> Iterator[Any]:
        """Yield the decoded values of every property of a type, in order; None for a number beyond all limits."""
        return (_decoded(one.value) for one in self.properties if one.type == kind)

    def has(self, *kinds: str) -> bool:
        """Return whether a property of one of the types is there."""
        return any(one.type in kinds for one in self.properties)


class DeprecatedReference(GoStruct, frozen=True):
    """The subject of a deprecation: the package itself (no name), a channel or a bundle."""

    schema: str = ""
    name: str = ""


class Deprecation(GoStruct, frozen=True):
    """An entry of `olm.deprecations`."""

    reference: DeprecatedReference = DeprecatedReference()
    message: str = ""


@dataclass(frozen=True, slots=True)
class Deprecations:
    """The deprecations of a package, in the order of the blob."""

    # opm refuses entries of missing channels and bundles, so the blob must shrink with the selection.

    entries: tuple[Deprecation, ...]
    blob: Blob


@dataclass(frozen=True, slots=True)
class Package:
    """A package with all its blobs. `others` have schemas that hub-export does not know."""

    name: str
    default_channel: str
    channels: Mapping[str, Channel]
    bundles: Mapping[str, Bundle]
    deprecations: Deprecations | None
    # Kept: opm passes blobs of other schemas on, and a later OLM may know them.
    others: tuple[Blob, ...]
    blob: Blob

    @property
    def entries(self) -> Iterator[tuple[Channel, ChannelEntry]]:
        """Every entry of every channel."""
        return ((channel, entry) for channel in self.channels.values() for entry in channel.entries)


@dataclass(frozen=True, slots=True)
class Catalog:
    """All packages, by name in sorted order; `others` are package-less blobs; `problems` are those of the reader.

    `unread`: problems of files that were left out, whose packages are not known.
    """

    packages: Mapping[str, Package]
    others: tuple[Blob, ...] = ()
    problems: tuple[Problem, ...] = field(default=())
    unread: tuple[Problem, ...] = ()

    @property
    def bundles(self) -> Iterator[Bundle]:
        """Every bundle of every package."""
        return (bundle for package in self.packages.values() for bundle in package.bundles.values())


def without_bytes(catalog: Catalog) -> Catalog:
    """Return a catalog that says which images its bundles need and can no longer be written: without blobs and channels.

    Of the properties of bundles, those with objects stay.
    """
    packages = {}
    for name, package in catalog.packages.items():
        bundles = {key: _named(bundle) for key, bundle in package.bundles.items()}
        packages[name] = Package(name, package.default_channel, {}, bundles, None, (), _NO_BLOB)
    return Catalog(packages)


def _named(bundle: Bundle) -> Bundle:
    objects = tuple(one for one in bundle.properties if one.type == BUNDLE_OBJECT)
    return replace(bundle, properties=objects, blob=_NO_BLOB)


_NO_BLOB = Blob("", "", "", memoryview(b""))


# Smaller blobs: a channel with fewer entries, a package with another default, deprecations of the rest. Only the list or the
# field concerned is encoded again; other values keep their bytes, unknown fields among them.


def with_entries(channel: Channel, kept: Collection[str]) -> Channel:
    """Return the channel with only the entries named `kept`, each as it was written."""
    stay = [entry.name in kept for entry in channel.entries]
    if all(stay):
        return channel
    entries = tuple(entry for entry in channel.entries if entry.name in kept)
    return replace(channel, entries=entries, blob=_with_list(channel.blob, "entries", stay))


def narrowed(package: Package, channels: Mapping[str, Channel], default: str) -> Package:
    """Return the package with some of its channels alone, with their bundles and the deprecations of what remains."""
    bundles = {entry.name for channel in channels.values() for entry in channel.entries}
    return replace(
        _with_default(package, default),
        channels=channels,
        bundles={name: bundle for name, bundle in package.bundles.items() if name in bundles},
        deprecations=_with_deprecations(package.deprecations, channels, bundles),
    )


def _with_default(package: Package, channel: str) -> Package:
    """Return the package with another default channel."""
    if package.default_channel == channel:
        return package
    blob = _with_field(package.blob, "defaultChannel", lambda _: msgspec.Raw(msgspec.json.encode(channel)))
    return replace(package, default_channel=channel, blob=blob)


def _with_deprecations(
    deprecations: Deprecations | None, channels: Collection[str], bundles: Collection[str]
) -> Deprecations | None:
    """Return the deprecations without those of missing channels and bundles; None when none remain."""
    if deprecations is None:
        return None

    # opm refuses a catalog with a deprecation of a channel or bundle that it does not have.
    def stays(one: Deprecation) -> bool:
        of = {CHANNEL: channels, BUNDLE: bundles}.get(one.reference.schema)
        return of is None or one.reference.name in of

    stay = [stays(one) for one in deprecations.entries]
    if all(stay):
        return deprecations
    entries = tuple(one for one, here in zip(deprecations.entries, stay, strict=True) if here)
    return Deprecations(entries, _with_list(deprecations.blob, "entries", stay)) if entries else None


def with_objects(bundle: Bundle, resources: Iterable[Any]) -> Bundle:
    """Return the bundle with Kubernetes objects (JSON values) inlined as `olm.bundle.object`."""
    encoded = [base64.b64encode(msgspec.json.encode(one)).decode() for one in resources]
    added = [Property(BUNDLE_OBJECT, msgspec.Raw(msgspec.json.encode({"data": data}))) for data in encoded]

    def longer(raw: msgspec.Raw) -> msgspec.Raw:
        elements = msgspec.json.decode(raw, type=list[msgspec.Raw] | None) or []
        return msgspec.Raw(msgspec.json.encode([*elements, *added]))

    blob = _with_field(bundle.blob, "properties", longer)
    return replace(bundle, properties=(*bundle.properties, *added), blob=blob)


def _with_list(blob: Blob, key: str, stay: Iterable[bool]) -> Blob:
    """Return the blob without some elements of a list; `stay` has a flag for each element."""

    def shortened(raw: msgspec.Raw) -> msgspec.Raw:
        elements = msgspec.json.decode(raw, type=list[msgspec.Raw])
        return msgspec.Raw(msgspec.json.encode([one for one, here in zip(elements, stay, strict=True) if here]))

    return _with_field(blob, key, shortened)


def _with_field(blob: Blob, key: str, change: Callable[[msgspec.Raw], msgspec.Raw]) -> Blob:
    """Return the blob with one field changed; other fields keep their bytes and the order."""
    fields = msgspec.json.decode(blob.view, type=dict[str, msgspec.Raw])
    # In any case, as the readers compare names (Go's encoding/json).
    written = next((name for name in fields if name.lower() == key.lower()), key)
    fields[written] = change(fields.get(written, msgspec.Raw(b"null")))
    return replace(blob, view=memoryview(msgspec.json.encode(fields)))
