"""SQLite catalogs, as OpenShift had them up to 4.10: any schema from 0 to 13 → the blobs of a file-based catalog → `Catalog`.

The file is read from memory and so never changed. What a database says is taken as `opm render` takes it; defects of its
loaders are known (facts/openshift.md §1.2): rows without a name, texts stored as BLOB, entries of bundles that are not there,
requirements that a migration overwrote. What the rows hold is here; how they become blobs is `sqlite_blobs.py`'s.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

from common.errors import CatalogError

MAGIC = b"SQLite format 3\0"
MAX_SIZE = 2 * 1024**3
_STEPS = 200_000_000  # of SQLite's machine for one query; the largest real catalogs take a hundredth
# How often the file was changed (twice), and which release of SQLite wrote it: the same for all that we write.
_VARYING = ((24, 28), (92, 96), (96, 100))
_NEEDED = ("package", "channel", "channel_entry", "operatorbundle")
_TABLES = (*_NEEDED, "related_image", "api_provider", "api_requirer", "dependencies", "properties", "deprecated")


@dataclass(slots=True)
class BundleRow:
    """A bundle with all that other tables say of it. Texts are empty where the database has none."""

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
    """An entry of a channel: from a bundle to what it replaces or skips, if anything; nearer the head, smaller `depth`."""

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
    """Say whether these are the first bytes of an SQLite file."""
    return bytes(content[: len(MAGIC)]) == MAGIC


def read(content: bytes, name: str) -> Database:
    """Return the rows of a database; `name` is what messages call it.

    Raises CatalogError for a file that is cut short or damaged, that is no catalog, or that hides its tables behind views.
    """
    with opened(content, name) as connection:
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
def opened(content: bytes, name: str) -> Iterator[sqlite3.Connection]:
    """Open a database in memory. What goes wrong inside becomes CatalogError."""
    if len(content) > MAX_SIZE:
        raise CatalogError(f"{name}: {len(content)} bytes; the limit is {MAX_SIZE}")
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        try:
            connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
            connection.deserialize(content)
            connection.execute("PRAGMA trusted_schema = OFF")
            connection.execute("PRAGMA cell_size_check = ON")
            yield connection
        except (sqlite3.Error, sqlite3.Warning, OverflowError, UnicodeDecodeError) as error:
            raise CatalogError(
                f"{name}: an SQLite file that cannot be read: {error}", hint="Is it whole? Copy it again from its image."
            ) from error


def serialized(connection: sqlite3.Connection) -> bytes:
    """Return a database as a file that depends on nothing but its content."""
    connection.execute("VACUUM")
    made = bytearray(connection.serialize())
    for start, end in _VARYING:
        made[start:end] = (1).to_bytes(end - start, "big")
    return bytes(made)


def _tables(connection: sqlite3.Connection, name: str) -> dict[str, frozenset[str]]:
    """Return the columns of each table that is there. Raises CatalogError when it is no catalog."""
    connection.set_progress_handler(lambda: 1, _STEPS)  # a query that takes longer is no catalog's
    kinds = dict(_rows(connection, "SELECT name, type FROM sqlite_master"))
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
    for row in _rows(connection, f"SELECT {', '.join(columns)} FROM operatorbundle WHERE name IS NOT NULL ORDER BY name"):  # noqa: S608 - columns are ours
        name, csv, objects, image, version, skip_range = map(_text, row)
        yield BundleRow(name, csv, objects, image, version, skip_range)


def _edges(connection: sqlite3.Connection) -> dict[tuple[str, str], list[EdgeRow]]:
    found: dict[tuple[str, str], list[EdgeRow]] = defaultdict(list)
    query = """SELECT e.package_name, e.channel_name, e.operatorbundle_name, t.operatorbundle_name, e.depth
        FROM channel_entry e LEFT JOIN channel_entry t ON t.entry_id = e.replaces ORDER BY e.depth, e.entry_id"""
    for package, channel, bundle, target, depth in _rows(connection, query):
        if bundle is not None:
            number = depth if isinstance(depth, int) else 0
            found[_text(package), _text(channel)].append(EdgeRow(_text(bundle), _text(target), number))
    return dict(found)


def _fill(connection: sqlite3.Connection, tables: Mapping[str, frozenset[str]], bundles: Mapping[str, BundleRow]) -> None:
    """Add to each bundle what the other tables say of it."""
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
    if "operatorbundle_name" in columns:
        return f"SELECT DISTINCT operatorbundle_name, group_name, version, kind FROM {table}"  # noqa: S608 - ours, as below
    return f"""SELECT DISTINCT e.operatorbundle_name, a.group_name, a.version, a.kind
        FROM {table} a JOIN channel_entry e ON e.entry_id = a.channel_entry_id"""  # noqa: S608


def _overwritten(bundles: Any) -> bool:
    """Say whether a migration gave all requirements the value of the first: then those of APIs are told by `api_requirer`."""
    values = [value for bundle in bundles for kind, value in bundle.dependencies if kind == "olm.gvk"]
    return len(values) > 1 and len(set(values)) == 1 and len({name for b in bundles if b.required for name in b.required}) > 1


def _rows(connection: sqlite3.Connection, query: str) -> Iterator[tuple[Any, ...]]:
    return iter(connection.execute(query))


def _text(value: Any) -> str:
    """Return a text that may be stored as BLOB, or not at all."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return "" if value is None else str(value)
