"""What the API server says of itself: its version, its groups and their kinds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.fakes.cluster_rbac import Asked
from tests.fakes.cluster_store import Body

if TYPE_CHECKING:
    from tests.fakes.cluster import FakeCluster


def discovery(cluster: FakeCluster, parts: list[str]) -> Body | None:
    """Return what the paths above all objects say; None for a path that names objects."""
    if len(parts) > 3 or parts[0] not in {"version", "api", "apis"}:
        return None
    groups: dict[str, set[str]] = {}
    for kind in cluster.kinds:
        groups.setdefault(kind.group, set()).add(kind.version)
    groups.setdefault("authorization.k8s.io", set()).add("v1")
    if parts == ["version"]:
        major, minor = cluster.kubernetes
        return {"major": str(major), "minor": str(minor), "gitVersion": f"v{major}.{minor}.14"}
    if parts == ["api"]:
        return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}
    if parts == ["apis"]:
        found = [_group(name, versions) for name, versions in sorted(groups.items()) if name]
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": found}
    if parts == ["api", "v1"]:
        return _resources(cluster, "", "v1")
    if len(parts) == 3 and parts[0] == "apis" and parts[2] in groups.get(parts[1], set()):
        return _resources(cluster, parts[1], parts[2])
    return None


def _group(name: str, versions: set[str]) -> Body:
    listed = [{"groupVersion": f"{name}/{version}", "version": version} for version in sorted(versions)]
    return {"name": name, "versions": listed, "preferredVersion": listed[0]}


def _resources(cluster: FakeCluster, group: str, version: str) -> Body:
    verbs = ["create", "delete", "get", "list", "patch", "update", "watch"]
    listed = [
        {
            "name": kind.plural,
            "singularName": kind.kind.lower(),
            "namespaced": kind.namespaced,
            "kind": kind.kind,
            "verbs": verbs,
        }
        for kind in cluster.kinds
        if (kind.group, kind.version) == (group, version)
    ]
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": f"{group}/{version}" if group else version,
        "resources": listed,
    }


def access_review(cluster: FakeCluster, asked: Body) -> Body:
    """Answer a SelfSubjectAccessReview: all is allowed that the cluster does not forbid, or what its roles allow."""
    about = asked["spec"]["resourceAttributes"]
    resource = about["resource"] + (f"/{about['subresource']}" if about.get("subresource") else "")
    allowed = (about["verb"], resource) not in cluster.forbidden
    if cluster.roles is not None:
        attributes = Asked(about["verb"], about.get("group", ""), resource, about.get("namespace", ""), about.get("name", ""))
        allowed = bool(cluster.roles.matching(attributes))
    return {**asked, "status": {"allowed": allowed, **({} if allowed else {"reason": "no RBAC policy matched"})}}


def self_review(cluster: FakeCluster, path: str) -> Body | None:
    """Answer who is asking; None for another path. Every account may: ClusterRoles system:basic-user, and basic-user of OpenShift."""
    # KEP-3325: SelfSubjectReview is v1 from Kubernetes 1.28 on.
    if path == "/apis/authentication.k8s.io/v1/selfsubjectreviews" and cluster.kubernetes >= (1, 28):
        groups = ["system:authenticated"]
        status = {"userInfo": {"username": cluster.account, "groups": groups}}
        return {"kind": "SelfSubjectReview", "apiVersion": "authentication.k8s.io/v1", "metadata": {}, "status": status}
    if path == "/apis/user.openshift.io/v1/users/~" and cluster.release is not None:
        # `~` is a virtual user: accounts that come with a certificate have no object.
        metadata = {"name": cluster.account}
        return {"kind": "User", "apiVersion": "user.openshift.io/v1", "metadata": metadata, "identities": None, "groups": []}
    return None
