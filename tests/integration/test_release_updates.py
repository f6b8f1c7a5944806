"""Releases of an archive on a cluster: signatures, the update service, the address of its graph, acknowledgements, and undo."""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from common.archive.inventory import RiskRecord, UpdatePathRecord, UpdateStepRecord
from common.errors import ClusterError, UsageError
from common.oci.image import digest_of
from common.registry.settings import RegistrySettings
from importer.cluster.api.client import connect
from importer.cluster.kinds import UPDATE_SERVICE
from importer.cluster.preflight import permissions
from importer.cluster.readiness.readiness import pools
from importer.cluster.readiness.update_service import update_service
from importer.cluster.readiness.wait import Lines, wait_healthy
from importer.cluster.record import MAX_SIZE, recorded_releases
from importer.cluster.release import Release
from importer.cluster.resources.build import ResourceOptions
from importer.cluster.resources.openshift_release import UpdatePlace, signature_name
from importer.cluster.undo import undo
from importer.configure import apply as applying
from importer.configure.files.render import render_archive
from importer.configure.files.roles import render_rbac
from importer.configure.plan import make_plan
from importer.diagnose import health
from importer.mapping import Mirror, map_images
from importer.settings import ClusterSettings, ImportSettings
from tests.fakes.carried_releases import COMPONENTS, GRAPH, PAYLOADS, Carried, inventory
from tests.fakes.clock import FakeClock
from tests.fakes.cluster import FakeCluster
from tests.fakes.cluster_rbac import Roles
from tests.fakes.cluster_releases import LABEL, MANAGED, NAMESPACE
from tests.fakes.wanted import CA
from tests.samples import more

pytestmark = pytest.mark.integration
MIRROR = Mirror.parse("mirror.example:5000/hub")
RELEASES = f"{MIRROR}/openshift/release-images"
IMAGE = f"{MIRROR}/openshift/graph-image@{GRAPH}"
ADDRESS = f"https://hub-route-{NAMESPACE}.apps.cluster.example/api/upgrades_info/v1/graph"
GATE = "ack-4.20-sigstore-in-4.21"


class Import:
    """Archives, and the cluster that they come to."""

    def __init__(self, cluster: FakeCluster, folder: Path) -> None:
        self.cluster = cluster
        self.kubeconfig = cluster.kubeconfig(folder)
        self.client = connect(self.kubeconfig, None).__enter__()
        self.told: list[str] = []

    def plan(self, carried, mirror: Mirror = MIRROR, ca: str | None = CA, **options):
        settings = ImportSettings(mirror, RegistrySettings())
        cluster = ClusterSettings(self.kubeconfig, resources=ResourceOptions(registry_ca=ca), timeout_s=30, **options)
        archive = SimpleNamespace(inventory=carried, digest="sha256:" + "a" * 64)
        return make_plan(self.client, archive, map_images(carried, mirror), settings, cluster)

    def change(self, carried, **options):
        return self.plan(carried, **options).change(dry_run=False, tell=self.told.append)

    def apply(self, carried, **options):
        settings = ImportSettings(MIRROR, RegistrySettings())
        cluster = ClusterSettings(self.kubeconfig, resources=ResourceOptions(registry_ca=CA), timeout_s=30, **options)
        interaction = applying.Interaction(self.told.append, lambda _would: True, Lines(self.told.append))
        return applying.apply(SimpleNamespace(inventory=carried, digest="sha256:" + "a" * 64), settings, cluster, interaction)

    def undo(self):
        return undo(self.client, "openshift-config", dry_run=False, tell=self.told.append)

    @property
    def version(self):
        """ClusterVersion, as a read returns it."""
        self.cluster.simulator.read("ClusterVersion")
        return self.cluster.get("ClusterVersion", "version")

    def condition(self, kind):
        return next((each for each in self.version["status"]["conditions"] if each["type"] == kind), {})

    def signatures(self):
        found = {
            name: self.cluster.get("ConfigMap", name, MANAGED)
            for name in self.cluster.names("ConfigMap")
            if name in self._managed()
        }
        return {name: body for name, body in found.items() if LABEL in (body["metadata"].get("labels") or {})}

    def _managed(self):
        kind = self.cluster.kind("ConfigMap")
        return [key.name for key in self.cluster.store.keys(kind, MANAGED)]


