"""What the fake cluster plays as a real one did (kube-apiserver 1.36, OLM of August 2026): defaults, admission, OLM's conditions."""

from __future__ import annotations

import json
import urllib.error
import urllib.request

import pytest

from importer.cluster.resources.catalog_source import serving
from tests.fakes.cluster import TOKEN, FakeCluster
from tests.fakes.cluster_simulator import MARKETPLACE
from tests.fakes.wanted import DIGEST, IMAGE, catalog_source, package

DEPLOYMENTS = "/apis/apps/v1/namespaces/{}/deployments"
SOURCE = f"/apis/operators.coreos.com/v1alpha1/namespaces/{MARKETPLACE}/catalogsources/hub-redhat-operators"
PACKAGES = f"/apis/packages.operators.coreos.com/v1/namespaces/{MARKETPLACE}/packagemanifests"
SUBSCRIPTIONS = "/apis/operators.coreos.com/v1alpha1/subscriptions"


def ask(cluster, path, method="GET", body=None, content_type="application/json"):
    """Return status, document and headers of a request."""
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": content_type}
    raw = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(cluster.url + path, raw, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.loads(answer.read()), answer.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read()), error.headers


def bare(body):
    """Return a Deployment without any security context."""
    template = {**body["spec"]["template"]}
    containers = [{k: v for k, v in each.items() if k != "securityContext"} for each in template["spec"]["containers"]]
    template["spec"] = {"containers": containers}
    return {**body, "spec": {**body["spec"], "template": template}}


@pytest.fixture
def cluster():
    with FakeCluster("4.20", tls=False) as running:
        running.catalog_contents[DIGEST] = (package("alpha"),)
        yield running


def served(namespace=MARKETPLACE):
    deployment, service = [each.body for each in serving("hub-redhat-operators", namespace, IMAGE, None)][:2]
    return bare(dict(deployment)), dict(service)


def test_defaults_stand_inside_lists_and_are_owned_by_no_one(cluster):
    deployment, service = served()
    path = DEPLOYMENTS.format(MARKETPLACE)
    name = deployment["metadata"]["name"]
    query = f"{path}/{name}?fieldManager=a"
    _, made, _ = ask(cluster, query, "PATCH", deployment, "application/apply-patch+yaml")
    (container,) = made["spec"]["template"]["spec"]["containers"]
    assert (container["imagePullPolicy"], container["terminationMessagePolicy"]) == ("IfNotPresent", "File")
    assert container["readinessProbe"]["successThreshold"] == 1
    (owned,) = made["metadata"]["managedFields"]
    inside = owned["fieldsV1"]["f:spec"]["f:template"]["f:spec"]["f:containers"]['k:{"name":"registry-server"}']
    assert "f:image" in inside
    assert "f:imagePullPolicy" not in inside
    _, again, _ = ask(cluster, query, "PATCH", deployment, "application/apply-patch+yaml")
    assert again["metadata"]["generation"] == made["metadata"]["generation"]
    _, made, _ = ask(cluster, f"/api/v1/namespaces/{MARKETPLACE}/services?fieldManager=a", "POST", service)
    assert (made["spec"]["type"], made["spec"]["sessionAffinity"]) == ("ClusterIP", "None")


def test_an_item_of_a_list_has_an_owner_of_its_own(cluster):
    deployment, _ = served()
    name = deployment["metadata"]["name"]
    path = f"{DEPLOYMENTS.format(MARKETPLACE)}/{name}?fieldManager="
    ask(cluster, f"{path}a", "PATCH", deployment, "application/apply-patch+yaml")
    other = {"containers": [{"name": "sidecar", "image": "x/y:1"}]}
    body = {key: deployment[key] for key in ("apiVersion", "kind")} | {"metadata": {"name": name, "namespace": MARKETPLACE}}
    body["spec"] = {"template": {"spec": other}}
    status, made, _ = ask(cluster, f"{path}b", "PATCH", body, "application/apply-patch+yaml")
    assert (status, [each["name"] for each in made["spec"]["template"]["spec"]["containers"]]) == (
        200,
        ["registry-server", "sidecar"],
    )
    body["spec"] = {"replicas": 1}
    _, made, _ = ask(cluster, f"{path}b", "PATCH", body, "application/apply-patch+yaml")
    assert [each["name"] for each in made["spec"]["template"]["spec"]["containers"]] == ["registry-server"]


