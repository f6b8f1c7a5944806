"""Results of the commands that work on a cluster, as JSON (docs/cli.md, *JSON*) and for people. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from common.columns import columns, counted
from importer.applying import Applied
from importer.cluster.apply import ApplyResult
from importer.cluster.evidence import SourceEvidence
from importer.cluster.finding import Finding
from importer.cluster.identity import ClusterIdentity
from importer.cluster.pool_looks import how_far, is_paused, is_rolled_out
from importer.cluster.resources import Built
from importer.cluster.undo import Outcome
from importer.health import Health
from importer.listing import Document, problem_lines, push_document, push_table
from importer.push_result import PushResult
from importer.workflow import UndoResult

_DIFF_SHOWN = 60


def render_document(paths: Sequence[Path], built: Built) -> Document:
    """Return the JSON of `render`."""
    return {"files": [str(path) for path in paths], "problems": built.problems}


def render_table(paths: Sequence[Path], built: Built) -> str:
    """Return `render` for people."""
    return "\n".join([*problem_lines(built.problems), *map(str, paths)])


def cluster_document(cluster: ClusterIdentity | None) -> Document | None:
    """Return the JSON of a cluster: the address of its API, the context, OpenShift's version; null what is not known."""
    return {"server": cluster.server, "context": cluster.context, "release": cluster.version} if cluster else None


def apply_document(applied: Applied) -> Document:
    """Return the JSON of `apply`: `healthy` once OLM lists what the archive carries."""
    changes = [
        {"action": c.action, "kind": c.kind, "name": c.name, "namespace": c.namespace, "detail": c.detail, "diff": c.diff}
        for c in applied.result.changes
    ]
    findings = [finding_document(each) for each in applied.findings]
    where = cluster_document(applied.cluster)
    return {"healthy": applied.done, "cluster": where, "changes": changes, "findings": findings, "problems": applied.problems}


def apply_table(applied: Applied) -> str:
    """Return `apply` for people."""
    if not applied.done:
        return f"{planned_table(applied)}\n{would_change(applied)}\nNothing was changed."
    verdict = "OLM lists what the archive carries."
    return "\n".join([*problem_lines(applied.problems), changes_table(applied.result), f"{applied.cluster}.", verdict])


def planned_table(would: Applied) -> str:
    """Return what `apply` would do, for people: what was found before, each object, and how it would differ."""
    return "\n".join([*findings_lines(would.findings), question_table(would, diff=True)])


def would_change(would: Applied) -> str:
    """Return which cluster would be changed, how much, and what that does to its nodes: one line."""
    count = len(list(would.result.changed))
    return f"{would.cluster}: {', '.join([counted(count, 'change'), *([would.drain] if would.drain else [])])}."


def question_table(would: Applied, *, diff: bool) -> str:
    """Return what a person is asked to agree to: each object, with `diff` also how it would differ."""
    diffs = ["\n".join(_shortened(change.diff)) for change in would.result.changed if diff and change.diff]
    return "\n".join([*problem_lines(would.problems), changes_table(would.result), *diffs])


def _shortened(diff: Sequence[str]) -> list[str]:
    more = len(diff) - _DIFF_SHOWN
    return [*diff[:_DIFF_SHOWN], *([f"… {more} more lines; --format json has them all"] if more > 0 else [])]


def changes_table(result: ApplyResult) -> str:
    """Return what became, or would become, of each object."""
    rows = [("ACTION", "KIND", "NAME", "DETAIL")]
    rows += [(c.action, c.kind, f"{c.namespace}/{c.name}" if c.namespace else c.name, c.detail) for c in result.changes]
    return columns(rows)


def undo_document(done: UndoResult, *, dry_run: bool) -> Document:
    """Return the JSON of `undo`; `fields` are those that others have written."""
    objects = [
        {"outcome": one.outcome, "kind": one.kind, "name": one.name, "namespace": one.namespace, "fields": one.fields}
        for one in done.objects
    ]
    return {"done": not dry_run, "cluster": cluster_document(done.cluster), "objects": objects}


def undo_table(done: UndoResult, *, dry_run: bool) -> str:
    """Return `undo` for people."""
    refused = any(one.fields for one in done.objects)
    lines = [f"{done.cluster}.", undone_rows(done)]
    if dry_run:
        lines.append("Nothing was changed.")
    if refused:
        lines.append("What others changed stays as it is, and in the record: settle it by hand, then undo again.")
    return "\n".join(lines)


def undone_rows(done: UndoResult) -> str:
    """Return what became, or would become, of each object."""
    rows = [("OUTCOME", "KIND", "NAME", "CHANGED BY OTHERS SINCE")]
    rows += [(one.outcome, one.kind, f"{one.namespace}/{one.name}".lstrip("/"), ", ".join(one.fields)) for one in done.objects]
    return columns(rows)


def would_undo(would: UndoResult) -> str:
    """Return which cluster would be changed back, and how much: one line."""
    changed = [one for one in would.objects if one.outcome in (Outcome.DELETED, Outcome.RESTORED)]
    return f"{would.cluster}: {counted(len(changed), 'change')}."


def remedies_table(health: Health) -> str:
    """Return what `doctor --fix` would do."""
    return "\n".join(f"would mend {each.subject}: {each.cause}" for each in health.fixable)


