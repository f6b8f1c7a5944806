"""Catalogs that are wrong, at the command line: what, where, and what goes on all the same."""

from __future__ import annotations

import json

import pytest

from common.errors import NotACatalogError
from exporter.catalog.readers import package_manifests
from exporter.catalog.readers.opening import CatalogOpener
from tests.fakes.catalogs import bundle_blob, channel_blob, entry, package_blob, stream
from tests.fakes.commands import run

GOOD = [
    package_blob("good"),
    channel_blob("stable", [entry("good.v1.0.0")], "good"),
    bundle_blob("good.v1.0.0", "1.0.0", "good"),
]
ONE, TWO = bundle_blob("foo.v1.0.0", "1.0.0"), bundle_blob("foo.v2.0.0", "2.0.0")
CHAIN = channel_blob("stable", [entry("foo.v1.0.0"), entry("foo.v2.0.0", "foo.v1.0.0")])

BETA = channel_blob("beta", [entry("foo.v1.0.0")])


def listed(tmp_path, *blobs, raw=None, options=("--heads",)):
    folder = tmp_path / "catalog"
    folder.mkdir()
    (folder / "catalog.json").write_bytes(stream(*blobs) if raw is None else raw)
    return run("hub-export", "list", "--catalog", folder, *options, "--format", "json")


@pytest.mark.parametrize(
    ("blobs", "word"),
    [
        (
            [package_blob(), channel_blob("stable", [entry("foo.v1.0.0"), entry("foo.v2.0.0")]), ONE, TWO],
            "multiple channel heads",
        ),
        (
            [
                package_blob(),
                channel_blob("stable", [entry("foo.v1.0.0", "foo.v2.0.0"), entry("foo.v2.0.0", "foo.v1.0.0")]),
                ONE,
                TWO,
            ],
            "no channel heads found",
        ),
        ([package_blob(default="gone"), CHAIN, BETA, ONE, TWO], "its default channel 'gone' does not exist"),
        ([package_blob(default=""), CHAIN, BETA, ONE, TWO], "its default channel '' does not exist"),
        ([package_blob(), package_blob(default="other"), CHAIN, ONE, TWO], "2 olm.package blobs; the first counts"),
        ([package_blob(), CHAIN, bundle_blob("foo.v1.0.0", "one"), TWO], "foo.v1.0.0"),
    ],
    ids=["two heads", "cycle", "missing default channel", "no default channel", "duplicate package", "no SemVer"],
)
def test_a_package_that_is_wrong_is_named_and_the_rest_goes_on(tmp_path, blobs, word):
    done = listed(tmp_path, *blobs, *GOOD, options=("--full",))
    assert done.status in (0, 3), done.stderr
    assert any(word in f"{one['subject']} {one['message']}" for one in done.json["problems"]), done.json["problems"]
    assert "good" in [one["name"] for one in done.json["catalogs"][0]["packages"]]


def test_the_only_channel_becomes_the_default_one(tmp_path):
    done = listed(tmp_path, package_blob(default="gone"), CHAIN, ONE, TWO)
    assert done.status == 0, done.stderr
    assert "stable becomes the default channel, for 'gone' is not kept" in done.stderr


def test_broken_json_in_the_middle_of_a_stream_is_told_with_its_place(tmp_path):
    raw = stream(*GOOD) + b'{"schema": "olm.package", "name": }\n' + stream(ONE)
    done = listed(tmp_path, raw=raw)
    assert done.status == 1, done.stderr
    line = stream(*GOOD).count(b"\n") + 1
    assert f"catalog.json:{line}:" in done.stderr, done.stderr


NOT_UTF_8 = {
    "entry": [channel_blob("stable", [entry("foo.v1.0.0", "@@")]), ONE],
    "type": [CHAIN, ONE | {"properties": [*ONE["properties"], {"type": "@@", "value": 1}]}],
    "version": [CHAIN, bundle_blob("foo.v1.0.0", "@@")],
    "image": [CHAIN, ONE | {"relatedImages": [{"name": "@@", "image": "registry.example/org/manager:v1"}]}],
}


@pytest.mark.parametrize("name", NOT_UTF_8)
def test_text_that_is_not_utf_8_is_replaced_as_in_go(tmp_path, name):
    """encoding/json puts U+FFFD there; only where that is no version it costs its package (ADR 0053)."""
    raw = stream(package_blob(), *NOT_UTF_8[name], TWO, *GOOD).replace(b"@@", b"\xff")
    done = listed(tmp_path, raw=raw, options=("--full",))
    kept = [one["name"] for one in done.json["catalogs"][0]["packages"]]
    wanted = (3, ["good"]) if name == "version" else (0, ["foo", "good"])
    assert (done.status, kept) == wanted, done.json["problems"]


def test_a_broken_file_of_another_package_is_a_problem_of_named_packages_and_an_error_of_all(tmp_path):
    """opm refuses the whole directory (operator-registry, alpha/declcfg/load.go); named packages are written without it."""
    (tmp_path / "catalog/zoo").mkdir(parents=True)
    (tmp_path / "catalog/zoo/catalog.yaml").write_bytes(b"schema: [")
    (tmp_path / "catalog/good.json").write_bytes(stream(*GOOD))
    named = ["hub-export", "list", "--catalog", tmp_path / "catalog", "--format", "json"]
    done = run(*named, "--package", "good", "--package", "zoo")
    assert done.status == 3, done.stderr
    assert [one["subject"] for one in done.json["problems"]] == ["zoo/catalog.yaml", "zoo"]
    assert [one["name"] for one in done.json["catalogs"][0]["packages"]] == ["good"]
    done = run(*named)
    assert (done.status, "zoo/catalog.yaml:" in done.stderr) == (1, True)


