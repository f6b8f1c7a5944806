"""Catalog images with a database, as OpenShift had them up to 4.10: through the commands, into a mirror, and out of it again."""

from __future__ import annotations

import gzip
import io
import json
import tarfile

import pytest

from exporter.catalog.readers import sqlite
from tests.fakes import databases
from tests.fakes.commands import run
from tests.fakes.factories import image
from tests.fakes.registry import FakeRegistry
from tests.samples import more

pytestmark = pytest.mark.integration
LABEL = "operators.operatorframework.io.index.database.v1"
SERVE = {"Entrypoint": ["/bin/opm"], "Cmd": ["registry", "serve", "--database", "/database/index.db"]}
SERVER = {"Entrypoint": ["/registry-server"], "Cmd": ["--database", "bundles.db"]}


def catalog_image(content, path, *, labels=None, config=None):
    layers = ({"bin/opm": b"opm", "etc/other.db": b"no database"}, {path: content, "var/x": b"y"})
    return image(layers, labels=labels or {}, config=config or SERVE)


@pytest.fixture
def source():
    """A registry with catalogs of the package foo, and everything that foo needs."""
    with FakeRegistry() as registry:
        renamed = dict.fromkeys(("quay.io/example",), f"{registry.host}/example")
        content = databases.database(13)
        for old, new in renamed.items():
            content = databases.replaced(content, old, new)
        for number in ("1.0.0", "2.0.0", "3.0.0"):
            csv = databases.csv(f"foo.v{number[0]}", number, description="from the bundle image")
            bundle = {"manifests/foo.clusterserviceversion.yaml": csv, "manifests/crd.yaml": databases.CRD}
            registry.add_image("example/foo", image((bundle,)), tag=number)
            registry.add_image("example/operand", image([b"operand" + number.encode() * 100]), tag=number)
        registry.add_image(
            "example/index", catalog_image(content, "database/index.db", labels={LABEL: "./database/index.db"}), tag="v1"
        )
        registry.add_image("example/old", catalog_image(content, "bundles.db", config=SERVER), tag="v1")
        registry.add_image("example/odd", catalog_image(content, "srv/catalog"), tag="v1")
        lost = databases.changed(content, "UPDATE operatorbundle SET csv = NULL, bundle = NULL WHERE name <> 'foo.v3'")
        registry.add_image(
            "example/lost", catalog_image(lost, "database/index.db", labels={LABEL: "/database/index.db"}), tag="v1"
        )
        registry.add_image("example/none", image([{"bin/sh": b"sh"}]), tag="v1")
        registry.add_image("example/wrong", catalog_image(content, "x.db", labels={LABEL: "/y.db"}), tag="v1")
        yield registry


def create(source, catalog, output, *more):
    return run(
        *("hub-export", "create", "--catalog", f"{source.host}/example/{catalog}:v1", "--package", "foo:stable@2.0.0"),
        *("--insecure", source.host, "--signatures", "ignore", "--output", output, "--format", "json", *more),
    )


def carried(mirror, archive):
    """Return the inventory, and the layers and config of the catalog image that was pushed."""
    pushed = run("hub-import", "push", archive, "--registry", mirror.host, "--insecure", mirror.host)
    assert pushed.status == 0, pushed.stdout + pushed.stderr
    inventory = json.loads((archive / "inventory.json").read_bytes())
    (catalog,) = inventory["catalogs"]
    repository = mirror.repositories[catalog["source"].partition("/")[2].partition(":")[0]]
    manifest = json.loads(repository.manifests[catalog["image"]][1])
    layers = [gzip.decompress(repository.blobs[layer["digest"]]) for layer in manifest["layers"]]
    return catalog, layers, json.loads(repository.blobs[manifest["config"]["digest"]])


