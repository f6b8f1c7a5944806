"""The end of an apply: wait until OLM serves the catalogs and the operators are well again, then read these once more."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from common.errors import ClusterError
from importer.cluster.kinds import UPDATE_SERVICE
from importer.cluster.readiness.update_service import update_service
from importer.cluster.readiness.wait import wait_healthy
from importer.cluster.resources.openshift_release import UpdatePlace
from importer.diagnose.collect import collect
from importer.diagnose.rules import diagnose
from importer.operators.reading import read_operators
from importer.operators.settling import settle

if TYPE_CHECKING:
    from importer.cluster.api.client import ClusterClient
    from importer.cluster.finding import Finding
    from importer.cluster.readiness.wait import Checks
    from importer.configure.apply import Interaction
    from importer.configure.plan import ClusterPlan
    from importer.operators.table import Row
    from importer.settings import ClusterSettings


def wait(client: ClusterClient, plan: ClusterPlan, cluster: ClusterSettings, interaction: Interaction) -> list[Finding]:
    """Return when the catalogs are served and the operators are well again; a finding for each that is not well in time.

    Raises ClusterError for catalogs and nodes that are not ready in time.
    """
    release = plan.intent.release
    wait_healthy(
        client,
        plan.expected,
        release=release,
        timeout_s=cluster.timeout_s,
        display=interaction.display,
        diagnose=lambda: diagnose(collect(client, plan.namespace, plan.expected, release, workloads=False)),
        rules=plan.built.rules,
        further=_further(client, plan),
    )
    look = partial(read_operators, client, release)
    left = settle(plan.operators.rows, look, interaction.tell, timeout_s=cluster.timeout_s)
    return [each.finding for each in left]


def _further(client: ClusterClient, plan: ClusterPlan) -> dict[str, Checks]:
    """Return the checks of the update service, where the import writes one."""
    wanted = next((each for each in plan.built.resources if each.kind == UPDATE_SERVICE.name), None)
    if wanted is None:
        return {}
    place, image = UpdatePlace(wanted.namespace, wanted.name), str(wanted.body["spec"]["graphDataImage"])
    return {f"UpdateService {wanted.namespace}/{wanted.name}": partial(update_service, client, place, image)}


def look_again(client: ClusterClient, plan: ClusterPlan, interaction: Interaction) -> tuple[Row, ...] | None:
    """Read the operators once more, after the change; return None where they may not be read."""
    # The change is done, or has failed by then: a read that fails must not decide the end of the command.
    with suppress(ClusterError):
        rows = plan.operators_now(read_operators(client, plan.intent.release)).rows
        if interaction.operators is not None:
            interaction.operators(rows)
        return rows
    return None
