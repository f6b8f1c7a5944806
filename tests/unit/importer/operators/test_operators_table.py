"""What becomes of each operator of a cluster: one row for each way in which OLM treats it."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from common.archive.inventory import BundleRecord, CatalogRecord, ChannelRecord, PackageRecord
from common.oci.image import Digest
from common.olm.catalog_names import Identity
from importer.operators.findings import Allowed, findings
from importer.operators.installed import Csv, Extension, Installed, Sources, Subscribed
from importer.operators.outlook import Offering, Outlook
from importer.operators.table import Result, make

HERE = "openshift-marketplace"
OURS, DEFAULT, FOREIGN, LOST = ((HERE, name) for name in ("mirrored", "redhat-operators", "site", "retired"))
CHAIN = (
    BundleRecord("alpha.v3", "3.0.0", "alpha.v2", skip_range=">=1.5.0 <2.0.0"),
    BundleRecord("alpha.v2", "2.0.0", "alpha.v1"),
    BundleRecord("alpha.v1", "1.0.0"),
)
TWO_HEADS = (BundleRecord("beta.v1", "1.0.0"), BundleRecord("beta.v2", "2.0.0"))
BACK = (BundleRecord("gamma.v2", "2.0.0", "gamma.v1"), BundleRecord("gamma.v1", "1.0.0", skip_range=">=2.0.0"))
PACKAGES = tuple(
    PackageRecord(name, "stable", (ChannelRecord("stable", entries[0].name, entries),))
    for name, entries in (("alpha", CHAIN), ("beta", TWO_HEADS), ("gamma", BACK))
)
RECORD = CatalogRecord(
    "index", None, Digest("sha256:" + "1" * 64), "index", "file-based", filtered=True, packages=PACKAGES, update_graph=True
)
IDENTITY = Identity("index", "redhat/index", "v4.18", "registry.example", "registry.example/redhat/index:v4.18")
OFFERED = Offering("index", OURS, RECORD, IDENTITY, in_olm_v1=True)
BODIES = {
    OURS: {"metadata": {"name": "mirrored"}, "spec": {"image": "mirror.example/index@sha256:0"}},
    DEFAULT: {"metadata": {"name": "redhat-operators"}, "spec": {}},
    FOREIGN: {"metadata": {"name": "site"}, "spec": {"image": "old/index:v1"}},
}


def subscribed(name="a", source=OURS, *, namespace="team", package="alpha", installed="alpha.v1", **fields):
    return Subscribed(namespace, name, package, source, installed, channel="stable", **fields)


def rows(*all_of, offered=OFFERED, bodies=BODIES, csvs=None, **seen):
    versions = {"alpha.v1": "1.0.0", "alpha.v2": "2.0.0", "alpha.v3": "3.0.0", "alpha.old": "0.5.0", "gamma.v2": "2.0.0"}
    found = {(one.namespace, one.installed): Csv(versions.get(one.installed, ""), "Succeeded") for one in all_of}
    sources = Sources(bodies, HERE)
    installed = Installed(all_of, sources, found if csvs is None else csvs, **seen)
    return make(installed, Outlook([offered], HERE, sources, {DEFAULT}))


@pytest.mark.parametrize(
    ("one", "result", "path"),
    [
        (subscribed(), "updates-now", ("alpha.v2", "alpha.v3")),
        (subscribed(installed="alpha.v3"), "unchanged", ()),
        (subscribed(installed=""), "updates-now", ("alpha.v3",)),
        (subscribed(installed="", starting="alpha.v1"), "updates-now", ("alpha.v1", "alpha.v2", "alpha.v3")),
        (subscribed(installed="", starting="alpha.v0"), "stranded", ()),
        (subscribed(approval="Manual"), "waits-for-approval", ("alpha.v2", "alpha.v3")),
        (subscribed(installed="alpha.old"), "stranded", ()),
        (subscribed(package="delta"), "stranded", ()),
        (replace(subscribed(), channel="fast"), "stranded", ()),
        (subscribed(package="beta", installed="beta.v1"), "stranded", ()),
        (subscribed(package="gamma", installed="gamma.v1"), "stranded", ("gamma.v2",)),
        (subscribed(source=FOREIGN), "unchanged", None),
        (subscribed(source=DEFAULT), "orphaned", None),
        (subscribed(source=LOST), "orphaned", None),
        (subscribed(source=FOREIGN, unresolved="constraints not satisfiable"), "unresolved", None),
        (subscribed(unresolved="constraints not satisfiable"), "updates-now", ("alpha.v2", "alpha.v3")),
        (subscribed(source=FOREIGN, unresolved="no answer", unreachable=True), "unchanged", None),
        (subscribed(plan_failure="deadline"), "unresolved", None),
        (
            subscribed(current="alpha.v2", plan="install-x", needs_approval=True),
            "waits-for-approval",
            ("alpha.v2", "alpha.v3"),
        ),
        (subscribed(source=FOREIGN, current="x.v2", plan="install-x", needs_approval=True), "waits-for-approval", ("x.v2",)),
    ],
)
def test_each_result_and_its_path(one, result, path):
    (row,) = rows(one)
    assert (row.result, row.path) == (result, path)
    assert (row.catalog_then is None) == (result == "orphaned")
    assert bool(row.reason) == (result not in {"updates-now", "unchanged"} and one.approval != "Manual")


def test_a_version_above_the_head_stays_until_an_archive_has_it():
    (row,) = rows(subscribed(installed="alpha.v9"), csvs={("team", "alpha.v9"): Csv("9.0.0", "Succeeded")})
    assert (row.result, row.reason) == (Result.UNCHANGED, "newer than the head of the channel, alpha.v3")


def test_without_update_graph_or_version_nothing_is_concluded():
    old = replace(OFFERED, record=msgspec.structs.replace(RECORD, update_graph=False))
    assert [row.result for row in rows(subscribed(), offered=old)] == [Result.UNKNOWN]
    assert [row.result for row in rows(subscribed(installed="alpha.v3"), offered=old)] == [Result.UNCHANGED]
    # A skip range may cover a version that may not be read; `replaces` needs none.
    assert [row.result for row in rows(subscribed(installed="alpha.other"), csvs={})] == [Result.UNKNOWN]
    assert [row.result for row in rows(subscribed(), csvs={})] == [Result.UPDATES]


@pytest.mark.parametrize(
    ("other", "result"),
    [
        (subscribed("b", approval="Manual", installed="alpha.v3"), "waits-for-approval"),
        (subscribed("b", package="delta"), "unresolved"),
        (subscribed("b", source=LOST), "unresolved"),
        (subscribed("b", installed="alpha.old"), "updates-now"),  # no candidate is no failure of the resolver
        (subscribed("b", package="delta", namespace="team-b"), "updates-now"),
        # A startingCSV that the channel lacks is an error of the resolver, while nothing is installed.
        (subscribed("b", installed="", starting="alpha.v0"), "unresolved"),
        (subscribed("b", installed="alpha.v3", starting="alpha.v0"), "updates-now"),
    ],
)
def test_subscriptions_of_one_namespace_are_resolved_together(other, result):
    # operator-lifecycle-manager#3162, and pkg/controller/operators/catalog/operator.go, syncResolvingNamespace
    assert rows(subscribed(), other)[0].result == result


def test_a_start_that_is_not_carried_is_named():
    (row,) = rows(subscribed(installed="", starting="alpha.v0"))
    assert row.reason == "the channel does not have its startingCSV, alpha.v0"
    # Without a channel it may be in any of the package.
    (row,) = rows(replace(subscribed(installed="", starting="alpha.v1"), channel=""))
    assert row.result == "updates-now"


def test_cluster_extensions_take_their_package_from_every_catalog_that_they_may_use():
    one = Extension("a", "team", "alpha", ("stable",), installed="alpha.v1", version="1.0.0", healthy=True)
    (row,) = rows(extensions=[one])
    assert (row.result, row.path, row.catalog_then, row.well) == ("updates-now", ("alpha.v2", "alpha.v3"), "(any)", True)
    others = [
        (replace(one, catalogs=("elsewhere",)), [], "stranded"),
        (replace(one, catalogs=("elsewhere",)), ["elsewhere"], "unchanged"),
        (replace(one, catalogs=None), [], "unknown"),
        (replace(one, wanted="1.0.0"), [], "unchanged"),
        (replace(one, wanted="<3.0.0"), [], "updates-now"),
        (replace(one, package="delta"), [], "stranded"),
    ]
    for extension, other_catalogs, result in others:
        catalogs = dict.fromkeys(other_catalogs, 0)
        assert rows(extensions=[extension], cluster_catalogs=catalogs)[0].result == result


def test_stranded_operators_are_errors_unless_they_are_allowed_by_name():
    sources = Sources(BODIES, HERE)
    seen = Installed([subscribed(package="delta"), subscribed("b", installed="alpha.old")], sources)
    outlook = Outlook([OFFERED], HERE, sources, {DEFAULT})
    table = make(replace(seen, csvs={("team", "alpha.old"): Csv("0.5.0", "Succeeded")}), outlook)
    found = list(findings(seen, outlook, table, Allowed(stranded=("delta",))))
    assert [(each.code, each.subject, each.severity) for each in found] == [
        ("operator-stranded", "Subscription team/a", "warning"),
        ("operator-stranded", "Subscription team/b", "error"),
    ]
    assert "--allow-stranded alpha" in found[1].fix


def test_fields_of_any_kind_are_read_as_what_they_mean():
    body = {"metadata": {"name": "a", "namespace": "team"}, "spec": {"name": "alpha", "source": "x"}}
    status = {"state": "UpgradePending", "currentCSV": "alpha.v2", "installPlanRef": {"name": "install-x"}}
    waits = {"type": "InstallPlanPending", "status": "True", "reason": "RequiresApproval"}
    one = Subscribed.of({**body, "status": {**status, "conditions": [waits]}})
    assert (one.source, one.plan, one.current, one.needs_approval) == (("team", "x"), "install-x", "alpha.v2", True)
    done = Subscribed.of({**body, "status": {**status, "state": "AtLatestKnown"}})
    assert (done.plan, done.current, done.needs_approval) == ("", "", False)
    assert Extension.of({"metadata": {"name": "a"}, "spec": {"source": "text"}}).package == ""
    selected = {"spec": {"source": {"catalog": {"selector": {"matchLabels": {"tier": "gold"}}}}}}
    assert Extension.of({"metadata": {"name": "a"}, **selected}).catalogs is None


@pytest.mark.parametrize(
    ("one", "kubernetes", "result"),
    [
        (subscribed(), (1, 31, 2), "stranded"),
        (subscribed(), (1, 31, 14), "updates-now"),
        (subscribed(), (1, 31), "updates-now"),  # the patch version is not known
        (subscribed(), (), "updates-now"),
        # Neighbours: a person would approve it, and it would not be installed; what has the head needs no update.
        (subscribed(approval="Manual"), (1, 30, 0), "stranded"),
        (subscribed(installed=""), (1, 30, 0), "stranded"),
        (subscribed(installed="alpha.v3"), (1, 30, 0), "unchanged"),
        (subscribed(source=FOREIGN), (1, 30, 0), "unchanged"),
    ],
)
def test_a_head_that_olm_does_not_install_strands_its_operator(one, kubernetes, result):
    """operator-lifecycle-manager, pkg/controller/operators/olm/requirements.go, minKubeVersionStatus: Pending for ever.

    Seen before: "updates now", on every cluster.
    """
    channel = ChannelRecord("stable", "alpha.v3", CHAIN, min_kube_version="1.31.10")
    record = msgspec.structs.replace(RECORD, packages=(PackageRecord("alpha", "stable", (channel,)),))
    sources = Sources(BODIES, HERE)
    seen = Installed((one,), sources, {(one.namespace, one.installed): Csv("1.0.0", "Succeeded")})
    outlook = Outlook([replace(OFFERED, record=record)], HERE, sources, {DEFAULT}, kubernetes=kubernetes)
    table = make(seen, outlook)
    assert table[0].result == result
    found = [each for each in findings(seen, outlook, table, Allowed()) if each.code == "operator-stranded"]
    assert len(found) == (result == "stranded")
    for each in found:
        has = ".".join(map(str, kubernetes))
        assert f"OLM does not install alpha.v3, which needs Kubernetes 1.31.10, and there is {has}" in each.cause
        assert each.fix.startswith("Update the cluster first")
