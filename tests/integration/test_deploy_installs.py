"""An image set says what to install: one `deploy` ends with running operators."""

from __future__ import annotations

import json

import pytest
import yaml

from tests.fakes.cluster import FakeCluster
from tests.fakes.commands import run
from tests.fakes.factories import image
from tests.fakes.registry import FakeRegistry
from tests.fakes.sites import Site, made_once
from tests.samples import more

pytestmark = pytest.mark.integration
CONFIGS = "operators.operatorframework.io.index.configs.v1"
SERVE = {"Entrypoint": ["/bin/opm"], "Cmd": ["serve", "/configs"]}


def blobs(source, name, modes):
    """Return the catalog of one package, whose head states its install modes."""
    bundle = image(({"manifests/csv.yaml": f"kind: ClusterServiceVersion\nname: {name}\n".encode()},))
    source.add_image(f"example/{name}", bundle, tag="1.0.0")
    stated = {
        "annotations": {"operatorframework.io/suggested-namespace": f"{name}-system"},
        "installModes": [{"type": each, "supported": True} for each in modes],
    }
    properties = [
        {"type": "olm.package", "value": {"packageName": name, "version": "1.0.0"}},
        {"type": "olm.gvk", "value": {"group": "example.com", "version": "v1", "kind": name.title()}},
        {"type": "olm.csv.metadata", "value": stated},
    ]
    return [
        {"schema": "olm.package", "name": name, "defaultChannel": "stable"},
        {"schema": "olm.channel", "package": name, "name": "stable", "entries": [{"name": f"{name}.v1.0.0"}]},
        {
            "schema": "olm.bundle",
            "package": name,
            "name": f"{name}.v1.0.0",
            "image": f"{source.host}/example/{name}@{bundle.digest}",
            "properties": properties,
            "relatedImages": [],
        },
    ]


def export_installs(folder):
    with FakeRegistry() as source:
        listed = [*blobs(source, "alpha", ["AllNamespaces"]), *blobs(source, "beta", ["OwnNamespace"])]
        content = "\n".join(map(json.dumps, listed)).encode()
        catalog = image(({"bin/opm": b"opm"}, {"configs/catalog.json": content}), labels={CONFIGS: "/configs"}, config=SERVE)
        source.add_image("example/index", catalog, tag="v1")
        packages = [{"name": "alpha", "install": True}, {"name": "beta"}]
        operators = [{"catalog": f"{source.host}/example/index:v1", "packages": packages}]
        document = {"apiVersion": "hub-airgap/v1", "kind": "ImageSetConfiguration", "mirror": {"operators": operators}}
        (folder / "imageset.yaml").write_text(yaml.safe_dump(document))
        done = run(
            *("hub-export", "create", folder / "imageset.yaml", "--insecure", source.host, "--signatures", "ignore"),
            *("--output", folder / "archive"),
        )
        assert done.status == 0, done.stderr
        flags = run(
            *("hub-export", "plan", "--catalog", f"{source.host}/example/index:v1", "--package", "beta", "--install", "alpha"),
            *("--insecure", source.host, "--signatures", "ignore", "--format", "json"),
        )
        (folder / "plan.json").write_text(flags.stdout)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    return made_once(tmp_path_factory, export_installs)


def installs(catalog):
    return {package["name"]: package.get("install", False) for package in catalog["packages"]}


def test_flags_and_image_sets_list_what_to_install(exported):
    document = json.loads((exported / "plan.json").read_text())
    assert installs(document["catalogs"][0]) == {"alpha": True, "beta": False}
    assert document["imageSet"]["apiVersion"] == "hub-airgap/v1"
    inventory = json.loads((exported / "archive" / "inventory.json").read_text())
    assert installs(inventory["catalogs"][0]) == {"alpha": True, "beta": False}


def test_one_deploy_ends_with_running_operators(exported, tmp_path):
    with FakeCluster("4.18") as cluster, FakeRegistry() as mirror:
        cluster.plays_installs = True
        here = Site(cluster, mirror, exported / "archive", tmp_path)
        kinds = {"Namespace", "OperatorGroup", "Subscription"}
        dry = here.run("deploy", "--dry-run").json["apply"]
        assert {each["kind"] for each in dry["changes"] if each["action"] == "created"} >= kinds
        left = here.run("deploy", "--dry-run", "--no-install").json["apply"]
        assert not kinds & {each["kind"] for each in left["changes"]}
        before = here.state()
        done = here.run("deploy")
        assert done.status == 0, done.stderr
        assert done.json["apply"]["installed"] == [{"package": "alpha", "state": "alpha.v1.0.0 is installed", "approve": None}]
        subscription = cluster.get("Subscription", "alpha", "alpha-system")
        assert subscription["spec"]["source"] == here.catalog
        assert cluster.names("Subscription") == ["alpha"]
        undone = here.ask("undo", "--yes")
        assert undone.status == 0, undone.stderr
        by_itself = {key for key in here.state() if "kube-root-ca" in key or "serviceaccounts" in key}
        assert here.state().keys() - by_itself == before.keys()


