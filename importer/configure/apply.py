"""Apply: preflight, show what would change, ask, change, wait until OLM serves the catalogs.

Specification: docs/reference/cluster.md, *apply*.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from common.archive.left_out import left_out_text
from common.errors import ClusterError, ExitCode, of_problems
from common.text import enumeration, shortened
from importer import mapping
from importer.cluster import preflight
from importer.cluster.api.account import account_of
from importer.cluster.api.client import connect
from importer.cluster.api.discovery import identify
from importer.cluster.api.server_warnings import warned
from importer.cluster.finding import Finding
from importer.cluster.kinds import CATALOG_SOURCE
from importer.cluster.nodes import RULES_MISSING, UNSEEN_RULES
from importer.configure.asking import NotAgreedError, refuse, silent, warn
from importer.configure.plan import make_plan
from importer.configure.pulling import announced, prove_plan
from importer.configure.running import Asking
from importer.configure.waiting import look_again, wait
from importer.operators.settling import NOT_WELL

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from common.archive.inventory import Problem
    from common.archive.reader import Archive
    from importer.cluster.api.client import ClusterClient
    from importer.cluster.api.discovery import ClusterIdentity
    from importer.cluster.apply import ApplyResult
    from importer.cluster.readiness.wait import Display
    from importer.cluster.updates.outlook import Update
    from importer.configure.plan import ClusterPlan
    from importer.configure.running import Outcome
    from importer.mapping import MappedImage
    from importer.operators.table import Row
    from importer.pulls.testing import Patience
    from importer.pulls.verdicts import PullTest
    from importer.settings import ClusterSettings, ImportSettings

    Tell = Callable[[str], None]
    Agree = Callable[["Applied"], bool]
    # Given images, returns the names of those that are missing on the mirror.
    FindMissing = Callable[[Sequence[MappedImage]], Sequence[str]]


_SHOWN = 5  # missing images named in one finding
_NAMED = 5  # operators named in the last line


@dataclass(frozen=True, slots=True)
class Applied:
    """The outcome for the cluster's objects: done, or foreseen unless `done`.

    `findings`: of the preflight; `problems`: resources that cannot be made; `cluster`: its identity;
    `drain`: the effect of the changed configuration on nodes, as text; empty where it is not known.
    `operators`: what becomes of each operator of the cluster; `operators_after` None: they were not read again.
    `notes`: the steps left to the administrator; `updates`: the releases that the cluster can go to. `packages`: the operators
    in the catalogs of the archive. `installed`: what became of those that the archive lists for installation.
    `left_out`: the images that it lacks, as text; empty where it lacks none.
    `would_pull`: what a pull test would create, as text; `pulls`: its verdicts.
    """

    result: ApplyResult
    problems: tuple[Problem, ...]
    done: bool
    cluster: ClusterIdentity
    findings: tuple[Finding, ...] = ()
    drain: str = ""
    operators: tuple[Row, ...] = ()
    operators_after: tuple[Row, ...] | None = None
    notes: tuple[str, ...] = ()
    updates: tuple[Update, ...] = ()
    packages: tuple[str, ...] = ()
    installed: tuple[Outcome, ...] = ()
    left_out: str = ""
    would_pull: str = ""
    pulls: PullTest | None = None

    @property
    def well(self) -> bool:
        """Whether every operator that was well before is well again."""
        return not any(finding.code == NOT_WELL for finding in self.findings)

    @property
    def exit_code(self) -> ExitCode:
        """6 when an operator is not well again or nodes cannot pull, 3 when a catalog could not be given to the cluster."""
        return of_problems(self.problems) if self.well and not self.cannot_pull else ExitCode.CLUSTER

    @property
    def cannot_pull(self) -> bool:
        """Whether the pull test has found nodes that cannot pull."""
        return self.pulls is not None and self.pulls.failed

    @property
    def verdict(self) -> str:
        """The last line of an apply that is done."""
        # Nothing is reported as done before PackageManifests exist, pods that run are not enough; MicroShift has none.
        release = self.cluster.release
        lists = release is None or release.lists_packages
        carried = f": {enumeration(self.packages, _NAMED)}" if self.packages else ""
        done = f"OLM lists what the archive carries{carried}." if lists else "OLM has a connection to each catalog."
        if not any(each.kind == CATALOG_SOURCE.name for each in self.result.changes):
            done = "No catalog was given to OLM."
        if self.cannot_pull:
            done += " Some nodes cannot pull its images."
        unseen = [each for each in self.findings if each.code in (UNSEEN_RULES, RULES_MISSING)]
        lacking = [f"Warning: {self.left_out}."] if self.left_out else []
        return " ".join([done, *(_sentence(each) for each in unseen), *lacking])


def _sentence(finding: Finding) -> str:
    return f"{finding.cause[0].upper()}{finding.cause[1:]}: {finding.fix}"


@dataclass(frozen=True, slots=True)
class Interaction:
    """The callbacks of an apply: lines of text, the question before the first change, the changes, and the wait.

    `operators` gets those of the cluster after the wait, however it ends; `pulled` the verdicts of the pull test, which has
    `patience`.
    """

    tell: Tell
    agree: Agree
    display: Display
    changed: Callable[[ApplyResult], None] = lambda _result: None
    operators: Callable[[Sequence[Row]], None] | None = None
    pulled: Callable[[PullTest], None] = lambda _pulls: None
    patience: Patience | None = None


def preview(
    archive: Archive,
    settings: ImportSettings,
    cluster: ClusterSettings,
    interaction: Interaction,
    *,
    seen: Callable[[Applied], None] = lambda _planned: None,
    met: Callable[[ClusterIdentity, str], None] = lambda _cluster, _account: None,
) -> Applied:
    """Run the preflight and ask for agreement, before anything is pushed. Changes nothing.

    `met` gets the cluster and the account there, `seen` the findings before anything is refused.

    Raises ClusterError for errors among them, HubError without agreement, UsageError.
    """
    images = mapping.map_images(archive.inventory, settings.mirror)
    with connect(cluster.kubeconfig, cluster.context) as client:
        identity = identify(client, cluster.release)
        met(identity, "" if cluster.dry_run else account_of(client))
        planned = _preflight(client, make_plan(client, archive, images, settings, cluster, identity=identity), archive, cluster)
    seen(planned)
    # A dry run shows its findings as its result.
    if not cluster.dry_run:
        warn(planned.findings, interaction.tell)
        _require(planned, interaction)
    return planned


def apply(
    archive: Archive,
    settings: ImportSettings,
    cluster: ClusterSettings,
    interaction: Interaction,
    find_missing: FindMissing | None = None,
) -> Applied:
    """Make the cluster use the mirror, and wait until OLM lists the content of the archive.

    The whole preflight runs before the first change; nothing changes unless `interaction.agree` returns True. `find_missing`
    None: the images were just pushed, and `preview` asked. Idempotent. Raises ClusterError, also when the cluster is not
    healthy in time; RegistryError when images are missing on the mirror, UsageError.
    """
    images = mapping.map_images(archive.inventory, settings.mirror)
    with connect(cluster.kubeconfig, cluster.context) as client:
        # Planned again after a push of hours: the cluster may have changed since `preview`.
        plan = make_plan(client, archive, images, settings, cluster)
        planned = _preflight(client, plan, archive, cluster)
        if find_missing is not None:
            # Those that were never pushed are in the problems of the inventory and of the plan.
            pushed = mapping.pushed_images(archive.inventory, images)
            planned = replace(planned, findings=(*planned.findings, *_missing_images(pushed, find_missing)))
        if cluster.dry_run:
            return planned
        if find_missing is not None:
            warn(planned.findings, interaction.tell)
        # After a push, the person agreed to the preview: a question in the middle of a maintenance window might wait all night.
        _require(planned, interaction if find_missing is not None else replace(interaction, agree=lambda _planned: True))
        result = plan.change(dry_run=False, tell=interaction.tell)
        interaction.changed(result)
        # Before the wait: when it ends in an error, `status` and `doctor` need to know the expected state (ADR 0015).
        plan.record()
        try:
            left = wait(client, plan, cluster, interaction)
        except ClusterError:
            look_again(client, plan, interaction)
            raise
        result = _following(plan, result, interaction)
        result, outcomes = _installing(client, plan, cluster, interaction, result)
        after = look_again(client, plan, interaction)
        # Last: what it finds is no reason to wait, and what it creates is gone by then.
        pulls = prove_plan(client, plan, interaction.tell, interaction.patience) if cluster.pull_test else None
        done = replace(planned, done=True, operators_after=after, updates=_updates(plan), installed=outcomes, pulls=pulls)
    if pulls is not None:
        interaction.pulled(pulls)
    return replace(done, result=result, findings=(*planned.findings, *left))


def _following(plan: ClusterPlan, result: ApplyResult, interaction: Interaction) -> ApplyResult:
    """Let the cluster ask its UpdateService, which has an address by now; return all changes."""
    # After the wait: an address that does not answer would replace one that does, or none.
    further = plan.follow(tell=interaction.tell)
    if not further.changes:
        return result
    whole = replace(result, changes=(*result.changes, *further.changes))
    interaction.changed(whole)
    return whole


def _installing(
    client: ClusterClient, plan: ClusterPlan, cluster: ClusterSettings, interaction: Interaction, result: ApplyResult
) -> tuple[ApplyResult, tuple[Outcome, ...]]:
    """Install what the archive lists, from catalogs that are served by now; return all changes, and what became of it."""
    asking = Asking(interaction.tell, lambda _would: True, interaction.display)
    try:
        further, outcomes = plan.installs.carry_out(asking, cluster.timeout_s)
    except ClusterError:
        look_again(client, plan, interaction)
        raise
    if not further.changes:
        return result, outcomes
    whole = replace(result, changes=(*result.changes, *further.changes))
    interaction.changed(whole)
    return whole, outcomes


def _updates(plan: ClusterPlan) -> tuple[Update, ...]:
    # The change is done: a read that fails must not decide the end of the command.
    with suppress(ClusterError):
        return plan.updates()
    return ()


def _preflight(client: ClusterClient, plan: ClusterPlan, archive: Archive, cluster: ClusterSettings) -> Applied:
    """Return what would change, with all findings. Raises ClusterError, at once for missing permissions."""
    findings = list(preflight.permissions(client, plan.intent))
    refuse(findings)  # every further read, the dry run on the server included, would fail with 403
    findings += preflight.circumstances(client, plan.intent)
    findings += [*plan.operators.findings, *plan.releases.findings, *plan.installs.findings]
    would = plan.change(dry_run=True, tell=silent)
    findings += preflight.rollout(client, plan.intent, would.changed)
    findings += warned(would.changes)
    would_pull, untestable = announced(client, plan) if cluster.pull_test else ("", ())
    findings += untestable
    return Applied(
        would,
        plan.built.problems,
        done=False,
        cluster=plan.cluster,
        findings=tuple(findings),
        drain=preflight.drain(plan.intent, would.changed),
        operators=plan.operators.rows,
        notes=plan.built.notes,
        updates=plan.releases.foreseen,
        would_pull=would_pull,
        packages=tuple(sorted({name for each in plan.expected for name in each.packages})),
        left_out=left_out_text(archive.inventory),
    )


def _missing_images(images: Sequence[MappedImage], find_missing: FindMissing) -> list[Finding]:
    """Return an error for images that are missing on the mirror."""
    missing = find_missing(images)
    if not missing:
        return []
    cause = f"the mirror lacks {len(missing)} of {len(images)} images"
    fix = "Push the archive first: hub-import push, or deploy, which does both."
    return [Finding("image-not-in-mirror", "mirror", cause, tuple(shortened(missing, _SHOWN)), fix)]


def _require(planned: Applied, interaction: Interaction) -> None:
    """Raise errors among the findings, and NotAgreedError."""
    refuse(planned.findings)
    # Nothing to change is nothing to ask: a second apply in a script, without --yes, has to end well.
    if planned.result.changed and not interaction.agree(planned):
        raise NotAgreedError
