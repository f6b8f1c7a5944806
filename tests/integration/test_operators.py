"""The table of operators on a cluster in use: what it says before an import, and what OLM then does."""

from __future__ import annotations

import re

import pytest

from tests.fakes.cluster import FakeCluster
from tests.fakes.cluster_operators import InstalledOperator, lived_in, put_operator
from tests.fakes.cluster_simulator import MARKETPLACE
from tests.fakes.commands import on_terminal
from tests.fakes.registry import FakeRegistry
from tests.fakes.sites import Site, shared_updates
from tests.samples import more

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    return shared_updates(tmp_path_factory)


@pytest.fixture
def site(archive, tmp_path):
    """A cluster of 4.18 in use, on which the catalog of the archive may take a default's name."""
    with FakeCluster("4.18") as cluster, FakeRegistry() as mirror:
        here = Site(cluster, mirror, archive, tmp_path)
        lived_in(cluster)
        yield here


ALLOWED = ("--allow-stranded", "stranded", "--allow-orphaned", "broken")
FIVE = {
    "team-default": ("alpha", "0.9.0", "updates-now", ["alpha.v1.0.0"]),
    "team-custom": ("beta", "0.9.0", "unchanged", None),
    "team-stranded": ("stranded", "0.9.0", "stranded", []),
    "team-manual": ("alpha", "0.9.0", "waits-for-approval", ["alpha.v1.0.0"]),
    "team-broken": ("broken", "0.9.0", "orphaned", None),
}


def said(rows):
    return {row["namespace"]: (row["operator"], row["version"], row["result"], row["path"]) for row in rows}


def test_every_command_says_the_same_of_the_same_operators(site):
    asked = site.ask("operators", site.archive)
    assert asked.status == 6, asked.stderr
    assert said(asked.json["operators"]) == FIVE
    dry = site.run("apply", "--dry-run")
    assert said(dry.json["operators"]) == FIVE
    assert {(each["code"], each["severity"]) for each in dry.json["findings"]} >= {
        ("operator-stranded", "error"),
        ("subscription-orphaned", "error"),
    }
    refused = site.run("deploy")
    assert refused.status == 6
    assert "--allow-stranded stranded" in refused.stderr
    assert site.mirror.repositories == {}
    allowed = site.run("deploy", "--dry-run", *ALLOWED)
    assert said(allowed.json["apply"]["operators"]) == FIVE
    assert not [each for each in allowed.json["apply"]["findings"] if each["severity"] == "error"]


def test_for_people_it_has_80_columns_and_the_question_counts_the_updates(site):
    command = ("--registry", f"{site.mirror.host}/ocp", "--insecure", site.mirror.host)
    long = "a" * 60
    put_operator(site.cluster, InstalledOperator(long, long, "alpha", source="site-catalog"))
    shown = site.text("operators", site.archive)
    assert re.search(r"^team-default/alpha +0.9.0 +1.0.0 +updates now$", shown.stdout, re.MULTILINE)
    assert f"\n{long}/" in shown.stdout, "whole in a pipe"
    drawn = on_terminal("hub-import", "operators", site.archive, "--kubeconfig", site.kubeconfig).stdout
    assert max(map(len, drawn.splitlines())) <= 80
    assert re.search(r"^team-default/alpha +0.9.0 +1.0.0 +updates now$", drawn, re.MULTILINE)
    dry = site.text("deploy", site.archive, *command, "--dry-run", *ALLOWED)
    assert "no drain, 1 operator will update." in dry.stdout
    assert "2 operators unchanged; hub-import operators shows all." in dry.stdout


@pytest.mark.parametrize("verb", ["clusterserviceversions", *more(["subscriptions", "clusterextensions"])])
def test_what_may_not_be_read_is_left_open(site, verb):
    site.cluster.forbidden.add(("list", verb))
    asked = site.ask("operators", site.archive)
    rows = said(asked.json["operators"])
    assert bool(asked.json["unseen"]) is (verb != "clusterserviceversions")
    if verb == "subscriptions":
        assert rows == {}
    else:
        assert rows == FIVE  # each version is read by the name of its ClusterServiceVersion


