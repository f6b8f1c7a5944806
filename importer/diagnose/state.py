"""The health of a cluster, as `status` and `doctor` show it (docs/reference/cluster.md, *status and doctor*). No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from common.errors import ExitCode
from common.version import try_parse
from importer.cluster.finding import Severity
from importer.cluster.kinds import SECRET
from importer.cluster.readiness.readiness import in_olm_v1, is_paused, is_rolled_out
from importer.cluster.rollout import strongest
from importer.diagnose.fixes import NEEDS_CREDENTIAL
from importer.diagnose.updates import ACK, NOT_UPGRADEABLE, subject_of

if TYPE_CHECKING:
    from importer.cluster.api.client import Body
    from importer.cluster.api.discovery import ClusterIdentity
    from importer.cluster.finding import Finding
    from importer.cluster.readiness.readiness import Check, ExpectedCatalog
    from importer.cluster.record import ImportedArchive
    from importer.cluster.updates.outlook import Update
    from importer.diagnose.snapshot import Snapshot
    from importer.operators.table import Row


@dataclass(frozen=True, slots=True)
class Health:
    """A snapshot, the findings in it, and those that were fixed; the operators of the cluster, and the imported archives."""

    snapshot: Snapshot
    expected: tuple[ExpectedCatalog, ...]
    findings: tuple[Finding, ...]
    cluster: ClusterIdentity
    fixed: tuple[Finding, ...] = ()
    operators: tuple[Row, ...] = ()
    archives: tuple[ImportedArchive, ...] = ()

    @property
    def healthy(self) -> bool:
        """Whether all catalogs are served and no rollout is in progress; findings that were fixed do not count."""
        # The snapshot is older than the fixes, so fixed findings are taken as gone.
        left = [finding for finding in self.findings if finding not in self.fixed]
        wrong = any(finding.severity is Severity.ERROR for finding in left)
        fixed = {finding.subject for finding in self.fixed}
        served = all(source.lists_all or f"CatalogSource {source.name}" in fixed for source in self.snapshot.sources)
        served = served and all(check.ok for _, check in self.in_olm_v1)
        return served and not (wrong or self.absent or self.rolling)

    @property
    def fixable(self) -> list[Finding]:
        """The findings that `doctor --fix` would fix."""
        return [finding for finding in self.findings if finding.fixable]

    def obstacles(self, update: Update) -> tuple[str, ...]:
        """Return the codes of what keeps the cluster from an update; none where it is possible as far as can be seen."""
        # Acknowledgements and `Upgradeable` are about later minor releases alone.
        shared = {ACK} if update.acknowledge else set()
        state, version = self.snapshot.updates, try_parse(update.release.version)
        now = state.current if state is not None else None
        if now is not None and version is not None and version.release[:2] > now.release[:2]:
            shared.add(NOT_UPGRADEABLE)
        own = subject_of(update.release)
        return tuple(dict.fromkeys(each.code for each in self.findings if each.subject == own or each.code in shared))

    @property
    def drain(self) -> str:
        """The effect of the fixes on the nodes, as text; empty where it is not known."""
        # Of all that is fixed, nodes take over only a pull secret: a CA for the mirror is no part of their configuration.
        written = {SECRET.name} if any(finding.code == NEEDS_CREDENTIAL for finding in self.fixable) else set()
        return strongest(self.snapshot.release, written)

    @property
    def in_olm_v1(self) -> list[tuple[ExpectedCatalog, Check]]:
        """The catalogs of a cluster without OLM (Classic), with the check of the ClusterCatalog of each."""
        if self.snapshot.classic:
            return []
        found = ((each, in_olm_v1(self.snapshot.cluster_catalogs, each)) for each in self.expected)
        return [(each, check) for each, checks in found for check in checks]

    @property
    def absent(self) -> list[ExpectedCatalog]:
        """The expected catalogs that have no CatalogSource; without OLM (Classic), no ClusterCatalog."""
        present = {source.name for source in self.snapshot.sources} | {each.name for each, _ in self.in_olm_v1}
        # After an update a catalog has another name (ADR 0051), and its former CatalogSource may be deleted.
        served = {each.catalog for each in self.expected if each.name in present and each.catalog}
        return [each for each in self.expected if each.name not in present and each.catalog not in served]

    @property
    def unrecorded(self) -> list[str]:
        """The CatalogSources of hub-import of which nothing says what they should list: others applied rendered files."""
        return [source.name for source in self.snapshot.sources if source.is_managed and source.expected is None]

    @property
    def rolling(self) -> list[str]:
        """The pools whose rollout is in progress; a paused pool with all mirror rules is not one of them."""
        return [
            pool["metadata"]["name"]
            for pool in self.snapshot.pools
            # A pool can stay paused for days during a Control Plane Only update, and is healthy meanwhile.
            if not is_rolled_out(pool) and (self.missing_rules(pool) or not is_paused(pool))
        ]

    @property
    def exit_code(self) -> ExitCode:
        """6 unless the cluster is healthy."""
        return ExitCode.DONE if self.healthy else ExitCode.CLUSTER

    def missing_rules(self, pool: Body) -> int:
        """Return how many of the mirror rules a pool's configuration lacks."""
        return len(self.snapshot.missing_rules.get(pool["metadata"]["name"]) or ())
