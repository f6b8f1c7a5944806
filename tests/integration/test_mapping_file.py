"""`create --manifests-only`, an edited mapping.txt, and `create --images`: some of the images, as in the how-to of 2020."""

from __future__ import annotations

import json

import pytest

from tests.fakes import sources
from tests.fakes.catalogs import CATALOGS
from tests.fakes.commands import run
from tests.fakes.registry import FakeRegistry

pytestmark = pytest.mark.integration
PACKAGE = "openshift-cert-manager-operator"


@pytest.fixture(scope="module")
def side(tmp_path_factory):
    home = tmp_path_factory.mktemp("mapping")
    content = sources.from_directory(CATALOGS / "fbc" / "redhat", packages=[PACKAGE], size=3_000)
    with FakeRegistry() as registry:
        content.seed(f"http://{registry.host}")
        (home / "registries.conf").write_text(content.registries_conf(registry.host, insecure=True))
        yield home, registry


def create(side, output, *more):
    return run(
        *("hub-export", "create", "--catalog", sources.CATALOG, "--package", f"{PACKAGE}:stable-v1", "--signatures", "ignore"),
        *("--registries-conf", side[0] / "registries.conf", "--output", output, "--format", "json", *more),
    )


def test_some_of_the_images_by_an_edited_file(side, tmp_path):
    made = create(side, tmp_path, "--manifests-only")
    assert made.status == 0, made.stderr
    path = tmp_path / "mapping.txt"
    assert made.json["mapping"] == str(path)
    assert [one.name for one in tmp_path.iterdir()] == ["mapping.txt"]
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    assert all(line.count("@sha256:") == 1 and ":hub-sha256-" in line.partition("=")[2] for line in lines)
    whole = create(side, tmp_path / "whole")
    assert whole.json["totals"]["images"] == len(lines) + 1  # the catalog is no choice
    path.write_text("\n".join(["# edited", "", *lines[:2], lines[2].partition("=")[0]]))
    some = create(side, tmp_path / "some", "--images", path)
    assert some.status == 0, some.stderr
    inventory = json.loads((tmp_path / "some/inventory.json").read_bytes())
    carried = {one["source"] for one in inventory["images"] if one["kind"] != "catalog"}
    assert carried == {line.partition("=")[0] for line in lines[:3]}
    left_out = [one for one in inventory["problems"] if one["code"] == "image-blocked"]
    assert len(left_out) == len(lines) - 3
    assert "left out by --images; needed by" in left_out[0]["message"]
    assert run("hub-import", "verify", tmp_path / "some").status == 0


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("quay.io/nobody/wants:this=x:y\n", "that the image set does not want"),
        ("# nothing\n\n", "lists no image"),
        ("not an image\n", ":1: no image"),
    ],
)
def test_a_file_that_cannot_be_meant(side, tmp_path, text, word):
    (tmp_path / "mapping.txt").write_text(text)
    done = create(side, tmp_path / "out", "--images", tmp_path / "mapping.txt")
    assert done.status == 2, done.stderr
    assert word in done.stderr
    assert not (tmp_path / "out").exists()