@pytest.mark.parametrize("release", more(["4.20", "4.18"]))
def test_a_cluster_that_has_olm_v1_alone(exported, tmp_path, release):
    """Without the capability OperatorLifecycleManager a cluster has no CatalogSource, and without marketplace no OperatorHub."""
    with FakeCluster(release) as cluster, FakeRegistry() as mirror:
        cluster.plays_installs = True
        gone = ("operators.coreos.com", "packages.operators.coreos.com")
        cluster.kinds = tuple(each for each in cluster.kinds if each.group not in gone and each.kind != "OperatorHub")
        here = Site(cluster, mirror, exported / "archive", tmp_path)
        refused = here.run("deploy")
        assert (refused.status, "olm-classic-absent" in refused.stderr, "--no-install" in refused.stderr) == (6, True, True)
        done = here.run("deploy", "--no-install")
        assert done.status == 0, done.stderr
        kinds = {each["kind"] for each in done.json["apply"]["changes"] if each["action"] == "created"}
        assert ("ClusterCatalog" in kinds, "CatalogSource" in kinds) == (True, False)
        assert "ClusterCatalog index: serving" in done.stderr
        assert here.ask("install", "alpha", "--yes").status == 6
        installed = here.ask("install", "alpha", "--olm", "v1", "--archive", here.archive, "--yes")
        assert installed.json["operators"][0]["state"] == "alpha.v1.0.0 is installed"
        assert {each["code"] for each in installed.json["findings"]} == {"cluster-admin-account"}
        found = here.ask("status")
        assert (found.status, [each["state"] for each in found.json["catalogs"]]) == (0, ["serving"]), found.stderr
        image = cluster.get("ClusterCatalog", here.catalog)["spec"]["source"]["image"]["ref"]
        cluster.store.delete(cluster._key({"kind": "ClusterCatalog", "metadata": {"name": here.catalog}}))
        lost = here.ask("status")
        assert (lost.status, [each["state"] for each in lost.json["catalogs"]]) == (6, ["absent"])
        assert "index" in here.ask("install", "beta", "--olm", "v1", "--archive", here.archive, "--yes").stderr
        cluster.add("ClusterCatalog", here.catalog, spec={"source": {"type": "Image", "image": {"ref": image}}})
        undone = here.ask("undo", "--yes")
        stays = [each for each in undone.json["objects"] if each["outcome"] == "refused"]
        assert {each["kind"] for each in stays} >= {"ClusterExtension", "ClusterRoleBinding", "ServiceAccount", "Namespace"}


@pytest.mark.more
def test_the_command_asks_and_reports(exported, tmp_path):
    with FakeCluster("4.18") as cluster, FakeRegistry() as mirror:
        cluster.plays_installs = True
        here = Site(cluster, mirror, exported / "archive", tmp_path)
        assert here.run("deploy", "--no-install").status == 0
        asked = here.ask("install", "beta")
        assert (asked.status, "confirmation needs a terminal" in asked.stderr) == (2, True)
        done = here.ask("install", "beta", "--archive", here.archive, "--approval", "manual", "--yes")
        assert done.status == 0, done.stderr
        (one,) = done.json["operators"]
        wanted = {
            "package": "beta",
            "namespace": "beta-system",
            "olm": "v0",
            "channel": "stable",
            "version": "beta.v1.0.0",
            "catalog": here.catalog,
            "installMode": "OwnNamespace",
            "operatorGroup": "beta-system",
            "approval": "Manual",
            "present": False,
        }
        assert wanted.items() <= one.items()
        assert one["approve"].startswith("oc patch installplan ")
        assert {each["kind"] for each in done.json["changes"]} == {"Namespace", "OperatorGroup", "Subscription"}
        lost = here.text("install", "gamma", "--yes")
        assert (lost.status, "no catalog that is served has the package" in lost.stderr) == (6, True)
        path = here.text("install", "/media/stick", "--yes")
        assert (path.status, "hub-import deploy" in path.stderr) == (2, True)
        # The installation waits for approval: the cluster is well with it.
        assert here.ask("status").json["installPlans"][0]["phase"] == "RequiresApproval"
