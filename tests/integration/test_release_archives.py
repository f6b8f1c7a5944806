"""Archives with OpenShift releases in every way that archives are made: re-requests, parts, mapping.txt, receipts."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from common.oci.image import hex_of
from tests.fakes import releases
from tests.fakes.commands import run
from tests.fakes.openpgp import armored, signer
from tests.fakes.registry import FakeRegistry
from tests.fakes.release_hosts import ReleaseHosts
from tests.samples import more

pytestmark = pytest.mark.integration
NAMES = ("cli", "pod")
CHANNEL = "stable-4.12"
RANGE = ("--release", f"{CHANNEL}@4.12.0..4.12.1")


@dataclass
class Site:
    """A publisher of two releases, one archive of both with graph data, and the options that made it."""

    registry: FakeRegistry
    hosts: ReleaseHosts
    first: releases.Release
    then: releases.Release
    folder: Path

    @property
    def archive(self) -> Path:
        return self.folder / "archive"

    @property
    def conf(self) -> tuple[object, ...]:
        return ("--registries-conf", self.folder / "registries.conf")

    @property
    def graph(self) -> tuple[object, ...]:
        return ("--graph-data", self.hosts.graph_data_url)

    def export(self, command, *arguments, status=0):
        stores = [part for store in self.hosts.stores for part in ("--signature-store", store)]
        asked = ("--update-service", self.hosts.update_service, "--release-key", self.folder / "key.asc", *stores)
        done = run("hub-export", command, *self.conf, *asked, *arguments, "--format", "json")
        assert done.status == status, done.stderr
        return done

    def create(self, name, *arguments, status=0):
        return self.export("create", *arguments, "--output", self.folder / name, status=status)

    def heal(self, *arguments, status=0):
        place = ("--output", self.folder / "heal", "--format", "json")
        done = run("hub-export", "create", "--only", self.folder / "again.json", *self.conf, *arguments, *place)
        assert done.status == status, done.stderr
        return done

    def damage(self, *digests):
        """Let blobs of the archive go bad, by their content."""
        blobs = inventory(self.archive)["blobs"]
        for digest in digests:
            for piece in blobs[digest]["pieces"]:
                volume = self.archive / f"volume-{piece['volume']:04}.tar.zst"
                raw = bytearray(volume.read_bytes())
                raw[piece["offset"] + 30] ^= 0xFF
                volume.write_bytes(raw)
        done = run("hub-import", "verify", self.archive, "--rerequest", self.folder / "again.json")
        assert done.status == 4, done.stderr
        return json.loads((self.folder / "again.json").read_text())


@pytest.fixture
def site(tmp_path):
    with FakeRegistry() as registry, ReleaseHosts() as hosts:
        first = releases.release("4.12.0", names=NAMES)
        then = releases.release("4.12.1", names=NAMES, before=first, changed=("cli",))
        key = signer()
        for one in (first, then):
            one.put(registry)
            hosts.add(one, CHANNEL, signer=key)
        hosts.connect(first, then)
        hosts.graph_data = releases.graph_data()
        (tmp_path / "registries.conf").write_text(releases.registries_conf(registry.host, first))
        (tmp_path / "key.asc").write_bytes(armored(key.key()))
        made = Site(registry, hosts, first, then, tmp_path)
        made.create("archive", *RANGE, "--graph", *made.graph)
        yield made


def inventory(folder):
    return json.loads((folder / "inventory.json").read_text())


def push(folder, mirror, status=0):
    done = run("hub-import", "push", folder, "--registry", f"{mirror.host}/ocp", "--insecure", mirror.host)
    assert done.status == status, done.stderr + done.stdout


def own_layer(image):
    """The layer that only this component has."""
    return json.loads(image.raw)["layers"][-1]["digest"]


def healed(site, status=4):
    """Return the tags on a mirror that got the damaged archive, then the small one, by repository."""
    with FakeRegistry() as mirror:
        push(site.archive, mirror, status)
        push(site.folder / "heal", mirror)
        images = {name: one for name, one in mirror.repositories.items() if not name.endswith("/hub-airgap-archives")}
        small = {name: set(one.tags) for name, one in images.items() if one.tags}
        push(site.archive, mirror)
        return small


def test_a_damaged_component_heals_where_releases_have_their_place(site):
    """Only the releases of the archive say where their images belong on the mirror."""
    wanted = site.damage(own_layer(site.then.components["cli"]), own_layer(site.first.components["pod"]))
    assert [one["version"] for one in wanted["releases"]] == ["4.12.0", "4.12.1"]
    assert [[each["name"] for each in one["components"]] for one in wanted["releases"]] == [["pod"], ["cli", "pod"]]
    site.heal(*site.graph)
    found = healed(site)
    assert found["ocp/openshift/release"] >= {"4.12.0-x86_64-pod", "4.12.1-x86_64-pod", "4.12.1-x86_64-cli"}
    assert found["ocp/openshift/release-images"] >= {"4.12.0-x86_64", "4.12.1-x86_64"}
    assert found.keys() == {"ocp/openshift/release", "ocp/openshift/release-images", "ocp/openshift/graph-image"}


@pytest.mark.more
def test_a_damaged_signature_heals_beside_its_image(site):
    """It is no image of a release, and its place follows from the repository."""
    digest = site.first.components["pod"].digest
    image = releases.signature(site.first.components["pod"], releases.COMPONENTS)
    wanted = site.damage(json.loads(image.raw)["layers"][0]["digest"])
    assert {one["kind"] for one in wanted["images"]} == {"release", "component", "signature"}
    site.heal()
    assert f"sha256-{hex_of(digest)}.sig" in healed(site, status=3)["ocp/openshift/release"]


def graph_layer(site):
    carried = inventory(site.archive)
    manifest = carried["manifests"][carried["updateGraph"]["graphData"]]
    cli = carried["manifests"][site.then.components["cli"].digest]
    (made,) = [blob for blob in manifest["blobs"] if blob not in cli["blobs"] and carried["blobs"][blob]["size"] > 3000]
    return made


def test_graph_data_are_made_again_from_the_same_data(site):
    wanted = site.damage(graph_layer(site))
    assert {one["kind"] for one in wanted["images"]} == {"release", "component", "graph-data"}
    assert [[each["name"] for each in one["components"]] for one in wanted["releases"]] == [["cli"]]
    site.heal(*site.graph)
    assert healed(site)["ocp/openshift/graph-image"] >= {"latest"}


@pytest.mark.parametrize("number", [1, *more((0,))])
def test_graph_data_that_changed_since_are_a_problem_that_says_what_to_do(site, number):
    site.damage(graph_layer(site), *([own_layer(site.first.components["pod"])] if number else []))
    site.hosts.graph_data = releases.graph_data(
        releases.graph_data_files() | {"blocked-edges/4.18.99-new.yaml": b"to: 4.18.99\n"}
    )
    (problem,) = site.heal(*site.graph, status=3).json["problems"]
    assert (problem["code"], problem["subject"]) == ("blob-unavailable", "openshift/graph-image")
    assert "--graph-data FILE" in problem["message"]


def test_what_has_no_effect_on_a_re_request_is_refused(site):
    site.damage(own_layer(site.first.components["pod"]))
    done = site.heal(*RANGE, status=2)
    assert "--only and options for releases at once" in done.stderr
    done = site.heal(*site.graph, status=2)
    assert "asks for no graph data" in done.stderr


@pytest.mark.more
def test_a_re_request_that_names_images_it_does_not_list_is_refused(site):
    wanted = site.damage(own_layer(site.first.components["pod"]))
    wanted["releases"][0]["source"] = "quay.example/other@sha256:" + "0" * 64
    (site.folder / "again.json").write_text(json.dumps(wanted))
    assert "is not listed" in site.heal(status=2).stderr
    del wanted["releases"]
    wanted["images"] = [{**one, "kind": "graph-data"} for one in (*wanted["images"], *wanted["images"])]
    (site.folder / "again.json").write_text(json.dumps(wanted))
    assert "images of graph data; an archive has one" in site.heal(status=2).stderr


def test_parts_make_the_same_archive(site):
    plan = site.folder / "plan.json"
    site.export("plan", *RANGE, "--graph", *site.graph, "--output", plan)
    for index in ("0", "1"):
        done = run(
            *("hub-export", "create", "--plan", plan, "--shards", "2", *site.conf, "--output", site.folder / "parts"),
            env={"JOB_COMPLETION_INDEX": index},
        )
        assert done.status == 0, done.stderr
    done = run("hub-export", "finish", site.folder / "parts", "--output", site.folder / "joined")
    assert done.status == 0, done.stderr
    same = run("hub-export", "diff", plan, site.folder / "joined", "--format", "json").json
    assert not any(same["releases"].values())
    one, other = inventory(site.archive), inventory(site.folder / "joined")
    assert {name: one[name] for name in ("releases", "updateGraph", "images", "blobs")} == {
        name: other[name] for name in ("releases", "updateGraph", "images", "blobs")
    }


def test_mapping_txt_lists_the_images_that_are_a_choice(site):
    """Releases follow from the image set; an image of their repository is listed with the place that it gets."""
    pod, cli = site.first.component("pod"), site.first.component("cli")
    image_set = site.folder / "set.yaml"
    image_set.write_text(
        "apiVersion: mirror.openshift.io/v2alpha1\nkind: ImageSetConfiguration\nmirror:\n"
        f"  platform: {{channels: [{{name: {CHANNEL}, minVersion: 4.12.1, maxVersion: 4.12.1}}]}}\n"
        f"  additionalImages: [{{name: '{cli}'}}, {{name: '{releases.PAYLOADS}:4.12.0-x86_64'}}]\n"
    )
    site.create("mapping", image_set, "--manifests-only")
    lines = (site.folder / "mapping/mapping.txt").read_text().splitlines()[1:]
    assert lines[0] == f"{releases.PAYLOADS}:4.12.0-x86_64=openshift/release-images:4.12.0-x86_64"
    assert lines[1].startswith(f"{cli}=openshift/release:hub-sha256-")
    assert len(lines) == 2
    (site.folder / "kept.txt").write_text(lines[0] + "\n")
    site.create("chosen", image_set, "--images", site.folder / "kept.txt")
    carried = inventory(site.folder / "chosen")
    sources = {one["source"] for one in carried["images"]}
    assert {site.then.source, site.then.component("cli"), pod} <= sources
    assert cli not in sources
    assert [len(one["components"]) for one in carried["releases"]] == [len(NAMES)]


def test_mapping_txt_of_releases_alone_lists_nothing_and_is_taken_back(site):
    release = ("--release", f"{CHANNEL}@4.12.1")
    site.create("mapping", *release, "--manifests-only")
    site.create("chosen", *release, "--images", site.folder / "mapping/mapping.txt")
    assert [len(one["components"]) for one in inventory(site.folder / "chosen")["releases"]] == [len(NAMES)]


@pytest.mark.more
def test_a_receipt_leaves_out_what_the_mirror_has_of_releases(site):
    newest = releases.release("4.12.2", names=NAMES, before=site.then, changed=("pod",))
    newest.put(site.registry)
    site.hosts.add(newest, CHANNEL, signer=signer())
    with FakeRegistry() as mirror:
        push(site.archive, mirror)
        receipt = site.folder / "receipt.json"
        done = run(
            *("hub-import", "receipt", site.archive, "--registry", f"{mirror.host}/ocp", "--insecure", mirror.host),
            *("--output", receipt),
        )
        assert done.status == 0, done.stderr
        (site.folder / "key.asc").write_bytes(armored(signer().key()))
        site.create("next", "--release", f"{CHANNEL}@4.12.0..4.12.2", "--receipt", receipt)
        carried = inventory(site.folder / "next")
        new = {digest for digest, one in carried["blobs"].items() if "pieces" in one}
        assert own_layer(newest.components["pod"]) in new
        assert not new & inventory(site.archive)["blobs"].keys()
        push(site.folder / "next", mirror)
        assert "4.12.2-x86_64-pod" in mirror.repositories["ocp/openshift/release"].tags


def test_the_plan_has_the_bytes_of_the_archive(site):
    """The estimate before anything is fetched is what is carried."""
    site.registry.requests.clear()
    planned = site.export("plan", *RANGE, "--graph", *site.graph).json
    # Neighbours share most images: each is looked up once, with its signature (tag) and its referrers.
    shared = site.first.components["pod"].digest
    asked = [one.path.partition("/v2/openshift-release-dev/ocp-v4.0-art-dev")[2] for one in site.registry.requests]
    assert asked.count(f"/manifests/{shared}") == asked.count(f"/referrers/{shared}") == 1
    assert asked.count(f"/manifests/sha256-{hex_of(shared)}.sig") == 1
    made = site.create("again", *RANGE, "--graph", *site.graph).json
    assert planned["totals"] == made["totals"]
    carried = inventory(site.archive)["blobs"]
    assert planned["totals"]["bytes"] == sum(one["size"] for one in carried.values())
    assert sum(value for name, value in planned["sizes"].items() if name != "sharedBy") == planned["totals"]["bytes"]


@pytest.mark.more
@pytest.mark.parametrize("architecture", ["arm64", "multi"])
def test_graph_data_for_several_architectures_are_made_again(site, architecture):
    """Their image is an index, on the tools of the newest release of each architecture, or on an index of them."""
    key = signer()
    make = releases.multi if architecture == "multi" else partial(releases.release, architecture=architecture)
    for version in ("4.12.0", "4.12.1"):
        made = make(version, names=NAMES)
        made.put(site.registry)
        site.hosts.add(made, CHANNEL, signer=key)
    (site.folder / "key.asc").write_bytes(armored(key.key()))
    shutil.rmtree(site.archive)
    arguments = ("--release-arch", "amd64", "--release-arch", architecture, "--unverified-release", "4.12.0")
    site.create("archive", *RANGE, *arguments, "--unverified-release", "4.12.1", "--graph", *site.graph)
    carried = inventory(site.archive)
    root = carried["manifests"][carried["updateGraph"]["graphData"]]
    bases = {blob for one in carried["images"] if one["kind"] == "component" for blob in blobs_of(carried, one["digest"])}
    layer = max(blobs_of(carried, root["manifests"][0]) - bases, key=lambda blob: carried["blobs"][blob]["size"])
    site.damage(layer)
    site.heal(*site.graph)
    assert healed(site)["ocp/openshift/graph-image"] >= {"latest"}


def blobs_of(carried, digest):
    found = carried["manifests"][digest]
    return {*found.get("blobs", ())}.union(*(blobs_of(carried, child) for child in found.get("manifests", ())))
