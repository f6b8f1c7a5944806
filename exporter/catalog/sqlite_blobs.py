"""Rows of an SQLite catalog → blobs of a file-based one, as `opm render` makes them. Pure."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from common.archive.inventory import Problem, ProblemCode
from common.serialization import UNDECODABLE
from exporter.catalog.assembly import Assembly, blob_of
from exporter.catalog.model import BUNDLE, BUNDLE_OBJECT, CHANNEL, PACKAGE, Catalog
from exporter.catalog.sqlite import BundleRow, Database

Document = dict[str, Any]
_DECODER = json.JSONDecoder()
_DEPRECATED = "olm.deprecated"
# What the database calls a requirement, and what file-based catalogs do.
_REQUIRED = {"olm.gvk": "olm.gvk.required", "olm.package": "olm.package.required", "olm.label": "olm.label.required"}


def catalog_of(database: Database) -> Catalog:
    """Return the catalog. Never raises for what is wrong with one bundle: it is a problem, and the rest goes on."""
    assembly = Assembly()
    problems = list(_stranded(database))
    for document in _documents(database, problems):
        assembly.add(*blob_of(memoryview(msgspec.json.encode(document))))
    made = assembly.catalog()
    return Catalog(made.packages, made.others, (*problems, *made.problems))


def _documents(database: Database, problems: list[Problem]) -> Iterator[Document]:
    packages = _packages(database)
    for package, default in sorted(database.default_channels.items()):
        head = _head(database, package, default)
        yield {"schema": PACKAGE, "name": package, "defaultChannel": default, **_described(head)}
    for package, channel in database.channels:
        entries = list(_entries(database, package, channel))
        yield {"schema": CHANNEL, "package": package, "name": channel, "entries": entries}
    for name, row in sorted(database.bundles.items()):
        for package in packages.get(name, ()):
            if not _is_deprecated(row):
                yield _bundle(row, package, problems)


def _packages(database: Database) -> dict[str, list[str]]:
    """Return for each bundle the packages whose channels have it."""
    found: dict[str, dict[str, None]] = {}
    for (package, _), edges in sorted(database.edges.items()):
        for edge in edges:
            found.setdefault(edge.bundle, {})[package] = None
    return {name: list(packages) for name, packages in found.items()}


def _stranded(database: Database) -> Iterator[Problem]:
    placed = _packages(database)
    for name in sorted(database.bundles):
        if name not in placed:
            yield Problem("warning", ProblemCode.CATALOG_INVALID, name, "is in no channel, so it cannot be installed; left out")


def _head(database: Database, package: str, channel: str) -> BundleRow | None:
    edges = [edge for edge in database.edges.get((package, channel), ()) if edge.bundle in database.bundles]
    return database.bundles[edges[0].bundle] if edges else None


def _described(head: BundleRow | None) -> Document:
    """Return what `opm` shows of a package: the icon of the head of its default channel."""
    spec = _spec(head.csv) if head else {}
    icons = spec.get("icon")
    icon = icons[0] if isinstance(icons, list) and icons and isinstance(icons[0], dict) else None
    return {"icon": icon} if icon else {}


def _entries(database: Database, package: str, channel: str) -> Iterator[Document]:
    """Give the entries of bundles that are there. Of a bundle's edges the nearest to the head replaces, the others skip."""
    edges: dict[str, list[str]] = {}
    for edge in database.edges.get((package, channel), ()):
        edges.setdefault(edge.bundle, []).append(edge.target)
    for name in sorted(edges):
        row = database.bundles.get(name)
        if row is None or _is_deprecated(row):
            continue
        replaces, *skips = edges[name]
        skips = [one for one in dict.fromkeys(skips) if one and one != replaces]
        yield {
            "name": name,
            **({"replaces": replaces} if replaces else {}),
            **({"skips": skips} if skips else {}),
            **({"skipRange": skip_range} if (skip_range := row.skip_range or _annotation(row.csv, "olm.skipRange")) else {}),
        }


def _is_deprecated(row: BundleRow) -> bool:
    return row.deprecated or any(kind == _DEPRECATED for kind, _ in row.properties)


