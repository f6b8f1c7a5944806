"""`build-catalog`: package manifests, from a directory and from an app registry, as a catalog image and straight into an archive."""

from __future__ import annotations

import gzip
import io
import json
import lzma
import shutil
import tarfile

import pytest

from exporter.catalog.readers import file_based, package_manifests, sqlite
from tests.fakes.app_registry import TOKEN, AppRegistry, flattened, nested
from tests.fakes.catalogs import CATALOGS
from tests.fakes.commands import run
from tests.fakes.databases import rows
from tests.fakes.factories import image, index
from tests.fakes.registry import FakeRegistry
from tests.samples import more
from tests.unit.exporter.catalog.readers.test_sqlite import properties, shape

pytestmark = pytest.mark.integration
SERVER = {"Entrypoint": ["/registry-server"], "Cmd": ["--database", "/bundles.db"]}
HEADS = {
    ("etcd", "alpha", "etcdoperator.v0.9.2"),
    ("etcd", "beta", "etcdoperator.v0.9.0"),
    ("etcd", "stable", "etcdoperator.v0.9.2"),
    ("prometheus", "preview", "prometheusoperator.0.22.2"),
    ("strimzi-kafka-operator", "alpha", "strimzi-cluster-operator.v0.12.2"),
    ("strimzi-kafka-operator", "beta", "strimzi-cluster-operator.v0.12.1"),
    ("strimzi-kafka-operator", "stable", "strimzi-cluster-operator.v0.11.1"),
}


@pytest.fixture(scope="module")
def manifests(tmp_path_factory):
    folder = tmp_path_factory.mktemp("manifests")
    raw = lzma.decompress((CATALOGS / "package-manifests.tar.xz").read_bytes())
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        tar.extractall(folder, filter="data")
    return folder / "package-manifests"


@pytest.fixture
def registry():
    """A registry with the image to build on, for two platforms."""
    with FakeRegistry() as found:
        children = [
            image(({"registry-server": p.encode()},), platform=p, config=SERVER) for p in ("linux/amd64", "linux/s390x")
        ]
        found.add_image("origin/server", index(children), tag="v4.3")
        yield found


def build(registry, *more, to="olm/redhat-operators:v1"):
    return run(
        *("hub-export", "build-catalog", "--from", f"{registry.host}/origin/server:v4.3", "--to", f"{registry.host}/{to}"),
        *("--insecure", "--format", "json", *more),
    )


def database_of(registry, repository, tag):
    """Return the database of each platform of a pushed image, with its config."""
    found = []
    held = registry.repositories[repository]
    root = json.loads(held.manifests[held.tags[tag]][1])
    for child in [one["digest"] for one in root["manifests"]] if "manifests" in root else [held.tags[tag]]:
        manifest = json.loads(held.manifests[child][1])
        layer = gzip.decompress(held.blobs[manifest["layers"][-1]["digest"]])
        with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
            assert tar.getnames() == ["bundles.db"]
            found.append((tar.extractfile("bundles.db").read(), json.loads(held.blobs[manifest["config"]["digest"]])))
    return found


def test_the_rows_are_those_of_the_reference_loader(manifests):
    theirs = file_based.load(
        [("catalog.json", lzma.decompress((CATALOGS / "expected/package-manifests/render.json.xz").read_bytes()))]
    )
    found = package_manifests.read(package_manifests.files_of_directory(manifests), "x")
    assert found.problems == ()
    ours = sqlite.catalog_of(found.database)
    assert shape(ours) == shape(theirs)
    for package in theirs.packages.values():
        for bundle in package.bundles.values():
            mine = ours.packages[package.name].bundles[bundle.name]
            assert properties(mine) == properties(bundle)
            assert sorted(one.image for one in mine.related_images) == sorted(one.image for one in bundle.related_images)
    written = package_manifests.sqlite_database(found.database)
    assert written == package_manifests.sqlite_database(found.database)
    assert shape(sqlite.catalog_of(sqlite.read(written, "x"))) == shape(theirs)


