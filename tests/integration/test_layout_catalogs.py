"""Catalogs on disk as OCI layouts, directory or tar, made by Debian's skopeo; several catalogs in one archive."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.fakes import sources
from tests.fakes.catalogs import CATALOGS
from tests.fakes.commands import run
from tests.fakes.registry import FakeRegistry
from tests.fakes.servers import require
from tests.samples import more

pytestmark = pytest.mark.integration
PACKAGE = "openshift-cert-manager-operator"


@pytest.fixture(scope="module")
def side(tmp_path_factory):
    """A registry, and its catalog copied into a layout and into a tar."""
    home = tmp_path_factory.mktemp("layout")
    content = sources.from_directory(CATALOGS / "fbc" / "redhat", packages=[PACKAGE], size=3_000)
    with FakeRegistry() as registry:
        content.seed(f"http://{registry.host}")
        (home / "registries.conf").write_text(content.registries_conf(registry.host, insecure=True))
        source = f"docker://{registry.host}/redhat/redhat-operator-index:v4.18"
        for target in (f"oci:{home}/layout:v4.18", f"oci-archive:{home}/index.tar"):
            copy = [require("skopeo"), "copy", "--all", "--src-tls-verify=false", source, target]
            subprocess.run(copy, check=True, capture_output=True)
        yield home, registry


def create(side, output, *catalog):
    return run(
        *("hub-export", "create", *catalog, "--package", f"{PACKAGE}:stable-v1", "--signatures", "ignore"),
        *("--registries-conf", side[0] / "registries.conf", "--output", output, "--format", "json"),
    )


@pytest.fixture(scope="module")
def theirs(side, tmp_path_factory):
    """What the registry gives."""
    output = tmp_path_factory.mktemp("theirs") / "out"
    done = create(side, output, "--catalog", sources.CATALOG)
    assert done.status == 0, done.stderr
    return output


@pytest.mark.parametrize("name", ["oci:{}/layout:v4.18", "{}/index.tar", *more(["oci:{}/layout", "oci-archive:{}/index.tar"])])
def test_a_layout_gives_what_the_registry_gives(side, theirs, tmp_path, name):
    home, registry = side
    registry.requests.clear()
    ours = create(side, tmp_path / "ours", "--catalog", name.format(home))
    assert ours.status == 0, ours.stderr
    assert not [r.path for r in registry.requests if "redhat-operator-index" in r.path], "the catalog is not asked for"
    found = [json.loads((each / "inventory.json").read_bytes()) for each in (theirs, tmp_path / "ours")]
    one, other = (each["catalogs"][0] for each in found)
    assert (one["image"], one["packages"]) == (other["image"], other["packages"])
    assert found[0]["blobs"].keys() == found[1]["blobs"].keys()
    with FakeRegistry() as mirror:
        pushed = run("hub-import", "push", tmp_path / "ours", "--registry", mirror.host, "--insecure", mirror.host)
        assert pushed.status == 0, pushed.stdout
        assert any(name.startswith("hub-airgap/") for name in mirror.repositories)


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("oci:{}/nothing", "no OCI layout"),
        ("oci:{}/layout:v9", "0 images of the name 'v9'"),
        ("oci-archive:{}/registries.conf", "no OCI layout and no archive of one"),
    ],
)
def test_errors_of_a_layout_are_reported(side, tmp_path, name, word):
    done = create(side, tmp_path / "out", "--catalog", name.format(side[0]))
    assert done.status == 2, done.stderr
    assert word in done.stderr


def test_a_layout_with_a_wrong_blob_is_refused(side, tmp_path):
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", side[0] / "layout", copy], check=True)
    largest = max((copy / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:-1] + b"x")
    done = create(side, tmp_path / "out", "--catalog", f"oci:{copy}")
    assert done.status == 1, done.stderr
    assert "content has digest" in done.stderr


def test_several_catalogs_in_one_archive(side, tmp_path):
    """The same catalog twice under names of their own, and a third from a disk; images belong to (catalog, package, bundle)."""
    home, _ = side
    package = {"name": PACKAGE, "channels": [{"name": "stable-v1"}]}
    document = {
        "apiVersion": "mirror.openshift.io/v2alpha1",
        "kind": "ImageSetConfiguration",
        "mirror": {
            "operators": [
                {"catalog": sources.CATALOG, "packages": [package], "targetCatalog": "mine/one", "targetTag": "a"},
                {"catalog": f"oci:{home}/layout", "packages": [package], "targetCatalog": "mine/two", "targetTag": "b"},
            ],
            "blockedImages": [{"name": "istio-csr"}],
        },
    }
    path = tmp_path / "imageset.yaml"
    path.write_text(json.dumps(document))
    done = run(
        *("hub-export", "create", path, "--signatures", "ignore", "--registries-conf", home / "registries.conf"),
        *("--output", tmp_path / "out", "--format", "json"),
    )
    assert done.status in (0, 3), done.stderr
    inventory = json.loads((tmp_path / "out/inventory.json").read_bytes())
    assert [one["name"] for one in inventory["catalogs"]] == ["redhat-operator-index", "layout"]
    related = next(one for one in inventory["images"] if one["kind"] == "related")
    assert {need.partition("/")[0] for need in related["neededBy"]} == {"redhat-operator-index", "layout"}
    with FakeRegistry() as mirror:
        assert run("hub-import", "push", tmp_path / "out", "--registry", mirror.host, "--insecure", mirror.host).status in (
            0,
            3,
        )
        assert "a" in mirror.repositories["mine/one"].tags
        assert "b" in mirror.repositories["mine/two"].tags
