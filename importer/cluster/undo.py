"""Brings the cluster back to how it was before the first apply, from the record; and leaves alone what others changed since."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from importer.cluster import record
from importer.cluster.client import Body, ClusterClient
from importer.cluster.differences import needed_patch
from importer.cluster.kinds import kind_of
from importer.cluster.record import Entry, FieldChange


class Outcome(StrEnum):
    """What became of an object."""

    DELETED = "deleted"
    RESTORED = "restored"
    GONE = "gone"  # it was not there any more, or was restored already
    REFUSED = "refused"  # somebody else has changed it since


@dataclass(frozen=True, slots=True)
class Undone:
    """One object; `fields` are those that somebody else has changed, as dotted paths."""

    outcome: Outcome
    kind: str
    name: str
    namespace: str
    fields: tuple[str, ...] = ()

    def __str__(self) -> str:
        place = f" in {self.namespace}" if self.namespace else ""
        why = f": changed by somebody else since: {', '.join(self.fields)}" if self.fields else ""
        return f"{self.outcome} {self.kind} {self.name}{place}{why}"


def undo(client: ClusterClient, namespace: str, *, dry_run: bool, tell: Callable[[str], None]) -> list[Undone]:
    """Undo what the record in `namespace` tells, the last change first; say of each object what became of it.

    An object with a field that somebody else has changed is left as it is, and its entry in the record. Repeatable, and it may
    be interrupted anywhere. Raises ClusterError.
    """
    done: list[Undone] = []
    for entry in reversed(record.load(client, namespace)):
        result = _one(client, entry, dry_run=dry_run)
        tell(f"would be {result}" if dry_run else str(result))
        done.append(result)
        if not dry_run and result.outcome is not Outcome.REFUSED:
            record.forget(client, namespace, {entry.key: entry})
    return done


def _one(client: ClusterClient, entry: Entry, *, dry_run: bool) -> Undone:
    kind = kind_of(entry.api_version, entry.kind)
    live = client.get(kind, entry.name, entry.namespace)

    def became(outcome: Outcome, fields: Sequence[FieldChange] = ()) -> Undone:
        return Undone(outcome, entry.kind, entry.name, entry.namespace, tuple(".".join(one.path) for one in fields))

    if live is None:
        return became(Outcome.GONE)
    foreign = [one for one in entry.fields if not (_is_ours(live, one) or (not entry.created and _is_former(live, one)))]
    if foreign:
        return became(Outcome.REFUSED, foreign)
    version = live["metadata"]["resourceVersion"]
    if entry.created:
        if not dry_run:
            client.delete(kind, entry.name, entry.namespace)
        return became(Outcome.DELETED)
    patch = _patch([one for one in entry.fields if not _is_former(live, one)])
    if patch and not dry_run:
        metadata = {**patch.get("metadata", {}), "resourceVersion": version}
        client.merge_patch(kind, entry.name, entry.namespace, {**patch, "metadata": metadata})
    return became(Outcome.RESTORED if patch else Outcome.GONE)


def _is_ours(live: Body, change: FieldChange) -> bool:
    """Say whether a field still has what we put there; more beside it is the server's."""
    found, value = _at(live, change.path)
    if change.after is None:
        return value is None
    if isinstance(change.after, Mapping):
        return found and isinstance(value, Mapping) and not needed_patch(value, change.after)
    return found and bool(value == change.after)


def _is_former(live: Body, change: FieldChange) -> bool:
    found, value = _at(live, change.path)
    return bool(found == change.existed and (not found or value == change.before))


def _at(body: Mapping[str, Any], path: Sequence[str]) -> tuple[bool, Any]:
    value: Any = body
    for key in path:
        if not isinstance(value, Mapping) or key not in value:
            return False, None
        value = value[key]
    return True, value


def _patch(changes: Sequence[FieldChange]) -> dict[str, Any]:
    """Return the merge patch that brings fields back: null where nothing was; a map as it was, without what we added."""
    patch: dict[str, Any] = {}
    for change in changes:
        place = patch
        for key in change.path[:-1]:
            place = place.setdefault(key, {})
        place[change.path[-1]] = _reverted(change) if change.existed else None
    return patch


def _reverted(change: FieldChange) -> Any:
    if isinstance(change.before, Mapping) and isinstance(change.after, Mapping):
        return {**dict.fromkeys(change.after), **change.before}
    return change.before
