"""The objects of an installation: Namespace, OperatorGroup, Subscription; for OLM v1 ClusterExtension and its account. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from importer.cluster.kinds import (
    CLUSTER_EXTENSION,
    CLUSTER_ROLE_BINDING,
    NAMESPACE,
    OPERATOR_GROUP,
    OWN_LABELS,
    ROLE,
    ROLE_BINDING,
    SERVICE_ACCOUNT,
    SUBSCRIPTION,
    Resource,
)
from importer.install.groups import ALL_NAMESPACES
from importer.install.templates import annotations_of, labels_of
from importer.install.wanted import object_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from importer.install.offers import Chosen
    from importer.install.olm_v1 import Extended
    from importer.install.placing import Placement

MONITORING = "openshift.io/cluster-monitoring"
# Only namespaces of the platform are scraped by its Prometheus; the console offers the label for them alone.
_PLATFORM = "openshift-"
_CATALOG_LABEL = "olm.operatorframework.io/metadata.name"


def namespace(name: str, members: Sequence[Chosen]) -> Resource:
    """Return the namespace of operators, with the labels and annotations of their templates, and that of monitoring."""
    labels, annotations = labels_of(members), annotations_of(members)
    if is_monitored(name, members):
        labels[MONITORING] = "true"
    found = {"name": name, "labels": {**labels, **OWN_LABELS}, **({"annotations": annotations} if annotations else {})}
    return Resource.of({"apiVersion": NAMESPACE.api_version, "kind": NAMESPACE.name, "metadata": found})


def is_monitored(name: str, members: Sequence[Chosen]) -> bool:
    """Return whether the Prometheus of the platform is to collect metrics in a namespace."""
    return name.startswith(_PLATFORM) and any(one.channel.cluster_monitoring for one in members)


def monitoring(name: str) -> list[Resource]:
    """Return the rights of that Prometheus in a namespace: it finds what it collects from by Services, Endpoints and Pods."""
    # Name and rules as the console writes them (openshift/console, operator-hub-subscribe.tsx, prometheusRole).
    metadata = _metadata(f"{name}-prometheus", name)
    rules = [{"apiGroups": [""], "resources": ["services", "endpoints", "pods"], "verbs": ["get", "list", "watch"]}]
    subject = {"kind": SERVICE_ACCOUNT.name, "name": "prometheus-k8s", "namespace": "openshift-monitoring"}
    reference = {"apiGroup": ROLE.group, "kind": ROLE.name, "name": f"{name}-prometheus"}
    return [
        Resource.of({"apiVersion": ROLE.api_version, "kind": ROLE.name, "metadata": metadata, "rules": rules}),
        Resource.of(
            {
                "apiVersion": ROLE_BINDING.api_version,
                "kind": ROLE_BINDING.name,
                "metadata": metadata,
                "roleRef": reference,
                "subjects": [subject],
            }
        ),
    ]


def operator_group(placement: Placement) -> Resource:
    """Return the new OperatorGroup of a placement."""
    targets = placement.group.targets or ()
    # Without targets it selects all namespaces.
    spec = {} if tuple(targets) == ALL_NAMESPACES else {"targetNamespaces": list(targets)}
    metadata = _metadata(placement.group.name, placement.namespace)
    return Resource.of(
        {"apiVersion": OPERATOR_GROUP.api_version, "kind": OPERATOR_GROUP.name, "metadata": metadata, "spec": spec}
    )


def subscription(placement: Placement) -> Resource:
    """Return the Subscription of a placement, named as the package, as the console does it."""
    one = placement.chosen
    spec = {
        "channel": one.channel.name,
        "installPlanApproval": str(placement.approval),
        "name": one.package,
        "source": one.source[1],
        "sourceNamespace": one.source[0],
        # What a person agreed to is installed, also when the catalog gets a newer head meanwhile.
        "startingCSV": one.entry.name,
    }
    metadata = _metadata(object_name(one.package), placement.namespace)
    return Resource.of({"apiVersion": SUBSCRIPTION.api_version, "kind": SUBSCRIPTION.name, "metadata": metadata, "spec": spec})


def cluster_extension(extended: Extended) -> Resource:
    """Return the ClusterExtension of an operator (operator-controller, api/v1/clusterextension_types.go)."""
    one = extended.chosen
    catalog: dict[str, Any] = {
        "channels": [one.channel.name],
        "packageName": one.package,
        # Several ClusterCatalogs may have the package; without a selector OLM v1 takes none of them.
        "selector": {"matchLabels": {_CATALOG_LABEL: one.source[1]}},
    }
    if extended.version:
        catalog["version"] = extended.version
    spec: dict[str, Any] = {"namespace": extended.namespace, "source": {"catalog": catalog, "sourceType": "Catalog"}}
    if extended.account:
        spec["serviceAccount"] = {"name": extended.account}
    if extended.watch:
        spec["config"] = {"configType": "Inline", "inline": {"watchNamespace": extended.watch}}
    return Resource.of(
        {
            "apiVersion": CLUSTER_EXTENSION.api_version,
            "kind": CLUSTER_EXTENSION.name,
            "metadata": _metadata(object_name(one.package)),
            "spec": spec,
        }
    )


def account(extended: Extended) -> list[Resource]:
    """Return the ServiceAccount with which OLM v1 installs an operator, and its rights; none where it needs none of its own."""
    if not extended.makes_account:
        return []
    name = extended.account
    subject = {"kind": SERVICE_ACCOUNT.name, "name": name, "namespace": extended.namespace}
    # The rights have to include all that the bundle creates and grants, which the importer does not read.
    role = {"apiGroup": CLUSTER_ROLE_BINDING.group, "kind": "ClusterRole", "name": "cluster-admin"}
    binding = {
        "apiVersion": CLUSTER_ROLE_BINDING.api_version,
        "kind": CLUSTER_ROLE_BINDING.name,
        "metadata": _metadata(f"{extended.namespace}-{name}"),
        "roleRef": role,
        "subjects": [subject],
    }
    body = {
        "apiVersion": SERVICE_ACCOUNT.api_version,
        "kind": SERVICE_ACCOUNT.name,
        "metadata": _metadata(name, extended.namespace),
    }
    return [Resource.of(body), Resource.of(binding)]


def _metadata(name: str, where: str = "") -> Mapping[str, Any]:
    return {"name": name, **({"namespace": where} if where else {}), "labels": dict(OWN_LABELS)}
