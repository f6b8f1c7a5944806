"""Whether a namespace has only objects that the cluster creates in each one, or that OLM deletes with its operators.

A namespace that is deleted takes everything in it along, so every kind that the cluster serves is listed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from common.errors import ClusterError
from importer.cluster.api.client import ForbiddenError
from importer.cluster.kinds import COPIED_LABEL, Kind, has_own_label, maps_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from importer.cluster.api.client import Body, ClusterClient

# Served by aggregated servers: views of other objects, or of the kubelets.
_VIEWS = frozenset(
    (
        "packages.operators.coreos.com",
        "metrics.k8s.io",
        "custom.metrics.k8s.io",
        "authorization.openshift.io",
        "project.openshift.io",
    )
)
# Records of what was, and elections of leaders, which operators leave behind.
_TRACES = frozenset(("Event", "Lease", "Endpoints", "EndpointSlice"))
_ACCOUNTS = frozenset(("default", "builder", "deployer"))
_AUTHORITIES = frozenset(("kube-root-ca.crt", "openshift-service-ca.crt"))
_LEADER = "control-plane.alpha.kubernetes.io/leader"
_OF_ACCOUNT = ("kubernetes.io/service-account-token", "kubernetes.io/dockercfg")
Identity = tuple[str, str]  # kind and name


def what_is_in(client: ClusterClient, namespace: str, going: Collection[Identity] = ()) -> list[str]:
    """Return what a namespace has that is not to be deleted with it, as text. `going`: what is deleted before it.

    Raises ClusterError.
    """
    bodies: list[Body] = []
    try:
        kinds = list(_namespaced(client))
    except ClusterError as error:  # an aggregated server that is down
        return [f"what is not known: {error.message}"]
    for kind in kinds:
        if kind.name in _TRACES:
            continue
        try:
            # Any kind of any operator: its fields have names of others, and other types (`data` of a ControllerRevision).
            bodies += [{**each, "kind": kind.name} for each in client.list(kind, namespace, content=False) or []]
        except ForbiddenError:
            return [f"{kind.plural}, which may not be listed"]
        except ClusterError as error:
            # Of a kind whose conversion webhook went with its operator, every list fails, and all else can still be undone.
            return [error.message]
    kept = [each for each in bodies if (each["kind"], each["metadata"]["name"]) not in going]
    names = {kind.name for kind in kinds}
    return sorted({f"{each['kind']} {each['metadata']['name']}" for each in kept if not _goes(each, names)})


def _goes(body: Body, kinds: Collection[str]) -> bool:
    """Return whether an object does not count: made by the cluster for each namespace, or owned by another of the namespace."""
    metadata, kind, name = body["metadata"], str(body["kind"]), str(body["metadata"]["name"])
    if metadata.get("deletionTimestamp") or COPIED_LABEL in (metadata.get("labels") or {}):
        return True
    # Its owner counts in its place; one that is gone takes it along.
    if any(each.get("kind") in kinds for each in metadata.get("ownerReferences") or []):
        return True
    if kind == "ServiceAccount":
        return name in _ACCOUNTS and not has_own_label(body)
    if kind == "ConfigMap":
        return name in _AUTHORITIES or _LEADER in (metadata.get("annotations") or {})
    if kind == "Secret":
        return body.get("type") in _OF_ACCOUNT
    return kind == "RoleBinding" and name.startswith("system:")


def _namespaced(client: ClusterClient) -> Iterator[Kind]:
    """Yield the kinds that have objects in namespaces, each once, as the API server lists them."""
    groups = maps_of(client.document("/apis").get("groups"))
    # All versions: Subscriptions are served in another one than the preferred of their group.
    listed = (each for group in groups for each in maps_of(group.get("versions")))
    versions = ["v1", *(str(each.get("groupVersion") or "") for each in listed)]
    known: set[tuple[str, str]] = set()
    for version in versions:
        group, _, number = version.rpartition("/")
        if not number or group in _VIEWS:
            continue
        for each in maps_of(client.document(f"/apis/{version}" if group else f"/api/{version}").get("resources")):
            if _is_listed(each) and (group, each["name"]) not in known:
                known.add((group, each["name"]))
                yield Kind(group, number, str(each["kind"]), str(each["name"]), namespaced=True)


def _is_listed(resource: Mapping[str, Any]) -> bool:
    if resource.get("namespaced") is not True:
        return False
    name, verbs = resource.get("name"), resource.get("verbs")
    # A subresource has a slash in its name; what cannot be deleted is a view.
    named = isinstance(name, str) and isinstance(resource.get("kind"), str) and "/" not in name
    return named and isinstance(verbs, list) and {"list", "delete"} <= {*map(str, verbs)}
