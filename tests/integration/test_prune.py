"""Prune on mirrors that speak over sockets: archives are pushed, a plan is made, and what it has is deleted (ADR 0081)."""

from __future__ import annotations

import json

import msgspec
import pytest

from common.archive.signature import Algorithm, Signer, Verifier, make_keys
from common.errors import (
    ArchiveDamagedError,
    ClusterError,
    ExitCode,
    HubError,
    InterruptedByUserError,
    RegistryError,
    UsageError,
)
from common.mapping import Mirror
from common.oci import media_types
from common.progress import Silent
from common.registry.client import RegistryClient
from importer import workflow
from importer.cluster.resources.permissions import PRUNE_NAME, reading_images, roles
from importer.prune import plan as plans
from importer.prune.delete import execute
from importer.prune.run import prune_plan
from importer.records.document import head_of
from importer.records.store import RecordStore
from importer.settings import ImportSettings
from tests.fakes.archives import noise
from tests.fakes.clock import FakeClock
from tests.fakes.cluster import FakeCluster, Fault
from tests.fakes.cluster_rbac import Roles
from tests.fakes.commands import run
from tests.fakes.factories import image
from tests.fakes.pruned_mirrors import OLD, SHARED, SIDE, Cut, Site, dated, root, weeks
from tests.fakes.registry import FakeRegistry
from tests.samples import more


@pytest.fixture(name="archives", scope="module")
def _archives(tmp_path_factory):
    return weeks(tmp_path_factory.mktemp("weeks"))


@pytest.fixture(name="site")
def _site(tmp_path):
    with FakeRegistry() as registry:
        yield Site(registry, tmp_path)


class Steps(Silent):
    """Progress whose steps are noted, with how much of each was done."""

    def __init__(self):
        self.done = {}

    def begin(self, what, total, *_args, **_options):
        self.step = what
        self.done[what] = [total, 0]

    def advance(self, size, *_args, **_options):
        self.done[self.step][1] += size


def test_reading_the_records_is_a_step_of_its_own(site, archives):
    """A record of a whole index takes seconds, and a mirror has one for each week."""
    site.push(*archives)
    steps = Steps()
    prune_plan(site.request(), steps)
    assert next(iter(steps.done.items())) == ("reading 3 records of the mirror", [3, 3])


def test_what_the_newest_archives_do_not_need_is_deleted(site, archives):
    site.push(*archives)
    before = site.stored
    plan = site.plan(keep_last=1)
    assert site.stored == before, "a plan deletes nothing"
    assert [(one.repository, one.digest) for one in plan.deletions] == sorted(
        ("ocp/org/app", root(each)) for each in archives[:2]
    )
    assert plan.bytes > sum(one.bytes for one in plan.deletions) > 1800, "records that go count too"
    assert {one.source for one in plan.kept} == {"quay.io/org/app:v3", "quay.io/org/shared:v1"}
    assert all("among the newest 1" in one.why for one in plan.kept)
    result = site.run(plan)
    assert (result.exit_code, result.bytes) == (ExitCode.DONE, plan.bytes)
    assert site.stored == {"ocp/org/app": {root(archives[2])}, "ocp/org/shared": {root(archives[2], 1)}}
    assert list(site.archives) == [archives[2].digest], "nothing is left of the others"
    assert any("garbage-collect" in line for line in result.space)


def test_a_newest_archive_that_lost_an_image_deletes_no_complete_one(site, archives):
    site.push(*archives)
    repository = site.repository("org/app")
    lost = root(archives[2])
    del repository.manifests[lost]
    repository.tags = {tag: one for tag, one in repository.tags.items() if one != lost}
    plan = site.plan(keep_last=1)
    assert [(one.repository, one.digest) for one in plan.deletions] == [("ocp/org/app", root(archives[0]))]
    assert [one.kept for one in plan.archives] == ["", "among the newest 1", "incomplete: the mirror lacks 1 image"]
    site.push(archives[2])
    assert len(site.plan(keep_last=1).deletions) == 2


@pytest.mark.more
@pytest.mark.parametrize("lost", [1, 2])
def test_an_archive_that_lost_an_image_does_not_count_for_keep_last(site, archives, lost):
    """Of the newest two, one is incomplete: the one before stays. Its push makes it count again."""
    site.push(*archives)
    store = site.repository("org/app")
    gone = root(archives[lost])
    store.tags = {tag: digest for tag, digest in store.tags.items() if digest != gone}
    del store.manifests[gone]
    assert site.plan(keep_last=2).deletions == ()
    site.push(archives[lost])
    assert [one.digest for one in site.plan(keep_last=2).deletions] == [root(archives[0])]


