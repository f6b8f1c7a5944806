"""The objects that serve a catalog: CatalogSource, ClusterCatalog for OLM v1, and the Deployment of one by address. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from common.olm.catalog_names import label
from common.olm.source_template import Spec, Template
from common.serialization import convert
from importer.cluster.kinds import (
    CATALOG_SOURCE,
    CLUSTER_CATALOG,
    DEPLOYMENT,
    MARKETPLACE,
    NETWORK_POLICY,
    OWN_LABELS,
    PLAIN_OLM,
    SERVICE,
    Resource,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from common.archive.inventory import CatalogRecord
    from importer.cluster.release import Release
    from importer.mapping import MappedImage


def template_spec(catalog: CatalogRecord, release: Release | None) -> dict[str, Any]:
    """Return the fields of a catalog's template that the release knows. Raises UsageError for a field of the wrong type."""
    template = convert(catalog.catalog_source_template or {}, Template, f"CatalogSource template of {catalog.name}")
    wanted: dict[str, Any] = msgspec.to_builtins(template.spec or Spec())
    if release is not None and not release.has_priority:
        wanted.pop("priority", None)
    pod_config = wanted.pop("grpcPodConfig", {})
    known = pod_config.keys() if release is None else release.pod_config_fields
    # The template was written for the original catalog, whose cache a rebuilt one does not have.
    decided = {"extractContent"} if catalog.filtered else set()
    kept = {name: value for name, value in pod_config.items() if name in known and name not in decided}
    return {**wanted, "grpcPodConfig": kept} if kept else wanted


# A catalog by address: Deployment and Service, for a CatalogSource with an address instead of an image. OLM 4.3 up to about
# 4.3.9 limits catalog pods to 100 MiB (BZ#1760608), and before 4.9 a pod that does not answer within about 40 s is killed; an
# own Deployment has neither limit. Where the namespace denies traffic by default, a NetworkPolicy lets OLM in, as for the pods
# of OLM (operator-lifecycle-manager, pkg/controller/registry/reconciler: `DesiredGRPCServerNetworkPolicy`).

PORT = 50051
_LABEL = "hub-import/catalog"
_STARTS_WITHIN_S = 900  # a large SQLite catalog on a slow disk
_PERIOD_S = 10
_OLM_USER = 1001  # operator-lifecycle-manager, pkg/controller/registry/reconciler/reconciler.go


def serving_labels(name: str) -> dict[str, str]:
    """Return the labels of the pods that serve the CatalogSource `name`."""
    return {_LABEL: name}


def address(name: str, namespace: str) -> str:
    """Return the address of the Service for the CatalogSource `name`."""
    return f"{service_name(name)}.{namespace}.svc:{PORT}"


def service_name(name: str) -> str:
    """Return the name of Service and Deployment; not the CatalogSource's, which OLM gives to a Service of its own."""
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
    """Return the policy that allows requests to the catalog, and none from its pod, which needs none."""
    spec = {
        "podSelector": {"matchLabels": labels},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"ports": [{"port": PORT, "protocol": "TCP"}]}],
    }
    return Resource.of(
        {"apiVersion": NETWORK_POLICY.api_version, "kind": NETWORK_POLICY.name, "metadata": metadata, "spec": spec}
    )


def _pod(image: str, release: Release | None, *, restricted: bool) -> dict[str, Any]:
    """Return the pod: restricted (Kubernetes, *Pod Security Standards*) where that is allowed."""
    container, placed = _container(image), _scheduling(release)
    if not restricted:
        return {**placed, "containers": [container]}
    context = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    # OpenShift assigns a user of the namespace's range; elsewhere it is the one that OLM gives to catalogs.
    user = {"runAsUser": _OLM_USER} if release is None else {}
    bounded = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    return {**placed, "securityContext": {**context, **user}, "containers": [{**container, "securityContext": bounded}]}


def _container(image: str) -> dict[str, Any]:
    """Return the container."""
    # Kubernetes 1.16 has no startup probe, so the liveness probe starts late instead.
    probe = {"exec": {"command": ["grpc_health_probe", f"-addr=localhost:{PORT}"]}, "periodSeconds": _PERIOD_S}
    return {
        "name": "registry-server",
        "image": image,
        "ports": [{"name": "grpc", "containerPort": PORT, "protocol": "TCP"}],
        "resources": {"requests": {"cpu": "10m", "memory": "50Mi"}},
        "readinessProbe": {**probe, "initialDelaySeconds": 5, "timeoutSeconds": 5},
        "livenessProbe": {**probe, "initialDelaySeconds": _STARTS_WITHIN_S, "timeoutSeconds": 5, "failureThreshold": 3},
    }


CONFIGS = "/configs"
FILE_BASED = "file-based"


def source_name(text: str) -> str:
    """Return a name that OLM can make a service of (RFC 1035 label): lower case, beginning with a letter."""
    return label(text)


def namespace_for(release: Release | None) -> str:
    """Return the global catalog namespace, whose catalogs are offered in all namespaces."""
    return MARKETPLACE if release is not None else PLAIN_OLM


