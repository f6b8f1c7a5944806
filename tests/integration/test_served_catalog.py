"""A catalog in an own Deployment: allowed in restricted namespaces, reached through a default deny; what a doctor sees of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from importer.cluster import preflight
from importer.cluster.api.client import connect
from importer.cluster.apply import apply
from importer.cluster.kinds import POD, Resource
from importer.cluster.preflight import Intent
from importer.cluster.readiness.readiness import ExpectedCatalog, offers
from importer.cluster.readiness.wait import Lines, wait_healthy
from importer.cluster.record import Recorder, record_namespace
from importer.cluster.release import Release
from importer.cluster.resources.catalog_source import address, serving
from importer.cluster.resources.permissions import needed
from importer.cluster.undo import undo
from importer.configure.files.render import render
from importer.diagnose import health
from importer.diagnose.state import Health
from importer.settings import ClusterSettings
from tests.fakes.cluster import FakeCluster
from tests.fakes.cluster_simulator import MARKETPLACE
from tests.fakes.wanted import DIGEST, IMAGE, catalog_source, operator_hub, package
from tests.samples import more

NAME = "hub-redhat-operators"
SERVING = f"{NAME}-serving"
PACKAGES = (package("alpha"), package("beta"))


def by_address(namespace=MARKETPLACE):
    body = catalog_source(namespace=namespace).body
    spec = {name: value for name, value in body["spec"].items() if name != "image"}
    return Resource.of({**body, "spec": {**spec, "address": address(NAME, namespace)}})


class Site:
    """A cluster whose catalog runs in an own Deployment, or with `served` False in OLM's pod."""

    def __init__(self, cluster: FakeCluster, folder: Path, *, served: bool = True, resources=None) -> None:
        self.cluster = cluster
        self.release = Release(*cluster.release) if cluster.release else None
        self.namespace = MARKETPLACE if cluster.release else "olm"
        cluster.catalog_contents[DIGEST] = PACKAGES
        cluster.ready_reads = 0
        self.kubeconfig = cluster.kubeconfig(folder)
        self.settings = ClusterSettings(kubeconfig=self.kubeconfig)
        both = [*serving(NAME, self.namespace, IMAGE, self.release), by_address(self.namespace)]
        with connect(self.kubeconfig, None) as client:
            recorder = Recorder(client, record_namespace(client))
            wanted = list(resources or (both if served else [catalog_source(namespace=self.namespace)]))
            wanted += [operator_hub()] if self.release else []
            apply(client, wanted, release=self.release, dry_run=False, tell=str, recorder=recorder)
            self.expected = ExpectedCatalog(NAME, self.namespace, IMAGE, offers(PACKAGES))
            recorder.expect([self.expected])

    def found(self) -> Health:
        health.examine(self.settings)  # time passes with every look
        return health.examine(self.settings)

    def mend(self) -> Health:
        return health.fix(self.settings, None, str, lambda _fixable: True)

    def undo(self):
        with connect(self.kubeconfig, None) as client:
            return undo(client, record_namespace(client), dry_run=False, tell=str)


@pytest.fixture
def site(tmp_path):
    opened = []

    def make(release: str | None, **options) -> Site:
        cluster = FakeCluster(release, tls=False)
        opened.append(cluster)
        return Site(cluster.__enter__(), tmp_path, **options)

    yield make
    for cluster in opened:
        cluster.__exit__(None, None, None)


@pytest.mark.parametrize("release", ["4.3", "4.20", None, *more(["4.12", "4.19"])])
def test_it_is_served_and_undone_on_every_release(site, release):
    here = site(release)
    found = here.found()
    unseen = [] if release else ["node-mirrors-unseen"]  # another Kubernetes has no resource for mirrors
    assert (found.healthy, [each.code for each in found.findings]) == (True, unseen)
    assert here.cluster.names("Deployment") == [SERVING]
    here.undo()
    left = here.cluster.names("Deployment") + here.cluster.names("Service")
    assert left + [name for name in here.cluster.names("NetworkPolicy") if name != "default-deny-all"] == []