@pytest.mark.parametrize("options", [[], ["--filter-by-os", "linux/amd64"]])
def test_a_directory_becomes_an_image_that_serves_its_packages(manifests, registry, options):
    done = build(registry, "--manifest-dir", manifests, *options)
    assert done.status == 0, done.stderr
    built = database_of(registry, "olm/redhat-operators", "v1")
    assert len(built) == (1 if options else 2)
    for content, config in built:
        assert config["config"]["Entrypoint"] == SERVER["Entrypoint"]
        assert config["config"]["Cmd"] == SERVER["Cmd"]
        assert rows(content, "SELECT version FROM schema_migrations") == [(5,)]
        assert set(rows(content, "SELECT package_name, name, head_operatorbundle_name FROM channel")) == HEADS
        assert rows(content, "SELECT count(*) FROM operatorbundle WHERE bundle IS NOT NULL AND csv IS NOT NULL") == [(10,)]
        assert rows(content, "PRAGMA foreign_key_check") == []
        assert rows(content, "PRAGMA integrity_check") == [("ok",)]
    assert {(p["name"], c["name"], c["head"]) for p in done.json["packages"] for c in p["channels"]} == HEADS
    assert done.json["digest"] == registry.repositories["olm/redhat-operators"].tags["v1"]
    again = build(registry, "--manifest-dir", manifests, *options)
    assert again.json["digest"] == done.json["digest"]


def packages_of(manifests):
    return {
        f"redhat-operators/{folder.name}": {
            str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
        }
        for folder in sorted(manifests.iterdir())
    }


@pytest.mark.parametrize("kind", [flattened, *more([nested])])
def test_an_app_registry_becomes_the_same_image(manifests, registry, kind):
    archives = {name: kind(files) for name, files in packages_of(manifests).items()}
    with AppRegistry(archives) as apps:
        done = build(registry, "--appregistry-org", "redhat-operators", "--appregistry-endpoint", f"http://{apps.host}/cnr")
        assert done.status == 0, done.stderr
    (content, _), _ = database_of(registry, "olm/redhat-operators", "v1")
    assert set(rows(content, "SELECT package_name, name, head_operatorbundle_name FROM channel")) == HEADS


def test_a_private_app_registry_takes_a_token_or_a_login(manifests, registry, tmp_path):
    archives = {name: nested(files) for name, files in packages_of(manifests).items()}
    with AppRegistry(archives, private=True) as apps:
        asked = ["--appregistry-org", "redhat-operators", "--appregistry-endpoint", f"http://{apps.host}/cnr"]
        assert build(registry, *asked).status == 5
        named = build(registry, *asked, "--auth-token", TOKEN)
        assert (named.status, "--auth-token is visible in the process list" in named.stderr) == (0, True)
        (tmp_path / "token").write_text(f"{TOKEN}\n")
        filed = build(registry, *asked, "--auth-token-file", tmp_path / "token")
        assert (filed.status, "process list" in filed.stderr) == (0, False)
        auth = TOKEN.partition(" ")[2]
        (tmp_path / "auth.json").write_text(json.dumps({"auths": {apps.host: {"auth": auth}}}))
        assert build(registry, *asked, "-a", tmp_path / "auth.json").status == 0


def test_a_package_that_cannot_be_fetched_is_a_problem_and_others_are_built(manifests, registry):
    archives = {name: nested(files) for name, files in packages_of(manifests).items()}
    with AppRegistry(archives, broken=frozenset({"redhat-operators/etcd"})) as apps:
        done = build(registry, "--appregistry-org", "redhat-operators", "--appregistry-endpoint", f"http://{apps.host}/cnr")
        assert done.status == 3, done.stderr
        assert [one["subject"] for one in done.json["problems"]] == ["redhat-operators/etcd"]
        assert {one["name"] for one in done.json["packages"]} == {"prometheus", "strimzi-kafka-operator"}
        nothing = build(registry, "--appregistry-org", "nobody", "--appregistry-endpoint", f"http://{apps.host}/cnr")
        assert (nothing.status, "has no packages of 'nobody'" in nothing.stderr) == (2, True)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--appregistry-org", "redhat-operators"], "shut its app registry down in June 2022"),
        ([], "one of --manifest-dir and --appregistry-org"),
        (["--manifest-dir", "nothing"], "no such directory"),
        (["--manifest-dir", "."], "no package manifests"),
        (["--appregistry-org", "x/../y", "--appregistry-endpoint", "quay.example/cnr"], "not a namespace"),
    ],
)
def test_errors_of_a_build_are_reported(registry, tmp_path, options, word):
    done = run(
        *("hub-export", "build-catalog", "--from", f"{registry.host}/origin/server:v4.3", "--to", f"{registry.host}/x/y:v1"),
        *("--insecure", *options),
        cwd=tmp_path,
    )
    assert done.status == 2, done.stderr
    assert word in done.stderr