@pytest.fixture
def site(tmp_path):
    """Return what makes a cluster of a release."""
    opened = []

    def make(release: str = "4.18", **options) -> Import:
        options = {"update_service": True, **options}
        cluster = FakeCluster(release, tls=False, **options)
        here = Import(cluster.__enter__(), tmp_path)
        opened.append(here)
        topology = {"controlPlaneTopology": "HighlyAvailable", "infrastructureTopology": "HighlyAvailable"}
        if not options.get("microshift"):
            cluster.put({"kind": "Infrastructure", "metadata": {"name": "cluster"}, "status": topology})
        node = {"nodeInfo": {"operatingSystem": "linux", "architecture": "amd64"}}
        cluster.put({"kind": "Node", "metadata": {"name": "worker-0"}, "status": node})
        return here

    yield make
    for here in opened:
        here.client.__exit__(None, None, None)
        here.cluster.__exit__(None, None, None)


@pytest.mark.parametrize("release", ["4.18", *more(["4.14", "4.20", "4.21"])])
def test_an_import_lets_the_cluster_update_and_undo_restores_it(site, release):
    """The CVO takes the payload for its ConfigMap, and asks the UpdateService (cluster-version-operator, updatepayload.go)."""
    here = site(release)
    target = Carried(f"{release}.45")
    here.cluster.put({"kind": "ClusterVersion", "metadata": {"name": "version"}, "spec": {"channel": f"stable-{release}"}})
    before = here.cluster.get("ClusterVersion", "version")["spec"]
    here.cluster.log.clear()
    done = here.apply(inventory(target), update_service=True)
    assert done.done
    assert {each.code for each in done.findings} == {"nodes-roll"}
    # Rules of the payload and the components, in an object of their own, and none for the graph data.
    rules = here.cluster.get("ImageDigestMirrorSet", "hub-openshift-release")["spec"]["imageDigestMirrors"]
    assert [(each["source"], each["mirrors"]) for each in rules] == [
        (PAYLOADS, [RELEASES]),
        (COMPONENTS, [f"{MIRROR}/openshift/release"]),
    ]
    service = here.cluster.get("UpdateService", "hub", NAMESPACE)
    assert service["spec"] == {"replicas": 2, "releases": RELEASES, "graphDataImage": IMAGE}
    assert here.cluster.get("ConfigMap", "hub-registry-ca", "openshift-config")["data"]["updateservice-registry"] == CA
    assert here.version["spec"]["upstream"] == ADDRESS
    assert here.condition("RetrievedUpdates")["status"] == "True"
    assert [each.commands for each in done.updates] == [(f"oc adm upgrade --to={target.version}",)]
    assert any("UpdateService" in line for line in here.told)
    # What the administrator runs is taken.
    image = f"{PAYLOADS}@{target.digest}"
    here.cluster.put({"kind": "ClusterVersion", "metadata": {"name": "version"}, "spec": {"desiredUpdate": {"image": image}}})
    assert here.condition("ReleaseAccepted")["status"] == "True"
    again = here.apply(inventory(target), update_service=True)
    assert not again.result.changed
    here.undo()
    assert here.signatures() == {}
    assert here.version["spec"] == {**before, "desiredUpdate": {"image": image}}
    assert here.condition("ReleaseAccepted")["status"] == "False"
    assert here.cluster.names("UpdateService") == []
    assert "hub-openshift-release" not in here.cluster.names("ImageDigestMirrorSet")


