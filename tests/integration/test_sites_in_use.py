"""An import into a cluster where operators run: it ends as the table said, a second one changes nothing, undo restores."""

from __future__ import annotations

import pytest

from tests.fakes.cluster import FakeCluster
from tests.fakes.cluster_operators import lived_in
from tests.fakes.registry import FakeRegistry
from tests.fakes.sites import Site, shared_both, shared_updates
from tests.samples import more

pytestmark = pytest.mark.integration
# No --catalog-name: the catalog takes the name of the default by itself.
OPTIONS = ("--allow-stranded", "stranded", "--allow-orphaned", "broken")
OLMS = {"installplans", "clusterserviceversions", "services"}  # what OLM wrote meanwhile, and does not take back
OWN = {"app.kubernetes.io/managed-by": "hub-import"}


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    return {"updates": shared_updates(tmp_path_factory), "sqlite": shared_both(tmp_path_factory)["sqlite"]}


def olm_works(cluster, times=6):
    """Let OLM finish what it has begun."""
    for _ in range(times):
        cluster.simulator.read("CatalogSource")
        cluster.simulator.read("Subscription")


def ended(cluster, five):
    """Return what became of each operator: what is installed, its state, and the conditions that are true."""
    found = {}
    for one in five:
        status = cluster.get("Subscription", one.name, one.namespace)["status"]
        true = {each["type"]: each.get("reason") for each in status.get("conditions") or [] if each["status"] == "True"}
        found[one.namespace] = (status["installedCSV"], status["state"], true)
    return found


def settled(here):
    """Return the state without what OLM wrote: a Service of hub-import counts, which serves a catalog by address."""
    found = {}
    for key, body in here.state().items():
        plural = key.partition("/")[2].partition(" ")[0].partition(".")[0]
        if plural not in OLMS or OWN.items() <= (body["metadata"].get("labels") or {}).items():
            found[key] = body
    return found


# On 4.3.5 the catalog runs in a Deployment of its own, since OLM limits its pods.
@pytest.mark.parametrize("release", ["4.18", *more(["4.3.5", *(f"4.{minor}" for minor in range(3, 21) if minor != 18)])])
def test_an_import_ends_as_the_table_said(archives, tmp_path, release):
    """Five Subscriptions: fed by a default name, by a custom name, stranded, Manual, broken before."""
    release, _, patch = release.removeprefix("4.").partition(".")
    old, release = int(release) < 9, f"4.{release}"
    with FakeCluster(release, patch=int(patch or 40)) as cluster, FakeRegistry() as mirror:
        cluster.store.keeps_owners = release != "4.3"
        here = Site(cluster, mirror, archives["sqlite" if old else "updates"], tmp_path)
        first, head = ("foo", "foo.v3") if old else ("alpha", "alpha.v1.0.0")
        installed = {"version": "2.0.0", "csv": "foo.v2"} if old else {}
        channel = next(iter(here.inventory.catalogs[0].packages[0].channels)).name
        five = lived_in(cluster, (first,) if old else ("alpha", "beta"), channel, **installed)
        was = {one.namespace: one.installed for one in five}
        before = settled(here)
        said = {row["namespace"]: row["result"] for row in here.ask("operators", here.archive).json["operators"]}
        assert said == {
            "team-default": "updates-now",
            "team-custom": "unchanged",
            "team-stranded": "stranded",
            "team-manual": "waits-for-approval",
            "team-broken": "orphaned",
        }
        done = here.run("deploy", *OPTIONS)
        assert done.status == 0, done.stderr
        olm_works(cluster)
        unhealthy, waits = (
            {"CatalogSourcesUnhealthy": "UnhealthyCatalogSourceFound"},
            {"InstallPlanPending": "RequiresApproval"},
        )
        assert ended(cluster, five) == {
            "team-default": (head, "AtLatestKnown", {}),
            "team-custom": (was["team-custom"], "AtLatestKnown", {}),
            "team-stranded": (was["team-stranded"], "AtLatestKnown", {"ResolutionFailed": "ConstraintsNotSatisfiable"}),
            "team-manual": (was["team-manual"], "UpgradePending", waits),
            "team-broken": (was["team-broken"], "AtLatestKnown", unhealthy),
        }
        assert ("deployments.apps" in str(settled(here).keys())) is (patch == "5")
        versions = cluster.versions()
        again = here.run("deploy", *OPTIONS, yes=False)
        assert again.status == 0, again.stderr
        assert cluster.versions() == versions
        assert here.ask("undo", "--yes").status == 0
        assert settled(here) == before
