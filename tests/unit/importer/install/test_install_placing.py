"""Namespace, OperatorGroup and Subscription of every head of real catalogs: OLM would install it, by a model of its rules.

The model is tests/fakes/olm_groups.py, from operator-lifecycle-manager and operator-framework/api.
"""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import replace

import pytest

from common.archive.inventory import BundleRecord, ChannelRecord, PackageRecord, RequiredPackageRecord
from common.errors import UsageError
from exporter.catalog.readers import sqlite
from exporter.catalog.records import package_records
from importer.cluster.finding import Finding, Severity
from importer.install.groups import Group
from importer.install.namespaces import loosened
from importer.install.objects import namespace as namespace_object
from importer.install.objects import operator_group, subscription
from importer.install.offers import Offered, choose, of_manifest, of_packages
from importer.install.placing import Surroundings, place
from importer.install.requirements import requirements
from importer.install.wanted import Approval, How, InstallMode, Wanted, parse_all
from importer.operators.installed import Extension, Subscribed
from tests.fakes import databases
from tests.fakes.catalogs import real
from tests.fakes.olm_groups import verdict
from tests.samples import more

SOURCE = ("openshift-marketplace", "index")
HOME = {
    "apiVersion": "operators.coreos.com/v1",
    "metadata": {"name": "global-operators", "namespace": "openshift-operators"},
    "spec": {},
}
MODES = tuple(InstallMode)
_FURTHER = ("community-v4.20", "bundle-object-v4.16", "malformed", "malformed-bundle-object")
_DATABASES = ("community", "schema-05", "schema-10")
CATALOGS = ["fbc/redhat", *more([*(f"fbc/{each}" for each in _FURTHER), *(f"sqlite/{each}" for each in _DATABASES)])]


def heads(name):
    """Return every channel of a real catalog as the one choice of its package."""
    kind, _, base = name.partition("/")
    catalog = sqlite.catalog_of(sqlite.read(databases.real(base), "x")) if kind == "sqlite" else real(name)
    offered = of_packages(package_records(catalog), SOURCE)
    return [choose(Wanted(each.package.name, channel.name), offered) for each in offered for channel in each.package.channels]


def offer(modes=("AllNamespaces",), *, name="foo", provided=("Foo.v1.example.com",), **stated):
    bundles = (BundleRecord(f"{name}.v2.0.0", "2.0.0", f"{name}.v1.0.0"), BundleRecord(f"{name}.v1.0.0", "1.0.0"))
    channel = ChannelRecord("stable", bundles[0].name, bundles, install_modes=tuple(modes), provided_apis=provided, **stated)
    return Offered(PackageRecord(name, "stable", (channel,)), SOURCE)


def chosen(*offers, text=""):
    return [choose(Wanted.parse(text or each.package.name), [each]) for each in offers]


def cluster(*groups, **more_of):
    found = (HOME, *groups)
    return Surroundings(groups=tuple(map(Group.of, found)), **more_of), found


def group(where, name="og", **spec):
    return {"metadata": {"name": name, "namespace": where}, "spec": spec}


def errors(placed):
    return [each for each in placed.findings if each.severity is Severity.ERROR]


def olm(placement, groups, labels=None):
    """Return what OLM says of an operator in its place, with the OperatorGroup that is created there."""
    modes = placement.chosen.modes or frozenset()
    made = [*groups, *([operator_group(placement).body] if placement.fresh else [])]
    return verdict(placement.namespace, modes, set(placement.chosen.channel.provided_apis), made, labels or {})


@pytest.mark.parametrize("name", CATALOGS)
def test_olm_installs_every_head_where_it_is_put(name):
    around, groups = cluster()
    for one in heads(name):
        placed = place([one], How(), around)
        if one.modes is None:  # bundles of 2018, such as those of etcd: what is not known is said, and the group decides
            assert [each.code for each in placed.findings] == ["install-mode"]
            continue
        if not one.modes & {"AllNamespaces", "OwnNamespace"}:
            (found,) = errors(placed)
            assert (found.code, placed.placements) == ("install-mode", ())
            assert one.package in found.subject
            continue
        (placement,) = placed.placements
        assert olm(placement, groups) == "", one.package
        # The console prefers AllNamespaces, and puts operators without a suggestion next to each other only then.
        everywhere = "AllNamespaces" in one.modes
        assert placement.mode == ("AllNamespaces" if everywhere else "OwnNamespace")
        if one.suggested:
            assert placement.namespace == one.suggested
        else:
            assert (placement.namespace == "openshift-operators") == everywhere
        body = subscription(placement).body
        assert body["metadata"]["namespace"] == placement.namespace
        assert body["spec"] == {
            "name": one.package,
            "channel": one.channel.name,
            "source": "index",
            "sourceNamespace": "openshift-marketplace",
            "startingCSV": one.channel.head,
            "installPlanApproval": "Automatic",
        }