def test_signatures_of_other_imports_and_tools_stay(site):
    """oc-mirror replaces `mirrored-release-signatures` with each run (oc-mirror, signature.go), oc names one by the digest."""
    here = site()
    first, second = Carried("4.18.44", signatures=(b"one", b"two")), Carried("4.18.45")
    label = {LABEL: ""}
    by_oc = f"sha256-{first.digest.partition(':')[2]}"
    for name, data in (("mirrored-release-signatures", {"sha256-ab-1": "eA=="}), (by_oc, {f"{by_oc}-1": "eQ=="})):
        metadata = {"name": name, "namespace": MANAGED, "labels": label}
        here.cluster.put({"kind": "ConfigMap", "metadata": metadata, "binaryData": data})
    others = here.signatures()
    here.change(inventory(first))
    here.change(inventory(second))
    found = here.signatures()
    assert {name: found[name] for name in others} == others
    assert sorted(set(found) - set(others)) == sorted([signature_name(first.digest), signature_name(second.digest)])
    key = f"sha256-{first.digest.partition(':')[2]}"
    one, two = (base64.b64encode(each).decode() for each in (b"one", b"two"))
    assert found[signature_name(first.digest)]["binaryData"] == {f"{key}-1": one, f"{key}-2": two}
    # A later archive with another signature of the same payload: all stay, under keys of their own.
    here.change(inventory(Carried("4.18.44", signatures=(b"three", b"two"))))
    three = base64.b64encode(b"three").decode()
    data = here.signatures()[signature_name(first.digest)]["binaryData"]
    assert sorted(data.values()) == sorted([one, two, three])
    assert data[f"{key}-1"] == one
    here.undo()
    assert here.signatures() == others


def test_a_foreign_config_map_of_the_same_name_stays(site):
    here = site()
    target = Carried("4.18.45")
    name = signature_name(target.digest)
    metadata = {"name": name, "namespace": MANAGED, "labels": {LABEL: ""}}
    here.cluster.put({"kind": "ConfigMap", "metadata": metadata, "binaryData": {"sha256-00-1": "eA=="}})
    here.change(inventory(target))
    assert here.signatures()[name]["binaryData"] == {"sha256-00-1": "eA=="}
    assert f"hub-{name}" in here.signatures()
    here.undo()
    assert list(here.signatures()) == [name]


def test_signatures_that_others_added_to_the_own_config_map_stay_visible_to_the_cluster(site):
    """The CVO reads ConfigMaps with the label alone (openshift/library-go, pkg/verify/store/configmap)."""
    here = site()
    target = Carried("4.18.45")
    here.change(inventory(target))
    name = signature_name(target.digest)
    theirs = {f"sha256-{target.digest.partition(':')[2]}-theirs": "eA=="}
    here.cluster.put({"kind": "ConfigMap", "metadata": {"name": name, "namespace": MANAGED}, "binaryData": theirs})
    for _ in range(2):
        (left,) = [each for each in here.undo() if each.kind == "ConfigMap" and each.name == name]
        assert left.fields == (f"binaryData.{next(iter(theirs))}",)
        body = here.signatures()[name]
        assert body["binaryData"] == theirs
        assert body["metadata"]["labels"] == {LABEL: ""}


def test_the_record_has_digests_of_signatures_and_earlier_records_have_their_content(site):
    here = site()
    target = Carried("4.18.45", signatures=(b"one", b"two"))
    here.change(inventory(target))
    one, two = (base64.b64encode(each).decode() for each in (b"one", b"two"))
    key = f"ConfigMap.{MANAGED}.{signature_name(target.digest)}"
    data = here.cluster.get("Secret", "hub-import-record", "openshift-config")["data"]
    text = base64.b64decode(data[key]).decode()
    assert one not in text
    assert str(digest_of(one.encode())) in text
    # As earlier versions wrote it.
    for content in (one, two):
        text = text.replace(str(digest_of(content.encode())), content)
    data[key] = base64.b64encode(text.encode()).decode()
    metadata = {"name": "hub-import-record", "namespace": "openshift-config"}
    here.cluster.put({"kind": "Secret", "metadata": metadata, "data": data})
    here.change(inventory(Carried("4.18.45", signatures=(b"three",))))
    assert len(here.signatures()[signature_name(target.digest)]["binaryData"]) == 3
    assert [each.outcome for each in here.undo() if each.kind == "ConfigMap"] == ["deleted", "deleted"]
    assert here.signatures() == {}


def test_a_signature_that_others_replaced_stays(site):
    here = site()
    target = Carried("4.18.45")
    here.change(inventory(target))
    name, key = signature_name(target.digest), f"sha256-{target.digest.partition(':')[2]}-1"
    here.cluster.put({"kind": "ConfigMap", "metadata": {"name": name, "namespace": MANAGED}, "binaryData": {key: "eA=="}})
    here.undo()
    assert here.signatures()[name]["binaryData"] == {key: "eA=="}


