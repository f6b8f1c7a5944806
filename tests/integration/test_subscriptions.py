"""Subscriptions that lose their catalog: said at preflight, stopped unless allowed, seen by status and doctor."""

from __future__ import annotations

import pytest

from tests.fakes.cluster import FakeCluster
from tests.fakes.cluster_simulator import MARKETPLACE
from tests.fakes.registry import FakeRegistry
from tests.fakes.sites import Site, shared_both

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    return shared_both(tmp_path_factory)


@pytest.fixture
def site(archives, tmp_path):
    """Return what makes a site of a release; None: a Kubernetes with OLM."""
    opened = []

    def make(release, *, name=None) -> Site:
        minor = int(release.partition(".")[2]) if release else 99
        cluster, mirror = FakeCluster(release), FakeRegistry()
        opened.extend([cluster, mirror])
        name = name or ("file-based" if minor >= 9 else "sqlite")
        return Site(cluster.__enter__(), mirror.__enter__(), archives[name], tmp_path)

    yield make
    for each in reversed(opened):
        each.__exit__(None, None, None)


def subscribe(here, package, source, *, namespace="team-a", place=MARKETPLACE, **status):
    """Put a Subscription there, as a person did before the import."""
    here.cluster._ensure_namespace(namespace)
    spec = {"name": package, "channel": "stable", "source": source, "sourceNamespace": place}
    metadata = {"name": f"my-{package}", "namespace": namespace}
    here.cluster.put({"kind": "Subscription", "metadata": metadata, "spec": spec, "status": status}, "another-manager")


def settable(here):
    """Return the version of every object but Subscriptions, into which OLM writes conditions."""
    return {key: version for key, version in here.cluster.versions().items() if "subscriptions" not in key}


def findings(done, code="subscription-orphaned"):
    found = done.json.get("apply", done.json)["findings"]
    return [each for each in found if each["code"] == code]


def test_subscriptions_without_a_catalog_stop_the_deploy_before_the_first_byte(site):
    here = site("4.18")
    subscribe(here, "alpha", "retired", installedCSV="alpha.v0.9.0")
    subscribe(here, "beta", "retired", namespace="team-b")
    before = here.state()
    done = here.run("deploy")
    assert done.status == 6, done.stderr
    for said in (
        "team-a/my-alpha",
        "alpha.v0.9.0",
        "team-b/my-beta",
        "--catalog-name retired",
        "--allow-orphaned alpha",
    ):
        assert said in done.stderr
    assert here.state() == before
    assert here.mirror.repositories == {}
    dry = here.run("deploy", "--dry-run")
    (found,) = findings(dry)
    assert (found["severity"], found["subject"]) == ("error", f"CatalogSource {MARKETPLACE}/retired")


def test_a_catalog_takes_the_name_of_the_only_default_that_it_fits(site):
    here = site("4.18")
    subscribe(here, "alpha", "community-operators")
    subscribe(here, "gamma", "community-operators", namespace="team-b")
    (found,) = findings(here.run("apply", "--dry-run"), "catalog-takes-default-name")
    assert found["subject"] == f"CatalogSource {MARKETPLACE}/community-operators"
    assert len(found["evidence"]) == 2
    named = here.run("apply", "--dry-run", "--catalog-name", "other")
    assert findings(named, "catalog-takes-default-name") == []
    assert [each["subject"] for each in findings(named)] == [f"CatalogSource {MARKETPLACE}/community-operators"]
    # On 4.6 before 4.6.16 the marketplace operator deletes it when it restarts (operator-marketplace#373).
    old = site("4.6")
    old.cluster.put(
        {
            "kind": "ClusterVersion",
            "metadata": {"name": "version"},
            "status": {"history": [{"state": "Completed", "version": "4.6.8"}]},
        }
    )
    subscribe(old, "foo", "community-operators")
    assert findings(old.run("apply", "--dry-run"), "catalog-takes-default-name") == []


