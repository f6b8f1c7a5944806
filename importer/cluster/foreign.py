"""What stands in an object of ours and was written by others: fields, keys of ConfigMaps, labels, annotations. Pure.

Kubernetes 1.18 and later say who wrote each field (`metadata.managedFields`); what no manager owns is a default of the API
server, or an admission webhook's. Earlier ones do not say, so there only what no server adds counts: keys of data, labels and
annotations, further items of lists, and fields of custom kinds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from importer.cluster.client import FIELD_MANAGER, Body
from importer.cluster.differences import item_named

Path = tuple[str, ...]
_UPGRADED = "before-first-apply"  # owns all of an object that is older than managedFields
_DATA = (("data",), ("binaryData",), ("metadata", "labels"), ("metadata", "annotations"))
_BUILT_IN = frozenset(("v1", "apps/v1", "networking.k8s.io/v1"))
# Stamps of tools and controllers, without a meaning once the object is gone.
_STAMPS = frozenset(
    (
        "deployment.kubernetes.io/revision",
        "kubectl.kubernetes.io/last-applied-configuration",
        "kubectl.kubernetes.io/restartedAt",
    )
)
_MAX_DEPTH = 64


def foreign_fields(live: Body, written: Mapping[str, Any]) -> list[Path]:
    """Return the paths of what others put into an object, `written` being all that we put there."""
    entries = _entries(live)
    known = any(each.get("manager") == FIELD_MANAGER for each in entries)
    known = known and not any(each.get("manager") == _UPGRADED for each in entries)
    paths = _managed(entries) if known else _beside(live, written)
    found = (path for path in paths if _is_data(path) and not _is_written(live, written, path))
    return sorted(set(found))


def recreated_fields(live: Body, written: Mapping[str, Any]) -> list[Path]:
    """Return the fields of an object that another manager created again with content that we had written; none of any other.

    The API server knows the managers of such an object, and hub-import is not one of them.
    """
    entries = [each for each in _entries(live) if each.get("subresource") != "status"]
    if not entries or {each.get("manager") for each in entries} & {FIELD_MANAGER, _UPGRADED}:
        return []
    owned = sorted({path for path in _managed(entries) if _is_data(path) and value_at(live, path)[0]})
    # What undo has emptied of our keys has no field of ours either; nothing in it is as we wrote it.
    return owned if any(value_at(live, path) == value_at(written, path) for path in owned) else []


def _entries(live: Body) -> list[Mapping[str, Any]]:
    return (live.get("metadata") or {}).get("managedFields") or []


def shown(path: Path) -> str:
    """Return a path for people: `spec.template.spec.containers[sidecar].image`."""
    text = ""
    for step in path:
        if step.startswith("k:"):
            text += f"[{', '.join(str(value) for value in _key(step).values())}]"
        else:
            text += f".{step}" if text else step
    return text


def value_at(body: Any, path: Path) -> tuple[bool, Any]:
    """Return whether something stands at a path, and what."""
    for step in path:
        if step.startswith("k:"):
            body = item_named(body, _key(step))
            if body is None:
                return False, None
        elif not isinstance(body, Mapping) or step not in body:
            return False, None
        else:
            body = body[step]
    return True, body


def _managed(entries: list[Mapping[str, Any]]) -> Iterator[Path]:
    for entry in entries:
        if entry.get("manager") != FIELD_MANAGER and entry.get("subresource") != "status":
            yield from _owned(entry.get("fieldsV1") or {}, ())


def _owned(tree: Mapping[str, Any], path: Path) -> Iterator[Path]:
    """Give the leaves of a set of fields (FieldsV1 of meta/v1: `f:` a field, `k:` an item by its key, `v:` one of a set)."""
    for key, inner in tree.items():
        if key == "." or len(path) > _MAX_DEPTH:
            continue
        if key.startswith("v:"):
            yield path
        else:
            here = (*path, key.removeprefix("f:"))
            if set(inner) - {"."}:
                yield from _owned(inner, here)
            else:
                yield here


def _beside(live: Body, written: Mapping[str, Any]) -> Iterator[Path]:
    for place in _DATA:
        yield from _further(value_at(live, place)[1], value_at(written, place)[1], place, fields=True)
    custom = live.get("apiVersion") not in _BUILT_IN
    yield from _further(live.get("spec"), written.get("spec"), ("spec",), fields=custom)


def _further(live: Any, written: Any, path: Path, *, fields: bool) -> Iterator[Path]:
    """Give what stands there and was not written: items of lists, and with `fields` also those of maps."""
    if isinstance(live, list) and isinstance(written, list):
        if len(live) > len(written):
            yield path
        for item, ours in zip(live, written, strict=False):
            yield from _further(item, ours, path, fields=False)
    elif isinstance(live, Mapping) and len(path) < _MAX_DEPTH:
        ours = written if isinstance(written, Mapping) else {}
        for key, value in live.items():
            if key in ours:
                yield from _further(value, ours[key], (*path, key), fields=fields)
            elif fields:
                yield (*path, key)


def _is_data(path: Path) -> bool:
    if path[0] == "metadata":
        return path[1:2] in {("labels",), ("annotations",)} and path[-1] not in _STAMPS
    return path[0] not in {"apiVersion", "kind", "status"} and path[-1] not in _STAMPS


def _is_written(live: Body, written: Mapping[str, Any], path: Path) -> bool:
    """Say whether we put the same there, or nothing stands there any more."""
    found, value = value_at(live, path)
    ours, wanted = value_at(written, path)
    return not found or value in ({}, [], None) or (ours and bool(value == wanted))


def _key(step: str) -> dict[str, Any]:
    try:
        found = json.loads(step.removeprefix("k:"))
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {}