GROUPS = {
    "all": group("there"),
    "own": group("there", targetNamespaces=["there"]),
    "single": group("there", targetNamespaces=["team"]),
    "multi": group("there", targetNamespaces=["team", "other"]),
    "multi with own": group("there", targetNamespaces=["team", "there"]),
    "selector": group("there", selector={"matchLabels": {"a": "b"}}),
}


@pytest.mark.parametrize("name", CATALOGS)
def test_a_group_in_the_way_is_used_or_refused_as_olm_would(name):
    for one in heads(name):
        if one.modes is None:
            continue
        for kind, existing in GROUPS.items():
            around, groups = cluster(existing)
            placed = place([one], How(namespace="there"), around)
            said = verdict("there", one.modes, set(one.channel.provided_apis), groups, {})
            assert bool(placed.placements) == (said == ""), (one.package, kind, said)
            if said:
                (found,) = errors(placed)
                assert (found.code, found.subject, said in found.cause) == ("operator-group", "OperatorGroup there/og", True)


@pytest.mark.parametrize("count", range(len(MODES) + 1))
def test_all_combinations_of_modes_and_watched_namespaces(count):
    """Each set of modes, with each way to ask for the namespaces: accepted where a group exists that OLM would take."""
    for modes in itertools.combinations(MODES, count):
        for watch in ((), ("there",), ("team",), ("other", "team"), ("team", "there")):
            around, groups = cluster()
            placed = place(chosen(offer(modes)), How(namespace="there", watch=watch), around)
            if not modes:
                assert placed.placements == () or watch  # nothing is known of the modes
                continue
            options = [watch] if watch else [(), ("there",)]
            fits = [
                not verdict("there", modes, set(), [*groups, group("there", targetNamespaces=list(each))], {})
                for each in options
            ]
            assert bool(placed.placements) == any(fits), (modes, watch)
            for placement in placed.placements:
                assert olm(placement, groups) == ""


def test_several_groups_are_refused_by_name():
    around, _ = cluster(group("there", "a"), group("there", "b"))
    (found,) = errors(place(chosen(offer()), How(namespace="there"), around))
    assert found.subject == "namespace there"
    assert "TooManyOperatorGroups" in found.cause
    assert found.evidence == ("OperatorGroup there/a", "OperatorGroup there/b")


def test_a_selector_counts_by_what_olm_found():
    """status.namespaces is what OLM evaluated last (operatorgroup.go, updateNamespaceList)."""
    body = {**GROUPS["selector"], "status": {"namespaces": ["team"]}}
    around, groups = cluster(body)
    (placement,) = place(chosen(offer(("SingleNamespace",))), How(namespace="there"), around).placements
    assert (placement.mode, placement.fresh) == ("SingleNamespace", False)
    assert olm(placement, groups, {"team": {"a": "b"}}) == ""


@pytest.mark.parametrize(
    ("other", "own", "conflict"),
    [
        ({}, ("OwnNamespace",), True),  # all namespaces intersect with each
        ({"targetNamespaces": ["team"]}, ("OwnNamespace",), False),
        ({"targetNamespaces": ["there"]}, ("OwnNamespace",), True),
        ({"targetNamespaces": ["team"]}, ("AllNamespaces",), True),
    ],
)
def test_the_same_apis_in_an_intersecting_group_are_refused(other, own, conflict):
    rival = group("rival", **other)
    rival["metadata"]["annotations"] = {"olm.providedAPIs": "Bar.v1.example.com,Foo.v1.example.com"}
    around, groups = cluster(rival)
    placed = place(chosen(offer(own)), How(namespace="there"), around)
    assert [each.subject for each in errors(placed)] == (["OperatorGroup rival/og"] if conflict else [])
    (placement,) = placed.placements
    assert olm(placement, groups) == ("InterOperatorGroupOwnerConflict" if conflict else "")