def test_broken_files_cost_their_own_bundle(manifests, tmp_path, registry):
    copy = tmp_path / "copy"
    shutil.copytree(manifests, copy)
    (copy / "etcd/0.6.1/etcdoperator.clusterserviceversion.yaml").write_text("kind: [")
    (copy / "prometheus/extra.package.yaml").write_text("packageName: lost\nchannels: [{name: a, currentCSV: gone.v1}]\n")
    (copy / "prometheus/.hidden.yaml").write_text("kind: [")
    done = build(registry, "--manifest-dir", copy)
    assert done.status == 3, done.stderr
    told = {one["subject"]: one["message"] for one in done.json["problems"]}
    assert "not YAML" in told["etcd/0.6.1/etcdoperator.clusterserviceversion.yaml"]
    assert "its head 'gone.v1' is in no file" in told["lost"]
    assert len(told) == 2
    alpha = next(c for p in done.json["packages"] if p["name"] == "etcd" for c in p["channels"] if c["name"] == "alpha")
    assert [one["name"] for one in alpha["bundles"]] == ["etcdoperator.v0.9.2", "etcdoperator.v0.9.0"]


def manifest(folder, package, *versions, channels=None):
    """Write a package of bundles without contents, each on its own channel."""
    (folder / package).mkdir(parents=True)
    listed = []
    for number, version in enumerate(versions):
        csv = {"kind": "ClusterServiceVersion", "metadata": {"name": f"{package}.{number}"}, "spec": {"version": version}}
        (folder / package / f"{number}.csv.yaml").write_text(json.dumps(csv))
        listed.append({"name": f"c{number}", "currentCSV": f"{package}.{number}"})
    document = {"packageName": package, "channels": listed if channels is None else channels, "defaultChannel": "c0"}
    (folder / package / "a.package.yaml").write_text(json.dumps(document))


def test_what_opm_refuses_is_left_out_of_the_database(registry, tmp_path):
    """operator-registry, alpha/model/model.go, Validate: each of these stops the whole catalog."""
    manifest(tmp_path, "good", "1.0.0", "1.1.0")
    manifest(tmp_path, "Bad_Name", "1.0.0")
    manifest(tmp_path, "words", "two")
    manifest(tmp_path, "twice", "1.0.0", "1.0.0")
    manifest(
        tmp_path, "lost", "1.0.0", channels=[{"name": "other", "currentCSV": "lost.0"}, {"name": "b", "currentCSV": "lost.0"}]
    )
    done = build(registry, "--manifest-dir", tmp_path, "--filter-by-os", "linux/amd64")
    assert done.status == 3, done.stderr
    assert [one["name"] for one in done.json["packages"]] == ["good"]
    why = {one["subject"].partition("/")[0]: one["message"] for one in done.json["problems"]}
    for name, words in (("Bad_Name", "DNS label"), ("words", "semantic"), ("twice", "2 times"), ("lost", "default channel")):
        assert words in why[name], why
    ((content, _),) = database_of(registry, "olm/redhat-operators", "v1")
    assert rows(content, "SELECT name FROM package") == [("good",)]
    assert sorted(rows(content, "SELECT name FROM operatorbundle")) == [("good.0",), ("good.1",)]
    shutil.rmtree(tmp_path / "good")
    nothing = build(registry, "--manifest-dir", tmp_path, to="olm/nothing:v1")
    assert (nothing.status, "could be served" in nothing.stderr) == (1, True), nothing.stderr
    assert "v1" not in registry.repositories["olm/nothing"].tags


def test_a_directory_goes_straight_into_an_archive(manifests, registry, tmp_path):
    done = run(
        *("hub-export", "create", "--catalog", manifests, "--package", "etcd:beta", "--skip-dependencies"),
        *("--catalog-base", f"{registry.host}/origin/server:v4.3", "--insecure", registry.host, "--output", tmp_path / "out"),
        *("--signatures", "ignore", "--format", "json"),
        env={"HTTPS_PROXY": "http://localhost:9", "NO_PROXY": "localhost"},
    )
    assert done.status == 3, done.stderr  # quay.io is not reached from here, and every image of etcd is there
    inventory = json.loads((tmp_path / "out/inventory.json").read_bytes())
    (catalog,) = inventory["catalogs"]
    assert (catalog["format"], catalog["digest"], catalog["name"]) == ("sqlite", None, "package-manifests")
    assert [c["head"] for c in catalog["packages"][0]["channels"]] == ["etcdoperator.v0.9.0"]
    assert {one["source"].partition("/")[0] for one in inventory["images"] if one["kind"] == "related"} == {"quay.io"}
