"""Rows → an SQLite catalog of schema 5 with all contents inside: what OpenShift 4.3 and 4.4 serve (facts/openshift.md §1.2)."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing

from exporter.catalog.sqlite import BundleRow, Database, EdgeRow, serialized

SCHEMA = 5
_WRITTEN = "1970-01-01 00:00:00"
_API_KEY = "group_name TEXT, version TEXT, kind TEXT, channel_entry_id INTEGER"
_API_RULES = (
    "PRIMARY KEY(group_name, version, kind, channel_entry_id), "
    "FOREIGN KEY(channel_entry_id) REFERENCES channel_entry(entry_id) ON DELETE CASCADE"
)
_TABLES = {
    "schema_migrations": "version bigint NOT NULL, timestamp DATETIME DEFAULT CURRENT_TIMESTAMP",
    "operatorbundle": "name TEXT PRIMARY KEY, csv TEXT, bundle TEXT, bundlepath TEXT, skiprange TEXT, version TEXT",
    "package": (
        "name TEXT PRIMARY KEY, default_channel TEXT, "
        "FOREIGN KEY(name, default_channel) REFERENCES channel(package_name, name) ON DELETE CASCADE"
    ),
    "channel": (
        "name TEXT, package_name TEXT, head_operatorbundle_name TEXT, PRIMARY KEY(name, package_name), "
        "FOREIGN KEY(head_operatorbundle_name) REFERENCES operatorbundle(name) ON DELETE CASCADE"
    ),
    "channel_entry": (
        "entry_id INTEGER PRIMARY KEY, channel_name TEXT, package_name TEXT, operatorbundle_name TEXT, "
        "replaces INTEGER, depth INTEGER, "
        "FOREIGN KEY(replaces) REFERENCES channel_entry(entry_id) DEFERRABLE INITIALLY DEFERRED, "
        "FOREIGN KEY(channel_name, package_name) REFERENCES channel(name, package_name) ON DELETE CASCADE"
    ),
    "api": "group_name TEXT, version TEXT, kind TEXT, plural TEXT NOT NULL, PRIMARY KEY(group_name, version, kind)",
    "api_provider": f"{_API_KEY}, {_API_RULES}",
    "related_image": (
        "image TEXT, operatorbundle_name TEXT, "
        "FOREIGN KEY(operatorbundle_name) REFERENCES operatorbundle(name) ON DELETE CASCADE"
    ),
    "api_requirer": f"{_API_KEY}, {_API_RULES}",
}


def database(rows: Database) -> bytes:
    """Return the file. Same rows, same bytes; bundles that are in no channel are in it too, and cost nothing."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.execute("BEGIN")
        for name, columns in _TABLES.items():
            connection.execute(f"CREATE TABLE {name} ({columns})")
        connection.execute("INSERT INTO schema_migrations VALUES (?, ?)", (SCHEMA, _WRITTEN))
        for bundle in sorted(rows.bundles.values(), key=lambda row: row.name):
            _add_bundle(connection, bundle)
        connection.executemany("INSERT INTO package VALUES (?, ?)", sorted(rows.default_channels.items()))
        for package, channel in rows.channels:
            _add_channel(connection, rows, package, channel)
        connection.execute("COMMIT")
        return serialized(connection)


def _add_bundle(connection: sqlite3.Connection, row: BundleRow) -> None:
    values = (row.name, row.csv.encode(), row.objects.encode(), row.image or None, row.skip_range, row.version)
    connection.execute("INSERT INTO operatorbundle VALUES (?, ?, ?, ?, ?, ?)", values)
    images = [(image, row.name) for image in row.related_images]
    connection.executemany("INSERT INTO related_image VALUES (?, ?)", images)


def _add_channel(connection: sqlite3.Connection, rows: Database, package: str, channel: str) -> None:
    edges = rows.edges[package, channel]
    connection.execute("INSERT INTO channel VALUES (?, ?, ?)", (channel, package, edges[0].bundle))
    first = connection.execute("SELECT coalesce(max(entry_id), 0) + 1 FROM channel_entry").fetchone()[0]
    numbers: dict[str, int] = {}
    for number, edge in enumerate(edges, first):
        numbers.setdefault(edge.bundle, number)
    for number, edge in enumerate(edges, first):
        target = numbers.get(edge.target)
        connection.execute(
            "INSERT INTO channel_entry VALUES (?, ?, ?, ?, ?, ?)", (number, channel, package, edge.bundle, target, edge.depth)
        )
    for table, group, version, kind, number in _apis(rows, edges, numbers):
        connection.execute("INSERT OR IGNORE INTO api VALUES (?, ?, ?, ?)", (group, version, kind, kind.lower() + "s"))
        connection.execute(f"INSERT OR IGNORE INTO {table} VALUES (?, ?, ?, ?)", (group, version, kind, number))  # noqa: S608


def _apis(rows: Database, edges: Sequence[EdgeRow], numbers: dict[str, int]) -> Iterator[tuple[str, str, str, str, int]]:
    for name in dict.fromkeys(edge.bundle for edge in edges):
        bundle = rows.bundles.get(name)
        for table, apis in (("api_provider", bundle.provided), ("api_requirer", bundle.required)) if bundle else ():
            yield from ((table, *api, numbers[name]) for api in apis)