def test_a_record_that_would_be_full_is_refused_before_the_first_change(site):
    here = site()
    here.cluster.put(
        {
            "kind": "Secret",
            "metadata": {"name": "hub-import-record", "namespace": "openshift-config"},
            "data": {"expected.x": "x" * (MAX_SIZE - 3000)},
        }
    )
    with pytest.raises(ClusterError, match="the record of changes has"):
        here.apply(inventory(*(Carried(f"4.18.{number}") for number in range(40, 50))))
    assert here.cluster.writes == []


def test_a_foreign_config_map_with_the_signatures_is_enough(site):
    here = site()
    target = Carried("4.18.45")
    name = signature_name(target.digest)
    data = {f"sha256-{target.digest.partition(':')[2]}-7": base64.b64encode(b"signed").decode()}
    here.cluster.put(
        {"kind": "ConfigMap", "metadata": {"name": name, "namespace": MANAGED, "labels": {LABEL: ""}}, "binaryData": data}
    )
    done = here.change(inventory(target))
    change = next(each for each in done.changes if each.name == name)
    assert (change.action, change.detail) == ("unchanged", "it has the signatures already")
    assert here.signatures()[name]["binaryData"] == data


def test_a_release_without_signatures_gets_none_and_that_is_said(site):
    here = site()
    without = [Carried("4.18.45", signatures=(), unverified=True), Carried("4.18.46", signatures=())]
    plan = here.plan(inventory(*without))
    said = [(each.code, each.severity, each.subject) for each in plan.built.problems]
    assert said == [
        ("signature-missing", "warning", "OpenShift 4.18.45 (amd64)"),
        ("signature-missing", "warning", "OpenShift 4.18.46 (amd64)"),
    ]
    plan.change(dry_run=False, tell=str)
    assert here.signatures() == {}
    # What nobody verified on the other side, the cluster verifies itself: its keys may be others (ADR 0068).
    unverified = here.plan(inventory(Carried("4.18.45", unverified=True)))
    assert [each.message for each in unverified.built.problems] == [
        "was exported unverified; whether the cluster accepts its signatures is decided there"
    ]
    unverified.change(dry_run=False, tell=str)
    assert len(here.signatures()) == 1


def test_without_the_operator_no_update_service_is_written(site):
    here = site(update_service=False)
    plan = here.plan(inventory(Carried("4.18.45")))
    assert not [each for each in plan.built.resources if each.kind == "UpdateService"]
    assert "cincinnati-operator" in " ".join(plan.built.notes)
    asked = here.plan(inventory(Carried("4.18.45")), update_service=True)
    assert [(each.code, each.severity) for each in asked.releases.findings] == [("update-service-absent", "error")]


def test_an_update_service_of_others_for_the_same_releases_gets_the_graph_data_alone(site):
    """Its name, replicas and owner stay; undo restores the former image."""
    here = site()
    spec = {"replicas": 3, "releases": RELEASES, "graphDataImage": f"{MIRROR}/openshift/graph-image:latest"}
    here.cluster.put({"kind": "UpdateService", "metadata": {"name": "service", "namespace": NAMESPACE}, "spec": spec})
    would = here.plan(inventory(Carried("4.18.45"))).change(dry_run=True, tell=str)
    change = next(each for each in would.changes if each.kind == "UpdateService")
    assert (change.action, change.name, change.detail) == ("changed", "service", "spec.graphDataImage")
    here.change(inventory(Carried("4.18.45")))
    assert here.cluster.get("UpdateService", "service", NAMESPACE)["spec"] == {**spec, "graphDataImage": IMAGE}
    assert here.cluster.names("UpdateService") == ["service"]
    here.undo()
    assert here.cluster.get("UpdateService", "service", NAMESPACE)["spec"] == spec


def test_an_update_service_of_others_for_other_releases_is_left_alone(site):
    here = site()
    spec = {"replicas": 1, "releases": "old.example/ocp4/release-images", "graphDataImage": "old.example/graph:1"}
    here.cluster.put({"kind": "UpdateService", "metadata": {"name": "service", "namespace": NAMESPACE}, "spec": spec})
    plan = here.plan(inventory(Carried("4.18.45")))
    assert plan.built.notes == (f"UpdateService {NAMESPACE}/service serves other releases, and stays as it is",)
    plan.change(dry_run=False, tell=str)
    assert here.cluster.get("UpdateService", "service", NAMESPACE)["spec"] == spec
    assert sorted(here.cluster.names("UpdateService")) == ["hub", "service"]