def file_of(layers, path):
    found = None
    for layer in layers:
        with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
            if path in tar.getnames():
                found = tar.extractfile(path).read()
    return found


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("index", "database/index.db"),
        *(pytest.param(*each, marks=pytest.mark.more) for each in (("old", "bundles.db"), ("odd", "srv/catalog"))),
    ],
)
def test_a_database_is_found_filtered_and_carried_as_one(source, tmp_path, name, path):
    done = create(source, name, tmp_path / "out")
    assert done.status == 0, done.stderr
    with FakeRegistry() as mirror:
        catalog, layers, config = carried(mirror, tmp_path / "out")
        assert set(mirror.repositories) == {"example/foo", "example/operand", f"example/{name}", "hub-airgap-archives"}
        assert {"1.0.0", "3.0.0"}.isdisjoint(mirror.repositories["example/foo"].tags)
    assert (catalog["format"], catalog["filtered"]) == ("sqlite", True)
    found = sqlite.catalog_of(sqlite.read(file_of(layers, path), "carried"))
    assert list(found.packages["foo"].bundles) == ["foo.v2"]
    assert config["config"]["Cmd"] == (SERVER if name == "old" else SERVE)["Cmd"], "the image serves it as before"
    listed = catalog["packages"][0]["channels"][0]
    assert (listed["head"], [one["name"] for one in listed["bundles"]]) == ("foo.v2", ["foo.v2"])
    again = create(source, name, tmp_path / "again")
    assert again.status == 0
    digests = [
        json.loads((tmp_path / each / "inventory.json").read_bytes())["catalogs"][0]["image"] for each in ("out", "again")
    ]
    assert digests[0] == digests[1]


def test_a_database_becomes_file_based_where_that_is_asked_for(source, tmp_path):
    done = create(source, "index", tmp_path / "out", "--catalog-format", "file-based")
    assert done.status == 0, done.stderr
    with FakeRegistry() as mirror:
        catalog, layers, config = carried(mirror, tmp_path / "out")
    assert catalog["format"] == "file-based"
    assert config["config"]["Cmd"] == ["serve", "/configs"]
    assert LABEL not in config["config"]["Labels"]
    content = file_of(layers, "configs/foo/catalog.json")
    assert [json.loads(line)["schema"] for line in content.splitlines()] == ["olm.package", "olm.channel", "olm.bundle"]


def test_everything_of_a_database_goes_along_untouched(source, tmp_path):
    before = len(source.requests)
    done = run(
        *("hub-export", "create", "--catalog", f"{source.host}/example/index:v1", "--full", "--insecure", source.host),
        *("--signatures", "ignore", "--output", tmp_path / "out"),
    )
    assert done.status == 0, done.stderr
    catalog = json.loads((tmp_path / "out/inventory.json").read_bytes())["catalogs"][0]
    assert (catalog["format"], catalog["filtered"], catalog["image"]) == ("sqlite", False, catalog["digest"])
    blobs = [request.path for request in source.requests[before:] if "/blobs/" in request.path]
    assert len(blobs) == len(set(blobs)), "its layers and configs were read for the plan, and are in the store"


def test_list_reads_a_file_on_disk(source, tmp_path):
    path = tmp_path / "index.db"
    path.write_bytes(databases.real("schema-05"))
    done = run("hub-export", "list", "--catalog", path, "--format", "json")
    assert done.status == 0, done.stderr
    assert [one["name"] for one in done.json["catalogs"][0]["packages"]] == ["etcd", "prometheus", "strimzi-kafka-operator"]


@pytest.mark.parametrize(
    ("name", "message"),
    [("none", "and without a database, so no catalog"), ("wrong", "has no SQLite file /y.db, where its label says")],
)
def test_images_without_a_catalog_are_distinguished(source, tmp_path, name, message):
    done = create(source, name, tmp_path / "out")
    assert done.status == 2
    assert message in done.stderr


def test_a_truncated_file_is_reported_with_its_name(tmp_path):
    path = tmp_path / "index.db"
    path.write_bytes(databases.real("schema-05")[:100_000])
    done = run("hub-export", "list", "--catalog", path)
    assert done.status == 1
    assert f"{path}: an SQLite file that cannot be read" in done.stderr


