"""Reads namespace by namespace, for an account that may not read the cluster as a whole. Changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from importer.cluster.api.client import ForbiddenError
from importer.cluster.kinds import NAMESPACE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from importer.cluster.api.client import ClusterClient

T = TypeVar("T")


def names_of(client: ClusterClient) -> list[str]:
    """Return the namespaces of a cluster; none where they may not be listed. Raises ClusterError."""
    try:
        return [str(each["metadata"]["name"]) for each in client.list(NAMESPACE) or []]
    except ForbiddenError:
        return []


def one_by_one(namespaces: Iterable[str], read: Callable[[str], Sequence[T]]) -> tuple[list[T], int]:
    """Return what `read` finds in each namespace, and how many of them may not be read. Raises ClusterError."""
    # Reads that are refused for the cluster may be allowed in single namespaces (Role instead of ClusterRole).
    found: list[T] = []
    hidden = 0
    for namespace in namespaces:
        try:
            found += read(namespace)
        except ForbiddenError:
            hidden += 1
    return found, hidden
