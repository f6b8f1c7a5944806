"""Apply: the objects of the gate table, no foreign fields, and no change the second time."""

from __future__ import annotations

import pytest

from common.errors import ClusterError
from importer.cluster.api.discovery import has_icsp, release_of, running_version
from importer.cluster.apply import apply
from importer.cluster.kinds import OWN_LABELS, Resource
from importer.cluster.resources.mirror_rules import FIELD
from importer.cluster.writing import Action
from tests.fakes.wanted import (
    IMAGE,
    MARKETPLACE,
    catalog_source,
    cluster_catalog,
    default_catalogs_off,
    mirror_rules,
    operator_hub,
    wanted,
)
from tests.samples import more

# The last without server-side apply, the first with it, and the newest.
RELEASES = ["4.5", "4.6", "4.20", *more(["4.3", "4.8", "4.12", "4.13", "4.14", "4.15", "4.18"])]


def run(client, resources, *, dry_run=False, tell=lambda _line: None, sleep=lambda _seconds: None):
    return apply(client, resources, release=release_of(running_version(client)), dry_run=dry_run, tell=tell, sleep=sleep)


def outcome(result) -> dict[str, str]:
    return {f"{change.kind}/{change.name}": str(change.action) for change in result.changes}


def test_actions_are_reported_as_lines(start):
    _, client = start()
    lines: list[str] = []
    run(client, [operator_hub(), catalog_source("mine")], tell=lines.append)
    assert lines == [
        "changed OperatorHub cluster: spec.disableAllDefaultSources",
        "created CatalogSource mine in openshift-marketplace",
    ]


@pytest.mark.parametrize("release", RELEASES)
def test_own_objects_are_applied_from_4_6_on_and_patched_before(start, release):
    cluster, client = start(release)
    run(client, wanted(release))
    kinds = {request.content_type for request in cluster.writes}
    assert ("application/apply-patch+yaml" in kinds) == (release not in {"4.3", "4.5"})
    managers = cluster.get("CatalogSource", "hub-redhat-operators", MARKETPLACE)["metadata"]["managedFields"]
    assert [entry["manager"] for entry in managers] == ["hub-import"]


def test_a_dry_run_says_the_same_and_writes_nothing(start):
    cluster, client = start()
    before = cluster.versions()
    lines: list[str] = []
    dry = run(client, wanted("4.18"), dry_run=True, tell=lines.append)
    assert cluster.versions() == before
    assert not cluster.writes
    assert "would be created CatalogSource hub-redhat-operators in openshift-marketplace" in lines
    assert outcome(dry) == outcome(run(client, wanted("4.18")))


def test_a_dry_run_on_4_3_says_the_same_and_writes_nothing(start):
    cluster, client = start("4.3")
    before = cluster.versions()
    dry = run(client, wanted("4.3"), dry_run=True)
    assert cluster.versions() == before
    assert outcome(dry) == outcome(run(client, wanted("4.3")))


def test_sources_of_the_user_stay_in_the_operator_hub_and_enable_nothing(start):
    cluster, client = start()
    sources = [{"name": "redhat-operators", "disabled": True}, {"name": "community-operators", "disabled": False}]
    cluster.put({"kind": "OperatorHub", "metadata": {"name": "cluster"}, "spec": {"sources": sources}})
    run(client, [operator_hub()])
    off = [{**each, "disabled": True} for each in sources]  # an entry that enables wins over the flag
    assert cluster.get("OperatorHub", "cluster")["spec"] == {"disableAllDefaultSources": True, "sources": off}


def test_without_a_marketplace_no_operator_hub_is_created(start):
    cluster, client = start()
    cluster.store.delete(cluster._key({"kind": "OperatorHub", "metadata": {"name": "cluster"}}))
    assert outcome(run(client, [operator_hub()])) == {"OperatorHub/cluster": "unchanged"}
    assert cluster.names("OperatorHub") == []


def test_a_conflict_is_retried(start):
    cluster, client = start()
    cluster.faults.append(conflict("PATCH", "operatorhubs", times=3))
    assert outcome(run(client, [operator_hub()])) == {"OperatorHub/cluster": "changed"}


def test_conflicts_without_end_are_an_error(start):
    cluster, client = start()
    cluster.faults.append(conflict("PATCH", "operatorhubs", times=50))
    with pytest.raises(ClusterError, match=r"OperatorHub cluster: .*modified") as caught:
        run(client, [operator_hub()])
    assert "apply again" in caught.value.hint
    assert cluster.faults[0].times == 45


def test_a_changed_image_changes_just_that(start):
    _, client = start()
    run(client, [catalog_source()])
    result = run(client, [catalog_source(image=IMAGE.replace("ab", "cd"))])
    assert [(change.action, change.detail) for change in result.changes] == [(Action.CHANGED, "spec.image")]


