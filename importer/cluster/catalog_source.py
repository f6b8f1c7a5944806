"""The objects that tell OLM of a catalog: CatalogSource, and ClusterCatalog for OLM v1. Pure."""

from __future__ import annotations

import hashlib
import re
from typing import Any

from common.archive.inventory import CatalogRecord
from importer.cluster.catalog_template import template_spec
from importer.cluster.kinds import CATALOG_SOURCE, CLUSTER_CATALOG, MARKETPLACE, PLAIN_OLM
from importer.cluster.release import Release
from importer.cluster.resource import OWN_LABELS, Resource
from importer.cluster.serving import address
from importer.mapping import MappedImage

CONFIGS = "/configs"
FILE_BASED = "file-based"
_MAX_NAME = 63
_TAIL = 6  # hexadecimal digits that keep two long names apart


def source_name(text: str) -> str:
    """Return a name that OLM can make a service of (RFC 1035 label): lower case, beginning with a letter."""
    name = re.sub(r"[^a-z0-9-]+", "-", text.lower()).strip("-")
    name = name if re.match(r"[a-z]", name) else f"hub-{name}".rstrip("-")
    if len(name) <= _MAX_NAME:
        return name
    return f"{name[: _MAX_NAME - _TAIL - 1].rstrip('-')}-{hashlib.sha256(text.encode()).hexdigest()[:_TAIL]}"


def namespace_for(release: Release | None) -> str:
    """Return the namespace whose catalogs are offered everywhere."""
    return MARKETPLACE if release is not None else PLAIN_OLM


def catalog_source(
    catalog: CatalogRecord, image: MappedImage, name: str, release: Release | None, *, served: bool = False
) -> Resource:
    """Return the CatalogSource of a catalog: the mirror's host and the digest, never the source's name.

    `served`: not OLM but a Deployment of ours runs the image, so it names that one's address.
    Raises UsageError for a template with fields of a wrong type.
    """
    template = template_spec(catalog, release)
    config = {**_pod_config(catalog, release), **template.pop("grpcPodConfig", {})}
    where = {"address": address(name, namespace_for(release))} if served else {"image": str(image.pinned)}
    spec: dict[str, Any] = {
        "displayName": catalog.display_name or f"{catalog.name} (mirrored)",
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
    """Return the ClusterCatalog of a catalog. A digest is not polled for."""
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
    """Return what we say of the pod, as far as the release knows it.

    Images of SQLite catalogs are made for pods that may write to their own files. A rebuilt catalog has no valid cache, so its
    content is extracted only where that works without one (docs/facts/openshift.md §3.3).
    """
    config: dict[str, Any] = {}
    if release is not None and "securityContextConfig" in release.pod_config_fields:
        config["securityContextConfig"] = "restricted" if catalog.format == FILE_BASED else "legacy"
    if release is not None and release.extracts_without_cache and catalog.filtered and catalog.format == FILE_BASED:
        config["extractContent"] = {"catalogDir": CONFIGS}
    return config
