"""Writer of objects: own ones by server-side apply, shared ones by patches of single fields. Both are idempotent.

It retries after conflicts, does dry runs, and records each change for `undo` before it is made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Any

from common.errors import ClusterError
from common.retry import retry
from common.text import enumeration
from importer.cluster.api.client import CONFLICT_POLICY, FIELD_MANAGER, Body, ClusterClient, ConflictError, versioned
from importer.cluster.differences import diff_lines, differing, needed_patch, replaced_fields
from importer.cluster.kinds import Kind, Resource, has_own_label, kind_of
from importer.cluster.resources.mirror_rules import FIELD

if TYPE_CHECKING:
    from importer.cluster.record import Recorder


# Of the changed fields, in the line of a change; --diff shows all.
_SHOWN = 5
Wish = Callable[[Body | None], Mapping[str, Any] | None]


class Action(StrEnum):
    """The result of writing an object."""

    CREATED = "created"
    CHANGED = "changed"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True)
class Change:
    """One object: `detail` is for people, `diff` the lines that differ. In a dry run, the predicted result.

    `warnings`: the API server's own, those that it gave before left out.
    """

    action: Action
    kind: str
    name: str
    namespace: str
    detail: str = ""
    diff: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def __str__(self) -> str:
        where = f" in {self.namespace}" if self.namespace else ""
        detail = f": {self.detail}" if self.detail else ""
        return f"{self.action} {self.kind} {self.name}{where}{detail}"


class Writer:
    """Writes objects, and keeps a Change of each. `server_side`: use server-side apply; else merge patches.

    Each object is reported in a line. `recorder` stores the former values before each change, for `undo`.
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
        # A dry run must not write the record either, and a record that would be full has to be known before the first change.
        self._recorder = recorder.rehearsal() if dry_run and recorder is not None else recorder
        self.client = client
        self.dry_run = dry_run
        self.tell = tell
        self.changes: list[Change] = []
        self._server_side = server_side
        self.unmade: set[str] = set()  # namespaces that a dry run did not create: the server refuses dry runs in them

    def own(self, resource: Resource) -> None:
        """Write an own object. Raises ClusterError when another manager owns a field that would change."""
        kind = kind_of(resource.api_version, resource.kind)
        if self.dry_run and resource.namespace in self.unmade:
            self.promise(resource)
            return
        if not self._server_side:
            self.shared(kind, resource.name, resource.namespace, partial(_unless_foreign, resource))
            return
        # Read first, for the record and the diff: an apply does not return the former state.
        before = self.client.get(kind, resource.name, resource.namespace)
        self._note(kind, resource.name, resource.namespace, before, resource.body)
        after = retry(lambda: self._apply(kind, resource), CONFLICT_POLICY, on=ConflictError)
        self._record(kind, resource.name, resource.namespace, before, after)

    def promise(self, resource: Resource) -> None:
        """Report in a dry run that an object would be created, where the server cannot try it yet."""
        kind = kind_of(resource.api_version, resource.kind)
        self._record(kind, resource.name, resource.namespace, None, dict(resource.body))

    def shared(self, kind: Kind, name: str, namespace: str, wish: Wish) -> None:
        """Give an object the fields that `wish` returns for its current state (None: missing); all others stay.

        `wish` returns None for an object that stays unchanged, or missing. It is called again after each conflict.
        """
        before, after = retry(lambda: self._merge(kind, name, namespace, wish), CONFLICT_POLICY, on=ConflictError)
        self._record(kind, name, namespace, before, after)

    def leave(self, kind: str, name: str, namespace: str, why: str) -> None:
        """Report that an object needs no change."""
        self._remember(Change(Action.UNCHANGED, kind, name, namespace, why))

    def _apply(self, kind: Kind, resource: Resource) -> Body:
        try:
            return self.client.apply(kind, resource.body, dry_run=self.dry_run)
        except ConflictError as error:
            others = sorted({manager for manager, _ in error.fields} - {FIELD_MANAGER})
            if others:
                raise _owned_by_others(resource, error, others) from error
            if not error.fields:
                raise  # a race: retried
        # Fields written by a merge patch, before the cluster had server-side apply, have another manager of the same name.
        return self.client.apply(kind, resource.body, force=True, dry_run=self.dry_run)

    def _merge(self, kind: Kind, name: str, namespace: str, wish: Wish) -> tuple[Body | None, Body | None]:
        live = self.client.get(kind, name, namespace)
        wanted = wish(live)
        if wanted is None:
            return live, live
        self._note(kind, name, namespace, live, wanted)
        if live is None:
            # A conflict here means that the object was created meanwhile: `wish` is called again with it.
            return None, self.client.create(kind, _whole(kind, name, namespace, wanted), dry_run=self.dry_run)
        patch = needed_patch(live, wanted)
        if not patch:
            return live, live
        return live, self.client.merge_patch(kind, name, namespace, versioned(patch, live), dry_run=self.dry_run)

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
        change = replace(change, warnings=self.client.warnings.take())
        self.changes.append(change)
        for text in change.warnings:
            self.tell(f"warning of the API server: {text}")
        self.tell(f"would be {change}" if self.dry_run and change.action is not Action.UNCHANGED else str(change))


def _whole(kind: Kind, name: str, namespace: str, wanted: Mapping[str, Any]) -> Body:
    identity = {"name": name, "namespace": namespace} if namespace else {"name": name}
    metadata = {**wanted.get("metadata", {}), **identity}
    return {"apiVersion": kind.api_version, "kind": kind.name, **wanted, "metadata": metadata}


# Nodes lose the mirrors of what runs as soon as rules go, and are drained, up to 4.6 rebooted (rollout.py).
_RULES_STAY = "Do not delete the {kind} before its rules are in one of another name: nodes would lose them, and be drained."


def _unless_foreign(resource: Resource, live: Body | None) -> Mapping[str, Any]:
    """Return the fields of an own object. Raises ClusterError where they would replace those of an object of others.

    Up to OpenShift 4.5 no server-side apply reports such a conflict; the label says whose object it is.
    """
    if live is None or has_own_label(live):
        return resource.body
    replaced = sorted(replaced_fields(live, needed_patch(live, resource.body)))
    if replaced:
        raise ClusterError(
            f"{resource.kind} {resource.name}: exists, is not from hub-import, and has other values of {', '.join(replaced)}",
            hint=_RULES_STAY.format(kind=resource.kind)
            if resource.kind in FIELD
            else f"Choose another name (--catalog-name), or delete the {resource.kind} and apply again.",
        )
    return resource.body


def _owned_by_others(resource: Resource, error: ConflictError, others: list[str]) -> ClusterError:
    fields = ", ".join(sorted({field for _, field in error.fields}))
    return ClusterError(
        f"{resource.kind} {resource.name}: {', '.join(others)} set {fields} to another value",
        hint="Let them write it: hub-import render --merge DIR extends the files of an earlier render. "
        + _RULES_STAY.format(kind=resource.kind)
        if resource.kind in FIELD
        else f"Set it there to what `hub-import render` writes, or delete the {resource.kind} and apply again.",
    )
