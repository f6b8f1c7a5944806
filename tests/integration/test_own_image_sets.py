"""Image sets of the project's own apiVersion, as commands show them: optional packages that are absent, and excluded ones."""

from __future__ import annotations

import json

import pytest

from tests.fakes.catalogs import bundle_blob, channel_blob, entry, package_blob, stream
from tests.fakes.commands import run
from tests.fakes.factories import image
from tests.fakes.registry import FakeRegistry
from tests.fakes.sources import LABEL

pytestmark = pytest.mark.integration

CSV = b"apiVersion: operators.coreos.com/v1alpha1\nkind: ClusterServiceVersion\nmetadata: {name: foo.v1.0.0}\n"
CSV += b"spec: {install: {spec: {deployments: []}}}\n"


def operator(name, app):
    blob = bundle_blob(f"{name}.v1.0.0", "1.0.0", name) | {"image": app, "relatedImages": []}
    return [package_blob(name), channel_blob("stable", [entry(f"{name}.v1.0.0")], name), blob]


@pytest.fixture(scope="module")
def source():
    with FakeRegistry() as registry:
        app = f"{registry.host}/org/app:v1"
        config = {"Entrypoint": ["/bin/opm"], "Cmd": ["serve", "/configs"]}
        for index, packages in {"index": ["foo", "bar", "odf-a"], "other": ["bar"]}.items():
            files = stream(*(blob for name in packages for blob in operator(name, app)))
            layers = ({"bin/opm": b"opm"}, {"configs/catalog.json": files})
            registry.add_image(f"org/{index}", image(layers, labels={LABEL: "/configs"}, config=config), tag="v1")
        registry.add_image("org/app", image(({"manifests/csv.yaml": CSV},)), tag="v1")
        yield registry


def export(source, command, *more):
    return run("hub-export", command, *more, "--insecure", source.host, "--signatures", "ignore", "--format", "json")


def packages_of(document):
    return [[package["name"] for package in catalog["packages"]] for catalog in document["catalogs"]]


def absent(document):
    return [(one["severity"], one["subject"]) for one in document["problems"] if one["code"] == "package-absent"]


def test_absent_optional_packages_are_notes_everywhere(source, tmp_path):
    """A catalog of which nothing is left is not carried; `--strict` counts no note."""
    foo = [{"name": "foo", "optional": True}]
    operators = [{"catalog": f"{source.host}/org/{name}:v1", "packages": foo} for name in ("index", "other")]
    document = {"apiVersion": "hub-airgap/v1", "kind": "ImageSetConfiguration", "mirror": {"operators": operators}}
    file = tmp_path / "imageset.json"
    file.write_text(json.dumps(document))
    note = [("warning", "foo")]
    done = export(source, "list", file, "--strict")
    assert (done.status, packages_of(done.json), absent(done.json)) == (0, [["foo"], []], note), done.stderr
    done = export(source, "plan", file, "--strict")
    assert (done.status, packages_of(done.json), absent(done.json)) == (0, [["foo"]], note), done.stderr
    done = export(source, "create", file, "--output", tmp_path / "out", "--strict")
    assert (done.status, absent(done.json)) == (0, note), done.stderr
    inventory = json.loads((tmp_path / "out/inventory.json").read_bytes())
    assert (packages_of(inventory), absent(inventory), inventory["imageSet"]) == ([["foo"]], note, document)
    assert "package-absent" in (tmp_path / "out/report.html").read_text()
    file.write_text(json.dumps(document | {"mirror": {"operators": operators[1:]}}))
    done = export(source, "plan", file)
    assert done.status == 2, done.stderr
    assert "nothing is left to carry" in done.stderr


def test_flags_exclude_and_make_optional(source, tmp_path):
    catalog = ("--catalog", f"{source.host}/org/index:v1")
    done = export(source, "plan", *catalog, "--heads", "--exclude", "odf-*", "--exclude", "bar")
    assert (done.status, packages_of(done.json)) == (0, [["foo"]]), done.stderr
    assert done.json["imageSet"]["apiVersion"] == "hub-airgap/v1"
    assert done.json["imageSet"]["mirror"]["operators"][0]["exclude"] == ["odf-*", "bar"]
    done = export(source, "list", *catalog, "--package", "bar", "--optional", "baz")
    assert (done.status, packages_of(done.json), absent(done.json)) == (0, [["bar"]], [("warning", "baz")]), done.stderr