def test_a_new_head_without_objects_gets_them_from_its_bundle_image(source, tmp_path):
    done = create(source, "lost", tmp_path / "out")
    assert done.status == 0, done.stderr
    assert [one for one in done.json["problems"] if "OLM will not list it" in one["message"]] == []
    with FakeRegistry() as mirror:
        _, layers, _ = carried(mirror, tmp_path / "out")
    (csv, objects), *_ = databases.rows(file_of(layers, "database/index.db"), "SELECT csv, bundle FROM operatorbundle")
    assert json.loads(csv)["spec"]["description"] == "from the bundle image"
    assert [json.loads(line)["kind"] for line in objects.splitlines()] == ["CustomResourceDefinition", "ClusterServiceVersion"]


def test_for_openshift_4_3_every_bundle_has_its_contents_inside(source, tmp_path):
    common = ("--insecure", source.host, "--signatures", "ignore", "--skip-dependencies", "--format", "json")
    for release, inside in (("4.3", 3), ("4.5", 1)):
        done = run(
            *("hub-export", "create", "--catalog", f"{source.host}/example/lost:v1", "--package", "foo:stable@1.0.0.."),
            *("--openshift-release", release, "--output", tmp_path / release, *common),
        )
        assert done.status == 3, done.stderr
        assert {one["code"] for one in done.json["problems"]} == {"tag-unmirrorable"}  # this catalog names its images by tag
        with FakeRegistry() as mirror:
            _, layers, _ = carried(mirror, tmp_path / release)
        content = file_of(layers, "database/index.db")
        assert databases.rows(content, "SELECT count(*) FROM operatorbundle WHERE coalesce(bundle, '') <> ''") == [(inside,)]
        assert databases.rows(content, "SELECT count(*) FROM operatorbundle") == [(3,)]


def unreadable(done):
    return [one for one in done.json["problems"] if one["code"] == "bundle-unreadable"]


def test_every_file_that_the_catalog_lacks_is_an_error_for_openshift_4_3(source, tmp_path):
    """OLM of 4.3 installs what the catalog has inside. A plain `=` is no fault there (prometheus-operator#4955)."""
    manifests = {
        "manifests/foo.clusterserviceversion.yaml": databases.csv("foo.v1", "1.0.0"),
        "manifests/alerts.yaml": b"kind: CustomResourceDefinition\nspec: {enum: ['!=', =, =~]}\n",
        "manifests/broken.yaml": b"kind: CustomResourceDefinition\nspec: [\n",
        "manifests/tag": b"kind: ConfigMap\ndata: !!int ''\n",
        "manifests/two.yml": b"kind: Role\n---\nkind: [\n",
        "manifests/list.json": b"[1]",
        "manifests/empty.yaml": b"# nothing yet\n",
        "manifests/README": b"a: b: c\n",
    }
    source.add_image("example/foo", image((manifests,)), tag="1.0.0")
    broken_csv = {"manifests/foo.clusterserviceversion.yaml": b"kind: ClusterServiceVersion\nspec: ["}
    source.add_image("example/foo", image((broken_csv,)), tag="2.0.0")
    done = run(
        *("hub-export", "create", "--catalog", f"{source.host}/example/lost:v1", "--package", "foo:stable@1.0.0.."),
        *("--openshift-release", "4.3", "--output", tmp_path / "out", "--insecure", source.host, "--signatures", "ignore"),
        *("--skip-dependencies", "--format", "json"),
    )
    assert done.status == 3, done.stderr
    found = unreadable(done)
    assert {(one["severity"], one["subject"]) for one in found} == {
        ("error", f"{source.host}/example/foo:1.0.0"),
        ("error", f"{source.host}/example/foo:2.0.0"),
    }
    assert all(f"needed by lost/foo/foo.v{one['subject'][-5]}" in one["message"] for one in found)
    files = (
        "broken.yaml:3:1",
        "tag:2:7",
        "two.yml:4:1",
        "list.json: not a Kubernetes object",
        "foo.clusterserviceversion.yaml:3:1",
    )
    assert len(found) == len(files)
    for file in files:
        assert any(file in one["message"] for one in found), (file, found)
    with FakeRegistry() as mirror:
        _, layers, _ = carried(mirror, tmp_path / "out")
    content = file_of(layers, "database/index.db")
    ((objects,),) = databases.rows(content, "SELECT bundle FROM operatorbundle WHERE name = 'foo.v1'")
    kinds = [json.loads(line)["kind"] for line in objects.splitlines()]
    assert kinds == ["CustomResourceDefinition", "ClusterServiceVersion", "Role"]


