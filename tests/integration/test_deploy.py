"""From the archive to operators that OLM lists: deploy, apply and render as a person runs them."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
import yaml

from common.archive.inventory import Inventory
from common.archive.reader import Archive
from tests.fakes.cluster import FakeCluster
from tests.fakes.commands import run
from tests.fakes.servers import docker_registry
from tests.fakes.sites import shared_real
from tests.samples import RELEASES

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """An archive, and a mirror that has its images: (directory, host)."""
    home = tmp_path_factory.mktemp("made")
    archive = shared_real(tmp_path_factory)
    with docker_registry(home, name="mirror") as mirror:
        place = ["--registry", f"{mirror.host}/ocp", "--insecure", mirror.host]
        assert run("hub-import", "push", archive, *place).status == 0
        yield archive, mirror.host


def serving(cluster: FakeCluster, archive: Path) -> Inventory:
    """Let the cluster's OLM list what the catalog image of the archive has."""
    inventory = Archive.open([archive]).inventory
    for catalog in inventory.catalogs:
        cluster.catalog_contents[catalog.image] = catalog.packages
    return inventory


def to(cluster: FakeCluster, tmp_path: Path, host: str) -> list[str | Path]:
    return ["--registry", f"{host}/ocp", "--insecure", host, "--kubeconfig", cluster.kubeconfig(tmp_path), "--format", "json"]


def test_deploy_ends_with_operators_that_olm_lists_and_again_changes_nothing(made, tmp_path):
    archive, host = made
    with FakeCluster("4.18") as cluster:
        inventory = serving(cluster, archive)
        result = run("hub-import", "deploy", archive, *to(cluster, tmp_path, host), "--yes")
        assert result.status == 0, result.stderr
        assert result.json["push"]["ok"] is True
        assert result.json["apply"]["healthy"] is True
        source = cluster.get("CatalogSource", "redhat-operator-index", "openshift-marketplace")
        assert source["spec"]["image"] == f"{host}/ocp/redhat/redhat-operator-index@{inventory.catalogs[0].image}"
        assert cluster.get("OperatorHub", "cluster")["spec"]["disableAllDefaultSources"] is True
        assert "READY" in result.stderr
        before = cluster.versions()
        again = run("hub-import", "deploy", archive, *to(cluster, tmp_path, host))  # no --yes: nothing to agree to
        assert again.status == 0, again.stderr
        assert {change["action"] for change in again.json["apply"]["changes"]} == {"unchanged"}
        assert again.json["push"]["uploaded"] == 0
        assert cluster.versions() == before


def test_nothing_is_changed_without_agreement_or_in_a_dry_run(made, tmp_path):
    archive, host = made
    with FakeCluster("4.18") as cluster:
        serving(cluster, archive)
        before = cluster.versions()
        asked = run("hub-import", "apply", archive, *to(cluster, tmp_path, host))
        assert asked.status == 2
        assert "--yes" in asked.stderr
        assert "CatalogSource" in asked.stderr
        assert "registries.conf of the nodes: " in asked.stderr
        dry = run("hub-import", "apply", archive, *to(cluster, tmp_path, host), "--dry-run")
        assert dry.status == 0, dry.stderr
        assert dry.json["healthy"] is False
        sizes = dry.json["nodeConfiguration"]
        rules = [line for change in dry.json["changes"] if "MirrorSet" in change["kind"] for line in change["diff"]]
        assert sizes["sources"] == sum(" source:" in line or "- source" in line or '"source"' in line for line in rules) > 0
        assert (sizes["mirrorScope"], sizes["machineConfigLimit"]) == ("repository", 1_572_864)
        assert 0 < sizes["registriesConf"] < 10_000
        assert 0 < sizes["machineConfig"] < 10_000  # gzip
        assert {"created", "changed"} >= {change["action"] for change in dry.json["changes"]} - {"unchanged"}
        all_ = run("hub-import", "deploy", archive, *to(cluster, tmp_path, f"{host}"), "--dry-run")
        assert (all_.status, all_.json["push"]) == (0, None), all_.stderr
        assert cluster.versions() == before


