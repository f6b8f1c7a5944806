"""Catalogs for tests: the real ones under tests/data, and small ones written as graphs."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from exporter.catalog.model import Catalog, ChannelEntry
from exporter.catalog.readers import file_based

CATALOGS = Path(__file__).parents[1] / "data" / "catalogs"


@cache
def real(name: str) -> Catalog:
    """Return a catalog of tests/data, such as `fbc/redhat`."""
    return file_based.load_directory(CATALOGS / name)


def expected(name: str) -> Any:
    """Return what a JSON file of tests/data/catalogs/expected says."""
    return json.loads((CATALOGS / "expected" / name).read_bytes())


def entry(name: str, replaces: str = "", skips: tuple[str, ...] = (), skip_range: str = "") -> ChannelEntry:
    """Return an entry of a channel."""
    return ChannelEntry(name, replaces, skips, skip_range)


def bundle_blob(name: str, version: str | None = None, package: str = "foo", **fields: Any) -> dict[str, Any]:
    """Return a bundle that OLM takes; its version is what follows the first `v` or dot of the name, unless given."""
    version = name.partition(".v")[2] or name if version is None else version
    properties = [
        {"type": "olm.package", "value": {"packageName": package, "version": version}},
        {"type": "olm.csv.metadata", "value": {"displayName": name}},
    ]
    image = f"quay.io/example/{package}:{version.replace('+', '-') or 'none'}"
    blob = {"schema": "olm.bundle", "package": package, "name": name, "image": image, "properties": properties}
    return blob | fields


def channel_blob(name: str, entries: list[ChannelEntry], package: str = "foo", **fields: Any) -> dict[str, Any]:
    """Return a channel."""
    listed = [
        {"name": one.name}
        | ({"replaces": one.replaces} if one.replaces else {})
        | ({"skips": list(one.skips)} if one.skips else {})
        | ({"skipRange": one.skip_range} if one.skip_range else {})
        for one in entries
    ]
    return {"schema": "olm.channel", "package": package, "name": name, "entries": listed} | fields


def package_blob(name: str = "foo", default: str = "stable", **fields: Any) -> dict[str, Any]:
    """Return a package."""
    return {"schema": "olm.package", "name": name, "defaultChannel": default} | fields


def stream(*blobs: dict[str, Any]) -> bytes:
    """Return blobs as a catalog file."""
    return b"".join(json.dumps(blob, indent=4).encode() + b"\n" for blob in blobs)


def catalog_of(*blobs: dict[str, Any]) -> Catalog:
    """Return the catalog of some blobs."""
    return file_based.load([("catalog.json", stream(*blobs))])


def package_of(
    channels: dict[str, list[ChannelEntry]], versions: dict[str, str | None] | None = None, default: str = "stable"
) -> Catalog:
    """Return a catalog of the one package `foo`: channels of entries, and a bundle for each entry.

    `versions` gives versions that are not in the names; None leaves the bundle out.
    """
    versions = versions or {}
    listed = {one.name: versions.get(one.name, "") for entries in channels.values() for one in entries}
    bundles = [bundle_blob(name, version or None) for name, version in listed.items() if version is not None]
    return catalog_of(
        package_blob(default=default), *(channel_blob(name, entries) for name, entries in channels.items()), *bundles
    )
