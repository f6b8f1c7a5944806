"""Reader of package manifests, the format of the app registry until 2020, into the rows of a catalog.

`*.package.yaml` names channels and their heads. A ClusterServiceVersion and the other objects in its folder are a bundle; one
folder may have several. The flattened form has all objects of a package in one YAML file. The rules are those of
operator-registry, pkg/sqlite/directory.go and pkg/appregistry.
"""

from __future__ import annotations

import posixpath
import re
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec

from common.archive.inventory import Problem, ProblemCode
from common.errors import CatalogError, ContentError, NotACatalogError, boundary
from common.files import size_text
from common.go_yaml import text_of
from common.oci.compression import decompressed
from common.oci.tar_reader import ChunkSource, TarFormatError, TarReader
from common.serialization import UNDECODABLE, DocumentError, load_yaml_documents
from exporter.catalog.readers.sqlite import BundleRow, Database, EdgeRow, serialized
from exporter.catalog.related_images import KIND as CSV
from exporter.catalog.related_images import Origin, images_in_csv
from exporter.catalog.requirements import apis_of_csv

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path


# Of all files, which are held in memory with their values; 178 versions of 77 operators had 7.3 MB (openshift/enhancements#24).
MAX_SIZE = 128 * 1024**2
MAX_FILES = 100_000
MAX_ROWS = 1_000_000  # of edges: a channel has one for each bundle below its head, and channels share bundles
_MAX_PACKAGE_FILE = 1024**2  # bytes; real ones have less than a kilobyte
_MAX_SUBJECTS = 20  # of one file that cannot be read; a folder has one bundle, seldom two
# A package file by a line of its content: its name ends with .package.yaml by convention only.
_MARK = re.compile(rb"""^(?:\xef\xbb\xbf)?(?:\{\s*)?["']?packageName["']?\s*:""", re.MULTILINE)
# An empty list has no `currentCSV`; file-based catalogs have no such field of a whole document.
_NO_CHANNELS = re.compile(rb"""(?:^|[{,]\s*)["']?channels["']?\s*:\s*(?:\[\s*\]|null|~|$)""", re.MULTILINE)
_EXTENSIONS = (".yaml", ".yml", ".json")
_PROPERTIES = "olm.properties"
# The fields of a flattened package, each a YAML list in a string, and the endings of the files that it is split into.
_FLATTENED = (
    ("clusterServiceVersions", "clusterserviceversion"),
    ("customResourceDefinitions", "crd"),
    ("packages", "package"),
)


@dataclass(frozen=True, slots=True)
class PackageManifests:
    """The rows, and the problems of single files."""

    database: Database
    problems: tuple[Problem, ...]


@dataclass(slots=True)
class _Found:
    """The documents of the files, by kind."""

    csvs: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)  # folder, file, object
    objects: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    packages: list[tuple[str, dict[str, Any]]] = field(default_factory=list)  # file, document
    problems: list[Problem] = field(default_factory=list)
    unread: list[tuple[str, str]] = field(default_factory=list)  # file, and why it cannot be read
    rows: int = 0  # edges of all channels


def is_directory(path: Path) -> bool:
    """Return whether a directory has package manifests."""
    files = sorted(one for one in path.rglob("*") if one.suffix in _EXTENSIONS and one.is_file())
    # Package files by their usual name first, so that one file decides; the bound is for directories of other contents.
    files.sort(key=lambda one: ".package." not in one.name)
    return any(_is_package(_head(one)) for one in files[:1000])


def _is_package(raw: bytes) -> bool:
    return _MARK.search(raw) is not None and (b"currentCSV" in raw or _NO_CHANNELS.search(raw) is not None)


def _head(path: Path) -> bytes:
    """Return the beginning of a file, as much as a package file has at the most."""
    with path.open("rb") as file:
        return file.read(_MAX_PACKAGE_FILE)


def files_of_directory(path: Path) -> dict[str, bytes]:
    """Return the files of a directory by relative path. Raises CatalogError past the limits."""
    # No links: a directory from elsewhere could refer to any file of this machine.
    names = sorted(one for one in path.rglob("*") if one.is_file() and not one.is_symlink())
    _require_within(len(names), sum(one.stat().st_size for one in names))
    return {str(one.relative_to(path)): one.read_bytes() for one in names}


