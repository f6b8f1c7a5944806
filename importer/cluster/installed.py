"""What runs on a cluster already: the platforms of its nodes, the operators that Subscriptions keep up to date. Reads only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from common.errors import ClusterError
from common.target_profile import InstalledOperator
from importer.cluster.client import Body, ClusterClient
from importer.cluster.kinds import CLUSTER_SERVICE_VERSION, NODE, SUBSCRIPTION
from importer.cluster.looks import status_of


@dataclass(frozen=True, slots=True)
class Installed:
    """The operators, sorted; `notes`: versions that could not be read, and why."""

    operators: tuple[InstalledOperator, ...]
    notes: tuple[str, ...]


def platforms(client: ClusterClient) -> tuple[str, ...] | None:
    """Return the platforms of the nodes (`linux/amd64`), sorted; None when no node says one. Raises ClusterError."""
    found = {platform for node in client.list(NODE) or [] for platform in _platform(node)}
    return tuple(sorted(found)) or None


def operators(client: ClusterClient) -> Installed:
    """Return the operators that are installed by Subscriptions. Raises ClusterError when these cannot be listed."""
    found, notes = [], []
    for subscription in client.list(SUBSCRIPTION) or []:
        spec, status = subscription.get("spec") or {}, status_of(subscription)
        namespace, csv = str(subscription["metadata"].get("namespace", "")), str(status.get("installedCSV") or "")
        if not csv:
            continue
        try:
            version = _version(client, csv, namespace)
        except ClusterError as error:
            version = None
            notes.append(f"version of {csv}: {error.message}")
        names = (str(spec.get(key) or "") for key in ("name", "channel", "source"))
        package, channel, catalog = names
        found.append(InstalledOperator(package, channel, csv, version, catalog, namespace))
    ordered = sorted(found, key=lambda one: (one.package, one.namespace, one.csv))
    return Installed(tuple(ordered), tuple(notes))


def _version(client: ClusterClient, csv: str, namespace: str) -> str | None:
    found = client.get(CLUSTER_SERVICE_VERSION, csv, namespace) or {}
    version = (found.get("spec") or {}).get("version")
    return str(version) if version else None


def _platform(node: Body) -> Iterator[str]:
    info = status_of(node).get("nodeInfo") or {}
    system, architecture = info.get("operatingSystem") or "linux", info.get("architecture")
    if architecture:
        yield f"{system}/{architecture}"
