"""The target profile, and what an export makes of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.fakes.commands import run
from tests.fakes.factories import image, index
from tests.fakes.registry import FakeRegistry

pytestmark = pytest.mark.integration
SERVE = {"Entrypoint": ["/bin/opm"], "Cmd": ["serve", "/configs"]}
CSV = b"kind: ClusterServiceVersion\nspec: {}\n"
CONFIGS = "operators.operatorframework.io.index.configs.v1"


CHANNELS = {
    "stable": [
        {"name": "alpha.v3.0.0", "replaces": "alpha.v2.0.0"},
        {"name": "alpha.v2.0.0", "replaces": "alpha.v1.0.0", "skipRange": ">=1.5.0 <2.0.0"},
        {"name": "alpha.v1.0.0"},
    ],
    "old": [{"name": "alpha.v1.0.0"}],
}


@pytest.fixture(scope="module")
def source():
    """A catalog of alpha (two channels) and beta, for two platforms."""
    with FakeRegistry() as registry:
        blobs = [{"schema": "olm.package", "name": name, "defaultChannel": "stable"} for name in ("alpha", "beta")]
        for channel, entries in CHANNELS.items():
            blobs.append({"schema": "olm.channel", "package": "alpha", "name": channel, "entries": entries})
        blobs.append({"schema": "olm.channel", "package": "beta", "name": "stable", "entries": [{"name": "beta.v1.0.0"}]})
        for name, version in (("alpha", "1.0.0"), ("alpha", "2.0.0"), ("alpha", "3.0.0"), ("beta", "1.0.0")):
            files = {arch: {"manifests/csv.yaml": CSV, "bin": f"{name}{version}{arch}".encode()} for arch in ("amd64", "s390x")}
            platforms = [image((content,), platform=f"linux/{arch}") for arch, content in files.items()]
            parts = index(platforms)
            registry.add_image(f"org/{name}", parts, tag=version)
            blobs.append(
                {
                    "schema": "olm.bundle",
                    "package": name,
                    "name": f"{name}.v{version}",
                    "image": f"{registry.host}/org/{name}@{parts.digest}",
                    "properties": [{"type": "olm.package", "value": {"packageName": name, "version": version}}],
                }
            )
        content = "\n".join(map(json.dumps, blobs)).encode()
        children = [
            image(({"configs/c.json": content},), platform=f"linux/{arch}", labels={CONFIGS: "/configs"}, config=SERVE)
            for arch in ("amd64", "s390x")
        ]
        registry.add_image("org/index", index(children), tag="v1")
        yield registry


def profile(folder: Path, *operators, platforms=("linux/amd64",), sparse=True, release="4.18.7", **more):
    keys = ("package", "channel", "csv", "version", "catalog", "namespace")
    installed = [dict(zip(keys, (*one, "redhat-operators", "site"), strict=True)) for one in operators]
    registry = {"address": "mirror.example/ocp", "nestedPaths": True, "sparseIndexes": sparse, "referrers": True}
    document: dict = {
        "mediaType": "application/vnd.hub-airgap.target.v1+json",
        "openshiftRelease": release,
        "platforms": list(platforms),
        "operators": installed,
        "registry": registry,
        "notes": [],
        **more,
    }
    path = folder / "target.json"
    path.write_text(json.dumps(document))
    return path


def plan(source, target, *chosen, more=()):
    catalog = ["--catalog", f"{source.host}/org/index:v1", "--insecure", source.host, "--signatures", "ignore"]
    packages = [part for one in chosen for part in ("--package", one)]
    return run("hub-export", "plan", *catalog, *packages, "--target", target, "--format", "json", *more)


def stranded(done):
    assert done.status == 0, done.stderr
    return [problem["message"] for problem in done.json["problems"] if problem["code"] == "operator-stranded"]


@pytest.mark.parametrize(
    ("installed", "chosen", "said"),
    [
        (("alpha", "stable", "alpha.v2.0.0", "2.0.0"), "alpha", None),  # the head replaces it
        (("alpha", "stable", "alpha.v3.0.0", "3.0.0"), "alpha", None),  # it is the head
        (("alpha", "", "alpha.v2.0.0", "2.0.0"), "alpha", None),  # follows the default channel
        (("alpha", "stable", "alpha.v1.0.0", "1.0.0"), "alpha", "add minVersion 1.0.0"),
        (("alpha", "stable", "alpha.v1.0.0", "1.0.0"), "alpha@1.0.0..", None),
        (("alpha", "stable", "alpha.v1.7.0", "1.7.0"), "alpha@2.0.0..", None),  # by skipRange of 2.0.0
        (("alpha", "stable", "alpha.v1.7.0", "1.7.0"), "alpha", "add minVersion 1.7.0"),
        (("alpha", "old", "alpha.v1.0.0", "1.0.0"), "alpha:stable", "channel old, which it follows, is not carried: add it"),
        (("alpha", "gone", "alpha.v1.0.0", "1.0.0"), "alpha", "the catalog no longer has it"),
        (("alpha", "stable", "alpha.v0.1.0", "0.1.0"), "alpha", "has no update for it"),
        (("alpha", "stable", "alpha.v1.0.0", "1.0.0"), "beta", "its package is not carried: add it"),
        (("gamma", "stable", "gamma.v1.0.0", "1.0.0"), "alpha", None),  # no catalog of this export has it
    ],
)
def test_no_operator_is_left_behind_unsaid(source, tmp_path, installed, chosen, said):
    found = stranded(plan(source, profile(tmp_path, installed), chosen))
    assert len(found) == (said is not None)
    if said:
        assert said in found[0]
        assert "installed in site" in found[0]


def test_the_platforms_of_the_nodes_are_carried_unless_the_mirror_takes_no_sparse_index(source, tmp_path):
    def carried(target):
        done = plan(source, target, "alpha")
        assert done.status == 0, done.stderr
        return {platform for each in done.json["images"] for platform in each["platforms"]}

    assert carried(profile(tmp_path)) == {"linux/amd64"}
    assert carried(profile(tmp_path, sparse=None)) == {"linux/amd64"}
    assert carried(profile(tmp_path, sparse=False)) == {"linux/amd64", "linux/s390x"}


@pytest.mark.parametrize(("sparse", "severities"), [(None, ["warning"]), (True, []), (False, ["error"])])
def test_a_mirror_that_refuses_sparse_indexes_makes_them_an_error(source, tmp_path, sparse, severities):
    done = plan(source, profile(tmp_path, sparse=sparse), "alpha", more=["--platform", "linux/amd64"])
    assert [each["severity"] for each in done.json["problems"] if each["code"] == "sparse-index"] == severities
    assert done.status == (3 if sparse is False else 0)


def test_what_is_said_wins_over_the_profile(source, tmp_path):
    site = profile(tmp_path, release="4.18.7")

    def platforms(*more):
        done = plan(source, site, "alpha", more=more)
        assert done.status == 0, done.stderr
        return {platform for each in done.json["images"] for platform in each["platforms"]}

    assert platforms("--platform", "linux/s390x") == {"linux/s390x"}
    assert platforms("--platform", ".*") == {"linux/amd64", "linux/s390x"}
    done = plan(source, site, "alpha", more=["--openshift-release", "five"])
    assert (done.status, "not an OpenShift release: 'five'" in done.stderr) == (2, True)


def test_the_release_of_the_profile_is_that_of_the_export(source, tmp_path):
    """Up to 4.12 no mirror rule redirects a tag, and a plan for such a release says so."""

    def unmirrorable(*more, release):
        done = run(
            "hub-export", "plan", "--catalog", folder, "--catalog-base", f"{source.host}/org/index:v1", "--full",
            "--insecure", source.host, "--signatures", "ignore", "--format", "json", *more,
            "--target", profile(tmp_path, release=release),
        )  # fmt: skip
        assert done.status in (0, 3), done.stderr
        return "tag-unmirrorable" in {each["code"] for each in done.json["problems"]}

    folder = tmp_path / "catalog"
    folder.mkdir()
    bundle = {
        "schema": "olm.bundle", "package": "tagged", "name": "tagged.v1.0.0", "image": f"{source.host}/org/alpha:1.0.0",
        "properties": [{"type": "olm.package", "value": {"packageName": "tagged", "version": "1.0.0"}}],
    }  # fmt: skip
    channel = {"schema": "olm.channel", "package": "tagged", "name": "stable", "entries": [{"name": "tagged.v1.0.0"}]}
    blobs = [{"schema": "olm.package", "name": "tagged", "defaultChannel": "stable"}, channel, bundle]
    (folder / "catalog.json").write_text("\n".join(map(json.dumps, blobs)))
    assert unmirrorable(release="4.12.9")
    assert not unmirrorable(release="4.18.7")
    assert not unmirrorable(release=None)
    assert not unmirrorable("--openshift-release", "4.18", release="4.12.9")
    assert unmirrorable(release="4.12.0-rc.1")
    assert not unmirrorable(release="4.19.0-0.nightly-2025-01-01-000000")


def test_list_names_who_is_left_behind_by_a_selection_and_nobody_by_an_offer(source, tmp_path):
    target = profile(tmp_path, ("alpha", "stable", "alpha.v1.0.0", "1.0.0"), ("beta", "stable", "beta.v1.0.0", "1.0.0"))

    def listed(*more):
        catalog = ["--catalog", f"{source.host}/org/index:v1", "--insecure", source.host]
        done = run("hub-export", "list", *catalog, *more, "--target", target, "--format", "json")
        return [each["subject"] for each in done.json["problems"] if each["code"] == "operator-stranded"]

    assert listed("--heads") == ["alpha"]
    assert listed("--package", "alpha@1.0.0..") == ["beta"]
    assert listed("--package", "alpha") == []
    assert listed() == []


def test_create_goes_by_the_profile_too(source, tmp_path):
    catalog = ["--catalog", f"{source.host}/org/index:v1", "--insecure", source.host, "--signatures", "ignore"]
    target = profile(tmp_path, ("alpha", "stable", "alpha.v1.0.0", "1.0.0"))
    done = run("hub-export", "create", *catalog, "--package", "alpha", "--target", target, "--output", tmp_path / "out")
    assert done.status == 0, done.stderr
    assert "operator-stranded" in done.stdout + done.stderr
    inventory = json.loads((tmp_path / "out" / "inventory.json").read_bytes())
    assert "operator-stranded" in {problem["code"] for problem in inventory["problems"]}
    assert "mirror.example" not in json.dumps(inventory), "what the other side is called stays out of the archive"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "not a target profile"),
        ('{"mediaType": "x"}', "not a target profile"),
        ("[]", "not a target profile"),
        (" " * (4 * 1024 * 1024 + 1), "larger than"),
        (None, "cannot be read"),
    ],
)
def test_files_that_are_no_profiles(source, tmp_path, content, said):
    path = tmp_path / "bad.json"
    if content is not None:
        path.write_text(content)
    done = plan(source, path, "alpha")
    assert done.status == 2
    assert said in done.stderr
    assert "hub-import probe" in done.stderr


def test_a_later_profile_and_one_of_a_wrong_type(source, tmp_path):
    later = profile(tmp_path, mediaType="application/vnd.hub-airgap.target.v2+json")
    done = plan(source, later, "alpha")
    assert (done.status, "another version" in done.stderr) == (2, True)
    later.write_text(json.dumps({"mediaType": "application/vnd.hub-airgap.target.v2+json", "clusters": []}))
    done = plan(source, later, "alpha")
    assert (done.status, "another version" in done.stderr) == (2, True), "a later version may have another shape"
    done = plan(source, profile(tmp_path, platforms="amd64"), "alpha")
    assert done.status == 2
    done = plan(source, profile(tmp_path, platforms=["nonsense"]), "alpha")
    assert (done.status, "target.json: not a platform" in done.stderr) == (2, True)
    done = plan(source, profile(tmp_path, release="five"), "alpha")
    assert (done.status, "target.json: not an OpenShift release" in done.stderr) == (2, True)


def kept(done):
    """Return the versions of each package and channel in a plan."""
    assert done.status == 0, done.stderr
    (catalog,) = done.json["catalogs"]
    assert catalog["updateGraph"]
    return {
        f"{package['name']}/{channel['name']}": [one["version"] for one in channel["bundles"]]
        for package in catalog["packages"]
        for channel in package["channels"]
    }


def test_what_is_installed_is_selected_from_its_version_on(source, tmp_path):
    operators = [
        ("alpha", "stable", "alpha.v2.0.0", "2.0.0"),
        ("gamma", "stable", "gamma.v1.0.0", "1.0.0"),
    ]
    target = profile(tmp_path, *operators)
    done = plan(source, target, more=["--installed"])
    assert kept(done) == {"alpha/stable": ["3.0.0", "2.0.0"]}
    assert "installed, and in none of the catalogs that are asked for: gamma (redhat-operators)" in done.stderr
    # The image set of the inventory selects the same without the profile, as a re-request does.
    file = tmp_path / "again.yaml"
    file.write_text(json.dumps(done.json["imageSet"]))
    again = run("hub-export", "plan", file, "--insecure", source.host, "--signatures", "ignore", "--format", "json")
    assert kept(again) == {"alpha/stable": ["3.0.0", "2.0.0"]}
    assert "site" not in json.dumps(done.json["imageSet"]), "no namespaces of the cluster"
    beside = plan(source, target, "beta", more=["--installed"])
    assert kept(beside) == {"alpha/stable": ["3.0.0", "2.0.0"], "beta/stable": ["1.0.0"]}


def test_what_is_installed_is_added_to_an_image_set(source, tmp_path):
    """The file asks for the head of beta, and create carries what a plan says."""
    catalog = f"catalog: {source.host}/org/index:v1, packages: [{{name: beta}}]"
    file = tmp_path / "imageset.yaml"
    file.write_text(
        f"kind: ImageSetConfiguration\napiVersion: mirror.openshift.io/v2alpha1\nmirror: {{operators: [{{{catalog}}}]}}\n"
    )
    target = profile(tmp_path, ("alpha", "stable", "alpha.v1.7.0", "1.7.0"))
    more = ["--insecure", source.host, "--signatures", "ignore", "--target", target, "--installed", "--format", "json"]
    done = run("hub-export", "create", file, *more, "--output", tmp_path / "archive")
    assert done.status == 0, done.stderr
    assert "channel stable does not have that version: from 2.0.0 on" in done.stderr
    inventory = json.loads((tmp_path / "archive" / "inventory.json").read_bytes())
    assert {
        (package["name"], one["name"], one.get("skipRange"))
        for package in inventory["catalogs"][0]["packages"]
        for channel in package["channels"]
        for one in channel["bundles"]
    } == {("alpha", "alpha.v3.0.0", None), ("alpha", "alpha.v2.0.0", ">=1.5.0 <2.0.0"), ("beta", "beta.v1.0.0", None)}


@pytest.mark.parametrize(
    ("target", "catalog", "said"),
    [
        (None, True, "--installed without --target"),
        (
            {"operators": None, "notes": ["installed operators: HTTP 403"]},
            True,
            "not in the profile: installed operators: HTTP 403",
        ),
        ({"operators": []}, True, "nothing that the target profile has installed is in the catalogs"),
        ({}, False, "--installed without --catalog"),
    ],
)
def test_installed_needs_a_profile_that_knows_it(source, tmp_path, target, catalog, said):
    named = ["--catalog", f"{source.host}/org/index:v1"] if catalog else ["--image", f"{source.host}/org/alpha:1.0.0"]
    profiled = [] if target is None else ["--target", profile(tmp_path, **target)]
    done = run("hub-export", "plan", *named, "--insecure", source.host, *profiled, "--installed")
    assert done.status == 2
    assert said in done.stderr
