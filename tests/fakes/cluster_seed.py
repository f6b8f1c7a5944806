"""What a cluster has after its installation."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

from tests.fakes import cluster_network, cluster_releases
from tests.fakes.cluster_simulator import MANAGED_BY, MARKETPLACE

if TYPE_CHECKING:
    from tests.fakes.cluster import FakeCluster

PULL_SECRET = {
    "auths": {"registry.redhat.io": {"auth": "dXNlcjpwYXNz"}, "cloud.openshift.com": {"auth": "eDp5", "email": "a@b"}}
}
_DEFAULTS = ("certified-operators", "community-operators", "redhat-operators")


def seed(cluster: FakeCluster) -> None:
    """Put there what an installation puts there."""
    cluster.add("Namespace", "default")
    if cluster.microshift:
        _microshift(cluster)
        return
    # deploy/upstream/values.yaml of operator-lifecycle-manager: `namespace_psa`
    _namespace(cluster, "olm", "restricted" if cluster.release is None else "")
    if cluster.release is None:
        return
    # manifests/01_namespace.yaml of operator-marketplace, since 4.12
    _namespace(cluster, MARKETPLACE, "baseline" if cluster.release >= (4, 12) else "")
    if cluster.release >= (4, 20):
        cluster.put(cluster_network.default_deny(MARKETPLACE), "cluster-version-operator")
    for namespace in ("openshift-config", "openshift-config-managed", "openshift-operator-lifecycle-manager"):
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
    if cluster.update_service:
        cluster.add("Namespace", cluster_releases.NAMESPACE)
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


def _microshift(cluster: FakeCluster) -> None:
    """Put there what MicroShift and its OLM have (openshift/microshift, assets/optional/operator-lifecycle-manager)."""
    assert cluster.release is not None
    _namespace(cluster, MARKETPLACE, "restricted")  # 0000_50_olm_00-namespace.yaml
    cluster.put(cluster_network.default_deny(MARKETPLACE), "microshift")  # 0000_50_olm_01-marketplace-networkpolicy.yaml
    for namespace in ("kube-public", "openshift-operator-lifecycle-manager"):
        cluster.add("Namespace", namespace)
    # assets/version/microshift-version.yaml
    numbers = {"major": str(cluster.release[0]), "minor": str(cluster.release[1]), "patch": str(cluster.patch)}
    data = {**numbers, "version": ".".join(numbers.values())}
    metadata = {"name": "microshift-version", "namespace": "kube-public"}
    cluster.put({"kind": "ConfigMap", "metadata": metadata, "data": data}, "microshift")


def _namespace(cluster: FakeCluster, name: str, enforced: str) -> None:
    labels = {"pod-security.kubernetes.io/enforce": enforced} if enforced else {}
    cluster.put({"kind": "Namespace", "metadata": {"name": name, "labels": labels}}, "cluster-version-operator")


def _package_server(cluster: FakeCluster) -> None:
    metadata = {
        "name": "packageserver-7c5b",
        "namespace": "openshift-operator-lifecycle-manager",
        "labels": {"app": "packageserver"},
    }
    cluster.put({"kind": "Pod", "metadata": metadata, "spec": {"containers": [{"name": "packageserver", "image": "olm"}]}})


def disabled_defaults(cluster: FakeCluster) -> set[str]:
    """Return the default catalogs that OperatorHub switches off: its `sources` win over `disableAllDefaultSources`.

    README.md and pkg/operatorhub/config.go of operator-marketplace; a source without `disabled` is enabled.
    """
    spec = cluster.get("OperatorHub", "cluster").get("spec") or {} if "cluster" in cluster.names("OperatorHub") else {}
    named = {each["name"]: bool(each.get("disabled")) for each in spec.get("sources") or []}
    return {name for name in _DEFAULTS if named.get(name, bool(spec.get("disableAllDefaultSources")))}


def seed_catalogs(cluster: FakeCluster) -> None:
    """Put the default catalogs there that are not disabled, as the marketplace does."""
    for name in sorted(set(_DEFAULTS) - disabled_defaults(cluster)):
        index = f"registry.redhat.io/redhat/{name.removesuffix('s')}-index:v{cluster.release[0]}.{cluster.release[1]}"  # type: ignore[index]
        metadata = {"name": name, "namespace": MARKETPLACE, "annotations": {MANAGED_BY: "marketplace-operator"}}
        spec = {"sourceType": "grpc", "image": index, "displayName": name}
        cluster.put({"kind": "CatalogSource", "metadata": metadata, "spec": spec}, "marketplace-operator")
        if any(kind.kind == "ClusterCatalog" for kind in cluster.kinds):
            source = {"type": "Image", "image": {"ref": index, "pollIntervalMinutes": 10}}
            cluster.add("ClusterCatalog", f"openshift-{name}", spec={"priority": -100, "source": source})