def test_a_field_no_longer_wanted_is_removed(start):
    cluster, client = start()
    more = catalog_source().body
    run(client, [Resource.of({**more, "spec": {**more["spec"], "priority": 7}})])
    assert cluster.get("CatalogSource", "hub-redhat-operators", MARKETPLACE)["spec"]["priority"] == 7
    run(client, [catalog_source()])
    assert "priority" not in cluster.get("CatalogSource", "hub-redhat-operators", MARKETPLACE)["spec"]


def test_foreign_fields_are_kept(start):
    cluster, client = start()
    run(client, [catalog_source()])
    extra = {"metadata": {"name": "hub-redhat-operators", "namespace": MARKETPLACE}, "spec": {"priority": 3}}
    cluster.put({"kind": "CatalogSource", **extra})
    assert outcome(run(client, [catalog_source()])) == {"CatalogSource/hub-redhat-operators": "unchanged"}
    assert cluster.get("CatalogSource", "hub-redhat-operators", MARKETPLACE)["spec"]["priority"] == 3


def test_a_field_of_another_manager_is_not_overwritten(start):
    cluster, client = start()
    run(client, [catalog_source()])
    metadata = {"name": "hub-redhat-operators", "namespace": MARKETPLACE}
    cluster.put({"kind": "CatalogSource", "metadata": metadata, "spec": {"displayName": "Mine"}}, "argocd")
    with pytest.raises(ClusterError, match=r"CatalogSource hub-redhat-operators: argocd set \.spec\.displayName"):
        run(client, [catalog_source()])
    assert cluster.get("CatalogSource", "hub-redhat-operators", MARKETPLACE)["spec"]["displayName"] == "Mine"


@pytest.mark.parametrize("release", ["4.3", "4.5"])
def test_an_object_of_others_is_not_overwritten_without_server_side_apply(start, release):
    cluster, client = start(release)
    metadata = {"name": "hub-redhat-operators", "namespace": MARKETPLACE}
    theirs = {"sourceType": "grpc", "image": "registry.example/theirs@sha256:" + "ef" * 32}
    cluster.put({"kind": "CatalogSource", "metadata": metadata, "spec": theirs}, "argocd")
    with pytest.raises(ClusterError, match=r"is not from hub-import, and has other values of \.spec\.image") as caught:
        run(client, [catalog_source()])
    assert "--catalog-name" in caught.value.hint
    assert cluster.get("CatalogSource", "hub-redhat-operators", MARKETPLACE)["spec"] == theirs


@pytest.mark.parametrize(("release", "kind"), [("4.18", "ImageDigestMirrorSet"), ("4.5", "ImageContentSourcePolicy")])
def test_rules_of_others_are_not_to_be_deleted(start, release, kind):
    """machine-config-operator, pkg/daemon/drain.go: without a rule nodes are drained. Seen before: "or delete" it."""
    cluster, client = start(release)
    body = mirror_rules(kind).body
    field = FIELD[kind]
    owned = {} if release == "4.5" else OWN_LABELS  # rendered, and applied by others
    theirs = {field: [{"source": "quay.io/x/beta", "mirrors": ["mirror.example/x/beta"]}]}
    cluster.put({**body, "metadata": {"name": body["metadata"]["name"], "labels": owned}, "spec": theirs}, "argocd-controller")
    with pytest.raises(ClusterError) as caught:
        run(client, [mirror_rules(kind)])
    assert f"Do not delete the {kind}" in caught.value.hint
    assert ("render --merge" in caught.value.hint) is (release == "4.18")
    assert cluster.get(kind, body["metadata"]["name"])["spec"] == theirs


def test_an_object_of_others_with_the_same_values_is_joined(start):
    """As server-side apply does: an equal value is no conflict."""
    cluster, client = start("4.3")
    body = catalog_source().body
    kept = {"name": body["metadata"]["name"], "namespace": MARKETPLACE}
    cluster.put({"kind": "CatalogSource", "metadata": kept, "spec": body["spec"]}, "argocd")
    assert outcome(run(client, [catalog_source()])) == {"CatalogSource/hub-redhat-operators": "changed"}  # by the label


def test_fields_from_before_server_side_apply_are_taken_over(start):
    cluster, client = start()
    cluster.put(dict(catalog_source(image=IMAGE.replace("ab", "cd")).body), "hub-import")
    assert outcome(run(client, [catalog_source()])) == {"CatalogSource/hub-redhat-operators": "changed"}
    assert cluster.get("CatalogSource", "hub-redhat-operators", MARKETPLACE)["spec"]["image"] == IMAGE