def test_the_catalog_name_that_is_named_keeps_them(site):
    here = site("4.18")
    here.cluster.marketplace_reads = 2
    subscribe(here, "alpha", "redhat-operators")
    before = here.state()
    dry = here.run("deploy", "--dry-run", "--catalog-name", "redhat-operators")
    assert dry.status == 0, dry.stderr
    assert findings(dry) == []
    done = here.run("deploy", "--catalog-name", "redhat-operators")
    assert done.status == 0, done.stderr
    source = here.cluster.get("CatalogSource", "redhat-operators", MARKETPLACE)
    assert source["spec"]["image"].startswith(here.mirror.host)
    assert "annotations" not in source["metadata"]
    assert here.ask("status").status == 0
    versions = settable(here)
    again = here.run("apply", "--catalog-name", "redhat-operators", yes=False)
    assert again.status == 0, again.stderr
    assert settable(here) == versions
    assert here.ask("undo", "--yes").status == 0
    assert here.state() == before


def test_an_operator_that_is_named_may_lose_its_catalog_and_status_says_so(site):
    here = site("4.18")
    subscribe(here, "alpha", "lost-operators")
    subscribe(here, "gamma", "certified-operators", namespace="team-b")
    refused = here.run("deploy", "--allow-orphaned", "alpha")
    assert refused.status == 6
    assert "No catalog of this archive carries gamma" in refused.stderr
    assert "my-alpha" not in refused.stderr.partition("the cluster was not changed")[2]
    allowed = ["--allow-orphaned", "alpha", "--allow-orphaned", "gamma"]
    done = here.run("deploy", *allowed)
    assert done.status == 0, done.stderr
    assert {each["severity"] for each in findings(done)} == {"warning"}
    versions = settable(here)
    assert here.run("apply", *allowed, yes=False).status == 0
    assert settable(here) == versions
    status = here.ask("status")
    assert (status.status, status.json["healthy"]) == (6, False)
    found = {each["subject"]: each for each in findings(status)}
    assert set(found) == {"Subscription team-a/my-alpha", "Subscription team-b/my-gamma"}
    assert "--catalog-name lost-operators" in found["Subscription team-a/my-alpha"]["fix"]
    assert '"source":"index"' in found["Subscription team-a/my-alpha"]["fix"]
    assert "Export gamma too" in found["Subscription team-b/my-gamma"]["fix"]
    here.cluster.put(
        {"kind": "Subscription", "metadata": {"name": "my-alpha", "namespace": "team-a"}, "spec": {"source": "index"}}
    )
    here.cluster.put(
        {
            "kind": "CatalogSource",
            "metadata": {"name": "certified-operators", "namespace": MARKETPLACE},
            "spec": {"sourceType": "grpc", "image": "x/y:v1"},
        }
    )
    assert findings(here.ask("status")) == []


def test_sources_that_stay_are_left_alone_and_missing_ones_of_other_namespaces_are_said(site):
    here = site("4.18")
    for name, place in (("foreign", MARKETPLACE), ("private", "team-a")):
        here.cluster._ensure_namespace(place)
        spec = {"sourceType": "grpc", "image": "old.example/index:v1"}
        here.cluster.put(
            {"kind": "CatalogSource", "metadata": {"name": name, "namespace": place}, "spec": spec}, "another-manager"
        )
    subscribe(here, "alpha", "foreign")
    subscribe(here, "beta", "private", place="team-a")
    assert findings(here.run("apply", "--dry-run")) == []
    subscribe(here, "alpha", "redhat-operators", namespace="team-b", place="team-b")
    subscribe(here, "gamma", "lost", namespace="team-c")
    found = {each["subject"]: each for each in findings(here.run("apply", "--dry-run"))}
    assert set(found) == {"CatalogSource team-b/redhat-operators", f"CatalogSource {MARKETPLACE}/lost"}
    assert '"sourceNamespace":"openshift-marketplace"' in found["CatalogSource team-b/redhat-operators"]["fix"]
    assert all("it does not exist" in each["cause"] for each in found.values())
    here.cluster.forbidden_everywhere.add(("list", "subscriptions"))
    dry = here.run("apply", "--dry-run")
    assert {each["subject"] for each in findings(dry)} == set(found)
    assert findings(dry, "subscriptions-unseen") == []
    here.cluster.forbidden.add(("list", "subscriptions"))
    dry = here.run("apply", "--dry-run")
    assert [each["severity"] for each in findings(dry, "subscriptions-unseen")] == ["warning"]
    assert findings(dry) == []


