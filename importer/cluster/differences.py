"""Differences of Kubernetes objects: merge patches, former values, and diffs for people. Pure."""

from __future__ import annotations

import base64
import difflib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from common.serialization import dump_yaml
from importer.cluster.kinds import SECRET

# The former value of a field, with foreign changes between two applies. Without them, `undo` after a second apply would
# remove what others added between the first and the second.

_AUTHS = "auths"


def docker_config(value: Any) -> dict[str, Any] | None:
    """Return a Docker configuration (`auths` by registry), as a Secret has it in base64; None for any other value."""
    try:
        document = json.loads(base64.b64decode(value, validate=True))
    except (ValueError, TypeError, RecursionError):
        return None
    return document if isinstance(document, dict) and isinstance(document.get(_AUTHS), dict) else None


def encoded(document: Mapping[str, Any]) -> str:
    """Return a Docker configuration as a Secret has it."""
    return base64.b64encode(json.dumps(document).encode()).decode()


def rebased(before: Any, after: Any, now: Any) -> Any:
    """Return `before` with the foreign changes since `after` was written; `now` is the present value.

    Items of lists and registry credentials that the apply changed are those of `before`; all others are those of `now`. A value
    of another type is returned unchanged.
    """
    # Unchanged since the last apply, the usual case.
    if now == after:
        return before
    if isinstance(before, list) and isinstance(after, list) and isinstance(now, list):
        # An item that the apply kept (it is in `before` and `after`) and that is missing now was removed by others.
        kept = [item for item in before if item in now or item not in after]
        return kept + [item for item in now if item not in before and item not in after]
    former, written, present = map(docker_config, (before, after, now))
    if former is None or written is None or present is None:
        return before
    # Other keys of a Docker configuration, such as credHelpers, are never written by hub-import.
    document = {**present, _AUTHS: _rebased_keys(former[_AUTHS], written[_AUTHS], present[_AUTHS])}
    return before if document == former else encoded(document)


def is_extended(before: Any, after: Any, now: Any) -> bool:
    """Return whether a list of names, or registry credentials, still have what the apply changed, and anything else."""
    if isinstance(after, list) and isinstance(now, list) and isinstance(before, list | None):
        former = before or []
        # Items that are objects may have been changed inside by others, who depend on the whole list.
        if any(isinstance(item, dict | list) for item in (*former, *after, *now)):
            return False
        added, removed = [item for item in after if item not in former], [item for item in former if item not in after]
        return all(item in now for item in added) and not any(item in now for item in removed)
    return changed_registries(before, after, now) == []


def changed_registries(before: Any, after: Any, now: Any) -> list[str] | None:
    """Return the registries whose credential the apply wrote and others have changed since; None for any other value."""
    former, written, present = map(docker_config, (before, after, now))
    if former is None or written is None or present is None:
        return None
    olds, applied, news = former[_AUTHS], written[_AUTHS], present[_AUTHS]
    own = sorted(key for key in olds.keys() | applied.keys() if olds.get(key) != applied.get(key))
    return [key for key in own if applied.get(key) != news.get(key)]


