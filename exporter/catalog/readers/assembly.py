"""Assembly of a `Catalog` from its blobs, in which every reader ends. Pure.

Tolerant: a fault of one bundle, channel or package becomes a problem with its name, and the others are read. (opm gives up on
the whole catalog: operator-registry, alpha/declcfg/load.go.)
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from common.archive.inventory import Problem, ProblemCode
from common.errors import CatalogError, HubError
from common.files import size_text
from common.serialization import require_bounded_values
from common.version import try_parse
from exporter.catalog.go_json import GoError, decode
from exporter.catalog.model import (
    BUNDLE,
    CHANNEL,
    DEPRECATIONS,
    PACKAGE,
    Blob,
    Bundle,
    Catalog,
    Channel,
    ChannelEntry,
    Deprecation,
    Deprecations,
    Package,
    Property,
    RelatedImage,
)
from exporter.catalog.properties import PackageValue

MAX_BLOB = 16 * 1024**2  # bytes; the largest real blob has 1.6 MB
MAX_OBJECTS = 2_000_000  # entries of channels, with what they skip, and elements of lists; the largest real catalog has 90,000
_SMALL = 1024**2  # bytes of a blob that can hold no harmful number of values
T = TypeVar("T")
Fields = Mapping[str, msgspec.Raw]
_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_TEXT = msgspec.json.Decoder(str | None)


class BlobError(ValueError):
    """An object that is no blob of a catalog."""


def blob_of(view: memoryview) -> tuple[Blob, Fields]:
    """Read the top level of one JSON object. Raises BlobError, msgspec.DecodeError, RecursionError."""
    if len(view) > MAX_BLOB:
        raise BlobError(f"{size_text(len(view))}; the limit of a blob is {size_text(MAX_BLOB)}")
    if len(view) > _SMALL:
        require_bounded_values(bytes(view))
    # Go's encoding/json matches field names in any case, so a catalog with `Schema` is served: names are compared folded.
    fields = _folded(_FIELDS.decode(view))
    schema = _text(fields, "schema")
    if not schema:
        raise BlobError("an object without 'schema'")
    name = _text(fields, "name")
    # The blob of a package has its name in `name`, all others in `package`.
    package = name if schema == PACKAGE else _text(fields, "package")
    return Blob(schema, package, name, view), fields


def _folded(fields: dict[str, msgspec.Raw]) -> dict[str, msgspec.Raw]:
    # By full case folding, as opm compares the names of this level (alpha/declcfg/declcfg.go, extractUniqueMetaKeys).
    folded = {key.casefold(): value for key, value in fields.items()}
    if len(folded) != len(fields):
        # Go would take the last one; which of the two was meant is unknown here. opm refuses them too.
        raise BlobError("two fields whose names differ in case alone")
    return folded


def _text(fields: Fields, key: str) -> str:
    value = fields.get(key)
    try:
        return (value is not None and _TEXT.decode(value)) or ""
    except msgspec.ValidationError:
        raise BlobError(f"{key!r} is not text") from None


@dataclass(slots=True)
class _Parts:
    """The blobs of one package."""

    blobs: list[tuple[Blob, str]] = field(default_factory=list)
    channels: dict[str, Channel] = field(default_factory=dict)
    bundles: dict[str, Bundle] = field(default_factory=dict)
    deprecations: list[Deprecations] = field(default_factory=list)
    others: list[Blob] = field(default_factory=list)


class Assembly:
    """Collector of blobs, in reading order. The first of two blobs of one name counts."""

    def __init__(self, objects: int = MAX_OBJECTS) -> None:
        self._most_objects = objects
        self._packages: dict[str, _Parts] = defaultdict(_Parts)
        self._others: list[Blob] = []
        self._problems: list[Problem] = []
        self._names: dict[str, str] = {}
        self._objects = 0

    def add(self, blob: Blob, fields: Fields) -> None:
        """Add a blob with its top-level fields, both as returned by `blob_of`."""
        if not blob.package:
            if blob.schema in (PACKAGE, CHANNEL, BUNDLE, DEPRECATIONS):
                self._problem("", _without_package(blob, fields))
            else:
                self._others.append(blob)  # a blob of no package is valid in any other schema
            return
        parts = self._packages[self._one(blob.package)]
        try:
            self._place(parts, blob, fields)
        except (HubError, MemoryError):
            raise
        except Exception as error:  # noqa: BLE001 - `boundary` without its cost for each blob: the other blobs stay
            self._problem(_subject(blob), f"the {blob.schema} blob cannot be read and is left out: {error}")

    def catalog(self) -> Catalog:
        """Return the catalog of all blobs added, packages in the order of their names."""
        packages = {
            name: package
            for name, parts in sorted(self._packages.items())
            if (package := self._package(name, parts)) is not None
        }
        return Catalog(packages, tuple(self._others), tuple(self._problems))

    def _place(self, parts: _Parts, blob: Blob, fields: Fields) -> None:
        # A list for packages and deprecations, since several are a fault that is reported once, with their number.
        if blob.schema == PACKAGE:
            parts.blobs.append((blob, self._one(_text(fields, "defaultchannel"))))
        elif blob.schema == CHANNEL:
            entries = _list(fields, "entries", ChannelEntry)
            self._count(len(entries) + sum(len(entry.skips) for entry in entries))
            self._first(parts.channels, blob, Channel(self._one(blob.name), entries, blob))
        elif blob.schema == BUNDLE:
            bundle = _bundle(blob, fields)
            self._count(len(bundle.properties) + len(bundle.related_images))
            self._first(parts.bundles, blob, bundle)
        elif blob.schema == DEPRECATIONS:
            deprecations = _list(fields, "entries", Deprecation)
            self._count(len(deprecations))
            parts.deprecations.append(Deprecations(deprecations, blob))
        else:
            parts.others.append(blob)

    def _count(self, objects: int) -> None:
        """Count objects that stay in memory. Raises CatalogError past MAX_OBJECTS."""
        self._objects += objects
        if self._objects > self._most_objects:
            raise CatalogError(f"the catalog has more than {self._most_objects} entries, properties and related images")

    def _first(self, known: dict[str, T], blob: Blob, parsed: T) -> None:
        if known.setdefault(self._one(blob.name), parsed) is not parsed:
            self._problem(_subject(blob), f"a second {blob.schema} blob of this name; left out")

    def _package(self, name: str, parts: _Parts) -> Package | None:
        # A package is defined by its olm.package blob, not by the folder or by blobs that name it.
        if not parts.blobs:
            self._problem(name, "has blobs but no olm.package; left out")
            return None
        if len(parts.blobs) > 1:
            self._problem(name, f"{len(parts.blobs)} olm.package blobs; the first counts")
        if len(parts.deprecations) > 1:
            self._problem(name, f"{len(parts.deprecations)} olm.deprecations blobs; the first counts")
        blob, default = parts.blobs[0]
        deprecations = parts.deprecations[0] if parts.deprecations else None
        # Sorted, so that output and archives do not depend on the order of files in a layer.
        channels = dict(sorted(parts.channels.items()))
        return Package(name, default, channels, dict(sorted(parts.bundles.items())), deprecations, tuple(parts.others), blob)

    def _one(self, name: str) -> str:
        """Return one string object for all equal texts, because names repeat in every blob."""
        return self._names.setdefault(name, name)

    def _problem(self, subject: str, message: str) -> None:
        self._problems.append(Problem("error", ProblemCode.CATALOG_INVALID, subject, message))


def assemble(blobs: Iterable[tuple[Blob, Fields]]) -> Catalog:
    """Return the catalog of blobs. Never raises for the fault of a blob: it becomes a problem of the catalog."""
    assembly = Assembly()
    for blob, fields in blobs:
        assembly.add(blob, fields)
    return assembly.catalog()


def _without_package(blob: Blob, fields: Fields) -> str:
    # Basic templates were streams of blobs at first, with bundles of an image alone (operator-registry,
    # alpha/template/basic, isBundleTemplate).
    if blob.schema == BUNDLE and fields.keys() <= {"schema", "image", "name"} and "image" in fields:
        return "a bundle with nothing but its image, as in a basic template: render it with opm alpha render-template basic"
    return f"a blob of {blob.schema} (name {blob.name!r}) names no package; left out"


def _subject(blob: Blob) -> str:
    return f"{blob.package}/{blob.name}" if blob.schema == BUNDLE else blob.package


def _bundle(blob: Blob, fields: Fields) -> Bundle:
    properties = _list(fields, "properties", Property)
    version = _version(properties)
    return Bundle(
        blob.name,
        blob.package,
        _text(fields, "image"),
        version,
        try_parse(version),
        properties,
        _list(fields, "relatedimages", RelatedImage),
        blob,
    )


def _version(properties: tuple[Property, ...]) -> str:
    # A bundle's version is in its olm.package property only; the blob has no field for it.
    for one in properties:
        if one.type == PACKAGE:
            # The first one counts; `validation.py` reports a bundle with several.
            try:
                return decode(one.value, PackageValue).version
            except GoError:
                return ""
    return ""


# Fields are known by their names in lower case.
_SPELLED = {"relatedimages": "relatedImages"}


def _list(fields: Fields, key: str, kind: type[T]) -> tuple[T, ...]:
    """Decode a list of structs; a missing one is empty. Raises GoError."""
    raw = fields.get(key)
    try:
        return () if raw is None else decode(raw, tuple[kind, ...])  # type: ignore[valid-type]
    except GoError as error:
        raise GoError(f"{_SPELLED.get(key, key)!r}: {error}") from None