def test_an_own_update_service_follows_the_archive_and_keeps_what_an_administrator_set(site):
    here = site()
    here.change(inventory(Carried("4.18.45")))
    here.cluster.put({"kind": "UpdateService", "metadata": {"name": "hub", "namespace": NAMESPACE}, "spec": {"replicas": 4}})
    here.change(inventory(Carried("4.18.46")), mirror=Mirror.parse("other.example/hub"))
    spec = here.cluster.get("UpdateService", "hub", NAMESPACE)["spec"]
    assert spec["replicas"] == 4
    assert spec["releases"] == "other.example/hub/openshift/release-images"


def test_one_replica_where_one_node_runs_everything(site):
    """With two, the PodDisruptionBudget would keep the only node from being drained (cincinnati-operator, names.go)."""
    here = site()
    here.cluster.put(
        {"kind": "Infrastructure", "metadata": {"name": "cluster"}, "status": {"infrastructureTopology": "SingleReplica"}}
    )
    service = next(each for each in here.plan(inventory(Carried("4.18.45"))).built.resources if each.kind == "UpdateService")
    assert service.body["spec"]["replicas"] == 1


def test_the_update_service_goes_where_its_operator_is(site):
    here = site()
    here.cluster.add("Namespace", "updates")
    metadata = {"name": "osus", "namespace": "updates"}
    here.cluster.put({"kind": "Subscription", "metadata": metadata, "spec": {"name": "cincinnati-operator", "source": "x"}})
    service = next(each for each in here.plan(inventory(Carried("4.18.45"))).built.resources if each.kind == "UpdateService")
    assert service.namespace == "updates"


def test_a_namespace_whose_name_leaves_no_room_for_the_host_of_the_route(site):
    """A label of DNS has at most 63 characters, and the operator reports CreateRouteFailed."""
    here = site()
    here.cluster.add("Namespace", long := "u" * 60)
    metadata = {"name": "osus", "namespace": long}
    here.cluster.put({"kind": "Subscription", "metadata": metadata, "spec": {"name": "cincinnati-operator", "source": "x"}})
    plan = here.plan(inventory(Carried("4.18.45")))
    assert not [each for each in plan.built.resources if each.kind == "UpdateService"]
    assert "63 characters" in plan.built.notes[0]


