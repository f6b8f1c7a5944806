"""Reads what an installation depends on: offered packages, OperatorGroups, Subscriptions, the abilities of OLM v1."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from common.archive.inventory import BundleRecord, ChannelRecord, PackageRecord
from common.errors import ClusterError
from importer.cluster.api.client import ForbiddenError
from importer.cluster.api.discovery import own_sources
from importer.cluster.kinds import (
    CATALOG_SOURCE,
    CLUSTER_SERVICE_VERSION,
    COPIED_LABEL,
    CUSTOM_RESOURCE_DEFINITION,
    EXTENSIONS,
    FEATURE_GATE,
    OPERATOR_GROUP,
    PACKAGE_MANIFEST,
    status_of,
)
from importer.cluster.record import expected_catalogs, record_namespace
from importer.cluster.resources.catalog_source import namespace_for
from importer.cluster.resources.names import name_catalogs
from importer.install.groups import Group
from importer.install.offers import Offered, of_manifest, of_packages
from importer.install.olm_v1 import Ability
from importer.install.placing import Surroundings
from importer.operators.reading import available_catalogs, read_operators

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from common.archive.inventory import Inventory
    from importer.cluster.api.client import Body, ClusterClient
    from importer.cluster.readiness.readiness import ExpectedCatalog
    from importer.cluster.release import Release

_SHOWN = 5
_GATE = "NewOLMOwnSingleNamespace"  # openshift/api, features/features.go


def home_of(release: Release | None) -> str:
    """Return the namespace that OLM is installed with for operators that watch all namespaces."""
    # operator-lifecycle-manager, deploy/upstream/values.yaml; on OpenShift manifests/0000_50_olm_00-namespace.yaml.
    return "operators" if release is None else "openshift-operators"


def surroundings(client: ClusterClient, release: Release | None) -> Surroundings:
    """Return what a cluster has in the way of an installation. Raises ClusterError."""
    seen = read_operators(client, release)
    try:
        bodies: Iterable[Body] = client.list(CLUSTER_SERVICE_VERSION, absent=COPIED_LABEL) or ()
    except ForbiddenError:  # OLM reports one that is in the way
        bodies = ()
    return Surroundings(
        home_of(release),
        groups=tuple(
            Group.of(each) for each in client.list(OPERATOR_GROUP) or () if not each["metadata"].get("deletionTimestamp")
        ),
        subscriptions=tuple(seen.subscriptions),
        extensions=tuple(seen.extensions),
        csvs=frozenset((str(each["metadata"].get("namespace") or ""), str(each["metadata"]["name"])) for each in bodies),
        lost=frozenset(each.source for each in seen.subscriptions if seen.sources.lack(each.source)),
    )


def offered(
    client: ClusterClient, release: Release | None, inventory: Inventory | None, *, olm_v1: bool = False
) -> list[Offered]:
    """Return the packages that the catalogs of a cluster serve; with `inventory` those of its catalogs alone.

    `olm_v1`: those of ClusterCatalogs, too. A package of an import, and of another catalog, is that of the import.
    Raises ClusterError.
    """
    namespace, record = namespace_for(release), record_namespace(client)
    expected = [each for each in expected_catalogs(client, record) if each.namespace == namespace]
    carried = _carried(client, release, inventory, record) if inventory is not None else {}
    sources = _sources(client, namespace, olm_v1=olm_v1)
    served = sources | set(_of_olm_v1(client, release) or ()) if olm_v1 else sources
    if inventory is not None and served.isdisjoint(carried):
        name = "ClusterCatalog {}" if olm_v1 else f"CatalogSource {{}} in {namespace}"
        raise ClusterError(
            "the cluster has no catalog of the archive",
            details=[name.format(each) for each in sorted(carried)[:_SHOWN]],
            hint="Import it first: hub-import deploy; or leave --archive out to install from what the cluster has.",
        )
    # What is served decides: a catalog may have another content than the archive by now.
    lists = release is None or release.lists_packages
    listed = client.reduce(PACKAGE_MANIFEST, of_manifest, namespace) if lists else None
    found = list(listed or ())
    # OLM (Classic) lists no package of a ClusterCatalog that has no CatalogSource.
    unlisted = served if listed is None else served - sources
    further = [each for each in (*_of_carried(carried, namespace), *_recorded(expected)) if each.source[1] in unlisted]
    found += {(each.source, each.package.name): each for each in reversed(further)}.values()
    if inventory is not None:
        found = [_enriched(each, carried[each.source[1]]) for each in found if each.source[1] in carried]
    return _preferred(found, {each.name for each in expected} | carried.keys())


def _sources(client: ClusterClient, namespace: str, *, olm_v1: bool) -> set[str]:
    """Return the names of the CatalogSources. Raises ClusterError for a cluster that cannot have them, unless `olm_v1`."""
    bodies = client.list(CATALOG_SOURCE, namespace)
    # On OpenShift OLM (Classic) is a capability that can be off (openshift/api, config/v1, OperatorLifecycleManager).
    if bodies is None and not olm_v1:
        raise ClusterError(
            "the cluster has no OLM (Classic), which installs by Subscription",
            hint="Give --olm v1 where the cluster has that (OpenShift 4.18 and later), or install OLM.",
        )
    return {str(each["metadata"]["name"]) for each in bodies or ()}


def _of_olm_v1(client: ClusterClient, release: Release | None) -> Collection[str] | None:
    """Return the names of the ClusterCatalogs that OLM v1 serves; None without OLM v1."""
    return available_catalogs(client) if release is not None and release.has_cluster_catalog else None


def _carried(
    client: ClusterClient, release: Release | None, inventory: Inventory, record: str
) -> dict[str, Mapping[str, PackageRecord]]:
    """Return the packages of an archive, by CatalogSource and name."""
    served = own_sources(client, record, namespace_for(release))
    named = name_catalogs(inventory, release, {}, served, {})
    return {each.name: {package.name: package for package in each.catalog.packages} for each in named}


def _of_carried(carried: Mapping[str, Mapping[str, PackageRecord]], namespace: str) -> list[Offered]:
    return [each for name, packages in carried.items() for each in of_packages(packages.values(), (namespace, name))]


def _recorded(expected: Sequence[ExpectedCatalog]) -> list[Offered]:
    """Return the packages that earlier imports brought, as far as the record has them: the heads of channels."""
    found = []
    for each in expected:
        for name, offer in each.packages.items():
            channels = (ChannelRecord(channel, head, (BundleRecord(head, None),)) for channel, head in offer.heads.items())
            package = PackageRecord(name, offer.default_channel, tuple(channels))
            found.append(Offered(package, (each.namespace, each.name), whole=False))
    return found


def _enriched(one: Offered, packages: Mapping[str, PackageRecord]) -> Offered:
    """Return a served package with what the archive states of the same heads, and the cluster does not."""
    known = packages.get(one.package.name)
    if known is None or known is one.package:
        return one
    heads = {(each.name, each.head): each for each in known.channels}
    channels = tuple(_stated(each, heads.get((each.name, each.head))) for each in one.package.channels)
    package = msgspec.structs.replace(one.package, channels=channels)
    return Offered(package, one.source, one.file_based, whole=all((each.name, each.head) in heads for each in channels))


def _stated(served: ChannelRecord, carried: ChannelRecord | None) -> ChannelRecord:
    if carried is None:
        return served
    return msgspec.structs.replace(
        served,
        install_modes=served.install_modes or carried.install_modes,
        required_packages=carried.required_packages,
        constraints=carried.constraints,
    )


def _preferred(found: Sequence[Offered], own: set[str]) -> list[Offered]:
    """Return offers without those of foreign catalogs, where exactly one catalog of an import has the package."""
    imported: dict[str, int] = {}
    for each in found:
        imported[each.package.name] = imported.get(each.package.name, 0) + (each.source[1] in own)
    return [each for each in found if each.source[1] in own or imported[each.package.name] != 1]


def ability(client: ClusterClient, release: Release | None) -> Ability:
    """Return what the OLM v1 of a cluster can. Raises ClusterError."""
    available = _of_olm_v1(client, release)
    if available is None:
        return Ability(present=False)
    return Ability(catalogs=frozenset(available), watches_one=_watches_one(client), needs_account=_needs_account(client))


def _watches_one(client: ClusterClient) -> bool:
    """Return whether a feature gate lets operators watch one namespace; False where it may not be read."""
    try:
        body = client.get(FEATURE_GATE, "cluster") or {}
    except ForbiddenError:
        return False
    enabled = [gate for each in status_of(body).get("featureGates") or [] for gate in each.get("enabled") or []]
    return any(gate.get("name") == _GATE for gate in enabled)


def _needs_account(client: ClusterClient) -> bool:
    """Return whether a ClusterExtension has to name a ServiceAccount; True where its schema may not be read."""
    try:
        body = client.get(CUSTOM_RESOURCE_DEFINITION, EXTENSIONS) or {}
    except ForbiddenError:
        return True
    # `serviceAccount` has left the list of required fields in the release that ignores it.
    for version in (body.get("spec") or {}).get("versions") or []:
        schema = ((version.get("schema") or {}).get("openAPIV3Schema") or {}).get("properties") or {}
        if version.get("name") == "v1" and "spec" in schema:
            return "serviceAccount" in (schema["spec"].get("required") or [])
    return True
