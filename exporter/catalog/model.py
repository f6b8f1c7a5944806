"""The catalog: packages, channels, entries, bundles. Frozen, no I/O; readers make it, `selection.py` makes it smaller.

The bytes of a blob are the truth and stay beside the parsed form: what is kept is written as it was read. (A *blob* of a
file-based catalog is one object of its stream; facts/openshift.md §2.2.)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from common.archive.inventory import Problem
    from exporter.version import Version

PACKAGE = "olm.package"
CHANNEL = "olm.channel"
BUNDLE = "olm.bundle"
DEPRECATIONS = "olm.deprecations"
BUNDLE_OBJECT = "olm.bundle.object"
CSV_METADATA = "olm.csv.metadata"


@dataclass(frozen=True, slots=True)
class Blob:
    """One object of a catalog's stream. `package` is empty for package-less ones; a package's own blob bears its name."""

    schema: str
    package: str
    name: str
    view: memoryview
    """JSON; a part of the file read, so that a large catalog is in memory once."""

    @property
    def raw(self) -> bytes:
        """The JSON bytes, copied."""
        return bytes(self.view)


class Property(msgspec.Struct, frozen=True):
    """A property of a bundle; `value` is JSON that nobody has looked at yet."""

    type: str
    value: msgspec.Raw = msgspec.Raw(b"null")


class RelatedImage(msgspec.Struct, frozen=True):
    """An entry of `relatedImages` as written. `value` is where some publishers put what belongs in `image`."""

    name: str = ""
    image: str = ""
    value: str = ""


class ChannelEntry(msgspec.Struct, frozen=True, rename="camel"):
    """A node of a channel's update graph; empty strings and tuples stand for what is not said."""

    name: str
    replaces: str = ""
    skips: tuple[str, ...] = ()
    skip_range: str = ""


@dataclass(frozen=True, slots=True)
class Channel:
    """A channel: its entries in the order of the blob."""

    name: str
    entries: tuple[ChannelEntry, ...]
    blob: Blob


def _decoded(raw: msgspec.Raw) -> Any:
    """Return a JSON value; text that is not UTF-8 has U+FFFD in it, as Go's encoding/json reads it."""
    try:
        return msgspec.json.decode(raw)
    except UnicodeDecodeError:
        return msgspec.json.decode(bytes(raw).decode(errors="replace"))


@dataclass(frozen=True, slots=True)
class Bundle:
    """One version of a package. `version` is None where `version_text`, what the catalog says, is no SemVer version."""

    name: str
    package: str
    image: str
    version_text: str
    version: Version | None
    properties: tuple[Property, ...]
    related_images: tuple[RelatedImage, ...]
    blob: Blob

    def values(self, kind: str) -> Iterator[Any]:
        """Give the decoded values of every property of a type, in order."""
        return (_decoded(one.value) for one in self.properties if one.type == kind)

    def has(self, *kinds: str) -> bool:
        """Say whether a property of one of the types is there."""
        return any(one.type in kinds for one in self.properties)


class DeprecatedReference(msgspec.Struct, frozen=True):
    """What a deprecation is about: the package itself (no name), a channel or a bundle."""

    schema: str
    name: str = ""


class Deprecation(msgspec.Struct, frozen=True):
    """An entry of `olm.deprecations`."""

    reference: DeprecatedReference
    message: str = ""


@dataclass(frozen=True, slots=True)
class Deprecations:
    """The deprecations of a package, in the order of the blob."""

    entries: tuple[Deprecation, ...]
    blob: Blob


@dataclass(frozen=True, slots=True)
class Package:
    """A package with all that belongs to it. `others` are blobs of schemas that we do not know."""

    name: str
    default_channel: str
    channels: Mapping[str, Channel]
    bundles: Mapping[str, Bundle]
    deprecations: Deprecations | None
    others: tuple[Blob, ...]
    blob: Blob

    @property
    def entries(self) -> Iterator[tuple[Channel, ChannelEntry]]:
        """Every entry of every channel."""
        return ((channel, entry) for channel in self.channels.values() for entry in channel.entries)


@dataclass(frozen=True, slots=True)
class Catalog:
    """All packages, by name in sorted order; `others` are package-less blobs; `problems` are what the reader met."""

    packages: Mapping[str, Package]
    others: tuple[Blob, ...] = ()
    problems: tuple[Problem, ...] = field(default=())

    @property
    def bundles(self) -> Iterator[Bundle]:
        """Every bundle of every package."""
        return (bundle for package in self.packages.values() for bundle in package.bundles.values())