def _rebased_keys(before: Mapping[str, Any], after: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    changed = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    kept = {key: value if key in changed else now[key] for key, value in before.items() if key in changed or key in now}
    return {**kept, **{key: value for key, value in now.items() if key not in before and key not in changed}}


# The keys of list items in the built-in kinds (`listMapKey` in Kubernetes' api/core/v1/types.go).
_MERGE_KEYS = (("name",), ("containerPort", "protocol"), ("port", "protocol"), ("mountPath",))
# Written by the server or by controllers at any time: not a difference.
_SERVERS = frozenset(("managedFields", "resourceVersion", "generation", "uid", "creationTimestamp", "selfLink"))
# CRDs may nest as deep as they like, and Python recurses at most 1,000 calls.
_MAX_DEPTH = 64


def replaced_fields(live: Mapping[str, Any], patch: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Yield the paths of the fields that `live` has, and that a merge patch for it gives another value."""
    for key, value in patch.items():
        current, here = live.get(key), f"{path}.{key}"
        if isinstance(value, Mapping) and isinstance(current, Mapping) and here.count(".") < _MAX_DEPTH:
            yield from replaced_fields(current, value, here)
        elif current is not None:
            yield here


def needed_patch(live: Mapping[str, Any], wanted: Mapping[str, Any], depth: int = 0) -> dict[str, Any]:
    """Return the JSON merge patch (RFC 7386) that gives `live` the fields of `wanted`; empty when it has them all.

    A field that is wanted as None is removed. Items of lists may have more fields than the wanted ones.
    """
    patch: dict[str, Any] = {}
    for key, value in wanted.items():
        current = live.get(key)
        if isinstance(value, Mapping) and isinstance(current, Mapping) and depth < _MAX_DEPTH:
            if inner := needed_patch(current, value, depth + 1):
                patch[key] = inner
        elif isinstance(value, list) and isinstance(current, list) and depth < _MAX_DEPTH:
            # A merge patch replaces a list whole, so that the defaults that the API server added to its items are repeated.
            merged = _merged_list(current, value, depth + 1)
            if merged != current:
                patch[key] = merged
        elif current != value or (key not in live and value is not None):
            patch[key] = value
    return patch


def differing_values(live: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return the paths of the deepest fields of `wanted` that `live` lacks, or has with another value."""
    return sorted(_deepest(live, needed_patch(live, wanted), ()))


def _deepest(live: Mapping[str, Any], patch: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for key, value in patch.items():
        current = live.get(key)
        if isinstance(value, Mapping) and isinstance(current, Mapping):
            yield from _deepest(current, value, (*path, key))
        else:
            yield (*path, key)


def item_named(items: Any, key: Mapping[str, Any]) -> Any:
    """Return the item of a list that has the merge key `key`; None where there is none."""
    if not isinstance(items, list):
        return None
    return next((each for each in items if isinstance(each, Mapping) and key.items() <= each.items()), None)


def _merged_list(live: list[Any], wanted: list[Any], depth: int) -> list[Any]:
    """Return `live` with the wanted fields in its items, or `wanted` where the items have no key and differ."""
    # Without a key, such as mirrors of a rule or arguments of a container, position identifies an item.
    names = _merge_key(wanted)
    if names is None:
        same = len(live) == len(wanted) and all(_covers(*pair, depth) for pair in zip(live, wanted, strict=True))
        return live if same else wanted
    keys = [{name: item[name] for name in names} for item in wanted]
    merged = [_merged_item(item, keys, wanted, depth) for item in live]
    return [*merged, *(item for item, key in zip(wanted, keys, strict=True) if item_named(live, key) is None)]


def _merged_item(item: Any, keys: list[dict[str, Any]], wanted: list[Any], depth: int) -> Any:
    for key, each in zip(keys, wanted, strict=True):
        if isinstance(item, Mapping) and key.items() <= item.items():
            return _patched(item, needed_patch(item, each, depth))
    return item


def _merge_key(items: list[Any]) -> tuple[str, ...] | None:
    for names in _MERGE_KEYS:
        if items and all(isinstance(item, Mapping) and all(name in item for name in names) for item in items):
            return names
    return None


def _covers(live: Any, wanted: Any, depth: int) -> bool:
    if isinstance(live, Mapping) and isinstance(wanted, Mapping):
        return not needed_patch(live, wanted, depth)
    return bool(live == wanted)


def _patched(live: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """Apply a JSON merge patch (RFC 7386)."""
    result = dict(live)
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, Mapping):
            inside = result.get(key)
            result[key] = _patched(inside if isinstance(inside, Mapping) else {}, value)
        else:
            result[key] = value
    return result


def differing(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return the fields that differ, as dotted paths, without status and the metadata of the server."""
    return sorted(_paths(_opened(before), _opened(after), "", 0))


def diff_lines(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[str, ...]:
    """Return a unified diff of two objects, under their name; empty without a difference.

    The values of a Secret are hidden; of registry credentials, the registries are shown.
    """
    # As YAML, which people know from `oc diff`.
    old = dump_yaml(_shown(before, after, "former")).splitlines() if before else []
    new = dump_yaml(_shown(after, before, "new")).splitlines() if after else []
    if old == new:
        return ()
    metadata = after.get("metadata") or {}
    name = "/".join(filter(None, (str(after.get("kind")), metadata.get("namespace"), metadata.get("name"))))
    return tuple(difflib.unified_diff(old, new, f"a/{name}", f"b/{name}", n=1, lineterm=""))


def _shown(body: Mapping[str, Any], other: Mapping[str, Any], age: str) -> dict[str, Any]:
    settable = _settable(body)
    shown = {name: settable[name] for name in ("apiVersion", "kind", "metadata") if name in settable} | settable
    if body.get("kind") == SECRET.name:
        other_data = other.get("data") or {}
        hidden = {key: _hidden(value, other_data.get(key), age) for key, value in (body.get("data") or {}).items()}
        shown = {**shown, "data": hidden}
    return shown


def _hidden(value: Any, other: Any, age: str) -> Any:
    """Return a Secret's value for display: its length, or the registries of credentials and which of them differ."""
    auths, others = _auths(value), _auths(other) or {}
    if auths is None:
        return f"({len(str(value))} characters, not shown)"
    shown = {
        key: f"({age} credential, not shown)" if key in others and others[key] != entry else "(credential, not shown)"
        for key, entry in auths.items()
    }
    return {"auths": shown}


def _auths(value: Any) -> dict[str, Any] | None:
    """Return the entries of a Docker configuration, as a Secret has it; None for any other value."""
    document = docker_config(value)
    return None if document is None else document["auths"]


def _settable(body: Mapping[str, Any]) -> dict[str, Any]:
    metadata = {key: value for key, value in (body.get("metadata") or {}).items() if key not in _SERVERS}
    return {**{key: value for key, value in body.items() if key != "status"}, "metadata": metadata}


def _opened(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return an object with the credentials of a Secret as entries, so that paths lead to each."""
    settable = _settable(body)
    if body.get("kind") != SECRET.name:
        return settable
    data = body.get("data") or {}
    return {
        **settable,
        "data": {key: value if (auths := _auths(value)) is None else {"auths": auths} for key, value in data.items()},
    }


def _paths(before: Any, after: Any, path: str, depth: int) -> Iterator[str]:
    # A list counts as one field: an index says little once an item was inserted.
    if not (isinstance(before, Mapping) and isinstance(after, Mapping)) or depth > _MAX_DEPTH:
        if before != after:
            yield path
        return
    for key in before.keys() | after.keys():
        yield from _paths(before.get(key), after.get(key), f"{path}.{key}" if path else str(key), depth + 1)
