"""Paused pools, as during a Control Plane Only update: fine while their nodes have the rules, and never unpaused unawares."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

from common.errors import ClusterError
from importer.cluster import preflight
from importer.cluster.api.client import connect
from importer.cluster.apply import apply
from importer.cluster.preflight import Intent
from importer.cluster.readiness.readiness import ExpectedCatalog, offers
from importer.cluster.readiness.wait import Lines, wait_healthy
from importer.cluster.record import Recorder, record_namespace
from importer.cluster.release import Release
from importer.diagnose import health
from importer.settings import ClusterSettings
from tests.fakes.cluster import FakeCluster
from tests.fakes.cluster_simulator import MARKETPLACE
from tests.fakes.wanted import DIGEST, IMAGE, catalog_source, mirror_rules, operator_hub, package

NAME = "hub-redhat-operators"
RELEASE = Release(4, 16)
PACKAGES = (package("alpha"),)
RULES = tuple((f"registry.redhat.io/{name}", f"mirror.example:5000/{name}") for name in ("ubi", "web"))
COMMAND = "oc patch machineconfigpool worker"


class Update:
    """A cluster of 4.16 whose workers are paused while the control plane is updated; rules were in force before."""

    def __init__(self, cluster: FakeCluster, folder: Path, *, current_has_rules: bool = True) -> None:
        self.cluster = cluster
        cluster.catalog_contents[DIGEST] = PACKAGES
        cluster.ready_reads = cluster.mco_reads = cluster.pool_reads = 0
        self.kubeconfig = cluster.kubeconfig(folder)
        self.settings = ClusterSettings(kubeconfig=self.kubeconfig)
        self.expected = ExpectedCatalog(NAME, MARKETPLACE, IMAGE, offers(PACKAGES), RULES)
        if not current_has_rules:
            self.pause()
        with connect(self.kubeconfig, None) as client:
            recorder = Recorder(client, record_namespace(client))
            wanted = [operator_hub(), mirror_rules(), catalog_source()]
            apply(client, wanted, release=RELEASE, dry_run=False, tell=str, recorder=recorder)
            recorder.expect([self.expected])
        for _ in range(3):
            health.examine(self.settings)
        self.pause()
        self.render_next()

    def pause(self) -> None:
        self.cluster.put({"kind": "MachineConfigPool", "metadata": {"name": "worker"}, "spec": {"paused": True}})
        self.cluster.simulator.machines.show()

    def render_next(self) -> None:
        """Render the configuration of the next release, as the machine config operator does for paused pools too."""
        now = self.cluster.get("MachineConfigPool", "worker")["spec"]["configuration"]["name"]
        spec = copy.deepcopy(self.cluster.get("MachineConfig", now)["spec"])
        spec["osImageURL"] = "quay.io/openshift-release-dev/ocp-v4.0-art-dev@sha256:" + "cd" * 32
        spec["config"]["storage"]["files"].append({"path": "/etc/kubernetes/kubelet.conf", "contents": {"source": "data:,x"}})
        self.cluster.put({"kind": "MachineConfig", "metadata": {"name": "rendered-worker-9"}, "spec": spec})
        named = {"configuration": {"name": "rendered-worker-9"}}
        self.cluster.put({"kind": "MachineConfigPool", "metadata": {"name": "worker"}, "spec": named})
        self.cluster.simulator.machines.show()

    def wait(self, lines):
        with connect(self.kubeconfig, None) as client:
            wait_healthy(
                client, [self.expected], release=RELEASE, timeout_s=60, display=Lines(lines.append), sleep=lambda _s: None
            )


@pytest.fixture
def cluster():
    with FakeCluster("4.16", tls=False) as running:
        yield running


def test_a_paused_pool_whose_nodes_have_the_rules_is_a_warning(cluster, tmp_path):
    here = Update(cluster, tmp_path)
    lines = []
    here.wait(lines)
    assert any("MachineConfigPool worker: 1 of 3 nodes updated, paused; no mirror rule is missing" in each for each in lines)
    found = health.examine(here.settings)
    assert (found.healthy, found.rolling) == (True, [])
    (note,) = found.findings
    assert (note.code, note.severity) == ("pool-paused", "warning")
    assert any("another operating system image (its nodes reboot)" in line for line in note.evidence)
    assert "oc " not in note.fix


def test_a_paused_pool_whose_nodes_lack_rules_is_an_error_that_says_what_unpausing_does(cluster, tmp_path):
    here = Update(cluster, tmp_path, current_has_rules=False)
    with pytest.raises(ClusterError) as raised:
        here.wait([])
    found = health.examine(here.settings)
    assert not found.healthy
    (finding,) = found.findings
    assert (finding.code, finding.severity) == ("pool-paused", "error")
    for text in (raised.value.hint, finding.fix):
        before, command, _ = text.partition(COMMAND)
        assert command
        assert "rendered-worker-1 → rendered-worker-9: another operating system image (its nodes reboot)" in before
        assert "/etc/containers/registries.conf" in before


@pytest.mark.parametrize(
    ("changed", "severity", "said"), [(mirror_rules(new="new"), "error", "mirror rules"), (None, "warning", "pull secret")]
)
def test_preflight_says_what_unpausing_rolls_out(cluster, tmp_path, changed, severity, said):
    here = Update(cluster, tmp_path)
    with connect(here.kubeconfig, None) as client:
        intent = Intent([changed] if changed else [], RELEASE, "mirror.example:5000")
        if changed:
            changes = apply(client, [changed], release=RELEASE, dry_run=True, tell=str).changed
        else:
            from importer.cluster.trust import merge_pull_secret

            changes = [merge_pull_secret(client, "mirror.example:5000", "eDp5", dry_run=True)]
        (finding,) = [each for each in preflight.rollout(client, intent, changes) if each.code == "pool-paused"]
    assert (finding.severity, said in finding.cause) == (severity, True)
    assert "rendered-worker-9: another operating system image" in finding.fix.partition(COMMAND)[0]


def test_the_held_back_configuration_may_be_unreadable(cluster, tmp_path):
    here = Update(cluster, tmp_path, current_has_rules=False)
    key = here.cluster._key(here.cluster.get("MachineConfig", "rendered-worker-1"))
    here.cluster.store.delete(key)
    found = health.examine(here.settings)
    assert any("what differs cannot be read" in line for line in found.findings[0].evidence)
