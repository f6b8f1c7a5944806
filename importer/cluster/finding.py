"""What is wrong with a cluster, as far as it can be told: cause, evidence, fix. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

UNKNOWN = "unknown"


class Severity(StrEnum):
    """Whether operators are kept from the cluster, or may be."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong. `code` is stable (docs/cluster.md, *doctor*); `evidence` is what the cluster says itself.

    `fixable`: `hub-import doctor --fix` may mend it as things stand.
    """

    code: str
    subject: str
    cause: str
    evidence: tuple[str, ...]
    fix: str
    fixable: bool = False
    severity: Severity = Severity.ERROR

    @property
    def text(self) -> str:
        """All of it, on several lines."""
        shown = "".join(f"\n    {line}" for line in self.evidence)
        return f"{self.subject}: {self.cause} [{self.code}]{shown}\n    fix: {self.fix}"
