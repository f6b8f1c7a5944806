"""Which pods a NetworkPolicy lets OLM reach (Kubernetes, NetworkPolicySpec: policies of one pod add up).

From 4.20 on `openshift-marketplace` denies all by default (operator-framework/operator-marketplace#644,
manifests/*_networkpolicy.yaml), and OLM writes a policy for each catalog pod of its own (operator-lifecycle-manager,
pkg/controller/registry/reconciler/grpc_networkpolicy.go: `DesiredGRPCServerNetworkPolicy`); none for a CatalogSource with an
address.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Body = dict[str, Any]
GRPC = 50051
OLM = "openshift-operator-lifecycle-manager"


def default_deny(namespace: str) -> Body:
    """Return the policy that lets nothing through."""
    spec = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    return {"kind": "NetworkPolicy", "metadata": {"name": "default-deny-all", "namespace": namespace}, "spec": spec}


def of_catalog(source: str, namespace: str) -> Body:
    """Return what OLM writes for the pods of a CatalogSource."""
    labels = {"olm.managed": "true", "olm.catalogSource": source}
    spec = {
        "podSelector": {"matchLabels": {"olm.catalogSource": source}},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"ports": [{"protocol": "TCP", "port": GRPC}]}],
    }
    metadata = {"name": f"{source}-grpc-server", "namespace": namespace, "labels": labels}
    return {"kind": "NetworkPolicy", "metadata": metadata, "spec": spec}


def reaches(pod: Body, policies: Iterable[Body], port: int = GRPC) -> bool:
    """Say whether OLM, from its own namespace, reaches a port of a pod."""
    specs = [policy["spec"] for policy in policies if _selects(policy["spec"].get("podSelector") or {}, pod)]
    isolating = [spec for spec in specs if "Ingress" in (spec.get("policyTypes") or ["Ingress"])]
    return not isolating or any(_lets_in(rule, port) for spec in isolating for rule in spec.get("ingress") or [])


def _selects(selector: Mapping[str, Any], pod: Body) -> bool:
    labels = pod["metadata"].get("labels") or {}
    return bool((selector.get("matchLabels") or {}).items() <= labels.items())


def _lets_in(rule: Body, port: int) -> bool:
    ports, peers = rule.get("ports") or [], rule.get("from") or []
    open_port = not ports or any(each.get("protocol", "TCP") == "TCP" and each.get("port") in {port, "grpc"} for each in ports)
    return open_port and (not peers or any(_is_olm(peer) for peer in peers))


def _is_olm(peer: Body) -> bool:
    wanted = (peer.get("namespaceSelector") or {}).get("matchLabels") or {}
    return "namespaceSelector" in peer and wanted.items() <= {"kubernetes.io/metadata.name": OLM}.items()
