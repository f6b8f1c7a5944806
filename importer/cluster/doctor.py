"""The diagnosis: evidence in, findings out, and what nobody described is called unknown with its evidence. Pure.

The table of symptoms is docs/facts/openshift.md §6; `pod_symptoms.py` and `cluster_symptoms.py` have its rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from importer.cluster import cluster_symptoms
from importer.cluster.evidence import Evidence, PodEvidence, SourceEvidence
from importer.cluster.finding import UNKNOWN, Finding, Severity
from importer.cluster.pod_symptoms import pod_findings

_LOG_SHOWN = 5
_ASK = "Look at the evidence: it is the cluster's own words. The pod need not be killed: the node starts it again by itself."


def diagnose(evidence: Evidence) -> list[Finding]:
    """Return what is wrong, in the order in which it has to be mended; nothing for a cluster that is well.

    It never guesses: a catalog that is not well and shows no symptom of the table is reported as unknown.
    """
    around = list(cluster_symptoms.findings(evidence))
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