def test_a_dry_run_pushes_nothing(made, tmp_path):
    archive, _ = made
    with FakeCluster("4.18") as cluster, docker_registry(tmp_path, name="untouched") as untouched:
        result = run("hub-import", "deploy", archive, *to(cluster, tmp_path, untouched.host), "--dry-run")
        assert result.status == 0, result.stderr
        assert not untouched.root.exists() or not list(untouched.root.rglob("*"))


def test_the_pull_secret_is_shown_before_it_is_changed(made, tmp_path):
    archive, host = made
    (tmp_path / "auth.json").write_text(
        f'{{"auths": {{"{host}": {{"auth": "{base64.b64encode(b"reader:only-reads").decode()}"}}}}}}'
    )
    with FakeCluster("4.18") as cluster:
        before = cluster.versions()
        flags = [*to(cluster, tmp_path, host), "--cluster-authfile", tmp_path / "auth.json"]
        dry = run("hub-import", "apply", archive, *flags, "--dry-run")
        assert dry.status == 0, dry.stderr
        assert {"action": "changed", "kind": "Secret"}.items() <= dry.json["changes"][0].items()
        assert "only-reads" not in dry.stdout + dry.stderr
        assert cluster.versions() == before


def test_a_release_that_cannot_serve_the_catalog_is_told_by_name(made, tmp_path):
    archive, host = made
    with FakeCluster("4.8") as cluster:
        result = run("hub-import", "apply", archive, *to(cluster, tmp_path, host), "--yes")
        assert result.status == 3, result.stderr
        (problem,) = result.json["problems"]
        assert problem["code"] == "catalog-unservable"
        assert "4.8" in problem["message"]
        assert cluster.names("CatalogSource") == []
        assert cluster.names("ImageContentSourcePolicy") == ["hub-redhat-operator-index"]