def files_of_archive(content: bytes, name: str) -> dict[str, bytes]:
    """Return the files of an app registry's tar.gz, below a folder `name`; a flattened package is split into files.

    Raises CatalogError for an archive that cannot be read, past the limits.
    """
    with boundary(lambda error: CatalogError(f"{name}: the app registry's archive cannot be read: {error}")):
        files = _unpacked(content, name)
        # Exactly one file means the flattened form (operator-registry, pkg/appregistry).
        return _flattened(next(iter(files.values())), name) if len(files) == 1 else files


def _unpacked(content: bytes, name: str) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    size = 0
    try:
        tar = TarReader(ChunkSource(decompressed([content], 2 * MAX_SIZE)))
        for number, entry in enumerate(tar, 1):
            path = posixpath.normpath(f"/{entry.name}").lstrip("/")  # a key of a dictionary, and never a path of this machine
            size += entry.size
            _require_within(number, size)
            if entry.is_file and not entry.sparse:
                files[f"{name}/{path}"] = tar.read()
    except TarFormatError as error:
        raise CatalogError(f"{name}: the app registry's archive cannot be read: {error.message}") from error
    return files


def read(files: Mapping[str, bytes], where: str) -> PackageManifests:
    """Return the rows of a catalog. A fault of one file or bundle becomes a problem, and the others are read.

    Raises NotACatalogError without any package.
    """
    with boundary(lambda error: CatalogError(f"{where}: the package manifests cannot be read: {error}")):
        return _read(files, where)


def _read(files: Mapping[str, bytes], where: str) -> PackageManifests:
    _require_within(len(files), sum(map(len, files.values())))  # of all archives of a registry together
    found = _sorted(files)
    bundles: dict[str, BundleRow] = {}
    csvs: dict[str, dict[str, Any]] = {}
    for folder, file, csv in found.csvs:
        # Bundles are known by the name of their ClusterServiceVersion, the primary key of the table.
        name = _text(csv, "metadata", "name")
        if not name or name in bundles:
            why = f"the bundle {name} is there already" if name else "a ClusterServiceVersion without a name"
            found.problems.append(_problem(file, f"{why}; left out"))
            continue
        try:
            with boundary(lambda error: ContentError(str(error))):
                bundles[name], csvs[name] = _bundle(name, csv, found.objects.get(folder, [])), csv
        except ContentError as error:
            found.problems.append(_problem(file, f"the bundle {name} cannot be read: {error.message}; left out"))
    channels, edges, defaults = _channels(found, csvs)
    found.problems[:0] = _unread(found, edges)
    if not defaults:
        first = f": {found.problems[0].subject}: {found.problems[0].message}" if found.problems else ""
        raise NotACatalogError(f"{where}: no package manifests{first}", hint="Wanted: folders with a *.package.yaml.")
    return PackageManifests(Database(defaults, channels, edges, bundles), tuple(found.problems))


def _sorted(files: Mapping[str, bytes]) -> _Found:
    found = _Found()
    for name in sorted(files):
        # As the loader of that time: hidden files are skipped, and only the first document of a file counts.
        if posixpath.basename(name).startswith(".") or not name.endswith(_EXTENSIONS):
            continue
        try:
            document = next(iter(load_yaml_documents(files[name], name, forgiving=True)), None)
        except DocumentError as error:
            found.unread.append((name, error.message))
            continue
        if not isinstance(document, dict):
            continue
        if document.get("kind") == CSV:
            found.csvs.append((posixpath.dirname(name), name, document))
        elif "packageName" in document:
            found.packages.append((name, document))
        elif "kind" in document:
            found.objects.setdefault(posixpath.dirname(name), []).append(document)
    return found


def _unread(found: _Found, edges: Mapping[tuple[str, str], list[EdgeRow]]) -> Iterator[Problem]:
    """Yield a problem for each file that cannot be read, with the bundle or package that lacks it as the subject.

    A bundle has the files of its folder, a package those in the folder of its manifest and below.
    """
    packages: dict[str, dict[str, None]] = {}
    for (package, _), rows in edges.items():
        for row in rows:
            packages.setdefault(row.bundle, {})[package] = None
    bundles: dict[str, list[str]] = {}
    for folder, _, csv in found.csvs:
        name = _text(csv, "metadata", "name")
        bundles.setdefault(folder, []).extend(f"{package}/{name}" for package in packages.get(name, ()))
    manifests: dict[str, list[str]] = {}
    for file, document in found.packages:
        if name := _field(document, "packageName"):
            manifests.setdefault(posixpath.dirname(file), []).append(name)
    for file, why in found.unread:
        folder = posixpath.dirname(file)
        above = _nearest(manifests, folder)
        if file.partition("/")[0] in above:
            above = [file]  # it begins with the package, as the subject of a problem must, and is more precise
        subjects = bundles.get(folder) or above or [file]
        if len(subjects) > _MAX_SUBJECTS:
            subjects = [file]
        for subject in dict.fromkeys(subjects):
            yield _problem(subject, f"{why}; left out")


