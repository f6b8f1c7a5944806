"""What a cluster offers for installation: PackageManifests, an archive that adds to them, the record where nothing lists packages."""

from __future__ import annotations

import pytest

from common.archive.inventory import BundleRecord, ChannelRecord, PackageRecord, RequiredPackageRecord
from common.errors import ClusterError
from importer.cluster.api.discovery import identify
from importer.cluster.readiness.readiness import ExpectedCatalog, offers
from importer.cluster.record import Recorder, record_namespace
from importer.cluster.removal.namespaces import what_is_in
from importer.install.reading import offered, surroundings
from tests.fakes.cluster_operators import InstalledOperator, put_operator
from tests.fakes.inventories import catalog, inventory

LOST = (RequiredPackageRecord("lost", ">=1.0.0"),)


def package(name="foo", **stated):
    head = f"{name}.v1.0.0"
    channel = ChannelRecord("stable", head, (BundleRecord(head, "1.0.0"),), **stated)
    return PackageRecord(name, "stable", (channel,))


def served(client, carried=None, *, olm_v1=False):
    return offered(client, identify(client).release, carried, olm_v1=olm_v1)


def carrying(*packages, name="index"):
    return inventory(catalogs=(catalog(name, f"registry.example/redhat/{name}:v4.18", packages=packages),))


def test_packages_of_the_cluster_with_what_the_archive_knows_of_the_same_heads(start):
    modes = ("OwnNamespace", "AllNamespaces")
    cluster, client = start("4.18")
    cluster.play_installs(package(install_modes=modes, provided_apis=("Foo.v1.example.com",), cluster_monitoring=True))
    (one,) = served(client)
    (channel,) = one.package.channels
    assert (channel.install_modes, channel.provided_apis, channel.cluster_monitoring) == (modes, ("Foo.v1.example.com",), True)
    assert (one.source, one.whole) == (("openshift-marketplace", "index"), False)
    (one,) = served(client, carrying(package(required_packages=LOST)))
    (channel,) = one.package.channels
    assert (channel.install_modes, channel.required_packages, one.whole) == (modes, LOST, True)


def test_an_archive_that_was_not_imported_is_refused(start):
    cluster, client = start("4.18")
    cluster.play_installs(package())
    with pytest.raises(ClusterError, match="no catalog of the archive"):
        served(client, carrying(package(), name="other"))


def test_the_catalog_of_an_import_counts_before_another_one(start):
    cluster, client = start("4.18")
    cluster.play_installs(package())
    cluster.play_installs(package(), source="foreign")
    assert len(served(client)) == 2
    expected = ExpectedCatalog("index", "openshift-marketplace", "x@sha256:1", offers([package()]))
    Recorder(client, record_namespace(client)).expect([expected])
    assert [each.source[1] for each in served(client)] == ["index"]


def test_microshift_lists_nothing_so_that_record_and_archive_say_it(start):
    """operator-framework-olm#1008: MicroShift has no packageserver."""
    cluster, client = start("4.18", microshift=True)
    cluster.play_installs(package())
    assert served(client) == []
    expected = ExpectedCatalog("index", "openshift-marketplace", "x@sha256:1", offers([package()]))
    Recorder(client, record_namespace(client)).expect([expected])
    (one,) = served(client)
    assert (one.package.channels[0].head, one.package.channels[0].install_modes) == ("foo.v1.0.0", ())
    (one,) = served(client, carrying(package(install_modes=("AllNamespaces",))))
    assert one.package.channels[0].install_modes == ("AllNamespaces",)


def test_a_cluster_with_olm_v1_alone_offers_what_archive_and_record_have(start):
    """The capability OperatorLifecycleManager can be off from 4.15 on: without it no CatalogSources and PackageManifests."""
    cluster, client = start("4.18")
    cluster.kinds = tuple(each for each in cluster.kinds if not each.group.endswith("operators.coreos.com"))
    source = {"type": "Image", "image": {"ref": "mirror.example.com/index:1"}}
    cluster.add("ClusterCatalog", "index", spec={"source": source})
    cluster.add("ClusterCatalog", "off", spec={"source": source, "availabilityMode": "Unavailable"})
    assert served(client, olm_v1=True) == []
    (one,) = served(client, carrying(package(install_modes=("AllNamespaces",))), olm_v1=True)
    assert (one.source[1], one.whole, one.package.channels[0].install_modes) == ("index", True, ("AllNamespaces",))
    with pytest.raises(ClusterError, match="no catalog of the archive"):
        served(client, carrying(package(), name="off"), olm_v1=True)
    expected = [ExpectedCatalog(name, "openshift-marketplace", "x@sha256:1", offers([package()])) for name in ("index", "off")]
    Recorder(client, record_namespace(client)).expect(expected)
    assert [each.source[1] for each in served(client, olm_v1=True)] == ["index"]
    with pytest.raises(ClusterError, match=r"no OLM \(Classic\)") as error:
        served(client)
    assert "--olm v1" in error.value.hint


def test_olm_v1_takes_a_catalog_that_it_alone_serves(start):
    """A ClusterCatalog without a CatalogSource has no PackageManifests."""
    cluster, client = start("4.18")
    cluster.play_installs(package())
    cluster.add("ClusterCatalog", "other", spec={"source": {"type": "Image", "image": {"ref": "mirror.example.com/other:1"}}})
    carried = carrying(package("bar"), name="other")
    assert [each.package.name for each in served(client, carried, olm_v1=True)] == ["bar"]
    with pytest.raises(ClusterError, match="no catalog of the archive"):
        served(client, carried)


def test_an_archive_is_compared_with_what_may_be_listed(start):
    """The roles for an installation allow a list of CatalogSources, and no reads by name."""
    cluster, client = start("4.18")
    cluster.play_installs(package())
    cluster.forbidden.add(("get", "catalogsources"))
    assert [each.source[1] for each in served(client, carrying(package()))] == ["index"]


def test_subscriptions_without_their_catalog_are_seen(start):
    cluster, client = start("4.18")
    cluster.play_installs(package())
    put_operator(cluster, InstalledOperator("foo", "foo", "foo", source="gone"))
    put_operator(cluster, InstalledOperator("bar", "bar", "bar", source="index"))
    assert surroundings(client, identify(client).release).lost == {("openshift-marketplace", "gone")}


def test_reads_that_are_not_allowed_are_left_out(start):
    cluster, client = start("4.18")
    cluster.play_installs(package())
    cluster.forbidden.add(("list", "clusterserviceversions"))
    assert surroundings(client, identify(client).release).csvs == frozenset()


@pytest.mark.parametrize("answer", [b"[]", b"{}", b'{"groups": 1}', b'{"groups": [1, {"versions": "x"}]}', b"nothing"])
def test_a_discovery_that_is_none_keeps_the_namespace(start, answer):
    """A proxy may answer anything; what is in a namespace is then not known, or only as far as it is listed."""
    cluster, client = start("4.18")
    cluster.changed_answer = lambda request, body: answer if request.path.startswith("/apis") else body
    cluster.put({"kind": "ConfigMap", "metadata": {"name": "data", "namespace": "default"}}, "someone")
    assert what_is_in(client, "default") != []
