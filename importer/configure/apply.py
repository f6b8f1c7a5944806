"""Apply: preflight, show what would change, ask, change, wait until OLM serves the catalogs.

Specification: docs/reference/cluster.md, *apply*.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from common.archive.naming import left_out_text
from common.errors import ClusterError
from importer import mapping
from importer.cluster import preflight
from importer.cluster.api.account import account_of
from importer.cluster.api.client import connect
from importer.cluster.api.discovery import identify
from importer.cluster.api.server_warnings import warned
from importer.configure.applied import Applied
from importer.configure.asking import NotAgreedError, refuse, silent, warn
from importer.configure.on_mirror import missing_images
from importer.configure.plan import make_plan
from importer.configure.pulling import announced, prove_plan
from importer.configure.running import Asking
from importer.configure.waiting import look_again, wait

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from common.archive.reader import Archive
    from importer.cluster.api.client import ClusterClient
    from importer.cluster.api.discovery import ClusterIdentity
    from importer.cluster.apply import ApplyResult
    from importer.cluster.readiness.wait import Display
    from importer.cluster.updates.outlook import Update
    from importer.configure.on_mirror import FindMissing
    from importer.configure.plan import ClusterPlan
    from importer.configure.running import Outcome
    from importer.operators.table import Row
    from importer.pulls.testing import Patience
    from importer.pulls.verdicts import PullTest
    from importer.settings import ClusterSettings, ImportSettings

    Tell = Callable[[str], None]
    Agree = Callable[["Applied"], bool]


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
            lacking = missing_images(archive, images, find_missing)
            planned = replace(planned, findings=(*planned.findings, *lacking))
        if cluster.dry_run:
            return planned
        if find_missing is not None:
            warn(planned.findings, interaction.tell)
        # After a push, the person agreed to the preview: a question in the middle of a maintenance window might wait all night.
        _require(planned, interaction if find_missing is not None else replace(interaction, agree=lambda _planned: True))
        done = _change(client, plan, planned, cluster, interaction)
    if done.pulls is not None:
        interaction.pulled(done.pulls)
    return done


def _change(
    client: ClusterClient, plan: ClusterPlan, planned: Applied, cluster: ClusterSettings, interaction: Interaction
) -> Applied:
    """Change the cluster, wait, install, and let nodes pull. Raises ClusterError."""
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
    return replace(
        planned,
        result=result,
        done=True,
        findings=(*planned.findings, *left),
        operators_after=after,
        updates=_updates(plan),
        installed=outcomes,
        pulls=pulls,
    )


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
    node_size, near = plan.node_size()
    findings += near
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
        node_size=node_size,
    )


def _require(planned: Applied, interaction: Interaction) -> None:
    """Raise errors among the findings, and NotAgreedError."""
    refuse(planned.findings)
    # Nothing to change is nothing to ask: a second apply in a script, without --yes, has to end well.
    if planned.result.changed and not interaction.agree(planned):
        raise NotAgreedError
