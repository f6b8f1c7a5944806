"""From catalogs to the records of the inventory, which are also what `list` and `plan` print."""

from __future__ import annotations

from common.archive.inventory import BundleRecord, CatalogRecord, ChannelRecord, PackageRecord
from exporter import catalog_source_template
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
    """Return what the inventory says of a carried catalog: with the content of its template, for the file stays here."""
    template = request.target_catalog_source_template
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
        catalog_source_template=catalog_source_template.load(template) if template else None,
    )


def _bundle(package: Package, name: str) -> BundleRecord:
    bundle = package.bundles.get(name)
    return BundleRecord(name, bundle.version_text if bundle else None)
