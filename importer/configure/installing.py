"""Install: choose places by OLM's rules, show what would be written, ask, write, wait until the operators run.

Specification: docs/reference/cluster.md, *install*.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from common.errors import ExitCode
from common.text import counted
from importer.cluster.api.client import connect
from importer.cluster.api.discovery import identify
from importer.cluster.apply import ApplyResult
from importer.cluster.finding import Finding, Severity
from importer.configure.asking import NotAgreedError, refuse, warn
from importer.configure.running import carry_out, outcomes, refused, rehearse, watch
from importer.install.planning import plan
from importer.install.reading import offered
from importer.install.writing import Installation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from common.archive.inventory import Inventory
    from importer.cluster.api.client import ClusterClient
    from importer.cluster.api.discovery import ClusterIdentity
    from importer.cluster.release import Release
    from importer.configure.running import Asking, Outcome
    from importer.install.wanted import How, Wanted
    from importer.settings import ClusterSettings


@dataclass(frozen=True, slots=True)
class Installed:
    """The outcome of an installation: done, or foreseen unless `done`.

    `outcomes`: what became of each operator.
    """

    cluster: ClusterIdentity
    result: ApplyResult
    findings: tuple[Finding, ...]
    installation: Installation
    done: bool = False
    outcomes: tuple[Outcome, ...] = ()

    @property
    def exit_code(self) -> ExitCode:
        """6 when something keeps the operators from being installed."""
        return ExitCode.CLUSTER if any(each.severity is Severity.ERROR for each in self.findings) else ExitCode.DONE


def install(
    cluster: ClusterSettings, wanted: Sequence[Wanted], how: How, inventory: Inventory | None, asking: Asking
) -> Installed:
    """Install operators from the catalogs that a cluster serves, and wait until they run.

    `inventory`: of an archive that was imported; None: whatever is served. Nothing changes unless `asking.agree` returns True.
    Idempotent. Raises ClusterError, also for operators that do not run in time; UsageError.
    """
    with connect(cluster.kubeconfig, cluster.context) as client:
        identity = identify(client, cluster.release)
        release = identity.release
        # What is read is asked for first: a 403 in the middle of it would name one permission alone.
        _require(client, release, Installation(), how)
        offers = offered(client, release, inventory, olm_v1=how.olm_v1)
        installation, findings = plan(client, release, wanted, how, offers)
        would = Installed(identity, ApplyResult(()), tuple(findings), installation)
        # What cannot be installed may be in namespaces that cannot be written either.
        if would.exit_code is ExitCode.DONE:
            _require(client, release, installation, how)
            would = replace(would, result=rehearse(client, release, installation))
        if cluster.dry_run:
            return would
        warn(would.findings, asking.tell)
        refuse(would.findings)
        # Nothing to change is nothing to ask: the second run of a script without --yes has to end well.
        if would.result.changed and not asking.agree(would):
            raise NotAgreedError
        result = carry_out(client, release, installation, asking.tell)
        # Also when nothing changed: an interrupted run is continued by the same command, which then waits for its operators.
        progress = watch(client, release, installation, asking, timeout_s=cluster.timeout_s)
        return replace(would, result=result, done=True, outcomes=outcomes(progress))


def _require(client: ClusterClient, release: Release | None, installation: Installation, how: How) -> None:
    """Raise ClusterError with all missing permissions."""
    if lacking := refused(client, release, installation, olm_v1=how.olm_v1):
        # All of them in one list: an administrator who grants them one by one needs as many runs.
        fix = "`hub-import render --subscriptions … --rbac` writes roles with exactly these; an administrator binds them."
        cause = f"{counted(len(lacking), 'permission is', 'permissions are')} missing"
        refuse([Finding("not-allowed", "permissions", cause, tuple(map(str, lacking)), fix)])
