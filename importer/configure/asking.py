"""What the commands that change a cluster have in common before the first change: findings that are said, or refuse it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from common.errors import ClusterError, HubError, RegistryError
from importer.cluster.finding import Finding, Severity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    Tell = Callable[[str], None]


class NotAgreedError(HubError):
    """A person was asked whether something may be changed, and did not agree (ADR 0098)."""

    def __init__(self, unchanged: str = "the cluster was not changed", more: str = "; --dry-run only shows") -> None:
        super().__init__(f"{unchanged}: not agreed", hint=f"Run it again to be asked again{more}.")


def warn(findings: Iterable[Finding], tell: Tell) -> None:
    """Say the warnings among findings."""
    for finding in findings:
        if finding.severity is Severity.WARNING:
            first, *more = finding.lines
            for line in (f"warning: {first}", *more):
                tell(line)


def refuse(findings: Sequence[Finding]) -> None:
    """Raise the errors among the findings as one."""
    errors = [finding for finding in findings if finding.severity is Severity.ERROR]
    if not errors:
        return
    # Exit status 5 means that a push is missing, 6 the cluster (docs/reference/cluster.md, *Preflight*).
    kind = RegistryError if all(each.code == "image-not-in-mirror" for each in errors) else ClusterError
    details = [line for each in errors for line in each.lines]
    raise kind("the cluster was not changed:", details=details, hint="Correct that, and run the same command again.")


def silent(_line: str) -> None:
    """Discard a line of progress, for steps whose output was printed already."""
