"""What operators run, read from the fake cluster: pods in all namespaces, in pages, with the rights that an account has."""

from __future__ import annotations

import pytest

from importer.cli import cluster_tables
from importer.cluster.api.client import Query, connect
from importer.cluster.kinds import CONFIG_MAP, POD, SUBSCRIPTION
from importer.diagnose import health, olm_objects, workloads
from importer.diagnose.reading import NAMESPACES, Reader
from importer.diagnose.workloads import waiting_images
from importer.settings import ClusterSettings
from tests.fakes.cluster import FakeCluster
from tests.fakes.cluster_operators import InstalledOperator, put_operator

pytestmark = pytest.mark.integration
IMAGE = "quay.io/acme/operator:v1"
BACK_OFF = f'Back-off pulling image "{IMAGE}"'


@pytest.fixture
def cluster():
    with FakeCluster("4.18") as made:
        yield made


@pytest.fixture
def reader(cluster, tmp_path):
    with connect(cluster.kubeconfig(tmp_path), None) as client:
        yield Reader(client)


def pod(
    name, statuses="containerStatuses", *, reason="ImagePullBackOff", message=BACK_OFF, phase="Pending", namespace="team-a"
):
    containers = {"initContainerStatuses": "initContainers", "ephemeralContainerStatuses": "ephemeralContainers"}
    state = {"waiting": {"reason": reason, "message": message}} if reason else {"running": {}}
    status = {"phase": phase, statuses: [{"name": "manager", "image": IMAGE, "imageID": "", "state": state}]}
    spec = {containers.get(statuses, "containers"): [{"name": "manager", "image": IMAGE}], "nodeName": "worker-1"}
    return {"kind": "Pod", "metadata": {"name": name, "namespace": namespace}, "spec": spec, "status": status}


def test_init_and_ephemeral_containers_and_restarted_ones_are_found(cluster, reader):
    cluster._ensure_namespace("team-a")
    cluster.put(pod("init", "initContainerStatuses"))
    cluster.put(pod("debug", "ephemeralContainerStatuses", phase="Running"))
    cluster.put(pod("restarted", phase="Running", reason="ErrImagePull", message="rpc error: no such host"))
    cluster.put(pod("inspected", reason="ImageInspectError"))
    cluster.put(pod("well", reason=""))
    cluster.put(pod("starting", reason="ContainerCreating"))
    cluster.put(pod("done", phase="Succeeded"))
    found = waiting_images(reader)
    assert {each.pod for each in found} == {"init", "debug", "restarted", "inspected"}
    assert {each.image for each in found} == {IMAGE}
    assert reader.unreadable == []


def test_the_newest_event_about_the_image_is_the_reason(cluster, reader):
    put_operator(
        cluster, InstalledOperator("team-a", "op", "op", image=IMAGE, waiting="ImagePullBackOff", waiting_message=BACK_OFF)
    )
    (name,) = [each for each in cluster.names("Pod") if each.startswith("op-")]
    for number, (kind, text) in enumerate(
        [
            ("Warning", f'Failed to pull image "{IMAGE}": rpc error: unauthorized'),
            ("Warning", f'Failed to pull image "{IMAGE}": rpc error: no such host'),
            ("Warning", "Error: ImagePullBackOff"),
            ("Warning", 'Failed to pull image "quay.io/other:1": manifest unknown'),
            ("Normal", f'Pulling image "{IMAGE}"'),
            ("Normal", BACK_OFF),
        ]
    ):
        about = {"kind": "Pod", "name": name, "namespace": "team-a"}
        place = {"name": f"e{number}", "namespace": "team-a"}
        stamp = f"2026-01-02T03:04:0{number}Z"
        cluster.put(
            {"kind": "Event", "metadata": place, "involvedObject": about, "type": kind, "message": text, "lastTimestamp": stamp}
        )
    (one,) = waiting_images(reader)
    assert one.message.endswith("no such host")


def test_namespaces_that_may_be_read_are_read_and_the_others_named(cluster, reader):
    for namespace in ("team-a", "team-b"):
        cluster._ensure_namespace(namespace)
        cluster.put(pod("op", namespace=namespace))
    cluster.forbidden_everywhere.add(("list", "pods"))
    assert {each.namespace for each in waiting_images(reader)} == {"team-a", "team-b"}
    assert any("pods" in each for each in reader.unreadable)


def test_an_account_that_may_not_list_namespaces_reads_those_of_subscriptions(cluster, reader):
    for namespace in ("team-a", "team-b"):
        cluster._ensure_namespace(namespace)
        cluster.put(pod("op", namespace=namespace))
    cluster.forbidden_everywhere |= {("list", "pods"), ("list", "namespaces")}
    reader.known = ["team-b"]
    assert {each.namespace for each in waiting_images(reader)} == {"team-b"}


