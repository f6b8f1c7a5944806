"""The objects that tell OLM of a catalog: CatalogSource, and ClusterCatalog for OLM v1. Pure."""

from __future__ import annotations

import re
from typing import Any

from common.archive.inventory import CatalogRecord
from importer.cluster.kinds import CATALOG_SOURCE, CLUSTER_CATALOG, MARKETPLACE
from importer.cluster.release import Release
from importer.cluster.resource import Resource
from importer.mapping import MappedImage

PLAIN_OLM = "olm"  # the global catalog namespace of OLM on other Kubernetes clusters
CONFIGS = "/configs"
LABELS = {"app.kubernetes.io/managed-by": "hub-import"}
_MAX_NAME = 63
_FROM_TEMPLATE = ("displayName", "description", "publisher", "icon", "priority", "secrets", "grpcPodConfig")


def source_name(text: str) -> str:
    """Return a name that OLM can make a service of (RFC 1035 label): lower case, beginning with a letter."""
    name = re.sub(r"[^a-z0-9-]+", "-", text.lower()).strip("-")
    return (name if re.match(r"[a-z]", name) else f"hub-{name}")[:_MAX_NAME].rstrip("-")


def namespace_for(release: Release | None) -> str:
    """Return the namespace whose catalogs are offered everywhere."""
    return MARKETPLACE if release is not None else PLAIN_OLM


def catalog_source(catalog: CatalogRecord, image: MappedImage, name: str, release: Release | None) -> Resource:
    """Return the CatalogSource of a catalog: the mirror's host and the digest, never the source's name."""
    template = _template(catalog, release)
    chosen = template.pop("grpcPodConfig", None)
    config = {**_pod_config(catalog, release), **(chosen if isinstance(chosen, dict) else {})}
    spec: dict[str, Any] = {
        "displayName": catalog.display_name or f"{catalog.name} (mirrored)",
        "publisher": catalog.publisher or "hub-airgap",
        **template,
        "sourceType": "grpc",
        "image": str(image.pinned),
    }
    if config and (release is None or release.has_pod_config):
        spec["grpcPodConfig"] = config
    metadata = {"name": name, "namespace": namespace_for(release), "labels": LABELS}
    return Resource.of(
        {"apiVersion": CATALOG_SOURCE.api_version, "kind": CATALOG_SOURCE.name, "metadata": metadata, "spec": spec}
    )


def cluster_catalog(image: MappedImage, name: str) -> Resource:
    """Return the ClusterCatalog of a catalog. A digest is not polled for."""
    spec = {"availabilityMode": "Available", "source": {"type": "Image", "image": {"ref": str(image.pinned)}}}
    return Resource.of(
        {
            "apiVersion": CLUSTER_CATALOG.api_version,
            "kind": CLUSTER_CATALOG.name,
            "metadata": {"name": name, "labels": LABELS},
            "spec": spec,
        }
    )


def _pod_config(catalog: CatalogRecord, release: Release | None) -> dict[str, Any]:
    """Return what the release knows of `grpcPodConfig`.

    A rebuilt catalog has no valid cache, so its content is extracted only where that works without one.
    """
    config: dict[str, Any] = {}
    if release is not None and release.has_security_context_config:
        config["securityContextConfig"] = "restricted"
    if release is not None and release.extracts_without_cache and catalog.filtered:
        config["extractContent"] = {"catalogDir": CONFIGS}
    return config


def _template(catalog: CatalogRecord, release: Release | None) -> dict[str, Any]:
    """Return what a template may say: the fields of _FROM_TEMPLATE that the release knows.

    Where the catalog comes from is decided here alone, and polling for a digest would be of no use.
    """
    spec = (catalog.catalog_source_template or {}).get("spec")
    wanted = {field: spec[field] for field in _FROM_TEMPLATE if field in spec} if isinstance(spec, dict) else {}
    if release is not None and not release.has_pod_config:
        wanted.pop("grpcPodConfig", None)
    if release is not None and release < Release(4, 6):
        wanted.pop("priority", None)
    return wanted
