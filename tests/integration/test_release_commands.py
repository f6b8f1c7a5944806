"""Releases by the commands: deploy, status and undo of an archive with a release, its signatures and graph data."""

from __future__ import annotations

import base64
from dataclasses import dataclass

import msgspec
import pytest

from common.archive.inventory import (
    ComponentRecord,
    ImageKind,
    Inventory,
    ReleaseRecord,
    ReleaseSignatureRecord,
    UpdateGraphRecord,
)
from common.oci.image import digest_of
from tests.fakes.archives import Content, noise, write
from tests.fakes.carried_releases import COMPONENTS, PAYLOADS
from tests.fakes.cluster import FakeCluster
from tests.fakes.cluster_releases import NAMESPACE
from tests.fakes.commands import run
from tests.fakes.registry import FakeRegistry

pytestmark = pytest.mark.integration
VERSION, GATE = "4.21.3", "ack-4.20-sigstore-in-4.21"
LAYERS = {name: (noise(name, 2_000),) for name in ("payload", "cli", "graph")}
DIGESTS = {name: digest_of(Content({}).manifest(layers)) for name, layers in LAYERS.items()}
SOURCES = {
    "payload": f"{PAYLOADS}@{DIGESTS['payload']}",
    "cli": f"{COMPONENTS}@{DIGESTS['cli']}",
    "graph": "openshift/graph-image",
}
KINDS = {"payload": ImageKind.RELEASE, "cli": ImageKind.COMPONENT, "graph": ImageKind.GRAPH_DATA}


@dataclass
class Releases(Content):
    """An archive with a release, one component, and graph data."""

    def inventory(self, layout) -> Inventory:
        made = super().inventory(layout)
        kinds = {SOURCES[name]: kind for name, kind in KINDS.items()}
        images = [msgspec.structs.replace(each, kind=kinds[each.source], needed_by=()) for each in made.images]
        signed = ReleaseSignatureRecord(base64.b64encode(b"signed").decode(), "https://store/signature-1", "AB" * 20)
        release = ReleaseRecord(
            VERSION,
            "amd64",
            SOURCES["payload"],
            DIGESTS["payload"],
            channels=("stable-4.21",),
            components=(ComponentRecord("cli", SOURCES["cli"]),),
            signatures=(signed,),
        )
        graph = UpdateGraphRecord((), DIGESTS["graph"])
        return msgspec.structs.replace(made, images=tuple(images), releases=(release,), update_graph=graph)


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    folder = tmp_path_factory.mktemp("archive") / "releases"
    write(folder, Releases({SOURCES[name]: layers for name, layers in LAYERS.items()}))
    return folder


def prepared(cluster):
    metadata = {"name": "admin-gates", "namespace": "openshift-config-managed"}
    cluster.put({"kind": "ConfigMap", "metadata": metadata, "data": {GATE: "Mirrors need signatures."}})
    node = {"nodeInfo": {"operatingSystem": "linux", "architecture": "amd64"}}
    cluster.put({"kind": "Node", "metadata": {"name": "worker-0"}, "status": node})


def test_a_release_is_deployed_its_update_is_possible_and_undo_takes_all_of_it_back(archive, tmp_path):
    page = tmp_path / "deploy.html"
    with FakeCluster("4.20", update_service=True) as cluster, FakeRegistry() as mirror:
        prepared(cluster)
        env = {"KUBECONFIG": str(cluster.kubeconfig(tmp_path))}
        to = ("--registry", f"{mirror.host}/hub", "--insecure", mirror.host)
        done = run(
            "hub-import", "deploy", archive, *to, "--yes", "--update-service", "--report", page, "--format", "json", env=env
        )
        assert done.status == 0, done.stderr
        assert "spec.upstream, the address that the UpdateService will report" in done.stderr
        (update,) = done.json["apply"]["updates"]
        assert update["commands"] == ["oc adm upgrade channel stable-4.21", f"oc adm upgrade --to={VERSION}"]
        assert update["acknowledge"] == [{"name": GATE, "text": "Mirrors need signatures."}]
        address = cluster.get("ClusterVersion", "version")["spec"]["upstream"]
        assert address == f"https://hub-route-{NAMESPACE}.apps.cluster.example/api/upgrades_info/v1/graph"
        text = page.read_text()
        assert "Updates of the cluster" in text
        assert f"oc adm upgrade --to={VERSION}" in text
        # By tag as the documentation has it, and nothing else in the repository, of which an update service reads every tag.
        assert list(mirror.repositories["hub/openshift/release-images"].tags) == [f"{VERSION}-x86_64"]
        asked = run("hub-import", "status", "--ask-mirror", "--insecure", mirror.host, "--format", "json", env=env)
        assert asked.status == 0, asked.stderr
        obstacles = [each["obstacles"] for each in asked.json["updates"]]
        assert obstacles == [["release-image-unsigned", "update-ack-wanted"]]
        again = run("hub-import", "apply", archive, *to, "--yes", "--acknowledge", GATE, env=env)
        assert again.status == 0, again.stderr
        assert f"oc adm upgrade --to={VERSION}" in again.stdout
        back = run("hub-import", "undo", "--yes", env=env)
        assert back.status == 0, back.stdout
        assert not cluster.get("ClusterVersion", "version").get("spec")
        assert cluster.names("UpdateService") == []
        assert cluster.get("ConfigMap", "admin-gates", "openshift-config-managed")["data"] == {GATE: "Mirrors need signatures."}


@pytest.mark.more
def test_a_payload_that_left_the_mirror_is_found_when_it_is_asked(archive, tmp_path):
    with FakeCluster("4.20", update_service=True) as cluster, FakeRegistry() as mirror:
        prepared(cluster)
        env = {"KUBECONFIG": str(cluster.kubeconfig(tmp_path))}
        to = ("--registry", f"{mirror.host}/hub", "--insecure", mirror.host)
        assert run("hub-import", "deploy", archive, *to, "--yes", env=env, cwd=tmp_path).status == 0
        del mirror.repositories["hub/openshift/release-images"].tags[f"{VERSION}-x86_64"]
        asked = run("hub-import", "status", "--ask-mirror", "--insecure", mirror.host, "--format", "json", env=env)
        (found,) = [each for each in asked.json["findings"] if each["code"] == "release-not-in-mirror"]
        assert "update service would not see the release" in found["evidence"][0]


@pytest.mark.more
def test_a_name_that_is_no_gate_is_refused_before_anything_is_pushed(archive, tmp_path):
    with FakeCluster("4.20", update_service=True) as cluster, FakeRegistry() as mirror:
        prepared(cluster)
        env = {"KUBECONFIG": str(cluster.kubeconfig(tmp_path))}
        to = ("--registry", f"{mirror.host}/hub", "--insecure", mirror.host)
        done = run("hub-import", "deploy", archive, *to, "--yes", "--acknowledge", "ack-4.20-x", env=env, cwd=tmp_path)
        assert done.status == 2, done.stderr
        assert GATE in done.stderr
        assert list(mirror.repositories["hub/openshift/release-images"].tags) == []
