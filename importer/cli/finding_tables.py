"""Findings in results: lines for people, and the JSON document (docs/reference/cli.md, *JSON*)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from importer.cluster.finding import Finding


def findings_lines(findings: Sequence[Finding]) -> list[str]:
    """Return the lines of findings, each with its severity."""
    lines = []
    for finding in findings:
        first, *more = finding.lines
        lines += [f"{finding.severity}: {first}", *more]
    return lines


def finding_document(finding: Finding, *, fixed: bool = False) -> dict[str, Any]:
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
