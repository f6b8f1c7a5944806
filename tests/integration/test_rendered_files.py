"""The rendered files, read by kubectl: what it makes of the kustomization is what apply brings into the cluster."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from importer.cluster.differences import needed_patch
from importer.cluster.release import Release
from importer.cluster.resources.build import ResourceOptions, build
from importer.configure.files.render import render
from importer.mapping import Mirror, map_images
from tests.fakes.cluster import FakeCluster
from tests.fakes.inventories import A, image, inventory
from tests.fakes.servers import require
from tests.fakes.wanted import CA
from tests.samples import more

MIRROR = Mirror.parse("mirror.example:5000/hub")
CARRIED = inventory(image(f"quay.io/x/y@{A}"), image("quay.io/x/z:v1", tag="v1"))


def kubectl(*arguments: str | Path) -> str:
    command = [require("kubectl"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


def in_order(body):
    return json.dumps(body, sort_keys=True)


def rendered(folder: Path, release: str):
    """Write the files of a release; return the objects that they were made of."""
    images = map_images(CARRIED, MIRROR)
    built = build(CARRIED, images, MIRROR, Release.parse(release), ResourceOptions(registry_ca=CA))
    for name, content in render(built.resources, images).items():
        (folder / name).write_bytes(content)
    return built.resources


@pytest.mark.parametrize("release", ["4.12", "4.20", *more(["4.8", "4.18"])])
def test_kustomize_reads_every_object(tmp_path, release):
    objects = rendered(tmp_path, release)
    read = [document for document in yaml.load_all(kubectl("kustomize", tmp_path), yaml.CSafeLoader) if document]
    assert sorted(read, key=in_order) == sorted((yaml.safe_load(yaml.safe_dump(each.body)) for each in objects), key=in_order)


def test_a_cluster_takes_every_object_as_it_is(tmp_path):
    files = tmp_path / "files"
    files.mkdir()
    objects = rendered(files, "4.18")
    with FakeCluster("4.18") as cluster:
        config = cluster.kubeconfig(tmp_path)
        kubectl(
            "--kubeconfig", config, "--cache-dir", tmp_path / "cache", "apply", "--validate=false", "-k", files, "-o", "name"
        )
        assert cluster.pruned == []
        for each in objects:
            live = cluster.get(each.kind, each.name, each.namespace)
            wanted = {name: value for name, value in each.body.items() if name in ("spec", "data")}
            assert needed_patch(live, wanted) == {}
