"""The catalog: packages, channels, entries, bundles. Frozen, no I/O; `readers` make it, `selection.py` makes it smaller.

A *blob* is one JSON object of a file-based catalog's stream (OLM, *File-based catalogs*; operator-registry,
alpha/declcfg/declcfg.go, there `Meta`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from exporter.catalog.go_json import GoError, GoStruct, values

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

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
    # In this order, because `selection.with_entries` drops elements of the blob's list by position.
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