def test_pod_security_warns_of_workloads_and_refuses_their_pods(cluster):
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    cluster.put({"kind": "Namespace", "metadata": {"name": MARKETPLACE, "labels": labels}})
    deployment, _ = served()
    status, _, headers = ask(cluster, f"{DEPLOYMENTS.format(MARKETPLACE)}?dryRun=All", "POST", deployment)
    assert status == 201
    assert headers["Warning"].startswith('299 - "would violate PodSecurity \\"restricted:latest\\": allowPrivilegeEscalation')
    ask(cluster, DEPLOYMENTS.format(MARKETPLACE), "POST", deployment)
    _, found, _ = ask(cluster, DEPLOYMENTS.format(MARKETPLACE))
    failure = found["items"][0]["status"]["conditions"][-1]
    assert (failure["type"], failure["reason"]) == ("ReplicaFailure", "FailedCreate")
    assert 'violates PodSecurity "restricted:latest"' in failure["message"]
    _, events, _ = ask(cluster, f"/api/v1/namespaces/{MARKETPLACE}/events")
    assert [each["involvedObject"]["kind"] for each in events["items"]] == ["ReplicaSet"]
    _, pods, _ = ask(cluster, f"/api/v1/namespaces/{MARKETPLACE}/pods")
    assert pods["items"] == []


def test_a_catalog_pod_that_is_refused_is_told_in_the_message_of_its_source(cluster):
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    cluster.put({"kind": "Namespace", "metadata": {"name": MARKETPLACE, "labels": labels}})
    body = dict(catalog_source().body)
    cluster.put({**body, "spec": {**body["spec"], "grpcPodConfig": {"securityContextConfig": "legacy"}}})
    _, found, _ = ask(cluster, SOURCE)
    assert "error ensuring pod" in found["status"]["message"]
    assert cluster.names("Pod") == ["packageserver-7c5b"]


def test_the_states_on_the_way_and_package_server_apart(cluster):
    cluster.ready_reads, cluster.package_reads = 5, 2
    cluster.put(dict(catalog_source().body))
    states, messages = [], []
    for _ in range(6):
        _, found, _ = ask(cluster, SOURCE)
        status = found.get("status") or {}
        states.append((status.get("connectionState") or {}).get("lastObservedState", ""))
        messages.append(status.get("message", ""))
    assert states == ["", "IDLE", "CONNECTING", "TRANSIENT_FAILURE", "CONNECTING", "READY"]
    assert set(messages) == {""}
    assert [len(ask(cluster, PACKAGES)[1]["items"]) for _ in range(4)] == [0, 0, 1, 1]
    body = dict(catalog_source(image=IMAGE.replace("redhat-operator-index", "other")).body)
    cluster.put(body)
    assert ask(cluster, PACKAGES)[1]["items"] == []


def test_from_4_20_on_only_what_a_policy_lets_in_is_reached(cluster):
    cluster.ready_reads = 0
    for body in served():
        cluster.put(body)
    ask(cluster, f"/api/v1/namespaces/{MARKETPLACE}/pods")
    source = dict(catalog_source().body)
    address = f"hub-redhat-operators-serving.{MARKETPLACE}.svc:50051"
    cluster.put({**source, "spec": {"sourceType": "grpc", "address": address}})
    seen = [ask(cluster, SOURCE)[1]["status"]["connectionState"]["lastObservedState"] for _ in range(3)]
    assert "READY" not in seen
    policy = {"podSelector": {"matchLabels": {"hub-import/catalog": "hub-redhat-operators"}}, "policyTypes": ["Ingress"]}
    policy["ingress"] = [{"ports": [{"port": 50051}]}]
    cluster.put({"kind": "NetworkPolicy", "metadata": {"name": "mine", "namespace": MARKETPLACE}, "spec": policy})
    assert ask(cluster, SOURCE)[1]["status"]["connectionState"]["lastObservedState"] == "READY"


