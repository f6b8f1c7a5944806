"""The record of an import in the cluster: former values for `undo` (ADR 0014), and the catalogs it has to serve (ADR 0015).

It is one Secret. An entry for each object has whether hub-import created it, and for each field that it set, the value before
and after; for `binaryData` the digest of each value after (ADR 0075). Values from before the first apply are never overwritten
by a later one; what others have added since to a list, or to registry credentials, is added to them.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace as replaced

from common.archive.naming import is_name, label
from common.errors import ClusterError
from common.oci.image import Digest, digest_of
from common.retry import retry
from common.serialization import decode_bounded, require_bounded_values
from importer.cluster.api.client import CONFLICT_POLICY, Body, ClusterClient, ConflictError, unchanged
from importer.cluster.differences import needed_patch, rebased
from importer.cluster.kinds import (
    CLUSTER_SERVICE_VERSION,
    CLUSTER_VERSION,
    CONFIG_NAMESPACE,
    MARKETPLACE,
    OWN_LABELS,
    PLAIN_OLM,
    SECRET,
    Kind,
)
from importer.cluster.microshift import microshift_version
from importer.cluster.readiness.readiness import ExpectedCatalog
from importer.cluster.updates.expected import ExpectedRelease

# A Secret, since it holds former values of the pull secret.
NAME = "hub-import-record"
_EXPECTED = "expected."  # how the keys of expected catalogs and releases begin; all others are entries
# No name of a CatalogSource has an underscore. Earlier versions skip values of another shape than that of a catalog.
_RELEASES = f"{_EXPECTED}_release."
_ARCHIVES = f"{_EXPECTED}_archives"
_PULLS = f"{_EXPECTED}_pulls"
_MAX_ARCHIVES = 20  # the newest imports; a year of weeks would be of no use to a reader
MAX_SIZE = 900_000  # bytes of all entries; Kubernetes limits the data of a Secret to 1 MiB
# Mirror rules repeat their hosts and paths, and compress to less than a tenth: those of all catalogs fit (ADR 0087). Smaller
# entries stay as they are, so that earlier versions read them.
COMPRESSED_FROM = 64 * 1024  # bytes of JSON

_BINARY = "binaryData"
_DIGEST = "sha256:"  # no value of `binaryData` begins so: base64 has no colon
_MAX_DEPTH = 64
_MAX_CATALOG = 32 * 1024 * 1024  # bytes of an expected catalog, unpacked
_MAX_CATALOGS = 64 * 1024 * 1024  # of all of them
_MAX_UNPACKED = 32 * 1024 * 1024  # bytes of all entries: a thousand times those of the Secret are a bomb
_MAX_WRITTEN = _MAX_UNPACKED - MAX_SIZE  # the same for an apply: undo adds entries of what OLM brought (`keep`)
_CATALOG = msgspec.json.Decoder(ExpectedCatalog)
_RELEASE = msgspec.json.Decoder(ExpectedRelease)


class ImportedArchive(msgspec.Struct, frozen=True, omit_defaults=True):
    """An archive that was imported, as people name it."""

    digest: Digest
    name: str = ""
    created: str = ""

    @property
    def label(self) -> str:
        """Name, date and the first digits of the digest."""
        return label(self.digest, self.name, self.created)


class PullImage(msgspec.Struct, frozen=True):
    """An image that a pull test pulls by its source name. `architecture` is empty for one that states none."""

    architecture: str
    image: str
    size: int


_IMPORTED = msgspec.json.Decoder(list[ImportedArchive])
_PULL_IMAGES = msgspec.json.Decoder(list[PullImage])
_MAX_PULLS = 20  # architectures; OpenShift has four
T = TypeVar("T")


def as_recorded(value: Any, path: tuple[str, ...] = ()) -> Any:
    """Return an object, or its value at a path, with digests in place of the values of `binaryData`."""
    if isinstance(value, Mapping) and path in ((), (_BINARY,)):
        return {key: as_recorded(each, (*path, key)) for key, each in value.items()}
    if path[:1] != (_BINARY,) or not isinstance(value, str) or value.startswith(_DIGEST):
        return value
    # The signatures of a release take kilobytes; undo only compares them.
    return str(digest_of(value.encode()))


@dataclass(frozen=True, slots=True)
class FieldChange:
    """A field that hub-import set, and its value before, if it `existed`, and after (see `as_recorded`)."""

    path: tuple[str, ...]
    existed: bool
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class Entry:
    """An object that hub-import created or changed; `order` counts from 1."""

    api_version: str
    kind: str
    name: str
    namespace: str
    order: int
    created: bool
    fields: tuple[FieldChange, ...] = ()

    @property
    def key(self) -> str:
        """The key of the entry in the Secret."""
        # Keys of a Secret: alphanumerics, `-`, `_`, `.`, at most 253 (Kubernetes, api/core/v1, Secret.Data).
        return re.sub(r"[^A-Za-z0-9._-]", "-", f"{self.kind}.{self.namespace or 'cluster'}.{self.name}")[:250]

    @property
    def written(self) -> dict[str, Any]:
        """All fields that hub-import wrote into the object."""
        found: Any = {}
        for one in self.fields:
            found = _with(found, one.path, one.after)
        return dict(found)

    def merged(self, other: Entry) -> Entry:
        """Return this entry with the fields of a later apply: the oldest `before` stays, the newest `after` counts.

        In lists and registry credentials, foreign changes in between count as before.
        """
        known = {one.path: one for one in self.fields}
        for one in other.fields:
            # A map that the first apply created whole is one field: a later change inside it belongs to that field.
            above = next((one.path[:end] for end in range(1, len(one.path) + 1) if one.path[:end] in known), None)
            if above is None:
                known[one.path] = one
            else:
                old = known[above]
                before = rebased(old.before, old.after, one.before) if above == one.path else old.before
                known[above] = replace(old, before=before, after=_with(old.after, one.path[len(above) :], one.after))
        return replace(self, fields=tuple(known.values()))


@dataclass(slots=True)
class Recorder:
    """Writes the record of one cluster. `namespace`: where it is kept; `dry_run`: nothing is written, sizes are checked."""

    client: ClusterClient
    namespace: str = CONFIG_NAMESPACE
    dry_run: bool = False
    _entries: dict[str, Entry] | None = field(default=None)
    _unwritten: dict[str, str] | None = field(default=None)  # of a dry run: the record as it would be

    def rehearsal(self) -> Recorder:
        """Return a recorder that writes nothing, and refuses a record that would be too large."""
        return self if self.dry_run else Recorder(self.client, self.namespace, dry_run=True)

    def note(self, kind: Kind, name: str, namespace: str, live: Body | None, wanted: Mapping[str, Any]) -> None:
        """Record a change before it is made: `live` (None: created) gets the fields of `wanted`. Raises ClusterError."""
        entries = self._known()
        content = _content(wanted)
        fields = tuple(_fields(live or {}, needed_patch(live or {}, content), content))
        # Nothing will change, so there is nothing to restore.
        if not fields:
            return
        order = max((one.order for one in entries.values()), default=0) + 1
        entry = Entry(kind.api_version, kind.name, name, namespace, order, live is None, fields)
        old = entries.get(entry.key)
        entry = old.merged(entry) if old else entry
        # A repeated apply does not write the record.
        if entry != old:
            self._write({entry.key: _encoded(entry)})
            entries[entry.key] = entry

    def change(self, kind: Kind, name: str, namespace: str, path: tuple[str, ...]) -> FieldChange | None:
        """Return the recorded change of a field; None without one. Raises ClusterError."""
        for entry in self._known().values():
            if (entry.kind, entry.name, entry.namespace) == (kind.name, name, namespace):
                return next((one for one in entry.fields if one.path == path), None)
        return None

    def _known(self) -> dict[str, Entry]:
        if self._entries is None:
            self._entries = {one.key: one for one in load(self.client, self.namespace)}
        return self._entries

    def expect(
        self,
        catalogs: Iterable[ExpectedCatalog],
        releases: Iterable[ExpectedRelease] = (),
        archive: ImportedArchive | None = None,
        pulls: Iterable[PullImage] = (),
    ) -> None:
        """Keep what the cluster has to serve, so that `status` and `doctor` need no archive. Raises ClusterError.

        What the record has already is not written again. Releases of earlier archives stay. `archive`: the one imported;
        `pulls`: its images for pull tests.
        """
        values = {_catalog_key(each): _packed(each) for each in catalogs}
        values |= {_release_key(each): _packed(each) for each in releases}
        live = (self.client.get(SECRET, NAME, self.namespace) or {}).get("data") or {}
        if archive is not None:
            known = [each for each in _imported(live) if each.digest != archive.digest]
            values[_ARCHIVES] = _packed([*known, archive][-_MAX_ARCHIVES:])
        if wanted := {each.architecture: each for each in pulls}:
            # Architectures that this archive does not carry keep the image of an earlier one.
            merged = {**{each.architecture: each for each in _pulls(live)}, **wanted}
            values[_PULLS] = _packed([merged[each] for each in sorted(merged)])
        fresh = {key: value for key, value in values.items() if live.get(key) != value}
        if fresh:
            self._write(fresh)

    def _write(self, data: Mapping[str, str]) -> None:
        if self.dry_run:
            if self._unwritten is None:
                self._unwritten = dict((self.client.get(SECRET, NAME, self.namespace) or {}).get("data") or {})
            self._unwritten |= data
            self._require_room(self._unwritten, data)
            return
        live = self.client.get(SECRET, NAME, self.namespace)
        self._require_room({**((live or {}).get("data") or {}), **data}, data)
        if live is None:
            metadata = {"name": NAME, "namespace": self.namespace, "labels": dict(OWN_LABELS)}
            self.client.create(SECRET, {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": dict(data)})
        else:
            self.client.merge_patch(SECRET, NAME, self.namespace, {"data": dict(data)})

    def _require_room(self, data: Mapping[str, Any], fresh: Iterable[str]) -> None:
        """Raise ClusterError for a record that would be too large; `fresh`: the keys that are being written."""
        # In base64: more than the decoded bytes, which the limit of 1 MiB counts.
        size = sum(len(str(value)) for value in data.values())
        if size > MAX_SIZE:
            raise self._full(f"has {size} bytes; the limit is {MAX_SIZE}")
        # A record that cannot be read again would stop undo, and every later apply.
        if not all(key.startswith(_EXPECTED) for key in fresh):
            try:
                deque(_documents(data, _MAX_WRITTEN), maxlen=0)
            except ClusterError as error:
                raise self._full(
                    f"would be too large to be read again: {_MAX_WRITTEN} bytes, unpacked, are the limit"
                ) from error

    def _full(self, why: str) -> ClusterError:
        return ClusterError(
            f"the record of changes {why}",
            hint=f"Save Secret {NAME} of {self.namespace}, delete it, and apply again: undo then starts from that state.",
        )


def record_namespace(client: ClusterClient) -> str:
    """Return the namespace of the record: that of the configuration, or without OpenShift that of the catalogs."""
    # The namespace of the pull secret, so that its former values are not readable for more accounts than its present one.
    if client.get(CLUSTER_VERSION, "version") is not None:
        return CONFIG_NAMESPACE
    return MARKETPLACE if microshift_version(client) is not None else PLAIN_OLM


def load(client: ClusterClient, namespace: str) -> list[Entry]:
    """Return the recorded entries, in the order of the changes; none without a record. Raises ClusterError."""
    live = client.get(SECRET, NAME, namespace)
    entries = (_decoded(key, raw) for key, raw in _documents((live or {}).get("data") or {}))
    return sorted(entries, key=position)


def position(entry: Entry) -> tuple[int, bool]:
    """Return where an entry is in the order of the changes."""
    # A ClusterServiceVersion shares the number of what was written before its Subscription, and is undone before that.
    return entry.order, entry.kind == CLUSTER_SERVICE_VERSION.name


def expected_catalogs(client: ClusterClient, namespace: str) -> list[ExpectedCatalog]:
    """Return what the last apply of each catalog expected, by name. Values that cannot be read are left out."""
    data: Mapping[str, str] = (client.get(SECRET, NAME, namespace) or {}).get("data") or {}
    values = (
        value
        for key, value in sorted(data.items())
        if key.startswith(_EXPECTED) and not key.startswith(_RELEASES) and key not in (_ARCHIVES, _PULLS)
    )
    return _all_unpacked(values, _CATALOG)


def recorded_releases(client: ClusterClient, namespace: str) -> list[ExpectedRelease]:
    """Return the releases that imports have brought. Values that cannot be read are left out."""
    data: Mapping[str, str] = (client.get(SECRET, NAME, namespace) or {}).get("data") or {}
    return _all_unpacked((value for key, value in sorted(data.items()) if key.startswith(_RELEASES)), _RELEASE)


def imported_archives(client: ClusterClient, namespace: str) -> tuple[ImportedArchive, ...]:
    """Return the archives that were imported, the last one last; none where an earlier version made the record."""
    return _imported((client.get(SECRET, NAME, namespace) or {}).get("data") or {})


def _imported(data: Mapping[str, str]) -> tuple[ImportedArchive, ...]:
    # The Secret may have been edited: names are checked as those of an archive are.
    found = (_unpacked(data[_ARCHIVES], _IMPORTED) if _ARCHIVES in data else None) or []
    return tuple(replaced(each, name=each.name if is_name(each.name) else "") for each in found[-_MAX_ARCHIVES:])


def pull_images(client: ClusterClient, namespace: str) -> tuple[PullImage, ...]:
    """Return the images that pull tests use; none where an earlier version made the record."""
    return _pulls((client.get(SECRET, NAME, namespace) or {}).get("data") or {})


def _pulls(data: Mapping[str, str]) -> tuple[PullImage, ...]:
    found = (_unpacked(data[_PULLS], _PULL_IMAGES) if _PULLS in data else None) or []
    return tuple(found[:_MAX_PULLS])


def keep(client: ClusterClient, namespace: str, entry: Entry) -> None:
    """Add an entry to an existing record, for an undo that may be interrupted. Raises ClusterError."""
    client.merge_patch(SECRET, NAME, namespace, {"data": {entry.key: _encoded(entry)}})


def forget(client: ClusterClient, namespace: str, key: str) -> None:
    """Remove an entry from the record, and the record itself when none is left."""
    # Another import may write to it meanwhile. After the last try the entry stays, and `undo` can be repeated.
    with suppress(ConflictError):
        retry(lambda: _forget(client, namespace, key), CONFLICT_POLICY, on=ConflictError)


def _forget(client: ClusterClient, namespace: str, key: str) -> None:
    live = client.get(SECRET, NAME, namespace)
    if live is None:
        return
    left = set(live.get("data") or {}) - {key}
    # After the last entry nothing of hub-import is left in the cluster, so nothing is expected either.
    if all(each.startswith(_EXPECTED) for each in left):
        client.delete(SECRET, NAME, namespace, only=unchanged(live))
    else:
        client.merge_patch(SECRET, NAME, namespace, {"data": {key: None}})


def _fields(
    live: Mapping[str, Any], patch: Mapping[str, Any], wanted: Mapping[str, Any], path: tuple[str, ...] = ()
) -> Iterator[FieldChange]:
    """Yield each field that a patch sets: whole where it did not exist, else the deepest that differ.

    `wanted` is what the patch was made for: its lists have own items only, while those of the patch have foreign items too.
    """
    for key, value in patch.items():
        current = live.get(key)
        # Down to single fields: others may change their neighbours before undo.
        if isinstance(value, Mapping) and isinstance(current, Mapping) and len(path) < _MAX_DEPTH:
            yield from _fields(current, value, wanted[key], (*path, key))
        else:
            here = (*path, key)
            yield FieldChange(here, key in live, current, as_recorded(wanted[key], here))


def _with(value: Any, path: tuple[str, ...], new: Any) -> Any:
    """Return a copy of a value with `new` at a path below it."""
    if not path:
        return new
    inside = dict(value) if isinstance(value, Mapping) else {}
    return {**inside, path[0]: _with(inside.get(path[0]), path[1:], new)}


def _content(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of an object, without its identity and status."""
    metadata = {key: value for key, value in (wanted.get("metadata") or {}).items() if key in ("labels", "annotations")}
    body = {key: value for key, value in wanted.items() if key not in ("apiVersion", "kind", "metadata", "status")}
    return {**body, **({"metadata": metadata} if metadata else {})}


