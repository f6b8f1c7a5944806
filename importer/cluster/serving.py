"""A catalog that we run ourselves: Deployment and Service, for a CatalogSource that has an address instead of an image. Pure.

OLM 4.3 up to about 4.3.9 gives catalog pods 100 MiB and no field to change that; and before 4.9 a pod that does not answer
within about 40 s is killed. A Deployment of our own has neither limit (docs/facts/openshift.md §0.1, §0.2).
"""

from __future__ import annotations

from typing import Any

from importer.cluster.kinds import DEPLOYMENT, SERVICE
from importer.cluster.resource import OWN_LABELS, Resource

PORT = 50051
_LABEL = "hub-import/catalog"
_STARTS_WITHIN_S = 900  # a large SQLite catalog on a slow disk
_PERIOD_S = 10


def serving_labels(name: str) -> dict[str, str]:
    """Return the labels of the pods that serve the CatalogSource `name`."""
    return {_LABEL: name}


def address(name: str, namespace: str) -> str:
    """Return where the CatalogSource `name` finds them."""
    return f"{service_name(name)}.{namespace}.svc:{PORT}"


def service_name(name: str) -> str:
    """Return the name of Service and Deployment; OLM's own Service has the CatalogSource's."""
    return f"{name[:54].rstrip('-')}-serving"


def serving(name: str, namespace: str, image: str) -> tuple[Resource, ...]:
    """Return the objects that serve a catalog image, without a limit on memory and with time to start."""
    labels = serving_labels(name)
    metadata = {"name": service_name(name), "namespace": namespace, "labels": OWN_LABELS}
    deployment = {
        "apiVersion": DEPLOYMENT.api_version,
        "kind": DEPLOYMENT.name,
        "metadata": metadata,
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [_container(image)]}},
        },
    }
    ports = [{"name": "grpc", "port": PORT, "protocol": "TCP", "targetPort": PORT}]
    service = {
        "apiVersion": SERVICE.api_version,
        "kind": SERVICE.name,
        "metadata": metadata,
        "spec": {"ports": ports, "selector": labels},
    }
    return Resource.of(deployment), Resource.of(service)


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
