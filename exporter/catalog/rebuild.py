"""The catalog image of an archive: the original, or one rebuilt with the selection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from common.archive.inventory import ImageKind
from common.errors import CatalogError, UsageError
from common.oci.image import Digest, Document, Index, Manifest, Tree
from common.oci.reference import Reference
from common.text import shortened
from exporter.catalog.readers import catalog_image, sqlite
from exporter.catalog.readers.catalog_image import CatalogFormat, CatalogLocation
from exporter.catalog.readers.sqlite import opened, serialized
from exporter.catalog.related_images import inline_objects
from exporter.catalog.update_graph import UpdateGraph
from exporter.catalog.validation import validate
from exporter.images.resolve import ResolvedImage, WantedImage

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator, Mapping

    from exporter.catalog.model import Blob, Bundle, Catalog, Package
    from exporter.catalog.readers.opening import CatalogBase, OpenedCatalog
    from exporter.catalog.selection import Selection
    from exporter.imageset.model import OperatorRequest


# The files of a selection, validated as opm does; `catalog_image.py` makes the layer.

_SHOWN = 10


def catalog_files(catalog: Catalog) -> dict[str, bytes]:
    """Return the files of a catalog by path relative to the configs directory; the same catalog gives the same bytes.

    `<package>/catalog.json` for each package, package-less blobs in `catalog.json`, every blob as it was read. Raises
    CatalogError with each rule that is broken when OLM would refuse to serve it.
    """
    # opm serves all or nothing: one package that breaks a rule would leave the cluster without a catalog.
    if faults := [str(finding) for finding in validate(catalog) if finding.fatal]:
        raise CatalogError("OLM would refuse the catalog:", details=shortened(faults, _SHOWN))
    files = {f"{name}/catalog.json": _stream(_blobs(package)) for name, package in sorted(catalog.packages.items())}
    if catalog.others:
        files["catalog.json"] = _stream(catalog.others)
    return dict(sorted(files.items()))


def _blobs(package: Package) -> Iterator[Blob]:
    yield package.blob
    yield from (channel.blob for _, channel in sorted(package.channels.items()))
    yield from (bundle.blob for _, bundle in sorted(package.bundles.items()))
    if package.deprecations:
        yield package.deprecations.blob
    yield from package.others


def _stream(blobs: Iterable[Blob]) -> bytes:
    return b"".join(blob.raw.strip() + b"\n" for blob in blobs)


# The filtered SQLite catalog, for clusters whose servers know no other format. The schema does not change. Rows of dropped
# packages, channels and bundles are deleted from every table; others change only where the head of a channel is another one.

_OF_BUNDLE = ("related_image", "properties", "dependencies", "deprecated")
_APIS = ("api_provider", "api_requirer")


def filtered(content: bytes, kept: Catalog, name: str) -> bytes:
    """Return the database with only the contents of `kept`, which was read from it. Raises the errors of `sqlite.read`."""
    with opened(content, name) as connection:
        # A channel references its head with ON DELETE CASCADE: deleting that bundle would delete the channel.
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute("BEGIN")
        key = "PRIMARY KEY(package, channel, bundle)"  # an index, without which the deletes take quadratic time
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
    """Drop all triggers."""
    # Those of operator-registry clean up rows that are deleted here anyway; foreign ones could run any statement.
    names = [name for (name,) in connection.execute("SELECT name FROM main.sqlite_master WHERE type = 'trigger'")]
    for name in names:
        connection.execute(f"DROP TRIGGER main.{_quoted(name)}")


def _cut_entries(connection: sqlite3.Connection) -> None:
    """Delete all entries except those of kept bundles and those that they replace or skip."""
    # A replaced bundle may be installed on the cluster without being in the archive, and the edge from it is its update. Where
    # another channel keeps that bundle it becomes an entry of this one too: the schema has no other way to keep the edge.
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
    # A kind that no bundle provides or requires any more would be listed, and found nowhere.
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
            # Depth 0 is the head for the servers, so a channel that lost its newest entries is renumbered.
            connection.execute(
                """UPDATE channel_entry SET depth = depth - (SELECT min(depth) FROM channel_entry
                    WHERE package_name = :package AND channel_name = :channel)
                    WHERE package_name = :package AND channel_name = :channel""",
                {"package": package.name, "channel": channel.name},
            )


def _fill_contents(connection: sqlite3.Connection, bundles: Iterable[Bundle]) -> None:
    """Add the objects of bundles that the catalog has inlined and the database has not."""
    # opm blanks them for all bundles except the heads of default channels, and a selection may make others heads.
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


@dataclass(frozen=True, slots=True)
class CarriedCatalog:
    """A catalog image to be planned; `held` are its blobs that exist in no registry, `catalog` is the catalog it serves."""

    resolved: ResolvedImage
    held: Mapping[Digest, bytes]
    catalog: Catalog
    format: CatalogFormat = "file-based"

    @property
    def root(self) -> Document:
        """The document that names the image."""
        assert self.resolved.tree is not None
        return self.resolved.tree.root


def carry(
    opened: OpenedCatalog,
    request: OperatorRequest,
    selection: Selection,
    base: CatalogBase,
    wanted_format: CatalogFormat | None = None,
) -> CarriedCatalog:
    """Return the image for a selection, in the format of the catalog unless another one is requested.

    Raises CatalogError when OLM would not serve the selection, UsageError for a format that it cannot be converted to.
    """
    wanted_format = wanted_format or opened.location.format
    if wanted_format == "sqlite" and opened.database is None:
        raise UsageError(
            f"{opened.source}: a file-based catalog cannot become an SQLite one", hint="Leave --catalog-format out for it."
        )
    wanted = _requested(opened, request, base)
    # Untouched, so that the digest and the signatures of the original stay valid.
    if selection.unmodified and opened.base is not None and wanted_format == opened.location.format:
        return CarriedCatalog(ResolvedImage(wanted, opened.base.tree), {}, selection.catalog, wanted_format)
    if wanted_format == "sqlite":
        assert opened.database is not None
        database = filtered(opened.database, selection.catalog, opened.source)
        tree, held = rebuild(catalog_image.database_layer(database, opened.location.path), base, opened.location)
        kept = sqlite.catalog_of(sqlite.read(database, opened.source))  # may have a few entries more: see `_cut_entries`
    else:
        kept = selection.catalog
        location = CatalogLocation("file-based", catalog_image.DIRECTORY)
        layer = catalog_image.configs_layer(catalog_files(selection.catalog), location.path)
        tree, held = rebuild(layer, base, location)
    return CarriedCatalog(ResolvedImage(wanted, tree), held, kept, wanted_format)


def _requested(opened: OpenedCatalog, request: OperatorRequest, base: CatalogBase) -> WantedImage:
    """Return the image of a catalog under the name of the image set; the reference is that of the image it is built on."""
    name = None if opened.digest is None else Reference.parse(opened.source)  # a directory has no tag
    return WantedImage(
        base.reference,
        ImageKind.CATALOG,
        target_repository=request.target_catalog,
        target_tag=request.target_tag,
        named=opened.source if name is None or name.digest is None else str(name.pinned(name.digest)),
        tag=name.tag if name else None,
    )


def rebuild(layer: bytes, base: CatalogBase, location: CatalogLocation) -> tuple[Tree, dict[Digest, bytes]]:
    """Return the documents and new blobs of an image with one more layer, for every platform of `base`.

    The same input gives the same digest (docs/reference/selection.md, *Filtered catalog*).
    """
    images = {
        manifest.digest: catalog_image.rebuild(manifest, base.configs[manifest.digest], layer, location)
        for manifest in base.tree.documents
        if isinstance(manifest, Manifest) and manifest.digest in base.configs
    }
    documents: list[Document] = [image.manifest for image in images.values()]
    if isinstance(base.tree.root, Index):
        documents.append(catalog_image.rebuild_index(base.tree.root, images))
    held = {digest: content for image in images.values() for digest, content in image.blobs.items()}
    return Tree(documents[-1], tuple(documents), ()), held  # the new index names no platform that is not carried