def test_a_plan_is_stable_and_can_be_read(site, archives, tmp_path):
    site.push(*archives)
    first, second = site.plan(), site.plan()
    assert msgspec.structs.replace(first, created="") == msgspec.structs.replace(second, created="")
    (tmp_path / "plan.json").write_bytes(plans.encode(first))
    assert plans.load(tmp_path / "plan.json") == first
    for bad in (b"{}", b'{"mediaType": "x"}', plans.encode(first).replace(b'"ocp/org/app"', b'"../etc"')):
        (tmp_path / "bad.json").write_bytes(bad)
        with pytest.raises(UsageError, match="not a plan of prune"):
            plans.load(tmp_path / "bad.json")


def test_archives_that_are_named_stay(site, archives):
    site.push(*archives)
    plan = site.plan(named=(archives[0].digest[7:19],))
    assert [one.digest for one in plan.deletions] == [root(archives[1])]
    site.run(plan)
    assert set(site.archives) == {archives[0].digest, archives[2].digest}
    with pytest.raises(UsageError, match="no archive of that name"):
        site.plan(named=("nothing",))


@pytest.mark.parametrize("step", [1, *more([0])])
def test_interrupted_at_any_step_and_run_again_it_ends_the_same(site, archives, step):
    site.push(*archives)
    plan = site.plan()
    request = site.request(keep_last=plan.keep_last, named=plan.named)
    with pytest.raises(InterruptedByUserError):
        execute(plan, request, Cut(step))
    assert root(archives[2]) in site.stored["ocp/org/app"]
    assert len(site.stored["ocp/org/app"]) == 2 - step, "the manifest is deleted, and its progress is not"
    assert len(site.archives) == 3, "records go last"
    result = site.run(plan)
    assert (result.exit_code, result.gone) == (ExitCode.DONE, step + 1)
    assert site.stored == {"ocp/org/app": {root(archives[2])}, "ocp/org/shared": {root(archives[2], 1)}}
    assert list(site.archives) == [archives[2].digest]


def test_an_interruption_between_records_is_continued(site, archives):
    site.push(*archives)
    plan = site.plan()
    site.registry.fault("DELETE", "/hub-airgap-archives/manifests/", skip=2, status=403)  # the trial and one record before it
    with pytest.raises(RegistryError):
        site.run(plan)
    assert len(site.archives) == 2
    assert site.run(plan).exit_code is ExitCode.DONE
    assert list(site.archives) == [archives[2].digest]


def test_an_account_that_may_not_delete_in_one_repository(site, archives):
    site.push(*archives)
    plan = site.plan()
    site.registry.fault("DELETE", "/org/app/manifests/", status=403, times=99)
    result = site.run(plan)
    assert result.exit_code is ExitCode.PROBLEMS
    assert {one.digest for one in result.refused} == {root(each) for each in archives[:2]}
    assert len(site.registry.log("DELETE", "/org/app/manifests/")) == 1, "one refusal is enough"
    assert len(site.archives) == 3


def test_a_tag_that_was_set_since_the_plan_keeps_its_image(site, archives):
    site.push(*archives)
    plan = site.plan()
    site.repository("org/app").tags["theirs"] = root(archives[0])
    result = site.run(plan)
    assert result.exit_code is ExitCode.PROBLEMS
    (spared,) = result.spared
    assert (spared.digest, "theirs" in spared.why) == (root(archives[0]), True)
    assert root(archives[0]) in site.stored["ocp/org/app"]
    assert root(archives[1]) not in site.stored["ocp/org/app"]
    assert site.archives[archives[0].digest].pruned == ""


