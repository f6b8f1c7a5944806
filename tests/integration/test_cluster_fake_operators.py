"""OLM on the fake cluster: what it writes of operators that are installed, in the words of its sources."""

from __future__ import annotations

import pytest

from common.archive.inventory import BundleRecord, ChannelRecord, PackageRecord
from tests.fakes.cluster import FakeCluster
from tests.fakes.cluster_operators import InstalledOperator, lived_in, put_operator
from tests.fakes.cluster_simulator import MARKETPLACE
from tests.fakes.cluster_upgrades import Edges, next_bundle
from tests.samples import more

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("release", ["4.18", *more(["4.3", "4.12", "4.20"])])
def test_a_site_in_use_has_five_subscriptions_with_what_olm_made_of_them(release):
    cluster = FakeCluster(release, tls=False)
    five = lived_in(cluster)
    for each in five:
        status = cluster.get("Subscription", each.name, each.namespace)["status"]
        assert (status["installedCSV"], status["state"]) == (f"{each.package}.v0.9.0", "AtLatestKnown")
        plan = cluster.get("InstallPlan", status["installPlanRef"]["name"], each.namespace)
        assert (plan["status"]["phase"], plan["spec"]["approved"]) == ("Complete", True)
        assert cluster.get("ClusterServiceVersion", each.installed, each.namespace)["status"]["phase"] == "Succeeded"


EDGES = {
    "a.v4.0.0": Edges("a.v3.0.0", skip_range=">=2.0.0 <3.0.0"),
    "a.v3.0.0": Edges("a.v1.0.0", skips=("a.v2.0.0", "a.v0.9.0")),
    "a.v2.0.0": Edges("a.v1.0.0"),
    "a.v1.0.0": Edges(),
}
CHANNEL = ChannelRecord(
    "stable",
    "a.v4.0.0",
    tuple(BundleRecord(name, name[3:], each.replaces, tuple(each.skips), each.skip_range) for name, each in EDGES.items()),
)


@pytest.mark.parametrize(
    ("installed", "then"),
    [("1.0.0", "a.v3.0.0"), ("2.0.0", "a.v4.0.0"), ("3.0.0", "a.v4.0.0"), ("4.0.0", ""), ("0.9.0", "a.v3.0.0"), ("0.1.0", "")],
)
def test_the_entry_nearest_to_the_head_that_leads_from_the_installed_version_is_taken(installed, then):
    assert next_bundle(CHANNEL, f"a.v{installed}", installed, {}) == then


class Namespace:
    """A namespace with Subscriptions, on a cluster whose catalog has version 1.0.0 of `alpha`."""

    def __init__(self, release="4.18", **fields):
        self.cluster = FakeCluster(release, tls=False)
        self.cluster.ready_reads = 0
        digest = f"sha256:{'1' * 64}"
        bundles = (BundleRecord("alpha.v1.0.0", "1.0.0"),)
        package = PackageRecord("alpha", "stable", (ChannelRecord("stable", "alpha.v1.0.0", bundles),))
        self.cluster.catalog_contents[digest] = [package]
        self.cluster.updates.edges["alpha.v1.0.0"] = Edges("alpha.v0.9.0")
        source = {"metadata": {"name": "mirrored", "namespace": MARKETPLACE}}
        spec = {"sourceType": "grpc", "image": f"mirror.example/index@{digest}"}
        self.cluster.put({"kind": "CatalogSource", **source, "spec": spec})
        self.one = put_operator(self.cluster, InstalledOperator("team", "my-alpha", "alpha", source="mirrored", **fields))

    def read(self, times=1, *, name="my-alpha"):
        """Let OLM work for some reads; return the status of the Subscription."""
        for _ in range(times):
            self.cluster.simulator.read("CatalogSource")
            self.cluster.simulator.read("Subscription")
        return self.cluster.get("Subscription", name, "team")["status"]

    def csvs(self):
        kind = self.cluster.kind("ClusterServiceVersion")
        return {key.name: self.cluster.store.get(key)["status"]["phase"] for key in self.cluster.store.keys(kind, "team")}

    def plan(self, status):
        return self.cluster.get("InstallPlan", status["installPlanRef"]["name"], "team")


def said(status):
    return {each["type"]: (each["status"], each.get("reason")) for each in status["conditions"]}


