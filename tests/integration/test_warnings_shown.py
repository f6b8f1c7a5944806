"""Warnings of the API server are shown before the question, in dry runs, and where they come with the write alone."""

from __future__ import annotations

import pytest

from tests.fakes.cluster import FakeCluster
from tests.fakes.registry import FakeRegistry
from tests.fakes.sites import Site, shared_both

pytestmark = [pytest.mark.integration, pytest.mark.more]  # in `make test`: test_server_warnings
TEXT = 'would violate PodSecurity "restricted:latest": runAsNonRoot != true \x1b[2J'
SHOWN = 'would violate PodSecurity "restricted:latest": runAsNonRoot != true [2J'


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    return shared_both(tmp_path_factory)


@pytest.fixture
def here(archives, tmp_path):
    with FakeCluster("4.18") as cluster, FakeRegistry() as mirror:
        yield Site(cluster, mirror, archives["file-based"], tmp_path)


def warnings(done):
    found = done.json.get("apply", done.json)["findings"]
    return [(each["subject"], each["severity"], each["evidence"]) for each in found if each["code"] == "server-warning"]


def test_a_dry_run_and_the_question_have_them_once(here):
    """The patch of a Deployment is answered so already in the dry run (pod-security-admission/admission/admission.go)."""
    here.cluster.warnings += [("catalogsources", TEXT), ("imagedigestmirrorsets", "a webhook is about to go")]
    dry = here.run("deploy", "--dry-run")
    assert dry.status == 0, dry.stderr
    assert warnings(dry) == [
        ("ImageDigestMirrorSet hub-index", "warning", ["a webhook is about to go"]),
        ("CatalogSource openshift-marketplace/index", "warning", [SHOWN]),
    ]
    done = here.run("deploy")
    assert (done.status, warnings(done)) == (0, warnings(dry))
    assert done.stderr.count(SHOWN) == 1
    assert done.stderr.index(SHOWN) < done.stderr.index("created CatalogSource")
    undone = here.ask("undo", "--yes")
    assert undone.status == 0
    assert undone.stderr.count("warning of the API server") == 0  # deletes and restored singletons: none of those paths


def test_one_that_comes_with_the_write_alone_and_one_of_an_undo_are_lines(here):
    here.cluster.warnings.append(("operatorhubs", "the marketplace is to be removed"))
    real = here.cluster.take_fault

    def late(request):  # a webhook that does not see dry runs (sideEffects: NoneOnDryRun)
        here.cluster.warnings[1:] = [] if "dryRun" in request.query else [("catalogsources", "only when written")]
        return real(request)

    here.cluster.take_fault = late
    done = here.run("apply", "--dry-run")
    assert [text for _, _, (text,) in warnings(done)] == ["the marketplace is to be removed"]
    done = here.run("deploy")
    assert done.status == 0, done.stderr
    assert done.stderr.count("warning of the API server: only when written") == 1
    undone = here.ask("undo", "--yes")
    assert undone.stderr.count("warning of the API server: the marketplace is to be removed") == 1


def test_a_field_that_the_cluster_drops_is_said(here):
    """An image set's template may have fields that the release does not know (KEP-2885: warned of since Kubernetes 1.25)."""
    kind = here.cluster.kind("CatalogSource")
    properties = kind.schema["properties"]["spec"]["properties"]
    removed = properties.pop("displayName")
    try:
        dry = here.run("apply", "--dry-run")
    finally:
        properties["displayName"] = removed
    assert warnings(dry) == [("CatalogSource openshift-marketplace/index", "warning", ['unknown field "spec.displayName"'])]
