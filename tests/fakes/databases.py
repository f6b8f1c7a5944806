"""SQLite catalogs for tests: one small catalog as each schema from 0 to 13 keeps it, and the real ones."""

from __future__ import annotations

import json
import lzma
import sqlite3
from contextlib import closing
from functools import cache
from typing import Any

from tests.fakes.catalogs import CATALOGS

VERSIONS = tuple(range(14))
CSV_KIND = "ClusterServiceVersion"


@cache
def real(name: str) -> bytes:
    """Return a database of tests/data, such as `community`."""
    return lzma.decompress((CATALOGS / "sqlite" / f"{name}.db.xz").read_bytes())


def csv(name: str, version: str, replaces: str = "", skips: tuple[str, ...] = (), **spec: Any) -> bytes:
    """Return a ClusterServiceVersion as the loader stores it."""
    annotations = {"olm.skipRange": spec.pop("skip_range")} if "skip_range" in spec else {}
    body = {
        "version": version,
        **({"replaces": replaces} if replaces else {}),
        **({"skips": list(skips)} if skips else {}),
        **spec,
    }
    return json.dumps({"kind": CSV_KIND, "metadata": {"name": name, "annotations": annotations}, "spec": body}).encode()


CRD = b'{"kind": "CustomResourceDefinition", "metadata": {"name": "foos.example.com"}}'
# name, version, replaces, skips
BUNDLES = (("foo.v1", "1.0.0", "", ()), ("foo.v2", "2.0.0", "foo.v1", ()), ("foo.v3", "3.0.0", "foo.v2", ("foo.v2-bad",)))


def database(version: int) -> bytes:
    """Return the package foo, channel stable, three bundles that need a package and an API, in a schema."""
    with closing(sqlite3.connect(":memory:")) as connection:
        _tables(connection, version)
        connection.execute("INSERT INTO package VALUES ('foo', 'stable')")
        connection.execute("INSERT INTO channel VALUES ('stable', 'foo', 'foo.v3')")
        for bundle in BUNDLES:
            _bundle(connection, version, bundle)
        # entry_id, channel, package, bundle, replaces, depth: a chain, and a skip that nobody has
        entries = [
            (1, "foo.v1", None, 2),
            (2, "foo.v2", 1, 1),
            (4, "foo.v2-bad", None, 3),
            (3, "foo.v3", 2, 0),
            (5, "foo.v3", 4, 1),
        ]
        for key, bundle, target, depth in sorted(entries):
            connection.execute("INSERT INTO channel_entry VALUES (?, 'stable', 'foo', ?, ?, ?)", (key, bundle, target, depth))
        _apis(connection, version)
        connection.commit()
        return connection.serialize()


def _tables(connection: sqlite3.Connection, version: int) -> None:
    columns = ["name TEXT PRIMARY KEY", "csv TEXT UNIQUE" if version < 4 else "csv TEXT", "bundle TEXT"]
    columns += ["bundlepath TEXT"] * (version >= 2) + ["skiprange TEXT", "version TEXT"] * (version >= 5)
    columns += ["replaces TEXT", "skips TEXT"] * (version >= 7) + ["substitutesfor TEXT"] * (version >= 11)
    keyed = "operatorbundle_name TEXT, operatorbundle_version TEXT, operatorbundle_path TEXT"
    api = keyed if version >= 6 else "channel_entry_id INTEGER"
    entry = "channel_name TEXT, package_name TEXT, operatorbundle_name TEXT"
    statements = [
        f"operatorbundle ({', '.join(columns)})",
        "package (name TEXT PRIMARY KEY, default_channel TEXT)",
        "channel (name TEXT, package_name TEXT, head_operatorbundle_name TEXT, PRIMARY KEY(name, package_name))",
        f"channel_entry (entry_id INTEGER PRIMARY KEY, {entry}, replaces INTEGER, depth INTEGER)",
        "api (group_name TEXT, version TEXT, kind TEXT, plural TEXT)",
        f"api_provider (group_name TEXT, version TEXT, kind TEXT, {api})",
    ]
    statements += ["schema_migrations (version bigint, timestamp DATETIME)"] * (version > 0)
    statements += ["related_image (image TEXT, operatorbundle_name TEXT)"] * (version >= 1)
    statements += [f"api_requirer (group_name TEXT, version TEXT, kind TEXT, {api})"] * (version >= 3)
    statements += [f"dependencies (type TEXT, value TEXT, {keyed})"] * (version >= 8)
    statements += [f"properties (type TEXT, value TEXT, {keyed})"] * (version >= 9)
    statements += ["deprecated (operatorbundle_name TEXT PRIMARY KEY)"] * (version >= 12)
    for statement in statements:
        connection.execute(f"CREATE TABLE {statement}")
    if version:
        connection.execute("INSERT INTO schema_migrations VALUES (?, NULL)", (version,))


