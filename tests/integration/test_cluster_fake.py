"""The fake cluster itself, asked by kubectl and plain HTTP: what it says about our code is worth what is tested here."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request

import pytest
import yaml

from tests.fakes.cluster import TOKEN, FakeCluster
from tests.fakes.cluster_simulator import MARKETPLACE
from tests.fakes.cluster_store import RefusedError, Write
from tests.fakes.wanted import IMAGE, catalog_source

SOURCES = f"/apis/operators.coreos.com/v1alpha1/namespaces/{MARKETPLACE}/catalogsources"
NAME = "hub-redhat-operators"


def ask(cluster, path, method="GET", body=None, content_type="application/json"):
    """Return status and document of a request."""
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": content_type}
    raw = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(cluster.url + path, raw, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def apply(cluster, manager, *, force=False, dry_run=False, **spec):
    metadata = {"name": NAME, "namespace": MARKETPLACE}
    body = {"apiVersion": "operators.coreos.com/v1alpha1", "kind": "CatalogSource", "metadata": metadata, "spec": spec}
    query = f"?fieldManager={manager}&force={str(force).lower()}{'&dryRun=All' if dry_run else ''}"
    return ask(cluster, f"{SOURCES}/{NAME}{query}", "PATCH", body, "application/apply-patch+yaml")


@pytest.fixture
def cluster():
    with FakeCluster("4.18", tls=False) as running:
        yield running


def test_two_managers_share_a_value_and_quarrel_over_another(cluster):
    assert apply(cluster, "a", sourceType="grpc", image=IMAGE)[0] == 200
    assert apply(cluster, "b", sourceType="grpc", image=IMAGE)[0] == 200
    status, refused = apply(cluster, "b", sourceType="grpc", image="other/image:1")
    assert (status, refused["reason"]) == (409, "Conflict")
    assert refused["details"]["causes"] == [
        {
            "reason": "FieldManagerConflict",
            "message": 'conflict with "a" using operators.coreos.com/v1alpha1',
            "field": ".spec.image",
        }
    ]
    status, forced = apply(cluster, "b", force=True, sourceType="grpc", image="other/image:1")
    assert (status, forced["spec"]["image"]) == (200, "other/image:1")
    owned = {entry["manager"]: entry["fieldsV1"]["f:spec"] for entry in forced["metadata"]["managedFields"]}
    assert owned == {"a": {"f:sourceType": {}}, "b": {"f:image": {}, "f:sourceType": {}}}


def test_a_field_given_up_by_all_its_managers_goes(cluster):
    apply(cluster, "a", sourceType="grpc", priority=1, publisher="p")
    apply(cluster, "b", sourceType="grpc", publisher="p")
    _, made = apply(cluster, "a", sourceType="grpc")
    assert made["spec"] == {"sourceType": "grpc", "publisher": "p"}


def test_the_same_again_moves_no_version(cluster):
    _, first = apply(cluster, "a", sourceType="grpc", image=IMAGE)
    _, second = apply(cluster, "a", sourceType="grpc", image=IMAGE)
    assert first == second
    _, third = apply(cluster, "a", sourceType="grpc", image=IMAGE, priority=1)
    assert int(third["metadata"]["resourceVersion"]) > int(first["metadata"]["resourceVersion"])
    assert third["metadata"]["generation"] == 2


def test_a_dry_run_answers_and_keeps_nothing(cluster):
    status, answered = apply(cluster, "a", dry_run=True, sourceType="grpc")
    assert (status, answered["spec"]) == (200, {"sourceType": "grpc"})
    assert ask(cluster, f"{SOURCES}/{NAME}")[0] == 404
    assert cluster.writes == []


def test_the_status_is_not_for_writers(cluster):
    body = {**catalog_source().body, "status": {"message": "mine"}}
    status, made = ask(cluster, SOURCES, "POST", body)
    assert (status, "status" in made) == (201, False)


def test_unknown_fields_are_pruned_and_noted_or_refused(cluster):
    body = {**catalog_source().body, "spec": {"sourceType": "grpc", "colour": "red"}}
    assert ask(cluster, f"{SOURCES}?fieldValidation=Strict", "POST", body)[0] == 400
    _, made = ask(cluster, SOURCES, "POST", body)
    assert made["spec"] == {"sourceType": "grpc"}
    assert cluster.pruned == [f'catalogsources.operators.coreos.com "{NAME}": .spec.colour']


@pytest.mark.parametrize(("release", "kept"), [("4.5", False), ("4.6", True), (None, True)])
def test_a_release_prunes_what_came_later(release, kept):
    cluster = FakeCluster(release, tls=False)
    namespace = MARKETPLACE if release else "olm"
    body = {**catalog_source(namespace=namespace).body, "spec": {"sourceType": "grpc", "priority": 5}}
    assert ("priority" in cluster.put(body)["spec"]) == kept


def test_a_value_of_a_wrong_type_is_refused(cluster):
    status, refused = apply(cluster, "a", sourceType="grpc", priority="high")
    assert (status, refused["reason"]) == (422, "Invalid")
    assert "spec.priority" in refused["message"]


def test_defaults_come_in(cluster):
    source = {"type": "Image", "image": {"ref": IMAGE}}
    made = cluster.put({"kind": "ClusterCatalog", "metadata": {"name": "x"}, "spec": {"source": source}})
    assert made["spec"]["availabilityMode"] == "Available"


def test_an_old_version_conflicts_in_every_verb(cluster):
    key = cluster._key(catalog_source().body)
    cluster.put(dict(catalog_source().body))
    stale = {"metadata": {"name": NAME, "namespace": MARKETPLACE, "resourceVersion": "1"}, "spec": {"sourceType": "grpc"}}
    for write in (cluster.store.merge_patch, cluster.store.replace):
        with pytest.raises(RefusedError, match="has been modified"):
            write(key, stale, Write("x"))


def test_4_3_knows_no_server_side_apply():
    with FakeCluster("4.3", tls=False) as cluster:
        assert apply(cluster, "a", sourceType="grpc")[0] == 415


def test_a_watch_tells_what_happens(cluster):
    version = cluster.store.version
    path = f"{SOURCES}?watch=true&timeoutSeconds=20&resourceVersion={version}&labelSelector=app.kubernetes.io/managed-by=hub-import"
    request = urllib.request.Request(cluster.url + path, headers={"Authorization": f"Bearer {TOKEN}"})
    seen: list[tuple[str, str]] = []

    def read() -> None:
        with urllib.request.urlopen(request, timeout=120) as answer:
            for line in answer:
                event = json.loads(line)
                seen.append((event["type"], event["object"]["metadata"]["name"]))
                if event["type"] == "DELETED":
                    return

    reader = threading.Thread(target=read)
    reader.start()
    body = dict(catalog_source().body)
    cluster.put(body)
    cluster.put({**body, "metadata": {"name": "other", "namespace": MARKETPLACE}})
    cluster.put({**body, "spec": {**body["spec"], "priority": 1}})
    cluster.store.delete(cluster._key(body))
    reader.join(120)
    assert seen == [("ADDED", NAME), ("MODIFIED", NAME), ("DELETED", NAME)]


def test_a_pull_that_cannot_work_lists_nothing(cluster):
    cluster.put(dict(catalog_source().body))
    for _ in range(5):
        _, found = ask(cluster, f"{SOURCES}/{NAME}")
    assert "status" not in found
    packages = f"/apis/packages.operators.coreos.com/v1/namespaces/{MARKETPLACE}/packagemanifests"
    assert ask(cluster, packages)[1]["items"] == []


def test_the_end_of_the_cluster_ends_a_watch():
    with FakeCluster("4.18", tls=False) as cluster:
        request = urllib.request.Request(
            f"{cluster.url}{SOURCES}?watch=1&timeoutSeconds=3600", headers={"Authorization": f"Bearer {TOKEN}"}
        )
        answer = urllib.request.urlopen(request, timeout=120)
    with answer:
        assert answer.read() == b""


def test_discovery_is_complete(cluster):
    _, groups = ask(cluster, "/apis")
    listed = {version["groupVersion"] for group in groups["groups"] for version in group["versions"]}
    assert {"config.openshift.io/v1", "operators.coreos.com/v1alpha1", "packages.operators.coreos.com/v1"} <= listed
    for each in listed:
        status, resources = ask(cluster, f"/apis/{each}")
        assert (status, resources["groupVersion"]) == (200, each)
    assert ask(cluster, "/version")[1]["minor"] == "31"
    assert yaml.safe_load(json.dumps(ask(cluster, "/api/v1")[1]))["resources"]
