"""Two releases of one catalog, from the image set to a cluster that is updated: Subscriptions stay with their catalog.

openshift/oc-mirror#820 (OCPBUGS-31344) is such an image set. The names alone: tests/unit/importer/cluster/resources/test_names.py.
"""

from __future__ import annotations

import json

import pytest

from tests.fakes.catalogs import bundle_blob, channel_blob, entry, package_blob, stream
from tests.fakes.cluster import FakeCluster
from tests.fakes.cluster_simulator import MARKETPLACE
from tests.fakes.cluster_store import Key
from tests.fakes.commands import run
from tests.fakes.factories import image
from tests.fakes.registry import FakeRegistry
from tests.fakes.sites import Site
from tests.fakes.sources import LABEL

pytestmark = pytest.mark.integration
CONFIG = {"Entrypoint": ["/bin/opm"], "Cmd": ["serve", "/configs"]}


# A bundle that runs nothing: one of which no image is known would be a problem.
CSV = b"kind: ClusterServiceVersion\nspec: {install: {spec: {deployments: []}}}\n"


@pytest.fixture(scope="module")
def source():
    with FakeRegistry() as registry:
        registry.add_image("org/app", image(({"manifests/csv.yaml": CSV},)), tag="v1")
        for repository, minor in (("redhat", 17), ("redhat", 18), ("acme", 18)):
            head = f"foo.v{minor}.0.0"
            blob = bundle_blob(head, f"{minor}.0.0", "foo") | {"image": f"{registry.host}/org/app:v1", "relatedImages": []}
            files = stream(package_blob("foo"), channel_blob("stable", [entry(head)], "foo"), blob, package_blob("rest"))
            layers = ({"bin/opm": b"opm"}, {"configs/catalog.json": files})
            made = image(layers, labels={LABEL: "/configs"}, config=CONFIG)
            registry.add_image(f"{repository}/my-index", made, tag=f"v4.{minor}")
        yield registry


@pytest.fixture(scope="module")
def export(source, tmp_path_factory):
    """Return a function that exports catalogs `REPOSITORY:TAG`, in their order."""
    folder = tmp_path_factory.mktemp("exports")

    def create(*catalogs, command="create"):
        operators = [{"catalog": f"{source.host}/{each}", "packages": [{"name": "foo"}]} for each in catalogs]
        document = {"apiVersion": "mirror.openshift.io/v2alpha1", "kind": "ImageSetConfiguration"}
        (folder / "set.yaml").write_text(json.dumps({**document, "mirror": {"operators": operators}}))
        output = folder / "-".join(catalogs).replace("/", "-")
        where = ["--output", output] if command == "create" else []
        if where and output.exists():
            return None, output
        more = ["--insecure", source.host, "--signatures", "ignore", "--format", "json"]
        done = run("hub-export", command, folder / "set.yaml", *where, *more)
        assert done.status == 0, done.stderr
        return done, output

    return create


OLD, NEW, ACME = "redhat/my-index:v4.17", "redhat/my-index:v4.18", "acme/my-index:v4.18"


@pytest.fixture(scope="module")
def both(export):
    return export(OLD, NEW)


def sources(site):
    """Return name → version that the CatalogSources of the cluster serve."""
    found = {}
    for name in site.cluster.names("CatalogSource"):
        body = site.cluster.get("CatalogSource", name, MARKETPLACE)
        if "hub-import" in str(body["metadata"].get("labels")):
            digest = body["spec"]["image"].rpartition("@")[2]
            found[name] = site.cluster.catalog_contents[digest][0].channels[0].head
    return found


def subscribe(cluster):
    cluster._ensure_namespace("team-a")
    spec = {"name": "foo", "channel": "stable", "source": "my-index", "sourceNamespace": MARKETPLACE}
    metadata = {"name": "my-foo", "namespace": "team-a"}
    cluster.put({"kind": "Subscription", "metadata": metadata, "spec": spec}, "another-manager")


def update(cluster, version):
    """Do what an update of the cluster does to its ClusterVersion."""
    entry = [{"state": "Completed", "version": version}]
    status = {"desired": {"version": version}, "history": entry}
    cluster.put({"kind": "ClusterVersion", "metadata": {"name": "version"}, "status": status}, "cluster-version-operator")


def test_the_archive_names_its_catalogs_and_says_what_they_share(both):
    """operator-lifecycle-manager#3161: two PackageManifests of one name, of which a read returns any."""
    done, archive = both
    listed = json.loads((archive / "inventory.json").read_text())["catalogs"]
    assert [each["name"] for each in listed] == ["my-index-v4-17", "my-index-v4-18"]
    note = "the catalogs my-index-v4-17, my-index-v4-18 have the same package foo: a cluster lists each of them once for each"
    assert note in done.stderr


