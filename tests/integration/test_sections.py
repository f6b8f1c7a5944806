"""Files of oc-mirror that ask for charts and samples too: the rest is carried, and each section that is not is a problem."""

from __future__ import annotations

import json

import pytest

from tests.fakes.catalogs import bundle_blob, channel_blob, entry, package_blob, stream
from tests.fakes.commands import run
from tests.fakes.factories import image
from tests.fakes.registry import FakeRegistry
from tests.fakes.sources import LABEL

pytestmark = pytest.mark.integration
SECTIONS = {
    "helm": {"repositories": [{"name": "x", "url": "https://charts.example", "charts": [{"name": "y", "version": "1.0.0"}]}]},
    "samples": [{"name": "ruby"}],
}
NAMES = [f"mirror.{name}" for name in SECTIONS]


@pytest.fixture(scope="module")
def source():
    with FakeRegistry() as registry:
        registry.add_image("org/bundle", image([b"bundle"]), tag="v1")
        blob = bundle_blob("foo.v1.0.0", "1.0.0") | {"image": f"{registry.host}/org/app:v1", "relatedImages": []}
        files = stream(package_blob(), channel_blob("stable", [entry("foo.v1.0.0")]), blob)
        layers = ({"bin/opm": b"opm"}, {"configs/catalog.json": files})
        config = {"Entrypoint": ["/bin/opm"], "Cmd": ["serve", "/configs"]}
        registry.add_image("org/index", image(layers, labels={LABEL: "/configs"}, config=config), tag="v1")
        registry.add_image("org/app", image([b"app"]), tag="v1")
        yield registry


def image_set(folder, source, **mirror):
    file = folder / "imageset.yaml"
    wanted = {
        "operators": [{"catalog": f"{source.host}/org/index:v1", "packages": [{"name": "foo"}]}],
        "additionalImages": [{"name": f"{source.host}/org/app:v1"}],
    }
    document = {"apiVersion": "mirror.openshift.io/v2alpha1", "kind": "ImageSetConfiguration", "mirror": wanted | mirror}
    file.write_text(json.dumps(document, indent=1))
    return file


def commands(folder):
    yield "list", []
    yield "plan", []
    yield "create", ["--output", folder / "mapping", "--manifests-only"]
    yield "create", ["--output", folder / "out"]


def export(source, command, file, *more):
    return run("hub-export", command, file, *more, "--insecure", source.host, "--signatures", "ignore")


def test_every_command_carries_the_rest_and_names_each_section(source, tmp_path):
    file = image_set(tmp_path, source, **SECTIONS)
    for command, more in commands(tmp_path):
        done = export(source, command, file, *more, "--format", "json")
        assert done.status == 3, (command, done.stderr)
        named = [one for one in done.json["problems"] if one["code"] == "section-not-carried"]
        assert [(one["severity"], one["subject"]) for one in named] == [("error", name) for name in NAMES]
        assert all(one["message"].startswith("imageset.yaml:") for one in named)
    assert "org/app:v1" in (tmp_path / "mapping/mapping.txt").read_text()
    inventory = json.loads((tmp_path / "out/inventory.json").read_bytes())
    assert [one["subject"] for one in inventory["problems"] if one["code"] == "section-not-carried"] == NAMES
    assert inventory["imageSet"]["mirror"]["helm"] == SECTIONS["helm"]
    assert {one["source"].partition("/")[2] for one in inventory["images"]} >= {"org/index:v1", "org/app:v1"}
    assert "mirror.helm" in (tmp_path / "out/report.html").read_text()


def test_people_read_the_same(source, tmp_path):
    file = image_set(tmp_path, source, **SECTIONS)
    for command, more in commands(tmp_path):
        done = export(source, command, file, *more)
        assert done.status == 3, (command, done.stderr)
        for name in NAMES:
            assert f"error: {name}: imageset.yaml:" in done.stdout, (command, done.stdout)


def test_with_strict_every_command_fails_and_nothing_is_written(source, tmp_path):
    file = image_set(tmp_path, source, **SECTIONS)
    for command, more in commands(tmp_path):
        done = export(source, command, file, *more, "--strict")
        assert done.status == 1, (command, done.stderr)
        assert "mirror.helm" in done.stderr
    assert not (tmp_path / "mapping").exists()
    assert not (tmp_path / "out/inventory.json").exists()


def test_nothing_else_is_an_error_of_every_command(source, tmp_path):
    file = image_set(tmp_path, source, operators=[], additionalImages=None, **SECTIONS)
    for command, more in commands(tmp_path):
        done = export(source, command, file, *more)
        assert done.status == 2, (command, done.stderr)
        assert all(f"{name}: hub-export carries operators, releases and images" in done.stderr for name in NAMES)