def test_an_index_of_others_keeps_what_it_names(site, archives):
    site.push(*archives)
    theirs = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": media_types.OCI_INDEX,
            "manifests": [{"mediaType": media_types.OCI_MANIFEST, "digest": root(archives[0]), "size": 1}],
        }
    ).encode()
    site.registry.add_manifest("ocp/org/app", theirs, media_types.OCI_INDEX, "theirs")
    plan = site.plan()
    assert [one.digest for one in plan.deletions] == [root(archives[1])]
    site.run(plan)
    assert root(archives[0]) in site.stored["ocp/org/app"]
    # The image that is left is still known to be ours: without that index, the next prune deletes it.
    assert site.archives[archives[0].digest].pruned == "", "nothing of it is gone"
    site.repository("org/app").manifests.pop(site.repository("org/app").tags.pop("theirs"))
    site.run(site.plan())
    assert root(archives[0]) not in site.stored["ocp/org/app"]
    assert list(site.archives) == [archives[2].digest]


def test_what_others_attached_keeps_its_image(site, archives):
    """Harbor would delete it together with the image."""
    site.push(*archives)
    subject = site.repository("org/app").manifests[root(archives[0])]
    parts = image([noise("their signature", 100)])
    raw = json.dumps(
        {**json.loads(parts.raw), "subject": {"mediaType": subject[0], "digest": root(archives[0]), "size": len(subject[1])}}
    ).encode()
    site.registry.add_manifest("ocp/org/app", raw, media_types.OCI_MANIFEST)
    assert [one.digest for one in site.plan().deletions] == [root(archives[1])]
    site.registry.referrers = False  # elsewhere by the tag that cosign gives it
    assert {one.digest for one in site.plan().deletions} == {root(archives[0]), root(archives[1])}
    tag = f"sha256-{root(archives[0])[7:]}.sig"
    site.registry.add_image("ocp/org/app", image([noise("cosign", 100)]), tag)
    assert [one.digest for one in site.plan().deletions] == [root(archives[1])]


def test_deletion_that_is_switched_off_is_told_before_anything_is_deleted(site, archives):
    site.push(*archives)
    plan, before = site.plan(), site.stored
    site.registry.deletes = False
    with pytest.raises(RegistryError, match="deletes no manifests, so nothing was deleted") as caught:
        site.run(plan)
    assert "REGISTRY_STORAGE_DELETE_ENABLED" in caught.value.hint
    assert site.stored == before
    assert len(site.archives) == 3


def test_a_manifest_that_is_still_there_after_its_deletion_is_said(site, archives):
    """A registry may take a DELETE, with 202, and delete nothing, by a retention rule of one repository or a queue that stopped."""
    site.push(*archives)
    plan, kept = site.plan(), root(archives[0])
    for _ in range(2):
        site.registry.fault("DELETE", f"/org/app/manifests/{kept}", status=202)
        result = site.run(plan)
        assert result.exit_code is ExitCode.PROBLEMS
        assert [(one.digest, "still there" in one.why) for one in result.refused] == [(kept, True)]
        assert kept not in {one.digest for one in result.deleted}
        assert archives[0].digest in site.archives, "its record stays, so that a later run finds it"
    assert site.run(plan).exit_code is ExitCode.DONE
    assert list(site.archives) == [archives[2].digest]


@pytest.mark.parametrize("status", [403, *more([400])])
def test_a_manifest_of_which_it_is_not_known_whether_it_is_gone_does_not_end_the_run(site, archives, status):
    site.push(*archives)
    plan, kept = site.plan(), root(archives[0])
    where = f"/org/app/manifests/{kept}"

    def refuse():
        for method in ("HEAD", "GET"):
            site.registry.fault(method, where, times=10, status=status)

    site.registry.fault("DELETE", where, status=202, action=refuse)
    result = site.run(plan)
    assert result.exit_code is ExitCode.PROBLEMS
    assert [(one.digest, "not known whether it is gone" in one.why) for one in result.refused] == [(kept, True)]
    assert archives[0].digest in site.archives, "its record stays, so that a later run finds it"
    site.registry.drop_faults()
    assert site.run(plan).exit_code is ExitCode.DONE
    assert list(site.archives) == [archives[2].digest]


def test_two_prunes_at_a_time_do_not_delete_the_trial_of_each_other(site, archives):
    site.push(*archives)
    plan = site.plan()
    for _ in range(2):
        site.run(plan)
    trials = [one.path for one in site.registry.log("PUT", "/hub-airgap-archives/manifests/sha256:")]
    assert len(trials) == len(set(trials)) == 2


