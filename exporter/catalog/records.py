"""Catalogs as records of the inventory, which are also the output of `list` and `plan`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from common.archive.inventory import BundleRecord, CatalogRecord, ChannelRecord, PackageRecord, RequiredPackageRecord
from exporter.catalog.model import BUNDLE
from exporter.catalog.related_images import inline_csvs
from exporter.catalog.requirements import CONSTRAINT, NeedsApi, NeedsPackage, apis_of_csv, provided, required
from exporter.catalog.stated import Stated, stated
from exporter.catalog.update_graph import UpdateGraph
from exporter.imageset import template

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from exporter.catalog.model import Bundle, Catalog, Channel, ChannelEntry, Package
    from exporter.catalog.rebuild import CarriedCatalog
    from exporter.catalog.requirements import Api
    from exporter.catalog.steps import Chosen
    from exporter.imageset.model import PackageRequest


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
    record = ChannelRecord(
        channel.name,
        graph.head,
        tuple(_bundle(package, graph.entries[name], deprecated) for name in graph.order()),
        max_open_shift_version=said.max_open_shift_version,
        min_kube_version=said.min_kube_version,
        install_modes=said.install_modes,
        suggested_namespace=said.suggested_namespace,
        suggested_namespace_template=said.suggested_namespace_template,
        disconnected=said.disconnected,
        cluster_monitoring=said.cluster_monitoring,
    )
    return record if head is None else _with_requirements(record, head)


def _with_requirements(record: ChannelRecord, head: Bundle) -> ChannelRecord:
    """Return a channel with what its head provides and requires: OLM resolves and refuses by it (ADR 0079)."""
    needed = required(head)
    # Alternatives and negations are decided by the resolver of the cluster; that there are some is enough to know.
    return msgspec.structs.replace(
        record,
        provided_apis=tuple(sorted(map(_named, provided(head) or _owned(head)))),
        required_apis=tuple(sorted(_named(each.api) for each in needed if isinstance(each, NeedsApi))),
        required_packages=tuple(
            RequiredPackageRecord(each.package, each.text) for each in needed if isinstance(each, NeedsPackage)
        ),
        constraints=head.has(CONSTRAINT),
    )


def _owned(head: Bundle) -> frozenset[Api]:
    """Return the APIs of the ClusterServiceVersion of a head, for old catalogs without properties."""
    return frozenset(api for csv in inline_csvs(head) for api in apis_of_csv(csv, "owned"))


def _named(api: Api) -> str:
    # APIKey.String of operator-registry (pkg/registry/types.go), by which groups list what their operators provide.
    return f"{api.kind}.{api.version}.{api.group}"


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
        packages=tuple(_to_install(each, request.packages) for each in package_records(carried.catalog)),
        target_repository=request.target_catalog,
        target_tag=request.target_tag,
        update_graph=True,
        # The content, not the path: the file is on this side, and the import reads the inventory alone.
        catalog_source_template=template.load(path) if path else None,
    )


def _to_install(record: PackageRecord, requests: Iterable[PackageRequest]) -> PackageRecord:
    wanted = any(one.install and one.name == record.name for one in requests)
    return msgspec.structs.replace(record, install=True) if wanted else record


def _deprecated(package: Package) -> set[str]:
    entries = package.deprecations.entries if package.deprecations is not None else ()
    return {one.reference.name for one in entries if one.reference.schema == BUNDLE}


def _bundle(package: Package, entry: ChannelEntry, deprecated: Collection[str]) -> BundleRecord:
    bundle = package.bundles.get(entry.name)
    version = bundle.version_text if bundle else None
    return BundleRecord(entry.name, version, entry.replaces, entry.skips, entry.skip_range, entry.name in deprecated)
