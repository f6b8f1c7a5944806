"""Undo: bring a cluster back to its state before the first apply, from the record that apply keeps there (ADR 0014)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from common.errors import UsageError
from importer.cluster import undo as undoing
from importer.cluster.api.account import account_of
from importer.cluster.api.client import connect
from importer.cluster.api.discovery import ClusterIdentity, identify
from importer.cluster.record import imported_archives, record_namespace
from importer.cluster.rollout import REGISTRIES, strongest
from importer.cluster.undo import Outcome
from importer.configure.asking import NotAgreedError, silent

if TYPE_CHECKING:
    from collections.abc import Callable

    from importer.cluster.record import ImportedArchive
    from importer.cluster.undo import Undone
    from importer.settings import ClusterSettings


@dataclass(frozen=True, slots=True)
class UndoResult:
    """The outcome for each object that an import changed, done or foreseen, the cluster, and the archives of the imports."""

    cluster: ClusterIdentity
    objects: list[Undone]
    archives: tuple[ImportedArchive, ...] = ()

    @property
    def changed(self) -> list[Undone]:
        """The objects that are changed; those that are gone, or stay as they are, are none of them."""
        return [one for one in self.objects if one.outcome in (Outcome.DELETED, Outcome.RESTORED)]

    @property
    def drain(self) -> str:
        """The effect of the changes on the nodes, as text; empty where it is not known."""
        return strongest(self.cluster.release, {_rolling(one) for one in self.changed}, removed=True)


def _rolling(one: Undone) -> str:
    """Return the kind of an object, as `rollout.effects` takes it."""
    return REGISTRIES if any(field.startswith(REGISTRIES) for field in one.former) else one.kind


def undo(
    cluster: ClusterSettings,
    tell: Callable[[str], None],
    agree: Callable[[UndoResult], bool],
    met: Callable[[ClusterIdentity, str], None] | None = None,
) -> UndoResult:
    """Bring the cluster back to its state before the first apply; return the outcome for each object.

    `agree` gets what would be done, before the first change; `met` the cluster and the account there.

    Raises ClusterError, UsageError when nothing was recorded.
    """
    with connect(cluster.kubeconfig, cluster.context) as client:
        namespace = record_namespace(client)
        identity = identify(client)
        if met is not None:
            met(identity, account_of(client))
        # The dry run also finds objects that others changed since: the person sees beforehand what stays as it is.
        archives = imported_archives(client, namespace)
        would = UndoResult(identity, undoing.undo(client, namespace, dry_run=True, tell=silent), archives)
        if not would.objects:
            raise UsageError(
                f"nothing to undo: there is no record in {namespace}. {identity}",
                hint="Is it the right cluster? See --context.",
            )
        if cluster.dry_run:
            return would
        if not agree(would):
            raise NotAgreedError
        # Each object is compared again: between the question and its answer, others may have changed one.
        return UndoResult(identity, undoing.undo(client, namespace, dry_run=False, tell=tell), archives)
