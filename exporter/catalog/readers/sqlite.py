"""Reader of SQLite catalogs, the format up to OpenShift 4.10, with any schema from 0 to 13.

The rows become the blobs of a file-based catalog as `opm render` makes them. Sources: operator-registry, pkg/sqlite (removed
in August 2026, pull request 1986), above all migrations/ and query.go.
"""

from __future__ import annotations

import base64
import json
import sqlite3
from collections import defaultdict
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

import msgspec

from common.archive.inventory import Problem, ProblemCode
from common.errors import CatalogError, ContentError, boundary
from common.files import size_text
from common.serialization import UNDECODABLE
from exporter.catalog.go_json import GoError, decode
from exporter.catalog.model import BUNDLE, BUNDLE_OBJECT, CHANNEL, PACKAGE, Catalog
from exporter.catalog.properties import Icon, PackageValue
from exporter.catalog.readers.assembly import Assembly, blob_of
from exporter.catalog.readers.layer_tree import DEFAULT_LIMITS, LayerTree, TreeLimits, found, parts, sparse_file, walk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from common.oci.tar_reader import Entry, TarReader
    from exporter.catalog.readers.layer_tree import Node


MAGIC = b"SQLite format 3\0"
MAX_SIZE = 1024**3  # held in memory, twice; the largest real catalog with its history would have 230 MB as a database
# Instructions of SQLite's virtual machine for one query; the largest real catalogs need a hundredth. A hostile file could
# make a query endless.
MAX_STEPS = 200_000_000
# Header fields that differ between runs (SQLite, *Database File Format*, 1.3): file change counter, version-valid-for, and the
# release of SQLite that wrote the file.
_VARYING = ((24, 28), (92, 96), (96, 100))
_NEEDED = ("package", "channel", "channel_entry", "operatorbundle")
_TABLES = (*_NEEDED, "related_image", "api_provider", "api_requirer", "dependencies", "properties", "deprecated")


@dataclass(slots=True)
class BundleRow:
    """A bundle with its rows of the other tables. Texts are empty where the database has none."""

    name: str
    csv: str = ""
    objects: str = ""
    image: str = ""
    version: str = ""
    skip_range: str = ""
    related_images: list[str] = field(default_factory=list)
    provided: list[tuple[str, str, str]] = field(default_factory=list)
    required: list[tuple[str, str, str]] = field(default_factory=list)
    properties: list[tuple[str, str]] = field(default_factory=list)
    dependencies: list[tuple[str, str]] = field(default_factory=list)
    deprecated: bool = False


@dataclass(frozen=True, slots=True)
class EdgeRow:
    """An edge of a channel: from a bundle to one that it replaces or skips, if any. The head has the smallest `depth`."""

    bundle: str
    target: str
    depth: int


@dataclass(frozen=True, slots=True)
class Database:
    """The rows of a catalog. `channels`: by package and channel; `edges` likewise, in order of depth."""

    default_channels: Mapping[str, str]
    channels: Sequence[tuple[str, str]]
    edges: Mapping[tuple[str, str], Sequence[EdgeRow]]
    bundles: Mapping[str, BundleRow]


def is_database(content: bytes | memoryview) -> bool:
    """Return whether content begins as an SQLite file does."""
    return bytes(content[: len(MAGIC)]) == MAGIC


def read(content: bytes, name: str, max_steps: int = MAX_STEPS) -> Database:
    """Return the rows of a database; `name` names it in messages.

    Raises CatalogError for a truncated or damaged file, for one that is not a catalog, for views in place of tables, and for a
    query of more than `max_steps` instructions.
    """
    with opened(content, name, max_steps) as connection:
        tables = _tables(connection, name)
        bundles = {row.name: row for row in _bundles(connection, tables)}
        edges = _edges(connection)
        _fill(connection, tables, bundles)
        return Database(
            {_text(name): _text(default) for name, default in _rows(connection, "SELECT name, default_channel FROM package")},
            sorted({(_text(p), _text(c)) for p, c in _rows(connection, "SELECT package_name, name FROM channel")}),
            edges,
            bundles,
        )


