"""Mirror rules that need several objects: on a cluster as one, from the first import to undo."""

from __future__ import annotations

from pathlib import Path

import pytest

from importer.cluster.api.client import ClusterClient, connect
from importer.cluster.api.discovery import mirror_objects, release_of, running_version
from importer.cluster.apply import ApplyResult, apply
from importer.cluster.kinds import OWN_LABELS, Resource
from importer.cluster.readiness.readiness import pools
from importer.cluster.record import Recorder
from importer.cluster.resources.permissions import needed
from importer.cluster.undo import undo
from tests.fakes.cluster import FakeCluster
from tests.fakes.wanted import mirror_rules
from tests.samples import more

SPACE = "openshift-config"
NAME = "hub-redhat-operators"


def whole_index(kind: str, number: int) -> Resource:
    """Return the rules of a catalog; long names in place of thousands."""
    long = "a-mirror-with-a-long-prefix/" * 18
    made = mirror_rules(kind, NAME, **{f"vendor-{n % 97}/image-{n}": f"{long}vendor-{n % 97}/image-{n}" for n in range(number)})
    return Resource.of({**made.body, "metadata": {"name": NAME, "labels": OWN_LABELS}})


def bring(client: ClusterClient, resource: Resource) -> ApplyResult:
    release = release_of(running_version(client))
    return apply(client, [resource], release=release, dry_run=False, tell=str, recorder=Recorder(client, SPACE))


# No server-side apply (4.3), ImageContentSourcePolicy (4.12), ImageDigestMirrorSet and ImageTagMirrorSet.
KINDS = {
    "4.3": "ImageContentSourcePolicy",
    "4.12": "ImageContentSourcePolicy",
    "4.18": "ImageDigestMirrorSet",
    "4.20": "ImageTagMirrorSet",
}


@pytest.mark.parametrize("release", ["4.18", *more(["4.3", "4.12", "4.20"])])
def test_several_objects_are_applied_extended_and_undone(tmp_path: Path, release):
    kind = KINDS[release]
    with FakeCluster(release) as cluster, connect(cluster.kubeconfig(tmp_path), None) as client:
        found = release_of(running_version(client))
        cluster.mco_reads = cluster.pool_reads = 0
        first = bring(client, whole_index(kind, 450))
        names = [change.name for change in first.changed]
        assert names == [NAME, f"{NAME}-2"]
        allowed = {name for one in needed(found, [whole_index(kind, 450)]) if one.kind.name == kind for name in one.names}
        assert {*names, f"{NAME}-3"} <= allowed
        versions = cluster.versions()
        assert not bring(client, whole_index(kind, 450)).changed
        assert cluster.versions() == versions
        # A repository more in the next week: one object changes.
        (change,) = bring(client, whole_index(kind, 451)).changed
        assert (change.action, change.name) == ("changed", NAME)
        (rules,) = whole_index(kind, 451).body["spec"].values()
        pairs = {(rule["source"], rule["mirrors"][0]) for rule in rules}
        assert [check.ok for check in pools(client, pairs)] == [True, True]
        done = undo(client, SPACE, dry_run=False, tell=str)
        assert {(each.outcome, each.name) for each in done} == {("deleted", name) for name in names}
        assert mirror_objects(client, found) == []