def test_a_group_with_fixed_apis_takes_no_others():
    around, groups = cluster(group("there", staticProvidedAPIs=True))
    placed = place(chosen(offer()), How(namespace="there"), around)
    assert "staticProvidedAPIs" in errors(placed)[0].cause
    assert olm(placed.placements[0], groups) == "CannotModifyStaticOperatorGroupProvidedAPIs"


def test_operators_of_one_namespace_get_one_group_that_fits_all():
    together = [offer(("AllNamespaces", "OwnNamespace"), name="a"), offer(("OwnNamespace",), name="b")]
    around, _ = cluster()
    placed = place(chosen(*together), How(namespace="there"), around)
    assert [(one.group.targets, one.fresh) for one in placed.placements] == [(("there",), True)] * 2
    apart = [offer(("AllNamespaces",), name="a"), offer(("OwnNamespace",), name="b")]
    (found,) = errors(place(chosen(*apart), How(namespace="there"), around))
    assert (found.code, found.subject) == ("install-mode", "operators a, b")
    assert found.evidence == ("a supports AllNamespaces", "b supports OwnNamespace")


def test_the_template_of_a_namespace_counts_before_its_annotation():
    template = {"metadata": {"name": "from-template", "labels": {"pod-security.kubernetes.io/enforce": "privileged"}}}
    stated = {"suggested_namespace": "other", "suggested_namespace_template": json.dumps(template), "cluster_monitoring": True}
    around, _ = cluster()
    (placement,) = place(chosen(offer(**stated)), How(), around).placements
    assert placement.namespace == "from-template"
    made = namespace_object("from-template", [placement.chosen]).body["metadata"]
    assert made["labels"] == {**template["metadata"]["labels"], "app.kubernetes.io/managed-by": "hub-import"}
    # The label of monitoring is for namespaces of the platform, as in the console (showMonitoringCheckbox).
    platform = namespace_object("openshift-foo", [placement.chosen]).body["metadata"]
    assert platform["labels"]["openshift.io/cluster-monitoring"] == "true"
    for broken in ("{", "[]", '{"metadata": 1}', '{"metadata": {"name": "No Name"}}', "[" * 9000):
        (one,) = chosen(offer(suggested_namespace="other", suggested_namespace_template=broken))
        assert one.suggested == "other"


def subscribed(where="openshift-operators", **fields):
    found = Subscribed(where, "my-foo", "foo", SOURCE, installed="foo.v2.0.0", channel="stable")
    return replace(found, **fields)


@pytest.mark.parametrize(
    ("existing", "said"),
    [
        (subscribed(channel="fast"), "channel fast, not stable"),
        (subscribed(source=("openshift-marketplace", "other")), "catalog openshift-marketplace/other"),
        (subscribed("elsewhere"), "it is subscribed to in namespace elsewhere"),
    ],
)
def test_what_is_subscribed_otherwise_is_left_alone(existing, said):
    around, _ = cluster(subscriptions=(existing,))
    placed = place(chosen(offer()), How(), around)
    (found,) = placed.findings
    assert (placed.placements, found.code, found.severity) == ((), "operator-subscribed", "warning")
    assert said in found.text


@pytest.mark.parametrize(("where", "channel"), [("openshift-operators", "stable"), ("openshift-operators", "fast"), ("a", "b")])
def test_a_subscription_without_its_catalog_is_to_name_the_one_that_has_the_package(where, channel):
    lost = ("openshift-marketplace", "gone")
    around, _ = cluster(subscriptions=(subscribed(where, source=lost, channel=channel),), lost=frozenset((lost,)))
    (found,) = place(chosen(offer()), How(), around).findings
    assert (found.code, found.severity) == ("operator-subscribed", "warning")
    assert "openshift-marketplace/gone, which does not exist" in found.text
    assert f"--repoint, or oc patch subscription.operators.coreos.com my-foo -n {where}" in found.fix
    assert '"source":"index"' in found.fix
    assert ("channel fast, not stable" in found.text) == (channel == "fast")