@contextmanager
def opened(content: bytes, name: str, max_steps: int = MAX_STEPS) -> Iterator[sqlite3.Connection]:
    """Open a database in memory. Errors of SQLite within the block become CatalogError."""
    if len(content) > MAX_SIZE:
        raise CatalogError(f"{name}: {len(content)} bytes; the limit is {MAX_SIZE}")
    if not content:  # SQLite would report that it has no memory for it
        raise _unreadable(name, ValueError("it is empty"))
    memory = closing(sqlite3.connect(":memory:", isolation_level=None))
    with memory as connection, boundary(lambda error: _unreadable(name, error)):
        # Invalid UTF-8 in one row must not make the whole catalog unreadable.
        connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
        # In memory, so that the file is never changed and a journal next to it is not replayed (ADR 0013).
        connection.deserialize(content)
        # For databases from elsewhere: SQLite, *Defense Against The Dark Arts*, 1.1.
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
        connection.set_progress_handler(lambda: 1, max_steps)  # interrupts the query
        yield connection


def _unreadable(name: str, error: Exception) -> CatalogError:
    return CatalogError(
        f"{name}: an SQLite file that cannot be read: {error}", hint="Is it whole? Copy it again from its image."
    )


def serialized(connection: sqlite3.Connection) -> bytes:
    """Return a database as a file that depends on its content only."""
    connection.execute("VACUUM")  # free pages would keep rows that were deleted, and the order of pages would vary
    made = bytearray(connection.serialize())
    for start, end in _VARYING:
        made[start:end] = (1).to_bytes(end - start, "big")
    return bytes(made)


def _tables(connection: sqlite3.Connection, name: str) -> dict[str, frozenset[str]]:
    """Return the columns of each table. Raises CatalogError for a database that is not a catalog."""
    kinds = dict(_rows(connection, "SELECT name, type FROM sqlite_master"))
    # A view in place of a table could compute without end; a table is only read.
    odd = [table for table in _TABLES if kinds.get(table, "table") != "table"]
    absent = [table for table in _NEEDED if table not in kinds]
    if odd or absent:
        what = f"{odd[0]} is a {kinds[odd[0]]}" if odd else f"it has no table {absent[0]}"
        raise CatalogError(f"{name}: an SQLite file, but no catalog: {what}")
    there = [table for table in _TABLES if table in kinds]
    return {table: frozenset(row[1] for row in _rows(connection, f"PRAGMA table_info({table})")) for table in there}


def _bundles(connection: sqlite3.Connection, tables: Mapping[str, frozenset[str]]) -> Iterator[BundleRow]:
    columns = [
        column if column in tables["operatorbundle"] else "NULL"
        for column in ("name", "csv", "bundle", "bundlepath", "version", "skiprange")
    ]
    # Migration 5 inserts rows instead of updating them, which leaves rows without a name.
    query = f"SELECT {', '.join(columns)} FROM operatorbundle WHERE name IS NOT NULL ORDER BY name"  # noqa: S608 - fixed names
    for row in _rows(connection, query):
        name, csv, objects, image, version, skip_range = map(_text, row)
        yield BundleRow(name, csv, objects, image, version, skip_range)


def _edges(connection: sqlite3.Connection) -> dict[tuple[str, str], list[EdgeRow]]:
    found: dict[tuple[str, str], list[EdgeRow]] = defaultdict(list)
    # Outer join: a bundle without edges is an entry too, and the target of an edge may have been deleted.
    query = """SELECT e.package_name, e.channel_name, e.operatorbundle_name, t.operatorbundle_name, e.depth
        FROM channel_entry e LEFT JOIN channel_entry t ON t.entry_id = e.replaces ORDER BY e.depth, e.entry_id"""
    for package, channel, bundle, target, depth in _rows(connection, query):
        if bundle is not None:
            number = depth if isinstance(depth, int) else 0
            found[_text(package), _text(channel)].append(EdgeRow(_text(bundle), _text(target), number))
    return dict(found)


def _fill(connection: sqlite3.Connection, tables: Mapping[str, frozenset[str]], bundles: Mapping[str, BundleRow]) -> None:
    """Add the rows of the other tables to each bundle."""
    queries = {
        "related_image": "SELECT operatorbundle_name, image FROM related_image",
        "properties": "SELECT operatorbundle_name, type, value FROM properties",
        "dependencies": "SELECT operatorbundle_name, type, value FROM dependencies",
        "api_provider": _api_query("api_provider", tables),
        "api_requirer": _api_query("api_requirer", tables),
        "deprecated": "SELECT operatorbundle_name FROM deprecated",
    }
    for table, query in queries.items():
        for name, *values in _rows(connection, query) if table in tables else ():
            bundle = bundles.get(_text(name))
            if bundle is not None:
                _add(bundle, table, tuple(map(_text, values)))
    # The true requirements are still in `api_requirer`.
    if _overwritten(bundles.values()):
        for bundle in bundles.values():
            bundle.dependencies = [one for one in bundle.dependencies if one[0] != "olm.gvk"]


