"""The last lines before a question: which cluster, how many changes, and what its nodes go through."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from importer.cli import cluster_tables
from importer.cli.options import ClusterOptions
from importer.cluster.api.client import connect
from importer.cluster.api.discovery import ClusterIdentity, identify, release_of
from importer.cluster.apply import ApplyResult, apply
from importer.cluster.finding import Finding
from importer.cluster.kinds import IMAGE_CONFIG, SECRET
from importer.cluster.record import Recorder
from importer.cluster.release import Release
from importer.cluster.rollout import REGISTRIES, strongest
from importer.cluster.trust import merge_pull_secret
from importer.cluster.writing import Action, Change
from importer.configure.applied import Applied
from importer.configure.undo import undo
from importer.diagnose.fixes import NEEDS_CREDENTIAL
from importer.diagnose.state import Health
from importer.settings import ClusterSettings
from tests.fakes.cluster import FakeCluster
from tests.fakes.wanted import catalog_source, mirror_rules, operator_hub, trust
from tests.samples import more

REBOOT = "every node is drained and rebooted, one after another"
DRAIN = "every node is drained, one after another"
HERE = ClusterIdentity("https://api.example:6443", "production", "4.18.7")


def silent(_line):
    pass


def question_of_undo(tmp_path, release, resources, credential=False):
    """Apply resources, and return the last line before the question of `undo`, which is answered with no."""
    with FakeCluster(release, tls=False) as cluster:
        kubeconfig = cluster.kubeconfig(tmp_path)
        with connect(kubeconfig, None) as client:
            recorder = Recorder(client, "openshift-config")
            apply(client, resources, release=Release.parse(release), dry_run=False, tell=silent, recorder=recorder)
            if credential:
                merge_pull_secret(client, "mirror.example:5000", "dXNlcjpwYXNz", recorder=recorder)
        lines = []
        undo(ClusterSettings(kubeconfig=Path(kubeconfig), dry_run=True), silent, lambda _would: False)
        seen = undo(ClusterSettings(kubeconfig=Path(kubeconfig)), lines.append, lambda _would: True)
        assert cluster.url in cluster_tables.would_undo(seen)
        return cluster_tables.would_undo(seen)


ICSP = "ImageContentSourcePolicy"


RULES = {"4.3": (ICSP, REBOOT), "4.6": (ICSP, REBOOT), "4.7": (ICSP, f"{DRAIN}; none reboots")}
RULES |= {
    "4.12": RULES["4.7"],
    "4.18": ("ImageTagMirrorSet", DRAIN),
    "4.20": ("ImageDigestMirrorSet", f"{DRAIN}; none reboots"),
}


@pytest.mark.parametrize("release", ["4.6", "4.18", *more(["4.3", "4.7", "4.12", "4.20"])])
def test_undo_says_that_nodes_drain_where_mirror_rules_go(tmp_path, release):
    """machine-config-operator, pkg/daemon/drain.go: a mirror that is removed from registries.conf is not safe without a drain."""
    kind, effect = RULES[release]
    line = question_of_undo(tmp_path, release, [catalog_source(), mirror_rules(kind)])
    assert line.endswith(f"): 2 changes, {effect}.")


@pytest.mark.parametrize("release", ["4.12", *more(["4.3", "4.18"])])
def test_undo_of_what_nodes_do_not_see_drains_none(tmp_path, release):
    """Neighbour: additionalTrustedCA rolls no pool in any release, and CatalogSources are no part of a node."""
    line = question_of_undo(tmp_path, release, [catalog_source(), operator_hub(), *trust()])
    assert line.endswith(", no drain."), line


@pytest.mark.parametrize("release", ["4.6", *more(["4.7"])])
def test_undo_of_a_credential_reboots_old_nodes(tmp_path, release):
    """Neighbour: up to 4.6 a changed pull secret reboots every node."""
    effect = REBOOT if release == "4.6" else "no drain"
    assert question_of_undo(tmp_path, release, [catalog_source()], credential=True).endswith(f", {effect}.")


@pytest.mark.parametrize(
    ("release", "effect"),
    [((4, 6), REBOOT), ((4, 11), REBOOT), ((4, 12), "no drain"), ((4, 18), "no drain")],
)
def test_allowed_registries_are_in_the_policy_of_nodes(release, effect):
    """machine-config-operator, pkg/daemon/update.go: policy.json is reloaded by CRI-O from 4.12 on, and reboots before."""
    assert strongest(Release(*release), {REGISTRIES}) == strongest(Release(*release), {REGISTRIES}, removed=True) == effect


def test_a_reboot_is_stronger_than_any_drain():
    assert strongest(Release(4, 6), {"ImageTagMirrorSet", REGISTRIES, SECRET.name}, removed=True) == REBOOT
    assert strongest(None, {SECRET.name}) == "", "without OpenShift, nothing is known of the nodes"


def test_undo_tells_allowed_registries_from_the_rest_of_the_configuration(tmp_path):
    """Neighbour: additionalTrustedCA is in the same object, and rolls no pool."""
    with FakeCluster("4.10", tls=False) as cluster:
        kubeconfig = Path(cluster.kubeconfig(tmp_path))
        with connect(kubeconfig, None) as client:
            client.merge_patch(IMAGE_CONFIG, "cluster", "", {"spec": {"registrySources": {"allowedRegistries": ["quay.io"]}}})
            recorder = Recorder(client, "openshift-config")
            apply(
                client,
                [catalog_source(), mirror_rules(ICSP)],
                release=Release(4, 10),
                dry_run=False,
                tell=silent,
                recorder=recorder,
                registries=["mirror.example:5000"],
            )
        would = undo(ClusterSettings(kubeconfig=kubeconfig, dry_run=True), silent, lambda _would: False)
        assert would.drain == REBOOT
        (config,) = [one for one in would.objects if one.kind == "Image"]
        assert config.former == ("spec.registrySources.allowedRegistries",)
        assert "spec.registrySources.allowedRegistries" in "\n".join(cluster_tables.undone_rows(would, dry_run=True))


def applied(**more_of_it):
    diff = ("+++", "+  a: b")
    result = ApplyResult((Change(Action.CREATED, "CatalogSource", "one", "openshift-marketplace", diff=diff),))
    return Applied(result, (), done=False, cluster=HERE, drain="no drain", **more_of_it)


LINE = "Cluster https://api.example:6443 (context production, OpenShift 4.18.7): 1 change, no drain."


@pytest.mark.parametrize("diff", [False, True])
def test_with_yes_the_log_has_the_lines_of_the_question(capsys, diff):
    assert ClusterOptions(yes=True, diff=diff).agree(applied())
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1] == LINE
    assert [line.split() for line in lines if "openshift-marketplace/one" in line] == [
        ["would", "create", "CatalogSource", "openshift-marketplace/one"]
    ]
    assert ("+  a: b" in lines) is diff


def test_a_context_cannot_forge_another_line(capsys):
    """A kubeconfig is copied from others; a line break in a name would end the line that names the cluster."""
    forged = ClusterIdentity("https://api.example:6443", "x\nCluster https://other:6443 (context safe)\u202e", "4.18.7")
    would = Applied(ApplyResult(applied().result.changes), (), done=False, cluster=forged)
    assert ClusterOptions(yes=True).agree(would)
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("Cluster https://api.example:6443 (context x\\nCluster https://other")
    assert "\\u202e" in last


@pytest.mark.parametrize(("release", "effect"), [((4, 6), REBOOT), ((4, 7), "no drain")])
def test_doctor_says_what_a_credential_does_to_nodes(release, effect):
    finding = Finding(NEEDS_CREDENTIAL, "CatalogSource one", "no", (), "give one", fixable=True)
    health = Health(SimpleNamespace(release=Release(*release)), (), (finding,), HERE)
    assert cluster_tables.would_fix(health).endswith(f": 1 change, {effect}.")


@pytest.mark.parametrize(
    ("given", "said"), [(None, ")"), (Release(4, 18), ")"), (Release(4, 16), ", treated as 4.16)")]
)  # fmt: skip
def test_a_release_that_is_given_instead_is_named(tmp_path, given, said):
    """`--openshift-release` decides which objects are written, so the line that is agreed to names it."""
    with FakeCluster("4.18", tls=False) as cluster, connect(cluster.kubeconfig(tmp_path), None) as client:
        identity = identify(client, given)
        assert str(identity).endswith(f"OpenShift {identity.version}{said}")
        assert release_of(identity.version) == Release(4, 18)
        assert identity.release == (given or Release(4, 18))