def test_an_update_goes_from_an_install_plan_to_the_next_version():
    here = Namespace()
    status = here.read()
    assert (status["state"], status["currentCSV"], status["installedCSV"]) == ("UpgradePending", "alpha.v1.0.0", "alpha.v0.9.0")
    assert said(status)["InstallPlanPending"] == ("True", "Installing")
    status = here.read()
    assert (status["state"], status["installedCSV"]) == ("AtLatestKnown", "alpha.v1.0.0")
    assert here.csvs() == {"alpha.v0.9.0": "Replacing", "alpha.v1.0.0": "Installing"}
    status = here.read()
    assert here.csvs() == {"alpha.v1.0.0": "Succeeded"}
    assert set(said(status)) == {"CatalogSourcesUnhealthy"}
    assert here.plan(status)["status"]["phase"] == "Complete"


def test_with_manual_approval_it_waits_for_a_person():
    here = Namespace(approval="Manual")
    status = here.read(4)
    assert (status["state"], said(status)["InstallPlanPending"]) == ("UpgradePending", ("True", "RequiresApproval"))
    plan = here.plan(status)
    assert (plan["spec"]["approval"], plan["spec"]["approved"]) == ("Manual", False)
    here.cluster.put({"kind": "InstallPlan", "metadata": plan["metadata"], "spec": {"approved": True}})
    assert here.read()["installedCSV"] == "alpha.v1.0.0"


def test_one_manual_subscription_makes_its_whole_namespace_wait():
    here = Namespace()
    put_operator(
        here.cluster, InstalledOperator("team", "other", "alpha", source="mirrored", approval="Manual", csv="x.v1.0.0")
    )
    status = here.read(3)
    assert here.plan(status)["spec"]["approval"] == "Manual"


@pytest.mark.parametrize(
    ("stage", "condition", "csvs"),
    [
        ("unpack", "BundleUnpackFailed", {"alpha.v0.9.0": "Succeeded"}),
        ("plan", "InstallPlanFailed", {"alpha.v0.9.0": "Succeeded"}),
        ("csv", None, {"alpha.v0.9.0": "Replacing", "alpha.v1.0.0": "Failed"}),
    ],
)
def test_an_update_stops_where_a_test_says(stage, condition, csvs):
    here = Namespace()
    here.cluster.updates.failing["alpha.v1.0.0"] = (stage, "it did not work")
    status = here.read(4)
    assert (condition is None or condition in said(status), here.csvs()) == (True, csvs)


@pytest.mark.parametrize(
    ("release", "words"), [("4.17", "failed to populate resolver cache from source"), ("4.18", "error using catalogsource")]
)
def test_what_one_subscription_cannot_have_stops_its_namespace(release, words):
    here = Namespace(release)
    put_operator(here.cluster, InstalledOperator("team", "lost", "gone", source="mirrored"))
    status = here.read()
    (failed,) = [each for each in status["conditions"] if each["type"] == "ResolutionFailed"]
    assert failed["message"].endswith("referenced by subscription lost, subscription lost exists")
    assert status["state"] == "AtLatestKnown"
    assert said(here.read(name="lost"))["ResolutionFailed"] == ("True", "ConstraintsNotSatisfiable")
    source = here.cluster._key(here.cluster.get("CatalogSource", "redhat-operators", MARKETPLACE))
    here.cluster.store.set_status(source, {"connectionState": {"lastObservedState": "TRANSIENT_FAILURE"}})
    (failed,) = [each for each in here.read()["conditions"] if each["type"] == "ResolutionFailed"]
    assert (failed["reason"], failed["message"].startswith(words)) == ("ErrorPreventedResolution", True)


def test_rules_of_two_policies_for_one_source_are_not_rendered_and_the_pools_say_nothing():
    cluster = FakeCluster("4.18", tls=False)
    cluster.mco_reads = 0
    for kind, field, policy in (
        ("ImageDigestMirrorSet", "imageDigestMirrors", "NeverContactSource"),
        ("ImageTagMirrorSet", "imageTagMirrors", "AllowContactingSource"),
    ):
        rule = {"source": "quay.io/a", "mirrors": ["mirror.example/a"], "mirrorSourcePolicy": policy}
        cluster.put({"kind": kind, "metadata": {"name": "x"}, "spec": {field: [rule]}})
    before = cluster.names("MachineConfig")
    cluster.simulator.wrote("ImageTagMirrorSet")
    assert cluster.simulator.machines.refusal().startswith("conflicting mirrorSourcePolicy is set for the same source")
    assert cluster.names("MachineConfig") == before
    (updated,) = [
        each for each in cluster.get("MachineConfigPool", "worker")["status"]["conditions"] if each["type"] == "Updated"
    ]
    assert updated["status"] == "True"
