"""What the importer has to be allowed to do on a cluster: exactly the verbs that it uses (facts/openshift.md §5.6). Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from importer.cluster.kinds import (
    CATALOG_SOURCE,
    CLUSTER_CATALOG,
    CLUSTER_VERSION,
    CONFIG_MAP,
    ICSP,
    IDMS,
    IMAGE_CONFIG,
    ITMS,
    MACHINE_CONFIG_POOL,
    OPERATOR_HUB,
    PACKAGE_MANIFEST,
    POD,
    SECRET,
    Kind,
)

NAME = "hub-import"
_OWN = ("create", "delete", "get", "list", "patch")
_NEEDED: tuple[tuple[Kind, tuple[str, ...]], ...] = (
    (CLUSTER_VERSION, ("get",)),
    (OPERATOR_HUB, ("get", "patch")),
    (IMAGE_CONFIG, ("get", "patch")),
    (CONFIG_MAP, ("create", "delete", "get", "patch")),
    (SECRET, ("create", "delete", "get", "patch")),
    (ICSP, _OWN),
    (IDMS, _OWN),
    (ITMS, _OWN),
    (CATALOG_SOURCE, _OWN),
    (CLUSTER_CATALOG, _OWN),
    (PACKAGE_MANIFEST, ("list",)),
    (MACHINE_CONFIG_POOL, ("list",)),
    (POD, ("list",)),
)


@dataclass(frozen=True, slots=True)
class Permission:
    """One verb on one kind."""

    kind: Kind
    verb: str


def needed() -> list[Permission]:
    """Return every permission that apply, the wait, and undo use on any release."""
    return [Permission(kind, verb) for kind, verbs in _NEEDED for verb in verbs]


def cluster_role(permissions: Iterable[Permission]) -> dict[str, Any]:
    """Return a ClusterRole with just these permissions, ready to be bound to whoever runs the importer."""
    verbs: dict[tuple[str, str], set[str]] = {}
    for one in permissions:
        verbs.setdefault((one.kind.group, one.kind.plural), set()).add(one.verb)
    rules = [
        {"apiGroups": [group], "resources": [plural], "verbs": sorted(allowed)}
        for (group, plural), allowed in sorted(verbs.items())
    ]
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": NAME},
        "rules": rules,
    }