def _add(bundle: BundleRow, table: str, values: tuple[Any, ...]) -> None:
    if table == "deprecated":
        bundle.deprecated = True
    elif table == "related_image":
        bundle.related_images.append(*values)
    else:
        lists: dict[str, list[Any]] = {
            "properties": bundle.properties,
            "dependencies": bundle.dependencies,
            "api_provider": bundle.provided,
            "api_requirer": bundle.required,
        }
        lists[table].append(values)


def _api_query(table: str, tables: Mapping[str, frozenset[str]]) -> str:
    columns = tables.get(table, frozenset())
    # Migration 6 keyed the table by bundle; before, it refers to entries of channels.
    if "operatorbundle_name" in columns:
        return f"SELECT DISTINCT operatorbundle_name, group_name, version, kind FROM {table}"  # noqa: S608 - a fixed name
    return f"""SELECT DISTINCT e.operatorbundle_name, a.group_name, a.version, a.kind
        FROM {table} a JOIN channel_entry e ON e.entry_id = a.channel_entry_id"""  # noqa: S608


def _overwritten(bundles: Any) -> bool:
    """Return whether migration 9 gave all requirements the value of the first."""
    # Its subquery is not correlated. Recognized by equal values although the bundles require several APIs.
    values = [value for bundle in bundles for kind, value in bundle.dependencies if kind == "olm.gvk"]
    return len(values) > 1 and len(set(values)) == 1 and len({name for b in bundles if b.required for name in b.required}) > 1


def _rows(connection: sqlite3.Connection, query: str) -> Iterator[tuple[Any, ...]]:
    return iter(connection.execute(query))


def _text(value: Any) -> str:
    """Return a text that may be stored as BLOB or NULL."""
    if isinstance(value, bytes):  # Go's driver stores a []byte as BLOB
        return value.decode("utf-8", "replace")
    return "" if value is None else str(value)


# From rows to the blobs of a file-based catalog, as `opm render` makes them (operator-registry, pkg/sqlite/conversion.go).

Document = dict[str, Any]
_DECODER = json.JSONDecoder()
_CANONICAL = msgspec.json.Encoder(order="sorted")
_DEPRECATED = "olm.deprecated"
# Requirements have other types in file-based catalogs (operator-registry, alpha/property/property.go).
_REQUIRED = {"olm.gvk": "olm.gvk.required", "olm.package": "olm.package.required", "olm.label": "olm.label.required"}


def catalog_of(database: Database, limit: int = MAX_SIZE) -> Catalog:
    """Return the catalog. The fault of one bundle becomes a problem, and the others are read.

    Raises CatalogError for more than `limit` bytes of blobs: a bundle is rendered once for each package that has it.
    """
    with boundary(lambda error: CatalogError(f"the rows of the catalog cannot be read: {error}")):
        return _catalog_of(database, limit)


def _catalog_of(database: Database, limit: int) -> Catalog:
    assembly = Assembly()
    problems = list(_stranded(database))
    for document in _documents(database, problems):
        try:
            with boundary(lambda error: ContentError(str(error))):
                blob = blob_of(memoryview(msgspec.json.encode(document)))
        except ContentError as error:  # the other documents stay
            problems.append(_problem(document, error.message))
        else:
            limit -= len(blob[0].view)
            if limit < 0:
                raise CatalogError("a few bundles are in too many packages for the catalog to be rendered")
            assembly.add(*blob)
    made = assembly.catalog()
    return Catalog(made.packages, made.others, (*problems, *made.problems))


def _documents(database: Database, problems: list[Problem]) -> Iterator[Document]:
    packages = _packages(database)
    # Each ClusterServiceVersion is decoded once, since a row of some bytes adds a bundle to another package or channel.
    described = cache(lambda name: _described(database.bundles[name]) if name else {})
    skip_range = cache(lambda name: _skip_range(database.bundles[name]))
    for package, default in sorted(database.default_channels.items()):
        head = _head(database, package, default)
        yield {"schema": PACKAGE, "name": package, "defaultChannel": default, **described(head)}
    for package, channel in database.channels:
        entries = list(_entries(database, package, channel, skip_range))
        yield {"schema": CHANNEL, "package": package, "name": channel, "entries": entries}
    for name, row in sorted(database.bundles.items()):
        for package in packages.get(name, ()):
            # opm does not render deprecated bundles: they exist as the ends of edges only.
            if not _is_deprecated(row):
                yield _bundle(row, package, problems)


