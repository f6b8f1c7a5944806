"""Every story that a cluster can play: doctor names the cause, shows the evidence, and applies the safe fixes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from importer.cluster.api.client import connect
from importer.cluster.api.discovery import release_of, running_version
from importer.cluster.apply import apply
from importer.cluster.readiness.readiness import ExpectedCatalog, offers
from importer.cluster.record import Recorder, record_namespace
from importer.cluster.resources.build import ResourceOptions, build
from importer.cluster.undo import undo
from importer.cluster.updates.expected import releases_of
from importer.diagnose import health
from importer.diagnose.state import Health
from importer.mapping import Mirror, map_images
from importer.settings import ClusterSettings
from tests.fakes.carried_releases import Carried, inventory
from tests.fakes.cluster import FakeCluster
from tests.fakes.cluster_releases import MANAGED, NAMESPACE
from tests.fakes.cluster_simulator import MARKETPLACE
from tests.fakes.cluster_stories import stories
from tests.fakes.commands import run
from tests.fakes.wanted import DIGEST, IMAGE, cluster_catalog, default_catalogs_off, mirror_rules, operator_hub, package
from tests.fakes.wanted import catalog_source as source_of

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[2]
NAME = "hub-redhat-operators"
HOST = "mirror.example:5000"
CA = "-----BEGIN CERTIFICATE-----\nMII=\n-----END CERTIFICATE-----\n"
PACKAGES = (package("alpha"), package("beta"))
RULES = tuple((f"registry.redhat.io/{name}", f"{HOST}/{name}") for name in ("ubi", "web"))
READS = 6  # examinations until a healthy cluster reports it
MOVING = (
    "CatalogSource",
    "Pod",
    "MachineConfigPool",
    "Subscription",
    "Deployment",
    "UpdateService",
)  # kinds whose controllers move when they are read


def resources(minor):
    rules = mirror_rules("ImageDigestMirrorSet" if minor >= 13 else "ImageContentSourcePolicy")
    olm_v1 = [cluster_catalog(), *default_catalogs_off()] if minor >= 18 else []
    return [operator_hub(), rules, *olm_v1, source_of()]


class Site:
    """A cluster on which an import has ended well."""

    def __init__(self, cluster: FakeCluster, folder: Path) -> None:
        self.cluster = cluster
        cluster.catalog_contents[DIGEST] = PACKAGES
        cluster.ready_reads = 0
        authfile = folder / "auth.json"
        authfile.write_text(json.dumps({"auths": {HOST: {"auth": "cmVhZGVyOnJlYWRz"}}}))
        self.kubeconfig = cluster.kubeconfig(folder)
        self.settings = ClusterSettings(kubeconfig=self.kubeconfig, authfile=authfile)
        with connect(self.kubeconfig, None) as client:
            release = release_of(running_version(client))
            recorder = Recorder(client, record_namespace(client))
            apply(client, resources(release.minor), release=release, dry_run=False, tell=str, recorder=recorder)
            recorder.expect([ExpectedCatalog(NAME, MARKETPLACE, IMAGE, offers(PACKAGES), RULES)])
        assert self.settled().findings == ()

    def settled(self) -> Health:
        """Examine the cluster after the reads that its controllers need; they come without HTTP, which takes nearly all of the CPU."""
        for kind in MOVING * (READS - 1):
            self.cluster.simulator.read(kind)
        return self.examined()

    def examined(self) -> Health:
        return health.examine(self.settings, CA)

    def bring(self, version: str = "", *, signed: bool = True, sigstore: bool = True, service: bool = False, **facts) -> None:
        """Import a release, as stories tell it (tests/data/stories/README.md)."""
        minor = ".".join(map(str, self.cluster.release))
        carried = Carried(version or f"{minor}.45", sigstore=sigstore)
        content = inventory(carried, graph=service)
        mirror = Mirror.parse(f"{HOST}/hub")
        images = map_images(content, mirror)
        with connect(self.kubeconfig, None) as client:
            release = release_of(running_version(client))
            built = build(content, images, mirror, release, ResourceOptions())
            written = [each for each in built.resources if signed or each.namespace != MANAGED]
            recorder = Recorder(client, record_namespace(client))
            apply(client, written, release=release, dry_run=False, tell=str, recorder=recorder)
            recorder.expect([], releases_of(content, images))
        self.cluster.trusted_routes, self.cluster.service_failure = facts.get("trusted", True), facts.get("failure")
        self.cluster.absent_payloads = {carried.digest} if facts.get("absent") else set()
        spec: dict[str, object] = {"channel": facts.get("channel", f"stable-{minor}")}
        if service and facts.get("follows", True):
            spec["upstream"] = f"https://hub-route-{NAMESPACE}.apps.cluster.example/api/upgrades_info/v1/graph"
        if facts.get("wanted"):
            spec["desiredUpdate"] = {"image": carried.source, "version": carried.version}
        self.cluster.put({"kind": "ClusterVersion", "metadata": {"name": "version"}, "spec": spec})

    def fix(self) -> Health:
        return health.fix(self.settings, CA, str, lambda _fixable: True)


@pytest.fixture
def site(tmp_path):
    """Return what makes a site of a release."""
    opened = []

    def make(release: str, **options: bool) -> Site:
        cluster = FakeCluster(release, **options)
        opened.append(cluster)
        return Site(cluster.__enter__(), tmp_path)

    yield make
    for cluster in opened:
        cluster.__exit__(None, None, None)


def _is_further(told, release):
    """Say whether a story is one more of a kind, which unit tests of the rules have in full."""
    return release != told.releases[-1] or bool(told.plays.get("more"))


# Each story in its last release; the others in `make test-all`.
PLAYS = [
    pytest.param(each, release, id=f"{each.name}-{release}", marks=[pytest.mark.more] if _is_further(each, release) else [])
    for each in stories()
    for release in each.releases
]


@pytest.mark.parametrize(("told", "release"), PLAYS)
def test_the_cause_is_named_with_its_evidence_and_fixed_where_that_is_safe(site, told, release):
    update = told.plays.get("update")
    here = site(release, update_service=update is not None)
    if update is not None:
        here.bring(**update)
    here.cluster.play(told.name, package="alpha")
    found = here.settled()
    assert {finding.code for finding in found.findings} == {told.cause}
    assert found.healthy == (told.cause != "catalog-starting" and all(one.severity == "warning" for one in found.findings))
    assert all(finding.evidence and finding.cause and finding.fix for finding in found.findings)
    assert [finding.fixable for finding in found.findings] == [told.fixable] * len(found.findings)
    before = here.cluster.versions()
    fixed = here.fix()
    if not told.fixable:
        assert fixed.fixed == ()
        assert here.cluster.versions() == before
        return
    assert [finding.code for finding in fixed.fixed] == [told.cause] * len(found.findings)
    if told.source:
        assert here.settled().findings == (), "the story ends with the fix"


def test_every_story_cites_a_line_and_the_fake_cluster_does_not_import_the_diagnosis():
    lines = [
        line
        for name in ("facts/openshift.md", "reference/cluster.md", "reference/openshift-releases.md")
        for line in (ROOT / "docs" / name).read_text().splitlines()
    ]
    for told in stories():
        assert [line for line in lines if told.cites in line], told.name
    for path in (ROOT / "tests" / "fakes").glob("cluster*.py"):
        assert not re.search(r"^\s*(from|import) importer", path.read_text(), re.MULTILINE), path


def test_several_causes_are_reported_in_the_order_in_which_to_fix_them(site):
    here = site("4.14")
    other = f"{HOST}/other/index@sha256:{'cd' * 32}"
    here.cluster.put(source_of("hub-other", image=other).body, "hub-import")
    here.cluster.play("drain-held-up")
    here.cluster.play("other-catalog-down")
    crash = here.cluster.play("crash-that-nobody-described")
    crash.plays = {**crash.plays, "source": {**crash.source, "of": "hub-other"}}
    unauthorized = here.cluster.play("pull-unauthorized")
    unauthorized.plays = {**unauthorized.plays, "source": {**unauthorized.source, "of": NAME}}
    found = here.settled()
    assert [finding.code for finding in found.findings] == [
        "node-not-drained",
        "other-catalog-down",
        "pull-unauthorized",
        "unknown",
    ]
    unknown = found.findings[-1]
    assert unknown.subject == "CatalogSource hub-other"
    assert any("SIGILL" in line for line in unknown.evidence)
    assert any("exit code 132" in line for line in unknown.evidence)
    assert not unknown.fixable


def test_an_earlier_cause_that_was_fixed_is_not_reported(site):
    here = site("4.18")
    here.cluster.play("x509-unknown-authority")
    assert [finding.code for finding in here.settled().findings] == ["registry-untrusted"]
    here.cluster.stories.clear()
    here.cluster.play("manifest-unknown")
    here.settled()
    (pod,) = [name for name in here.cluster.names("Pod") if name.startswith(NAME)]
    event = {"involvedObject": {"name": pod}, "type": "Warning", "reason": "Failed", "lastTimestamp": "2026-01-02T04:00:00Z"}
    message = 'Failed to pull image "x": reading manifest: manifest unknown'
    place = {"name": "newest", "namespace": MARKETPLACE}
    here.cluster.put({"kind": "Event", "metadata": place, **event, "message": message})
    assert [finding.code for finding in here.settled().findings] == ["image-not-in-mirror"]


def test_a_catalog_that_only_needs_time_is_not_called_unknown(site):
    here = site("4.18")
    here.cluster.play("slow-start")
    for _ in range(READS - 1):
        assert not here.examined().healthy, "also on the way there"
    found = here.examined()
    assert [(finding.code, finding.severity) for finding in found.findings] == [("catalog-starting", "warning")]
    assert not found.healthy


def test_foreign_objects_are_diagnosed_and_never_fixed(site):
    here = site("4.14")
    other = source_of("theirs", image=f"{HOST}/theirs@sha256:{'cd' * 32}").body
    here.cluster.put({**other, "metadata": {**other["metadata"], "labels": {}}}, "somebody")
    told = here.cluster.play("killed-by-its-probe")
    told.plays = {**told.plays, "source": {**told.source, "of": "theirs"}}
    job = {"kind": "Job", "metadata": {"name": "theirs", "namespace": MARKETPLACE}, "spec": {}}
    here.cluster.put({**job, "status": {"conditions": [{"type": "Failed", "status": "True"}]}})
    here.cluster.play("bundle-unpack-failed")
    found = here.settled()
    assert [(finding.code, finding.fixable) for finding in found.findings] == [
        ("other-catalog-down", False),
        ("bundle-unpack-failed", True),
        ("catalog-slow-start", False),
    ]
    here.fix()
    assert here.cluster.names("Job") == ["theirs"]
    assert here.cluster.names("Deployment") == []


def test_undo_also_reverts_fixes(site):
    here = site("4.12")
    before = here.cluster.get("CatalogSource", NAME, MARKETPLACE)["spec"]
    here.cluster.play("killed-by-its-probe")
    here.settled()
    here.fix()
    assert "image" not in here.cluster.get("CatalogSource", NAME, MARKETPLACE)["spec"]
    assert here.cluster.names("Deployment") == [f"{NAME}-serving"]
    with connect(here.kubeconfig, None) as client:
        undo(client, "openshift-config", dry_run=False, tell=str)
    assert before["image"] == IMAGE
    assert here.cluster.names("Deployment") == here.cluster.names("Service") == []
    assert NAME not in here.cluster.names("CatalogSource")  # it was made by the import


def test_reads_that_are_not_allowed_are_named_and_the_rest_is_diagnosed(site):
    here = site("4.18")
    here.cluster.play("manifest-unknown")
    here.cluster.forbidden |= {("get", "pods/log"), ("list", "subscriptions"), ("list", "machineconfigpools")}
    found = here.settled()
    assert [finding.code for finding in found.findings] == ["image-not-in-mirror"]
    assert any("subscriptions" in each for each in found.snapshot.unreadable)
    assert any("pods/log" in each for each in found.snapshot.unreadable)


def test_without_ca_and_credential_nothing_is_fixable(site):
    here = site("4.18")
    here.cluster.play("pull-unauthorized")
    here.settled()
    bare = ClusterSettings(kubeconfig=here.kubeconfig)
    (finding,) = health.examine(bare).findings
    assert not finding.fixable
    assert "--cluster-authfile" in finding.fix
    assert health.fix(bare, None, str, lambda _fixable: True).fixed == ()


def test_status_and_doctor_as_commands(site, tmp_path):
    here = site("4.15")
    place = ["--kubeconfig", here.kubeconfig]
    well = run("hub-import", "status", *place, "--format", "json")
    assert well.status == 0, well.stderr
    assert well.json["healthy"] is True
    assert well.json["catalogs"] == [
        {"name": NAME, "state": "READY", "packages": {"expected": 2, "listed": 2, "missing": []}},
    ]
    assert well.json["mirrors"] == {"expected": 2, "missing": []}
    assert [(pool["name"], pool["state"], pool["rulesMissing"]) for pool in well.json["pools"]] == [
        ("master", "updated", 0),
        ("worker", "updated", 0),
    ]
    assert (well.json["findings"], well.json["unseen"]) == ([], [])
    assert (well.json["installPlans"], well.json["clusterServiceVersions"]) == ([], [])
    assert "healthy" in run("hub-import", "status", *place).stdout
    assert "Nothing is wrong" in run("hub-import", "doctor", *place).stdout

    here.cluster.play("pull-unauthorized")
    here.settled()
    ill = run("hub-import", "doctor", *place)
    assert ill.status == 6
    assert "no credential that the registry accepts" in ill.stdout
    assert "unauthorized: authentication required" in ill.stdout
    asked = run("hub-import", "doctor", *place, "--fix", "--cluster-authfile", tmp_path / "auth.json")
    assert asked.status == 2
    assert "--yes" in asked.stderr
    mending = [*place, "--fix", "--yes", "--cluster-authfile", tmp_path / "auth.json"]
    fixed = run("hub-import", "doctor", *mending, "--format", "json")
    assert fixed.status == 0, fixed.stderr
    assert [(each["code"], each["fixed"]) for each in fixed.json["findings"]] == [("pull-unauthorized", True)]
    here.settled()
    assert run("hub-import", "status", *place).status == 0


def test_a_deleted_catalog_source_is_reported_as_absent(site):
    here = site("4.15")
    here.cluster.store.delete(here.cluster._key(here.cluster.get("CatalogSource", NAME, MARKETPLACE)))
    gone = run("hub-import", "status", "--kubeconfig", here.kubeconfig, "--format", "json")
    assert gone.status == 6
    assert gone.json["catalogs"] == [{"name": NAME, "state": "absent", "packages": {"expected": 2, "listed": 0, "missing": []}}]
