"""What an import does to the operators of one cluster: the rows of the table, and the findings of the preflight."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from common.errors import ExitCode
from common.olm.catalog_names import identities_of, release_of_tag
from importer.cluster.api.client import connect
from importer.cluster.api.discovery import ClusterIdentity, identify, kubernetes_version, own_sources
from importer.cluster.kinds import OPERATOR_HUB
from importer.cluster.record import expected_catalogs, record_namespace
from importer.cluster.resources.build import can_serve
from importer.cluster.resources.catalog_source import FILE_BASED, is_default
from importer.cluster.resources.names import Named, name_catalogs
from importer.operators.findings import Allowed, findings
from importer.operators.keeping import default_names, leaves_names, repointed, resources
from importer.operators.outlook import Offering, Outlook
from importer.operators.present import present
from importer.operators.reading import read_operators
from importer.operators.table import Result, make

if TYPE_CHECKING:
    from common.archive.inventory import Inventory
    from common.openshift.supported_releases import Kubernetes
    from importer.cluster.api.client import ClusterClient
    from importer.cluster.finding import Finding
    from importer.cluster.kinds import Resource
    from importer.cluster.release import Release
    from importer.cluster.resources.names import ServedCatalog
    from importer.operators.installed import Installed, SourceKey
    from importer.operators.table import Row
    from importer.settings import ClusterSettings

_NOT_WELL = frozenset((Result.ORPHANED, Result.STRANDED, Result.UNRESOLVED))


@dataclass(frozen=True, slots=True)
class OperatorPlan:
    """What becomes of each operator of a cluster, what speaks against it, and the Subscriptions that change."""

    rows: tuple[Row, ...]
    findings: tuple[Finding, ...]
    resources: tuple[Resource, ...]


@dataclass(frozen=True, slots=True)
class Naming:
    """The catalogs with their names on a cluster, the default names among them, and what led to these.

    `kubernetes`: the version that the cluster reports.
    """

    named: tuple[Named, ...]
    served: tuple[ServedCatalog, ...]
    kept: frozenset[SourceKey]
    going: frozenset[SourceKey]
    kubernetes: Kubernetes = ()


@dataclass(frozen=True, slots=True)
class Survey:
    """The operators of a cluster. `refused`: why some of them are missing; empty when all could be read."""

    cluster: ClusterIdentity
    rows: tuple[Row, ...]
    refused: str = ""

    @property
    def exit_code(self) -> ExitCode:
        """6 when an operator is orphaned, stranded or unresolved."""
        return ExitCode.CLUSTER if any(row.result in _NOT_WELL for row in self.rows) else ExitCode.DONE


def name(
    client: ClusterClient, inventory: Inventory, identity: ClusterIdentity, release: Release | None, cluster: ClusterSettings
) -> tuple[Installed, Naming]:
    """Return the operators of a cluster, and the names that the catalogs of an archive get there.

    Raises ClusterError, UsageError.
    """
    seen = read_operators(client, release)
    namespace = seen.sources.namespace
    served = own_sources(client, record_namespace(client), namespace)
    # As `resources.build` does: an archive without catalogs leaves the defaults as they are.
    off = bool(inventory.catalogs) and not cluster.resources.catalogs_only and release is not None
    # Without the capability `marketplace` there are none to disable.
    off = off and client.get(OPERATOR_HUB, "cluster") is not None
    going = frozenset(key for key, body in seen.sources.bodies.items() if off and key[0] == namespace and is_default(body))
    fitting = {}
    # In the guest of a hosted control plane such a CatalogSource is deleted (`build.reserved_names`).
    if release is not None and not release.hosted and leaves_names(identity.version):
        fitting = default_names(seen, _of_release(inventory, release), going)
    named = name_catalogs(inventory, release, cluster.resources.catalog_names, served, fitting)
    earlier = {each.name for each in served}
    kept = {each.name for number, each in enumerate(named) if fitting.get(number) == each.name and each.name not in earlier}
    chosen = kept - set(cluster.resources.catalog_names.values())
    taken = frozenset((namespace, each) for each in chosen)
    return seen, Naming(tuple(named), tuple(served), taken, going, kubernetes_version(client, release))


def _of_release(inventory: Inventory, release: Release) -> dict[int, list[str]]:
    """Return the packages of the catalogs that may be for a release, by the position of the catalog."""
    tags = [release_of_tag(identity.tag) for identity in identities_of(inventory)]
    return {
        number: [package.name for package in catalog.packages]
        for number, (catalog, tag) in enumerate(zip(inventory.catalogs, tags, strict=True))
        if tag in (None, (release.major, release.minor)) and can_serve(release, catalog)
    }


def foresee(seen: Installed, naming: Naming, release: Release | None, cluster: ClusterSettings) -> OperatorPlan:
    """Return what becomes of the operators `seen` with the catalogs of an import."""
    outlook = _outlook(seen, naming, release, cluster)
    rows = make(seen, outlook)
    allowed = Allowed(cluster.allowed_orphans, cluster.allowed_stranded)
    return OperatorPlan(tuple(rows), tuple(findings(seen, outlook, rows, allowed)), resources(outlook.repointed))


def _outlook(seen: Installed, naming: Naming, release: Release | None, cluster: ClusterSettings) -> Outlook:
    namespace, olm_v1 = seen.sources.namespace, release is not None and release.has_cluster_catalog
    # Catalogs that OLM cannot serve are problems of the import; nothing depends on them.
    offerings = [
        Offering(
            each.catalog.name,
            (namespace, each.name),
            each.catalog,
            each.identity,
            in_olm_v1=olm_v1 and each.catalog.format == FILE_BASED,
            release=(release.major, release.minor) if release is not None else None,
        )
        for each in naming.named
        if can_serve(release, each.catalog)
    ]
    # As `resources.build` writes them: a default whose name one of the catalogs has stays on, and all without catalogs.
    stay = release is None or cluster.resources.catalogs_only or not naming.named
    defaults = () if release is None or stay else release.default_cluster_catalogs
    off = frozenset(defaults) - {each.name for each in naming.named}
    served, kept, kubernetes = naming.served, naming.kept, naming.kubernetes
    outlook = Outlook(offerings, namespace, seen.sources, naming.going, served, {}, kept, off, kubernetes)
    return replace(outlook, repointed=repointed(seen, outlook)) if cluster.repoint else outlook


def survey(cluster: ClusterSettings, inventory: Inventory | None) -> Survey:
    """Return the operators of a cluster, with what an archive does to each; without one, as they are. Changes nothing.

    Raises ClusterError, UsageError.
    """
    with connect(cluster.kubeconfig, cluster.context) as client:
        identity = identify(client)
        release = identity.release
        if inventory is None:
            seen = read_operators(client, release)
            rows = present(seen, expected_catalogs(client, record_namespace(client)))
        else:
            seen, naming = name(client, inventory, identity, release, cluster)
            rows = make(seen, _outlook(seen, naming, release, cluster))
    refused = "; ".join(each for each in (seen.refused, seen.extensions_refused) if each)
    return Survey(identity, tuple(rows), refused)
