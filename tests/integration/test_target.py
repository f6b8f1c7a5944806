"""The target profile: what the disconnected side says of itself, and what an export makes of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.fakes.cluster import FakeCluster
from tests.fakes.commands import run
from tests.fakes.factories import image, index
from tests.fakes.registry import FakeRegistry
from tests.fakes.servers import docker_registry

pytestmark = pytest.mark.integration
SERVE = {"Entrypoint": ["/bin/opm"], "Cmd": ["serve", "/configs"]}
CSV = b"kind: ClusterServiceVersion\nspec: {}\n"
CONFIGS = "operators.operatorframework.io.index.configs.v1"


def inhabited(cluster: FakeCluster) -> None:
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


@pytest.mark.parametrize(("release", "version"), [("4.3", "4.3.40"), ("4.18", "4.18.40"), (None, None)])
def test_a_site_says_what_it_is(tmp_path, release, version):
    with FakeCluster(release) as cluster, FakeRegistry(sparse=True) as mirror:
        inhabited(cluster)
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


def place(cluster, registry, folder):
    return ["--registry", f"{registry}/ocp", "--insecure", registry, "--kubeconfig", cluster.kubeconfig(folder)]


def test_a_mirror_that_takes_less(tmp_path):
    with FakeCluster("4.18") as cluster, FakeRegistry(sparse=False, referrers=False) as mirror:
        mirror.max_depth, mirror.deletes = 3, False
        done = probe(cluster, mirror.host, tmp_path)
        assert done.status == 0, done.stderr
        said = done.json["registry"]
        assert (said["nestedPaths"], said["sparseIndexes"], said["referrers"]) == (False, False, False)


def test_what_could_not_be_told_is_null_with_a_note(tmp_path):
    with FakeCluster("4.18") as cluster, FakeRegistry(auth="basic") as mirror:
        inhabited(cluster)
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
        inhabited(cluster)
        done = probe(cluster, mirror.host, tmp_path)
        assert done.status == 0, done.stderr
        said = done.json["registry"]
        assert (said["nestedPaths"], said["sparseIndexes"], said["referrers"]) == (True, False, False)
        assert done.json["notes"] == []
        assert list(mirror.root.rglob("link")) == []
        assert "stay in" not in done.stderr


# The other side.

CHANNELS = {
    "stable": [
        {"name": "alpha.v3.0.0", "replaces": "alpha.v2.0.0"},
        {"name": "alpha.v2.0.0", "replaces": "alpha.v1.0.0", "skipRange": ">=1.5.0 <2.0.0"},
        {"name": "alpha.v1.0.0"},
    ],
    "old": [{"name": "alpha.v1.0.0"}],
}


@pytest.fixture(scope="module")
def source():
    """A catalog of alpha (two channels) and beta, for two platforms."""
    with FakeRegistry() as registry:
        blobs = [{"schema": "olm.package", "name": name, "defaultChannel": "stable"} for name in ("alpha", "beta")]
        for channel, entries in CHANNELS.items():
            blobs.append({"schema": "olm.channel", "package": "alpha", "name": channel, "entries": entries})
        blobs.append({"schema": "olm.channel", "package": "beta", "name": "stable", "entries": [{"name": "beta.v1.0.0"}]})
        for name, version in (("alpha", "1.0.0"), ("alpha", "2.0.0"), ("alpha", "3.0.0"), ("beta", "1.0.0")):
            files = {arch: {"manifests/csv.yaml": CSV, "bin": f"{name}{version}{arch}".encode()} for arch in ("amd64", "s390x")}
            platforms = [image((content,), platform=f"linux/{arch}") for arch, content in files.items()]
            parts = index(platforms)
            registry.add_image(f"org/{name}", parts, tag=version)
            blobs.append(
                {
                    "schema": "olm.bundle",
                    "package": name,
                    "name": f"{name}.v{version}",
                    "image": f"{registry.host}/org/{name}@{parts.digest}",
                    "properties": [{"type": "olm.package", "value": {"packageName": name, "version": version}}],
                }
            )
        content = "\n".join(map(json.dumps, blobs)).encode()
        children = [
            image(({"configs/c.json": content},), platform=f"linux/{arch}", labels={CONFIGS: "/configs"}, config=SERVE)
            for arch in ("amd64", "s390x")
        ]
        registry.add_image("org/index", index(children), tag="v1")
        yield registry


def profile(folder: Path, *operators, platforms=("linux/amd64",), sparse=True, release="4.18.7", **more):
    keys = ("package", "channel", "csv", "version", "catalog", "namespace")
    installed = [dict(zip(keys, (*one, "redhat-operators", "site"), strict=True)) for one in operators]
    registry = {"address": "mirror.example/ocp", "nestedPaths": True, "sparseIndexes": sparse, "referrers": True}
    document = {
        "mediaType": "application/vnd.hub-airgap.target.v1+json",
        "openshiftRelease": release,
        "platforms": list(platforms),
        "operators": installed,
        "registry": registry,
        "notes": [],
        **more,
    }
    path = folder / "target.json"
    path.write_text(json.dumps(document))
    return path


def plan(source, target, *chosen):
    catalog = ["--catalog", f"{source.host}/org/index:v1", "--insecure", source.host, "--signatures", "ignore"]
    packages = [part for one in chosen for part in ("--package", one)]
    return run("hub-export", "plan", *catalog, *packages, "--target", target, "--format", "json")


def stranded(done):
    assert done.status == 0, done.stderr
    return [problem["message"] for problem in done.json["problems"] if problem["code"] == "operator-stranded"]


@pytest.mark.parametrize(
    ("installed", "chosen", "said"),
    [
        (("alpha", "stable", "alpha.v2.0.0", "2.0.0"), "alpha", None),  # the head replaces it
        (("alpha", "stable", "alpha.v3.0.0", "3.0.0"), "alpha", None),  # it is the head
        (("alpha", "", "alpha.v2.0.0", "2.0.0"), "alpha", None),  # follows the default channel
        (("alpha", "stable", "alpha.v1.0.0", "1.0.0"), "alpha", "add minVersion 1.0.0"),
        (("alpha", "stable", "alpha.v1.0.0", "1.0.0"), "alpha@1.0.0..", None),
        (("alpha", "stable", "alpha.v1.7.0", "1.7.0"), "alpha@2.0.0..", None),  # by skipRange of 2.0.0
        (("alpha", "stable", "alpha.v1.7.0", "1.7.0"), "alpha", "add minVersion 1.7.0"),
        (("alpha", "old", "alpha.v1.0.0", "1.0.0"), "alpha:stable", "channel old, which it follows, is not carried: add it"),
        (("alpha", "gone", "alpha.v1.0.0", "1.0.0"), "alpha", "the catalog no longer has it"),
        (("alpha", "stable", "alpha.v0.1.0", "0.1.0"), "alpha", "has no update for it"),
        (("alpha", "stable", "alpha.v1.0.0", "1.0.0"), "beta", "its package is not carried: add it"),
        (("gamma", "stable", "gamma.v1.0.0", "1.0.0"), "alpha", None),  # no catalog of this export has it
    ],
)
def test_no_operator_is_left_behind_unsaid(source, tmp_path, installed, chosen, said):
    found = stranded(plan(source, profile(tmp_path, installed), chosen))
    assert len(found) == (said is not None)
    if said:
        assert said in found[0]
        assert "installed in site" in found[0]


def test_the_platforms_of_the_nodes_are_carried_unless_the_mirror_takes_no_sparse_index(source, tmp_path):
    def carried(target):
        done = plan(source, target, "alpha")
        assert done.status == 0, done.stderr
        return {platform for each in done.json["images"] for platform in each["platforms"]}

    assert carried(profile(tmp_path)) == {"linux/amd64"}
    assert carried(profile(tmp_path, sparse=None)) == {"linux/amd64"}
    assert carried(profile(tmp_path, sparse=False)) == {"linux/amd64", "linux/s390x"}


def test_create_goes_by_the_profile_too(source, tmp_path):
    catalog = ["--catalog", f"{source.host}/org/index:v1", "--insecure", source.host, "--signatures", "ignore"]
    target = profile(tmp_path, ("alpha", "stable", "alpha.v1.0.0", "1.0.0"))
    done = run("hub-export", "create", *catalog, "--package", "alpha", "--target", target, "--output", tmp_path / "out")
    assert done.status == 0, done.stderr
    assert "operator-stranded" in done.stdout + done.stderr
    inventory = json.loads((tmp_path / "out" / "inventory.json").read_bytes())
    assert "operator-stranded" in {problem["code"] for problem in inventory["problems"]}
    assert "mirror.example" not in json.dumps(inventory), "what the other side is called stays out of the archive"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "not a target profile"),
        ('{"mediaType": "x"}', "not a target profile"),
        ("[]", "not a target profile"),
        (None, "cannot be read"),
    ],
)
def test_files_that_are_no_profiles(source, tmp_path, content, said):
    path = tmp_path / "bad.json"
    if content is not None:
        path.write_text(content)
    done = plan(source, path, "alpha")
    assert done.status == 2
    assert said in done.stderr
    assert "hub-import probe" in done.stderr


def test_a_later_profile_and_one_of_a_wrong_type(source, tmp_path):
    later = profile(tmp_path, mediaType="application/vnd.hub-airgap.target.v2+json")
    done = plan(source, later, "alpha")
    assert (done.status, "another version" in done.stderr) == (2, True)
    done = plan(source, profile(tmp_path, platforms="amd64"), "alpha")
    assert done.status == 2
    done = plan(source, profile(tmp_path, platforms=["nonsense"]), "alpha")
    assert (done.status, "not a platform" in done.stderr) == (2, True)
    done = plan(source, profile(tmp_path, release="five"), "alpha")
    assert (done.status, "not a release" in done.stderr) == (2, True)