def test_a_record_that_another_prune_removed_meanwhile_is_done(site, archives, tmp_path):
    first = dated(tmp_path, 1, {"quay.io/org/app:v1": [OLD], "quay.io/org/own:v1": [SIDE]})
    site.push(first, archives[1])
    site.repository("org/own").tags["theirs"] = root(first, 1)
    plan = site.plan()
    site.registry.fault("GET", f"/hub-airgap-archives/manifests/archive-{first.digest[7:]}", skip=1, status=404)
    result = site.run(plan)
    assert (result.exit_code, len(result.deleted)) == (ExitCode.DONE, 1)


def test_an_archive_without_a_record_stops_the_plan(site, archives):
    """It was pushed before there were records, or its record was refused: what it shares with others is not known."""
    site.push(*archives)
    store = site.repository("hub-airgap-archives")
    del store.tags[f"archive-{archives[1].digest[7:]}"]
    with pytest.raises(UsageError, match="archives that the mirror does not remember") as caught:
        site.plan()
    assert "--keep ARCHIVE" in caught.value.hint
    plan = site.plan(archives=(archives[1],))
    assert [one.digest for one in plan.deletions] == [root(archives[0])]
    assert len(site.archives) == 3, "--keep stores its record"
    del store.tags[f"archive-{archives[1].digest[7:]}"]
    plan = site.plan(accept_unrecorded=True)
    assert [one.digest for one in plan.deletions] == [root(archives[0])], "what no record explains stays"
    site.run(plan)
    assert root(archives[1]) in site.stored["ocp/org/app"]


def test_an_archive_that_is_not_there_cannot_be_taken_up(site, archives):
    site.push(archives[0])
    with pytest.raises(UsageError, match="is not in"):
        site.plan(archives=(archives[1],))


def test_a_record_that_cannot_be_read_stops_the_plan(site, archives):
    site.push(*archives)
    store = site.repository("hub-airgap-archives")
    digest = store.tags[f"archive-{archives[2].digest[7:]}"]
    layer = json.loads(store.manifests[digest][1])["layers"][0]["digest"]
    store.blobs[layer] = b"x" * len(store.blobs[layer])
    with pytest.raises(ArchiveDamagedError, match="records that cannot be used"):
        site.plan()


@pytest.mark.more
@pytest.mark.parametrize("damage", ["cut off", "no content", "an index", "no manifest"])
def test_a_record_that_is_damaged_stops_the_plan_and_is_named(site, archives, damage):
    """Of the oldest archive, too: what it shares with others is not known then. A push of that archive writes it again."""
    site.push(*archives)
    store, tag = site.repository("hub-airgap-archives"), f"archive-{archives[0].digest[7:]}"
    layer = json.loads(store.manifests[store.tags[tag]][1])["layers"][0]["digest"]
    if damage == "cut off":
        store.blobs[layer] = store.blobs[layer][:-40]
    elif damage == "no content":
        del store.blobs[layer]
    elif damage == "an index":
        empty = b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}'
        site.registry.add_manifest("ocp/hub-airgap-archives", empty, media_types.OCI_INDEX, tag)
    else:
        del store.manifests[store.tags[tag]]
    before = site.stored
    with pytest.raises(HubError) as error:
        site.plan()
    assert archives[0].digest[7:] in "\n".join([error.value.message, *error.value.details])
    assert site.stored == before
    workflow.push(archives[0], ImportSettings(site.mirror, site.settings, heal=True), Silent())
    assert [one.digest for one in site.plan().deletions] == [root(archives[0]), root(archives[1])]


@pytest.mark.parametrize("second", ["hub", *more(["ocp/inner", "ocp-2"])])
def test_the_same_archive_at_two_prefixes(archives, tmp_path, second):
    """Each prefix has records of its own; what is below the other one is content of others."""
    with FakeRegistry() as registry:
        here, there = Site(registry, tmp_path), Site(registry, tmp_path)
        there.mirror = Mirror.parse(f"{registry.host}/{second}")
        here.push(*archives)
        there.push(*archives[:2])
        before = {name: set(each.manifests) for name, each in registry.repositories.items() if name.startswith(f"{second}/")}
        result = here.run(here.plan())
        assert (result.exit_code, {one.repository for one in result.deleted}) == (ExitCode.DONE, {"ocp/org/app"})
        after = {name: set(each.manifests) for name, each in registry.repositories.items() if name.startswith(f"{second}/")}
        assert after == before
        assert set(there.archives) == {each.digest for each in archives[:2]}
        assert there.run(there.plan()).exit_code is ExitCode.DONE
        assert list(here.archives) == [archives[2].digest]


