"""The pull test of `deploy`, `apply` and `status`: which images, what is said beforehand, and the test.

Specification: docs/reference/cluster.md, *The pull test*.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from common.text import counted
from importer.cluster.api.client import connect
from importer.cluster.record import pull_images, record_namespace
from importer.diagnose.collect import collect
from importer.pulls.images import smallest
from importer.pulls.objects import NAME
from importer.pulls.testing import foresee, run

if TYPE_CHECKING:
    from collections.abc import Callable

    from common.archive.inventory import Inventory
    from importer.cluster.api.client import ClusterClient
    from importer.cluster.finding import Finding
    from importer.configure.plan import ClusterPlan
    from importer.diagnose.state import Health
    from importer.pulls.testing import Patience
    from importer.pulls.verdicts import PullTest
    from importer.settings import ClusterSettings


def announced(client: ClusterClient, plan: ClusterPlan) -> tuple[str, tuple[Finding, ...]]:
    """Return what a test would create, as text; empty, and a warning, where none can be made. Changes nothing."""
    groups, refused = foresee(client, plan.intent.release, plan.pulls)
    if refused is not None or not groups:
        return "", (refused,) if refused else ()
    names = ", ".join(each.name for each in groups)
    return f"pull test: {counted(len(groups), 'pod')} in namespace {NAME} ({names}), deleted afterwards", ()


def prove_plan(client: ClusterClient, plan: ClusterPlan, tell: Callable[[str], None], patience: Patience | None) -> PullTest:
    """Let the nodes pull images of the archive that was imported."""
    release = plan.intent.release
    tell("pull test: a pod for each pool and architecture pulls an image by its source name")
    return run(
        client,
        release,
        plan.pulls,
        lambda: collect(client, plan.namespace, plan.expected, release, workloads=False),
        patience=patience,
    )


def prove(
    cluster: ClusterSettings, health: Health, inventory: Inventory | None = None, patience: Patience | None = None
) -> PullTest:
    """Let the nodes pull images of the inventory; without one, those that the record of imports has. Raises ClusterError."""
    with connect(cluster.kubeconfig, cluster.context) as client:
        images = smallest(inventory) if inventory is not None else pull_images(client, record_namespace(client))
        return run(client, health.snapshot.release, images, lambda: health.snapshot, patience=patience)