@pytest.mark.parametrize(("release", "restricted"), [("4.3", False), ("4.10", False), ("4.11", True), ("4.20", True)])
def test_the_security_context_is_restricted_where_the_release_allows_that(release, restricted):
    deployment = serving(NAME, MARKETPLACE, IMAGE, Release.parse(release))[0].body
    pod = deployment["spec"]["template"]["spec"]
    assert ("securityContext" in pod) == ("securityContext" in pod["containers"][0]) == restricted
    assert "runAsUser" not in pod.get("securityContext", {})  # OpenShift gives one


@pytest.mark.parametrize(("release", "there"), [("4.19", False), ("4.20", True), ("4.22", True)])
def test_render_and_roles_have_the_network_policy_from_4_20_on(release, there):
    made = Release.parse(release)
    files = render(serving(NAME, MARKETPLACE, IMAGE, made), [])
    assert (b"NetworkPolicy" in files[f"catalog-{SERVING}.yaml"]) == there
    verbs = {one.verb for one in needed(made) if one.kind.name == "NetworkPolicy"}
    assert verbs == ({"create", "delete", "get", "patch"} if there else set())


def test_preflight_requires_network_policies_only_where_one_is_written(site):
    here = site("4.20")
    here.cluster.forbidden.add(("create", "networkpolicies"))
    with connect(here.kubeconfig, None) as client:
        written = [*serving(NAME, MARKETPLACE, IMAGE, here.release), catalog_source()]
        intent = Intent(written, here.release, "mirror.example:5000")
        (finding,) = preflight.permissions(client, intent)
        assert finding.evidence == (f"create networkpolicies.networking.k8s.io in {MARKETPLACE}",)
        assert list(preflight.permissions(client, replace(intent, resources=[catalog_source()]))) == []


def test_a_catalog_that_no_policy_lets_olm_reach_is_named_and_fixed(site):
    here = site("4.20")
    policy = here.cluster.get("NetworkPolicy", SERVING, MARKETPLACE)
    here.cluster.store.delete(here.cluster._key(policy))  # as after an update from 4.19
    here.cluster.simulator._reads.clear()
    found = here.found()
    assert [(one.code, one.fixable) for one in found.findings] == [("catalog-network-denied", True)]
    here.mend()
    assert here.found().findings == ()


def test_a_slow_catalog_is_moved_where_olm_reaches_it(site):
    here = site("4.20", served=False)
    here.cluster.play("killed-by-its-probe")
    assert [one.code for one in here.found().findings] == ["catalog-slow-start"]
    here.mend()
    assert SERVING in here.cluster.names("NetworkPolicy")
    assert here.found().findings == ()
    assert {one.outcome for one in here.undo()} <= {"deleted", "restored"}
    assert SERVING not in here.cluster.names("NetworkPolicy")


def unrestricted(release):
    """Return what an earlier version wrote: no security context."""
    made = list(serving(NAME, MARKETPLACE, IMAGE, Release(4, 10)))
    return [*made, *serving(NAME, MARKETPLACE, IMAGE, release)[2:], by_address()]


@pytest.mark.parametrize("release", ["4.20", *more(["4.14"])])
def test_pods_that_the_namespace_refuses_are_explained_by_the_deployment_and_fixed(site, release):
    with_label = {"pod-security.kubernetes.io/enforce": "restricted"}
    here = site(release, resources=unrestricted(Release.parse(release)))
    here.cluster.put({"kind": "Namespace", "metadata": {"name": MARKETPLACE, "labels": with_label}})
    for pod in [name for name in here.cluster.names("Pod") if name.startswith(NAME)]:
        here.cluster.store.delete(here.cluster._key(here.cluster.get("Pod", pod, MARKETPLACE)))
    found = here.found()
    (finding,) = found.findings
    assert (finding.code, finding.fixable) == ("pod-security", True)
    assert 'violates PodSecurity "restricted:latest"' in finding.evidence[0]
    lines = []
    with connect(here.kubeconfig, None) as client, pytest.raises(Exception, match="not created: FailedCreate"):
        wait_healthy(client, [here.expected], release=here.release, timeout_s=0, display=Lines(lines.append))
    here.mend()
    assert here.found().findings == ()


