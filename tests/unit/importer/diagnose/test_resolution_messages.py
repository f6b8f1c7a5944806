"""Messages of OLM's resolver, and what each is called: a catalog that is down, what a catalog lacks, a real requirement.

Sources, all of operator-lifecycle-manager: pkg/controller/registry/resolver/resolver.go (`no operators found …`, sortChannel),
pkg/controller/registry/resolver/variables.go (constraints), pkg/controller/registry/resolver/cache/cache.go and commit ff9084a
(catalogs that cannot be listed); operator-lifecycle-manager#2086.
"""

from __future__ import annotations

import time

import pytest

from importer.diagnose.rules import diagnose
from tests.fakes.snapshots import MARKET, snapshot, source, subscription
from tests.samples import more

DIAL = 'failed to list bundles: rpc error: code = Unavailable desc = connection error: desc = "transport: Error while dialing"'
OFFERS = {"alpha": {"stable": "alpha.v1.2.0", "fast": "alpha.v2.0.0"}, "gamma": {"stable": "gamma.v1.0.0"}}


def unsatisfied(*parts, name="alpha"):
    """Return a message as the solver joins it: the order of its parts is not fixed."""
    return f"constraints not satisfiable: subscription {name} exists, {', '.join(parts)}"


def found(*subscriptions, **fields):
    return diagnose(snapshot(*subscriptions, **fields))


def codes(*subscriptions, **fields):
    return [(each.code, each.subject) for each in found(*subscriptions, **fields)]


@pytest.mark.parametrize(
    "said",
    [
        f"failed to populate resolver cache from source left-behind/{MARKET}: {DIAL}",
        f"error using catalogsource {MARKET}/left-behind: {DIAL}",
        f"[error using catalogsource {MARKET}/index: {DIAL}, error using catalogsource {MARKET}/left-behind: {DIAL}]",
        f"error using catalog left-behind (in namespace {MARKET}): {DIAL}",
    ],
)
def test_a_catalog_that_is_down_is_named_in_every_wording(said):
    down = source("left-behind", "TRANSIENT_FAILURE", labels={})
    (one,) = found(subscription(ResolutionFailed=said), sources=[source(connected_s=9.0), down])
    assert (one.code, one.subject, one.severity) == ("other-catalog-down", "CatalogSource left-behind", "error")
    assert any("Subscription site/alpha" in line for line in one.evidence)


def test_the_order_of_name_and_namespace_counts():
    """A catalog whose name is the namespace of another one (NAMESPACE/NAME since ff9084a) is not blamed."""
    misleading = source(MARKET, "TRANSIENT_FAILURE", labels={})
    down = source("left-behind", "TRANSIENT_FAILURE", labels={})
    said = f"error using catalogsource {MARKET}/left-behind: {DIAL}"
    severities = {
        each.subject: each.severity
        for each in found(subscription(ResolutionFailed=said), sources=[misleading, down])
        if each.code == "other-catalog-down"
    }
    assert severities == {f"CatalogSource {MARKET}": "warning", "CatalogSource left-behind": "error"}


def test_a_catalog_in_the_namespace_of_the_subscription_is_named_too():
    said = f"error using catalogsource site/mine: {DIAL}"
    mine = source("mine", "CONNECTING", place="site", labels={})
    (one,) = found(subscription(ResolutionFailed=said), sources=[source()], elsewhere=[mine])
    assert (one.code, one.subject) == ("other-catalog-down", "CatalogSource mine")
    assert "namespace site" in one.cause


def test_a_catalog_that_answers_and_cannot_be_listed_is_named():
    said = (
        f"error using catalogsource {MARKET}/big: error encountered while listing bundles: rpc error: code = DeadlineExceeded"
    )
    (one,) = found(subscription(ResolutionFailed=said), sources=[source("big", labels={})])
    assert (one.code, one.severity) == ("other-catalog-down", "error")
    assert "cannot list" in one.cause


def test_a_catalog_that_does_not_exist_any_more_stays_unknown():
    said = f"error using catalogsource {MARKET}/gone: {DIAL}"
    assert codes(subscription(ResolutionFailed=said), sources=[source()]) == [("unknown", "Subscription site/alpha")]


MISSING = {
    "package": (
        "no operators found in package beta in the catalog referenced by subscription beta",
        {"name": "beta", "channel": "stable"},
        "it has 2 packages: alpha, gamma",
        "`- {name: beta, channels: [{name: stable}]}`",
    ),
    "channel": (
        "no operators found in channel stable-6.2 of package alpha in the catalog referenced by subscription beta",
        {"name": "alpha", "channel": "stable-6.2"},
        "it has the channels fast (head alpha.v2.0.0), stable (head alpha.v1.2.0); default: stable",
        "`- {name: alpha, channels: [{name: stable-6.2}]}`",
    ),
    "version": (
        "no operators found with name alpha.v1.0.0 in channel stable of package alpha in the catalog referenced by subscription beta",
        {"name": "alpha", "channel": "stable", "startingCSV": "alpha.v1.0.0"},
        "channel stable has alpha.v1.2.0, alpha.v1.1.0",
        '`- {name: alpha, channels: [{name: stable, minVersion: "1.0.0"}]}`',
    ),
}


@pytest.mark.parametrize("what", MISSING)
def test_what_a_catalog_lacks_is_named_with_what_it_has_and_the_line_of_the_image_set(what):
    """Red Hat KB 7092548, operator-registry#203: these were called a missing dependency."""
    said, spec, has, line = MISSING[what]
    here = source(offers=OFFERS, versions={("alpha", "stable"): ("alpha.v1.2.0", "alpha.v1.1.0")})
    (one,) = found(subscription("beta", spec=spec, ResolutionFailed=unsatisfied(said, name="beta")), sources=[here])
    assert (one.code, one.subject) == ("subscription-not-carried", "Subscription site/beta")
    assert any(has in each for each in one.evidence)
    assert line in one.fix


