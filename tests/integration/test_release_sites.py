"""A site with one archive for the releases of OpenShift and for operators: from the image set to the cluster, and back."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest
import yaml

from common.oci.image import hex_of
from tests.fakes import graph_builder, releases
from tests.fakes.cluster import FakeCluster
from tests.fakes.commands import run
from tests.fakes.openpgp import armored, signer
from tests.fakes.registry import FakeRegistry
from tests.fakes.release_hosts import ReleaseHosts
from tests.fakes.servers import docker_registry, require
from tests.fakes.sites import Site, add_catalog
from tests.samples import more

pytestmark = pytest.mark.integration
SMALL = ("cli", "installer", "machine-os-images", "pod")
MANAGED = "openshift-config-managed"
FIELDS = {"ImageDigestMirrorSet": "imageDigestMirrors", "ImageContentSourcePolicy": "repositoryDigestMirrors"}


class Publisher:
    """Releases of one minor version for two architectures and a catalog of two operators, published on loopback hosts."""

    def __init__(self, minor: str, names: tuple[str, ...], folder: Path) -> None:
        self.minor, self.folder, self.key = minor, folder, signer()
        self.registry, self.hosts = FakeRegistry(), ReleaseHosts()
        self.made = [
            releases.release(f"{minor}.40", names=names),
            releases.release(f"{minor}.40", "arm64", names=names),
        ]
        self.next = releases.release(f"{minor}.41", names=names, before=self.made[0], changed=("cli",))

    def __enter__(self) -> Self:
        self.registry.__enter__()
        self.hosts.__enter__()
        add_catalog(self.registry)
        for release in (*self.made, self.next):
            release.put(self.registry)
            self.hosts.add(release, f"stable-{self.minor}", signer=self.key)
        self.hosts.connect(self.made[0], self.next)
        self.hosts.graph_data = releases.graph_data()
        (self.folder / "registries.conf").write_text(releases.registries_conf(self.registry.host, *self.made))
        (self.folder / "key.asc").write_bytes(armored(self.key.key()))
        return self

    def __exit__(self, *_: object) -> None:
        self.hosts.__exit__(None, None, None)
        self.registry.__exit__(None, None, None)

    def image_set(self, version: str, architectures: list[str]) -> Path:
        channel = {"name": f"stable-{self.minor}", "minVersion": version, "maxVersion": version}
        packages = [{"name": "alpha"}, {"name": "beta"}]
        mirror = {
            "platform": {"channels": [channel], "architectures": architectures, "graph": True},
            "operators": [
                {"catalog": f"{self.registry.host}/example/index:v1", "packages": packages, "skipDependencies": True}
            ],
        }
        path = self.folder / f"{version}.yaml"
        kind = {"apiVersion": "mirror.openshift.io/v2alpha1", "kind": "ImageSetConfiguration"}
        path.write_text(yaml.safe_dump({**kind, "mirror": mirror}))
        return path

    def export(self, command: str, image_set: Path, *extra: str | Path) -> dict:
        stores = [part for store in self.hosts.stores for part in ("--signature-store", store)]
        done = run(
            *("hub-export", command, image_set, "--registries-conf", self.folder / "registries.conf"),
            *("--insecure", self.registry.host, "--release-key", self.folder / "key.asc", *stores),
            *("--update-service", self.hosts.update_service, "--graph-data", self.hosts.graph_data_url),
            *("--format", "json", *extra),
        )
        assert done.status == 0, done.stderr
        return done.json


def rules(cluster: FakeCluster) -> Iterator[tuple[str, str]]:
    """Yield source and mirror of every rule by digest of the cluster."""
    for kind, field in FIELDS.items():
        for name in cluster.names(kind):
            for rule in cluster.get(kind, name)["spec"][field]:
                yield from ((rule["source"], mirror) for mirror in rule["mirrors"])


def registries_conf(cluster: FakeCluster) -> str:
    """Return what the machine config operator makes of the rules (openshift/runtime-utils, pkg/registries)."""
    lines = ""
    for source, mirror in rules(cluster):
        lines += f'[[registry]]\nprefix = "{source}"\nlocation = "{source}"\nmirror-by-digest-only = true\n'
        lines += f'[[registry.mirror]]\nlocation = "{mirror}"\ninsecure = true\n'
    return lines


def copied(reference: str, conf: Path, target: Path) -> str:
    """Return the digest of an image that skopeo copies by its source name."""
    command = [require("skopeo"), "--insecure-policy", "--registries-conf", conf, "copy", "--all", f"docker://{reference}"]
    subprocess.run([*command, f"dir:{target}"], check=True, capture_output=True, timeout=60)
    shown = subprocess.run([require("skopeo"), "manifest-digest", target / "manifest.json"], check=True, capture_output=True)
    return shown.stdout.decode().strip()


def signature_maps(cluster: FakeCluster) -> dict[str, dict[str, str]]:
    """Return the ConfigMaps in which the cluster looks for signatures, with their binaryData."""
    found = {}
    for key in cluster.store.all_keys():
        body = cluster.store.get(key)
        if "release.openshift.io/verification-signatures" in (body["metadata"].get("labels") or {}):
            assert key.namespace == MANAGED
            found[key.name] = body["binaryData"]
    return found


# With `/whole` all 183 components of the real list, else four of them.
@pytest.mark.timeout(900)
@pytest.mark.parametrize("site", ["4.18", *more(["4.14", "4.20", "4.18/whole", "4.21/whole"])])
def test_one_archive_for_the_whole_site(site, tmp_path):
    minor, _, whole = site.partition("/")
    names = releases.all_names() if whole else SMALL
    with Publisher(minor, names, tmp_path) as publisher, docker_registry(tmp_path, name="mirror") as mirror:
        first, arm = publisher.made
        image_set = publisher.image_set(first.version, ["amd64", "arm64"])
        planned = publisher.export("plan", image_set)
        archive = tmp_path / "archive"
        made = publisher.export("create", image_set, "--output", archive)
        assert made["totals"] == planned["totals"]
        with FakeCluster(minor, patch=39, update_service=True) as cluster:
            here = Site(cluster, mirror, archive, tmp_path)
            before = here.state()
            done = here.run("deploy", *here.trust)
            assert done.status == 0, done.stderr
            assert done.json["apply"]["healthy"] is True

            # Every image of both releases is pulled by its source name, through the rules of the cluster.
            conf = tmp_path / "nodes.conf"
            conf.write_text(registries_conf(cluster))
            for number, release in enumerate((first, arm)):
                assert copied(release.source, conf, tmp_path / f"payload-{number}") == release.digest
                for name in SMALL:
                    place = tmp_path / f"{name}-{number}"
                    assert copied(release.component(name), conf, place) == release.components[name].digest

            found = graph_builder.releases_of(f"http://{mirror.host}", "ocp/openshift/release-images")
            assert {(one.version, one.architecture, one.digest) for one in found} == {
                (one.version, one.architecture, one.digest) for one in (first, arm)
            }
            service = cluster.get("UpdateService", *cluster.names("UpdateService"), "openshift-update-service")["spec"]
            assert service["releases"] == f"{mirror.host}/ocp/openshift/release-images"
            graph = json.loads((archive / "inventory.json").read_text())["updateGraph"]["graphData"]
            assert service["graphDataImage"].endswith(f"@{graph}")

            kept = signature_maps(cluster)
            assert {key.rpartition("-")[0] for data in kept.values() for key in data} == {
                f"sha256-{hex_of(one.digest)}" for one in (first, arm)
            }
            again(publisher, here, kept)
            undone = here.ask("undo", "--yes")
            assert undone.status == 0, undone.stderr
            assert here.state() == before


def again(publisher: Publisher, here: Site, kept: dict[str, dict[str, str]]) -> None:
    """Import the next release: what the first import wrote is kept, and only what is new is carried."""
    archive = here.folder / "next"
    image_set = publisher.image_set(publisher.next.version, ["amd64"])
    publisher.export("create", image_set, "--output", archive, "--since", here.archive)
    blobs = json.loads((archive / "inventory.json").read_text())["blobs"]
    known = json.loads((here.archive / "inventory.json").read_text())["blobs"]
    assert known.keys().isdisjoint(digest for digest, blob in blobs.items() if "pieces" in blob)
    done = Site(here.cluster, here.mirror, archive, here.folder).run("deploy", *here.trust)
    assert done.status == 0, done.stderr
    now = signature_maps(here.cluster)
    assert kept.items() <= now.items()
    (added,) = now.keys() - kept.keys()
    assert base64.b64decode(next(iter(now[added].values())))
    text = json.dumps(done.json)
    assert publisher.next.digest in text  # the command for the update names it, or its version