def _encoded(entry: Entry) -> str:
    document = {
        "apiVersion": entry.api_version,
        "kind": entry.kind,
        "name": entry.name,
        "namespace": entry.namespace,
        "order": entry.order,
        "created": entry.created,
        "fields": [
            {"path": list(one.path), "after": one.after, **({"before": one.before} if one.existed else {})}
            for one in entry.fields
        ],
    }
    raw = json.dumps(document, sort_keys=True).encode()
    return base64.b64encode(zlib.compress(raw, 9) if len(raw) > COMPRESSED_FROM else raw).decode()


def _documents(data: Mapping[str, Any], room: int = _MAX_UNPACKED) -> Iterator[tuple[str, bytes]]:
    """Yield the JSON of each entry, with its key. Raises ClusterError for one beyond the limits of all, or of its own."""
    for key, value in data.items():
        if key.startswith(_EXPECTED):
            continue
        try:
            raw = _plain(base64.b64decode(str(value), validate=True), room)
        except (ValueError, binascii.Error, zlib.error, msgspec.ValidationError) as error:
            raise _unreadable(key) from error
        room = max(room - len(raw), 0)
        yield key, raw


def _decoded(key: str, raw: bytes) -> Entry:
    try:
        document = json.loads(raw)
        fields = tuple(_decoded_field(one) for one in document["fields"])
        return Entry(
            str(document["apiVersion"]),
            str(document["kind"]),
            str(document["name"]),
            str(document["namespace"]),
            int(document["order"]),
            bool(document["created"]),
            fields,
        )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _unreadable(key) from error


