"""What a cluster has after its installation."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

from tests.fakes.cluster_simulator import MANAGED_BY, MARKETPLACE

if TYPE_CHECKING:
    from tests.fakes.cluster import FakeCluster

PULL_SECRET = {
    "auths": {"registry.redhat.io": {"auth": "dXNlcjpwYXNz"}, "cloud.openshift.com": {"auth": "eDp5", "email": "a@b"}}
}
_DEFAULTS = ("certified-operators", "community-operators", "redhat-operators")


def seed(cluster: FakeCluster) -> None:
    """Put there what an installation puts there."""
    for namespace in ("default", "olm"):
        cluster.add("Namespace", namespace)
    if cluster.release is None:
        return
    for namespace in (MARKETPLACE, "openshift-config", "openshift-operator-lifecycle-manager"):
        cluster.add("Namespace", namespace)
    version = f"{cluster.release[0]}.{cluster.release[1]}.{cluster.patch}"
    history = [{"state": "Completed", "version": version}]
    cluster.add("ClusterVersion", "version", status={"desired": {"version": version}, "history": history})
    cluster.add("OperatorHub", "cluster", spec={})
    cluster.add("Image", "cluster", spec={})
    for pool in ("master", "worker"):
        cluster.add("MachineConfigPool", pool, spec={"configuration": {"name": f"rendered-{pool}-1"}})
    cluster.simulator.machines.seed()
    cluster.add("Infrastructure", "cluster", status={"controlPlaneTopology": "HighlyAvailable"})
    cluster.add("Proxy", "cluster", spec={})
    registry = {"managementState": "Removed", "replicas": 1, "storage": {}}
    cluster.add("Config", "cluster", spec=registry)
    _package_server(cluster)
    secret = base64.b64encode(json.dumps(PULL_SECRET).encode()).decode()
    cluster.put(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "pull-secret", "namespace": "openshift-config"},
            "type": "kubernetes.io/dockerconfigjson",
            "data": {".dockerconfigjson": secret},
        },
        "cluster-bootstrap",
    )
    seed_catalogs(cluster)


def _package_server(cluster: FakeCluster) -> None:
    metadata = {
        "name": "packageserver-7c5b",
        "namespace": "openshift-operator-lifecycle-manager",
        "labels": {"app": "packageserver"},
    }
    cluster.put({"kind": "Pod", "metadata": metadata, "spec": {"containers": [{"name": "packageserver", "image": "olm"}]}})


def seed_catalogs(cluster: FakeCluster) -> None:
    """Put the default catalogs there, as the marketplace does."""
    for name in _DEFAULTS:
        index = f"registry.redhat.io/redhat/{name.removesuffix('s')}-index:v{cluster.release[0]}.{cluster.release[1]}"  # type: ignore[index]
        metadata = {"name": name, "namespace": MARKETPLACE, "annotations": {MANAGED_BY: "marketplace-operator"}}
        spec = {"sourceType": "grpc", "image": index, "displayName": name}
        cluster.put({"kind": "CatalogSource", "metadata": metadata, "spec": spec}, "marketplace-operator")
        if any(kind.kind == "ClusterCatalog" for kind in cluster.kinds):
            source = {"type": "Image", "image": {"ref": index, "pollIntervalMinutes": 10}}
            cluster.add("ClusterCatalog", f"openshift-{name}", spec={"priority": -100, "source": source})
