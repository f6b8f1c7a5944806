"""What runs on a cluster already: the platforms of its nodes, the operators that Subscriptions keep up to date. Reads only."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from common.errors import ClusterError
from common.target_profile import InstalledOperator
from importer.cluster.client import Body, ClusterClient
from importer.cluster.kinds import CLUSTER_SERVICE_VERSION, NODE, SUBSCRIPTION, Kind
from importer.cluster.looks import status_of
from importer.cluster.permissions import Permission
from importer.unseen import Unseen

READS = (Permission(NODE, "list"), Permission(SUBSCRIPTION, "list"), Permission(CLUSTER_SERVICE_VERSION, "get"))
"""What this module has to be allowed to do, for `render --rbac`; `probe` goes on without."""


def platforms(client: ClusterClient) -> tuple[str, ...]:
    """Return the platforms of the nodes (`linux/amd64`), sorted. Raises ClusterError, also when no node says one."""
    found = {platform for node in _listed(client, NODE) for platform in _platform(node)}
    if not found:
        raise ClusterError("no node says its architecture")
    return tuple(sorted(found))


def operators(client: ClusterClient, unseen: Unseen) -> tuple[InstalledOperator, ...]:
    """Return the operators that Subscriptions have installed, sorted; versions that are not to be read are noted in `unseen`.

    Raises ClusterError when the Subscriptions cannot be listed.
    """
    found = []
    for subscription in _listed(client, SUBSCRIPTION):
        spec, csv = subscription.get("spec") or {}, str(status_of(subscription).get("installedCSV") or "")
        if not csv:
            continue
        namespace = str(subscription["metadata"].get("namespace", ""))
        version = unseen.seen(f"version of {csv}", partial(_version, client, csv, namespace))
        package, channel, catalog = (str(spec.get(key) or "") for key in ("name", "channel", "source"))
        found.append(InstalledOperator(package, channel, csv, version, catalog, namespace))
    return tuple(sorted(found, key=lambda one: (one.package, one.namespace, one.csv)))


def _listed(client: ClusterClient, kind: Kind) -> list[Body]:
    """Return the objects of a kind. No such kind is not the same as none of them: it raises ClusterError."""
    found = client.list(kind)
    if found is None:
        raise ClusterError(f"the cluster has no {kind.path}")
    return found


def _version(client: ClusterClient, csv: str, namespace: str) -> str | None:
    found = client.get(CLUSTER_SERVICE_VERSION, csv, namespace)
    if found is None:
        raise ClusterError("the cluster has no such ClusterServiceVersion")
    version = (found.get("spec") or {}).get("version")
    return str(version) if version else None


def _platform(node: Body) -> Iterator[str]:
    info = status_of(node).get("nodeInfo") or {}
    system, architecture = info.get("operatingSystem") or "linux", info.get("architecture")
    if architecture:
        yield f"{system}/{architecture}"