def test_one_catalog_takes_one_name_and_the_other_subscriptions_are_to_name_it(site):
    here = site("4.18")
    subscribe(here, "alpha", "redhat-operators")
    subscribe(here, "beta", "redhat-operators")
    subscribe(here, "alpha", "community-operators", namespace="team-b")
    found = {each["subject"].rpartition("/")[2]: each["fix"] for each in findings(here.run("apply", "--dry-run"))}
    assert set(found) == {"community-operators"}
    assert "--catalog-name" not in found["community-operators"]
    assert '"source":"redhat-operators"' in found["community-operators"]
    assert findings(here.run("apply", "--dry-run", "--repoint")) == []


def test_kubernetes_with_olm_has_no_defaults_and_missing_sources_are_said(site):
    here = site(None)
    spec = {"sourceType": "grpc", "image": "quay.io/operatorhubio/catalog:latest"}
    here.cluster.put({"kind": "CatalogSource", "metadata": {"name": "operatorhubio-catalog", "namespace": "olm"}, "spec": spec})
    subscribe(here, "alpha", "operatorhubio-catalog", place="olm")
    assert findings(here.run("apply", "--dry-run")) == []
    subscribe(here, "beta", "gone", place="olm")
    (found,) = findings(here.run("apply", "--dry-run"))
    assert (found["subject"], "--catalog-name gone" in found["fix"]) == ("CatalogSource olm/gone", True)


def test_up_to_4_5_the_catalog_of_a_default_operator_source_goes_with_it(site):
    here = site("4.5")
    for name in ("redhat-operators", "team-source"):  # pkg/builders of operator-marketplace, release-4.5
        labels = {"opsrc-owner-name": name, "opsrc-owner-namespace": MARKETPLACE, "opsrc-datastore": "true"}
        if name == "redhat-operators":
            here.cluster.store.delete(here.cluster._key(here.cluster.get("CatalogSource", name, MARKETPLACE)))
        metadata = {"name": name, "namespace": MARKETPLACE, "labels": labels}
        here.cluster.put(
            {"kind": "CatalogSource", "metadata": metadata, "spec": {"sourceType": "grpc", "address": f"{name}:50051"}}
        )
    subscribe(here, "foo", "redhat-operators")
    subscribe(here, "bar", "team-source", namespace="team-b")
    (found,) = findings(here.run("apply", "--dry-run", "--catalog-name", "other"))
    assert (found["subject"], "removed" in found["cause"]) == (f"CatalogSource {MARKETPLACE}/redhat-operators", True)
    dry = here.run("apply", "--dry-run")
    assert findings(dry) == []
    assert [one["action"] for one in dry.json["changes"] if one["kind"] == "CatalogSource"] == ["created"]


def test_a_default_that_has_replaced_the_catalog_of_its_name_is_reported(site):
    """A default that is enabled again gets its spec back (operator-marketplace, pkg/defaults/catsrcHelpers.go)."""
    here = site("4.18")
    subscribe(here, "alpha", "redhat-operators")
    assert here.run("deploy", "--catalog-name", "redhat-operators").status == 0
    ours = here.cluster.get("CatalogSource", "redhat-operators", MARKETPLACE)["spec"]["image"]
    enabled = {"disableAllDefaultSources": True, "sources": [{"name": "redhat-operators", "disabled": False}]}
    here.cluster.put({"kind": "OperatorHub", "metadata": {"name": "cluster"}, "spec": enabled})
    here.cluster.simulator.wrote("OperatorHub")
    default = here.cluster.get("CatalogSource", "redhat-operators", MARKETPLACE)["spec"]["image"]
    assert default != ours
    for command in ("status", "doctor"):
        seen = here.ask(command)
        assert seen.status == 6
        (found,) = findings(seen, "default-source-returned")
        assert found["evidence"] == [f"image: {default}", f"expected: {ours}"]
        assert findings(seen, "catalog-stale") == []
    again = here.run("apply", "--catalog-name", "redhat-operators")
    assert again.status == 0, again.stderr
    assert here.cluster.get("CatalogSource", "redhat-operators", MARKETPLACE)["spec"]["image"] == ours
    assert here.ask("status").status == 0
