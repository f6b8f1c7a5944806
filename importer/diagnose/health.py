"""How a cluster is: `status` looks, `doctor` says why, and mends what can be mended safely (docs/cluster.md, *doctor*).

Neither needs the archive: what is expected was written into the cluster's record by the last apply.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from common.errors import ExitCode
from importer.cluster.client import Body, ClusterClient, connect
from importer.cluster.discovery import ClusterIdentity, identify
from importer.cluster.finding import UNKNOWN, Finding, Severity
from importer.cluster.readiness import expectation
from importer.cluster.readiness.readiness import is_paused, is_rolled_out
from importer.cluster.record import Recorder, record_namespace
from importer.cluster.resources.catalog_source import namespace_for
from importer.cluster.trust import pull_credential
from importer.diagnose import fixes, rules_cluster
from importer.diagnose.collect import gather
from importer.diagnose.fixes import Means
from importer.diagnose.rules_pod import pod_findings

if TYPE_CHECKING:
    from importer.cluster.readiness.expectation import ExpectedCatalog
    from importer.diagnose.snapshot import Evidence, PodEvidence, SourceEvidence
    from importer.settings import ClusterSettings

# The diagnosis: evidence in, findings out, and what nobody described is called unknown with its evidence. Pure.
#
# The table of symptoms is docs/facts/openshift.md §6; `pod_symptoms.py` and `cluster_symptoms.py` have its rows.

_LOG_SHOWN = 5
_ASK = "Look at the evidence: it is the cluster's own words. The pod need not be killed: the node starts it again by itself."


def diagnose(evidence: Evidence) -> list[Finding]:
    """Return what is wrong, in the order in which it has to be mended; nothing for a cluster that is well.

    It never guesses: a catalog that is not well and shows no symptom of the table is reported as unknown.
    """
    around = list(rules_cluster.findings(evidence))
    ours = [source for source in evidence.sources if source.is_ours]
    theirs = [source for source in evidence.sources if not source.is_ours and not source.is_default]
    pods = [finding for source in ours for finding in pod_findings(source, evidence)]
    pods += [replace(finding, fixable=False) for source in theirs for finding in pod_findings(source, evidence)]
    explained = {finding.subject for finding in (*around, *pods)}
    others = [finding for source in ours for finding in _unexplained(source) if finding.subject not in explained]
    return [*around, *dict.fromkeys(pods), *others]


def _unexplained(source: SourceEvidence) -> Iterator[Finding]:
    unready = [pod for pod in source.pods if not pod.ready]
    if source.state == "READY" and not unready and source.lists_all:
        return
    if unready and all(pod.is_starting for pod in unready):
        yield _starting(source, unready)
    elif source.connected_lately and source.pods and not unready and not source.stale_pods:
        yield _asking(source)
    else:
        yield _unknown(source, unready)


def _starting(source: SourceEvidence, pods: list[PodEvidence]) -> Finding:
    return Finding(
        "catalog-starting",
        f"CatalogSource {source.name}",
        "its pod is being made, and nothing speaks against it so far",
        tuple(f"pod {pod.name}: {'; '.join(pod.states)}, made at {pod.created}" for pod in pods),
        "Wait some minutes; if it still says so then, oc describe pod tells more.",
        severity=Severity.WARNING,
    )


def _asking(source: SourceEvidence) -> Finding:
    """Return the finding about a catalog that answers, while package-server's own connection to it is still to come."""
    return Finding(
        "catalog-starting",
        f"CatalogSource {source.name}",
        "the catalog answers, and package-server has not asked it again yet",
        (f"state: READY, for {source.connected_s:.0f} s", *([source.packages.told] if source.packages else [])),
        "Wait some minutes: package-server asks again by itself.",
        severity=Severity.WARNING,
    )


def _unknown(source: SourceEvidence, unready: list[PodEvidence]) -> Finding:
    said = str((source.body.get("status") or {}).get("message") or "")
    shown = [f"state: {source.state}", *([said] if said else []), *source.refusals[:_LOG_SHOWN]]
    for pod in unready:
        log = [f"log: {line}" for line in pod.log.splitlines()[-_LOG_SHOWN:]]
        shown += [f"pod {pod.name}: {'; '.join(pod.states)}", *pod.events[:_LOG_SHOWN], *log]
    if not source.pods:
        shown.append("there is no pod")
    if source.packages is not None and not source.packages.ok:
        shown.append(f"packages: {source.packages.told}")
    cause = "does not serve what it should, for a reason that this program does not know"
    return Finding(UNKNOWN, f"CatalogSource {source.name}", cause, tuple(shown), _ASK)


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
        done = fixes.mend(recorder, health.evidence, health.fixable, means, tell)
        return replace(health, mended=tuple(done))


def _examine(client: ClusterClient, cluster: ClusterSettings, means: Means) -> Health:
    identity = identify(client, cluster.release)
    release = cluster.release or identity.release
    expected = expectation.load(client, record_namespace(client))
    evidence = gather(client, namespace_for(release), expected, release)
    return Health(evidence, tuple(expected), tuple(fixes.possible(diagnose(evidence), means)), identity)


def _means(cluster: ClusterSettings, registry_ca: str | None) -> Means:
    credential = partial(pull_credential, cluster.authfile) if cluster.authfile else None
    return Means(registry_ca, credential, cluster.replace_credential)
