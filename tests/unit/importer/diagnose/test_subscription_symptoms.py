"""Subscriptions whose CatalogSource does not exist, by the conditions of OLM and the existing sources."""

from __future__ import annotations

import pytest

from importer.cluster.resources.catalog_source import is_default
from importer.diagnose.rules import diagnose
from importer.diagnose.snapshot import Snapshot
from importer.operators.installed import Sources

MARKET = "openshift-marketplace"
MISSING = f"targeted catalogsource {MARKET}/redhat-operators missing"
NOTHING = (
    f"constraints not satisfiable: no operators found from catalog redhat-operators in namespace {MARKET} "
    "referenced by subscription alpha, subscription alpha exists"
)
OTHER = "constraints not satisfiable: bundle a.v1 requires an operator with package: b"


def subscription(name="alpha", source="redhat-operators", place=MARKET, **conditions):
    listed = [{"type": kind, "status": "True", "message": said} for kind, said in conditions.items()]
    spec = {"name": name, "source": source, "sourceNamespace": place}
    return {"metadata": {"name": name, "namespace": "site"}, "spec": spec, "status": {"conditions": listed}}


def codes(*subscriptions, present=(), everywhere=True):
    bodies = {place: {"metadata": {"name": place[1], "namespace": place[0]}} for place in present or ()}
    nothing = {
        "pools": (),
        "missing_rules": {},
        "ca_keys": frozenset(),
        "registry_state": "",
        "jobs": (),
        "cluster_catalogs": (),
    }
    snapshot = Snapshot(
        release=None,
        sources=(),
        subscriptions=subscriptions,
        package_log="",
        rule_kinds=frozenset(),
        all_sources=Sources(bodies, MARKET, everywhere=everywhere) if present is not None else None,
        **nothing,
    )
    return [(each.code, each.subject.rpartition("/")[2]) for each in diagnose(snapshot)]


@pytest.mark.parametrize(
    "said",
    [
        {"CatalogSourcesUnhealthy": MISSING},
        {"CatalogSourcesUnhealthy": MISSING, "ResolutionFailed": NOTHING},
        {"CatalogSourcesUnhealthy": MISSING, "ResolutionFailed": OTHER},
        {"ResolutionFailed": NOTHING},
        {},
    ],
)
def test_a_missing_source_is_the_cause_and_not_a_missing_dependency(said):
    found = codes(subscription(**said))
    assert ("subscription-orphaned", "alpha") in found
    assert ("dependency-missing", "alpha") not in found or said.get("ResolutionFailed") == OTHER


def test_the_same_message_of_another_subscription_in_the_namespace_is_explained():
    found = codes(
        subscription(CatalogSourcesUnhealthy=MISSING, ResolutionFailed=NOTHING),
        subscription("beta", "index", ResolutionFailed=NOTHING),
        present=[(MARKET, "index")],
    )
    assert found == [("subscription-orphaned", "alpha")]


def test_conditions_from_before_the_source_was_restored_do_not_count():
    assert codes(subscription(CatalogSourcesUnhealthy=MISSING), present=[(MARKET, "redhat-operators")]) == []


def test_another_reason_of_olm_is_reported_unchanged():
    assert codes(subscription(ResolutionFailed=OTHER)) == [("dependency-missing", "alpha")]


def test_a_source_of_a_namespace_that_may_not_be_read_is_not_called_missing():
    assert codes(subscription(place="private"), everywhere=False) == []
    said = "targeted catalogsource private/redhat-operators missing"
    assert codes(subscription(place="private", CatalogSourcesUnhealthy=said), everywhere=False) == [
        ("subscription-orphaned", "alpha")
    ]
    assert codes(subscription(CatalogSourcesUnhealthy=MISSING), present=None) == [("subscription-orphaned", "alpha")]


@pytest.mark.parametrize(
    ("default", "metadata"),
    [
        (True, {"annotations": {"operatorframework.io/managed-by": "marketplace-operator"}}),
        (True, {"labels": {"opsrc-owner-name": "redhat-operators"}}),
        (True, {"managedFields": [{"manager": "catalog"}, {"manager": "marketplace-operator"}]}),
        (False, {"managedFields": [{"manager": "kubectl-create"}]}),
        (False, {"annotations": {"operatorframework.io/managed-by": "a-team"}}),
        (False, {"labels": {"opsrc-owner-name": "redhat-operators"}, "name": "mine"}),
        (False, {"managedFields": [{"manager": "marketplace-operator"}], "name": "mine"}),
        (False, {}),
    ],
)
def test_the_default_sources_of_every_release_are_recognized(default, metadata):
    assert is_default({"metadata": {"name": "redhat-operators", **metadata}}) is default