def test_a_subscription_to_the_catalog_that_an_import_is_about_to_create_is_there_already():
    around, _ = cluster(subscriptions=(subscribed(),), lost=frozenset((SOURCE,)))
    (placement,) = place(chosen(offer()), How(), around).placements
    assert placement.present


@pytest.mark.parametrize("why", ["gone", *more(["unresolved"])])
def test_a_subscription_of_others_that_olm_cannot_resolve_keeps_the_new_one_from_being_resolved(why):
    """operator-lifecycle-manager resolves a namespace as a whole; once is enough for all operators of a run."""
    gone = ("openshift-marketplace", "gone")
    theirs = subscribed("openshift-operators", package="theirs", source=gone if why == "gone" else SOURCE)
    theirs = replace(theirs, unresolved="" if why == "gone" else "no operators found in channel x")
    around, _ = cluster(subscriptions=(theirs,), lost=frozenset((gone,)))
    two = chosen(offer(), offer(name="bar", provided=()))
    found = place(two, How(), around)
    (said,) = [each for each in found.findings if each.code == "namespace-unresolved"]
    assert (said.severity, said.subject, len(found.placements)) == ("warning", "namespace openshift-operators", 2)
    assert "theirs" in said.cause
    assert codes(place(two, How(namespace="other"), around)) == set()
    # The catalogs of an archive are created after the question.
    assert codes(place(two, How(), cluster(subscriptions=(theirs,), lost=frozenset((SOURCE,)))[0])) == set()


def test_the_same_subscription_is_there_already():
    around, _ = cluster(subscriptions=(subscribed(channel=""),))
    (placement,) = place(chosen(offer()), How(), around).placements
    assert placement.present
    assert not place(chosen(offer(), text="foo@1.0.0"), How(), around).placements  # it has another version


def test_an_extension_of_olm_v1_is_left_alone():
    around, _ = cluster(extensions=(Extension("foo", "foo", "foo"),))
    (found,) = place(chosen(offer()), How(), around).findings
    assert (found.subject, found.severity) == ("ClusterExtension foo", "warning")


def test_an_operator_may_be_in_two_namespaces_that_do_not_meet():
    around, _ = cluster(group("team-a", targetNamespaces=["team-a"]), subscriptions=(subscribed("team-a"),))
    own = offer(("OwnNamespace",))
    assert place(chosen(own), How(namespace="team-b"), around).placements
    assert not place(chosen(own), How(), around).placements  # not asked for by name
    assert not place(chosen(offer()), How(namespace="team-b"), around).placements  # it watches all


def test_a_csv_without_a_subscription_is_refused_by_name():
    """OLM: `exists and is not referenced by a subscription` (pkg/controller/registry/resolver/resolver.go)."""
    around, _ = cluster(csvs=frozenset((("openshift-operators", "foo.v1.0.0"), ("elsewhere", "foo.v2.0.0"))))
    (found,) = errors(place(chosen(offer()), How(), around))
    assert (found.code, found.subject) == ("csv-without-subscription", "ClusterServiceVersion openshift-operators/foo.v1.0.0")


def test_a_subscription_of_that_name_for_another_operator_is_refused():
    around, _ = cluster(subscriptions=(replace(subscribed(), name="foo", package="bar"),))
    (found,) = errors(place(chosen(offer()), How(), around))
    assert "for another operator, bar" in found.cause


def codes(placed):
    return {each.code for each in placed.findings}


def test_what_follows_from_version_and_approval_is_said():
    around, _ = cluster()
    below = chosen(offer(), text="foo@1.0.0")
    assert codes(place(below, How(), around)) == {"version-updates", "head-stands-in"}
    manual = How(approval=Approval.MANUAL)
    placed = place(below, manual, around)
    assert codes(placed) == {"head-stands-in"}
    body = subscription(placed.placements[0]).body["spec"]
    assert (body["installPlanApproval"], body["startingCSV"]) == ("Manual", "foo.v1.0.0")
    neighbour = replace(subscribed(), package="bar")
    around, _ = cluster(subscriptions=(neighbour,))
    assert codes(place(chosen(offer()), manual, around)) == {"approval-shared"}
    around, _ = cluster(subscriptions=(replace(neighbour, approval="Manual"),))
    assert codes(place(chosen(offer()), How(), around)) == {"approval-shared"}