def _nearest(manifests: Mapping[str, list[str]], folder: str) -> list[str]:
    """Return the packages with their manifests in a folder, or in the nearest one above it that has any."""
    while folder and folder not in manifests:
        folder = posixpath.dirname(folder)
    return manifests.get(folder, [])


def _bundle(name: str, csv: dict[str, Any], others: Sequence[dict[str, Any]]) -> BundleRow:
    text = _json(csv)
    owned = ((api.group, api.version, api.kind) for api in apis_of_csv(csv, "owned", ("apiservicedefinitions",)))
    provided = dict.fromkeys([*(api for one in others for api in _apis_of_crd(one)), *owned])
    required = dict.fromkeys((api.group, api.version, api.kind) for api in apis_of_csv(csv, "required"))
    return BundleRow(
        name,
        text,
        "".join(f"{one}\n" for one in (text, *map(_json, others))),
        version=_text(csv, "spec", "version"),
        skip_range=_text(csv, "metadata", "annotations", "olm.skipRange"),
        # Without environment variables, as migration 1 of operator-registry fills the table.
        related_images=sorted({one.text for one in images_in_csv(csv) if one.origin is not Origin.ENVIRONMENT}),
        provided=list(provided),
        required=list(required),
        properties=list(_properties(csv)),
    )


