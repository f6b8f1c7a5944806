"""The defaults that an API server writes into objects of the built-in kinds, also inside the items of lists.

Sources: Kubernetes, pkg/apis/apps/v1/defaults.go (Deployment), pkg/apis/core/v1/defaults.go (Service, Secret, pods,
containers, probes), pkg/apis/networking/v1/defaults.go (NetworkPolicy), pkg/registry/core/service (the cluster's addresses).
"""

from __future__ import annotations

import hashlib
from typing import Any

Body = dict[str, Any]
_ROLLING = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}}
_POD = {
    "restartPolicy": "Always",
    "terminationGracePeriodSeconds": 30,
    "dnsPolicy": "ClusterFirst",
    "securityContext": {},
    "schedulerName": "default-scheduler",
}
_CONTAINER = {"resources": {}, "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"}
_PROBE = {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")


def fill(kind: str, name: str, body: Body) -> None:
    """Write the defaults of a kind into `body`."""
    spec = body.get("spec")
    if kind == "Secret":
        body.setdefault("type", "Opaque")
    if kind == "Namespace":
        labels = body.setdefault("metadata", {}).setdefault("labels", {})
        labels.setdefault("kubernetes.io/metadata.name", name)
    if isinstance(spec, dict):
        {"Deployment": _deployment, "Service": _service, "NetworkPolicy": _network_policy}.get(kind, _nothing)(spec, name)


def _nothing(_spec: Body, _name: str) -> None:
    pass


def _defaults(place: Body, values: Body) -> None:
    for key, value in values.items():
        place.setdefault(key, dict(value) if isinstance(value, dict) else value)


def _deployment(spec: Body, _name: str) -> None:
    template = spec.get("template")
    if template is None:  # tests write Deployments that nothing runs
        return
    _defaults(spec, {"replicas": 1, "strategy": _ROLLING, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600})
    pod = template.setdefault("spec", {})
    _defaults(pod, _POD)
    for container in [*(pod.get("initContainers") or []), *(pod.get("containers") or [])]:
        _container(container)


def _container(container: Body) -> None:
    image = str(container.get("image", ""))
    floating = "@" not in image and image.rpartition("/")[2].partition(":")[2] in {"", "latest"}
    _defaults(container, {**_CONTAINER, "imagePullPolicy": "Always" if floating else "IfNotPresent"})
    for port in container.get("ports") or []:
        port.setdefault("protocol", "TCP")
    for probe in (container[name] for name in _PROBES if container.get(name)):
        _defaults(probe, _PROBE)


def _service(spec: Body, name: str) -> None:
    number = hashlib.sha256(name.encode()).digest()
    address = f"172.30.{number[0]}.{number[1]}"
    _defaults(spec, {"type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster"})
    _defaults(spec, {"clusterIP": address, "clusterIPs": [address], "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack"})
    for port in spec.get("ports") or []:
        _defaults(port, {"protocol": "TCP", "targetPort": port.get("port")})


def _network_policy(spec: Body, _name: str) -> None:
    spec.setdefault("policyTypes", ["Ingress", *(["Egress"] if spec.get("egress") else [])])
    for rule in [*(spec.get("ingress") or []), *(spec.get("egress") or [])]:
        for port in rule.get("ports") or []:
            port.setdefault("protocol", "TCP")