def test_copies_of_a_cluster_service_version_are_not_read(site):
    metadata = {"name": "alpha.v0.9.0", "namespace": "team-default", "labels": {"olm.copiedFrom": "elsewhere"}}
    site.cluster.put({"kind": "ClusterServiceVersion", "metadata": metadata})
    (row,) = [each for each in site.ask("operators").json["operators"] if each["namespace"] == "team-default"]
    assert (row["version"], row["catalog"]) == (None, {"now": "redhat-operators", "then": "redhat-operators"})
    lists = [each for each in site.cluster.log if each.method == "GET" and each.path.endswith("clusterserviceversions")]
    assert len(lists) == 1
    assert MARKETPLACE not in lists[0].path


def by_people(objects):
    """Return the objects that OLM does not write."""
    return {key: body for key, body in objects.items() if "installplans" not in key and "clusterserviceversions" not in key}


def test_subscriptions_that_lose_their_catalog_name_the_one_that_has_their_operator(site):
    put_operator(site.cluster, InstalledOperator("team-other", "my-beta", "beta", source="retired"))
    before = site.state()
    asked = site.ask("operators", site.archive, "--repoint")
    (row,) = [each for each in asked.json["operators"] if each["namespace"] == "team-other"]
    assert (row["catalog"], row["result"]) == ({"now": "retired", "then": "redhat-operators"}, "updates-now")
    site.cluster.forbidden.add(("patch", "subscriptions"))
    refused = site.run("deploy", *ALLOWED, "--repoint")
    assert (refused.status, "patch subscriptions" in refused.stderr) == (6, True)
    site.cluster.forbidden.clear()
    done = site.run("deploy", *ALLOWED, "--repoint")
    assert done.status == 0, done.stderr
    (change,) = [each for each in done.json["apply"]["changes"] if each["kind"] == "Subscription"]
    assert (change["action"], change["name"], "spec.source" in change["detail"]) == ("changed", "my-beta", True)
    spec = site.cluster.get("Subscription", "my-beta", "team-other")["spec"]
    assert (spec["source"], spec["channel"]) == ("redhat-operators", "stable")
    again = site.run("apply", *ALLOWED, yes=False)
    assert {each["action"] for each in again.json["changes"]} == {"unchanged"}
    assert site.ask("undo", "--yes").status == 0
    assert by_people(site.state()) == by_people(before)


@pytest.mark.more
def test_a_subscription_that_a_person_has_changed_since_stays_so(site):
    put_operator(site.cluster, InstalledOperator("team-other", "my-beta", "beta", source="retired"))
    assert site.run("deploy", *ALLOWED, "--repoint").status == 0
    metadata = {"name": "my-beta", "namespace": "team-other"}
    site.cluster.put({"kind": "Subscription", "metadata": metadata, "spec": {"source": "site-catalog"}})
    undone = site.ask("undo", "--yes")
    (one,) = [each for each in undone.json["objects"] if each["kind"] == "Subscription"]
    assert (undone.status, one["outcome"], one["fields"]) == (6, "refused", ["spec.source"])
    assert site.cluster.get("Subscription", "my-beta", "team-other")["spec"]["source"] == "site-catalog"


def test_an_update_that_fails_ends_the_deploy_with_what_olm_says_of_it(site):
    site.cluster.updates.failing["alpha.v1.0.0"] = ("plan", "the CRD of alpha has stored versions that are gone")
    done = site.run("deploy", *ALLOWED)
    assert done.status == 6, done.stderr
    applied = done.json["apply"]
    (found,) = [each for each in applied["findings"] if each["code"] == "operator-not-well"]
    assert (found["subject"], applied["healthy"]) == ("Subscription team-default/my-alpha", False)
    assert "stored versions" in found["evidence"][0]
    after = {row["namespace"]: (row["result"], row["installed"]) for row in applied["operatorsAfter"]}
    assert after["team-default"] == ("unresolved", "alpha.v0.9.0")
    assert after["team-custom"] == ("unchanged", "beta.v0.9.0")
    shown = site.ask("status").json["operators"]
    assert {row["namespace"]: row["result"] for row in shown}["team-default"] == "unresolved"