def test_yaml_that_is_none_is_told_with_its_place(tmp_path):
    done = listed(tmp_path, raw=b"schema: olm.package\nname: foo\ndefaultChannel: [\n")
    assert done.status == 1, done.stderr
    assert "catalog.json:4:1" in done.stderr or "catalog.json:3:" in done.stderr


def imageset(tmp_path, mirror, version="v2alpha1"):
    path = tmp_path / "imageset.yaml"
    path.write_text(
        json.dumps({"apiVersion": f"mirror.openshift.io/{version}", "kind": "ImageSetConfiguration", "mirror": mirror})
    )
    return path


@pytest.mark.parametrize("version", ["v1alpha2", "v2alpha1"])
def test_what_an_oc_mirror_user_has_today_works_unchanged(tmp_path, version):
    folder = tmp_path / "catalog"
    folder.mkdir()
    (folder / "catalog.json").write_bytes(stream(package_blob(), CHAIN, ONE, TWO, *GOOD))
    operators = [
        {
            "catalog": str(folder),
            "packages": [
                {"name": "foo", "channels": [{"name": "stable", "minVersion": "1.0.0", "maxVersion": "2.0.0"}]},
                {"name": "good"},
            ],
        }
    ]
    text = {"operators": operators, "additionalImages": [{"name": "registry.redhat.io/ubi9/ubi:latest"}]}
    path = imageset(tmp_path, text, version)
    body = json.loads(path.read_text())
    body["storageConfig"] = {"local": {"path": "./offline"}}
    body["archiveSize"] = 4
    path.write_text(json.dumps(body))
    done = run("hub-export", "list", path, "--format", "json")
    assert done.status == 0, done.stderr
    assert "storageConfig is not needed" in done.stderr
    packages = {
        one["name"]: [b["name"] for c in one["channels"] for b in c["bundles"]] for one in done.json["catalogs"][0]["packages"]
    }
    assert packages == {"foo": ["foo.v2.0.0", "foo.v1.0.0"], "good": ["good.v1.0.0"]}


@pytest.mark.parametrize(
    ("mirror", "word"),
    [
        ({"platform": {"channels": [{"name": "stable-4.18", "minVersion": "4.18"}]}}, "'4.18' is no version of a release"),
        (
            {"helm": {"repositories": [{"name": "x", "url": "https://x"}]}},
            "mirror.helm: hub-export carries operators, releases and images",
        ),
        ({"operators": [{"catalog": "x.y/z:v1", "packages": [{"name": "a", "minversions": "1.0.0"}]}]}, "minversions"),
    ],
)
def test_what_is_not_carried_is_refused_by_its_field(tmp_path, mirror, word):
    done = run("hub-export", "list", imageset(tmp_path, mirror))
    assert done.status == 2, done.stderr
    assert word in done.stderr
    assert "imageset.yaml:1" in done.stderr


MANIFESTS = {
    "foo/foo.package.yaml": "packageName: foo\nchannels: [{name: a, currentCSV: foo.v2}]\n",
    "foo/1/csv.yaml": "kind: ClusterServiceVersion\nmetadata: {name: foo.v1}\nspec: {version: 1.0.0}\n",
    "foo/2/csv.yaml": "kind: ClusterServiceVersion\nmetadata: {name: foo.v2}\nspec: {version: 2.0.0, replaces: foo.v1}\n",
    "bar/bar.package.yaml": "packageName: bar\nchannels: [{name: a, currentCSV: bar.v1}]\n",
    "bar/csv.yaml": "kind: ClusterServiceVersion\nmetadata: {name: bar.v1}\nspec: {version: 1.0.0}\n",
}


@pytest.mark.parametrize(
    ("file", "subject"), [("foo/2/crd.yaml", "foo/foo.v2"), ("foo/1/deep/crd.yml", "foo"), ("foo/0/csv.json", "foo")]
)
def test_a_lost_file_of_package_manifests_is_named_with_its_bundle(tmp_path, file, subject):
    """Also where one package is asked for and its folder has another name."""
    for name, text in (MANIFESTS | {file: "kind: [\n", "bar/other.yaml": "kind: [\n"}).items():
        path = tmp_path / "all" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    done = run("hub-export", "list", "--catalog", tmp_path, "--package", "foo", "--format", "json")
    assert done.status == 3, done.stderr
    (problem,) = done.json["problems"]
    assert problem["subject"] == subject
    assert f"all/{file}:2:1: not YAML" in problem["message"]


@pytest.mark.parametrize(
    "text", ["packageName: foo\nchannels: []\n", "channels:\npackageName: foo\n", '{"packageName": "foo", "channels": []}']
)
def test_a_package_file_without_channels_is_known_as_package_manifests(tmp_path, text):
    (tmp_path / "foo.package.yaml").write_text(text)
    with pytest.raises(NotACatalogError, match=r"no package manifests: foo: foo\.package\.yaml: the package has no channels"):
        CatalogOpener(None, None).open(str(tmp_path))  # type: ignore[arg-type] - nothing is fetched


def test_a_file_based_catalog_is_not_taken_for_package_manifests(tmp_path):
    properties = [{"type": "olm.package", "value": {"packageName": "foo", "channels": [], "version": "1.0.0"}}]
    (tmp_path / "catalog.json").write_text(json.dumps(bundle_blob("foo.v1.0.0", properties=properties), indent=1))
    assert not package_manifests.is_directory(tmp_path)
