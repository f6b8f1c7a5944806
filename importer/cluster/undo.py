"""Brings the cluster back to how it was before the first apply, from the record; and leaves alone what others wrote since."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from importer.cluster import record
from importer.cluster.client import Body, ClusterClient, unchanged
from importer.cluster.differences import differing_values, needed_patch
from importer.cluster.foreign import Path, foreign_fields, recreated_fields, shown, value_at
from importer.cluster.kinds import CONFIG_MAP, IMAGE_CONFIG, kind_of
from importer.cluster.record import Entry, FieldChange
from importer.cluster.refusals import ConflictError

_TRIES = 5
_MAPS_OF_DATA = ("data", "binaryData")
_TRUSTED_CA = ("spec", "additionalTrustedCA")


class Outcome(StrEnum):
    """What became of an object."""

    DELETED = "deleted"
    RESTORED = "restored"
    GONE = "gone"  # it was not there any more, or was restored already
    REFUSED = "refused"  # others have changed it since


@dataclass(frozen=True, slots=True)
class Undone:
    """One object; `fields` are those that others have written, as dotted paths: while there are any, its entry is kept.

    `restored` with `fields`: what we had put there was taken out, and what others had put there was left.
    """

    outcome: Outcome
    kind: str
    name: str
    namespace: str
    fields: tuple[str, ...] = ()
    why: str = "changed by somebody else since"

    def __str__(self) -> str:
        place = f" in {self.namespace}" if self.namespace else ""
        why = f": {self.why}: {', '.join(self.fields)}" if self.fields else ""
        return f"{self.outcome} {self.kind} {self.name}{place}{why}"


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is to be done with one object. `patch` None: nothing is changed in it."""

    outcome: Outcome
    fields: tuple[Path, ...] = ()
    patch: Mapping[str, Any] | None = None


def undo(client: ClusterClient, namespace: str, *, dry_run: bool, tell: Callable[[str], None]) -> list[Undone]:
    """Undo what the record in `namespace` tells, the last change first; say of each object what became of it.

    What others wrote is left as it is, and its entry in the record: an object with a field that they have changed, and a
    ConfigMap of ours with keys of theirs, from which only ours are taken. Repeatable, and it may be interrupted anywhere.
    Raises ClusterError.
    """
    done: list[Undone] = []
    entries = record.load(client, namespace)
    staying = _staying_config_maps(client, entries)
    for entry in reversed(entries):
        result = _one(client, entry, staying, dry_run=dry_run)
        tell(f"would be {result}" if dry_run else str(result))
        done.append(result)
        if not dry_run and not result.fields:
            record.forget(client, namespace, {entry.key: entry})
    return done


def _staying_config_maps(client: ClusterClient, entries: Sequence[Entry]) -> set[str]:
    """Return the ConfigMaps of ours that stay for what others put into them."""
    ours = [entry for entry in entries if entry.created and entry.kind == CONFIG_MAP.name]
    live = [(entry, client.get(CONFIG_MAP, entry.name, entry.namespace)) for entry in ours]
    return {entry.name for entry, body in live if body is not None and _planned(entry, body).fields}


def _one(client: ClusterClient, entry: Entry, staying: Collection[str], *, dry_run: bool) -> Undone:
    """Undo one entry; look at the object again when others write it between the look and the change."""
    for _ in range(_TRIES - 1):
        try:
            return _tried(client, entry, staying, dry_run=dry_run)
        except ConflictError:
            continue
    return _tried(client, entry, staying, dry_run=dry_run)


def _tried(client: ClusterClient, entry: Entry, staying: Collection[str], *, dry_run: bool) -> Undone:
    kind = kind_of(entry.api_version, entry.kind)
    live = client.get(kind, entry.name, entry.namespace)
    needed = _still_trusted(entry, live, staying)
    plan = _planned(_without(entry, needed) if needed else entry, live)
    if live is not None and not dry_run:
        if plan.outcome is Outcome.DELETED:
            client.delete(kind, entry.name, entry.namespace, only=unchanged(live))
        elif plan.patch:
            version = {"resourceVersion": live["metadata"]["resourceVersion"]}
            metadata = {**plan.patch.get("metadata", {}), **version}
            client.merge_patch(kind, entry.name, entry.namespace, {**plan.patch, "metadata": metadata})
    place = (entry.kind, entry.name, entry.namespace)
    if needed and not plan.fields:
        outcome = plan.outcome if plan.outcome is Outcome.RESTORED else Outcome.REFUSED
        return Undone(outcome, *place, (shown(needed),), "kept for the CAs that others put into that ConfigMap")
    return Undone(plan.outcome, *place, tuple(map(shown, plan.fields)))


