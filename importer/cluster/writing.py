"""How objects get into the cluster: ours by server-side apply, shared ones by patches of single fields; either is repeatable.

Owns tries after conflicts, dry runs and the record of what changed; what is written is for others to say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar

from common.errors import ClusterError
from common.text import enumeration
from importer.cluster.client import FIELD_MANAGER, Body, ClusterClient, ConflictError
from importer.cluster.differences import diff_lines, differing, needed_patch
from importer.cluster.kinds import Kind, Resource, kind_of

if TYPE_CHECKING:
    from importer.cluster.record import Recorder

T = TypeVar("T")
_TRIES = 5
_SHOWN = 5
Wish = Callable[[Body | None], Mapping[str, Any] | None]


class Action(StrEnum):
    """What became of an object."""

    CREATED = "created"
    CHANGED = "changed"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True)
class Change:
    """One object; `detail` is for people, `diff` the lines that differ. In a dry run: what would have become of it."""

    action: Action
    kind: str
    name: str
    namespace: str
    detail: str = ""
    diff: tuple[str, ...] = ()

    def __str__(self) -> str:
        place = f" in {self.namespace}" if self.namespace else ""
        detail = f": {self.detail}" if self.detail else ""
        return f"{self.action} {self.kind} {self.name}{place}{detail}"


class Writer:
    """Writes, tells and remembers. `server_side`: the cluster knows server-side apply (Kubernetes 1.18, OpenShift 4.6).

    `recorder` writes down what was before each change, for `undo`.
    """

    def __init__(
        self,
        client: ClusterClient,
        *,
        server_side: bool,
        dry_run: bool,
        tell: Callable[[str], None],
        recorder: Recorder | None = None,
    ) -> None:
        self._recorder = None if dry_run else recorder
        self.client = client
        self.dry_run = dry_run
        self.tell = tell
        self.changes: list[Change] = []
        self._server_side = server_side
        self.unmade: set[str] = set()  # namespaces that a dry run only would have made: the server cannot try what is in them

    def own(self, resource: Resource) -> None:
        """Write an object of ours. Raises ClusterError when somebody else owns a field that we would change."""
        kind = kind_of(resource.api_version, resource.kind)
        if self.dry_run and resource.namespace in self.unmade:
            self.promise(resource)
            return
        if not self._server_side:
            self.shared(kind, resource.name, resource.namespace, lambda _live: resource.body)
            return
        before = self.client.get(kind, resource.name, resource.namespace)
        self._note(kind, resource.name, resource.namespace, before, resource.body)
        after = _again(lambda: self._apply(kind, resource))
        self._record(kind, resource.name, resource.namespace, before, after)

    def promise(self, resource: Resource) -> None:
        """Record in a dry run that an object would be created, where the server cannot try it yet."""
        kind = kind_of(resource.api_version, resource.kind)
        self._record(kind, resource.name, resource.namespace, None, dict(resource.body))

    def shared(self, kind: Kind, name: str, namespace: str, wish: Wish) -> None:
        """Give an object the fields that `wish` returns for it as it is now (None: not there), and leave all others alone.

        `wish` returns None for an object that shall stay, or stay absent. It is asked again after each conflict.
        """
        before, after = _again(lambda: self._merge(kind, name, namespace, wish))
        self._record(kind, name, namespace, before, after)

    def leave(self, kind: str, name: str, namespace: str, why: str) -> None:
        """Record that an object needs nothing."""
        self._remember(Change(Action.UNCHANGED, kind, name, namespace, why))

    def _apply(self, kind: Kind, resource: Resource) -> Body:
        try:
            return self.client.apply(kind, resource.body, dry_run=self.dry_run)
        except ConflictError as error:
            others = sorted({manager for manager, _ in error.fields} - {FIELD_MANAGER})
            if others:
                raise _owned_by_others(resource, error, others) from error
            if not error.fields:
                raise  # a mere race: once more
        # What we wrote before the cluster knew server-side apply counts as another manager of our name.
        return self.client.apply(kind, resource.body, force=True, dry_run=self.dry_run)

    def _merge(self, kind: Kind, name: str, namespace: str, wish: Wish) -> tuple[Body | None, Body | None]:
        live = self.client.get(kind, name, namespace)
        wanted = wish(live)
        if wanted is None:
            return live, live
        self._note(kind, name, namespace, live, wanted)
        if live is None:
            return None, self.client.create(kind, _whole(kind, name, namespace, wanted), dry_run=self.dry_run)
        patch = needed_patch(live, wanted)
        if not patch:
            return live, live
        version = {"resourceVersion": live["metadata"]["resourceVersion"]}
        patch = {**patch, "metadata": {**patch.get("metadata", {}), **version}}
        return live, self.client.merge_patch(kind, name, namespace, patch, dry_run=self.dry_run)

    def _note(self, kind: Kind, name: str, namespace: str, live: Body | None, wanted: Mapping[str, Any]) -> None:
        if self._recorder is not None:
            self._recorder.note(kind, name, namespace, live, wanted)

    def _record(self, kind: Kind, name: str, namespace: str, before: Body | None, after: Body | None) -> None:
        if before is None:
            action = Action.UNCHANGED if after is None else Action.CREATED
            detail, diff = ("" if after else "the cluster has none"), diff_lines({}, after) if after else ()
            self._remember(Change(action, kind.name, name, namespace, detail, diff))
            return
        fields = differing(before, after or before)
        shown = enumeration(fields, _SHOWN)
        action = Action.CHANGED if fields else Action.UNCHANGED
        self._remember(Change(action, kind.name, name, namespace, shown, diff_lines(before, after or before)))

    def _remember(self, change: Change) -> None:
        self.changes.append(change)
        self.tell(f"would be {change}" if self.dry_run and change.action is not Action.UNCHANGED else str(change))


def _again(write: Callable[[], T]) -> T:
    for _ in range(_TRIES - 1):
        try:
            return write()
        except ConflictError:
            continue
    return write()


def _whole(kind: Kind, name: str, namespace: str, wanted: Mapping[str, Any]) -> Body:
    place = {"name": name, "namespace": namespace} if namespace else {"name": name}
    metadata = {**wanted.get("metadata", {}), **place}
    return {"apiVersion": kind.api_version, "kind": kind.name, **wanted, "metadata": metadata}


def _owned_by_others(resource: Resource, error: ConflictError, others: list[str]) -> ClusterError:
    fields = ", ".join(sorted({field for _, field in error.fields}))
    return ClusterError(
        f"{resource.kind} {resource.name}: {', '.join(others)} set {fields} to something else",
        hint=f"Set it there to what `hub-import render` writes, or delete the {resource.kind} and apply again.",
    )
