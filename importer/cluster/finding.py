"""Findings about a cluster: cause, evidence, fix. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from common.text import visible

UNKNOWN = "unknown"


class Severity(StrEnum):
    """Whether a cause keeps operators from being served, or only may."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem. `code` is stable (docs/reference/cluster.md, *status and doctor*); `evidence` quotes the cluster.

    `fixable`: `hub-import doctor --fix` can repair it in the present state.
    """

    # Codes, severities and these fields are part of the JSON output (docs/reference/cli.md).
    code: str
    subject: str
    cause: str
    evidence: tuple[str, ...]
    fix: str
    fixable: bool = False
    severity: Severity = Severity.ERROR

    @property
    def lines(self) -> list[str]:
        """The whole finding as lines: subject and cause, and indented the evidence and the fix."""
        shown = [f"    {line}" for line in self.evidence]
        return [f"{self.subject}: {self.cause} [{self.code}]", *shown, f"    fix: {self.fix}"]

    @property
    def text(self) -> str:
        """The lines as one text; a newline that the cluster wrote is escaped."""
        return "\n".join(map(visible, self.lines))
