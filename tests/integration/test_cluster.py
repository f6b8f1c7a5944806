"""Applying and waiting on every release: the objects of the gate table, and none of it twice."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
import yaml

from importer.cluster.api.client import connect
from importer.cluster.api.discovery import release_of, running_version
from importer.cluster.apply import apply
from importer.cluster.readiness.readiness import ExpectedCatalog, offers
from importer.cluster.readiness.wait import Lines, wait_healthy
from tests.fakes.clock import FakeClock
from tests.fakes.cluster import FakeCluster
from tests.fakes.cluster_simulator import MARKETPLACE
from tests.fakes.servers import require
from tests.fakes.wanted import CA, DIGEST, HOST_KEY, IMAGE, catalog_source, mirror_rules, package, wanted
from tests.samples import RELEASES

NAME = "hub-redhat-operators"
DEFAULT_CATALOGS = [f"openshift-{name}-operators" for name in ("certified", "community", "redhat")]


def run(client, resources):
    return apply(client, resources, release=release_of(running_version(client)), dry_run=False, tell=lambda _line: None)


@pytest.mark.parametrize("release", RELEASES)
def test_a_cluster_ends_with_the_objects_of_its_release(tmp_path: Path, release):
    minor = int(release.partition(".")[2])
    with FakeCluster(release) as cluster, connect(cluster.kubeconfig(tmp_path), None) as client:
        run(client, wanted(release))
        assert {kind: cluster.names(kind) for kind in ("CatalogSource", "ImageContentSourcePolicy", "ConfigMap")} == {
            "CatalogSource": [NAME],
            "ImageContentSourcePolicy": [NAME] if minor < 13 else [],
            "ConfigMap": ["hub-registry-ca"],
        }
        assert cluster.names("ImageDigestMirrorSet") == ([NAME] if minor >= 13 else [])
        assert cluster.names("ImageTagMirrorSet") == []
        assert cluster.names("ClusterCatalog") == ([NAME, *DEFAULT_CATALOGS] if minor >= 18 else [])
        assert cluster.get("OperatorHub", "cluster")["spec"] == {"disableAllDefaultSources": True}
        assert cluster.get("ConfigMap", "hub-registry-ca", "openshift-config")["data"] == {HOST_KEY: CA}
        assert cluster.get("CatalogSource", NAME, MARKETPLACE)["spec"]["image"] == IMAGE
        assert cluster.pruned == []


def test_plain_kubernetes_gets_its_catalog_source(tmp_path: Path):
    with FakeCluster(None) as cluster, connect(cluster.kubeconfig(tmp_path), None) as client:
        run(client, wanted(None))
        assert cluster.get("CatalogSource", NAME, "olm")["spec"]["image"] == IMAGE
        assert len(cluster.writes) == 1


@pytest.mark.parametrize("release", [*RELEASES, None])
def test_a_second_apply_changes_nothing(tmp_path: Path, release):
    with FakeCluster(release) as cluster, connect(cluster.kubeconfig(tmp_path), None) as client:
        run(client, wanted(release))
        before = cluster.versions()
        again = run(client, wanted(release))
        assert again.changed == ()
        assert len(again.changes) >= len([resource for resource in wanted(release) if not resource.shared])
        assert cluster.versions() == before


@pytest.mark.parametrize("release", [*RELEASES, None])
def test_it_becomes_healthy(tmp_path: Path, release):
    with FakeCluster(release) as cluster, connect(cluster.kubeconfig(tmp_path), None) as client:
        packages = (package("alpha"), package("beta"))
        cluster.catalog_contents[DIGEST] = packages
        run(client, wanted(release))
        time, lines = FakeClock(), []
        namespace = MARKETPLACE if release else "olm"
        wait_healthy(
            client,
            [ExpectedCatalog(NAME, namespace, IMAGE, offers(packages))],
            release=release_of(running_version(client)),
            timeout_s=60,
            display=Lines(lines.append),
            clock=time.clock.monotonic_s,
            sleep=time.clock.sleep,
        )
        assert any(f"packages of {NAME}: 2 of 2 listed" in line for line in lines)
        assert any(line.split(" ", 1)[1].startswith("MachineConfigPool worker: 3 of 3") for line in lines) == (
            release is not None
        )
        before = cluster.versions()
        assert run(client, wanted(release)).changed == ()
        assert cluster.versions() == before


def test_interrupted_anywhere_the_next_apply_ends_in_the_same_state(tmp_path: Path):
    def state(cluster: FakeCluster) -> dict:
        kinds = ("OperatorHub", "Image", "ConfigMap", "CatalogSource", "ImageDigestMirrorSet", "ClusterCatalog")
        return {
            f"{kind}/{name}": cluster.store.get(key).get("spec", cluster.store.get(key).get("data"))
            for kind in kinds
            for key in cluster.store.keys(cluster.kind(kind))
            for name in [key.name]
        }

    class StoppedError(Exception):
        """As if the user had pressed Ctrl-C."""

    with FakeCluster() as whole, connect(whole.kubeconfig(tmp_path), None) as client:
        count = len(run(client, wanted("4.18")).changes)
        expected = state(whole)
    for stop in range(count):
        lines: list[str] = []

        def tell(line: str, lines: list[str] = lines, stop: int = stop) -> None:
            lines.append(line)
            if len(lines) > stop:
                raise StoppedError

        with FakeCluster() as cluster, connect(cluster.kubeconfig(tmp_path), None) as client:
            with pytest.raises(StoppedError):
                apply(client, wanted("4.18"), release=release_of(running_version(client)), dry_run=False, tell=tell)
            run(client, wanted("4.18"))
            assert state(cluster) == expected


def kubectl(config: Path, *arguments: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run kubectl, with its caches next to the kubeconfig."""
    command = [require("kubectl"), "--kubeconfig", str(config), "--cache-dir", str(config.parent / "cache"), *arguments]
    environment = {"PATH": os.environ["PATH"], "HOME": str(config.parent)}
    return subprocess.run(command, input=given, capture_output=True, text=True, check=False, timeout=120, env=environment)