def catalog_source(
    catalog: CatalogRecord,
    image: MappedImage,
    name: str,
    release: Release | None,
    *,
    served: bool = False,
    title: str = "",
) -> Resource:
    """Return the CatalogSource of a catalog, with its image on the mirror by digest.

    `served`: the image runs in an own Deployment, and the CatalogSource has its address. `title`: what people are shown of
    it, when the image set has no name.
    Raises UsageError for a template with fields of a wrong type.
    """
    template = template_spec(catalog, release)
    config = {**_pod_config(catalog, release), **template.pop("grpcPodConfig", {})}
    # The name of the source would not do, in spite of mirror rules: a rebuilt catalog exists on the mirror only.
    where = {"address": address(name, namespace_for(release))} if served else {"image": str(image.pinned)}
    spec: dict[str, Any] = {
        "displayName": catalog.display_name or f"{title or catalog.name} (mirrored)",
        "publisher": catalog.publisher or "hub-airgap",
        **template,
        "sourceType": "grpc",
        **where,
    }
    if config and not served:
        spec["grpcPodConfig"] = config
    metadata = {"name": name, "namespace": namespace_for(release), "labels": OWN_LABELS}
    return Resource.of(
        {"apiVersion": CATALOG_SOURCE.api_version, "kind": CATALOG_SOURCE.name, "metadata": metadata, "spec": spec}
    )


def cluster_catalog(image: MappedImage, name: str) -> Resource:
    """Return the ClusterCatalog of a catalog, without polling, which the API forbids for a digest."""
    spec = {"availabilityMode": "Available", "source": {"type": "Image", "image": {"ref": str(image.pinned)}}}
    return Resource.of(
        {
            "apiVersion": CLUSTER_CATALOG.api_version,
            "kind": CLUSTER_CATALOG.name,
            "metadata": {"name": name, "labels": OWN_LABELS},
            "spec": spec,
        }
    )


def _pod_config(catalog: CatalogRecord, release: Release | None) -> dict[str, Any]:
    """Return the `grpcPodConfig` of a catalog, as far as the release knows its fields."""
    config = _scheduling(release)
    if release is not None and "securityContextConfig" in release.pod_config_fields:
        # Images of SQLite catalogs expect to write to their own files.
        # MicroShift's namespace refuses pods without restrictions (0000_50_olm_00-namespace.yaml).
        bounded = catalog.format == FILE_BASED or release.microshift
        config["securityContextConfig"] = "restricted" if bounded else "legacy"
    # A rebuilt catalog has no valid cache: copy-content of 4.15 to 4.19 fails without one.
    if release is not None and release.extracts_without_cache and catalog.filtered and catalog.format == FILE_BASED:
        config["extractContent"] = {"catalogDir": CONFIGS}
    return config


def _scheduling(release: Release | None) -> dict[str, Any]:
    """Return where the pod of a catalog runs: as the defaults of OpenShift do, on nodes that are not full of applications."""
    # operator-marketplace, defaults/01_redhat_operators.cr.yaml, since 4.10 (BZ#1927478). Without these, tainted or full
    # workers leave the pod Pending, and every Subscription of the cluster unresolved (operator-lifecycle-manager#2452).
    if release is None or not release.places_catalogs:
        return {}
    return {
        "nodeSelector": {"kubernetes.io/os": "linux", _MASTER: ""},
        "priorityClassName": "system-cluster-critical",
        "tolerations": [
            {"key": _MASTER, "operator": "Exists", "effect": "NoSchedule"},
            *({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 120} for key in _LOST),
        ],
    }


_MASTER = "node-role.kubernetes.io/master"
_LOST = ("node.kubernetes.io/unreachable", "node.kubernetes.io/not-ready")  # else 300 s until the pod moves

# The default CatalogSources of OpenShift: how to recognize and how to disable them. The marketplace operator deletes them when
# OperatorHub disables them, and another CatalogSource may then take the name (operator-marketplace,
# pkg/defaults/catsrcHelpers.go).

_MANAGED_BY = "operatorframework.io/managed-by"
_MARKETPLACE_OPERATOR = "marketplace-operator"
_OPERATOR_SOURCE = "opsrc-owner-name"  # label of a CatalogSource made for an OperatorSource, up to 4.5
# operator-marketplace, defaults/*.yaml: the sources of every OpenShift with OperatorHub.
DEFAULT_NAMES = frozenset(("certified-operators", "community-operators", "redhat-marketplace", "redhat-operators"))


def is_default(source: Mapping[str, Any]) -> bool:
    """Return whether a CatalogSource is a default of the marketplace operator, which deletes it when it is disabled."""
    metadata = source["metadata"]
    if (metadata.get("annotations") or {}).get(_MANAGED_BY) == _MARKETPLACE_OPERATOR:
        return True
    # Up to 4.5 a default is an OperatorSource, whose CatalogSource goes with it. The annotation came during 4.6
    # (operator-marketplace#373); before it only the manager of the fields shows who wrote the object.
    owner = (metadata.get("labels") or {}).get(_OPERATOR_SOURCE)
    managers = {each.get("manager") for each in metadata.get("managedFields") or ()}
    return metadata["name"] in DEFAULT_NAMES and (owner == metadata["name"] or _MARKETPLACE_OPERATOR in managers)


def defaults_off(live: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Return the fields of OperatorHub that disable all default sources; None for a cluster without OperatorHub."""
    if live is None:
        return None
    sources = _sources(live)
    # `sources` take precedence over `disableAllDefaultSources` (operator-marketplace, README.md and pkg/operatorhub): a default
    # that they enable would stay, and keep every Subscription from being resolved.
    named = {"sources": [{**each, "disabled": True} for each in sources]} if _enables(sources) else {}
    return {"spec": {"disableAllDefaultSources": True, **named}}


def _enables(sources: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether a source is enabled by name; an entry without `disabled` enables."""
    return not all(each.get("disabled") for each in sources)


def _sources(live: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    found: Sequence[Mapping[str, Any]] = (live.get("spec") or {}).get("sources") or []
    return found
