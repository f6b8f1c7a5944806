"""What an import does to the operators of one cluster: its plan for them, and the findings of the preflight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from importer import mapping
from importer.cluster.client import ForbiddenError
from importer.cluster.kinds import CLUSTER_CATALOG, OPERATOR_HUB
from importer.cluster.resources.catalog_source import is_default, namespace_for
from importer.operators.findings import Allowed, findings
from importer.operators.installed import Installed, Sources
from importer.operators.outlook import Offering, Outlook
from importer.operators.reading import read
from importer.operators.table import make

if TYPE_CHECKING:
    from collections.abc import Sequence

    from importer.cluster.client import ClusterClient
    from importer.cluster.finding import Finding
    from importer.cluster.release import Release
    from importer.cluster.resources.build import Built
    from importer.cluster.resources.names import ServedCatalog
    from importer.mapping import MappedImage
    from importer.operators.table import Row
    from importer.settings import ClusterSettings


@dataclass(frozen=True, slots=True)
class OperatorPlan:
    """What becomes of each operator of a cluster, and what speaks against it."""

    rows: tuple[Row, ...]
    findings: tuple[Finding, ...]


def read_operators(client: ClusterClient, release: Release | None) -> Installed:
    """Return the operators of a cluster; none where not even its catalogs may be read. Raises ClusterError."""
    namespace = namespace_for(release)
    try:
        return read(client, namespace, release)
    except ForbiddenError:  # preflight lists the missing permissions
        return Installed((), Sources({}, namespace, everywhere=False))


def foresee(
    seen: Installed,
    built: Built,
    images: Sequence[MappedImage],
    cluster: ClusterSettings,
    served: Sequence[ServedCatalog],
    *,
    has_hub: bool,
) -> OperatorPlan:
    """Return what becomes of the operators `seen`. `served`: what earlier imports left; `has_hub`: there are defaults."""
    namespace = seen.sources.namespace
    in_olm_v1 = {each.name for each in built.resources if each.kind == CLUSTER_CATALOG.name and not each.shared}
    # `build` leaves catalogs out that it has to report as problems; their Subscriptions and heads must not be waited for.
    offerings = [
        Offering(
            each.catalog.name,
            (namespace, each.name),
            each.catalog,
            str(mapping.map_catalog(each.catalog, images).pinned),
            each.identity,
            in_olm_v1=each.name in in_olm_v1,
        )
        for each in built.served
    ]
    off = has_hub and any(resource.kind == OPERATOR_HUB.name for resource in built.resources)
    going = {key for key, body in seen.sources.bodies.items() if off and key[0] == namespace and is_default(body)}
    outlook = Outlook(offerings, namespace, seen.sources, going, served)
    rows = make(seen, outlook)
    allowed = Allowed(cluster.allowed_orphans, cluster.allowed_stranded)
    return OperatorPlan(tuple(rows), tuple(findings(seen, outlook, rows, allowed)))
