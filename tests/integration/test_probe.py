"""`hub-import probe`: the target profile. Unknown values are null with a note, and notes are redacted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from importer.cluster.release import Release
from importer.cluster.resources.build import ResourceOptions
from importer.configure.files.roles import render_rbac
from tests.fakes.cluster import FakeCluster, Fault
from tests.fakes.commands import run
from tests.fakes.registry import FakeRegistry
from tests.fakes.servers import docker_registry
from tests.samples import more

pytestmark = pytest.mark.integration
HTML = {"status": 200, "body": b"<html>", "content_type": "text/html"}


def with_operators(cluster: FakeCluster) -> None:
    """Give a cluster nodes and operators."""
    for name, architecture in (("a", "amd64"), ("b", "arm64"), ("c", "amd64")):
        info = {"nodeInfo": {"architecture": architecture, "operatingSystem": "linux"}}
        cluster.put({"kind": "Node", "metadata": {"name": name}, "status": info})
    install(cluster, "alpha", "alpha.v1.0.0", "1.0.0")
    pending = {"name": "beta", "channel": "stable", "source": "redhat-operators"}
    cluster.put({"kind": "Subscription", "metadata": {"name": "beta", "namespace": "default"}, "spec": pending})


def install(cluster: FakeCluster, package: str, csv: str, version: str, channel: str = "stable") -> None:
    place = {"name": package, "namespace": "default"}
    spec = {"name": package, "channel": channel, "source": "redhat-operators", "sourceNamespace": "openshift-marketplace"}
    cluster.put({"kind": "Subscription", "metadata": place, "spec": spec, "status": {"installedCSV": csv}})
    body = {"kind": "ClusterServiceVersion", "metadata": {"name": csv, "namespace": "default"}, "spec": {"version": version}}
    cluster.put(body)


def probe(cluster: FakeCluster, registry: str, folder: Path, *more):
    place = ["--registry", f"{registry}/ocp", "--insecure", registry, "--kubeconfig", cluster.kubeconfig(folder)]
    return run("hub-import", "probe", *place, "--output", folder / "target.json", "--format", "json", *more)


@pytest.mark.parametrize(
    ("release", "version"),
    [("4.18", "4.18.40"), *(pytest.param(*each, marks=pytest.mark.more) for each in (("4.3", "4.3.40"), (None, None)))],
)
def test_the_profile_of_a_cluster_and_a_mirror(tmp_path, release, version):
    with FakeCluster(release) as cluster, FakeRegistry(sparse=True) as mirror:
        with_operators(cluster)
        done = probe(cluster, mirror.host, tmp_path)
        assert done.status == 0, done.stderr
        assert done.json == json.loads((tmp_path / "target.json").read_text())
        assert done.json == {
            "mediaType": "application/vnd.hub-airgap.target.v1+json",
            "openshiftRelease": version,
            "platforms": ["linux/amd64", "linux/arm64"],
            "operators": [
                {
                    "package": "alpha",
                    "channel": "stable",
                    "csv": "alpha.v1.0.0",
                    "version": "1.0.0",
                    "catalog": "redhat-operators",
                    "namespace": "default",
                }
            ],
            "registry": {"address": f"{mirror.host}/ocp", "nestedPaths": True, "sparseIndexes": True, "referrers": True},
            "notes": [],
        }
        assert [each for each in mirror.repositories.values() if each.manifests or each.blobs] == []
        shown = run("hub-import", "probe", *place(cluster, mirror.host, tmp_path)).stdout
        assert "alpha" in shown
        assert "sparse indexes yes" in shown


def test_deep_paths_are_tried_beside_the_other_repository(tmp_path):
    """Pulp takes no repository below another (pulp_container 2.30: NAME_INVALID, "Repository is read-only")."""
    with FakeCluster("4.18") as cluster, FakeRegistry() as mirror:
        mirror.fault("POST", "/hub-import-probe/a/", times=99, status=400, body=b'{"errors": [{"code": "NAME_INVALID"}]}')
        done = probe(cluster, mirror.host, tmp_path)
        assert done.json["registry"]["nestedPaths"] is True
        opened = {request.path.partition("/blobs/")[0] for request in mirror.log("POST")}
        assert opened == {"/v2/ocp/hub-import-probe", "/v2/ocp/hub-import-probe-nested/a/b/c"}


def place(cluster, registry, folder):
    return ["--registry", f"{registry}/ocp", "--insecure", registry, "--kubeconfig", cluster.kubeconfig(folder)]


def test_a_mirror_with_fewer_abilities(tmp_path):
    with FakeCluster("4.18") as cluster, FakeRegistry(sparse=False, referrers=False) as mirror:
        mirror.max_depth, mirror.deletes = 3, False
        done = probe(cluster, mirror.host, tmp_path)
        assert done.status == 0, done.stderr
        said = done.json["registry"]
        assert (said["nestedPaths"], said["sparseIndexes"], said["referrers"]) == (False, False, False)


def test_an_unknown_value_is_null_with_a_note(tmp_path):
    with FakeCluster("4.18") as cluster, FakeRegistry(auth="basic") as mirror:
        with_operators(cluster)
        cluster.forbidden |= {("list", "nodes"), ("get", "clusterserviceversions")}
        done = probe(cluster, mirror.host, tmp_path)
        assert done.status == 0, done.stderr
        assert done.json["platforms"] is None
        assert done.json["operators"][0]["version"] is None
        assert set(done.json["registry"].values()) == {f"{mirror.host}/ocp", None}
        notes = " ".join(done.json["notes"])
        assert all(word in notes for word in ("nodes", "alpha.v1.0.0", "mirror"))


def test_docker_registry_is_asked_and_left_as_it_was(tmp_path):
    with FakeCluster("4.18") as cluster, docker_registry(tmp_path) as mirror:
        with_operators(cluster)
        done = probe(cluster, mirror.host, tmp_path)
        assert done.status == 0, done.stderr
        said = done.json["registry"]
        assert (said["nestedPaths"], said["sparseIndexes"], said["referrers"]) == (True, False, False)
        assert done.json["notes"] == []
        assert list(mirror.root.rglob("link")) == []
        assert "stay in" not in done.stderr


# Where it may not, or cannot, look.


def answered(done):
    assert done.status == 0, done.stderr
    return done.json


def test_the_mirror_is_probed_where_the_cluster_forbids_everything(tmp_path):
    with FakeCluster("4.18") as cluster, FakeRegistry() as mirror:
        with_operators(cluster)
        cluster.forbidden |= {("get", "clusterversions"), ("list", "nodes"), ("list", "subscriptions")}
        said = answered(probe(cluster, mirror.host, tmp_path))
        assert (said["openshiftRelease"], said["platforms"], said["operators"]) == (None, None, None)
        assert said["notes"] == [
            "release: not allowed to get clusterversions.config.openshift.io (ClusterVersion version)",
            "nodes: not allowed to list nodes (nodes)",
            "installed operators: not allowed to list subscriptions.operators.coreos.com (subscriptions)",
        ]
        assert said["registry"]["nestedPaths"] is True
        shown = run("hub-import", "probe", *place(cluster, mirror.host, tmp_path)).stdout
        assert "release: not known" in shown
        assert "not seen: nodes" in shown


# Without a cluster (ADR 0095).


def alone(mirror, *more):
    return run("hub-import", "probe", "--registry", f"{mirror.host}/ocp", "--insecure", mirror.host, "--no-cluster", *more)


def test_a_mirror_is_probed_before_there_is_a_cluster(tmp_path):
    with FakeRegistry(sparse=True) as mirror:
        done = alone(mirror, "--output", tmp_path / "target.json", "--format", "json")
        assert answered(done) == {
            "mediaType": "application/vnd.hub-airgap.target.v1+json",
            "openshiftRelease": None,
            "platforms": None,
            "operators": None,
            "registry": {"address": f"{mirror.host}/ocp", "nestedPaths": True, "sparseIndexes": True, "referrers": True},
            "notes": [f"{each}: no cluster was asked (--no-cluster)" for each in ("release", "nodes", "installed operators")],
        }
        assert [each for each in mirror.repositories.values() if each.manifests or each.blobs] == []
        shown = alone(mirror).stdout
        assert "release: not known" in shown
        assert "sparse indexes yes" in shown
        # The connected side takes it, and says of what is not in it that nobody asked.
        flags = ("--catalog", f"{mirror.host}/org/index:v1", "--target", tmp_path / "target.json")
        refused = run("hub-export", "plan", *flags, "--installed")
        assert "not in the profile: installed operators: no cluster was asked (--no-cluster)" in refused.stderr


@pytest.mark.parametrize("part", ["/v2/", *more(["/blobs/uploads"])])
def test_a_mirror_of_which_nothing_is_known_is_an_error_without_a_cluster(tmp_path, part):
    """A profile of notes alone would be of no use to anybody."""
    with FakeRegistry() as mirror:
        mirror.fault("*", part, status=403, times=999, body=b'{"errors":[{"code":"DENIED"}]}')
        done = alone(mirror, "--output", tmp_path / "target.json")
        assert (done.status, "HTTP 403 DENIED" in done.stderr) == (5, True), done.stderr
        assert not (tmp_path / "target.json").exists()


def test_no_cluster_is_said_and_never_guessed(tmp_path):
    with FakeRegistry() as mirror:
        where = ("--registry", mirror.host, "--insecure", mirror.host)
        done = run("hub-import", "probe", *where)
        assert (done.status, "With --no-cluster it tries the mirror alone." in done.stderr) == (2, True), done.stderr
        done = alone(mirror, "--kubeconfig", tmp_path / "config")
        assert (done.status, "--no-cluster with a cluster" in done.stderr) == (2, True), done.stderr
        assert not mirror.log()


def test_a_missing_kind_is_not_an_empty_list(tmp_path):
    with FakeCluster(None) as cluster, FakeRegistry() as mirror:
        cluster.kinds = tuple(kind for kind in cluster.kinds if kind.kind != "Subscription")
        said = answered(probe(cluster, mirror.host, tmp_path))
        assert (said["platforms"], said["operators"]) == (None, None)
        assert said["notes"] == [
            "nodes: no node says its architecture",
            "installed operators: the cluster has no subscriptions.operators.coreos.com",
        ]


def test_a_version_is_null_where_its_csv_is_gone(tmp_path):
    with FakeCluster("4.18") as cluster, FakeRegistry() as mirror:
        with_operators(cluster)
        place = {"name": "lost", "namespace": "default"}
        spec = {"name": "lost", "channel": "a", "source": "redhat-operators"}
        cluster.put({"kind": "Subscription", "metadata": place, "spec": spec, "status": {"installedCSV": "lost.v1"}})
        said = answered(probe(cluster, mirror.host, tmp_path))
        assert [(each["csv"], each["version"]) for each in said["operators"]] == [("alpha.v1.0.0", "1.0.0"), ("lost.v1", None)]
        assert said["notes"] == ["version of lost.v1: the cluster has no such ClusterServiceVersion"]


def test_a_cluster_version_that_names_no_release(tmp_path):
    with FakeCluster("4.18") as cluster, FakeRegistry() as mirror:
        with_operators(cluster)
        cluster.put({"kind": "ClusterVersion", "metadata": {"name": "version"}, "status": {"desired": None, "history": []}})
        said = answered(probe(cluster, mirror.host, tmp_path))
        assert (said["openshiftRelease"], said["notes"]) == (None, ["release: ClusterVersion of the cluster names no release"])


def test_notes_name_neither_the_user_nor_the_address_of_the_cluster(tmp_path):
    with FakeCluster("4.18") as cluster, FakeRegistry() as mirror:
        with_operators(cluster)
        cluster.forbidden |= {("get", "clusterserviceversions")}
        cluster.faults.append(Fault("GET", "/nodes", times=9, **HTML))
        text = probe(cluster, mirror.host, tmp_path).stdout
        assert text.count("not allowed to get") == 1
        assert "nodes: the cluster does not answer list nodes as the Kubernetes API does" in text
        assert "tester" not in text, "the API server names the user in its refusal"
        assert cluster.url.partition("//")[2] not in text


def test_credentials_that_the_cluster_refuses_are_an_error(tmp_path):
    with FakeCluster("4.18") as cluster, FakeRegistry() as mirror:
        config = cluster.kubeconfig(tmp_path, token="of-yesterday")
        where = ["--registry", mirror.host, "--insecure", mirror.host, "--kubeconfig", config]
        done = run("hub-import", "probe", *where, "--output", tmp_path / "target.json")
        assert (done.status, "does not accept the credentials" in done.stderr) == (6, True)
        assert not (tmp_path / "target.json").exists()
        assert not mirror.log("POST"), "nothing is tried on the mirror for a profile that there will not be"


def test_abilities_of_a_read_only_mirror_are_unknown(tmp_path):
    with (
        FakeCluster("4.18") as cluster,
        docker_registry(tmp_path, storage="maintenance: {readonly: {enabled: true}}") as mirror,
    ):
        with_operators(cluster)
        said = answered(probe(cluster, mirror.host, tmp_path))
        assert set(said["registry"].values()) == {f"{mirror.host}/ocp", None}
        assert len(said["notes"]) == 1
        assert said["notes"][0].startswith("writing to the mirror: ")
        assert "HTTP 405" in said["notes"][0]


def test_abilities_are_unknown_without_permission_to_push(tmp_path):
    words = b'{"errors":[{"code":"DENIED","message":"user robot$site may only pull"}]}'
    with FakeCluster("4.18") as cluster, FakeRegistry() as mirror:
        with_operators(cluster)
        mirror.fault("POST", "/blobs/uploads", status=403, body=words, times=9)
        said = answered(probe(cluster, mirror.host, tmp_path))
        assert set(said["registry"].values()) == {f"{mirror.host}/ocp", None}
        assert ["HTTP 403 DENIED" in note for note in said["notes"]] == [True]
        assert "robot" not in str(said["notes"]), "whom the registry names stays here"


def test_content_that_cannot_be_deleted_is_logged_and_not_in_the_profile(tmp_path):
    with FakeCluster("4.18") as cluster, docker_registry(tmp_path, storage="delete: {enabled: false}") as mirror:
        with_operators(cluster)
        done = probe(cluster, mirror.host, tmp_path)
        assert answered(done)["notes"] == []
        assert f"stay in {mirror.host}/ocp/hub-import-probe" in done.stderr
        again = probe(cluster, mirror.host, tmp_path)
        assert answered(again)["registry"] == done.json["registry"]


def test_written_content_is_deleted_after_an_error(tmp_path):
    with FakeCluster("4.18") as cluster, FakeRegistry() as mirror:
        with_operators(cluster)
        mirror.fault("*", "/a/b/c/", status=403, times=99)
        said = answered(probe(cluster, mirror.host, tmp_path))
        assert (said["registry"]["nestedPaths"], said["registry"]["sparseIndexes"]) == (None, False)
        assert [note.partition(":")[0] for note in said["notes"]] == ["nested paths"]
        assert [each for each in mirror.repositories.values() if each.manifests or each.blobs] == []


@pytest.mark.parametrize("release", ["4.18", *more(["4.3", None])])
def test_the_role_that_render_writes_is_enough_for_it_and_it_changes_nothing(tmp_path, release):
    written = render_rbac(Release.parse(release) if release else None, (), ResourceOptions())["rbac.yaml"]
    rules = [rule for role in yaml.safe_load_all(written) for rule in role["rules"]]
    allowed = {(name, verb) for rule in rules for name in rule["resources"] for verb in rule["verbs"]}
    with FakeCluster(release) as cluster, FakeRegistry() as mirror:
        with_operators(cluster)
        assert answered(probe(cluster, mirror.host, tmp_path))["notes"] == []
        listed = {"nodes", "subscriptions"}
        asked = {(part, "list") for request in cluster.log for part in request.path.split("/")[-1:] if part in listed}
        asked |= {(request.path.split("/")[-2], "get") for request in cluster.log if request.path.split("/")[-1] not in listed}
        assert asked == {
            ("nodes", "list"),
            ("subscriptions", "list"),
            ("clusterserviceversions", "get"),
            ("clusterversions", "get"),
            *([("configmaps", "get")] if release is None else []),  # that of MicroShift
        }
        assert asked <= allowed
        assert {request.method for request in cluster.log} == {"GET"}