def test_without_any_right_the_pods_are_listed_as_not_seen(cluster, reader):
    cluster._ensure_namespace("team-a")
    cluster.put(pod("op"))
    cluster.forbidden.add(("list", "pods"))
    assert waiting_images(reader) == ()
    assert any("pods" in each for each in reader.unreadable)


def test_lists_are_read_in_pages_and_up_to_their_limit(cluster, reader):
    for number in range(5):
        body = {"kind": "ConfigMap", "metadata": {"name": f"c{number}", "namespace": "default"}, "data": {"n": str(number)}}
        cluster.put(body)
    cluster.log.clear()
    whole = reader.client.scan(CONFIG_MAP, lambda body: body["metadata"]["name"], Query(5, "default", page=2))
    assert (len(whole.found), whole.whole) == (5, True)
    assert len(cluster.log) == 3
    part = reader.client.scan(CONFIG_MAP, lambda body: body["metadata"]["name"], Query(4, "default", page=2))
    assert (len(part.found), part.whole) == (4, False)
    assert reader.everywhere(CONFIG_MAP, lambda _body: None, Query(4, "default", page=2)) == []
    assert reader.unreadable == ["only the first 4 configmaps of default were read"]


def test_images_whose_events_are_read_are_limited(cluster, reader):
    cluster._ensure_namespace("team-a")
    for number in range(workloads._ASKED + 1):
        body = pod(f"op-{number}", message="")
        body["spec"]["containers"][0]["image"] = f"quay.io/acme/op-{number}:v1"
        cluster.put(body)
    cluster.log.clear()
    assert len(waiting_images(reader)) == workloads._ASKED + 1
    assert sum(each.path.endswith("/events") for each in cluster.log) == workloads._ASKED


def test_namespaces_that_are_read_one_by_one_are_limited(cluster, reader):
    reader.known = [f"n{number}" for number in range(NAMESPACES + 1)]
    cluster.forbidden_everywhere |= {("list", "pods"), ("list", "namespaces")}
    cluster.log.clear()
    assert reader.everywhere(POD, lambda body: body, Query(10)) == []
    assert len(cluster.log) == NAMESPACES + 2
    assert any(f"only {NAMESPACES} of {NAMESPACES + 1} namespaces" in each for each in reader.unreadable)


def test_versions_are_read_without_copies_and_plans_by_the_names_that_subscriptions_have(cluster, reader):
    put_operator(cluster, InstalledOperator("team-a", "op", "op", approval="Manual", pending="1.0.0"))
    put_operator(cluster, InstalledOperator("team-b", "web", "web", phase="Failed"))
    copy = {
        "kind": "ClusterServiceVersion",
        "metadata": {"name": "op.v0.9.0", "namespace": "team-b", "labels": {"olm.copiedFrom": "a"}},
    }
    cluster.put({**copy, "spec": {}, "status": {"phase": "Succeeded", "reason": "Copied"}})
    found = olm_objects.versions(reader)
    assert sorted((each.namespace, each.phase) for each in found) == [("team-a", "Succeeded"), ("team-b", "Failed")]
    subscriptions = reader.list(SUBSCRIPTION)
    cluster.log.clear()
    (plan,) = olm_objects.plans(reader, subscriptions)
    assert (plan.phase, plan.csvs) == ("RequiresApproval", ("op.v1.0.0",))
    assert len(cluster.log) == 1
    many = [{**subscriptions[0], "metadata": {"name": f"s{n}", "namespace": f"n{n}"}} for n in range(olm_objects.PLANS + 1)]
    waiting = [each for each in many if (each["status"].get("state")) != "AtLatestKnown"]
    assert olm_objects.plans(reader, waiting) == ()
    assert any("InstallPlans were read" in each for each in reader.unreadable) == bool(waiting)


def test_status_shows_what_waits_and_what_failed_and_is_healthy_with_what_waits(cluster, tmp_path):
    put_operator(cluster, InstalledOperator("team-a", "op", "op", approval="Manual", pending="1.0.0", source="site"))
    settings = ClusterSettings(kubeconfig=cluster.kubeconfig(tmp_path))
    found = health.examine(settings)
    assert [each.severity for each in found.findings if each.code == "installplan-waits"] == ["warning"]
    put_operator(
        cluster, InstalledOperator("team-b", "web", "web", phase="Failed", phase_message="install timeout", source="site")
    )
    found = health.examine(settings)
    assert not found.healthy
    document = cluster_tables.health_document(found)
    assert [(each["namespace"], each["phase"]) for each in document["installPlans"]] == [("team-a", "RequiresApproval")]
    assert [(each["namespace"], each["phase"]) for each in document["clusterServiceVersions"]] == [("team-b", "Failed")]
    rows = "\n".join(cluster_tables.status_table(found))
    assert "waits for approval" in rows
    assert "InstallCheckFailed: install timeout" in rows