@pytest.mark.more
def test_the_same_archive_with_two_lengths_of_paths(archives, tmp_path):
    """`--max-path-components` gives its images other repositories, and the archive a second record."""
    with FakeRegistry() as registry:
        site, short = Site(registry, tmp_path), Site(registry, tmp_path)
        short.mirror = Mirror.parse(f"{registry.host}/ocp", max_path_components=2)
        for one in (site, short):
            one.push(*archives[:2])
        site.push(archives[2])
        result = site.run(site.plan())
        assert result.exit_code is ExitCode.DONE
        assert {one.repository for one in result.deleted} == {"ocp/org/app", "ocp/org-app", "ocp/org-shared"}
        assert site.stored == {"ocp/org/app": {root(archives[2])}, "ocp/org/shared": {root(archives[2], 1)}}
        assert set(site.archives) == {archives[2].digest}


def test_a_repository_that_may_not_be_read_stops_the_plan(site, archives):
    site.push(*archives)
    site.registry.fault("GET", "/org/app/tags/list", status=403, times=9)
    with pytest.raises(RegistryError):
        site.plan()


def test_a_mirror_without_records(site):
    with pytest.raises(UsageError, match="remembers no archive"):
        site.plan()


# Clusters.


@pytest.fixture(name="cluster")
def _cluster():
    with FakeCluster() as cluster:
        yield cluster


def pod(digest, namespace="apps", **spec):
    container = {"name": "main", "image": f"quay.io/org/app@{digest}"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "app", "namespace": namespace},
        "spec": {"containers": [container], **spec},
    }


def test_what_a_cluster_runs_stays_and_is_read_again(site, archives, cluster, tmp_path):
    site.push(*archives)
    kubeconfig = cluster.kubeconfig(tmp_path)
    cluster.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "apps"}})
    cluster.put(pod(root(archives[0])))
    plan = site.plan(clusters=(kubeconfig,))
    assert [one.digest for one in plan.deletions] == [root(archives[1])]
    assert any("Pod apps/app" in one.why for one in plan.kept)
    assert len(plan.clusters) == 1
    with pytest.raises(UsageError, match="and now none was read"):
        site.run(plan)
    # Between the plan and its execution somebody installs what runs later: it is scaled to zero.
    template = {"metadata": {}, "spec": pod(root(archives[1]))["spec"]}
    later = {"metadata": {"name": "later", "namespace": "apps"}, "spec": {"replicas": 0, "template": template}}
    cluster.put({"apiVersion": "apps/v1", "kind": "StatefulSet", **later})
    result = site.run(plan, clusters=(kubeconfig,))
    assert [one.digest for one in result.spared] == [root(archives[1])]
    assert "StatefulSet apps/later" in result.spared[0].why
    assert {root(each) for each in archives} == site.stored["ocp/org/app"]


def test_a_cluster_that_may_not_be_read_as_a_whole_stops_the_plan(site, archives, cluster, tmp_path):
    site.push(*archives)
    kubeconfig = cluster.kubeconfig(tmp_path)
    cluster.faults.append(Fault("GET", "/pods", status=403, times=9))
    with pytest.raises(ClusterError, match="nothing was planned") as caught:
        site.plan(clusters=(kubeconfig,))
    assert "rbac-prune.yaml" in caught.value.hint


