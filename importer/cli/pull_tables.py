"""Results of the pull test: the JSON document, and the table for people.

Specification: docs/reference/cli.md, *JSON*.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from common.table import columns
from common.text import enumeration
from importer.cli.finding_tables import finding_document, findings_lines
from importer.pulls.verdicts import Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from importer.pulls.verdicts import PullTest, Verdict

_SHOWN = 5


def pulls_document(pulls: PullTest | None) -> dict[str, Any]:
    """Return the field `pulls` of a result; null where nothing was tested."""
    if pulls is None:
        return {"pulls": None}
    return {
        "pulls": {
            "failed": pulls.failed,
            "groups": [_group_document(each) for each in pulls.verdicts],
            "findings": [finding_document(each) for each in pulls.findings],
            "left": pulls.left,
        }
    }


def _group_document(verdict: Verdict) -> dict[str, Any]:
    group = verdict.group
    return {
        "pool": group.pool or None,
        "architecture": group.architecture,
        "nodes": group.nodes,
        "outcome": verdict.outcome,
        "image": verdict.image or None,
        "node": verdict.node or None,
        "seconds": verdict.seconds,
        "through": verdict.through,
        "code": verdict.finding.code if verdict.finding else None,
    }


def pulls_verdict(pulls: PullTest | None, verdict: Sequence[str]) -> list[str]:
    """Return the table of a cluster with a last line that counts the pull test."""
    if pulls is None or not pulls.failed:
        return list(verdict)
    bad = [each.group.name for each in pulls.verdicts if each.outcome is Outcome.FAILED]
    # Without the pull test it may say that all is well.
    kept = verdict[:-1] if verdict[-1].startswith("healthy") else verdict
    return [*kept, f"not healthy: nodes of {enumeration(bad, _SHOWN)} cannot pull"]


def pulls_table(pulls: PullTest | None) -> list[str]:
    """Return the pull test for people: what is wrong, and a row for each group."""
    if pulls is None:
        return []
    rows = [("PULLED BY", "NODES", "NODE", "RESULT")]
    rows += [(each.group.name, str(each.group.nodes), each.node, each.text) for each in pulls.verdicts]
    left = [f"left behind: {each}" for each in pulls.left]
    return [*findings_lines(pulls.findings), *(columns(rows) if pulls.verdicts else []), *left]