def _problem(document: Document, why: str) -> Problem:
    subject = "/".join(document[key] for key in ("package", "name") if document.get(key))
    message = f"the {document['schema']} cannot be read and is left out: {why}"
    return Problem("error", ProblemCode.CATALOG_INVALID, subject, message)


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


def _head(database: Database, package: str, channel: str) -> str:
    edges = database.edges.get((package, channel), ())
    return next((edge.bundle for edge in edges if edge.bundle in database.bundles), "")


def _described(head: BundleRow) -> Document:
    """Return the fields that opm derives for a package: the icon, from the head of its default channel."""
    icons = _spec(head.csv).get("icon")
    icon = icons[0] if isinstance(icons, list) and icons else None
    try:
        found = decode(msgspec.json.encode(icon), Icon)
    except GoError:
        return {}  # opm would refuse it, and the ClusterServiceVersion that OLM shows the icon of has it as well
    return {"icon": icon} if icon and found.base64data else {}


def _skip_range(row: BundleRow) -> str:
    return row.skip_range or _annotation(row.csv, "olm.skipRange")


def _entries(database: Database, package: str, channel: str, skip_range: Callable[[str], str]) -> Iterator[Document]:
    """Yield the entries whose bundles exist in the database."""
    edges: dict[str, list[str]] = {}
    for edge in database.edges.get((package, channel), ()):
        edges.setdefault(edge.bundle, []).append(edge.target)
    for name in sorted(edges):
        row = database.bundles.get(name)
        if row is None or _is_deprecated(row):
            continue
        # Rows do not say which edge is `replaces`. The one nearest to the head is; the others skip (query.go, ListBundles).
        replaces, *skips = edges[name]
        skips = [one for one in dict.fromkeys(skips) if one and one != replaces]
        yield {
            "name": name,
            **({"replaces": replaces} if replaces else {}),
            **({"skips": skips} if skips else {}),
            **({"skipRange": found} if (found := skip_range(name)) else {}),
        }


def _is_deprecated(row: BundleRow) -> bool:
    return row.deprecated or any(kind == _DEPRECATED for kind, _ in row.properties)


def _bundle(row: BundleRow, package: str, problems: list[Problem]) -> Document:
    properties: dict[tuple[str, bytes], Document] = {}  # by their canonical JSON: a hostile bundle has a hundred thousand
    for kind, value in _properties(row, package):
        decoded = _decoded(value)
        if decoded is None and value.strip() != "null":
            message = f"its property {kind} cannot be read: {value[:80]!r}"
            problems.append(Problem("error", ProblemCode.CATALOG_INVALID, f"{package}/{row.name}", message))
            properties[kind, b""] = {"type": kind}  # a property without a value, which opm and `validation.py` refuse
        else:
            properties.setdefault((kind, _CANONICAL.encode(decoded)), {"type": kind, "value": decoded})
    return {
        "schema": BUNDLE,
        "package": package,
        "name": row.name,
        "image": row.image.strip(),
        "properties": [*properties.values(), *_objects(row)],
        "relatedImages": list(_related(row)),
    }


def _properties(row: BundleRow, package: str) -> Iterator[tuple[str, str]]:
    """Yield the properties of the table, and those that older schemas have in other tables, as JSON texts."""
    kinds = {kind for kind, _ in row.properties}
    # A bundle may be in several packages; opm requires exactly one olm.package property, that of the bundle's package.
    # One that names no package counts as another of this one (operator-framework/operator-registry#966: null).
    yield from ((kind, value) for kind, value in row.properties if kind != PACKAGE or _named(value) in (package, ""))
    if not any(kind == PACKAGE and _named(value) == package for kind, value in row.properties):
        yield PACKAGE, _json({"packageName": package, "version": row.version or str(_spec(row.csv).get("version", ""))})
    if "olm.gvk" not in kinds:
        yield from (("olm.gvk", _gvk(api)) for api in row.provided)
    for kind, value in row.dependencies:
        yield _REQUIRED.get(kind, kind), _requirement(kind, value)
    if not any(kind == "olm.gvk" for kind, _ in row.dependencies):
        yield from (("olm.gvk.required", _gvk(api)) for api in row.required)