def _unreadable(key: str) -> ClusterError:
    return ClusterError(f"the record of changes cannot be read, at {key}", hint=f"See Secret {NAME}; nothing was changed.")


def _plain(raw: bytes, room: int) -> bytes:
    """Return the JSON of an entry, compressed where it is large. Raises ValueError, zlib.error, ValidationError."""
    if raw.startswith(b"{"):
        return raw
    found = _inflated(raw, room)
    require_bounded_values(found)  # an empty list takes three bytes of JSON and 64 of memory
    return found


def _inflated(raw: bytes, most: int) -> bytes:
    # Bounded: the Secret may have been edited.
    found = zlib.decompressobj().decompress(raw, most + 1)
    if len(found) > most:
        raise ValueError(f"more than {most} bytes")
    return found


def _decoded_field(document: Mapping[str, Any]) -> FieldChange:
    path = tuple(map(str, document["path"]))
    # Records from before ADR 0075 have the content.
    return FieldChange(path, "before" in document, document.get("before"), as_recorded(document["after"], path))


def _catalog_key(expected: ExpectedCatalog) -> str:
    return _EXPECTED + re.sub(r"[^A-Za-z0-9._-]", "-", expected.name)[:200]


def _release_key(expected: ExpectedRelease) -> str:
    return _RELEASES + re.sub(r"[^A-Za-z0-9._-]", "-", f"{expected.version}.{expected.architecture}")[:200]


def _packed(expected: ExpectedCatalog | ExpectedRelease | list[ImportedArchive] | list[PullImage]) -> str:
    # Compressed: the packages of several catalogs share the limit of one Secret.
    return base64.b64encode(zlib.compress(msgspec.json.encode(expected, order="sorted"), 9)).decode()


def _unpacked(value: str, decoder: msgspec.json.Decoder[T]) -> T | None:
    return next(iter(_all_unpacked((value,), decoder)), None)


def _all_unpacked(values: Iterable[str], decoder: msgspec.json.Decoder[T]) -> list[T]:
    """Return what can be read, and is not too large together."""
    room, found = _MAX_CATALOGS, list[T]()
    for value in values:
        with suppress(ValueError, TypeError, zlib.error, binascii.Error, msgspec.MsgspecError, RecursionError):
            raw = _inflated(base64.b64decode(value, validate=True), min(room, _MAX_CATALOG))
            found.append(decode_bounded(raw, decoder))
            room -= len(raw)
    return found