def test_the_roles_for_prune_let_it_read_and_nothing_else(site, archives, cluster, tmp_path):
    """Catalogs that nothing is installed from are shown with the command that removes them."""
    site.push(*archives)
    kubeconfig = cluster.kubeconfig(tmp_path)
    namespace, own = "openshift-marketplace", {"app.kubernetes.io/managed-by": "hub-import"}
    for name, labels in (("unused", own), ("used", own), ("cs-redhat-v4-18", {}), ("others", {})):
        source = {
            "metadata": {"name": name, "namespace": namespace, "labels": labels},
            "spec": {"sourceType": "grpc", "image": "r/a:1"},
        }
        cluster.put({"apiVersion": "operators.coreos.com/v1alpha1", "kind": "CatalogSource", **source})
    wanted = {"name": "op", "source": "used", "sourceNamespace": namespace, "channel": "stable"}
    subscription = {"metadata": {"name": "op", "namespace": namespace}, "spec": wanted}
    cluster.put({"apiVersion": "operators.coreos.com/v1alpha1", "kind": "Subscription", **subscription})
    documents = roles(reading_images(), PRUNE_NAME)
    assert {verb for each in documents for rule in each["rules"] for verb in rule["verbs"]} == {"list"}
    cluster.roles = granted = Roles(documents)
    plan = site.plan(clusters=(kubeconfig,))
    assert granted.denied == []
    assert {(one.name, one.own) for one in plan.unused_catalogs} == {("unused", True), ("cs-redhat-v4-18", False)}
    assert any(one.command == "oc delete catalogsource unused -n openshift-marketplace" for one in plan.unused_catalogs)
    # One kind fewer, and nothing is planned.
    for each in documents:
        each["rules"] = [rule for rule in each["rules"] if rule["resources"] != ["statefulsets"]]
    cluster.roles = Roles(documents)
    with pytest.raises(ClusterError, match="nothing was planned"):
        site.plan(clusters=(kubeconfig,))


# The command, and keys.


def test_the_command(site, archives, tmp_path):
    site.push(*archives)
    place = ("--insecure", site.registry.host, "--no-cluster", "--format", "json")
    planned = run("hub-import", "prune", "--registry", str(site.mirror), *place, "--output", tmp_path / "plan.json")
    assert planned.status == 0, planned.stderr
    assert json.loads((tmp_path / "plan.json").read_bytes()) == planned.json
    refused = run("hub-import", "prune", "--plan", tmp_path / "plan.json", *place)
    assert (refused.status, "Pass --yes" in refused.stderr) == (2, True)
    assert len(site.archives) == 3
    done = run("hub-import", "prune", "--plan", tmp_path / "plan.json", "--yes", *place)
    assert (done.status, done.json["bytes"], done.json["ok"]) == (0, planned.json["bytes"], True)
    assert len(done.json["deleted"]) == 2


@pytest.mark.more
def test_options_that_do_not_go_together(tmp_path):
    plan = tmp_path / "plan.json"
    plan.write_text("{}")
    for arguments, said in (
        ((), "no mirror is named"),
        (("--registry", "registry.example/ocp", "--plan", plan), "--plan with options of a new plan"),
        (("--plan", plan), "not a plan of prune"),
        (("--registry", "registry.example/ocp", "--no-cluster", "--kubeconfig", plan), "--no-cluster with a cluster"),
    ):
        done = run("hub-import", "prune", *arguments)
        assert (done.status, said in done.stderr) == (2, True), done.stderr


def test_a_record_that_the_key_did_not_sign_neither_deletes_nor_pushes_out_others(site, archives, tmp_path):
    """Any account that may push below the prefix can write one, with any date and any content."""
    make_keys(tmp_path / "key.pem", tmp_path / "key.pub", Algorithm.ED25519)
    signer, key = Signer.load(tmp_path / "key.pem"), Verifier.load(tmp_path / "key.pub")
    site.push(*archives)
    writer = RegistryClient(site.settings, clock=FakeClock().clock, pushes_to=frozenset({str(site.mirror)}))
    store = RecordStore(writer, site.mirror)
    for archive in archives:
        store.remove(head_of(archive.digest, site.mirror, "").tag)
        head = head_of(archive.digest, site.mirror, "2026-02-01T00:00:00Z")
        packed = archive.found.packed
        store.write(head, archive.inventory.created, packed, (signer.sign(packed.content()),))
    # It says that others' image is ours, and that it is the newest archive of all groups.
    theirs = site.registry.add_image("ocp/org/theirs", image([noise("theirs", 100)]), "v1")
    assert theirs
    forged = dated(tmp_path, 28, {"quay.io/org/app:v9": [noise("theirs", 100)], "quay.io/org/shared:v1": [SHARED]})
    site.push(forged)
    without = {one.digest for one in site.plan().deletions}
    assert root(archives[2]) in without, "without a key the newest record counts"
    plan = site.plan(key=key)
    assert {one.digest for one in plan.deletions} == {root(archives[0]), root(archives[1])}
    with pytest.raises(UsageError, match="another key"):
        site.run(plan)
    site.run(plan, key=key)
    assert root(archives[2]) in site.stored["ocp/org/app"]
    assert forged.digest in site.archives, "it is no reason to delete, and stays"
