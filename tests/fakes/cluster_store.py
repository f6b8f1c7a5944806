"""The objects of the fake cluster, and what the verbs do to them: versions, generations, schemas, owners, history."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.fakes import cluster_defaults
from tests.fakes.cluster_fields import Owners
from tests.fakes.cluster_kinds import Served, Shape
from tests.fakes.copies import copied

Body = dict[str, Any]
_SERVERS = ("uid", "creationTimestamp", "generation", "resourceVersion", "managedFields")


class RefusedError(Exception):
    """An answer that is a Status object."""

    def __init__(self, code: int, reason: str, message: str, causes: list[dict[str, str]] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.body = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": message,
            "reason": reason,
            "details": {"causes": causes or []},
            "code": code,
        }


@dataclass(frozen=True)
class Key:
    kind: Served
    namespace: str
    name: str

    def __str__(self) -> str:
        return f'{self.kind.resource} "{self.name}"'


@dataclass(frozen=True)
class Event:
    """One line of a watch."""

    version: int
    type: str
    key: Key
    body: Body


@dataclass(frozen=True)
class Write:
    """How a write was asked for."""

    manager: str
    dry_run: bool = False
    strict: bool = False


class Store:
    """All objects, under one lock; `changed` wakes watches up."""

    def __init__(self, kinds: tuple[Served, ...]) -> None:
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self.events: list[Event] = []
        self.pruned: list[str] = []
        self.keeps_owners = True  # False: as Kubernetes before 1.18, which says nothing of who wrote a field (KEP-555)
        self.version = 100
        self._objects: dict[Key, Body] = {}
        self._owners: dict[Key, Owners] = {}
        self._shapes = {kind: Shape(kind.schema) for kind in kinds if kind.schema is not None}

    def find(self, key: Key) -> Body | None:
        with self.lock:
            return copied(self._objects.get(key))

    def get(self, key: Key) -> Body:
        found = self.find(key)
        if found is None:
            raise RefusedError(404, "NotFound", f"{key} not found")
        return found

    def keys(self, kind: Served, namespace: str = "") -> list[Key]:
        with self.lock:
            found = [key for key in self._objects if key.kind == kind and namespace in {"", key.namespace}]
        return sorted(found, key=lambda key: (key.namespace, key.name))

    def all_keys(self) -> list[Key]:
        with self.lock:
            return list(self._objects)

    def create(self, key: Key, body: Body, write: Write) -> Body:
        with self.lock:
            if key in self._objects:
                raise RefusedError(409, "AlreadyExists", f"{key} already exists")
            owners = Owners()
            body = self._shaped(key, self._without_status(key, body), write)
            owners.update(write.manager, {}, body)
            return self._commit(key, body, owners, write)

    def replace(self, key: Key, body: Body, write: Write) -> Body:
        with self.lock:
            live = self.get(key)
            self._require_version(key, live, body)
            return self._update(key, live, body, write)

    def merge_patch(self, key: Key, patch: Any, write: Write) -> Body:
        with self.lock:
            live = self.get(key)
            self._require_version(key, live, patch)
            return self._update(key, live, _merged(live, patch), write)

    def apply(self, key: Key, applied: Body, write: Write, *, force: bool) -> Body:
        with self.lock:
            live = self._objects.get(key)
            owners = self._owners.get(key, Owners()).copy()
            if (version := (applied.get("metadata") or {}).get("resourceVersion")) and live:
                self._require_version(key, live, {"metadata": {"resourceVersion": version}})
            applied = self._shaped(key, self._without_status(key, applied), write, default=False)
            conflicts = owners.conflicts(write.manager, applied, live or {})
            if conflicts and not force:
                raise _conflict(key, conflicts)
            start = live or {"metadata": {}}
            body = owners.apply(write.manager, applied, start, force=force)
            return self._commit(key, self._shaped(key, body, write), owners, write)

    def delete(self, key: Key, preconditions: Mapping[str, str] | None = None) -> Body:
        """Take an object away, if its uid and version are those of the preconditions (DeleteOptions, meta/v1)."""
        with self.lock:
            body = self.get(key)
            for name, wanted in (preconditions or {}).items():
                if body["metadata"].get(name) != wanted:
                    message = f"the {name} in the precondition ({wanted}) does not match that of the record"
                    raise RefusedError(409, "Conflict", f"Operation cannot be fulfilled on {key}: {message}")
            del self._objects[key]
            self._owners.pop(key, None)
            self.version += 1
            self._tell("DELETED", key, body)
            return body

    def set_status(self, key: Key, status: Body) -> None:
        """Write the status as a controller does: a new version, the same generation, no owner's business."""
        with self.lock:
            live = self._objects[key]
            if live.get("status") != status:
                self._put(key, {**copied(live), "status": copied(status)})

    def _update(self, key: Key, live: Body, body: Body, write: Write) -> Body:
        owners = self._owners.get(key, Owners()).copy()
        body = self._without_status(key, body)
        if "status" in live and key.kind.has_status:
            body = {**body, "status": live["status"]}
        body = self._shaped(key, body, write)
        owners.update(write.manager, live, body)
        return self._commit(key, body, owners, write)

    def _commit(self, key: Key, body: Body, owners: Owners, write: Write) -> Body:
        """Store a whole object. One that stays as it is keeps its version, and watches hear nothing."""
        live = self._objects.get(key)
        body = self._with_metadata(key, body, live, owners)
        if live is not None and live == body:
            return copied(live)
        if live is not None and _content(live) != _content(body):
            body["metadata"]["generation"] = live["metadata"]["generation"] + 1
        if not write.dry_run:
            self._owners[key] = owners
            self._put(key, body)
        return copied(body)

    def _put(self, key: Key, body: Body) -> None:
        self.version += 1
        kind = "MODIFIED" if key in self._objects else "ADDED"
        body["metadata"]["resourceVersion"] = str(self.version)
        self._objects[key] = body
        self._tell(kind, key, body)

    def _tell(self, kind: str, key: Key, body: Body) -> None:
        self.events.append(Event(self.version, kind, key, copied(body)))
        self.changed.notify_all()

    def _with_metadata(self, key: Key, body: Body, live: Body | None, owners: Owners) -> Body:
        given = {name: value for name, value in (body.get("metadata") or {}).items() if name not in _SERVERS}
        place = {"name": key.name, "namespace": key.namespace} if key.kind.namespaced else {"name": key.name}
        kept = {name: live["metadata"][name] for name in _SERVERS if name in live["metadata"]} if live else _new()
        metadata = {**given, **place, **kept}
        if self.keeps_owners:
            metadata["managedFields"] = owners.document(key.kind.api_version)
        return {**body, "apiVersion": key.kind.api_version, "kind": key.kind.kind, "metadata": metadata}

    def _shaped(self, key: Key, body: Body, write: Write, *, default: bool = True) -> Body:
        """Prune, default and check a body against the schema of its kind."""
        body = copied(body)
        if default:
            cluster_defaults.fill(key.kind.kind, key.name, body)
        shape = self._shapes.get(key.kind)
        if shape is None:
            return body
        unknown = shape.prune(body)
        if unknown and write.strict:
            raise RefusedError(400, "BadRequest", f"strict decoding error: unknown field {', '.join(unknown)}")
        self.pruned += [f"{key}: {path}" for path in unknown]
        if default:
            shape.default(body)
            if errors := shape.errors({name: value for name, value in body.items() if name != "status"}):
                raise RefusedError(422, "Invalid", f"{key} is invalid: {'; '.join(errors)}")
        return body

    def _without_status(self, key: Key, body: Body) -> Body:
        return {name: value for name, value in body.items() if name != "status" or not key.kind.has_status}

    def _require_version(self, key: Key, live: Body, body: Any) -> None:
        wanted = (body.get("metadata") or {}).get("resourceVersion")
        if wanted and wanted != live["metadata"]["resourceVersion"]:
            message = "the object has been modified; please apply your changes to the latest version and try again"
            raise RefusedError(409, "Conflict", f"Operation cannot be fulfilled on {key}: {message}")


def _new() -> Body:
    return {"uid": str(uuid.uuid4()), "creationTimestamp": "2026-01-02T03:04:05Z", "generation": 1}


def _content(body: Body) -> Body:
    return {name: value for name, value in body.items() if name not in {"metadata", "status"}}


def _merged(live: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return copied(patch)
    result = dict(live) if isinstance(live, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _merged(result.get(key), value)
    return result


def _conflict(key: Key, conflicts: list[tuple[str, tuple[str, ...]]]) -> RefusedError:
    causes = [
        {
            "reason": "FieldManagerConflict",
            "message": f'conflict with "{manager}" using {key.kind.api_version}',
            "field": "." + ".".join(path),
        }
        for manager, path in conflicts
    ]
    managers = ", ".join(sorted({manager for manager, _ in conflicts}))
    return RefusedError(409, "Conflict", f"Apply failed with {len(causes)} conflict(s): conflicts with {managers}", causes)
