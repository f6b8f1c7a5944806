"""OpenShift releases from the update service to the mirror, next to operators and alone."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from common.oci.image import hex_of
from tests.fakes import releases
from tests.fakes.commands import run
from tests.fakes.openpgp import Signer, armored, signer
from tests.fakes.registry import FakeRegistry
from tests.fakes.release_hosts import ReleaseHosts, risk
from tests.fakes.releases import Release
from tests.fakes.tls_proxy import TlsProxy

pytestmark = pytest.mark.integration
NAMES = ("cli", "installer", "machine-os-images", "pod")
CHANNEL = "stable-4.12"


@dataclass
class World:
    """Registry, update service and signature store of one publisher, and a directory."""

    registry: FakeRegistry
    hosts: ReleaseHosts
    key: Signer
    folder: Path

    def publish(self, release: Release, *channels: str, signed: bool = True) -> Release:
        release.put(self.registry)
        self.hosts.add(release, *channels, signer=self.key if signed else None)
        return release

    def options(self) -> list[object]:
        conf, key = self.folder / "registries.conf", self.folder / "key.asc"
        conf.write_text(releases.registries_conf(self.registry.host, releases.release(names=NAMES)))
        key.write_bytes(armored(self.key.key()))
        stores = [part for store in self.hosts.stores for part in ("--signature-store", store)]
        return ["--registries-conf", conf, "--release-key", key, *stores]

    def export(self, command, *more, status=0):
        output = ("--output", self.folder / "archive") if command == "create" and "--output" not in more else ()
        done = run("hub-export", command, *self.options(), *more, *output, "--format", "json")
        assert done.status == status, done.stderr
        return done

    def ask(self, command, *more, status=0):
        return self.export(command, "--update-service", self.hosts.update_service, *more, status=status)


@pytest.fixture
def world(tmp_path):
    with FakeRegistry() as registry, ReleaseHosts() as hosts:
        yield World(registry, hosts, signer(), tmp_path)


@pytest.fixture
def two(world):
    """Two releases of one channel; the second has one other component."""
    first = world.publish(releases.release("4.12.0", names=NAMES), CHANNEL)
    then = world.publish(releases.release("4.12.1", names=NAMES, before=first, changed=("cli",)), CHANNEL)
    world.hosts.connect(first, then)
    return first, then


def push(archive, mirror, *more, status=0):
    done = run("hub-import", "push", archive, "--registry", f"{mirror.host}/ocp", "--insecure", mirror.host, *more)
    assert done.status == status, done.stderr
    return done


def inventory(folder):
    return json.loads((folder / "inventory.json").read_text())


def test_a_release_arrives_where_clusters_and_the_update_service_look_for_it(world, two):
    _, then = two
    world.hosts.graph_data = releases.graph_data()
    more = ("--release", f"{CHANNEL}@4.12.0..4.12.1", "--graph", "--graph-data", world.hosts.graph_data_url)
    planned = world.ask("plan", *more).json
    assert planned["totals"]["releases"] == 2
    assert planned["sizes"]["releases"] > 0
    assert [one["signedBy"] for one in planned["releases"]] == [[world.key.fingerprint]] * 2
    world.ask("create", *more)
    carried = inventory(world.folder / "archive")
    assert [(one["version"], one["digest"]) for one in carried["releases"]] == [(one.version, one.digest) for one in two]
    assert {one["name"]: one["source"] for one in carried["releases"][1]["components"]} == {
        name: then.component(name) for name in NAMES
    }
    with FakeRegistry() as mirror:
        # An update service offers a payload that has a tag, also while its components are not there.
        mirror.fault("POST", "/ocp/openshift/release/blobs/uploads/", status=403, times=99)
        push(world.folder / "archive", mirror, status=5)
        payloads = mirror.repositories["ocp/openshift/release-images"].tags
        assert all(tag.endswith(".sig") for tag in payloads)
        mirror.drop_faults()
        push(world.folder / "archive", mirror, "--volumes", "1")
        assert all(tag.endswith(".sig") for tag in payloads)
        push(world.folder / "archive", mirror)
        signatures = {f"sha256-{hex_of(one.digest)}.sig" for one in two}
        assert payloads.keys() == {"4.12.0-x86_64", "4.12.1-x86_64", *signatures}
        assert payloads["4.12.1-x86_64"] == then.digest
        components = mirror.repositories["ocp/openshift/release"].tags
        named = {f"{one.version}-x86_64-{name}": one.components[name].digest for one in two for name in NAMES}
        assert named.items() <= components.items()
        assert all(tag.endswith(".sig") for tag in components.keys() - named.keys())
        graph = mirror.repositories["ocp/openshift/graph-image"].tags
        assert graph["latest"] == carried["updateGraph"]["graphData"]


def test_what_is_not_signed_stops_before_the_payload_is_pulled(world):
    unsigned = world.publish(releases.release("4.12.0", names=NAMES), CHANNEL, signed=False)
    done = world.ask("create", "--release", CHANNEL, status=1)
    assert f"there is no signature of {unsigned.digest}" in done.stderr
    assert "--unverified-release" in done.stderr
    assert not [request for request in world.registry.requests if "ocp-release" in request.path]
    world.ask("create", "--release", CHANNEL, "--unverified-release", "4.12.0")
    (record,) = inventory(world.folder / "archive")["releases"]
    assert record["unverified"] is True
    misspelt = world.ask("plan", "--release", CHANNEL, "--unverified-release", "4.12.9", status=2)
    assert "the image set asks for no such release" in misspelt.stderr


def test_one_release_that_is_not_signed_does_not_stop_the_other(world):
    world.publish(releases.release("4.12.0", names=NAMES), CHANNEL, signed=False)
    world.publish(releases.release("4.12.1", names=NAMES), CHANNEL)
    world.hosts.connect("4.12.0", "4.12.1")
    done = world.ask("create", "--release", f"{CHANNEL}@4.12.0..4.12.1", status=3)
    assert [one["code"] for one in done.json["problems"]] == ["release-unverified"]
    assert [one["version"] for one in inventory(world.folder / "archive")["releases"]] == ["4.12.1"]


def test_a_release_by_its_tag_is_pinned_and_named_by_what_its_payload_says(world):
    made = world.publish(releases.release("4.12.0", "arm64", names=NAMES))
    world.export("create", "--release-image", f"{releases.PAYLOADS}:4.12.0-aarch64")
    (record,) = inventory(world.folder / "archive")["releases"]
    assert (record["version"], record["architecture"], record["digest"]) == ("4.12.0", "arm64", made.digest)
    with FakeRegistry() as mirror:
        push(world.folder / "archive", mirror)
        assert "4.12.0-aarch64" in mirror.repositories["ocp/openshift/release-images"].tags


def test_a_release_of_okd_by_its_image_is_verified_with_the_store_of_ci(world):
    made = releases.release(
        "4.18.0-okd-scos.8", names=NAMES, payloads="quay.io/okd/scos-release", pool="quay.io/okd/scos-content"
    )
    made.put(world.registry)
    world.hosts.add(made, signer=world.key)
    world.export("create", "--release-image", made.source)
    (record,) = inventory(world.folder / "archive")["releases"]
    assert (record["okd"], record["version"], record["signatures"][0]["key"]) == (True, made.version, world.key.fingerprint)


def test_an_update_that_has_risks_is_planned_with_them(world):
    made = [world.publish(releases.release(f"4.12.{number}", names=NAMES), CHANNEL) for number in range(3)]
    world.hosts.connect(made[0], made[1])
    world.hosts.connect(made[1], made[2], risk("SlowDisks", "Writes may be slow."))
    done = world.ask("plan", "--release", f"{CHANNEL}@4.12.0..4.12.2", "--shortest-path")
    (path,) = done.json["updateGraph"]["paths"]
    assert [(step["from"], step["to"]) for step in path["steps"]] == [("4.12.0", "4.12.1"), ("4.12.1", "4.12.2")]
    assert path["steps"][1]["risks"][0]["name"] == "SlowDisks"
    assert [one["code"] for one in done.json["problems"]] == ["update-risk"]


def test_the_next_release_carries_only_what_is_new(world, two):
    """Most components of two neighbouring releases are the same images."""
    world.ask("create", "--release", f"{CHANNEL}@4.12.0")
    one, other = world.folder / "archive", world.folder / "next"
    world.ask("create", "--release", f"{CHANNEL}@4.12.0..4.12.1", "--since", one, "--output", other)
    blobs = inventory(other)["blobs"]
    assert {digest for digest, blob in blobs.items() if "pieces" in blob}.isdisjoint(inventory(one)["blobs"])
    with FakeRegistry() as mirror:
        push(one, mirror)
        push(other, mirror)
        tags = mirror.repositories["ocp/openshift/release"].tags
        assert tags["4.12.1-x86_64-pod"] == tags["4.12.0-x86_64-pod"]
    compared = run("hub-export", "diff", one, other, "--format", "json").json["releases"]
    assert compared["added"] == [
        {
            "version": "4.12.1",
            "architecture": "amd64",
            "components": {"since": "4.12.0", "added": [], "removed": [], "changed": ["cli"]},
        }
    ]


def test_an_image_set_that_asks_for_releases_and_images_is_one_archive(world, two):
    image_set = world.folder / "set.yaml"
    image_set.write_text(
        "apiVersion: mirror.openshift.io/v2alpha1\nkind: ImageSetConfiguration\nmirror:\n"
        f"  platform:\n    channels: [{{name: {CHANNEL}, minVersion: 4.12.1, maxVersion: 4.12.1}}]\n"
        # As operators do: an image of the repository of the components.
        f"  additionalImages:\n  - name: {two[0].component('cli')}\n  blockedImages:\n  - name: {two[1].component('pod')}\n"
    )
    done = world.ask("create", image_set)
    assert [one["code"] for one in done.json["problems"]] == ["image-blocked"]
    (record,) = inventory(world.folder / "archive")["releases"]
    assert [one["name"] for one in record["components"]] == [name for name in NAMES if name != "pod"]
    with FakeRegistry() as mirror:
        push(world.folder / "archive", mirror)
        assert f"hub-{two[0].components['cli'].digest.replace(':', '-')}" in mirror.repositories["ocp/openshift/release"].tags


def test_a_plan_in_a_file_makes_the_same_archive(world, two):
    plan = world.folder / "plan.json"
    world.ask("plan", "--release", f"{CHANNEL}@4.12.0..4.12.1", "--output", plan)
    conf = world.folder / "registries.conf"
    done = run("hub-export", "create", "--plan", plan, "--registries-conf", conf, "--output", world.folder / "archive")
    assert done.status == 0, done.stderr
    assert len(inventory(world.folder / "archive")["releases"]) == 2


def test_every_architecture_and_the_list_of_all_are_releases_of_their_own(world):
    world.publish(releases.release("4.12.0", "arm64", names=NAMES), CHANNEL)
    world.publish(releases.multi("4.12.0", names=("cli",)), CHANNEL)
    world.ask("create", "--release", CHANNEL, "--release-arch", "arm64", "--release-arch", "multi")
    found = inventory(world.folder / "archive")
    assert [(one["version"], one["architecture"]) for one in found["releases"]] == [("4.12.0", "arm64"), ("4.12.0", "multi")]
    with FakeRegistry() as mirror:
        push(world.folder / "archive", mirror)
        tags = mirror.repositories["ocp/openshift/release"].tags
        assert {"4.12.0-aarch64-cli", "4.12.0-multi-cli"} <= tags.keys()


def test_graph_data_alone_needs_an_image_to_put_it_on(world):
    done = run("hub-export", "create", "--graph", "--output", world.folder / "archive")
    assert (done.status, "--graph-base" in done.stderr) == (2, True), done.stderr
    world.hosts.graph_data = releases.graph_data()
    world.publish(releases.release("4.12.0", names=NAMES))
    conf = world.folder / "registries.conf"
    conf.write_text(releases.registries_conf(world.registry.host, releases.release(names=NAMES)))
    base = releases.release(names=NAMES).component("cli")
    more = ("--graph-data", world.hosts.graph_data_url, "--graph-base", base, "--registries-conf", conf)
    done = run("hub-export", "create", "--graph", *more, "--output", world.folder / "archive")
    assert done.status == 0, done.stderr
    carried = inventory(world.folder / "archive")
    assert [one["kind"] for one in carried["images"]] == ["graph-data"]


def test_graph_data_counts_with_the_releases(world, two):
    world.hosts.graph_data = releases.graph_data()
    graph = ("--release", CHANNEL, "--graph", "--graph-data", world.hosts.graph_data_url)
    sizes, without = (world.ask("plan", *more).json["sizes"] for more in (graph, graph[:2]))
    assert sizes["additionalImages"] == 0
    assert sizes["releases"] + sizes["shared"] > without["releases"] + without["shared"]
    assert ["OpenShift/4.12.1-x86_64", "OpenShift/graph data"] in [sorted(one["names"]) for one in sizes["sharedBy"]]


def test_graph_data_without_the_image_to_put_it_on_is_left_out(world, two):
    world.hosts.graph_data = releases.graph_data()
    image_set = world.folder / "set.yaml"
    image_set.write_text(
        "apiVersion: mirror.openshift.io/v2alpha1\nkind: ImageSetConfiguration\nmirror:\n"
        f"  platform: {{channels: [{{name: {CHANNEL}}}], graph: true}}\n"
        f"  blockedImages: [{{name: '{two[1].component('cli')}'}}]\n"
    )
    done = world.ask("plan", image_set, "--graph-data", world.hosts.graph_data_url, status=3)
    (problem,) = (one for one in done.json["problems"] if one["severity"] == "error")
    assert (problem["code"], problem["subject"]) == ("graph-data-missing", "openshift/graph-image")
    assert "no release is carried that has the component cli" in problem["message"]
    assert [one["version"] for one in done.json["releases"]] == ["4.12.1"]


def test_the_published_hosts_are_reached_through_the_proxy_of_the_environment(tmp_path):
    """OCPBUGS-37055: oc-mirror asked for signatures without the proxy."""
    with FakeRegistry() as registry, ReleaseHosts(tls=True) as hosts:
        world = World(registry, hosts, signer(), tmp_path)
        world.publish(releases.release("4.12.0", names=NAMES), CHANNEL)
        hosts.graph_data = releases.graph_data()
        published = ("api.openshift.com", "mirror.openshift.com", "storage.googleapis.com")
        with TlsProxy(None, routes={f"{name}:443": f"127.0.0.1:{hosts.port}" for name in published}) as proxy:
            options = world.options()[:4]  # without the stores of this machine
            output = ("--output", tmp_path / "archive", "--ca", hosts.ca)
            environ = {"HTTPS_PROXY": proxy.url}
            done = run("hub-export", "create", *options, "--release", CHANNEL, "--graph", *output, env=environ)
            assert done.status == 0, done.stderr
            assert {f"{name}:443" for name in published} <= set(proxy.asked)
        assert inventory(tmp_path / "archive")["updateGraph"]["graphData"]


def test_a_release_by_its_digest_has_the_tags_of_its_version_and_its_disk_image(world):
    """OCPBUGS-44033, OCPBUGS-45249: no tag could be made of a digest; OCPBUGS-38396: `release` without kubeVirtContainer."""
    made = world.publish(releases.release("4.15.3", names=NAMES, kubevirt=True, same={"pod": "cli"}))
    image_set = world.folder / "set.yaml"
    image_set.write_text(
        "apiVersion: mirror.openshift.io/v2alpha1\nkind: ImageSetConfiguration\nmirror:\n"
        f"  platform: {{release: '{made.source}', kubeVirtContainer: true}}\n"
    )
    world.export("create", image_set)
    with FakeRegistry() as mirror:
        push(world.folder / "archive", mirror)
        tags = mirror.repositories["ocp/openshift/release"].tags
        # OCPBUGS-44448: one image under several names is carried once, and has each tag.
        assert tags["4.15.3-x86_64-pod"] == tags["4.15.3-x86_64-cli"]
        assert tags["4.15.3-x86_64-kube-virt-container"] == made.kubevirt[0].digest
    images = inventory(world.folder / "archive")["images"]
    assert len([one for one in images if one["kind"] == "component"]) == len(NAMES)


def test_a_release_whose_payload_is_blocked_is_left_out_with_its_components(world, two):
    """Without the payload the components are gigabytes that nothing uses."""
    image_set = world.folder / "set.yaml"
    begin = (
        "apiVersion: mirror.openshift.io/v2alpha1\nkind: ImageSetConfiguration\nmirror:\n"
        f"  platform:\n    channels: [{{name: {CHANNEL}, minVersion: 4.12.0}}]\n  blockedImages:\n  - name: "
    )
    image_set.write_text(begin + two[1].digest)
    done = world.ask("plan", image_set)
    (problem,) = done.json["problems"]
    assert (problem["code"], problem["subject"]) == ("image-blocked", two[1].source)
    assert "and so are the components of release 4.12.1-amd64" in problem["message"]
    assert [one["version"] for one in done.json["releases"]] == ["4.12.0"]
    assert not [one for one in done.json["images"] if two[1].component("cli") == one["source"]]
    image_set.write_text(begin + "ocp-release")
    assert "blockedImages leaves out all that is requested" in world.ask("plan", image_set, status=2).stderr


def test_one_architecture_of_a_version_may_be_carried_unverified(world):
    for architecture in ("amd64", "arm64"):
        world.publish(releases.release("4.12.0", architecture, names=NAMES), CHANNEL, signed=False)
    both = ("--release", CHANNEL, "--release-arch", "amd64", "--release-arch", "arm64")
    for name in ("4.12.0-arm64", "4.12.0-aarch64"):
        done = world.ask("plan", *both, "--unverified-release", name, status=3)
        assert [one["architecture"] for one in done.json["releases"]] == ["arm64"]
        left_out = next(one for one in done.json["problems"] if one["severity"] == "error")
        # Subject once, and how to go on.
        assert left_out["message"].startswith("left out: there is no signature of sha256:")
        assert "--unverified-release sha256:" in left_out["message"]


def test_the_version_of_a_release_by_its_image_is_not_known_before_it_is_verified(world):
    made = world.publish(releases.release("4.12.0", names=NAMES), signed=False)
    named = ("--release-image", f"{releases.PAYLOADS}:{made.tag}", "--unverified-release")
    done = world.export("plan", *named, "4.12.0", status=1)
    assert f"--unverified-release {made.digest} carries it without" in done.stderr
    world.export("plan", *named, made.digest)


def test_what_has_no_effect_on_a_release_is_said(world):
    made = world.publish(releases.release("4.12.0", names=NAMES), CHANNEL)
    image = ("--release-image", f"{releases.PAYLOADS}:{made.tag}")
    for option in (("--release-arch", "arm64"), ("--shortest-path",)):
        assert "no effect with --release-image" in world.export("plan", *image, *option, status=2).stderr
    for option in ("--update-service", "--graph-data", "--graph-base"):
        assert f"{option} is empty" in world.export("plan", "--release", CHANNEL, option, "", status=2).stderr
    done = world.ask("plan", "--release", CHANNEL, "--platform", "linux/arm64")
    assert "--platform has no effect on releases" in done.stderr
    image_set = world.folder / "set.yaml"
    image_set.write_text(
        "apiVersion: mirror.openshift.io/v2alpha1\nkind: ImageSetConfiguration\nmirror:\n"
        f"  platform:\n    release: {image[1]}\n    architectures: [arm64]\n"
    )
    assert ":6: architectures has no effect next to release" in world.export("plan", image_set).stderr


def test_a_platform_that_a_release_lacks_is_left_out_by_the_image_set(world):
    """No option narrows a release: the advice has to be the one that works."""
    made = world.publish(releases.multi("4.15.0", names=("cli",)), CHANNEL)
    lacking = next(
        child for child in json.loads(made.payload.raw)["manifests"] if child["platform"]["architecture"] == "ppc64le"
    )
    world.registry.repositories["openshift-release-dev/ocp-release"].manifests.pop(lacking["digest"])
    refused = world.ask("plan", "--release", CHANNEL, "--release-arch", "multi", status=5).stderr
    entries = ", ".join(f"{{os: linux, architecture: {name}}}" for name in ("amd64", "arm64", "s390x"))
    assert f"platforms: [{entries}] under mirror.platform carries the others" in refused
    assert "--platform" not in refused
    image_set = world.folder / "set.yaml"
    image_set.write_text(
        "apiVersion: mirror.openshift.io/v2alpha1\nkind: ImageSetConfiguration\nmirror:\n"
        f"  platform:\n    channels: [{{name: {CHANNEL}}}]\n    platforms: [{entries}]\n"
    )
    assert world.ask("plan", image_set).json["totals"]["releases"] == 1


def test_the_payload_of_a_release_that_lacks_images_is_not_offered_on_the_mirror(world, two):
    """The OpenShift Update Service offers every payload of its repository (openshift/cincinnati, release-scrape-dockerv2)."""
    _, then = two
    pool = world.registry.repositories["openshift-release-dev/ocp-v4.0-art-dev"]
    own = json.loads(then.components["cli"].raw)["layers"][-1]["digest"]  # the layer that only this image has
    gone = pool.blobs.pop(own)
    asked = ("--release", f"{CHANNEL}@4.12.0..4.12.1")
    world.ask("create", *asked, status=3)
    archive, further = world.folder / "archive", world.folder / "next"
    pool.blobs[own] = gone
    with FakeRegistry() as mirror:
        done = push(archive, mirror, "--format", "json", status=3)
        (problem,) = [one for one in done.json["problems"] if one["code"] == "release-incomplete"]
        assert (problem["severity"], problem["subject"]) == ("error", "OpenShift 4.12.1 (amd64)")
        assert "the archive lacks 1 image of it: its payload is left out" in problem["message"]
        payloads = mirror.repositories["ocp/openshift/release-images"]
        assert {tag for tag in payloads.tags if not tag.endswith(".sig")} == {"4.12.0-x86_64"}
        assert then.digest not in payloads.manifests
        assert "4.12.1-x86_64-pod" in mirror.repositories["ocp/openshift/release"].tags
        # The next archive has what is needed, the payload too, which the first one did not bring.
        world.ask("create", *asked, "--since", archive, "--output", further)
        push(further, mirror)
        assert payloads.tags["4.12.1-x86_64"] == then.digest
