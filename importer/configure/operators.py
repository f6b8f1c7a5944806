"""What an import does to the operators of one cluster: the rows of the table, and the findings of the preflight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from common.errors import ExitCode
from importer.cluster.client import ForbiddenError, connect
from importer.cluster.discovery import ClusterIdentity, identify, own_sources
from importer.cluster.kinds import OPERATOR_HUB
from importer.cluster.record import expected_catalogs, record_namespace
from importer.cluster.resources.build import can_serve
from importer.cluster.resources.catalog_source import FILE_BASED, is_default, namespace_for
from importer.cluster.resources.names import Named, name_catalogs
from importer.operators.findings import Allowed, findings
from importer.operators.installed import Installed, Sources
from importer.operators.outlook import Offering, Outlook, recorded
from importer.operators.reading import read
from importer.operators.table import Result, make

if TYPE_CHECKING:
    from collections.abc import Sequence

    from common.archive.inventory import Inventory
    from importer.cluster.client import ClusterClient
    from importer.cluster.finding import Finding
    from importer.cluster.release import Release
    from importer.cluster.resources.names import ServedCatalog
    from importer.operators.table import Row
    from importer.settings import ClusterSettings

_NOT_WELL = frozenset((Result.ORPHANED, Result.STRANDED, Result.UNRESOLVED))


@dataclass(frozen=True, slots=True)
class OperatorPlan:
    """What becomes of each operator of a cluster, and what speaks against it."""

    rows: tuple[Row, ...]
    findings: tuple[Finding, ...]


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


def read_operators(client: ClusterClient, release: Release | None) -> Installed:
    """Return the operators of a cluster; none where not even its catalogs may be read. Raises ClusterError."""
    namespace = namespace_for(release)
    try:
        return read(client, namespace, release)
    except ForbiddenError as error:  # preflight lists the missing permissions
        return Installed((), Sources({}, namespace, everywhere=False), refused=error.message)


def foresee(
    client: ClusterClient,
    seen: Installed,
    named: Sequence[Named],
    release: Release | None,
    *,
    cluster: ClusterSettings,
    served: Sequence[ServedCatalog],
) -> OperatorPlan:
    """Return what becomes of the operators `seen` with the catalogs `named`. `served`: what earlier imports left."""
    outlook = _outlook(client, seen, named, release, served, defaults_stay=cluster.resources.catalogs_only)
    rows = make(seen, outlook)
    allowed = Allowed(cluster.allowed_orphans, cluster.allowed_stranded)
    return OperatorPlan(tuple(rows), tuple(findings(seen, outlook, rows, allowed)))


def _outlook(
    client: ClusterClient,
    seen: Installed,
    named: Sequence[Named],
    release: Release | None,
    served: Sequence[ServedCatalog],
    *,
    defaults_stay: bool = False,
) -> Outlook:
    namespace, olm_v1 = seen.sources.namespace, release is not None and release.has_cluster_catalog
    # Catalogs that OLM cannot serve are problems of the import; nothing depends on them.
    offerings = [
        Offering(
            each.catalog.name,
            (namespace, each.name),
            each.catalog,
            each.identity,
            in_olm_v1=olm_v1 and each.catalog.format == FILE_BASED,
        )
        for each in named
        if can_serve(release, each.catalog)
    ]
    # Without the capability `marketplace` there are no defaults to disable.
    off = not defaults_stay and release is not None and client.get(OPERATOR_HUB, "cluster") is not None
    going = {key for key, body in seen.sources.bodies.items() if off and key[0] == namespace and is_default(body)}
    return Outlook(offerings, namespace, seen.sources, going, served)


def survey(cluster: ClusterSettings, inventory: Inventory | None) -> Survey:
    """Return the operators of a cluster, with what an archive does to each; without one, as they are. Changes nothing.

    Raises ClusterError, UsageError.
    """
    with connect(cluster.kubeconfig, cluster.context) as client:
        identity = identify(client)
        release, record = identity.release, record_namespace(client)
        seen = read_operators(client, release)
        if inventory is None:
            rows = present(client, seen, record)
        else:
            served = own_sources(client, record, seen.sources.namespace)
            named = name_catalogs(inventory, release, cluster.resources.catalog_names, served)
            rows = make(seen, _outlook(client, seen, named, release, served))
    return Survey(identity, tuple(rows), seen.refused)


def present(client: ClusterClient, seen: Installed, record: str) -> list[Row]:
    """Return the operators as they are, by the catalogs that the record of earlier imports, in namespace `record`, has."""
    known = [each for each in recorded(expected_catalogs(client, record)) if each.source in seen.sources.bodies]
    return make(seen, Outlook(known, seen.sources.namespace, seen.sources))
