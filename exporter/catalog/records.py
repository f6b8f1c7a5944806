"""Catalogs as records of the inventory, which are also the output of `list` and `plan`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from common.archive.inventory import BundleRecord, CatalogRecord, ChannelRecord, PackageRecord
from exporter.catalog.model import BUNDLE
from exporter.catalog.stated import Stated, stated
from exporter.catalog.update_graph import UpdateGraph
from exporter.imageset import template

if TYPE_CHECKING:
    from collections.abc import Collection

    from exporter.catalog.model import Catalog, Channel, ChannelEntry, Package
    from exporter.catalog.rebuild import CarriedCatalog
    from exporter.catalog.steps import Chosen


def package_records(catalog: Catalog) -> tuple[PackageRecord, ...]:
    """Return the packages as OLM will list them: packages and channels by name, bundles head first along the update graph."""
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
    head = package.bundles.get(graph.head)
    # Of the head alone, which OLM installs: the metadata of a whole catalog takes seconds to decode.
    said = stated(head) if head is not None else Stated()
    deprecated = _deprecated(package)
    return ChannelRecord(
        channel.name,
        graph.head,
        tuple(_bundle(package, graph.entries[name], deprecated) for name in graph.order()),
        max_open_shift_version=said.max_open_shift_version,
        min_kube_version=said.min_kube_version,
        install_modes=said.install_modes,
        suggested_namespace=said.suggested_namespace,
        suggested_namespace_template=said.suggested_namespace_template,
        disconnected=said.disconnected,
    )


def catalog_record(item: Chosen, carried: CarriedCatalog) -> CatalogRecord:
    """Return the record of a carried catalog."""
    request, path = item.request, item.request.target_catalog_source_template
    return CatalogRecord(
        source=carried.resolved.wanted.source,
        digest=item.opened.digest,
        image=carried.root.digest,
        name=item.name,
        format=carried.format,
        filtered=not item.selection.unmodified,
        packages=package_records(carried.catalog),
        target_repository=request.target_catalog,
        target_tag=request.target_tag,
        update_graph=True,
        # The content, not the path: the file is on this side, and the import reads the inventory alone.
        catalog_source_template=template.load(path) if path else None,
    )


def _deprecated(package: Package) -> set[str]:
    entries = package.deprecations.entries if package.deprecations is not None else ()
    return {one.reference.name for one in entries if one.reference.schema == BUNDLE}


def _bundle(package: Package, entry: ChannelEntry, deprecated: Collection[str]) -> BundleRecord:
    bundle = package.bundles.get(entry.name)
    version = bundle.version_text if bundle else None
    return BundleRecord(entry.name, version, entry.replaces, entry.skips, entry.skip_range, entry.name in deprecated)