def test_what_one_subscription_lacks_is_found_once_and_not_with_its_neighbours():
    said = unsatisfied(MISSING["package"][0])
    here = source(offers=OFFERS)
    subscriptions = [subscription(name, ResolutionFailed=said) for name in ("alpha", "beta", "gamma")]
    assert codes(*subscriptions, sources=[here]) == [("subscription-not-carried", "Subscription site/beta")]


def test_two_subscriptions_that_lack_something_have_a_finding_each():
    said = unsatisfied(MISSING["package"][0], MISSING["channel"][0].replace("subscription beta", "subscription alpha"))
    subscriptions = [subscription(name, ResolutionFailed=said) for name in ("alpha", "beta")]
    assert codes(*subscriptions, sources=[source(offers=OFFERS)]) == [
        ("subscription-not-carried", "Subscription site/beta"),
        ("subscription-not-carried", "Subscription site/alpha"),
    ]


def test_another_catalog_that_has_the_package_is_the_first_way_out():
    other = source("second", offers={"beta": {"stable": "beta.v1"}})
    said = unsatisfied(MISSING["package"][0])
    (one,) = found(subscription("beta", ResolutionFailed=said), sources=[source(offers=OFFERS), other])
    assert one.fix.startswith("CatalogSource second has it: oc patch subscription.operators.coreos.com beta -n site")


def nothing_from(name, place=MARKET, by="alpha"):
    return unsatisfied(f"no operators found from catalog {name} in namespace {place} referenced by subscription {by}")


def test_a_catalog_without_any_operator_is_not_called_missing():
    (one,) = found(subscription(ResolutionFailed=nothing_from("index")), sources=[source(offers={})])
    assert one.code == "subscription-not-carried"
    assert "answers and has no operator" in one.cause


def test_a_catalog_of_a_third_namespace_is_not_used_by_olm():
    """OLM resolves with catalogs of the Subscription's namespace and of the global one (catalog/operator.go)."""
    said = nothing_from("theirs", "team-b")
    theirs = source("theirs", place="team-b", labels={})
    (one,) = found(subscription(source="theirs", place="team-b", ResolutionFailed=said), sources=[source()], elsewhere=[theirs])
    assert one.code == "subscription-orphaned"
    assert "own namespace" in one.cause


def test_a_catalog_whose_existence_is_not_known_stays_unknown():
    said = nothing_from("theirs", "team-b")
    here = {"sources": [source()], "everywhere": False}
    assert codes(subscription(source="theirs", place="team-b", ResolutionFailed=said), **here) == [
        ("unknown", "Subscription site/alpha")
    ]


def test_a_message_from_before_the_catalog_was_read_again_is_no_finding_for_some_minutes():
    said = unsatisfied("no operators found in package alpha in the catalog referenced by subscription alpha")
    lately, before = source(offers=OFFERS, connected_s=20.0), source(offers=OFFERS, connected_s=4000.0)
    assert codes(subscription(ResolutionFailed=said), sources=[lately]) == []
    assert codes(subscription(ResolutionFailed=said), sources=[before]) == [("unknown", "Subscription site/alpha")]


REQUIRES = "bundle alpha.v1.2.0 requires an operator with package: jaeger and with version in range: >=1.0.0"
REASONS = {
    "dependency-missing": REQUIRES,
    "csv-without-subscription": "clusterserviceversion alpha.v1.1.0 exists and is not referenced by a subscription",
    "operators-conflict": f"@existing/site//alpha.v1 and index/{MARKET}/stable/alpha.v2 provide Alpha (example.com/v1)",
}


@pytest.mark.parametrize("code", REASONS)
def test_other_reasons_of_the_solver_have_causes_of_their_own(code):
    """Only a requirement is a missing dependency (operator-lifecycle-manager#2086: a conflict was looked for there)."""
    assert [each[0] for each in codes(subscription(ResolutionFailed=unsatisfied(REASONS[code])), sources=[source()])] == [code]


def test_a_required_package_that_a_catalog_has_is_missing_in_that_version():
    here = source(offers={"jaeger": {"stable": "jaeger.v0.9.0"}})
    (one,) = found(subscription(ResolutionFailed=unsatisfied(REQUIRES)), sources=[here])
    assert "in a version that no catalog" in one.cause
    assert any("index has package jaeger" in line for line in one.evidence)


@pytest.mark.parametrize(
    "said",
    [
        'no channel heads (entries not replaced by another entry) found in channel "stable" of package "alpha"',
        *more(
            [
                'a cycle exists in the chain of replacement beginning with "a.v3" in channel "stable" of package "alpha"',
                "a unique replacement chain within a channel is required to determine the relative order between channel entries",
            ]
        ),
    ],
)
def test_a_broken_update_graph_is_named(said):
    assert codes(subscription(ResolutionFailed=said), sources=[source()]) == [
        ("catalog-graph-broken", "Subscriptions of namespace site")
    ]


def test_constraints_without_a_known_reason_stay_unknown():
    said = unsatisfied("subscription alpha requires at least one of a.v1 or a.v2")
    (one,) = found(subscription(ResolutionFailed=said), sources=[source()])
    assert (one.code, one.evidence) == ("unknown", (said,))


def test_a_message_without_end_is_read_in_time():
    before = time.process_time()
    for hostile in ("a" * 200_000, "no operators found in channel " * 9000, "error using catalogsource a/" * 9000):
        found(subscription(ResolutionFailed=hostile), sources=[source()])
    assert time.process_time() - before < 2
