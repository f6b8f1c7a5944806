"""The health of a cluster, for `status` and `doctor`, and the fixes of `doctor --fix` (docs/cluster.md, *status and doctor*).

Neither needs the archive: the last apply wrote the expected catalogs into the cluster's record (ADR 0015).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from common.errors import ClusterError, ExitCode
from importer.cluster.account import account_of
from importer.cluster.client import ClusterClient, UnavailableError, connect
from importer.cluster.discovery import ClusterIdentity, identify
from importer.cluster.finding import Finding, Severity
from importer.cluster.kinds import SECRET
from importer.cluster.nodes import configures_nodes, unseen_rules
from importer.cluster.readiness.readiness import is_paused, is_rolled_out
from importer.cluster.record import Recorder, expected_catalogs, record_namespace
from importer.cluster.resources.catalog_source import namespace_for
from importer.cluster.rollout import strongest
from importer.cluster.trust import pull_credential
from importer.diagnose import fixes
from importer.diagnose.collect import collect
from importer.diagnose.compared import expected_of
from importer.diagnose.fixes import NEEDS_CREDENTIAL, FixInputs
from importer.diagnose.rules import diagnose
from importer.operators.present import present
from importer.operators.reading import read_operators

if TYPE_CHECKING:
    from common.archive.inventory import Inventory
    from importer.cluster.client import Body
    from importer.cluster.readiness.readiness import ExpectedCatalog
    from importer.cluster.release import Release
    from importer.diagnose.snapshot import Snapshot
    from importer.operators.table import Row
    from importer.settings import ClusterSettings


Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Health:
    """A snapshot, the findings in it, and those of them that were fixed; the operators of the cluster."""

    snapshot: Snapshot
    expected: tuple[ExpectedCatalog, ...]
    findings: tuple[Finding, ...]
    cluster: ClusterIdentity
    fixed: tuple[Finding, ...] = ()
    operators: tuple[Row, ...] = ()

    @property
    def healthy(self) -> bool:
        """Whether all catalogs are served and no rollout is in progress; findings that were fixed do not count."""
        # The snapshot is older than the fixes, so fixed findings are taken as gone.
        left = [finding for finding in self.findings if finding not in self.fixed]
        wrong = any(finding.severity is Severity.ERROR for finding in left)
        fixed = {finding.subject for finding in self.fixed}
        served = all(source.lists_all or f"CatalogSource {source.name}" in fixed for source in self.snapshot.sources)
        return served and not (wrong or self.absent or self.rolling)

    @property
    def fixable(self) -> list[Finding]:
        """The findings that `doctor --fix` would fix."""
        return [finding for finding in self.findings if finding.fixable]

    @property
    def drain(self) -> str:
        """The effect of the fixes on the nodes, as text; empty where it is not known."""
        # Of all that is fixed, nodes take over only a pull secret: a CA for the mirror is no part of their configuration.
        written = {SECRET.name} if any(finding.code == NEEDS_CREDENTIAL for finding in self.fixable) else set()
        return strongest(self.snapshot.release, written)

    @property
    def absent(self) -> list[ExpectedCatalog]:
        """The expected catalogs that have no CatalogSource."""
        present = {source.name for source in self.snapshot.sources}
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


def examine(cluster: ClusterSettings, registry_ca: str | None = None, inventory: Inventory | None = None) -> Health:
    """Return the health of a cluster, compared to an inventory where one is given. Changes nothing.

    Raises ClusterError, UsageError.
    """
    with connect(cluster.kubeconfig, cluster.context) as client:
        return _examine(client, cluster, _inputs(cluster, registry_ca), inventory)


def fix(
    cluster: ClusterSettings,
    registry_ca: str | None,
    tell: Tell,
    agree: Callable[[Health], bool],
    met: Callable[[ClusterIdentity, str], None] | None = None,
) -> Health:
    """Return the health of a cluster, after the fixes that `agree` allowed. Raises ClusterError, UsageError.

    `met` gets the cluster and the account there.
    """
    inputs = _inputs(cluster, registry_ca)
    with connect(cluster.kubeconfig, cluster.context) as client:
        health = _examine(client, cluster, inputs)
        if met is not None:
            met(health.cluster, account_of(client))
        # The question names the fixes, and is asked once for all of them.
        if not health.fixable or not agree(health):
            return health
        # So that `undo` also reverts what `doctor` changed.
        recorder = Recorder(client, record_namespace(client))
        done = fixes.fix(recorder, health.snapshot, health.fixable, inputs, tell)
        return replace(health, fixed=tuple(done))


def _examine(client: ClusterClient, cluster: ClusterSettings, inputs: FixInputs, inventory: Inventory | None = None) -> Health:
    identity = identify(client, cluster.release)
    release = identity.release
    known = {each.name: each for each in expected_catalogs(client, record_namespace(client))}
    if inventory is not None:
        known |= {each.name: each for each in expected_of(client, inventory, release)}
    expected = list(known.values())
    snapshot = collect(client, namespace_for(release), expected, release)
    findings = fixes.with_inputs(diagnose(snapshot), inputs)
    # Also where all is well: that OLM lists the operators says nothing about their pulls.
    imported = expected or any(source.is_managed for source in snapshot.sources)
    nodes = [unseen_rules(release)] if not configures_nodes(release) and imported else []
    rows = _operators(client, release, expected)
    return Health(snapshot, tuple(expected), (*findings, *nodes), identity, operators=rows)


def _operators(client: ClusterClient, release: Release | None, expected: Sequence[ExpectedCatalog]) -> tuple[Row, ...]:
    """Return the table of operators; empty where it cannot be read, as the snapshot says."""
    try:
        return tuple(present(read_operators(client, release), expected))
    except UnavailableError:
        raise
    except ClusterError:
        return ()


def _inputs(cluster: ClusterSettings, registry_ca: str | None) -> FixInputs:
    # Read only when a fix needs it: which entry it is depends on the mirror of the catalog.
    credential = partial(pull_credential, cluster.authfile) if cluster.authfile else None
    return FixInputs(registry_ca, credential, cluster.replace_credential)
