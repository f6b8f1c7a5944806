"""Patches in the presence of defaults and foreign additions inside lists; and foreign fields."""

from __future__ import annotations

import pytest

from importer.cluster.differences import differing_values, item_named, needed_patch
from importer.cluster.undo import foreign_fields, shown

PORT = {"containerPort": 50051, "protocol": "TCP"}


@pytest.mark.parametrize(
    ("live", "wanted", "patch"),
    [
        ([{"name": "a", "image": "x", "imagePullPolicy": "Always"}], [{"name": "a", "image": "x"}], {}),
        ([{"name": "b"}, {"name": "a", "image": "x"}], [{"name": "a", "image": "x"}], {}),
        ([{"name": "a", "image": "x", "k": 1}], [{"name": "a", "image": "y"}], {"l": [{"name": "a", "image": "y", "k": 1}]}),
        ([{"name": "b"}], [{"name": "a"}], {"l": [{"name": "b"}, {"name": "a"}]}),
        ([{"name": "a", "ports": [{**PORT, "hostPort": 1}]}], [{"name": "a", "ports": [PORT]}], {}),
        ([{"name": "a", "old": 1}], [{"name": "a", "old": None}], {"l": [{"name": "a"}]}),
        ([{"source": "a", "mirrors": ["b"]}], [{"source": "a", "mirrors": ["b"]}], {}),
        ([{"source": "a", "x": 1}], [{"source": "b"}], {"l": [{"source": "b"}]}),
        ([{"source": "a"}, {"source": "b"}], [{"source": "a"}], {"l": [{"source": "a"}]}),
        (["a"], ["a"], {}),
        (["a", "b"], ["a"], {"l": ["a"]}),
        ([], [{"name": "a"}], {"l": [{"name": "a"}]}),
        ([{"name": "a"}], [], {"l": []}),
    ],
)
def test_lists_are_compared_by_what_is_wanted_in_them(live, wanted, patch):
    assert needed_patch({"l": live}, {"l": wanted}) == patch


def test_the_deepest_fields_that_differ_are_named():
    live, wanted = {"spec": {"a": {"b": 1, "c": 2}, "d": [1]}}, {"spec": {"a": {"b": 1, "c": 3}, "d": [1], "e": 1}}
    assert differing_values(live, wanted) == [("spec", "a", "c"), ("spec", "e")]


def owned(manager, fields, **more):
    return {"manager": manager, "operation": "Update", "fieldsV1": fields, **more}


def body(*entries, **content):
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"managedFields": list(entries)}, **content}


OURS = owned("hub-import", {"f:spec": {"f:replicas": {}}})
SIDECAR = {"f:spec": {"f:containers": {".": {}, 'k:{"name":"sidecar"}': {".": {}, "f:name": {}, "f:image": {}}}}}


def test_a_field_of_another_manager_with_another_value_is_foreign():
    containers = [{"name": "web"}, {"name": "sidecar", "image": "x"}]
    live = body(OURS, owned("kubectl-edit", SIDECAR), spec={"replicas": 1, "containers": containers, "default": True})
    found = foreign_fields(live, {"spec": {"replicas": 1, "containers": [{"name": "web"}]}})
    assert [shown(path) for path in found] == ["spec.containers[sidecar].image", "spec.containers[sidecar].name"]


@pytest.mark.parametrize(
    "entry",
    [
        owned("kube-controller-manager", {"f:metadata": {"f:annotations": {"f:deployment.kubernetes.io/revision": {}}}}),
        owned("anything", {"f:metadata": {"f:annotations": {"f:x": {}}}}, subresource="status"),
        owned("anything", {"f:metadata": {"f:finalizers": {".": {}, 'v:"x"': {}}}}),
        owned("argocd", {"f:spec": {"f:replicas": {}}}),  # the same value as the written one
        owned("gone", {"f:spec": {"f:paused": {}}}),  # and nothing stands there any more
        owned("odd", {"f:status": {"f:x": {}}}),
    ],
)
def test_fields_that_are_not_foreign(entry):
    live = body(OURS, entry, spec={"replicas": 1}, status={"x": 1})
    live["metadata"]["annotations"] = {"deployment.kubernetes.io/revision": "1", "x": "y"}
    assert foreign_fields(live, {"spec": {"replicas": 1}}) == []


@pytest.mark.parametrize("managers", [(), (OURS, owned("before-first-apply", {"f:spec": {"f:default": {}}}))])
def test_without_owners_keys_of_data_and_labels_count_and_defaults_do_not(managers):
    live = body(*managers, spec={"default": True}, data={"mine": "a", "theirs": "b"})
    live["metadata"]["labels"] = {"team": "c"}
    assert foreign_fields(live, {"spec": {}, "data": {"mine": "a"}}) == [("data", "theirs"), ("metadata", "labels", "team")]


@pytest.mark.parametrize("items", [None, "text", {"source": "a"}, 3])
def test_what_is_no_list_has_no_item(items):
    assert item_named(items, {"source": "a"}) is None
    assert item_named([{"source": "a", "mirrors": []}], {"source": "a"}) == {"source": "a", "mirrors": []}
