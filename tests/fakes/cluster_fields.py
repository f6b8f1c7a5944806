"""Who owns which field: the managed fields of server-side apply, with every list taken as one field.

A path is a tuple of keys from the root; a manager owns leaves. That is the truth for all kinds used here, whose lists are atomic
or sets that have one owner.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

Path = tuple[str, ...]
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
        result = copy.deepcopy(live)
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
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(inner, (*path, key))
    else:
        yield path


def at(body: Any, path: Path) -> Any:
    """Return the value at a path; None where there is none."""
    for key in path:
        if not isinstance(body, dict) or key not in body:
            return None
        body = body[key]
    return body


def _put(body: dict[str, Any], path: Path, value: Any) -> None:
    *parents, last = path
    for key in parents:
        inner = body.get(key)
        if not isinstance(inner, dict):
            inner = body[key] = {}
        body = inner
    if value == {} and isinstance(body.get(last), dict):
        return
    body[last] = copy.deepcopy(value)


def _remove(body: dict[str, Any], path: Path) -> None:
    *parents, last = path
    for key in parents:
        body = body.get(key, {})
        if not isinstance(body, dict):
            return
    body.pop(last, None)


def _tree(paths: set[Path]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path in sorted(paths):
        place = tree
        for key in path:
            place = place.setdefault(f"f:{key}", {})
    return tree
