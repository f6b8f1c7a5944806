"""MicroShift: OLM of OpenShift without packageserver, marketplace and machine config operator.

openshift/microshift: docs/user/howto_config.md (ConfigMap `microshift-version` in `kube-public`),
assets/optional/operator-lifecycle-manager (namespaces, restricted pods), microshift#6575 (the namespace denies traffic);
operator-framework-olm#1008 (no packageserver).
"""

from __future__ import annotations

import tomllib

import pytest

from common.errors import ClusterError, UsageError
from importer.cli.cluster_tables import status_table
from importer.cluster.api.discovery import identify
from importer.cluster.apply import apply
from importer.cluster.preflight import Intent, circumstances, permissions, rollout
from importer.cluster.readiness.readiness import ExpectedCatalog, offers
from importer.cluster.readiness.wait import Lines, wait_healthy
from importer.cluster.record import Recorder, record_namespace
from importer.cluster.release import Release
from importer.cluster.resources.build import ResourceOptions, build
from importer.configure.applied import Applied
from importer.configure.credentials import node_credential
from importer.configure.files.render import render_archive
from importer.configure.undo import undo
from importer.diagnose.health import examine
from importer.mapping import Mirror, map_images
from importer.settings import ClusterSettings
from tests.fakes.clock import FakeClock
from tests.fakes.inventories import A, B, catalog, image, inventory
from tests.fakes.wanted import package
from tests.samples import more

MIRROR = Mirror.parse("mirror.example:5000/hub")
PACKAGES = (package("alpha"),)
CARRIED = inventory(image(f"quay.io/x/alpha@{A}"), catalogs=(catalog(packages=PACKAGES),))
SQLITE = inventory(catalogs=(catalog(format="sqlite"),))


class Edge:
    """A MicroShift that an archive is applied to."""

    def __init__(self, cluster, client, options=None, carried=CARRIED) -> None:
        self.cluster, self.client = cluster, client
        cluster.catalog_contents[B] = PACKAGES
        self.identity = identify(client)
        self.release = self.identity.release
        self.built = build(carried, map_images(carried, MIRROR), MIRROR, self.release, options or ResourceOptions())
        self.recorder = Recorder(client, record_namespace(client))

    def apply(self):
        done = apply(self.client, self.built.resources, release=self.release, dry_run=False, tell=str, recorder=self.recorder)
        (source,) = [each.body for each in self.built.resources if each.kind == "CatalogSource"]
        pinned = source["spec"].get("image") or f"mirror.example:5000/hub/redhat/redhat-operator-index@{B}"
        expected = ExpectedCatalog("redhat-operators", "openshift-marketplace", pinned, offers(PACKAGES))
        self.recorder.expect([expected])
        lines, clock = [], FakeClock().clock
        wait_healthy(
            self.client,
            [expected],
            release=self.release,
            timeout_s=60,
            display=Lines(lines.append),
            clock=clock.monotonic_s,
            sleep=clock.sleep,
        )
        return done, lines


@pytest.mark.parametrize("release", ["4.18", *more(["4.20"])])
def test_an_archive_is_applied_and_ready_alone_ends_the_wait(start, tmp_path, release):
    """Seen before: no namespace `olm`, then 45 minutes of "the cluster serves no PackageManifests"."""
    edge = Edge(*start(release, microshift=True))
    assert str(edge.identity).endswith(f"MicroShift {release}.40)")
    assert (edge.release, edge.release.microshift) == (Release.parse(release), True)
    assert not list(permissions(edge.client, Intent(edge.built.resources, edge.release, MIRROR.host)))
    intent = Intent(edge.built.resources, edge.release, MIRROR.host, node_rules=edge.built.node_rules)
    found = circumstances(edge.client, intent)
    assert {one.code for one in found} == {"node-mirrors-unseen"}
    done, lines = edge.apply()
    assert [(one.kind, one.namespace) for one in done.changes] == [("CatalogSource", "openshift-marketplace")]
    assert not rollout(edge.client, intent, done.changes)
    assert not any("packages" in line or "Pool" in line for line in lines)
    applied = Applied(done, (), done=True, cluster=edge.identity, findings=tuple(found))
    assert applied.verdict.startswith("OLM has a connection to each catalog. Nodes can pull")
    assert f"hub-import render --openshift-release {release} --microshift" in applied.verdict
    kubeconfig = edge.cluster.kubeconfig(tmp_path)
    health = examine(ClusterSettings(kubeconfig=kubeconfig))
    assert health.healthy
    # The record says what it should list. Seen before: "what it should list is not known".
    assert any(line.endswith("MicroShift lists no packages") for line in status_table(health))
    assert [one.code for one in health.findings] == ["node-mirrors-unseen"]
    undo(ClusterSettings(kubeconfig=kubeconfig), str, lambda _would: True)
    assert edge.cluster.names("CatalogSource") == []


def test_a_catalog_by_address_is_let_through_and_its_pods_are_restricted(start):
    """Neighbours: --serve-catalog, whose pod no policy of OLM covers; an SQLite catalog, which is `legacy` elsewhere."""
    edge = Edge(*start("4.18", microshift=True), options=ResourceOptions(serve_catalog=True))
    done, _ = edge.apply()
    assert {"NetworkPolicy", "Deployment", "Service", "CatalogSource"} == {one.kind for one in done.changes}
    old = Edge(edge.cluster, edge.client, carried=SQLITE)
    (source,) = old.built.resources
    assert source.body["spec"]["grpcPodConfig"]["securityContextConfig"] == "restricted"


def test_a_release_that_is_given_is_still_that_of_microshift(start):
    _, client = start("4.18", microshift=True)
    given = identify(client, Release(4, 16))
    assert (given.release, given.release.microshift, given.release.rule_kinds) == (Release(4, 16), True, ())


@pytest.mark.parametrize("release", [None, Release(4, 18, microshift=True)])
def test_a_credential_for_nodes_has_no_place_there(release, tmp_path):
    settings = ClusterSettings(authfile=tmp_path / "auth.json")
    with pytest.raises(UsageError, match="no pull secret of the nodes") as raised:
        node_credential(MIRROR, release, settings)
    assert ("openshift-pull-secret" in raised.value.hint) is (release is not None)


def test_a_version_that_names_no_release_is_an_error_and_plain_kubernetes_has_none(start):
    cluster, client = start("4.18", microshift=True)
    cluster.put(
        {"kind": "ConfigMap", "metadata": {"name": "microshift-version", "namespace": "kube-public"}, "data": {"version": "x"}}
    )
    with pytest.raises(ClusterError, match=r"microshift-version .* names no release"):
        identify(client)
    cluster, client = start(None)
    cluster.forbidden.add(("get", "configmaps"))
    assert identify(client).release is None
    assert record_namespace(client) == "olm"


def test_render_writes_the_drop_in_of_its_node():
    release = Release(4, 18, microshift=True)
    files, built = render_archive(CARRIED, MIRROR, release, ResourceOptions())
    assert not built.problems
    dropin = "nodes/etc/containers/registries.conf.d/50-hub-import.conf"
    assert set(files) == {"catalogsource-redhat-operators.yaml", "kustomization.yaml", "mapping.txt", dropin}
    (entry,) = tomllib.loads(files[dropin].decode())["registry"]
    assert (entry["prefix"], entry["mirror"]) == ("quay.io/x/alpha", [{"location": "mirror.example:5000/hub/x/alpha"}])
