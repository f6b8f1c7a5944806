"""Undo of all applies: restores the state before the first one, and keeps foreign changes since (ADR 0014, ADR 0027)."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from common.retry import retry
from common.text import enumeration, shortened
from importer.cluster import record
from importer.cluster.api.client import CONFLICT_POLICY, FIELD_MANAGER, Body, ClusterClient, ConflictError, unchanged, versioned
from importer.cluster.differences import (
    changed_registries,
    differing_values,
    is_extended,
    item_named,
    needed_patch,
    rebased,
)
from importer.cluster.kinds import (
    CLUSTER_EXTENSION,
    CLUSTER_ROLE_BINDING,
    CLUSTER_SERVICE_VERSION,
    CONFIG_MAP,
    IMAGE_CONFIG,
    NAMESPACE,
    OPERATOR_GROUP,
    OWN_LABELS,
    SERVICE_ACCOUNT,
    SUBSCRIPTION,
    has_own_label,
    kind_of,
)
from importer.cluster.removal.brought import brought, why_account_stays, why_csv_stays, why_extension_stays, why_group_stays
from importer.cluster.removal.namespaces import what_is_in

if TYPE_CHECKING:
    from importer.cluster.record import Entry, FieldChange

# Foreign content of an own object: fields, keys of ConfigMaps, labels, annotations. Kubernetes 1.18 and later report the
# manager of each field (`metadata.managedFields`); a field without one is a default of the API server, or of an admission
# webhook. Earlier ones do not, so there only content that no server adds counts: keys of data, labels and annotations, further
# items of lists, and fields of custom kinds.

Path = tuple[str, ...]
_UPGRADED = "before-first-apply"  # the manager of all fields of an object that is older than managedFields
_DATA = (("data",), ("binaryData",), ("metadata", "labels"), ("metadata", "annotations"))
# Kinds of which the API server defaults many fields in `spec`.
_BUILT_IN = frozenset(("v1", "apps/v1", "networking.k8s.io/v1"))
# Written by tools and controllers, without a meaning once the object is deleted.
_STAMPS = frozenset(
    (
        "deployment.kubernetes.io/revision",
        "kubectl.kubernetes.io/last-applied-configuration",
        "kubectl.kubernetes.io/restartedAt",
        # operator-lifecycle-manager, pkg/controller/operators/olm/operatorgroup.go: what the operators of a group provide.
        "olm.providedAPIs",
    )
)
# Labels that OLM gives the components of an operator (pkg/controller/operators/decorators/operator.go).
_STAMP_PREFIX = "operators.coreos.com/"
_MAX_DEPTH = 64
_SHOWN = 5  # restored fields in the line of an object
_SOURCE = "source"


def foreign_fields(live: Body, written: Mapping[str, Any]) -> list[Path]:
    """Return the paths of foreign content in an object; `written` has all fields of hub-import."""
    entries = _entries(live)
    # Without an entry of hub-import the object was written before managedFields, or by patches of a release without them.
    known = any(each.get("manager") == FIELD_MANAGER for each in entries)
    known = known and not any(each.get("manager") == _UPGRADED for each in entries)
    paths = _managed(entries) if known else _unwritten(live, written)
    found = (path for path in paths if _is_data(path) and not _is_written(live, written, path))
    return sorted(set(found))


def recreated_fields(live: Body, written: Mapping[str, Any]) -> list[Path]:
    """Return the fields of an object that another manager recreated with the content of hub-import; none of any other."""
    # For example after a move from `apply` to `render` with GitOps: hub-import is not among the managers then.
    entries = [each for each in _entries(live) if each.get("subresource") != "status"]
    if not entries or {each.get("manager") for each in entries} & {FIELD_MANAGER, _UPGRADED}:
        return []
    owned = sorted({path for path in _managed(entries) if _is_data(path) and value_at(live, path)[0]})
    # An object from which undo has removed its keys does not count: nothing in it has a value of hub-import.
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
    """Return whether a path exists, and its value."""
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
    """Yield the leaves of a set of fields (FieldsV1 of meta/v1: `f:` a field, `k:` an item by its key, `v:` one of a set)."""
    for key, inner in tree.items():
        if key == "." or len(path) > _MAX_DEPTH:
            continue
        # An item of a set has no path of its own: the set is the field.
        if key.startswith("v:"):
            yield path
        else:
            here = (*path, key.removeprefix("f:"))
            if set(inner) - {"."}:
                yield from _owned(inner, here)
            else:
                yield here


def _unwritten(live: Body, written: Mapping[str, Any]) -> Iterator[Path]:
    for path in _DATA:
        yield from _further(value_at(live, path)[1], value_at(written, path)[1], path, fields=True)
    custom = live.get("apiVersion") not in _BUILT_IN
    yield from _further(live.get("spec"), written.get("spec"), ("spec",), fields=custom)


def _further(live: Any, written: Any, path: Path, *, fields: bool) -> Iterator[Path]:
    """Yield the paths of unwritten content: items of lists, and with `fields` also those of maps."""
    if isinstance(live, list) and isinstance(written, list):
        # Items were added; defaults of the server are fields of items, never items.
        if len(live) > len(written):
            yield path
        for item, own in zip(live, written, strict=False):
            yield from _further(item, own, path, fields=False)
    elif isinstance(live, Mapping) and len(path) < _MAX_DEPTH:
        own = written if isinstance(written, Mapping) else {}
        for key, value in live.items():
            if key in own:
                yield from _further(value, own[key], (*path, key), fields=fields)
            elif fields:
                yield (*path, key)


def _is_data(path: Path) -> bool:
    if path[0] == "metadata":
        stamped = path[-1] in _STAMPS or path[-1].startswith(_STAMP_PREFIX)
        return path[1:2] in {("labels",), ("annotations",)} and not stamped
    return path[0] not in {"apiVersion", "kind", "status"} and path[-1] not in _STAMPS


def _is_written(live: Body, written: Mapping[str, Any], path: Path) -> bool:
    """Return whether a path has the value that hub-import wrote, or none any more."""
    found, value = value_at(live, path)
    known, wanted = value_at(written, path)
    return not found or value in ({}, [], None) or (known and bool(value == wanted))


def _key(step: str) -> dict[str, Any]:
    try:
        found = json.loads(step.removeprefix("k:"))
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {}


_MAPS_OF_DATA = ("data", "binaryData")
_TRUSTED_CA = ("spec", "additionalTrustedCA")


class Outcome(StrEnum):
    """The result of undoing the changes of one object."""

    DELETED = "deleted"
    RESTORED = "restored"
    GONE = "gone"  # it was missing, or restored already
    REFUSED = "refused"  # others have changed it since


@dataclass(frozen=True, slots=True)
class Undone:
    """The result for one object. `fields`: the foreign ones, as dotted paths; with any, its entry stays in the record.

    `restored` with `fields`: the own content was removed, the foreign content stays. `former`: the fields that get their
    former values.
    """

    outcome: Outcome
    kind: str
    name: str
    namespace: str
    fields: tuple[str, ...] = ()
    why: str = "changed by others since"
    former: tuple[str, ...] = ()

    def __str__(self) -> str:
        where = f" in {self.namespace}" if self.namespace else ""
        former = f": {enumeration(self.former, _SHOWN)}" if self.former else ""
        why = f": {self.why}: {', '.join(self.fields)}" if self.fields else ""
        return f"{self.outcome} {self.kind} {self.name}{where}{former}{why}"


@dataclass(frozen=True, slots=True)
class _Plan:
    """The plan for one object. `patch` None: it is not changed."""

    outcome: Outcome
    fields: tuple[Path, ...] = ()
    patch: Mapping[str, Any] | None = None


def undo(client: ClusterClient, namespace: str, *, dry_run: bool, tell: Callable[[str], None]) -> list[Undone]:
    """Undo the changes of the record in `namespace`, the last one first; return the result for each object.

    An object with a field that others have changed stays, and so does its entry; from an own ConfigMap with foreign keys, only
    the own keys are removed. Idempotent; it may be interrupted anywhere. Raises ClusterError.
    """
    done: list[Undone] = []
    entries = record.load(client, namespace)
    # Determined first: images.config is restored before the ConfigMap that it names is reached.
    staying = _staying_config_maps(client, entries)
    # The last change first, so that CatalogSources go before the rules and the CA that their pods need.
    left = list(entries)
    while left:
        entry = left.pop()
        known = {each.key for each in left}
        left += [each for each in _brought(client, entry, namespace, dry_run=dry_run) if each.key not in known]
        left.sort(key=record.position)
        result = _one(client, entry, staying, done, dry_run=dry_run)
        for text in client.warnings.take():
            tell(f"warning of the API server: {text}")
        tell(f"would be {result}" if dry_run else str(result))
        done.append(result)
        # At once, so that an interrupted undo continues with the next entry.
        if not dry_run and not result.fields:
            record.forget(client, namespace, entry.key)
    return done


def _brought(client: ClusterClient, entry: Entry, namespace: str, *, dry_run: bool) -> list[Entry]:
    """Return entries for what OLM brought for a Subscription that is deleted, and keep them in the record before that."""
    if entry.kind != SUBSCRIPTION.name or not entry.created:
        return []
    live = client.get(SUBSCRIPTION, entry.name, entry.namespace)
    if live is None or _planned(entry, live).outcome is not Outcome.DELETED:
        return []
    found = brought(client, entry, live)
    for each in () if dry_run else found:
        record.keep(client, namespace, each)
    return found


def _staying_config_maps(client: ClusterClient, entries: Sequence[Entry]) -> set[str]:
    """Return the own ConfigMaps that stay for their foreign content."""
    created = [entry for entry in entries if entry.created and entry.kind == CONFIG_MAP.name]
    live = [(entry, client.get(CONFIG_MAP, entry.name, entry.namespace)) for entry in created]
    return {entry.name for entry, body in live if body is not None and _planned(entry, body).fields}


def _one(client: ClusterClient, entry: Entry, staying: Collection[str], done: Sequence[Undone], *, dry_run: bool) -> Undone:
    # An object that is written by another client between the read and the change is read again.
    return retry(lambda: _undo_entry(client, entry, staying, done, dry_run=dry_run), CONFLICT_POLICY, on=ConflictError)


def _undo_entry(
    client: ClusterClient, entry: Entry, staying: Collection[str], done: Sequence[Undone], *, dry_run: bool
) -> Undone:
    kind = kind_of(entry.api_version, entry.kind)
    live = client.get(kind, entry.name, entry.namespace)
    if live is not None and entry.created and (why := _why_it_stays(client, entry, live, done)):
        return Undone(Outcome.REFUSED, entry.kind, entry.name, entry.namespace, why, "it stays")
    needed = _still_trusted(entry, live, staying)
    plan = _planned(_without(entry, needed) if needed else entry, live)
    if live is not None and not dry_run:
        if plan.outcome is Outcome.DELETED:
            # For the object that was checked: a write in between fails with 409, and it is checked again.
            client.delete(kind, entry.name, entry.namespace, only=unchanged(live))
        elif plan.patch:
            client.merge_patch(kind, entry.name, entry.namespace, versioned(plan.patch, live))
    identity = (entry.kind, entry.name, entry.namespace)
    if needed and not plan.fields:
        outcome = plan.outcome if plan.outcome is Outcome.RESTORED else Outcome.REFUSED
        return Undone(outcome, *identity, (shown(needed),), "kept for the foreign CAs in that ConfigMap", _former(plan))
    return Undone(plan.outcome, *identity, tuple(map(shown, plan.fields)), former=_former(plan))


def _why_it_stays(client: ClusterClient, entry: Entry, live: Body, done: Sequence[Undone]) -> tuple[str, ...]:
    """Return why an object of an installation is not deleted, changed or not (ADR 0079); empty for any other."""
    going = {
        (each.kind, each.name)
        for each in done
        if each.outcome is Outcome.DELETED and each.namespace in (entry.namespace, entry.name)
    }
    if entry.kind == CLUSTER_SERVICE_VERSION.name:
        why = why_csv_stays(client, entry, live, {name for kind, name in going if kind == SUBSCRIPTION.name})
    elif entry.kind == OPERATOR_GROUP.name:
        why = why_group_stays(client, entry, going)
    elif entry.kind == CLUSTER_EXTENSION.name:
        why = why_extension_stays(live)
    elif entry.kind in (SERVICE_ACCOUNT.name, CLUSTER_ROLE_BINDING.name):
        why = why_account_stays(client, entry, live)
    elif entry.kind == NAMESPACE.name:
        if not has_own_label(live):
            return ("it is not of hub-import",)
        return tuple(shortened(what_is_in(client, entry.name, going), _SHOWN))
    else:
        return ()
    return (why,) if why else ()


def _former(plan: _Plan) -> tuple[str, ...]:
    return tuple(map(shown, _leaves(plan.patch or {}, ())))


def _leaves(patch: Mapping[str, Any], path: Path) -> Iterator[Path]:
    for key, value in patch.items():
        # A patch of hub-import is as deep as what it wrote itself.
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, (*path, key))
        else:
            yield (*path, key)


def _still_trusted(entry: Entry, live: Body | None, staying: Collection[str]) -> Path:
    """Return the field that names a ConfigMap that stays: nodes get the CAs of other registries from it, too."""
    if live is None or entry.kind != IMAGE_CONFIG.name:
        return ()
    paths = [one.path for one in entry.fields if _TRUSTED_CA in (one.path[:2], (*one.path, _TRUSTED_CA[-1]))]
    named = value_at(live, (*_TRUSTED_CA, "name"))[1]
    return paths[0] if paths and named in staying else ()


def _without(entry: Entry, path: Path) -> Entry:
    return replace(entry, fields=tuple(one for one in entry.fields if one.path != path))


def _planned(entry: Entry, live: Body | None) -> _Plan:
    """Return the plan for an object."""
    if live is None:
        return _Plan(Outcome.GONE)
    # Decided by what they hold (`_why_it_stays`): controllers label namespaces, and give accounts their secrets.
    if entry.created and entry.kind in (NAMESPACE.name, SERVICE_ACCOUNT.name, CLUSTER_SERVICE_VERSION.name):
        return _Plan(Outcome.DELETED)
    live = record.as_recorded(live)
    return _created(entry, live) if entry.created else _changed(entry, live)


def _created(entry: Entry, live: Body) -> _Plan:
    """Return the plan for an object that hub-import created: delete it, unless it has foreign content."""
    written = entry.written
    if recreated := recreated_fields(live, written):
        return _Plan(Outcome.REFUSED, tuple(recreated))
    foreign = (*_overwritten(live, written), *foreign_fields(live, written))
    if not foreign:
        return _Plan(Outcome.DELETED)
    patch = _taken_out(live, written) if any(name in written for name in _MAPS_OF_DATA) else {}
    return _Plan(Outcome.RESTORED if patch else Outcome.REFUSED, tuple(dict.fromkeys(foreign)), patch)


def _overwritten(live: Body, written: Mapping[str, Any]) -> list[Path]:
    """Return the fields that have another value than the written one; a field that was removed holds nothing foreign."""
    paths = (inner for path in differing_values(live, written) for inner in _in_items(live, written, path))
    return [path for path in paths if value_at(live, path)[0]]


def _in_items(live: Body, written: Mapping[str, Any], path: Path) -> Iterator[Path]:
    """Yield the fields that differ inside the items of a list; the list itself where items were added or removed."""
    items, own = value_at(live, path)[1], value_at(written, path)[1]
    # No merge key, but people distinguish mirror rules by it.
    keys = [_item_key(each, _SOURCE) for each in own] if isinstance(own, list) else []
    named = [item_named(items, _key(key)) for key in keys if key]
    if not keys or not all(keys) or len(named) != len(own) or any(each is None for each in named) or len(items) != len(own):
        yield path
        return
    for key, each, written_item in zip(keys, named, own, strict=True):
        yield from ((*path, key, *inner) for inner in differing_values(each, written_item))


def _item_key(item: Any, name: str) -> str:
    return f"k:{json.dumps({name: item[name]})}" if isinstance(item, Mapping) and name in item else ""


def _taken_out(live: Body, written: Mapping[str, Any]) -> dict[str, Any]:
    """Return the patch that removes the own keys of a ConfigMap or Secret, and with them the label that says whose it is."""
    own = {
        name: {key: None for key, value in written[name].items() if value_at(live, (name, key)) == (True, value)}
        for name in _MAPS_OF_DATA
        if name in written
    }
    patch: dict[str, Any] = {name: keys for name, keys in own.items() if keys}
    # Other labels say how the foreign keys are used: by one of them a cluster finds signatures.
    labels = dict.fromkeys(OWN_LABELS.keys() & (value_at(written, ("metadata", "labels"))[1] or {}).keys())
    return {**patch, "metadata": {"labels": labels}} if patch and labels else patch


def _changed(entry: Entry, live: Body) -> _Plan:
    """Return the plan for a foreign object: restore the own fields, unless others have changed one of them."""
    foreign = [one for one in entry.fields if not (_is_own(live, one) or _is_former(live, one) or _is_extended(live, one))]
    if foreign:
        return _Plan(Outcome.REFUSED, tuple(path for one in foreign for path in _differing(live, one)))
    patch = _patch(live, [one for one in entry.fields if not _is_former(live, one)])
    return _Plan(Outcome.RESTORED if patch else Outcome.GONE, (), patch)


def _is_own(live: Body, change: FieldChange) -> bool:
    """Return whether a field has the written value; added defaults of the server do not count, added items do."""
    found, value = value_at(live, change.path)
    if change.after is None:
        return value is None
    # needed_patch accepts added items of lists with keys; here they are foreign changes.
    if isinstance(change.after, list) and (not isinstance(value, list) or len(value) != len(change.after)):
        return False
    return found and not needed_patch({"": value}, {"": change.after})


def _is_extended(live: Body, change: FieldChange) -> bool:
    """Return whether a list, or the pull secret, has foreign changes next to the own ones (ADR 0058)."""
    found, value = value_at(live, change.path)
    return found and is_extended(change.before, change.after, value)


def _differing(live: Body, change: FieldChange) -> list[Path]:
    _, value = value_at(live, change.path)
    if registries := changed_registries(change.before, change.after, value):
        return [(*change.path, "auths", name) for name in registries]
    if not isinstance(change.after, Mapping) or not isinstance(value, Mapping):
        return [change.path]
    return [(*change.path, *path) for path in differing_values(value, change.after)]


def _is_former(live: Body, change: FieldChange) -> bool:
    found, value = value_at(live, change.path)
    return bool(found == change.existed and (not found or value == record.as_recorded(change.before, change.path)))


def _patch(live: Body, changes: Sequence[FieldChange]) -> dict[str, Any]:
    """Return the merge patch that restores fields: null where they did not exist; of a map, only the own part changes."""
    patch: dict[str, Any] = {}
    for change in changes:
        parent = patch
        for key in change.path[:-1]:
            parent = parent.setdefault(key, {})
        now = value_at(live, change.path)[1]
        if _is_extended(live, change):
            # Of a list that the apply created, the foreign items stay; without any it goes.
            former = rebased(change.before or [], change.after, now)
            parent[change.path[-1]] = former if former or change.existed else None
        else:
            parent[change.path[-1]] = _reverted(now, change.before, change.after)
    return patch


def _reverted(live: Any, before: Any, after: Any) -> Any:
    """Return the merge patch that restores a value; of a map with foreign keys, only the own ones are removed."""
    if not (isinstance(live, Mapping) and isinstance(after, Mapping) and isinstance(before, Mapping | None)):
        return before
    if before is None and _holds_only(live, after):
        return None
    former = before or {}
    back = {key: _reverted(live.get(key), former.get(key), value) for key, value in after.items()}
    return {**back, **{key: value for key, value in former.items() if key not in after}}


def _holds_only(live: Any, after: Any) -> bool:
    """Return whether a value has no keys but the written ones."""
    if not isinstance(live, Mapping) or not isinstance(after, Mapping):
        return True
    return all(key in after and _holds_only(value, after[key]) for key, value in live.items())
