"""How a cluster is: `status` looks, `doctor` says why, and mends what can be mended safely (docs/cluster.md, *doctor*).

Neither needs the archive: what is expected was written into the cluster's record by the last apply.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from common.errors import ExitCode
from importer.cluster import expectation, remedies
from importer.cluster.catalog_source import namespace_for
from importer.cluster.client import Body, ClusterClient, connect
from importer.cluster.credential import pull_credential
from importer.cluster.doctor import diagnose
from importer.cluster.evidence import Evidence
from importer.cluster.expectation import ExpectedCatalog
from importer.cluster.finding import Finding, Severity
from importer.cluster.gathering import gather
from importer.cluster.identity import ClusterIdentity, identify
from importer.cluster.pool_looks import is_paused, is_rolled_out
from importer.cluster.record import Recorder, record_namespace
from importer.cluster.remedies import Means
from importer.settings import ClusterSettings

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Health:
    """What was seen, what was found to be wrong in it, and what of that was mended."""

    evidence: Evidence
    expected: tuple[ExpectedCatalog, ...]
    findings: tuple[Finding, ...]
    cluster: ClusterIdentity
    mended: tuple[Finding, ...] = ()

    @property
    def healthy(self) -> bool:
        """Whether nothing keeps operators from the cluster, and nothing is under way; what was mended is taken as well."""
        left = [finding for finding in self.findings if finding not in self.mended]
        wrong = any(finding.severity is Severity.ERROR for finding in left)
        cured = {finding.subject for finding in self.mended}
        served = all(source.lists_all or f"CatalogSource {source.name}" in cured for source in self.evidence.sources)
        return served and not (wrong or self.absent or self.rolling)

    @property
    def fixable(self) -> list[Finding]:
        """What `doctor --fix` would change."""
        return [finding for finding in self.findings if finding.fixable]

    @property
    def absent(self) -> list[ExpectedCatalog]:
        """The catalogs that should be there, and have no CatalogSource."""
        present = {source.name for source in self.evidence.sources}
        return [each for each in self.expected if each.name not in present]

    @property
    def rolling(self) -> list[str]:
        """The pools of nodes that are under way to their configuration; a paused one with all mirror rules is not."""
        return [
            pool["metadata"]["name"]
            for pool in self.evidence.pools
            if not is_rolled_out(pool) and (self.pool_lacks(pool) or not is_paused(pool))
        ]

    @property
    def exit_code(self) -> ExitCode:
        """6 unless all is well."""
        return ExitCode.DONE if self.healthy else ExitCode.CLUSTER

    def pool_lacks(self, pool: Body) -> int:
        """Return how many of the mirror rules a pool's configuration does not have."""
        return len(self.evidence.lacking.get(pool["metadata"]["name"]) or ())


def examine(cluster: ClusterSettings, registry_ca: str | None = None) -> Health:
    """Look at the cluster and say what is wrong with it. Changes nothing. Raises ClusterError, UsageError."""
    with connect(cluster.kubeconfig, cluster.context) as client:
        return _examine(client, cluster, _means(cluster, registry_ca))


def mend(
    cluster: ClusterSettings,
    registry_ca: str | None,
    tell: Tell,
    agree: Callable[[Health], bool],
) -> Health:
    """Look at the cluster, and mend what can be mended safely when `agree` says so. Raises ClusterError, UsageError."""
    means = _means(cluster, registry_ca)
    with connect(cluster.kubeconfig, cluster.context) as client:
        health = _examine(client, cluster, means)
        if not health.fixable or not agree(health):
            return health
        recorder = Recorder(client, record_namespace(client))
        done = remedies.mend(recorder, health.evidence, health.fixable, means, tell)
        return replace(health, mended=tuple(done))


def _examine(client: ClusterClient, cluster: ClusterSettings, means: Means) -> Health:
    identity = identify(client, cluster.release)
    release = cluster.release or identity.release
    expected = expectation.load(client, record_namespace(client))
    evidence = gather(client, namespace_for(release), expected, release)
    return Health(evidence, tuple(expected), tuple(remedies.possible(diagnose(evidence), means)), identity)


def _means(cluster: ClusterSettings, registry_ca: str | None) -> Means:
    credential = partial(pull_credential, cluster.authfile) if cluster.authfile else None
    return Means(registry_ca, credential, cluster.replace_credential)
