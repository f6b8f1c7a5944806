"""What operators require, and what that requires in turn: missing, installed too, or kept from it by the OperatorGroup."""

from __future__ import annotations

import pytest

from common.archive.inventory import BundleRecord, ChannelRecord, PackageRecord, RequiredPackageRecord
from exporter.catalog.records import package_records
from importer.install.groups import Group
from importer.install.offers import Offered, choose, of_packages
from importer.install.placing import Surroundings, place
from importer.install.requirements import MAX_PACKAGES, requirements
from importer.install.wanted import How, Wanted
from tests.fakes.catalogs import real
from tests.samples import more

SOURCE = ("openshift-marketplace", "index")
OWN = ("OwnNamespace",)


def offer(name, *wants, modes=OWN, apis=(), provides=(), version="1.0.0"):
    """Return a package: `wants` are packages, each with or without a range after a blank."""
    head = f"{name}.v{version}"
    required = tuple(RequiredPackageRecord(*(each.split(" ", 1) if " " in each else (each, ""))) for each in wants)
    stated = {"install_modes": modes, "provided_apis": provides, "required_apis": apis, "required_packages": required}
    return Offered(
        PackageRecord(name, "stable", (ChannelRecord("stable", head, (BundleRecord(head, version),), **stated),)), SOURCE
    )


def said(*offers, around=None):
    """Return what is said of the first package, in a namespace of its own."""
    first = choose(Wanted(offers[0].package.name), offers)
    around = around or Surroundings()
    placed = place([first], How(namespace="there"), around)
    return {each.code: each.evidence for each in requirements(placed.placements, offers, around)}


def test_what_is_missing_is_said_with_the_packages_that_lead_there():
    found = said(offer("a", "b"), offer("b", "c"), offer("c", "d >=2.0.0"))
    assert found["dependency-missing"] == ("b requires c, which requires package d >=2.0.0",)
    assert found["dependency-installed"] == ("b", "c")


@pytest.mark.parametrize(
    "case",
    [
        ("b requires c, which does not support OwnNamespace", offer("c", modes=("AllNamespaces",))),
        *more(
            [
                (
                    "requires c, which requires d, which does not support OwnNamespace",
                    offer("c", "d"),
                    offer("d", modes=("AllNamespaces",)),
                ),
                ("", offer("c", "d"), offer("d", modes=())),  # not known
                ("", offer("c", "d", modes=OWN), offer("d", "b")),
            ]
        ),
    ],
)
def test_what_the_group_does_not_let_run_is_said_with_the_packages_that_lead_there(case):
    text, *others = case
    found = said(offer("a", "b"), offer("b", "c"), *others).get("dependency-blocked", ())
    assert [each.endswith(text) for each in found] == ([True] if text else [])


def test_apis_of_a_third_operator_that_another_group_has_already():
    rival = Group("openshift-operators", "global-operators", provided=frozenset(("C.v1.example.com",)))
    around = Surroundings(groups=(rival,))
    found = said(
        offer("a", "b"), offer("b", apis=("C.v1.example.com",)), offer("c", provides=("C.v1.example.com",)), around=around
    )
    (text,) = found["dependency-blocked"]
    assert (
        text == "b requires c, which provides APIs of an operator of OperatorGroup openshift-operators/global-operators already"
    )


@pytest.mark.parametrize("wants", ["a", *more(["b"])])
def test_a_cycle_ends(wants):
    found = said(offer("a", "b"), offer("b", "c"), offer("c", wants))
    assert found.keys() == {"dependency-installed"}


def test_where_olm_has_a_choice_nothing_is_said_that_one_way_does_not_need():
    """Two packages provide the API; two channels, of which one requires nothing; a head that the range excludes."""
    twice = offer("a", apis=("X.v1.example.com",))
    one, two = (offer(name, "lost", provides=("X.v1.example.com",)) for name in ("x", "y"))
    assert said(twice, one, two).keys() == {"dependency-installed"}
    free = ChannelRecord("free", "b.v1.0.0", (BundleRecord("b.v1.0.0", "1.0.0"),), install_modes=OWN)
    package = offer("b", "lost").package
    either = Offered(PackageRecord("b", "stable", (*package.channels, free)), SOURCE)
    assert said(offer("a", "b"), either).keys() == {"dependency-installed"}
    bundles = (BundleRecord("b.v2.0.0", "2.0.0"), BundleRecord("b.v1.0.0", "1.0.0"))
    lost = (RequiredPackageRecord("lost", ""),)
    newer = ChannelRecord("stable", "b.v2.0.0", bundles, install_modes=OWN, required_packages=lost)
    assert said(offer("a", "b <2.0.0"), Offered(PackageRecord("b", "stable", (newer,)), SOURCE)).keys() == {
        "dependency-installed"
    }


def test_a_long_chain_is_followed_to_a_bound():
    def chain(length):
        return [
            offer("a", "p0"),
            *(offer(f"p{one}", f"p{one + 1}") for one in range(length - 1)),
            offer(f"p{length - 1}", "lost"),
        ]

    assert said(*chain(MAX_PACKAGES))["dependency-missing"] == (
        "p0 requires p1, which requires p2, which requires p3, which requires …, which requires p199, which requires package lost",
    )
    found = said(*chain(MAX_PACKAGES + 1))
    assert (found.keys(), len(found["dependency-installed"])) == ({"dependency-installed"}, MAX_PACKAGES)


@pytest.mark.more
def test_real_operators_that_require_each_other_are_followed():
    """rabbitmq-messaging-topology-operator requires rabbitmq-cluster-operator."""
    offers = of_packages(package_records(real("fbc/community-v4.20")), SOURCE)
    offers.sort(key=lambda each: each.package.name != "rabbitmq-messaging-topology-operator")
    assert said(*offers)["dependency-installed"] == ("rabbitmq-cluster-operator",)
    assert "rabbitmq-cluster-operator" in said(offers[0])["dependency-missing"][0]