def test_a_subscription_stays_fed_over_an_update_of_the_cluster(both, tmp_path):
    with FakeCluster("4.17") as cluster, FakeRegistry() as mirror:
        site = Site(cluster, mirror, both[1], tmp_path)
        assert site.run("deploy").status == 0
        assert sources(site) == {"my-index": "foo.v17.0.0", "my-index-v4-18": "foo.v18.0.0"}
        subscribe(cluster)
        versions = {key: version for key, version in cluster.versions().items() if "subscriptions" not in key}
        again = site.run("apply", yes=False)
        assert again.status == 0, again.stderr
        assert {key: version for key, version in cluster.versions().items() if "subscriptions" not in key} == versions
        codes = [each["code"] for each in again.json["findings"]]
        assert "package-in-two-catalogs" in codes
        assert "catalog-renamed" not in codes
        update(cluster, "4.18.3")
        after = site.run("apply")
        assert after.status == 0, after.stderr
        assert sources(site) == {
            "my-index": "foo.v18.0.0",
            "my-index-v4-17": "foo.v17.0.0",
            "my-index-v4-18": "foo.v18.0.0",
        }
        renamed = {each["subject"]: each for each in after.json["findings"] if each["code"] == "catalog-renamed"}
        assert set(renamed) == {f"CatalogSource {MARKETPLACE}/{name}" for name in ("my-index", "my-index-v4-18")}
        moved = renamed[f"CatalogSource {MARKETPLACE}/my-index"]
        assert moved["cause"] == "this import gives it redhat/my-index:v4.18; redhat/my-index:v4.17 is my-index-v4-17"
        assert moved["evidence"] == ["Subscription team-a/my-foo: operator foo"]
        assert '"source":"my-index-v4-17"' in moved["fix"]


@pytest.mark.more
def test_a_site_with_one_catalog_keeps_its_name_from_release_to_release(export, tmp_path):
    """As most image sets are: the tag changes with each release, before the update of the cluster or after it."""
    (_, old), (_, new) = export(OLD), export(NEW)
    with FakeCluster("4.17") as cluster, FakeRegistry() as mirror:
        Site(cluster, mirror, new, tmp_path)  # its images can be pulled
        site = Site(cluster, mirror, old, tmp_path)
        assert site.run("deploy").status == 0
        subscribe(cluster)
        site.archive = new
        early = site.run("deploy")
        assert early.status == 0, early.stderr
        assert sources(site) == {"my-index": "foo.v17.0.0", "my-index-v4-18": "foo.v18.0.0"}
        assert "After an update of the cluster to 4.18, apply again: it follows." in early.stderr
        assert "same 1 package" in early.stderr  # as the catalog that stays
        update(cluster, "4.18.3")
        after = site.run("apply")
        assert after.status == 0, after.stderr
        assert sources(site) == {"my-index": "foo.v18.0.0", "my-index-v4-18": "foo.v18.0.0"}
        (left,) = [each for each in after.json["findings"] if each["code"] == "catalog-renamed"]
        assert "oc delete catalogsource my-index-v4-18" in left["fix"]
        cluster.store.delete(Key(cluster.kind("CatalogSource"), MARKETPLACE, "my-index-v4-18"))
        assert site.ask("status").status == 0
        assert site.ask("undo", "--yes").status == 0
        assert sources(site) == {}


@pytest.mark.more
def test_repositories_of_one_last_component_do_not_replace_each_other(export, tmp_path):
    (_, redhat), (_, acme) = export(NEW), export(ACME)
    with FakeCluster("4.18") as cluster, FakeRegistry() as mirror:
        site = Site(cluster, mirror, redhat, tmp_path)
        assert site.run("deploy").status == 0
        other = Site(cluster, mirror, acme, tmp_path)
        assert other.run("deploy").status == 0
        assert sorted(sources(site)) == ["acme-my-index", "my-index"]
        assert site.run("apply").status == 0
        assert sorted(sources(site)) == ["acme-my-index", "my-index"]


def render(archive, output):
    where = ["--registry", "mirror.example/ocp", "--openshift-release", "4.18", "--output", output]
    done = run("hub-import", "render", archive, *where)
    assert done.status == 0, done.stderr
    return {each.name: each.read_text() for each in output.iterdir()}


def test_render_writes_a_file_for_each_name_that_says_which_release_it_is(both, tmp_path):
    files = render(both[1], tmp_path / "a")
    assert {"catalogsource-my-index.yaml", "catalogsource-my-index-v4-17.yaml", "clustercatalog-my-index.yaml"} <= set(files)
    assert "displayName: my-index v4.18 (mirrored)" in files["catalogsource-my-index.yaml"]
    assert "displayName: my-index v4.17 (mirrored)" in files["catalogsource-my-index-v4-17.yaml"]


@pytest.mark.more
def test_an_image_set_in_another_order_is_rendered_the_same(export, both, tmp_path):
    assert render(export(NEW, OLD)[1], tmp_path / "b") == render(both[1], tmp_path / "a")


def test_a_catalog_in_two_spellings_is_refused(tmp_path):
    """In one spelling the image set refuses it; names from content cannot tell the two apart."""
    folder = tmp_path / "configs"
    folder.mkdir()
    (folder / "catalog.json").write_bytes(stream(package_blob("foo"), channel_blob("stable", [entry("foo.v1")], "foo")))
    done = run("hub-export", "list", "--catalog", "configs", "--catalog", "./configs", cwd=tmp_path)
    assert done.status == 2, done.stderr
    assert "./configs and configs: one catalog is there twice" in done.stderr