def _named(value: str) -> str:
    """Return the package that an `olm.package` property names; empty where it names none."""
    try:
        return decode(value.encode(), PackageValue).package_name
    except GoError:
        return ""


def _requirement(kind: str, value: str) -> str:
    """Return a requirement as in file-based catalogs, where the range of a package has another name."""
    decoded = _decoded(value)
    if kind != "olm.package" or not isinstance(decoded, dict):
        return value
    return _json({"packageName": decoded.get("packageName", ""), "versionRange": decoded.get("version", "")})


def _gvk(api: tuple[str, str, str]) -> str:
    group, version, kind = api
    return _json({"group": group, "kind": kind, "version": version})


def _objects(row: BundleRow) -> Iterator[Document]:
    """Yield the inlined objects, or the ClusterServiceVersion where the database has no others."""
    # Text that cannot be parsed comes last, unchanged: `related_images.unreadable_objects` reports it.
    texts, rest = _split(row.objects)
    for text in (*(texts or ([row.csv] if row.csv else [])), *([rest] if rest else [])):
        yield {"type": BUNDLE_OBJECT, "value": {"data": base64.b64encode(text.encode()).decode()}}


def _split(text: str) -> tuple[list[str], str]:
    """Return the JSON objects of a text, which follow each other without separators, and the rest that cannot be parsed."""
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
    """Yield the images of the ClusterServiceVersion, with names, then those of the table only."""
    listed = _spec(row.csv).get("relatedImages")
    named = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    texts = set()
    for one in named:
        entry = {key: one[key] for key in ("name", "image", "value") if isinstance(one.get(key), str)}
        texts.add(entry.get("image", ""))
        yield entry
    for image in dict.fromkeys(row.related_images):
        # The table has an empty text where the ClusterServiceVersion has `value` in place of `image`; the entry above has both.
        if image not in texts and (image.strip() or not named):
            yield {"name": "", "image": image}


@lru_cache(maxsize=4)  # of one bundle, in all packages that have it
def _spec(csv: str) -> Mapping[str, Any]:
    decoded = _decoded(csv) if csv else None
    spec = decoded.get("spec") if isinstance(decoded, dict) else None
    return spec if isinstance(spec, dict) else {}


def _annotation(csv: str, name: str) -> str:
    """Return an annotation of a ClusterServiceVersion."""
    # Before schema 5 the database has no column for `skipRange`.
    decoded = _decoded(csv) if csv else None
    metadata = decoded.get("metadata") if isinstance(decoded, dict) else None
    annotations = metadata.get("annotations") if isinstance(metadata, dict) else None
    value = annotations.get(name) if isinstance(annotations, dict) else None
    return value if isinstance(value, str) else ""


def _decoded(text: str) -> Any:
    """Return JSON values; None for invalid JSON."""
    try:
        return msgspec.json.decode(text.encode())
    except UNDECODABLE:
        return None


def _json(document: Document) -> str:
    return msgspec.json.encode(document).decode()


# The SQLite files of an image. Before OpenShift 4.6 images have no label for the path of their database: all files are checked.


class DatabaseTree(LayerTree):
    """The files of an image, with the content of its databases only."""

    def __init__(self, limits: TreeLimits = DEFAULT_LIMITS) -> None:
        super().__init__("/", limits)

    def databases(self) -> dict[str, bytes]:
        """Return the databases after the layers applied so far, by absolute path."""
        return {f"/{'/'.join(path)}": node for path, node in walk(self._tree) if isinstance(node, bytes) and node}

    def _node(self, tar: TarReader, entry: Entry, added: dict[str, Node]) -> Node:
        if entry.is_hard_link:
            target = parts(entry.link)
            node = found(added, target) or found(self._tree, target)
            return node if isinstance(node, bytes) else b""
        # Other files are kept as empty ones, because a later layer may hide or replace them.
        head = tar.read(len(MAGIC)) if entry.is_file else b""
        if not is_database(head):
            return b""
        if entry.sparse:
            raise sparse_file(entry)
        if entry.size > MAX_SIZE:
            raise CatalogError(f"/{entry.name} of the catalog image has more than {size_text(MAX_SIZE)}")
        return head + tar.read()
