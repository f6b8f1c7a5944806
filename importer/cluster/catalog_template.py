"""What a person's CatalogSource template (`targetCatalogSourceTemplate`, carried in the inventory) may say. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from common.archive.inventory import CatalogRecord
from common.serialization import convert
from importer.cluster.release import Release


class _Spec(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """Where the catalog comes from is not for a template to say, and polling for a digest is of no use: neither is read."""

    display_name: str | None = None
    description: str | None = None
    publisher: str | None = None
    icon: dict[str, str] | None = None
    priority: int | None = None
    secrets: tuple[str, ...] = ()
    grpc_pod_config: dict[str, Any] | None = None


class _Template(msgspec.Struct, frozen=True):
    spec: _Spec | None = None


def template_spec(catalog: CatalogRecord, release: Release | None) -> dict[str, Any]:
    """Return the fields of a CatalogSource's `spec` that a catalog's template gives and the release knows.

    Raises UsageError for a field of the wrong type, before the cluster would. How a rebuilt catalog is extracted is left out:
    the template was written for the catalog that has a cache.
    """
    template = convert(catalog.catalog_source_template or {}, _Template, f"CatalogSource template of {catalog.name}")
    wanted: dict[str, Any] = msgspec.to_builtins(template.spec or _Spec())
    if release is not None and not release.has_priority:
        wanted.pop("priority", None)
    pod_config = wanted.pop("grpcPodConfig", {})
    known = pod_config.keys() if release is None else release.pod_config_fields
    decided = {"extractContent"} if catalog.filtered else set()
    kept = {name: value for name, value in pod_config.items() if name in known and name not in decided}
    return {**wanted, "grpcPodConfig": kept} if kept else wanted