def _still_trusted(entry: Entry, live: Body | None, staying: Collection[str]) -> Path:
    """Return the field that names a ConfigMap that stays: nodes take the CAs of other registries from there, too."""
    if live is None or entry.kind != IMAGE_CONFIG.name:
        return ()
    paths = [one.path for one in entry.fields if _TRUSTED_CA in (one.path[:2], (*one.path, _TRUSTED_CA[-1]))]
    named = value_at(live, (*_TRUSTED_CA, "name"))[1]
    return paths[0] if paths and named in staying else ()


def _without(entry: Entry, path: Path) -> Entry:
    return Entry(
        entry.api_version,
        entry.kind,
        entry.name,
        entry.namespace,
        entry.order,
        entry.created,
        tuple(one for one in entry.fields if one.path != path),
    )


def _planned(entry: Entry, live: Body | None) -> _Plan:
    """Decide what becomes of an object."""
    if live is None:
        return _Plan(Outcome.GONE)
    return _created(entry, live) if entry.created else _changed(entry, live)


def _created(entry: Entry, live: Body) -> _Plan:
    """Decide about an object of ours: deleted, unless others have written into it."""
    written = entry.written
    if recreated := recreated_fields(live, written):  # for example after a move from apply to render and GitOps
        return _Plan(Outcome.REFUSED, tuple(recreated))
    theirs = (*_overwritten(live, written), *foreign_fields(live, written))
    if not theirs:
        return _Plan(Outcome.DELETED)
    patch = _taken_out(live, written) if any(name in written for name in _MAPS_OF_DATA) else {}
    return _Plan(Outcome.RESTORED if patch else Outcome.REFUSED, tuple(dict.fromkeys(theirs)), patch)


def _overwritten(live: Body, written: Mapping[str, Any]) -> list[Path]:
    """Return the fields that have another value than the one we gave them; one that is gone holds nothing of theirs."""
    return [path for path in differing_values(live, written) if value_at(live, path)[0]]


def _taken_out(live: Body, written: Mapping[str, Any]) -> dict[str, Any]:
    """Return the patch that takes our keys out of a ConfigMap or Secret, and our labels with them."""
    ours = {
        name: {key: None for key, value in written[name].items() if value_at(live, (name, key)) == (True, value)}
        for name in _MAPS_OF_DATA
        if name in written
    }
    patch: dict[str, Any] = {name: keys for name, keys in ours.items() if keys}
    labels = dict.fromkeys(value_at(written, ("metadata", "labels"))[1] or {})
    return {**patch, "metadata": {"labels": labels}} if patch and labels else patch


def _changed(entry: Entry, live: Body) -> _Plan:
    """Decide about an object of others: our fields as they were, unless others have changed one of them."""
    foreign = [one for one in entry.fields if not (_is_ours(live, one) or _is_former(live, one))]
    if foreign:
        return _Plan(Outcome.REFUSED, tuple(path for one in foreign for path in _differing(live, one)))
    patch = _patch(live, [one for one in entry.fields if not _is_former(live, one)])
    return _Plan(Outcome.RESTORED if patch else Outcome.GONE, (), patch)


def _is_ours(live: Body, change: FieldChange) -> bool:
    """Say whether a field still has what we put there; defaults of the server beside it are no change, further items are."""
    found, value = value_at(live, change.path)
    if change.after is None:
        return value is None
    if isinstance(change.after, list) and (not isinstance(value, list) or len(value) != len(change.after)):
        return False
    return found and not needed_patch({"": value}, {"": change.after})


def _differing(live: Body, change: FieldChange) -> list[Path]:
    _, value = value_at(live, change.path)
    if not isinstance(change.after, Mapping) or not isinstance(value, Mapping):
        return [change.path]
    return [(*change.path, *path) for path in differing_values(value, change.after)]


def _is_former(live: Body, change: FieldChange) -> bool:
    found, value = value_at(live, change.path)
    return bool(found == change.existed and (not found or value == change.before))


def _patch(live: Body, changes: Sequence[FieldChange]) -> dict[str, Any]:
    """Return the merge patch that brings fields back: null where nothing was; a map as it was, without what we added."""
    patch: dict[str, Any] = {}
    for change in changes:
        place = patch
        for key in change.path[:-1]:
            place = place.setdefault(key, {})
        place[change.path[-1]] = _reverted(value_at(live, change.path)[1], change.before, change.after)
    return patch


def _reverted(live: Any, before: Any, after: Any) -> Any:
    """Return what brings a value back; of a map that others have added to, only our part goes."""
    if not (isinstance(live, Mapping) and isinstance(after, Mapping) and isinstance(before, Mapping | None)):
        return before
    if before is None and _holds_only(live, after):
        return None
    former = before or {}
    back = {key: _reverted(live.get(key), former.get(key), value) for key, value in after.items()}
    return {**back, **{key: value for key, value in former.items() if key not in after}}


def _holds_only(live: Any, after: Any) -> bool:
    """Say whether a value has no keys but those that we put there."""
    if not isinstance(live, Mapping) or not isinstance(after, Mapping):
        return True
    return all(key in after and _holds_only(value, after[key]) for key, value in live.items())
