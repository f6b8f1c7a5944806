"""A catalog that we run ourselves: Deployment and Service, for a CatalogSource that has an address instead of an image. Pure.

Where the namespace denies traffic by default, a NetworkPolicy lets OLM in, as the one does that OLM writes for pods of its own
(operator-lifecycle-manager, pkg/controller/registry/reconciler: `DesiredGRPCServerNetworkPolicy`).

OLM 4.3 up to about 4.3.9 gives catalog pods 100 MiB and no field to change that; and before 4.9 a pod that does not answer
within about 40 s is killed. A Deployment of our own has neither limit (docs/facts/openshift.md §0.1, §0.2).
"""

from __future__ import annotations

from typing import Any

from importer.cluster.kinds import DEPLOYMENT, NETWORK_POLICY, SERVICE
from importer.cluster.release import Release
from importer.cluster.resource import OWN_LABELS, Resource

PORT = 50051
_LABEL = "hub-import/catalog"
_STARTS_WITHIN_S = 900  # a large SQLite catalog on a slow disk
_PERIOD_S = 10
_OLMS_USER = 1001  # operator-lifecycle-manager, pkg/controller/registry/reconciler/reconciler.go


def serving_labels(name: str) -> dict[str, str]:
    """Return the labels of the pods that serve the CatalogSource `name`."""
    return {_LABEL: name}


def address(name: str, namespace: str) -> str:
    """Return where the CatalogSource `name` finds them."""
    return f"{service_name(name)}.{namespace}.svc:{PORT}"


def service_name(name: str) -> str:
    """Return the name of Service and Deployment; OLM's own Service has the CatalogSource's."""
    return f"{name[:54].rstrip('-')}-serving"


def serving(name: str, namespace: str, image: str, release: Release | None) -> tuple[Resource, ...]:
    """Return the objects that serve a catalog image, without a limit on memory and with time to start.

    `release` None is a Kubernetes with OLM, whose own namespace may enforce restricted pods and deny traffic.
    """
    restricted = release is None or release.restricts_pods
    labels = serving_labels(name)
    metadata = {"name": service_name(name), "namespace": namespace, "labels": OWN_LABELS}
    deployment = {
        "apiVersion": DEPLOYMENT.api_version,
        "kind": DEPLOYMENT.name,
        "metadata": metadata,
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": _pod(image, release, restricted=restricted)},
        },
    }
    ports = [{"name": "grpc", "port": PORT, "protocol": "TCP", "targetPort": PORT}]
    service = {
        "apiVersion": SERVICE.api_version,
        "kind": SERVICE.name,
        "metadata": metadata,
        "spec": {"ports": ports, "selector": labels},
    }
    policy = [_network_policy(metadata, labels)] if release is None or release.denies_network else []
    return (Resource.of(deployment), Resource.of(service), *policy)


def _network_policy(metadata: dict[str, Any], labels: dict[str, str]) -> Resource:
    """Return the policy that lets the catalog be asked, and the pod ask nothing: it needs nothing."""
    spec = {
        "podSelector": {"matchLabels": labels},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"ports": [{"port": PORT, "protocol": "TCP"}]}],
    }
    return Resource.of(
        {"apiVersion": NETWORK_POLICY.api_version, "kind": NETWORK_POLICY.name, "metadata": metadata, "spec": spec}
    )


def _pod(image: str, release: Release | None, *, restricted: bool) -> dict[str, Any]:
    """Return the pod: restricted (Kubernetes, *Pod Security Standards*) where that is allowed.

    OpenShift gives it a user; elsewhere it is the one that OLM gives to catalogs.
    """
    container = _container(image)
    if not restricted:
        return {"containers": [container]}
    context = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    user = {"runAsUser": _OLMS_USER} if release is None else {}
    bounded = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    return {"securityContext": {**context, **user}, "containers": [{**container, "securityContext": bounded}]}


def _container(image: str) -> dict[str, Any]:
    """Return the container. Kubernetes 1.16 has no startup probe: being alive is not asked for until it must have started."""
    probe = {"exec": {"command": ["grpc_health_probe", f"-addr=localhost:{PORT}"]}, "periodSeconds": _PERIOD_S}
    return {
        "name": "registry-server",
        "image": image,
        "ports": [{"name": "grpc", "containerPort": PORT, "protocol": "TCP"}],
        "resources": {"requests": {"cpu": "10m", "memory": "50Mi"}},
        "readinessProbe": {**probe, "initialDelaySeconds": 5, "timeoutSeconds": 5},
        "livenessProbe": {**probe, "initialDelaySeconds": _STARTS_WITHIN_S, "timeoutSeconds": 5, "failureThreshold": 3},
    }