def test_a_new_group_that_others_wait_for_is_said():
    around, _ = cluster(subscriptions=(replace(subscribed("there"), package="bar"),))
    (found,) = place(chosen(offer()), How(namespace="there"), around).findings
    assert (found.code, found.subject, found.severity) == ("operator-group", "namespace there", "warning")
    assert "install bar too" in found.cause


def test_modes_that_are_not_known_are_asked_for():
    around, _groups = cluster()
    (found,) = errors(place(chosen(offer(())), How(namespace="there"), around))
    assert "not known" in found.cause
    (placement,) = place(chosen(offer(())), How(namespace="there", mode=InstallMode.OWN), around).placements
    assert placement.group.targets == ("there",)
    placed = place(chosen(offer(())), How(), around)  # the group that is there decides
    assert ([one.group.name for one in placed.placements], codes(placed)) == (["global-operators"], {"install-mode"})


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("nothing", "no catalog that is served has the package"),
        ("foo:fast", "has no channel fast"),
        ("foo@9.9.9", "has no version 9.9.9"),
    ],
)
def test_what_is_not_served_is_refused_by_name(wanted, said):
    found = choose(Wanted.parse(wanted), [offer()])
    assert isinstance(found, Finding)
    assert (found.code, said in found.cause) == ("package-not-served", True)


def test_a_package_of_two_catalogs_needs_a_name():
    twice = [offer(), replace(offer(), source=("openshift-marketplace", "other"))]
    found = choose(Wanted("foo"), twice)
    assert (found.code, found.evidence) == (
        "package-in-several-catalogs",
        ("openshift-marketplace/index", "openshift-marketplace/other"),
    )
    assert choose(Wanted("foo"), twice, "other").source[1] == "other"


@pytest.mark.parametrize("text", ["", ":stable", "foo:", "foo@", "foo bar", "foo:a b", "x" * 300, "dir/archive"])
def test_texts_that_are_no_operator(text):
    with pytest.raises(UsageError):
        Wanted.parse(text)


def test_texts_of_operators():
    assert Wanted.parse("foo:stable-1.2@1.2.3+build") == Wanted("foo", "stable-1.2", "1.2.3+build")
    assert str(Wanted("foo", "a", "1")) == "foo:a@1"
    with pytest.raises(UsageError, match="twice"):
        parse_all(["foo", "foo:fast"])


def test_labels_of_a_template_are_those_that_kubernetes_accepts():
    """A wrong one would let the API server refuse the namespace, or end in a command that a person copies."""
    labels = {"team": "a", "mon": True, "level": 1, "bad": "x; $(reboot)", "no key!": "b", "none": None, "list": ["a"]}
    template = {"metadata": {"name": "foo", "labels": labels, "annotations": {"n": "any $(text)", "no key!": "b", "empty": ""}}}
    (one,) = chosen(offer(suggested_namespace_template=json.dumps(template)))
    made = namespace_object("foo", [one]).body["metadata"]
    own = {"app.kubernetes.io/managed-by": "hub-import"}
    assert made["labels"] == {"team": "a", "mon": "true", "level": "1", **own}
    assert made["annotations"] == {"n": "any $(text)", "empty": ""}


@pytest.mark.parametrize(
    ("labels", "lax"),
    [
        ({"pod-security.kubernetes.io/enforce": "privileged"}, 1),
        ({"openshift.io/run-level": 0}, 1),
        ({"pod-security.kubernetes.io/enforce": "restricted", "openshift.io/run-level": ""}, 0),
    ],
)
def test_labels_that_loosen_a_new_namespace_are_said(labels, lax):
    template = {"metadata": {"name": "foo", "labels": labels}}
    (one,) = chosen(offer(suggested_namespace_template=json.dumps(template)))
    found = list(loosened(namespace_object("foo", [one]), None))
    assert [each.code for each in found] == ["namespace-privileged"] * lax


