"""OLM on the fake cluster: what it writes of operators that are installed, in the words of its sources."""

from __future__ import annotations

import pytest

from tests.fakes.cluster import FakeCluster
from tests.fakes.cluster_operators import lived_in
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