def test_another_refusal_of_pods_is_shown_unchanged(site):
    here = site("4.18")
    (pod,) = [name for name in here.cluster.names("Pod") if name.startswith(NAME)]
    here.cluster.store.delete(here.cluster._key(here.cluster.get("Pod", pod, MARKETPLACE)))
    here.cluster.simulator._deployments = lambda: None  # the quota keeps its controller from making another
    message = 'pods "x" is forbidden: exceeded quota: compute, requested: pods=1, used: pods=9, limited: pods=9'
    key = here.cluster._key(here.cluster.get("Deployment", SERVING, MARKETPLACE))
    failure = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": message}
    here.cluster.store.set_status(key, {"conditions": [failure]})
    (finding,) = here.found().findings
    assert finding.code == "unknown"
    assert any("exceeded quota" in line for line in finding.evidence)


@pytest.mark.parametrize("served", [True, False])
def test_a_catalog_is_not_called_empty_before_package_server_reconnects(site, served):
    here = site("4.18", served=served)
    here.cluster.package_reads = 100
    here.cluster.connected_s = 75
    found = here.found()
    assert [(one.code, one.severity) for one in found.findings] == [("catalog-starting", "warning")]
    assert "package-server has not queried it again yet" in found.findings[0].cause
    here.cluster.connected_s = 900
    assert [one.code for one in here.found().findings] == ["catalog-empty"]


def test_the_wait_reports_no_false_cause_meanwhile(site):
    here = site("4.18")
    here.cluster.package_reads = 12
    now, lines, told = [0.0], [], []
    with connect(here.kubeconfig, None) as client:
        display = Lines(lines.append)

        def diagnose():
            found = health.examine(here.settings).findings
            told.extend(one.code for one in found)
            return found

        def sleep(seconds):
            now[0] += seconds

        wait_healthy(
            client,
            [here.expected],
            release=here.release,
            timeout_s=600,
            display=display,
            diagnose=diagnose,
            clock=lambda: now[0],
            sleep=sleep,
        )
    assert set(told) <= {"catalog-starting"}
    assert not any("exported empty" in line for line in lines)


@pytest.mark.parametrize("release", ["4.18", *more(["4.3", "4.20", None])])
def test_what_olm_leaves_behind_at_a_switch_is_named_until_it_is_gone(site, release):
    """OLM's reconciler of an address removes nothing (registry/reconciler/grpc_address.go of operator-lifecycle-manager)."""
    here = site(release, served=False)
    assert here.found().healthy
    with connect(here.kubeconfig, None) as client:
        served = [*serving(NAME, here.namespace, IMAGE, here.release), by_address(here.namespace)]
        intent = Intent(served, here.release, "mirror.example:5000")
        before = [each for each in preflight.circumstances(client, intent) if each.code == "catalog-leftovers"]
        apply(client, served, release=here.release, dry_run=False, tell=str)
        (after,) = [each for each in preflight.circumstances(client, intent) if each.code == "catalog-leftovers"]
        assert before == [after]
        assert (after.severity, after.evidence) == ("warning", (f"Pod {NAME}-abcde",))
        assert f"oc delete pod/{NAME}-abcde service/{NAME} -n {here.namespace}" in after.fix
        assert here.found().healthy
        assert NAME in here.cluster.names("Service")
        client.delete(POD, f"{NAME}-abcde", here.namespace)
        assert [each for each in preflight.circumstances(client, intent) if each.code == "catalog-leftovers"] == []


def test_a_pod_of_the_same_label_that_is_not_olms_is_not_named(site):
    here = site("4.18", served=False)
    with connect(here.kubeconfig, None) as client:
        served = [*serving(NAME, here.namespace, IMAGE, here.release), by_address(here.namespace)]
        metadata = {"name": "foreign", "namespace": here.namespace, "labels": {"olm.catalogSource": NAME}}
        here.cluster.put({"kind": "Pod", "metadata": metadata, "spec": {"containers": [{"name": "c", "image": "x"}]}})
        found = preflight.circumstances(client, Intent(served, here.release, "mirror.example:5000"))
    named = [each.evidence for each in found if each.code == "catalog-leftovers"]
    assert all("Pod foreign" not in each for each in named)


def test_the_doctor_deletes_the_pod_and_names_the_service(site):
    here = site("4.18", served=False)
    here.found()
    here.cluster.play("killed-by-its-probe")
    said = []
    for _ in range(3):
        health.examine(here.settings)
    health.fix(here.settings, None, said.append, lambda _fixable: True)
    assert f"deleted Pod {NAME}-abcde in {MARKETPLACE}" in said
    assert any(f"oc delete service {NAME} -n {MARKETPLACE}" in line for line in said)
