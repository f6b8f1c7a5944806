"""Install: choose places by OLM's rules, show what would be written, ask, write, wait until the operators run.

Specification: docs/reference/cluster.md, *install*.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from common.errors import ExitCode
from importer.cluster.api.client import connect
from importer.cluster.api.discovery import identify
from importer.cluster.apply import ApplyResult
from importer.cluster.finding import Finding, Severity
from importer.cluster.readiness.wait import wait_healthy
from importer.cluster.record import Recorder, record_namespace
from importer.cluster.resources.catalog_source import namespace_for
from importer.cluster.resources.permissions import for_installation, missing
from importer.cluster.writing import Writer
from importer.configure.asking import NotAgreedError, refuse, silent, warn
from importer.diagnose.collect import collect
from importer.diagnose.rules import diagnose
from importer.install.planning import plan
from importer.install.progress import Progress, approval
from importer.install.reading import offered
from importer.install.wanted import How, Wanted
from importer.install.writing import Installation, write

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from common.archive.inventory import Inventory
    from importer.cluster.api.client import ClusterClient
    from importer.cluster.api.discovery import ClusterIdentity
    from importer.cluster.readiness.wait import Display
    from importer.cluster.release import Release
    from importer.cluster.writing import Change
    from importer.install.offers import Offered
    from importer.settings import ClusterSettings

    Outcome = tuple[str, str, str]  # package, state in words, and the command that approves its InstallPlan


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


@dataclass(frozen=True, slots=True)
class Asking:
    """The callbacks of an installation: lines of text, the question before the first change, and the wait.

    `clock` is monotonic, in seconds.
    """

    tell: Callable[[str], None]
    agree: Callable[[Installed], bool]
    display: Display
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


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
        _require(client, identity, Installation())
        installation, findings = plan(client, release, wanted, how, offered(client, release, inventory))
        would = Installed(identity, ApplyResult(()), tuple(findings), installation)
        # What cannot be installed may be in namespaces that cannot be written either.
        if would.exit_code is ExitCode.DONE:
            would = replace(would, result=_foreseen(client, identity, installation))
        if cluster.dry_run:
            return would
        warn(would.findings, asking.tell)
        refuse(would.findings)
        if would.result.changed and not asking.agree(would):
            raise NotAgreedError
        result = carry_out(client, release, installation, asking.tell)
        progress = watch(client, release, installation, asking, timeout_s=cluster.timeout_s)
        return replace(would, result=result, done=True, outcomes=_outcomes(progress))


@dataclass(frozen=True, slots=True)
class ListedPlan:
    """What becomes of the operators that an archive lists for installation, as part of its import."""

    client: ClusterClient
    release: Release | None
    installation: Installation = field(default_factory=Installation)
    findings: tuple[Finding, ...] = ()

    @property
    def _possible(self) -> bool:
        return bool(self.installation.packages) and not any(each.severity is Severity.ERROR for each in self.findings)

    def foresee(self) -> tuple[Change, ...]:
        """Return what would change. Raises ClusterError."""
        if not self._possible:
            return ()
        writer = _writer(self.client, self.release, silent, dry_run=True)
        write(writer, self.installation)
        return tuple(writer.changes)

    def carry_out(self, asking: Asking, timeout_s: float) -> tuple[ApplyResult, tuple[Outcome, ...]]:
        """Install the operators, once the catalogs are served, and wait until they run. Raises ClusterError."""
        if not self._possible:
            return ApplyResult(()), ()
        result = carry_out(self.client, self.release, self.installation, asking.tell)
        progress = watch(self.client, self.release, self.installation, asking, timeout_s=timeout_s)
        return result, _outcomes(progress)


def plan_listed(client: ClusterClient, release: Release | None, names: Sequence[str], offers: Sequence[Offered]) -> ListedPlan:
    """Return the plan for the operators that an archive lists; `offers` are those of its catalogs. Raises ClusterError."""
    if not names:
        return ListedPlan(client, release)
    installation, found = plan(client, release, [Wanted(each) for each in names], How(), offers)
    findings = [_leavable(each) for each in found]
    resources = [*installation.namespaces, *installation.resources]
    wanted = [each for each in for_installation(release, resources) if each.verb != "delete"]
    if refused := missing(client, wanted):
        cause = f"{len(refused)} permissions to install operators are missing"
        fix = "An administrator grants exactly these, or give --no-install."
        findings.append(Finding("not-allowed", "permissions", cause, tuple(map(str, refused)), fix))
    return ListedPlan(client, release, installation, tuple(findings))


def _leavable(finding: Finding) -> Finding:
    """Return a finding with the way to import without installing."""
    more = " --no-install imports without installing." if finding.severity is Severity.ERROR else ""
    return replace(finding, fix=f"{finding.fix}{more}")


def _require(client: ClusterClient, identity: ClusterIdentity, installation: Installation) -> None:
    """Raise ClusterError with all missing permissions."""
    resources = [*installation.namespaces, *installation.resources]
    wanted = [each for each in for_installation(identity.release, resources) if each.verb != "delete"]
    if refused := missing(client, wanted):
        fix = "`hub-import render --subscriptions … --rbac` writes roles with exactly these; an administrator binds them."
        cause = f"{len(refused)} permissions are missing"
        refuse([Finding("not-allowed", "permissions", cause, tuple(map(str, refused)), fix)])


def _foreseen(client: ClusterClient, identity: ClusterIdentity, installation: Installation) -> ApplyResult:
    """Return what would change, as the server foresees it. Raises ClusterError, at once for missing permissions."""
    _require(client, identity, installation)
    writer = _writer(client, identity.release, silent, dry_run=True)
    write(writer, installation)
    return ApplyResult(tuple(writer.changes))


def carry_out(
    client: ClusterClient, release: Release | None, installation: Installation, tell: Callable[[str], None]
) -> ApplyResult:
    """Write the objects of an installation, each recorded before. Raises ClusterError."""
    writer = _writer(client, release, tell, dry_run=False)
    write(writer, installation)
    return ApplyResult(tuple(writer.changes))


def _writer(client: ClusterClient, release: Release | None, tell: Callable[[str], None], *, dry_run: bool) -> Writer:
    recorder = Recorder(client, record_namespace(client))
    server_side = release is None or release.server_side_apply
    return Writer(client, server_side=server_side, dry_run=dry_run, tell=tell, recorder=recorder)


def watch(
    client: ClusterClient, release: Release | None, installation: Installation, asking: Asking, *, timeout_s: float
) -> Progress:
    """Return when all operators run, or wait for approval. Raises ClusterError with causes after `timeout_s`."""
    progress = Progress(client, installation)
    places, packages = installation.places, installation.packages

    def causes() -> list[Finding]:
        found = diagnose(collect(client, namespace_for(release), (), release))
        return [each for each in found if _concerns(each, places, packages)]

    if progress.checks():
        wait_healthy(
            client,
            (),
            release=None,
            timeout_s=timeout_s,
            display=asking.display,
            diagnose=causes,
            further=progress.checks(),
            clock=asking.clock,
            sleep=asking.sleep,
        )
    return progress


def _concerns(finding: Finding, places: set[str], packages: set[str]) -> bool:
    """Return whether a finding is about a namespace or package of the installation; other operators are not its business."""
    text = f"{finding.text} "
    return any(f" {each}/" in text or f"namespace {each}" in text for each in places) or any(each in text for each in packages)


def _outcomes(progress: Progress) -> tuple[Outcome, ...]:
    commands = {package: approval(*place) for package, place in progress.approvals.items()}
    return tuple((package, check.text, commands.get(package, "")) for package, check in progress.states.items())
