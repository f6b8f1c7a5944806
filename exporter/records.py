"""From catalogs to the records of the inventory, which are also what `list` and `plan` print."""

from __future__ import annotations

from pathlib import Path

from common.archive.inventory import BundleRecord, CatalogRecord, ChannelRecord, PackageRecord
from common.errors import UsageError
from common.serialization import load_yaml_documents
from exporter.catalog.model import Catalog, Channel, Package
from exporter.catalog.opening import OpenedCatalog
from exporter.catalog.selection import Selection
from exporter.catalog.update_graph import UpdateGraph
from exporter.imageset import OperatorRequest
from exporter.rebuilding import CarriedCatalog


def package_records(catalog: Catalog) -> tuple[PackageRecord, ...]:
    """Return what OLM will list: packages and channels by name, bundles head first along the update graph."""
    return tuple(
        PackageRecord(
            package.name,
            package.default_channel,
            tuple(channel_record(package, package.channels[name]) for name in sorted(package.channels)),
        )
        for package in catalog.packages.values()
    )


def channel_record(package: Package, channel: Channel) -> ChannelRecord:
    """Return a channel with every entry; one without a bundle has no version. Raises CatalogError for a broken graph."""
    graph = UpdateGraph.of(channel.entries, f"{package.name}/{channel.name}")
    return ChannelRecord(channel.name, graph.head, tuple(_bundle(package, name) for name in graph.order()))


def catalog_record(
    name: str, opened: OpenedCatalog, request: OperatorRequest, selection: Selection, carried: CarriedCatalog
) -> CatalogRecord:
    """Return what the inventory says of a carried catalog."""
    return CatalogRecord(
        source=carried.resolved.wanted.source,
        digest=opened.digest,
        image=carried.root.digest,
        name=name,
        format=carried.format,
        filtered=not selection.unmodified,
        packages=package_records(carried.catalog),
        target_repository=request.target_catalog,
        target_tag=request.target_tag,
        catalog_source_template=_template(request.target_catalog_source_template),
    )


def _bundle(package: Package, name: str) -> BundleRecord:
    bundle = package.bundles.get(name)
    return BundleRecord(name, bundle.version_text if bundle else None)


def _template(path: str | None) -> dict[str, object] | None:
    """Return the content of a CatalogSource template: it travels in the inventory, the file does not."""
    if path is None:
        return None
    try:
        template = next(load_yaml_documents(Path(path).read_bytes(), path), None)
    except OSError as error:
        raise UsageError(
            f"targetCatalogSourceTemplate {path}: cannot be read: {error.strerror}",
            hint="It is looked for from where the command runs: write the whole path.",
        ) from error
    if not isinstance(template, dict) or template.get("kind") != "CatalogSource":
        raise UsageError(
            f"targetCatalogSourceTemplate {path}: not a CatalogSource", hint="Wanted: one YAML document, `kind: CatalogSource`."
        )
    return template