def test_the_wait_shows_what_the_update_service_waits_for(site):
    here = site()
    here.cluster.service_reads = 3
    here.change(inventory(Carried("4.18.45")))
    clock, told = FakeClock(), []
    wait_healthy(
        here.client,
        [],
        release=None,
        timeout_s=600,
        display=Lines(told.append),
        further={"UpdateService": lambda: update_service(here.client, UpdatePlace(), IMAGE)},
        clock=clock.clock.monotonic_s,
        sleep=clock.clock.sleep,
    )
    text = "\n".join(told)
    assert "not seen by its operator yet" in text
    assert f"serves https://hub-route-{NAMESPACE}" in text
    here.cluster.service_reads = 999
    here.change(inventory(Carried("4.18.45")), mirror=Mirror.parse("other.example"))
    with pytest.raises(ClusterError, match="not healthy") as failed:
        wait_healthy(
            here.client,
            [],
            release=None,
            timeout_s=30,
            display=Lines(str),
            further={"UpdateService": lambda: update_service(here.client, UpdatePlace(), "other@sha256:0")},
            clock=clock.clock.monotonic_s,
            sleep=clock.clock.sleep,
        )
    assert "not of this graph data yet" in " ".join(failed.value.details)
    # A graph-data image that cannot be pulled is named, with the words of the kubelet.
    waiting = {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "graph"'}
    status = {"initContainerStatuses": [{"name": "graph-data", "state": {"waiting": waiting}}]}
    here.cluster.put({"kind": "Pod", "metadata": {"name": "hub-7d9f-x", "namespace": NAMESPACE}, "spec": {}, "status": status})
    here.cluster.put({"kind": "Deployment", "metadata": {"name": "hub", "namespace": NAMESPACE}, "spec": {"replicas": 5}})
    (pods, _address) = update_service(here.client, UpdatePlace(), IMAGE)
    assert pods.evidence == 'pod hub-7d9f-x: ImagePullBackOff: Back-off pulling image "graph"'


def test_acknowledgements_are_named_with_their_text_and_given_only_when_asked(site):
    """`ack-4.20-sigstore-in-4.21` (openshift-docs, nodes-sigstore-prepare-for-4.21); checkAdminGate of upgradeable.go."""
    here = site("4.20")
    text = "The default ClusterImagePolicy of 4.21 needs signatures in mirrors."
    gates = {GATE: text, "ack-4.19-other-in-4.20": "Not of this release."}
    here.cluster.put({"kind": "ConfigMap", "metadata": {"name": "admin-gates", "namespace": MANAGED}, "data": gates})
    metadata = {"name": "admin-acks", "namespace": "openshift-config"}
    here.cluster.put({"kind": "ConfigMap", "metadata": metadata, "data": {"ack-4.19-other-in-4.20": "true"}})
    carried = inventory(Carried("4.20.45"), Carried("4.21.3"))
    assert here.condition("Upgradeable")["reason"] == "AdminAckRequired"
    plan = here.plan(carried)
    plan.change(dry_run=False, tell=str)
    wanted = {each.release.version: each.acknowledge for each in plan.updates()}
    assert wanted == {"4.20.45": (), "4.21.3": ((GATE, text),)}
    assert GATE in "\n".join(line for each in plan.updates() for line in each.lines)
    here.change(carried, acknowledged=(GATE,))
    acks = here.cluster.get("ConfigMap", "admin-acks", "openshift-config")["data"]
    assert acks == {"ack-4.19-other-in-4.20": "true", GATE: "true"}
    assert here.condition("Upgradeable") == {}
    here.undo()
    assert here.cluster.get("ConfigMap", "admin-acks", "openshift-config")["data"] == {"ack-4.19-other-in-4.20": "true"}
    with pytest.raises(UsageError, match="no such acknowledgement") as refused:
        here.plan(carried, acknowledged=("ack-4.20-else",))
    assert GATE in refused.value.hint


def test_without_an_update_service_the_command_names_the_payload_by_digest_and_never_force(site):
    here = site(update_service=False)
    target = Carried("4.18.45")
    plan = here.plan(inventory(target, graph=False))
    plan.change(dry_run=False, tell=str)
    (update,) = plan.updates()
    assert update.commands == (f"oc adm upgrade --allow-explicit-upgrade --to-image {PAYLOADS}@{target.digest}",)
    assert "force" not in " ".join(update.lines)


def test_the_record_keeps_the_releases_of_all_imports(site):
    here = site()
    for version in ("4.18.45", "4.18.46"):
        plan = here.plan(inventory(Carried(version)))
        plan.change(dry_run=False, tell=str)
        plan.recorder.expect(plan.expected, plan.releases.expected)
    found = recorded_releases(here.client, "openshift-config")
    assert [(each.version, each.place, each.signed, each.sigstore) for each in found] == [
        (version, f"{RELEASES}:{version}-x86_64", True, True) for version in ("4.18.45", "4.18.46")
    ]


def test_a_cluster_that_is_not_updated_by_its_own_version_is_left_alone(site):
    here = site("4.18", microshift=True, update_service=False)
    plan = here.plan(inventory(Carried("4.18.45")), ca=None)
    assert "MicroShift has no ClusterVersion" in plan.built.notes[0]
    assert {each.kind for each in plan.built.resources} <= {"CatalogSource"}
    with pytest.raises(UsageError, match="--update-service"):
        here.plan(inventory(Carried("4.18.45")), ca=None, update_service=True)


def test_an_archive_without_releases_asks_nothing_of_updates(site):
    here = site()
    here.cluster.log.clear()
    here.plan(inventory(graph=False))
    assert not [each.path for each in here.cluster.log if "updateservices" in each.path or "admin-" in each.path]


STEPS = (
    UpdateStepRecord("4.18.40", "4.18.45"),
    UpdateStepRecord("4.18.45", "4.19.3", (RiskRecord("Slow", "https://issues/1", "It is slow."),)),
)


def test_the_way_to_a_release_is_that_of_the_update_service(site):
    here = site(update_service=False)
    carried = inventory(*map(Carried, ("4.18.45", "4.19.3", "4.19.4")), paths=[UpdatePathRecord("amd64", STEPS)])
    plan = here.plan(carried)
    found = {each.release.version: each for each in plan.updates()}
    assert list(found) == ["4.18.45", "4.19.3"]
    assert found["4.19.3"].via == ("4.18.45",)
    assert "known issue Slow: https://issues/1 It is slow." in "\n".join(found["4.19.3"].lines)


@pytest.mark.parametrize("release", ["4.20", *more(["4.14"])])
def test_the_roles_of_render_allow_all_of_it_and_preflight_names_what_is_missing(site, release):
    here = site(release)
    metadata = {"name": "admin-gates", "namespace": MANAGED}
    here.cluster.put({"kind": "ConfigMap", "metadata": metadata, "data": {f"ack-{release}-x": "Read this."}})
    carried, known = inventory(Carried(f"{release}.45")), Release.parse(release)
    _, built = render_archive(carried, MIRROR, known, ResourceOptions(registry_ca=CA))
    rights = list(yaml.safe_load_all(render_rbac(known, built.resources, ResourceOptions())["rbac.yaml"]))
    here.cluster.roles = roles = Roles(rights)
    plan = here.plan(carried, update_service=True, acknowledged=(f"ack-{release}-x",))
    assert list(permissions(here.client, plan.intent)) == []
    plan.change(dry_run=False, tell=str)
    assert [each.release.version for each in plan.updates()] == [f"{release}.45"]
    plan.recorder.expect(plan.expected, plan.releases.expected)
    here.client.get(UPDATE_SERVICE, "hub", NAMESPACE)
    assert plan.follow(tell=str).changed
    health.examine(ClusterSettings(here.kubeconfig))
    here.undo()
    assert roles.denied == []
    # Without those for releases, an account learns it before the first change.
    without = [each for each in rights if each["metadata"].get("namespace") not in {MANAGED, NAMESPACE}]
    here.cluster.roles = Roles(without)
    with pytest.raises(ClusterError, match="not changed") as refused:
        here.apply(carried)
    assert "configmaps" in " ".join(refused.value.details)
    # Graph data alone has no object for which preflight would ask for them: what was asked for is not left out in silence.
    alone = inventory(graph=True)
    assert "were not looked at" in here.plan(alone).built.notes[0]
    for asked in ({"update_service": True}, {"acknowledged": (f"ack-{release}-x",)}):
        with pytest.raises(ClusterError, match="not allowed to list configmaps"):
            here.plan(alone, **asked)


@pytest.mark.parametrize("layout", [False, *more([True])])
def test_status_compares_with_an_archive_where_no_record_says_what_was_imported(site, layout):
    """Files of `render` that others applied leave no record; the mirror is that of the cluster's rules."""
    here = site(update_service=False)
    carried = inventory(Carried("4.18.45"), graph=False)
    here.change(carried, mirror=replace(MIRROR, releases_by_source=layout))
    settings = ClusterSettings(here.kubeconfig)
    assert health.examine(settings).snapshot.targets == ()
    found = health.examine(settings, inventory=carried)
    (target,) = found.snapshot.targets
    end = "openshift-release-dev/ocp-release" if layout else "openshift/release-images"
    assert target.release.place.startswith(f"{MIRROR}/{end}:")
    assert found.obstacles(target) == ()
    # An archive that was never imported: no rule, and no signature.
    other = Carried("4.18.46", payloads="quay.io/elsewhere/release", pool="quay.io/elsewhere/pool")
    missing = health.examine(settings, inventory=inventory(other, graph=False))
    assert set(missing.obstacles(missing.snapshot.targets[0])) == {"release-signature-missing", "mirror-rules-missing"}


def test_with_catalogs_only_nothing_is_written_for_releases_and_that_is_said(site):
    here = site()
    carried = inventory(Carried("4.18.45"))
    settings = ImportSettings(MIRROR, RegistrySettings())
    cluster = ClusterSettings(here.kubeconfig, resources=ResourceOptions(catalogs_only=True))
    plan = make_plan(
        here.client,
        SimpleNamespace(inventory=carried, digest="sha256:" + "a" * 64),
        map_images(carried, MIRROR),
        settings,
        cluster,
    )
    assert plan.built.resources == ()
    assert "--catalogs-only" in plan.built.notes[0]


def test_a_dry_run_says_which_releases_the_cluster_could_go_to_and_changes_nothing(site):
    here = site()
    assert here.condition("RetrievedUpdates")  # the cluster version operator has looked once
    before = here.cluster.versions()
    would = here.apply(inventory(Carried("4.18.45")), update_service=True, dry_run=True)
    assert [each.release.version for each in would.updates] == ["4.18.45"]
    assert [each.detail for each in would.result.changes if each.kind == "ClusterVersion"] == [
        "spec.upstream, the address that the UpdateService will report"
    ]
    assert here.cluster.versions() == before


def test_an_import_of_releases_alone_waits_until_the_nodes_have_their_rules(site):
    """The machine config operator begins late, and until then says that all is done; no catalog's rules are waited for here."""
    here = site()
    here.cluster.mco_reads, here.cluster.pool_reads = 3, 1
    here.apply(inventory(Carried("4.18.45"), graph=False))
    with connect(here.kubeconfig, None) as client:
        assert {each.ok for each in pools(client, {(PAYLOADS, RELEASES)})} == {True}
    assert "mirror rules" in "\n".join(here.told)


def test_default_sources_stay_where_no_catalog_takes_their_place(site):
    """They may serve the operators that run, through a proxy or another mirror; what is wrong with them is named."""
    here = site()
    hub, sources = here.cluster.get("OperatorHub", "cluster"), here.cluster.names("CatalogSource")
    assert sources
    here.apply(inventory(Carried("4.18.45"), graph=False))
    assert here.cluster.get("OperatorHub", "cluster") == hub
    assert here.cluster.names("CatalogSource") == sources
    found = health.examine(ClusterSettings(here.kubeconfig))
    assert [(each.code, each.severity) for each in found.findings] == [("default-sources-enabled", "warning")]
    assert found.healthy


def test_graph_data_alone_leaves_the_releases_of_the_update_service(site):
    """An archive of graph data alone does not say where payloads are; `--release-layout source` has them elsewhere."""
    here = site()
    by_source = replace(MIRROR, releases_by_source=True)
    here.change(inventory(Carried("4.18.45")), mirror=by_source)
    served = f"{MIRROR}/openshift-release-dev/ocp-release"
    assert here.cluster.get("UpdateService", "hub", NAMESPACE)["spec"]["releases"] == served
    for mirror in (by_source, MIRROR):  # the second without the option
        here.change(inventory(), mirror=mirror)
        assert here.cluster.get("UpdateService", "hub", NAMESPACE)["spec"]["releases"] == served
    assert here.cluster.names("UpdateService") == ["hub"]


def test_graph_data_alone_makes_no_update_service_for_a_place_that_is_not_known(site):
    here = site()
    plan = here.plan(inventory(), mirror=replace(MIRROR, releases_by_source=True))
    assert not [each for each in plan.built.resources if each.kind == "UpdateService"]
    assert "the archive has no release" in plan.built.notes[0]
    usual = here.plan(inventory())
    assert [each.body["spec"]["releases"] for each in usual.built.resources if each.kind == "UpdateService"] == [RELEASES]


@pytest.mark.parametrize(
    "carried", [Carried("4.18.45", "s390x"), *more([Carried("4.18.40"), Carried("4.17.9"), Carried("4.20.1")])]
)
def test_an_archive_without_a_release_for_the_cluster_says_so(site, carried):
    here = site()
    plan = here.plan(inventory(carried))
    assert plan.releases.foreseen == ()
    (note,) = plan.built.notes
    assert note.startswith("releases: none of the archive is an update of this cluster, which is OpenShift 4.18.40 (amd64): ")
    assert f"{carried.version} ({carried.architecture})" in note
    done = applying.Applied(plan.change(dry_run=True, tell=str), (), done=True, cluster=plan.cluster)
    assert done.verdict == "No catalog was given to OLM."  # the archive has none