def test_sources_of_the_operator_hub_win_over_the_flag_for_all(cluster):
    sources = [{"name": "community-operators", "disabled": False}]
    cluster.put({"kind": "OperatorHub", "metadata": {"name": "cluster"}, "spec": {"sources": sources}})
    hub = "/apis/config.openshift.io/v1/operatorhubs/cluster"
    ask(cluster, hub, "PATCH", {"spec": {"disableAllDefaultSources": True}}, "application/merge-patch+json")
    assert cluster.names("CatalogSource") == ["community-operators"]
    sources[0]["disabled"] = True
    ask(cluster, hub, "PATCH", {"spec": {"sources": sources}}, "application/merge-patch+json")
    assert cluster.names("CatalogSource") == []


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (
            {"source": "gone"},
            f"no operators found from catalog gone in namespace {MARKETPLACE} referenced by subscription alpha",
        ),
        ({"name": "beta"}, "no operators found in package beta in the catalog referenced by subscription alpha"),
        ({"channel": "fast"}, "no operators found in channel fast of package alpha in the catalog referenced by"),
        (
            {"startingCSV": "alpha.v9"},
            "no operators found with name alpha.v9 in channel stable of package alpha in the catalog",
        ),
        ({}, ""),
    ],
)
def test_the_resolver_says_what_it_does_not_find(cluster, spec, said):
    cluster.ready_reads = 0
    cluster.put(dict(catalog_source().body))
    ask(cluster, SOURCE)
    spec = {"name": "alpha", "source": "hub-redhat-operators", "sourceNamespace": MARKETPLACE, **spec}
    cluster.put({"kind": "Subscription", "metadata": {"name": "alpha", "namespace": "default"}, "spec": spec})
    (found,) = ask(cluster, SUBSCRIPTIONS)[1]["items"]
    conditions = {each["type"]: each for each in found["status"]["conditions"]}
    assert conditions["CatalogSourcesUnhealthy"]["status"] == str(spec["source"] == "gone")
    assert said in conditions.get("ResolutionFailed", {"message": ""})["message"]
    assert ("ResolutionFailed" in conditions) == bool(said)


@pytest.mark.parametrize(("release", "said"), [("4.18", "error using catalogsource"), ("4.12", "failed to populate")])
def test_a_catalog_that_does_not_answer_keeps_all_from_being_resolved(release, said):
    with FakeCluster(release, tls=False) as cluster:
        down = {"connectionState": {"lastObservedState": "TRANSIENT_FAILURE"}}
        cluster.put({**catalog_source("down", image="x/y:1").body, "status": down})
        spec = {"name": "alpha", "source": "redhat-operators", "sourceNamespace": MARKETPLACE}
        cluster.put({"kind": "Subscription", "metadata": {"name": "alpha", "namespace": "default"}, "spec": spec})
        (found,) = ask(cluster, SUBSCRIPTIONS)[1]["items"]
        assert said in found["status"]["conditions"][1]["message"]


def test_a_delete_with_preconditions_is_for_that_object_and_version_alone(cluster):
    made = cluster.put({"kind": "ConfigMap", "metadata": {"name": "x", "namespace": "default"}, "data": {"a": "b"}})
    path = "/api/v1/namespaces/default/configmaps/x"
    for wrong in ({"uid": "other"}, {"resourceVersion": "1"}):
        assert ask(cluster, path, "DELETE", {"preconditions": wrong})[0] == 409
    right = {name: made["metadata"][name] for name in ("uid", "resourceVersion")}
    assert ask(cluster, path, "DELETE", {"preconditions": right})[0] == 200


def test_what_an_object_owned_goes_with_it(cluster):
    cluster.ready_reads = 0
    cluster.put(dict(catalog_source().body))
    ask(cluster, SOURCE)
    assert "hub-redhat-operators-grpc-server" in cluster.names("NetworkPolicy")
    ask(cluster, SOURCE, "DELETE")
    assert cluster.names("Pod") == ["packageserver-7c5b"]
    assert cluster.names("NetworkPolicy") == ["default-deny-all"]
