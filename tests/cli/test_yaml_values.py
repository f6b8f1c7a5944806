"""Values that YAML allows and no reader expects, in every file that the commands read: an error with file and line, no trace."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.commands import Result, run

VALUES = ["!!int ''", "!!bool zz", "0x" + "f" * 100_000]
IDS = ["int", "bool", "long"]


def a_catalog(folder: Path, value: str) -> Result:
    folder.joinpath("catalog.yaml").write_text(f"schema: olm.package\nname: foo\ndefaultChannel: {value}\n")
    return run("hub-export", "list", "--catalog", folder, "--heads")


def package_manifests(folder: Path, value: str) -> Result:
    folder.joinpath("foo.package.yaml").write_text("packageName: foo\nchannels: [{name: a, currentCSV: foo.v1}]\n")
    folder.joinpath("catalog.yaml").write_text(f"kind: ClusterServiceVersion\nmetadata:\n  name: {value}\n")
    return run("hub-export", "list", "--catalog", folder, "--heads")


def an_image_set(folder: Path, value: str) -> Result:
    file = folder / "catalog.yaml"
    file.write_text(f"apiVersion: mirror.openshift.io/v2alpha1\nkind: ImageSetConfiguration\narchiveSize: {value}\n")
    return run("hub-export", "list", file)


def a_kubeconfig(folder: Path, value: str) -> Result:
    folder.joinpath("catalog.yaml").write_text(f"apiVersion: v1\nkind: Config\nclusters: {value}\n")
    return run("hub-import", "status", "--kubeconfig", folder / "catalog.yaml")


def the_kubeconfig_of_the_environment(folder: Path, value: str) -> Result:
    folder.joinpath("catalog.yaml").write_text(f"apiVersion: v1\nkind: Config\nclusters: {value}\n")
    return run("hub-import", "status", env={"KUBECONFIG": str(folder / "catalog.yaml")})


@pytest.mark.parametrize("value", VALUES, ids=IDS)
@pytest.mark.parametrize(
    ("read", "status"),
    [(a_catalog, 1), (package_manifests, 2), (an_image_set, 2), (a_kubeconfig, 2), (the_kubeconfig_of_the_environment, 2)],
)
def test_a_value_that_its_tag_does_not_allow_is_an_error_with_file_and_line(tmp_path, read, status, value):
    done = read(tmp_path, value)
    assert "Traceback" not in done.stderr
    assert done.status == status, done.stderr
    assert "catalog.yaml:3" in done.stderr


def test_one_value_does_not_hide_another_package(tmp_path):
    """A plain `=` in the YAML of one package is text, as for OLM (prometheus-operator#4955)."""
    properties = "{type: olm.package, value: {packageName: foo, version: 1.0.0}}, {type: other, value: [=, =~, '!=', <<]}"
    blobs = [
        "schema: olm.package\nname: foo\ndefaultChannel: stable\ndescription: =",
        "schema: olm.channel\nname: stable\npackage: foo\nentries: [{name: foo.v1}]",
        f"schema: olm.bundle\nname: foo.v1\npackage: foo\nimage: quay.example/foo:v1\nproperties: [{properties}]",
    ]
    tmp_path.joinpath("catalog.yaml").write_text("\n---\n".join(blobs))
    done = run("hub-export", "list", "--catalog", tmp_path, "--full", "--format", "json")
    assert done.status in (0, 3), done.stderr
    assert [one["name"] for one in done.json["catalogs"][0]["packages"]] == ["foo"]
