"""OperatorHub's `sources` win over its flag: those that enable a default are switched off too, and back on by `undo`."""

from __future__ import annotations

import pytest

from importer.cluster import record
from importer.cluster.api.client import connect
from importer.cluster.apply import apply
from importer.cluster.record import Recorder
from importer.cluster.release import Release
from importer.cluster.undo import Outcome, undo
from importer.diagnose import health
from importer.settings import ClusterSettings
from tests.fakes.cluster import FakeCluster
from tests.fakes.wanted import operator_hub

SPACE = "openshift-config"
MIXED = [
    {"name": "community-operators", "disabled": False},
    {"name": "redhat-operators", "disabled": True},
    {"name": "certified-operators"},
]


def hub(cluster, **spec):
    cluster.put({"kind": "OperatorHub", "metadata": {"name": "cluster"}, "spec": spec})
    cluster.simulator.wrote("OperatorHub")


def bring(client):
    recorder = Recorder(client, SPACE)
    return apply(client, [operator_hub()], release=Release(4, 14), dry_run=False, tell=str, recorder=recorder)


@pytest.mark.parametrize("sources", [MIXED, MIXED[:1], MIXED[1:2], []], ids=["mixed", "enabled", "disabled", "none"])
def test_no_default_is_left_and_undo_restores_them(tmp_path, sources):
    with FakeCluster("4.14", tls=False) as cluster, connect(cluster.kubeconfig(tmp_path), None) as client:
        hub(cluster, sources=sources)
        before = cluster.get("OperatorHub", "cluster")["spec"], cluster.names("CatalogSource")
        bring(client)
        assert cluster.names("CatalogSource") == []
        assert all(each["disabled"] for each in cluster.get("OperatorHub", "cluster")["spec"]["sources"])
        assert bring(client).changed == ()
        assert [one.outcome for one in undo(client, SPACE, dry_run=False, tell=str)] == [Outcome.RESTORED]
        assert (cluster.get("OperatorHub", "cluster")["spec"], cluster.names("CatalogSource")) == before
        assert record.load(client, SPACE) == []


def test_a_source_that_others_add_meanwhile_is_kept(tmp_path):
    with FakeCluster("4.14", tls=False) as cluster, connect(cluster.kubeconfig(tmp_path), None) as client:
        hub(cluster, sources=MIXED[:1])
        bring(client)
        added = [{"name": "community-operators", "disabled": True}, {"name": "redhat-operators", "disabled": True}]
        hub(cluster, sources=added)
        (done,) = undo(client, SPACE, dry_run=False, tell=str)
        assert (done.outcome, done.fields) == (Outcome.REFUSED, ("spec.sources",))
        assert cluster.get("OperatorHub", "cluster")["spec"]["sources"] == added


def test_doctor_disables_the_defaults_permanently(tmp_path):
    with FakeCluster("4.14", tls=False) as cluster:
        settings = ClusterSettings(kubeconfig=cluster.kubeconfig(tmp_path))
        hub(cluster, sources=MIXED, disableAllDefaultSources=True)
        assert [one.code for one in health.examine(settings).findings] == ["default-sources-enabled"]
        health.fix(settings, None, str, lambda _fixable: True)
        assert health.examine(settings).findings == ()
        with connect(settings.kubeconfig, None) as client:
            undo(client, SPACE, dry_run=False, tell=str)
        assert cluster.get("OperatorHub", "cluster")["spec"]["sources"] == MIXED