@pytest.mark.parametrize("name", ["My_Package", "a..b", "-x-", "x" * 250])
def test_objects_of_a_package_have_names_that_kubernetes_accepts(name):
    around, _ = cluster()
    (placement,) = place(chosen(offer(name=name)), How(), around).placements
    body = subscription(placement).body
    assert body["spec"]["name"] == name
    assert re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", body["metadata"]["name"])
    other = replace(subscribed(), name=body["metadata"]["name"], package="bar")
    around, _ = cluster(subscriptions=(other,))
    assert "for another operator, bar" in errors(place(chosen(offer(name=name)), How(), around))[0].cause


@pytest.mark.parametrize("spec", [{}, {"targetNamespaces": ["a-team"]}])
def test_a_group_of_a_tenant_is_not_the_place_of_global_operators(spec):
    tenant = Group.of(group("a-team", "global-operators", **spec))
    around = Surroundings(groups=(tenant, Group.of(HOME)))
    (placement,) = place(chosen(offer()), How(), around).placements
    assert placement.namespace == "openshift-operators"


def test_a_csv_that_no_catalog_carries_any_more_is_in_the_way_too():
    around, _ = cluster(csvs=frozenset((("openshift-operators", "foo.v0.0.1"), ("openshift-operators", "foobar.v1.0.0"))))
    (found,) = errors(place(chosen(offer()), How(), around))
    assert found.subject == "ClusterServiceVersion openshift-operators/foo.v0.0.1"


def required(bar, around, *, modes=("OwnNamespace",)):
    """Return what is said of foo, which requires bar, as catalogs offer both."""
    one = offer(modes, required_packages=(RequiredPackageRecord("bar", ">=1.0.0"),))
    placed = place(chosen(one), How(namespace="there"), around)
    return {each.code: each.evidence for each in requirements(placed.placements, [one, *bar], around)}


def test_what_is_required_has_to_run_in_the_same_namespace():
    """operator-lifecycle-manager, pkg/controller/registry/resolver/source_csvs.go: of CSVs, those of the namespace count."""
    around, _ = cluster()
    bar = offer(("OwnNamespace",), name="bar", provided=("Bar.v1.example.com",))
    assert required([bar], around) == {"dependency-installed": ("bar",)}
    everywhere = offer(("AllNamespaces",), name="bar")
    assert required([everywhere], around)["dependency-blocked"] == ("bar does not support OwnNamespace",)
    unknown = offer((), name="bar")
    assert required([unknown], around) == {"dependency-installed": ("bar",)}
    rival = group("openshift-operators", "global-operators")
    rival["metadata"]["annotations"] = {"olm.providedAPIs": "Bar.v1.example.com"}
    around = Surroundings(groups=(Group.of(rival),))
    assert "openshift-operators/global-operators" in required([bar], around)["dependency-blocked"][0]


@pytest.mark.parametrize(("where", "said"), [("there", {}), ("elsewhere", {"dependency-missing": ("package bar >=1.0.0",)})])
def test_an_operator_of_another_namespace_meets_no_requirement(where, said):
    around, _ = cluster(subscriptions=(replace(subscribed(where), package="bar", approval="Automatic"),))
    assert required([], around) == said


@pytest.mark.parametrize("where", ["package", "channel", "entry", "head"])
def test_what_a_catalog_deprecates_is_said(where):
    """operator-lifecycle-manager, pkg/package-server/apis/operators/v1/packagemanifest_types.go: `deprecation` at three levels."""
    note = {"deprecation": {"message": "use bar"}}
    entries = [{"name": "foo.v2.0.0", "version": "2.0.0", **(note if where == "entry" else {})}]
    modes = {"installModes": [{"type": "AllNamespaces", "supported": True}]}
    channel = {
        "name": "stable",
        "currentCSV": "foo.v2.0.0",
        "currentCSVDesc": modes,
        "entries": [] if where == "head" else entries,
    }
    channel |= note if where in ("channel", "head") else {}
    status = {"packageName": "foo", "defaultChannel": "stable", "channels": [channel], **(note if where == "package" else {})}
    around, _ = cluster()
    one = of_manifest({"metadata": {"name": "foo", "labels": {"catalog": "index"}}, "status": status})
    (found,) = place(chosen(one), How(), around).findings
    assert (found.code, found.severity) == ("operator-deprecated", "warning")
