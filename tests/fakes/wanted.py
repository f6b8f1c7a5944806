"""The resources that an import would want on a release, written out by hand; what builds them in life is not asked."""

from __future__ import annotations

from common.archive.inventory import BundleRecord, ChannelRecord, PackageRecord
from importer.cluster.kinds import Resource

DIGEST = "sha256:" + "ab" * 32
IMAGE = f"mirror.example:5000/redhat/redhat-operator-index@{DIGEST}"
CA = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
HOST_KEY = "mirror.example..5000"
MARKETPLACE = "openshift-marketplace"


def package(name: str, head: str = "", default_channel: str = "stable") -> PackageRecord:
    """Return a package with one channel."""
    head = head or f"{name}.v1.0.0"
    return PackageRecord(name, default_channel, (ChannelRecord("stable", head, (BundleRecord(head, "1.0.0"),)),))


def mirror_rules(kind: str = "ImageDigestMirrorSet", name: str = "hub-redhat-operators", **mirrors: str) -> Resource:
    """Return an object of mirror rules: `mirrors` maps the last part of a source to that of its mirror."""
    api, field = {
        "ImageContentSourcePolicy": ("operator.openshift.io/v1alpha1", "repositoryDigestMirrors"),
        "ImageDigestMirrorSet": ("config.openshift.io/v1", "imageDigestMirrors"),
        "ImageTagMirrorSet": ("config.openshift.io/v1", "imageTagMirrors"),
    }[kind]
    rules = [
        {"source": f"registry.redhat.io/{source}", "mirrors": [f"mirror.example:5000/{mirror}"]}
        for source, mirror in (mirrors or {"ubi": "ubi", "web": "web"}).items()
    ]
    return Resource.of({"apiVersion": api, "kind": kind, "metadata": {"name": name}, "spec": {field: rules}})


def catalog_source(name: str = "hub-redhat-operators", namespace: str = MARKETPLACE, image: str = IMAGE) -> Resource:
    metadata = {"name": name, "namespace": namespace, "labels": {"app.kubernetes.io/managed-by": "hub-import"}}
    spec = {"sourceType": "grpc", "image": image, "displayName": "Red Hat", "publisher": "mirror.example"}
    return Resource.of(
        {"apiVersion": "operators.coreos.com/v1alpha1", "kind": "CatalogSource", "metadata": metadata, "spec": spec}
    )


def cluster_catalog(name: str = "hub-redhat-operators") -> Resource:
    spec = {"priority": 10, "source": {"type": "Image", "image": {"ref": IMAGE}}}
    return Resource.of(
        {"apiVersion": "olm.operatorframework.io/v1", "kind": "ClusterCatalog", "metadata": {"name": name}, "spec": spec}
    )


def operator_hub() -> Resource:
    body = {"apiVersion": "config.openshift.io/v1", "kind": "OperatorHub", "metadata": {"name": "cluster"}}
    return Resource.of({**body, "spec": {"disableAllDefaultSources": True}}, shared=True)


def default_catalogs_off() -> list[Resource]:
    """Return what OpenShift itself serves to OLM v1, to be served no more."""
    names = [
        f"openshift-{name}" for name in ("certified-operators", "community-operators", "redhat-operators", "redhat-marketplace")
    ]
    body = {"apiVersion": "olm.operatorframework.io/v1", "kind": "ClusterCatalog"}
    spec = {"availabilityMode": "Unavailable", "source": {"type": "Image", "image": {"ref": "registry.redhat.io/x/y:v4"}}}
    return [Resource.of({**body, "metadata": {"name": name}, "spec": spec}, shared=True) for name in names]


def trust(name: str = "hub-registry-ca", pem: str = CA) -> list[Resource]:
    image = {"apiVersion": "config.openshift.io/v1", "kind": "Image", "metadata": {"name": "cluster"}}
    config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "openshift-config"}}
    return [
        Resource.of({**image, "spec": {"additionalTrustedCA": {"name": name}}}, shared=True),
        Resource.of({**config_map, "data": {HOST_KEY: pem}}),
    ]


def wanted(release: str | None) -> list[Resource]:
    """Return all that is wanted on a release (facts: openshift §10), catalogs first: the order is not for the caller to know."""
    if release is None:
        return [catalog_source(namespace="olm")]
    minor = int(release.partition(".")[2])
    rules = mirror_rules("ImageDigestMirrorSet" if minor >= 13 else "ImageContentSourcePolicy")
    both = [catalog_source(), *([cluster_catalog(), *default_catalogs_off()] if minor >= 18 else [])]
    return [*both, rules, operator_hub(), *trust()]