def test_a_default_of_the_same_name_is_deleted_before_the_catalog_source_is_created(start):
    cluster, client = start()
    cluster.marketplace_reads = 3
    slept: list[float] = []
    result = run(client, [operator_hub(), catalog_source("redhat-operators")], sleep=slept.append)
    assert len(slept) == 2
    assert outcome(result)["CatalogSource/redhat-operators"] == "created"
    assert cluster.get("CatalogSource", "redhat-operators", MARKETPLACE)["spec"]["image"] == IMAGE


def test_a_default_that_is_not_deleted_is_an_error(start):
    _, client = start()
    slept: list[float] = []
    with pytest.raises(ClusterError, match="default CatalogSource redhat-operators was disabled, and still exists after 120 s"):
        run(client, [catalog_source("redhat-operators")], sleep=slept.append)
    assert sum(slept) == 120


def test_the_default_cluster_catalogs_serve_no_longer(start):
    cluster, client = start()
    result = run(client, [cluster_catalog(), *default_catalogs_off()])
    modes = {
        name: cluster.get("ClusterCatalog", name)["spec"].get("availabilityMode") for name in cluster.names("ClusterCatalog")
    }
    assert modes == {
        "hub-redhat-operators": "Available",
        "openshift-certified-operators": "Unavailable",
        "openshift-community-operators": "Unavailable",
        "openshift-redhat-operators": "Unavailable",
    }
    assert [change.kind for change in result.changed] == ["ClusterCatalog"] * 4


def test_a_catalog_of_the_user_is_still_served(start):
    cluster, client = start()
    cluster.put({**cluster_catalog("in-house").body})
    run(client, [cluster_catalog()])
    assert cluster.get("ClusterCatalog", "in-house")["spec"]["availabilityMode"] == "Available"


def test_a_cluster_without_olm_v1_is_fine(start):
    _, client = start("4.17")
    result = run(client, [cluster_catalog(), *default_catalogs_off()])
    assert [(change.action, change.detail) for change in result.changes] == [("unchanged", "the cluster has no OLM v1")]


def test_a_refused_object_names_the_field(start):
    _, client = start()
    broken = {**mirror_rules().body, "spec": {"imageDigestMirrors": [{"source": "Not A Host", "mirrors": ["m.example/a"]}]}}
    with pytest.raises(ClusterError, match=r"cannot patch ImageDigestMirrorSet hub-redhat-operators: .*source"):
        run(client, [Resource.of(broken)])


def test_a_missing_namespace_is_reported(start):
    _, client = start(None)
    with pytest.raises(ClusterError, match="cannot patch CatalogSource hub-redhat-operators"):
        run(client, [catalog_source(namespace="nowhere")])


def test_a_resource_of_an_unknown_kind_is_refused(start):
    _, client = start()
    with pytest.raises(ClusterError, match="StatefulSet of apps/v1 is not a kind"):
        run(client, [Resource.of({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "x"}})])


@pytest.mark.parametrize("release", RELEASES)
def test_the_release_is_that_of_the_cluster(start, release):
    _, client = start(release)
    found = release_of(running_version(client))
    assert found is not None
    assert str(found) == release


def test_the_release_is_the_one_completed_not_the_one_under_way(start):
    cluster, client = start()
    history = [{"state": "Partial", "version": "4.19.1"}, {"state": "Completed", "version": "4.18.9"}]
    status = {"desired": {"version": "4.19.1"}, "history": history}
    cluster.put({"kind": "ClusterVersion", "metadata": {"name": "version"}, "status": status})
    assert str(release_of(running_version(client))) == "4.18"
    cluster.put({"kind": "ClusterVersion", "metadata": {"name": "version"}, "status": {**status, "history": history[:1]}})
    assert str(release_of(running_version(client))) == "4.19"


@pytest.mark.parametrize("version", ["", "tomorrow", "4", "99999.1.1"])
def test_a_release_without_a_number_is_an_error(start, version):
    cluster, client = start()
    cluster.put({"kind": "ClusterVersion", "metadata": {"name": "version"}, "status": {"desired": {"version": version}}})
    with pytest.raises(ClusterError, match="names no release") as caught:
        release_of(running_version(client))
    assert "--openshift-release" in caught.value.hint


def test_plain_kubernetes_has_no_release_and_no_policies(start):
    _, client = start(None)
    assert release_of(running_version(client)) is None
    assert not has_icsp(client)


def test_a_policy_that_exists_is_seen(start):
    cluster, client = start("4.14")
    assert not has_icsp(client)
    cluster.put(dict(mirror_rules("ImageContentSourcePolicy", "theirs").body))
    assert has_icsp(client)


def conflict(method: str, part: str, *, times: int):
    import json

    from tests.fakes.cluster import Fault

    body = {"kind": "Status", "message": "the object has been modified", "reason": "Conflict", "code": 409}
    return Fault(method, part, 409, times, json.dumps(body).encode(), "application/json")
