"""Who owns which field: the managed fields of server-side apply.

A path is a tuple of keys from the root; a manager owns leaves. Items of lists with merge keys have a path of their own
(`k:{"name":"web"}`, as structured-merge-diff writes it); every other list is one field: those of the custom kinds are atomic.
The merge keys are those of Kubernetes' api/core/v1/types.go (`patchMergeKey`, `listMapKey`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.copies import copied

Path = tuple[str, ...]
_MERGE_KEYS: dict[str, tuple[tuple[str, ...], ...]] = {
    "containers": (("name",),),
    "initContainers": (("name",),),
    "env": (("name",),),
    "volumes": (("name",),),
    "volumeMounts": (("mountPath",),),
    "ports": (("containerPort", "protocol"), ("port", "protocol")),
}
_NOBODYS = {"apiVersion", "kind", "status"}
_OWNED_METADATA = {"labels", "annotations", "finalizers", "ownerReferences"}


@dataclass
class Owners:
    """The owned leaves of one object, by (manager, operation)."""

    fields: dict[tuple[str, str], set[Path]] = field(default_factory=dict)

    def copy(self) -> Owners:
        return Owners({who: set(paths) for who, paths in self.fields.items()})

    def conflicts(self, manager: str, applied: dict[str, Any], live: dict[str, Any]) -> list[tuple[str, Path]]:
        """Return (manager, path) for every field that is another's and would get another value."""
        found = []
        for (who, operation), paths in sorted(self.fields.items()):
            if (who, operation) == (manager, "Apply"):
                continue
            found += [(who, path) for path in sorted(paths & leaves(applied)) if at(applied, path) != at(live, path)]
        return found

    def apply(self, manager: str, applied: dict[str, Any], live: dict[str, Any], *, force: bool) -> dict[str, Any]:
        """Return `live` with the applied fields, without those that the manager owned alone and no longer names."""
        mine = leaves(applied)
        lost = {path for _, path in self.conflicts(manager, applied, live)} if force else set()
        for who, paths in self.fields.items():
            if who != (manager, "Apply"):
                paths.difference_update(lost)
        dropped = self.fields.get((manager, "Apply"), set()) - mine
        others = {path for who, paths in self.fields.items() if who != (manager, "Apply") for path in paths}
        result = copied(live)
        for path in dropped - others:
            _remove(result, path)
        for path in mine:
            _put(result, path, at(applied, path))
        self.fields[manager, "Apply"] = mine
        self._tidy()
        return result

    def update(self, manager: str, before: dict[str, Any], after: dict[str, Any]) -> None:
        """Note that a manager wrote: what it changed is now its own, and nobody else's."""
        changed = {path for path in leaves(after) if at(before, path) != at(after, path)}
        gone = leaves(before) - leaves(after)
        for paths in self.fields.values():
            paths.difference_update(changed | gone)
        if changed:
            self.fields.setdefault((manager, "Update"), set()).update(changed)
        self._tidy()

    def document(self, api_version: str) -> list[dict[str, Any]]:
        """Return it as `metadata.managedFields`."""
        return [
            {"manager": who, "operation": how, "apiVersion": api_version, "fieldsType": "FieldsV1", "fieldsV1": _tree(paths)}
            for (who, how), paths in sorted(self.fields.items())
        ]

    def _tidy(self) -> None:
        self.fields = {who: paths for who, paths in self.fields.items() if paths}


def leaves(body: dict[str, Any]) -> set[Path]:
    """Return the paths of all fields that can have an owner."""
    found = {path for key, value in body.items() if key not in _NOBODYS | {"metadata"} for path in _leaves(value, (key,))}
    for key, value in (body.get("metadata") or {}).items():
        if key in _OWNED_METADATA:
            found |= set(_leaves(value, ("metadata", key)))
    return found


def _leaves(value: Any, path: Path) -> Iterator[Path]:
    inside = _keyed(path[-1], value) if isinstance(value, list) else value
    if isinstance(inside, dict) and inside:
        for key, inner in inside.items():
            yield from _leaves(inner, (*path, key))
    else:
        yield path


def _keyed(name: str, value: Any) -> dict[str, Any] | None:
    """Return a list's items by their merge keys; None for a list that is one field."""
    for keys in _MERGE_KEYS.get(name, ()):
        if value and all(isinstance(item, dict) and all(key in item for key in keys) for item in value):
            return {_item_key(item, keys): item for item in value}
    return None


def _item_key(item: dict[str, Any], keys: tuple[str, ...]) -> str:
    return "k:" + json.dumps({key: item[key] for key in keys}, sort_keys=True, separators=(",", ":"))


def _item(items: Any, key: str) -> Any:
    """Return the item of a list that a path names; None where there is none."""
    wanted = json.loads(key.removeprefix("k:"))
    found = (each for each in items if isinstance(each, dict) and wanted.items() <= each.items())
    return next(found, None) if isinstance(items, list) else None


def at(body: Any, path: Path) -> Any:
    """Return the value at a path; None where there is none."""
    for key in path:
        if key.startswith("k:"):
            body = _item(body, key)
        elif not isinstance(body, dict) or key not in body:
            return None
        else:
            body = body[key]
    return body


def _put(body: Any, path: Path, value: Any) -> None:
    *parents, last = path
    for key, after in zip(parents, path[1:], strict=True):
        body = _inner(body, key, [] if after.startswith("k:") else {})
    if value == {} and isinstance(body.get(last), dict):
        return
    body[last] = copied(value)


def _inner(body: Any, key: str, empty: Any) -> Any:
    """Return what stands under a key, made where it is not there."""
    if key.startswith("k:"):
        found = _item(body, key)
        if found is None:
            found = json.loads(key.removeprefix("k:"))
            body.append(found)
        return found
    if not isinstance(body.get(key), type(empty)):
        body[key] = empty
    return body[key]


def _remove(body: Any, path: Path) -> None:
    """Remove a field, and the fields above it that are empty then, below `spec` (structured-merge-diff, `removingWalker.doMap`)."""
    parent = at(body, path[:-1])
    if isinstance(parent, dict):
        parent.pop(path[-1], None)
    if parent is not None and len(path) > 1 and path[-2].startswith("k:") and path[-1] in json.loads(path[-2][2:]):
        at(body, path[:-2]).remove(parent)  # an item without its key is none
    elif parent == {} and len(path) > 2 and not path[-2].startswith("k:"):
        _remove(body, path[:-1])


def _tree(paths: set[Path]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path in sorted(paths):
        place = tree
        for key in path:
            place = place.setdefault(key if key.startswith("k:") else f"f:{key}", {})
    return tree