def would_mend(health: Health) -> str:
    """Return which cluster would be changed, and how much: one line."""
    return f"{health.cluster}: {counted(len(health.fixable), 'change')}."


def deploy_document(pushed: PushResult | None, applied: Applied | None, cluster: ClusterIdentity | None) -> Document:
    """Return the JSON of `deploy`: that of `push` unless it was a dry run, of `apply` unless the cluster was left alone."""
    return {
        "cluster": cluster_document(cluster),
        "push": push_document(pushed) if pushed else None,
        "apply": apply_document(applied) if applied else None,
    }


def deploy_table(pushed: PushResult | None, applied: Applied | None) -> str:
    """Return `deploy` for people."""
    last = apply_table(applied) if applied else "The cluster was left alone: the mirror does not have everything yet."
    return f"{push_table(pushed)}\n\n{last}" if pushed else last


def findings_lines(findings: Sequence[Finding]) -> list[str]:
    """Return a paragraph with what was found; nothing without findings."""
    return ["\n".join(f"{finding.severity}: {finding.told}" for finding in findings)] if findings else []


def finding_document(finding: Finding, *, fixed: bool = False) -> Document:
    """Return the JSON of one finding."""
    return {
        "code": finding.code,
        "severity": finding.severity,
        "subject": finding.subject,
        "cause": finding.cause,
        "evidence": finding.evidence,
        "fix": finding.fix,
        "fixable": finding.fixable,
        "fixed": fixed,
    }


def health_document(health: Health) -> Document:
    """Return the JSON of `status` and `doctor`."""
    lacking = sorted({pair for pairs in health.evidence.lacking.values() for pair in pairs})
    return {
        "healthy": health.healthy,
        "release": str(health.evidence.release) if health.evidence.release else None,
        "cluster": cluster_document(health.cluster),
        "catalogs": [
            *(_catalog_document(source) for source in health.evidence.sources if source.is_ours),
            *({"name": each.name, "state": "absent", "packages": _counts(len(each.packages), 0)} for each in health.absent),
        ],
        "mirrors": {
            "expected": len({rule for each in health.expected for rule in each.rules}),
            "missing": [{"source": source, "mirror": mirror} for source, mirror in lacking],
        },
        "pools": [
            {
                "name": pool["metadata"]["name"],
                "state": "updated" if is_rolled_out(pool) else "updating",
                "progress": how_far(pool),
                "rulesMissing": health.pool_lacks(pool),
            }
            for pool in health.evidence.pools
        ],
        "findings": [finding_document(each, fixed=each in health.mended) for each in health.findings],
        "unseen": health.evidence.unseen,
    }


def status_table(health: Health) -> str:
    """Return `status` for people."""
    rows = [("WHAT", "STATE", "MORE")]
    for source in health.evidence.sources:
        if source.is_ours:
            listed = source.packages.told if source.packages else "what it should list is not known"
            rows.append((f"CatalogSource {source.name}", source.state, listed))
    rows += [(f"CatalogSource {each.name}", "absent", "") for each in health.absent]
    for pool in health.evidence.pools:
        lacks = health.pool_lacks(pool)
        more = f"{counted(lacks, 'mirror rule')} missing" if lacks else "mirror rules in place"
        paused = ", paused" if is_paused(pool) else ""
        rows.append((f"MachineConfigPool {pool['metadata']['name']}", f"{how_far(pool)}{paused}", more))
    return "\n".join([f"{health.cluster}.", columns(rows), _verdict(health)])


def _verdict(health: Health) -> str:
    if health.healthy:
        return "healthy"
    if health.rolling and not health.findings:
        return f"not settled: the nodes of {', '.join(health.rolling)} are taking over their configuration"
    return f"not healthy: {counted(len(health.findings), 'finding')}; hub-import doctor tells causes and fixes"


def doctor_table(health: Health) -> str:
    """Return `doctor` for people."""
    left = [finding for finding in health.findings if finding not in health.mended]
    lines = [f"{health.cluster}.", *findings_lines(left), *(f"mended: {each.subject}: {each.cause}" for each in health.mended)]
    lines += [f"absent: CatalogSource {each.name}; hub-import apply brings it back" for each in health.absent]
    lines += [f"not seen: {each}" for each in health.evidence.unseen]
    if not health.findings and not health.absent:
        lines.append("Nothing is wrong, as far as can be seen.")
    if health.rolling:
        lines.append(f"under way: the nodes of {', '.join(health.rolling)} are taking over their configuration")
    if any(finding.fixable for finding in left):
        lines.append("hub-import doctor --fix mends: " + ", ".join(each.code for each in left if each.fixable))
    if health.mended:
        lines.append("What was mended takes a minute or two to show: hub-import status.")
    return "\n".join(lines)


def _catalog_document(source: SourceEvidence) -> Document:
    expected = len(source.expected.packages) if source.expected else None
    listed = source.listed
    return {"name": source.name, "state": source.state, "packages": _counts(expected, listed, source.missing)}


def _counts(expected: int | None, listed: int | None, missing: Sequence[str] = ()) -> Document:
    return {"expected": expected, "listed": listed, "missing": list(missing)}