@pytest.mark.integration
def test_kubectl_reads_what_was_applied(tmp_path: Path):
    with FakeCluster("4.20") as cluster:
        config = cluster.kubeconfig(tmp_path)
        with connect(config, None) as client:
            run(client, wanted("4.20"))
        read = kubectl(config, "get", "catalogsources,configmaps", "--all-namespaces", "-o", "json")
        assert read.returncode == 0, read.stderr
        items = json.loads(read.stdout)["items"]
        assert [(item["kind"], item["metadata"]["name"]) for item in items] == [
            ("CatalogSource", NAME),
            ("ConfigMap", "hub-registry-ca"),
        ]
        assert items[0]["spec"]["image"] == IMAGE
        rules = kubectl(config, "get", "imagedigestmirrorsets", NAME, "-o", "jsonpath={.spec.imageDigestMirrors[*].source}")
        assert rules.stdout == "registry.redhat.io/ubi registry.redhat.io/web"


@pytest.mark.integration
def test_objects_that_kubectl_applied_from_the_same_files_are_found(tmp_path: Path):
    with FakeCluster("4.18") as cluster:
        config = cluster.kubeconfig(tmp_path)
        documents = yaml.safe_dump_all([dict(catalog_source().body), dict(mirror_rules().body)])
        applied = kubectl(config, "apply", "--validate=false", "-f", "-", given=documents)
        assert applied.returncode == 0, applied.stderr
        with connect(config, None) as client:
            result = run(client, [catalog_source(), mirror_rules()])
        assert result.changed == ()
        again = kubectl(config, "apply", "--validate=false", "-f", "-", given=documents)
        assert again.stdout.count("unchanged") == 2


@pytest.mark.integration
def test_kubectl_patches_and_applies_on_the_servers_side(tmp_path: Path):
    with FakeCluster("4.18") as cluster:
        config = cluster.kubeconfig(tmp_path)
        patch = '{"spec": {"disableAllDefaultSources": true}}'
        patched = kubectl(config, "patch", "operatorhubs", "cluster", "--type", "merge", "-p", patch)
        assert patched.returncode == 0, patched.stderr
        assert cluster.get("OperatorHub", "cluster")["spec"] == {"disableAllDefaultSources": True}
        document = yaml.safe_dump(dict(catalog_source().body))
        served = ("apply", "--server-side", "--validate=false", "-f", "-")
        applied = kubectl(config, *served, given=document)
        assert applied.returncode == 0, applied.stderr
        assert cluster.get("CatalogSource", NAME, MARKETPLACE)["spec"]["image"] == IMAGE
        with connect(config, None) as client:
            assert run(client, [catalog_source()]).changed == ()
        other = kubectl(config, *served, "--field-manager", "other", given=document.replace("Red Hat", "Other"))
        assert other.returncode != 0
        assert "conflict" in other.stderr