def _bundle(connection: sqlite3.Connection, version: int, bundle: tuple[str, str, str, tuple[str, ...]]) -> None:
    name, number, replaces, skips = bundle
    related = [{"name": "operand", "image": f"quay.io/example/operand:{number}"}]
    content = csv(name, number, replaces, skips, relatedImages=related, skip_range="<1.0.0")
    values: list[Any] = [name, content, content + b"\n" + CRD + b"\n"]
    values += [f"quay.io/example/foo:{number}"] * (version >= 2) + ["<1.0.0", number] * (version >= 5)
    values += [replaces, ",".join(skips)] * (version >= 7) + [""] * (version >= 11)
    connection.execute(f"INSERT INTO operatorbundle VALUES ({', '.join('?' * len(values))})", values)
    key = (name, number, f"quay.io/example/foo:{number}")
    if version >= 1:
        connection.execute("INSERT INTO related_image VALUES (?, ?)", (f"quay.io/example/operand:{number}", name))
    if version >= 8:
        value = json.dumps({"packageName": "bar", "version": ">=1.0.0"}).encode()
        connection.execute("INSERT INTO dependencies VALUES ('olm.package', ?, ?, ?, ?)", (value, *key))
    if version >= 9:
        for kind, value in (
            ("olm.package", {"packageName": "foo", "version": number}),
            ("olm.gvk", {"group": "example.com", "kind": "Foo", "version": "v1"}),
        ):
            connection.execute("INSERT INTO properties VALUES (?, ?, ?, ?, ?)", (kind, json.dumps(value), *key))


def _apis(connection: sqlite3.Connection, version: int) -> None:
    connection.execute("INSERT INTO api VALUES ('example.com', 'v1', 'Foo', 'foos')")
    users: list[tuple[Any, ...]] = [(1,), (2,), (3,)]
    if version >= 6:
        users = [(name, number, f"quay.io/example/foo:{number}") for name, number, _, _ in BUNDLES]
    for user in users:
        marks = ", ".join("?" * len(user))
        connection.execute(f"INSERT INTO api_provider VALUES ('example.com', 'v1', 'Foo', {marks})", user)
        if version >= 3:
            connection.execute(f"INSERT INTO api_requirer VALUES ('example.com', 'v1', 'Bar', {marks})", user)


def replaced(content: bytes, old: str, new: str) -> bytes:
    """Return a database in whose texts `new` stands for `old`, in every table."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.deserialize(content)
        for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            for row in connection.execute(f"PRAGMA table_info({table})").fetchall():
                column = row[1]
                change = f"UPDATE {table} SET {column} = replace(CAST({column} AS TEXT), ?, ?) WHERE typeof({column}) IN ('text', 'blob')"
                connection.execute(change, (old, new))
        connection.commit()
        return connection.serialize()


def changed(content: bytes, *statements: str) -> bytes:
    """Return a database after some statements."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.deserialize(content)
        for statement in statements:
            connection.execute(statement)
        connection.commit()
        return connection.serialize()


def rows(content: bytes, query: str) -> list[Any]:
    """Return what a query gives."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.deserialize(content)
        return connection.execute(query).fetchall()