def _apis_of_crd(crd: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield group, version and kind of every version of a CustomResourceDefinition."""
    if crd.get("kind") != "CustomResourceDefinition":
        return
    group, kind = _text(crd, "spec", "group"), _text(crd, "spec", "names", "kind")
    spec = crd.get("spec")
    listed = spec.get("versions") if isinstance(spec, dict) else None
    versions = [_text(one, "name") for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    # `spec.version` is the form of apiextensions.k8s.io/v1beta1, which these catalogs have.
    for version in dict.fromkeys([*versions, _text(crd, "spec", "version")]):
        if group and version and kind:
            yield group, version, kind


def _properties(csv: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the properties of the annotation `olm.properties`."""
    try:
        listed = msgspec.json.decode(_text(csv, "metadata", "annotations", _PROPERTIES) or "[]")
    except UNDECODABLE:
        return
    for one in listed if isinstance(listed, list) else ():
        if isinstance(one, dict) and isinstance(one.get("type"), str):
            yield one["type"], _json(one.get("value"))


def _channels(
    found: _Found, csvs: Mapping[str, dict[str, Any]]
) -> tuple[list[tuple[str, str]], dict[tuple[str, str], list[EdgeRow]], dict[str, str]]:
    """Return the channels, their edges, and the default channels by package."""
    edges: dict[tuple[str, str], list[EdgeRow]] = {}
    defaults: dict[str, str] = {}
    for file, document in found.packages:
        package = _field(document, "packageName")
        if package in defaults:
            found.problems.append(_problem(file, f"the package {package} is there already; left out"))
            continue
        made = dict(_package_edges(file, package, document, csvs, found))
        if made:
            edges |= {(package, channel): rows for channel, rows in made.items()}
            default = _field(document, "defaultChannel")
            # With one channel the default may be left out (operator-registry, pkg/registry/types.go, GetDefaultChannel).
            defaults[package] = default or (next(iter(made)) if len(made) == 1 else "")
    return sorted(edges), edges, defaults


def _package_edges(
    file: str, package: str, document: dict[str, Any], csvs: Mapping[str, dict[str, Any]], found: _Found
) -> Iterator[tuple[str, list[EdgeRow]]]:
    listed = document.get("channels")
    if not isinstance(listed, list) or not listed:
        found.problems.append(_problem(package, f"{file}: the package has no channels; left out"))
        return
    for one in listed:
        channel, head = _field(one, "name"), _field(one, "currentCSV")
        if head not in csvs:
            found.problems.append(
                _problem(f"{package}", f"{file}: channel {channel}: its head {head!r} is in no file; left out")
            )
        elif channel:
            edges = list(islice(_chain(head, csvs), MAX_ROWS - found.rows + 1))
            found.rows += len(edges)
            if found.rows > MAX_ROWS:
                raise CatalogError(f"the channels of the package manifests have more than {MAX_ROWS} entries in all")
            yield channel, edges
        else:
            found.problems.append(_problem(package, f"{file}: a channel without a name, with the head {head!r}; left out"))


def _chain(head: str, csvs: Mapping[str, dict[str, Any]]) -> Iterator[EdgeRow]:
    """Yield the edges from the head down, numbered as by operator-registry, pkg/sqlite/load.go: `skips` before `replaces`."""
    depth, current, seen = 0, head, set()
    while current and current not in seen:
        seen.add(current)
        csv = csvs.get(current)
        replaces = _text(csv, "spec", "replaces") if csv is not None else ""
        yield EdgeRow(current, replaces, depth)
        for skipped in _skips(csv):
            depth += 1
            # An edge to a skipped entry and the entry itself, which may have no bundle: clients query both.
            yield EdgeRow(current, skipped, depth)
            yield EdgeRow(skipped, "", depth)
        depth += 1
        current = replaces


def _skips(csv: dict[str, Any] | None) -> list[str]:
    spec = csv.get("spec") if csv else None
    listed = spec.get("skips") if isinstance(spec, dict) else None
    return [one for one in listed if isinstance(one, str) and one] if isinstance(listed, list) else []


def _flattened(content: bytes, name: str) -> dict[str, bytes]:
    """Split the one file of a flattened package into a folder with a file for each object and package."""
    document = next(iter(load_yaml_documents(content, name, forgiving=True)), None)
    data = document.get("data") if isinstance(document, dict) else None
    if not isinstance(data, dict):
        return {f"{name}/{name}.yaml": content}
    files: dict[str, bytes] = {}
    for key, ending in _FLATTENED:
        text = data.get(key)
        for listed in load_yaml_documents(text, f"{name}: {key}", forgiving=True) if isinstance(text, str) else ():
            for number, one in enumerate(listed if isinstance(listed, list) else [listed]):
                label = _text(one, "metadata", "name") or _field(one, "packageName") or str(number)
                files[f"{name}/{label}.{ending}.yaml"] = _json(one).encode()
    return files


def _require_within(count: int, size: int) -> None:
    if count > MAX_FILES or size > MAX_SIZE:
        raise CatalogError(
            f"package manifests of {count} files, {size_text(size)}; the limits are {MAX_FILES} files and {size_text(MAX_SIZE)}"
        )


def _field(value: Any, name: str) -> str:
    """Return a field of a package manifest: texts in its type in Go, to which sigs.k8s.io/yaml (yaml.go) converts 4.6."""
    return text_of(value.get(name)) if isinstance(value, dict) else ""


def _text(value: Any, *path: str) -> str:
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, str) else ""


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _problem(subject: str, message: str) -> Problem:
    return Problem("error", ProblemCode.CATALOG_INVALID, subject, message)


# The rows as an SQLite catalog of schema 5 with all objects inlined. The servers of OpenShift 4.3 and 4.4 know no later schema
# (operator-registry, pkg/sqlite/migrations).

SCHEMA = 5
# The default would be the time of writing, and the same rows must give the same bytes.
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


def sqlite_database(rows: Database) -> bytes:
    """Return the database file, with bundles that are in no channel too. The same rows give the same bytes."""
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
    # Explicit numbers: `replaces` refers to entries that are inserted later.
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
        # The column of the plural must have a value; the plural of most kinds follows this rule.
        connection.execute("INSERT OR IGNORE INTO api VALUES (?, ?, ?, ?)", (group, version, kind, kind.lower() + "s"))
        connection.execute(f"INSERT OR IGNORE INTO {table} VALUES (?, ?, ?, ?)", (group, version, kind, number))  # noqa: S608


def _apis(rows: Database, edges: Sequence[EdgeRow], numbers: dict[str, int]) -> Iterator[tuple[str, str, str, str, int]]:
    for name in dict.fromkeys(edge.bundle for edge in edges):
        bundle = rows.bundles.get(name)
        for table, apis in (("api_provider", bundle.provided), ("api_requirer", bundle.required)) if bundle else ():
            yield from ((table, *api, numbers[name]) for api in apis)