def test_an_unreachable_cluster_is_exit_code_6(made, tmp_path):
    archive, host = made
    with FakeCluster("4.18") as cluster:
        kubeconfig = to(cluster, tmp_path, host)
    result = run("hub-import", "apply", archive, *kubeconfig, "--yes")
    assert result.status == 6
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("release", RELEASES)
def test_render_writes_every_file_of_a_release_twice_the_same(made, tmp_path, release):
    archive, host = made
    (tmp_path / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\nMII=\n-----END CERTIFICATE-----\n")
    flags = ["--registry", f"{host}/ocp", "--openshift-release", release, "--ca", tmp_path / "ca.pem"]
    first = run("hub-import", "render", archive, *flags, "--output", tmp_path / "a")
    minor = int(release.partition(".")[2])
    assert first.status == (0 if minor >= 9 else 3), first.stderr
    run("hub-import", "render", archive, *flags, "--output", tmp_path / "b")
    files = {path.name: path.read_text() for path in (tmp_path / "a").iterdir()}
    assert files == {path.name: path.read_text() for path in (tmp_path / "b").iterdir()}
    expected = {"mapping.txt", "kustomization.yaml", "operatorhub.yaml", "registry-ca.yaml"}
    expected |= {"imagedigestmirrorset.yaml"} if minor >= 13 else {"imagecontentsourcepolicy.yaml"}
    # The tag v4.18 is in the name on any other release (ADR 0051).
    name = "redhat-operator-index" + ("" if minor == 18 else "-v4-18")
    expected |= {f"catalogsource-{name}.yaml"} if minor >= 9 else set()
    expected |= {"image-registry.yaml"} if minor < 5 else set()
    expected |= {f"clustercatalog-{name}.yaml", "clustercatalogs-default.yaml"} if minor >= 18 else set()
    assert set(files) == expected
    listed = yaml.safe_load(files["kustomization.yaml"])["resources"]
    assert set(listed) == expected - {"mapping.txt", "kustomization.yaml"}
    lines = files["mapping.txt"].splitlines()
    assert lines == sorted(lines)
    assert all("@sha256:" in line.partition("=")[0] and line.partition("=")[2].startswith(f"{host}/ocp/") for line in lines)


def test_render_for_another_kubernetes_writes_what_its_nodes_need(made, tmp_path):
    """operator-lifecycle-manager#3200: without a mirror in the container runtime no bundle can be pulled."""
    archive, host = made
    flags = ["--registry", f"{host}/ocp", "--insecure", host, "--output", tmp_path / "files"]
    done = run("hub-import", "render", archive, *flags, "--kubernetes", "--merge", tmp_path / "files")
    assert (done.status, "cannot be read" in done.stderr) == (2, True)
    done = run("hub-import", "render", archive, *flags, "--kubernetes")
    assert done.status == 0, done.stderr
    dropin = tmp_path / "files/nodes/etc/containers/registries.conf.d/50-hub-import.conf"
    assert f"{host}/ocp/" in dropin.read_text()
    assert list((tmp_path / "files/nodes/etc/containerd/certs.d").glob("*/hosts.toml"))
    both = run("hub-import", "render", archive, *flags, "--kubernetes", "--openshift-release", "4.18")
    neither = run("hub-import", "render", archive, *flags)
    assert (both.status, neither.status) == (2, 2)
    assert "Give either --openshift-release 4.N" in neither.stderr


VERBS = {"GET": "get", "POST": "create", "PATCH": "patch", "DELETE": "delete"}


def asked_of(cluster: FakeCluster) -> set[tuple[str, str, str]]:
    """Return (group, resource, verb) of every request that a cluster got."""
    found = set()
    for request in cluster.log:
        parts = request.path.strip("/").split("/")
        if parts == ["version"]:  # no resource: Kubernetes allows it to every account (`system:public-info-viewer`)
            continue
        group = "" if parts[0] == "api" else parts[1]
        rest = parts[2:] if parts[0] == "api" else parts[3:]
        if rest[:1] == ["namespaces"] and len(rest) > 2:
            rest = rest[2:]
        verb = VERBS[request.method]
        resource = "/".join([rest[0], *rest[2:3]])
        found.add((group, resource, "list" if verb == "get" and len(rest) == 1 else verb))
    return found


@pytest.mark.more  # in `make test`: test_least_privilege.py, where the cluster refuses what they do not grant
@pytest.mark.parametrize("release", ["4.12", "4.18"])
def test_the_cluster_role_covers_all_that_is_asked_for(made, tmp_path, release):
    archive, host = made
    (tmp_path / "auth.json").write_text(json.dumps({"auths": {host: {"auth": "dXNlcjpwYXNz"}}}))
    target = ["--registry", f"{host}/ocp", "--insecure", host]
    done = run(
        *("hub-import", "render", archive, *target, "--openshift-release", release, "--output", tmp_path / "files", "--rbac"),
    )
    assert done.status in (0, 3), done.stderr
    roles = list(yaml.safe_load_all((tmp_path / "files/rbac.yaml").read_text()))
    assert (roles[0]["kind"], roles[0]["metadata"]["name"]) == ("ClusterRole", "hub-import")
    assert all(role["kind"] == "Role" and role["metadata"]["namespace"].startswith("openshift-") for role in roles[1:])
    assert "rbac.yaml" not in (tmp_path / "files/kustomization.yaml").read_text()
    rules = [rule for role in roles for rule in role["rules"]]
    allowed = {(g, r, v) for rule in rules for g in rule["apiGroups"] for r in rule["resources"] for v in rule["verbs"]}
    allowed.add(("authorization.k8s.io", "selfsubjectaccessreviews", "create"))  # everybody may ask what they may
    # And who they are (ClusterRoles system:basic-user and basic-user).
    allowed |= {("authentication.k8s.io", "selfsubjectreviews", "create"), ("user.openshift.io", "users", "get")}
    assert all("*" not in one for one in allowed)
    with FakeCluster(release) as cluster:
        serving(cluster, archive)
        config = to(cluster, tmp_path, host)
        ended = run("hub-import", "deploy", archive, *config, "--yes", "--cluster-authfile", tmp_path / "auth.json")
        assert ended.status in (0, 3), ended.stderr
        assert run("hub-import", "doctor", "--kubeconfig", cluster.kubeconfig(tmp_path)).status in (0, 6)
        undone = run("hub-import", "undo", "--kubeconfig", cluster.kubeconfig(tmp_path), "--yes")
        assert undone.status == 0, undone.stderr
        assert asked_of(cluster) - allowed == set()
