"""A mirror whose storage has lost blobs: `push` relies on its manifests, `push --heal` checks every blob."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from tests.fakes.commands import run
from tests.fakes.factories import image, index, seed
from tests.fakes.servers import docker_registry, require
from tests.samples import more

pytestmark = pytest.mark.integration
IMAGES = {"org/app": image([b"shared", b"own of app"]), "org/tool": image([b"shared", b"own of tool"])}
MANY = index([image([b"own of amd"]), image([b"own of arm"], platform="linux/arm64")])


@pytest.fixture(name="archive", scope="module")
def _archive(tmp_path_factory):
    home = tmp_path_factory.mktemp("heal")
    with docker_registry(home, name="source") as source:
        names = []
        for repository, parts in {**IMAGES, "org/many": MANY}.items():
            seed(f"http://{source.host}", repository, parts, tag="v1")
            names += ["--image", f"{source.host}/{repository}:v1"]
        done = run("hub-export", "create", *names, "--insecure", source.host, "--output", home / "out")
        assert done.status == 0, done.stderr
    return home / "out"


def push(archive, mirror, *more):
    done = run("hub-import", "push", archive, "--registry", mirror.host, "--insecure", mirror.host, "--format", "json", *more)
    assert done.status == 0, done.stderr
    return done.json


def pulled(mirror, repository, folder):
    """Say whether skopeo, which looks at every byte, gets an image."""
    folder.mkdir()
    command = [require("skopeo"), "copy", "--all", "--src-tls-verify=false", f"docker://{mirror.host}/{repository}:v1"]
    return subprocess.run([*command, f"dir:{folder}"], check=False, capture_output=True).returncode == 0


def test_heal_uploads_missing_blobs(tmp_path, archive):
    with docker_registry(tmp_path, name="mirror") as mirror:
        push(archive, mirror)
        lost = [digest for digest in IMAGES["org/app"].blobs if digest not in IMAGES["org/tool"].blobs]
        for digest in lost:
            hexadecimal = digest.removeprefix("sha256:")
            shutil.rmtree(mirror.root / "docker/registry/v2/blobs/sha256" / hexadecimal[:2] / hexadecimal)
        assert not pulled(mirror, "org/app", tmp_path / "broken")

        assert push(archive, mirror)["uploaded"] == 0, "its manifests are there, and nothing else is asked for"
        assert not pulled(mirror, "org/app", tmp_path / "still")

        healed = push(archive, mirror, "--heal")
        assert healed["uploaded"] == len(lost)
        everywhere = sum(len(parts.blobs) for parts in (*IMAGES.values(), *MANY.manifests))
        assert healed["present"] == everywhere - len(lost)
        assert pulled(mirror, "org/app", tmp_path / "whole")


def test_heal_uploads_nothing_to_a_complete_mirror(tmp_path, archive):
    with docker_registry(tmp_path, name="mirror") as mirror:
        push(archive, mirror)
        before = mirror.log.read_text().count('"POST /v2/')
        assert push(archive, mirror, "--heal")["uploaded"] == 0
        assert mirror.log.read_text().count('"POST /v2/') == before


def test_heal_writes_a_missing_manifest(tmp_path, archive):
    with docker_registry(tmp_path, name="mirror") as mirror:
        push(archive, mirror)
        shutil.rmtree(mirror.root / "docker/registry/v2/repositories/org/app/_manifests")
        push(archive, mirror, "--heal")
        assert pulled(mirror, "org/app", tmp_path / "whole")


@pytest.mark.parametrize("share", [[], *more([["--volumes", "1"]])], ids=["whole", "shard"])
def test_heal_writes_a_missing_manifest_below_an_index(share, tmp_path, archive):
    """The index and its tag are there, and by them all looks well."""
    with docker_registry(tmp_path, name="mirror") as mirror:
        push(archive, mirror)
        hexadecimal = MANY.manifests[1].digest.removeprefix("sha256:")
        shutil.rmtree(mirror.root / "docker/registry/v2/repositories/org/many/_manifests/revisions/sha256" / hexadecimal)
        assert not pulled(mirror, "org/many", tmp_path / "broken")
        push(archive, mirror, "--heal", *share)
        assert pulled(mirror, "org/many", tmp_path / "whole")