def _bundle(row: BundleRow, package: str, problems: list[Problem]) -> Document:
    properties: list[Document] = []
    for kind, value in _properties(row, package):
        decoded = _decoded(value)
        if decoded is None:
            message = f"its property {kind} cannot be read and is left out: {value[:80]!r}"
            problems.append(Problem("error", ProblemCode.CATALOG_INVALID, f"{package}/{row.name}", message))
        elif (one := {"type": kind, "value": decoded}) not in properties:
            properties.append(one)
    return {
        "schema": BUNDLE,
        "package": package,
        "name": row.name,
        "image": row.image.strip(),
        "properties": [*properties, *_objects(row)],
        "relatedImages": list(_related(row)),
    }


def _properties(row: BundleRow, package: str) -> Iterator[tuple[str, str]]:
    """Give the properties that the database states, and those that older schemas keep elsewhere, as JSON texts."""
    kinds = {kind for kind, _ in row.properties}
    yield from ((kind, value) for kind, value in row.properties if kind != PACKAGE or _names(value, package))
    if not any(kind == PACKAGE and _names(value, package) for kind, value in row.properties):
        yield PACKAGE, _json({"packageName": package, "version": row.version or str(_spec(row.csv).get("version", ""))})
    if "olm.gvk" not in kinds:
        yield from (("olm.gvk", _gvk(api)) for api in row.provided)
    for kind, value in row.dependencies:
        yield _REQUIRED.get(kind, kind), _requirement(kind, value)
    if not any(kind == "olm.gvk" for kind, _ in row.dependencies):
        yield from (("olm.gvk.required", _gvk(api)) for api in row.required)


def _names(value: str, package: str) -> bool:
    decoded = _decoded(value)
    return isinstance(decoded, dict) and decoded.get("packageName") == package


def _requirement(kind: str, value: str) -> str:
    """Return a requirement as file-based catalogs write it: the range of a package is called otherwise there."""
    decoded = _decoded(value)
    if kind != "olm.package" or not isinstance(decoded, dict):
        return value
    return _json({"packageName": decoded.get("packageName", ""), "versionRange": decoded.get("version", "")})


def _gvk(api: tuple[str, str, str]) -> str:
    group, version, kind = api
    return _json({"group": group, "kind": kind, "version": version})


def _objects(row: BundleRow) -> Iterator[Document]:
    """Give the resources that are inline; where the database kept the ClusterServiceVersion alone, that.

    What cannot be read comes last, as it is: `related_images.unreadable_objects` names it.
    """
    texts, rest = _split(row.objects)
    for text in (*(texts or ([row.csv] if row.csv else [])), *([rest] if rest else [])):
        yield {"type": BUNDLE_OBJECT, "value": {"data": base64.b64encode(text.encode()).decode()}}


def _split(text: str) -> tuple[list[str], str]:
    """Return the JSON objects that stand one behind the other, and the rest from where one cannot be read."""
    found: list[str] = []
    decoder, at = _DECODER, 0
    while (at := _after_space(text, at)) < len(text):
        try:
            _, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            return found, text[at:]
        found.append(text[at:end])
        at = end
    return found, ""


def _after_space(text: str, at: int) -> int:
    while at < len(text) and text[at].isspace():
        at += 1
    return at


def _related(row: BundleRow) -> Iterator[Document]:
    """Give what the ClusterServiceVersion lists, by name, then what only the table has."""
    listed = _spec(row.csv).get("relatedImages")
    named = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    texts = set()
    for one in named:
        entry = {key: one[key] for key in ("name", "image", "value") if isinstance(one.get(key), str)}
        texts.add(entry.get("image", ""))
        yield entry
    for image in dict.fromkeys(row.related_images):
        if image not in texts and (image.strip() or not named):
            yield {"name": "", "image": image}


def _spec(csv: str) -> Mapping[str, Any]:
    decoded = _decoded(csv) if csv else None
    spec = decoded.get("spec") if isinstance(decoded, dict) else None
    return spec if isinstance(spec, dict) else {}


def _annotation(csv: str, name: str) -> str:
    """Return an annotation of a ClusterServiceVersion: before schema 5 the database has no column for it."""
    decoded = _decoded(csv) if csv else None
    metadata = decoded.get("metadata") if isinstance(decoded, dict) else None
    annotations = metadata.get("annotations") if isinstance(metadata, dict) else None
    value = annotations.get(name) if isinstance(annotations, dict) else None
    return value if isinstance(value, str) else ""


def _decoded(text: str) -> Any:
    """Return JSON values; None for what is none."""
    try:
        return msgspec.json.decode(text.encode())
    except UNDECODABLE:
        return None


def _json(document: Document) -> str:
    return msgspec.json.encode(document).decode()