def test_a_database_whose_resources_cannot_be_read_is_named_where_they_are_installed(source, tmp_path):
    broken = """UPDATE operatorbundle SET bundle = bundle || '{"kind": "Role", ' WHERE name = 'foo.v3'"""
    content = databases.changed(databases.replaced(databases.database(13), "quay.io/example", f"{source.host}/example"), broken)
    config = {"Entrypoint": ["/bin/opm"], "Cmd": ["registry", "serve", "--database", "/database/index.db"]}
    source.add_image(
        "example/torn",
        catalog_image(content, "database/index.db", labels={LABEL: "/database/index.db"}, config=config),
        tag="v1",
    )
    common = ("--insecure", source.host, "--signatures", "ignore", "--skip-dependencies", "--format", "json")
    asked = ("hub-export", "plan", "--catalog", f"{source.host}/example/torn:v1", "--package", "foo:stable@3.0.0")
    done = run(*asked, "--openshift-release", "4.3", *common)
    assert [(one["severity"], one["subject"]) for one in unreadable(done)] == [("error", "foo/foo.v3")]
    assert "olm.bundle.object 3 of foo.v3: it cannot be read" in unreadable(done)[0]["message"]
    assert unreadable(run(*asked, *common)) == []  # from its bundle image, by a release that can


def planned(source, name, changes, *options):
    content = databases.replaced(databases.database(13), "quay.io/example", f"{source.host}/example")
    for change in changes:
        content = databases.changed(content, change)
    config = {"Entrypoint": ["/bin/opm"], "Cmd": ["registry", "serve", "--database", "/database/index.db"]}
    made = catalog_image(content, "database/index.db", labels={LABEL: "/database/index.db"}, config=config)
    source.add_image(f"example/{name}", made, tag="v1")
    common = ("--insecure", source.host, "--signatures", "ignore", "--skip-dependencies", "--format", "json")
    return run("hub-export", "plan", "--catalog", f"{source.host}/example/{name}:v1", *options, *common)


@pytest.mark.parametrize("form", ["file-based", *more(["sqlite"])])
def test_a_property_that_opm_refuses_costs_its_package(source, form):
    """operator-framework/operator-registry#966: an olm.package property that is null made opm refuse the whole index."""
    null = "INSERT INTO properties (type, value, operatorbundle_name) VALUES ('olm.package', 'null', 'foo.v3')"
    image = f"{source.host}/example/foo:1.0.0"
    other = [
        f"INSERT INTO operatorbundle (name, bundlepath, version) VALUES ('bar.v1', '{image}', '1.0.0')",
        "INSERT INTO package (name, default_channel) VALUES ('bar', 'stable')",
        "INSERT INTO channel (name, package_name, head_operatorbundle_name) VALUES ('stable', 'bar', 'bar.v1')",
        (
            "INSERT INTO channel_entry (entry_id, channel_name, package_name, operatorbundle_name, depth) "
            "VALUES (900, 'stable', 'bar', 'bar.v1', 0)"
        ),
    ]
    done = planned(source, f"null-{form}", [*other, null], "--catalog-format", form, "--heads")
    assert done.status == 3, done.stderr
    (problem,) = [one for one in done.json["problems"] if one["subject"] == "foo/foo.v3" and one["code"] == "catalog-invalid"]
    assert "left out, for OLM would refuse it: has 2 readable olm.package properties" in problem["message"]
    assert [one["name"] for one in done.json["catalogs"][0]["packages"]] == ["bar"]


def test_a_bundle_of_a_database_of_which_no_image_is_known_is_an_error(source):
    """The bundle image cannot be read, and neither the table nor a ClusterServiceVersion names an image."""
    source.add_image("example/foo", image(({"manifests/foo.clusterserviceversion.yaml": b"kind: ["},)), tag="3.0.0")
    blank = "UPDATE operatorbundle SET csv = NULL, bundle = NULL"
    alone = planned(source, "alone", [blank, "DELETE FROM related_image"], "--package", "foo:stable@3.0.0")
    assert [one["severity"] for one in unreadable(alone)] == ["error"]
    assert alone.status == 3
