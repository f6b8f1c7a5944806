"""The permissions of the importer on a cluster: exactly the verbs that it uses, for preflight and `render --rbac`.

An import fails without those of `needed`; those of `helpful` let preflight and `doctor` see Subscriptions and causes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from importer.cluster.kinds import (
    ACCESS_REVIEW,
    CATALOG_SOURCE,
    CLUSTER_CATALOG,
    CLUSTER_VERSION,
    CONFIG_MAP,
    CONFIG_NAMESPACE,
    DEPLOYMENT,
    EVENT,
    IMAGE_CONFIG,
    IMAGE_POLICY,
    IMAGE_REGISTRY,
    INFRASTRUCTURE,
    JOB,
    MACHINE_CONFIG,
    MACHINE_CONFIG_POOL,
    MARKETPLACE,
    NAMESPACE,
    NETWORK_POLICY,
    OLM_NAMESPACE,
    OPERATOR_HUB,
    PACKAGE_MANIFEST,
    PLAIN_OLM,
    POD,
    PROXY,
    SECRET,
    SERVICE,
    SUBSCRIPTION,
    Kind,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from importer.cluster.client import ClusterClient
    from importer.cluster.release import Release


NAME = "hub-import"
LOG = "log"
# Verbs on kinds that hub-import owns; `delete` is for undo.
_OWN = ("create", "delete", "get", "list", "patch")


@dataclass(frozen=True, slots=True)
class Permission:
    """One verb on one kind; `namespace` is empty for all of the cluster."""

    kind: Kind
    verb: str
    namespace: str = ""
    subresource: str = ""

    @property
    def resource(self) -> str:
        """The kind as a rule of RBAC names it."""
        return f"{self.kind.plural}/{self.subresource}" if self.subresource else self.kind.plural

    def __str__(self) -> str:
        group = f".{self.kind.group}" if self.kind.group else ""
        where = f" in {self.namespace}" if self.namespace else ""
        return f"{self.verb} {self.resource}{group}{where}"


def needed(release: Release | None) -> list[Permission]:
    """Return every permission that apply, the wait and undo use on a release; None is a Kubernetes with OLM."""
    namespace = MARKETPLACE if release is not None else PLAIN_OLM
    everywhere: list[tuple[Kind, tuple[str, ...]]] = [(CLUSTER_VERSION, ("get",))]
    config: list[tuple[Kind, tuple[str, ...]]] = []
    catalogs: list[tuple[Kind, tuple[str, ...]]] = [
        (CATALOG_SOURCE, _OWN),
        (PACKAGE_MANIFEST, ("list",)),
        # For the readiness of catalog pods; deleting a stale one is a fix of `doctor`, in `helpful`.
        (POD, ("list",)),
        (SERVICE, ("create", "delete", "get", "patch")),
        (DEPLOYMENT, ("create", "delete", "get", "patch")),
    ]
    if release is None or release.denies_network:
        catalogs.append((NETWORK_POLICY, ("create", "delete", "get", "patch")))
    if release is None:
        # The record of undo; on OpenShift it is in openshift-config.
        catalogs.append((SECRET, ("create", "delete", "get", "patch")))
    else:
        rules = release.rule_kinds
        everywhere += [(OPERATOR_HUB, ("get", "patch")), (IMAGE_CONFIG, ("get", "patch")), *((kind, _OWN) for kind in rules)]
        everywhere += [(MACHINE_CONFIG_POOL, ("list",)), (MACHINE_CONFIG, ("get",))]
        everywhere += [(INFRASTRUCTURE, ("get",)), (PROXY, ("get",))]
        everywhere += [(NAMESPACE, ("get",))] if release.has_capabilities else []
        everywhere += [(CLUSTER_CATALOG, _OWN)] if release.has_cluster_catalog else []
        everywhere += [(IMAGE_POLICY, ("list",))] if release.has_image_policies else []
        everywhere += [] if release.trusts_without_registry else [(IMAGE_REGISTRY, ("get", "patch"))]
        # The CA ConfigMap, the pull secret, and the record of undo.
        config = [(kind, ("create", "delete", "get", "patch")) for kind in (CONFIG_MAP, SECRET)]
    return [*_each(everywhere), *_each(config, CONFIG_NAMESPACE), *_each(catalogs, namespace)]


def helpful(release: Release | None) -> list[Permission]:
    """Return the permissions of preflight on Subscriptions, and of `doctor` and the wait for causes and fixes."""
    namespace = MARKETPLACE if release is not None else PLAIN_OLM
    found = [*_each([(EVENT, ("list",)), (POD, ("delete",)), (JOB, ("delete", "list")), (CONFIG_MAP, ("delete",))], namespace)]
    found += [Permission(POD, "get", namespace, LOG), *_each([(SUBSCRIPTION, ("list",)), (CATALOG_SOURCE, ("list",))])]
    if release is not None:
        found += _each([(NAMESPACE, ("create",))])
        found += [*_each([(POD, ("list",))], OLM_NAMESPACE), Permission(POD, "get", OLM_NAMESPACE, LOG)]
    return found


def _each(kinds: Iterable[tuple[Kind, tuple[str, ...]]], namespace: str = "") -> list[Permission]:
    return [Permission(kind, verb, namespace) for kind, verbs in kinds for verb in verbs]


def missing(client: ClusterClient, wanted: Iterable[Permission]) -> list[Permission]:
    """Return the permissions that the cluster does not give to this account. Changes nothing. Raises ClusterError."""
    # SelfSubjectAccessReview is allowed for every authenticated account (ClusterRole system:basic-user).
    return [one for one in wanted if not _is_allowed(client, one)]


def _is_allowed(client: ClusterClient, permission: Permission) -> bool:
    about = {
        "group": permission.kind.group,
        "resource": permission.kind.plural,
        "subresource": permission.subresource,
        "verb": permission.verb,
        "namespace": permission.namespace,
    }
    body = {
        "apiVersion": ACCESS_REVIEW.api_version,
        "kind": ACCESS_REVIEW.name,
        "metadata": {},
        # An empty namespace means all of them (api/authorization/v1, ResourceAttributes), so empty fields are left out.
        "spec": {"resourceAttributes": {name: value for name, value in about.items() if value}},
    }
    answer = client.review(ACCESS_REVIEW, body)
    return (answer.get("status") or {}).get("allowed") is True


def roles(permissions: Iterable[Permission]) -> list[dict[str, Any]]:
    """Return a ClusterRole, and a Role for each namespace, with exactly these permissions."""
    verbs: dict[str, dict[tuple[str, str], set[str]]] = {"": {}}
    for one in permissions:
        verbs.setdefault(one.namespace, {}).setdefault((one.kind.group, one.resource), set()).add(one.verb)
    return [_role(namespace, allowed) for namespace, allowed in sorted(verbs.items())]


def _role(namespace: str, allowed: Mapping[tuple[str, str], set[str]]) -> dict[str, Any]:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role" if namespace else "ClusterRole",
        "metadata": {"name": NAME, **({"namespace": namespace} if namespace else {})},
        "rules": [
            {"apiGroups": [group], "resources": [resource], "verbs": sorted(found)}
            for (group, resource), found in sorted(allowed.items())
        ],
    }
