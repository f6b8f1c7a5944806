"""What differs between two Kubernetes objects, for patches and for people. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from common.serialization import dump_yaml
from importer.cluster.kinds import SECRET

# Written by the server, or by controllers, whenever they like: no change of ours.
_SERVERS = frozenset(("managedFields", "resourceVersion", "generation", "uid", "creationTimestamp", "selfLink"))
_MAX_DEPTH = 64


def needed_patch(live: Mapping[str, Any], wanted: Mapping[str, Any], depth: int = 0) -> dict[str, Any]:
    """Return the JSON merge patch (RFC 7386) that gives `live` the fields of `wanted`; empty when it has them all.

    A field that is wanted as None shall not be there.
    """
    patch: dict[str, Any] = {}
    for key, value in wanted.items():
        current = live.get(key)
        if isinstance(value, Mapping) and isinstance(current, Mapping) and depth < _MAX_DEPTH:
            if inner := needed_patch(current, value, depth + 1):
                patch[key] = inner
        elif current != value or (key not in live and value is not None):
            patch[key] = value
    return patch


def differing(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return the fields that differ, as dotted paths; status and what the server keeps for itself do not count."""
    return sorted(_paths(_ours(before), _ours(after), "", 0))


def diff_lines(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what differs as lines that begin with - or +, under the name of the object; nothing where nothing does.

    The content of a Secret is not shown.
    """
    old, new = (dump_yaml(_shown(each)).splitlines() if each else [] for each in (before, after))
    if old == new:
        return ()
    metadata = after.get("metadata") or {}
    name = "/".join(filter(None, (str(after.get("kind")), metadata.get("namespace"), metadata.get("name"))))
    return tuple(difflib.unified_diff(old, new, f"a/{name}", f"b/{name}", n=1, lineterm=""))


def _shown(body: Mapping[str, Any]) -> dict[str, Any]:
    ours = _ours(body)
    shown = {name: ours[name] for name in ("apiVersion", "kind", "metadata") if name in ours} | ours
    if body.get("kind") == SECRET.name:
        hidden = {key: f"({len(str(value))} characters, not shown)" for key, value in (body.get("data") or {}).items()}
        shown = {**shown, "data": hidden}
    return shown


def _ours(body: Mapping[str, Any]) -> dict[str, Any]:
    metadata = {key: value for key, value in (body.get("metadata") or {}).items() if key not in _SERVERS}
    return {**{key: value for key, value in body.items() if key != "status"}, "metadata": metadata}


def _paths(before: Any, after: Any, path: str, depth: int) -> Iterator[str]:
    if not (isinstance(before, Mapping) and isinstance(after, Mapping)) or depth > _MAX_DEPTH:
        if before != after:
            yield path
        return
    for key in before.keys() | after.keys():
        yield from _paths(before.get(key), after.get(key), f"{path}.{key}" if path else str(key), depth + 1)
