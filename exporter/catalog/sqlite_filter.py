"""An SQLite catalog with less in it: for clusters whose servers know no other kind. The schema stays what it was.

What goes with a package, channel or bundle goes from every table; what stays keeps its rows as they were, but the head of a
channel that was cut from the top, and the depths below it. An entry whose bundle is not kept stays as the mere end of an edge;
where another channel keeps that bundle, it is in this one too, for a database has no other way to keep the edge. Same input,
same bytes.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from exporter.catalog.model import Bundle, Catalog
from exporter.catalog.related_images import inline_objects
from exporter.catalog.sqlite import opened, serialized
from exporter.catalog.update_graph import UpdateGraph

_OF_BUNDLE = ("related_image", "properties", "dependencies", "deprecated")
_APIS = ("api_provider", "api_requirer")


def filtered(content: bytes, kept: Catalog, name: str) -> bytes:
    """Return the database with just what `kept` has, which was read from it. Raises CatalogError as `sqlite.read` does."""
    with opened(content, name) as connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute("BEGIN")
        key = "PRIMARY KEY(package, channel, bundle)"  # an index: without it, this would be quadratic
        connection.execute(f"CREATE TEMP TABLE kept_entry (package TEXT, channel TEXT, bundle TEXT, {key}) WITHOUT ROWID")
        entries = [(p.name, c.name, e.name) for p in kept.packages.values() for c in p.channels.values() for e in c.entries]
        connection.executemany("INSERT OR IGNORE INTO kept_entry VALUES (?, ?, ?)", entries)
        _drop_triggers(connection)
        _cut_entries(connection)
        _cut_bundles(connection)
        _cut_channels(connection, kept)
        _fill_contents(connection, kept.bundles)
        connection.execute("DROP TABLE kept_entry")
        connection.execute("COMMIT")
        return serialized(connection)


def _drop_triggers(connection: sqlite3.Connection) -> None:
    """Take triggers out: those of operator-registry clean up rows that are cut here anyway, others are nobody's."""
    names = [name for (name,) in connection.execute("SELECT name FROM main.sqlite_master WHERE type = 'trigger'")]
    for name in names:
        connection.execute(f"DROP TRIGGER main.{_quoted(name)}")


def _cut_entries(connection: sqlite3.Connection) -> None:
    """Keep the entries of kept bundles, and those that they replace or skip: an update may begin at one that is not carried."""
    connection.execute(
        """DELETE FROM channel_entry WHERE NOT EXISTS (SELECT 1 FROM kept_entry k WHERE k.package = package_name
            AND k.channel = channel_name AND k.bundle = operatorbundle_name) AND entry_id NOT IN (
            SELECT e.replaces FROM channel_entry e JOIN kept_entry k ON k.package = e.package_name
            AND k.channel = e.channel_name AND k.bundle = e.operatorbundle_name WHERE e.replaces IS NOT NULL)"""
    )
    connection.execute("UPDATE channel_entry SET replaces = NULL WHERE replaces NOT IN (SELECT entry_id FROM channel_entry)")


def _cut_bundles(connection: sqlite3.Connection) -> None:
    connection.execute("DELETE FROM operatorbundle WHERE name IS NULL OR name NOT IN (SELECT bundle FROM kept_entry)")
    tables = _columns(connection)
    for table in _OF_BUNDLE:
        if table in tables:
            connection.execute(f"DELETE FROM {table} WHERE operatorbundle_name NOT IN (SELECT name FROM operatorbundle)")  # noqa: S608
    for table in _APIS:
        if "operatorbundle_name" in tables.get(table, ()):
            connection.execute(f"DELETE FROM {table} WHERE operatorbundle_name NOT IN (SELECT name FROM operatorbundle)")  # noqa: S608
        elif table in tables:
            connection.execute(f"DELETE FROM {table} WHERE channel_entry_id NOT IN (SELECT entry_id FROM channel_entry)")  # noqa: S608
    users = [table for table in _APIS if table in tables]
    if "api" in tables and users:
        used = " UNION ".join(f"SELECT group_name, version, kind FROM {table}" for table in users)  # noqa: S608
        connection.execute(f"DELETE FROM api WHERE (group_name, version, kind) NOT IN ({used})")  # noqa: S608


def _cut_channels(connection: sqlite3.Connection, kept: Catalog) -> None:
    connection.execute("DELETE FROM channel WHERE (package_name, name) NOT IN (SELECT package, channel FROM kept_entry)")
    connection.execute("DELETE FROM package WHERE name NOT IN (SELECT package FROM kept_entry)")
    for package in kept.packages.values():
        connection.execute("UPDATE package SET default_channel = ? WHERE name = ?", (package.default_channel, package.name))
        for channel in package.channels.values():
            key = (package.name, channel.name)
            head = UpdateGraph.of(channel.entries, "").head
            connection.execute(
                "UPDATE channel SET head_operatorbundle_name = ? WHERE package_name = ? AND name = ?", (head, *key)
            )
            connection.execute(
                """UPDATE channel_entry SET depth = depth - (SELECT min(depth) FROM channel_entry
                    WHERE package_name = :package AND channel_name = :channel)
                    WHERE package_name = :package AND channel_name = :channel""",
                {"package": package.name, "channel": channel.name},
            )


def _fill_contents(connection: sqlite3.Connection, bundles: Iterable[Bundle]) -> None:
    """Put the resources of bundles back that the database has lost and the bundle image still had."""
    for bundle in bundles:
        objects = list(inline_objects(bundle))
        csv = next((one for one in objects if b'"ClusterServiceVersion"' in one), None)
        if csv is not None:
            connection.execute(
                """UPDATE operatorbundle SET csv = ?, bundle = ? WHERE name = ? AND coalesce(bundle, '') = ''""",
                (csv, b"".join(one + b"\n" for one in objects), bundle.name),
            )


def _columns(connection: sqlite3.Connection) -> Mapping[str, frozenset[str]]:
    tables = [name for (name,) in connection.execute("SELECT name FROM main.sqlite_master WHERE type = 'table'")]
    return {table: frozenset(_names(connection.execute(f"PRAGMA table_info({_quoted(table)})"))) for table in tables}


def _names(rows: Iterable[tuple[Any, ...]]) -> Iterator[str]:
    return (row[1] for row in rows)


def _quoted(name: str) -> str:
    doubled = name.replace('"', '""')
    return f'"{doubled}"'
