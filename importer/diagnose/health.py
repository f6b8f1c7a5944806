"""Reads the health of a cluster for `status` and `doctor`, and makes the fixes.

Specification: docs/reference/cluster.md, *status and doctor*.

Neither needs the archive: the last apply wrote the expected catalogs into the cluster's record (ADR 0015).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from importer.cluster.api.account import account_of
from importer.cluster.api.client import ClusterClient, connect
from importer.cluster.api.discovery import ClusterIdentity, identify
from importer.cluster.nodes import configures_nodes, unseen_rules
from importer.cluster.record import Recorder, expected_catalogs, imported_archives, record_namespace, recorded_releases
from importer.cluster.resources.catalog_source import namespace_for
from importer.diagnose import fixes
from importer.diagnose.collect import collect
from importer.diagnose.compared import expected_of, releases_in
from importer.diagnose.fixes import FixInputs
from importer.diagnose.rules import diagnose
from importer.diagnose.state import Health
from importer.diagnose.updates import absent_payload
from importer.operators.present import readable_rows

if TYPE_CHECKING:
    from common.archive.inventory import Inventory
    from importer.push.payloads import AskMirror
    from importer.settings import ClusterSettings


Tell = Callable[[str], None]


def examine(
    cluster: ClusterSettings,
    registry_ca: str | None = None,
    inventory: Inventory | None = None,
    ask_mirror: AskMirror | None = None,
) -> Health:
    """Return the health of a cluster, compared to an inventory where one is given. Changes nothing.

    `ask_mirror`: ask the mirror whether it has the releases that the cluster can go to.

    Raises ClusterError, UsageError.
    """
    with connect(cluster.kubeconfig, cluster.context) as client:
        health = _examine(client, cluster, FixInputs.of(cluster, registry_ca), inventory)
    if ask_mirror is None or not health.snapshot.targets:
        return health
    releases = [each.release for each in health.snapshot.targets]
    faults = ask_mirror(releases)
    found = (absent_payload(each, faults[each.name]) for each in releases if each.name in faults)
    return replace(health, findings=(*health.findings, *found))


def fix(
    cluster: ClusterSettings,
    registry_ca: str | None,
    tell: Tell,
    agree: Callable[[Health], bool],
    met: Callable[[ClusterIdentity, str], None] | None = None,
) -> Health:
    """Return the health of a cluster, after the fixes that `agree` allowed. Raises ClusterError, UsageError.

    `met` gets the cluster and the account there.
    """
    inputs = FixInputs.of(cluster, registry_ca)
    with connect(cluster.kubeconfig, cluster.context) as client:
        health = _examine(client, cluster, inputs)
        if met is not None:
            met(health.cluster, account_of(client))
        # The question names the fixes, and is asked once for all of them.
        if not health.fixable or not agree(health):
            return health
        # So that `undo` also reverts what `doctor` changed.
        recorder = Recorder(client, record_namespace(client))
        done = fixes.fix(recorder, health.snapshot, health.fixable, inputs, tell)
        return replace(health, fixed=tuple(done))


def _examine(client: ClusterClient, cluster: ClusterSettings, inputs: FixInputs, inventory: Inventory | None = None) -> Health:
    identity = identify(client, cluster.release)
    release = identity.release
    known = {each.name: each for each in expected_catalogs(client, record_namespace(client))}
    if inventory is not None:
        known |= {each.name: each for each in expected_of(client, inventory, release)}
    expected = list(known.values())
    releases = {(each.version, each.architecture): each for each in recorded_releases(client, record_namespace(client))}
    if inventory is not None:
        releases |= {(each.version, each.architecture): each for each in releases_in(client, inventory, release)}
    snapshot = collect(client, namespace_for(release), expected, release, releases=list(releases.values()))
    findings = fixes.with_inputs(diagnose(snapshot), inputs)
    # Also where all is well: that OLM lists the operators says nothing about their pulls.
    imported = expected or any(source.is_managed for source in snapshot.sources)
    nodes = [unseen_rules(release)] if not configures_nodes(release) and imported else []
    rows = readable_rows(client, release, expected)
    archives = imported_archives(client, record_namespace(client))
    return Health(snapshot, tuple(expected), (*findings, *nodes), identity, operators=rows, archives=archives)
