"""Blobs made smaller: a channel with fewer entries, a package with another default, deprecations of what remains.

Only the list or the field concerned is written anew; every other value of the blob keeps its bytes.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from typing import Any

import msgspec

from exporter.catalog.model import (
    BUNDLE,
    BUNDLE_OBJECT,
    CHANNEL,
    Blob,
    Bundle,
    Channel,
    Deprecation,
    Deprecations,
    Package,
    Property,
)


def with_entries(channel: Channel, kept: Collection[str]) -> Channel:
    """Return the channel with just the entries named `kept`, each as it was written."""
    stay = [entry.name in kept for entry in channel.entries]
    if all(stay):
        return channel
    entries = tuple(entry for entry in channel.entries if entry.name in kept)
    return replace(channel, entries=entries, blob=_with_list(channel.blob, "entries", stay))


def with_default(package: Package, channel: str) -> Package:
    """Return the package with another default channel."""
    if package.default_channel == channel:
        return package
    blob = _with_field(package.blob, "defaultChannel", lambda _: msgspec.Raw(msgspec.json.encode(channel)))
    return replace(package, default_channel=channel, blob=blob)


def with_deprecations(
    deprecations: Deprecations | None, channels: Collection[str], bundles: Collection[str]
) -> Deprecations | None:
    """Return the deprecations without those of channels and bundles that are gone; None when nothing is left."""
    if deprecations is None:
        return None

    def stays(one: Deprecation) -> bool:
        of = {CHANNEL: channels, BUNDLE: bundles}.get(one.reference.schema)
        return of is None or one.reference.name in of

    stay = [stays(one) for one in deprecations.entries]
    if all(stay):
        return deprecations
    entries = tuple(one for one, here in zip(deprecations.entries, stay, strict=True) if here)
    return Deprecations(entries, _with_list(deprecations.blob, "entries", stay)) if entries else None


def with_objects(bundle: Bundle, resources: Iterable[Any]) -> Bundle:
    """Return the bundle with Kubernetes objects (JSON values) inside, as `olm.bundle.object`."""
    encoded = [base64.b64encode(msgspec.json.encode(one)).decode() for one in resources]
    added = [Property(BUNDLE_OBJECT, msgspec.Raw(msgspec.json.encode({"data": data}))) for data in encoded]

    def longer(raw: msgspec.Raw) -> msgspec.Raw:
        elements = msgspec.json.decode(raw, type=list[msgspec.Raw] | None) or []
        return msgspec.Raw(msgspec.json.encode([*elements, *added]))

    blob = _with_field(bundle.blob, "properties", longer)
    return replace(bundle, properties=(*bundle.properties, *added), blob=blob)


def _with_list(blob: Blob, key: str, stay: Iterable[bool]) -> Blob:
    """Drop elements of a list in a blob; `stay` says of each whether it remains."""

    def shortened(raw: msgspec.Raw) -> msgspec.Raw:
        elements = msgspec.json.decode(raw, type=list[msgspec.Raw])
        return msgspec.Raw(msgspec.json.encode([one for one, here in zip(elements, stay, strict=True) if here]))

    return _with_field(blob, key, shortened)


def _with_field(blob: Blob, key: str, change: Callable[[msgspec.Raw], msgspec.Raw]) -> Blob:
    """Change one field of a blob, found in any case and written in its place; the rest keeps its bytes."""
    fields = msgspec.json.decode(blob.view, type=dict[str, msgspec.Raw])
    written = next((name for name in fields if name.lower() == key.lower()), key)
    fields[written] = change(fields.get(written, msgspec.Raw(b"null")))
    return replace(blob, view=memoryview(msgspec.json.encode(fields)))
