"""Prune at sites of other shapes: catalogs that were pushed again, images that are named in other ways, two prunes at a time."""

from __future__ import annotations

import dataclasses
import json
from itertools import pairwise
from pathlib import Path

import pytest
from msgspec import structs

from common.archive.inventory import ImageKind
from common.oci.image import Digest, digest_of
from common.table import fitted
from importer.cli.prune import plan_table
from importer.cluster.kinds import IMAGE_USERS
from importer.prune.known import Known, KnownArchive, KnownDocument, OwnImage
from importer.prune.plan import Deletion, Kept, PlannedArchive, PrunePlan
from importer.prune.usage import images_in, read_cluster
from importer.prune.wanted import Policy, RepositoryState, Used, decide
from tests.fakes.cluster import FakeCluster
from tests.fakes.cluster_kinds import Served
from tests.samples import more

INDEX, APP = "ocp/redhat/index", "ocp/op/bundle"
GROUP = f"catalog {INDEX}:v4.18"


def named(text):
    return digest_of(text.encode())


def week(number):
    """Return an archive of a catalog for two architectures, whose tag moves, and of the bundle that it offers."""
    archive, catalog, bundle = named(f"archive {number}"), named(f"catalog {number}"), named(f"bundle {number}")
    child = named(f"catalog {number} amd64")
    images = (
        OwnImage(archive, INDEX, "r.example/redhat/index:v4.18", catalog, ("v4.18", f"hub-sha256-{catalog[7:]}"), (child, catalog),
                 ImageKind.CATALOG, (), (GROUP,)),
        OwnImage(archive, APP, f"r.example/op/bundle@{bundle}", bundle, (f"hub-sha256-{bundle[7:]}",), (bundle,),
                 ImageKind.RELATED, (), (GROUP,)),
    )  # fmt: skip
    return KnownArchive(archive, f"2026-01-{number:02}T12:00:00Z", images, catalogs=((catalog, GROUP),))


def site(*archives):
    """Return what records say, and a mirror that got the archives one after the other."""
    known = Known("registry.example", sorted(archives, key=lambda one: one.created))
    tags: dict[str, dict[str, Digest]] = {}
    for archive in archives:
        for image in archive.images:
            tags.setdefault(image.repository, {}).update(dict.fromkeys(image.tags, image.digest))
            for one in image.documents:
                children = image.documents[:-1] if one == image.digest else ()
                known.documents[one] = KnownDocument(1, children, (named(f"config {one}"),))
    return known, {name: RepositoryState(found) for name, found in tags.items()}


def gone(known, state, used=None):
    decision = decide(known, Policy(1), used or Used(), state)
    return {digest for found in decision.deleted.values() for digest in found}


def everything(archive):
    return {one for image in archive.images for one in image.documents}


def test_a_catalog_that_was_pushed_again_is_the_one_that_its_tag_serves():
    """Somebody went back to the catalog of the week before: `push` of that archive moved the tag, and its date is the older one."""
    first, second, third = week(1), week(2), week(3)
    assert gone(*site(first, second, third)) == everything(first) | everything(second)
    assert gone(*site(first, third, second)) == everything(first)


def without(state, repository, digest):
    """Return the state of a mirror that lost an image: a registry was restored, or its retention deleted it."""
    tags = {tag: one for tag, one in state[repository].tags.items() if one != digest}
    return {**state, repository: RepositoryState(tags)}


def test_an_archive_whose_content_was_lost_does_not_push_out_a_complete_one():
    first, second, third = week(1), week(2), week(3)
    known, state = site(first, second, third)
    for number in (0, 1):
        lost = third.images[number]
        decision = decide(known, Policy(1), Used(), without(state, lost.repository, lost.digest))
        assert {digest for found in decision.deleted.values() for digest in found} == everything(first)
        assert decision.archives == {
            second.digest: "among the newest 1",
            third.digest: "incomplete: the mirror lacks 1 image",
        }
    # What an older one lacks changes nothing, and without a complete one all that is left stays.
    lost = second.images[1]
    assert gone(known, without(state, lost.repository, lost.digest)) == everything(first) | everything(second)
    for each in (first, second, third):
        state = without(state, APP, each.images[1].digest)
    assert gone(known, state) == set()


def test_a_catalog_pod_that_runs_by_the_manifest_of_its_architecture_keeps_what_the_catalog_offers():
    """The imageID of a pod may be the manifest of the node's architecture, and the tag leads to another week's by now."""
    first, second = week(1), week(2)
    known, state = site(first, second)
    assert gone(known, state) == everything(first)
    assert gone(known, state, Used({first.images[0].documents[0]: "Pod openshift-marketplace/redhat"})) == set()


def test_an_image_that_a_cluster_names_by_its_configuration_stays():
    """containerd reports the digest of the configuration where it has none of the repository (containerd, internal/cri/server/
    container_status.go); docker does so for images that were built or loaded."""
    first, second = week(1), week(2)
    known, state = site(first, second)
    config = named(f"config {first.images[1].digest}")
    assert gone(known, state, Used({config: "Pod apps/x"})) == everything(first) - {first.images[1].digest}


def test_a_signature_stays_with_an_image_that_stays_for_a_part_of_it():
    """An index of others names a manifest of ours, whose image stays as a whole (Harbor deletes children with an index)."""
    old, new, child, root, signature = (named(each) for each in ("old", "new", "child", "root", "signature"))
    tag = f"sha256-{root[7:]}.sig"
    images = (
        OwnImage(old, APP, "r.example/op/bundle:v1", root, ("v1",), (child, root), ImageKind.RELATED, (), ("image x",)),
        OwnImage(old, APP, "r.example/op/bundle.sig", signature, (tag,), (signature,), ImageKind.SIGNATURE, subject=root),
    )
    other = OwnImage(
        new, APP, "r.example/op/bundle:v2", named("v2"), ("v2",), (named("v2"),), ImageKind.RELATED, (), ("image x",)
    )
    known, state = site(KnownArchive(old, "2026-01-01", images), KnownArchive(new, "2026-01-02", (other,)))
    theirs = named("their index")
    state[APP] = RepositoryState({**state[APP].tags, "theirs": theirs}, {theirs: (child,)})
    assert gone(known, state) == set()


def test_an_index_has_the_manifests_that_any_archive_brought_of_it():
    """One archive has one architecture of an index, another one has all; a tag of a kept image was moved to that index."""
    root, amd, arm, now = (named(each) for each in ("index", "amd64", "arm64", "now"))
    known = Known("registry.example")
    known.note(root, KnownDocument(1, (amd,), ()))
    known.note(root, KnownDocument(1, (amd, arm), ()))
    known.note(root, KnownDocument(1, (amd,), ()))
    assert known.documents[root].children == (amd, arm)
    old = tuple(
        OwnImage(
            named(f"a{number}"), APP, "r.example/op/app:v1", root, ("v1",), documents, ImageKind.RELATED, (), ("catalog x",)
        )
        for number, documents in enumerate([(amd, root), (amd, arm, root)])
    )
    stable = f"hub-sha256-{now[7:]}"
    new = OwnImage(named("a2"), APP, "r.example/op/app:v1", now, ("v1", stable), (now,), ImageKind.RELATED, (), ("catalog x",))
    for number, each in enumerate((*old, new)):
        known.archives.append(KnownArchive(each.archive, f"2026-01-0{number}", (each,)))
    assert gone(known, {APP: RepositoryState({"v1": now, stable: now})}) == {root, amd, arm}
    assert gone(known, {APP: RepositoryState({"v1": root, stable: now})}) == set()


def test_records_that_contradict_each_other_end():
    """Each is consistent alone; together they are a ring, which no digests can make, or a long chain."""
    known = Known("registry.example")
    chain = [named(f"link {number}") for number in range(5000)]
    for parent, child in zip(chain, [*chain[1:], chain[0]], strict=True):
        known.note(parent, KnownDocument(1, (child,), ()))
    assert len(known.heights()) == 5000
    straight = Known("registry.example")
    for parent, child in pairwise(chain):
        straight.note(parent, KnownDocument(1, (child,), ()))
    straight.note(chain[-1], KnownDocument(1, (), ()))
    heights = straight.heights()
    assert [heights[one] for one in chain] == list(range(5000, 0, -1))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        # kubevirt/containerized-data-importer, doc/datavolumes.md, *Registry Data Volume*
        ("docker://reg.example:5000/vm/fedora:39", {"reg.example:5000/vm/fedora:39"}),
        ("oci-archive://reg.example/vm/a:1", {"reg.example/vm/a:1"}),
        # openshift/machine-config-operator, docs/OSUpgrades.md: the transports of rpm-ostree
        ("ostree-unverified-registry:quay.io/os/coreos:4.18", {"quay.io/os/coreos:4.18"}),
        ("ostree-image-signed:docker://quay.io/os/coreos:4.18", {"quay.io/os/coreos:4.18"}),
        ("registry:5000/a/b:v1", {"registry:5000/a/b:v1"}),
    ],
)
def test_names_behind_a_transport_count(text, names):
    assert names <= {name for _, name in images_in({"spec": {"url": text}}) if name}


@pytest.mark.parametrize("text", ["{0}", "sha256-{0}", "containerd://{0}", "hub-sha256-{0}", "a@sha256:{0}"])
def test_a_digest_counts_in_every_form(text):
    wanted = named("x")
    body = {"status": {"imageID": text.format(wanted[7:])}}
    assert wanted in {digest for digest, _ in images_in(body)}
    assert not {digest for digest, _ in images_in({"status": {"imageID": f"{wanted[7:]}0"}}) if digest}


OBJECTS = [
    # kubevirt/user-guide, docs/storage/disks_and_volumes.md, *containerDisk*: a machine that is stopped has no pod
    ("kubevirt.io/v1", "VirtualMachine", {"runStrategy": "Halted", "template": {"spec": {"volumes": [{"containerDisk": {"image": "{0}"}}]}}}),
    ("cdi.kubevirt.io/v1beta1", "DataVolume", {"source": {"registry": {"url": "docker://{0}"}}}),
    # kubernetes/kubernetes, pkg/controller/history: what `rollout undo` of a DaemonSet reads
    ("apps/v1", "ControllerRevision", None),
    ("build.openshift.io/v1", "BuildConfig", {"strategy": {"dockerStrategy": {"from": {"kind": "DockerImage", "name": "{0}"}}}}),
    ("serving.knative.dev/v1", "Revision", {"containers": [{"image": "{0}"}]}),
    ("tekton.dev/v1", "Task", {"steps": [{"name": "x", "image": "{0}"}]}),
    # openshift/hypershift, api/hypershift/v1beta1/nodepool_types.go: `config` is a list, where a MachineConfig has a map
    ("hypershift.openshift.io/v1beta1", "NodePool", {"config": [{"name": "x"}], "release": {"image": "{0}"}}),
    ("machineconfiguration.openshift.io/v1", "PinnedImageSet", {"pinnedImages": [{"name": "{0}"}]}),
]  # fmt: skip


def test_what_nothing_runs_now_counts_too(tmp_path):
    with FakeCluster() as cluster:
        served = {each.kind for each in cluster.kinds}
        cluster.kinds += tuple(
            Served(each.group, each.version, each.name, each.plural, each.namespaced, has_status=True, schema=None)
            for each in IMAGE_USERS
            if each.name not in served
        )
        wanted = set()
        for version, kind, spec in OBJECTS:
            name = f"r.example/org/{kind.lower()}@{named(kind)}"
            wanted.add(named(kind))
            body = {"apiVersion": version, "kind": kind, "metadata": {"name": "x", "namespace": "openshift-marketplace"}}
            if kind == "PinnedImageSet":
                del body["metadata"]["namespace"]
            text = json.dumps({"spec": spec} if spec else {"revision": 1, "data": {"spec": {"image": "{0}"}}})
            cluster.put(body | json.loads(text.replace("{0}", name)))
        found = read_cluster(cluster.kubeconfig(tmp_path))
        assert wanted <= found.digests.keys()


OPERATORS = {"apiVersion": "operators.coreos.com/v1alpha1"}
PLACED = {"name": "x", "namespace": "openshift-marketplace"}
PLANNED = {"clusterServiceVersionNames": ["other.v2", "tool.v1"]}
# Objects that name a version and no digest. The steps of an InstallPlan lie in a ConfigMap.
VERSIONS = {
    "csv": OPERATORS | {"kind": "ClusterServiceVersion", "metadata": PLACED | {"name": "tool.v1"}},
    "waits": OPERATORS | {"kind": "InstallPlan", "metadata": PLACED, "spec": PLANNED, "status": {"phase": "RequiresApproval"}},
    "no phase": OPERATORS | {"kind": "InstallPlan", "metadata": PLACED, "spec": PLANNED},
    "extension": {
        "apiVersion": "olm.operatorframework.io/v1",
        "kind": "ClusterExtension",
        "metadata": {"name": "x"},
        "status": {"install": {"bundle": {"name": "tool.v1", "version": "1.0.0"}}},
    },
    "starts": OPERATORS | {"kind": "Subscription", "metadata": PLACED, "spec": {"startingCSV": "tool.v1"}},
    "goes to": OPERATORS | {"kind": "Subscription", "metadata": PLACED, "status": {"currentCSV": "tool.v1"}},
}


def used_versions(tmp_path, *bodies):
    with FakeCluster() as cluster:
        for body in bodies:
            cluster.put(body)
        found = read_cluster(cluster.kubeconfig(tmp_path))
        return Used(found.digests, found.names, found.versions)


@pytest.mark.parametrize("what", ["waits", "extension", *more(sorted(VERSIONS.keys() - {"waits", "extension"}))])
def test_all_images_of_a_version_that_is_installed_or_waits_for_approval_stay(tmp_path, what):
    first, second = week(1), week(2)
    of_version = dataclasses.replace(first.images[1], operators=("index/tool/tool.v1",))
    known, state = site(dataclasses.replace(first, images=(first.images[0], of_version)), second)
    assert gone(known, state) == everything(first)
    used = used_versions(tmp_path, VERSIONS[what])
    assert gone(known, state, used) == everything(first) - {of_version.digest}


def test_a_version_that_was_replaced_is_not_kept_by_what_is_left_of_it(tmp_path):
    """An InstallPlan that was carried out stays in the cluster, and so does the start of a Subscription."""
    done = VERSIONS["waits"] | {"status": {"phase": "Complete"}}
    started = VERSIONS["starts"] | {"status": {"installedCSV": "tool.v2", "currentCSV": "tool.v2"}}
    assert set(used_versions(tmp_path, done, started).versions) == {"tool.v2"}


def plan_of(deleted, **changed):
    archives = (PlannedArchive(named("a"), "week-1", "2026-01-01T00:00:00Z"),)
    kept = (Kept("ocp/x", named("k"), "s", (), "used: Pod apps/x"),)
    deletions = tuple(Deletion("ocp/x", named(user), (), (), (user,), (), 2048) for user in deleted)
    made = PrunePlan("", "", "", "registry.example/ocp", named("s"), 1, (), (), 4096, archives, deletions, kept)
    return structs.replace(made, **changed)


def test_a_plan_at_80_columns_shows_each_version():
    long = "redhat-operator-index/openshift-cert-manager-operator/cert-manager-operator.v1."
    text = "\n".join(map(str, fitted(plan_table(plan_of([f"{long}18.1", f"{long}19.0", "r.example/a/b:v1"]), None), 80)))
    assert "redhat-operator-index/cert-manager-operator.v1.18.1" in text
    assert "redhat-operator-index/cert-manager-operator.v1.19.0" in text
    assert "r.example/a/b:v1" in text
    assert "1 image stays: used: Pod apps/x" in text
    assert max(map(len, text.splitlines())) <= 80


def test_a_plan_of_records_alone_says_so_and_what_to_do():
    """A run was interrupted after its last manifest."""
    text = "\n".join(map(str, plan_table(plan_of([], records=("archive-1",)), Path("plan.json"))))
    assert "is needless, but 1 record of archives that are gone" in text
    assert "hub-import prune --plan plan.json" in text
    assert "--plan" not in "\n".join(map(str, plan_table(plan_of([]), Path("plan.json"))))


def test_a_record_without_signature_does_not_explain_the_tag_of_others():
    """With --key: an account that may push writes a record that claims the tag of another team."""
    first, second = week(1), week(2)
    bundle = first.images[1]
    claim = dataclasses.replace(bundle, archive=named("forged"), tags=("prod",))
    forged = KnownArchive(named("forged"), "2026-01-03", (claim,), trusted=False)
    known, state = site(first, second)
    state[APP] = RepositoryState({**state[APP].tags, "prod": bundle.digest})
    known.archives.append(forged)
    decision = decide(known, Policy(1), Used(), state)
    assert decision.keeps(APP, bundle.digest)
    assert decision.unrecorded == ()


ITMS = {
    "apiVersion": "config.openshift.io/v1",
    "kind": "ImageTagMirrorSet",
    "metadata": {"name": "x"},
    "spec": {
        "imageTagMirrors": [
            {"source": "corp.example/apps/tool", "mirrors": ["r.example:5000/ocp/org/renamed"]},
            {"source": "corp.example", "mirrors": ["r.example:5000/all"]},
            {"source": "*.wild.example", "mirrors": ["r.example:5000/wild"]},
        ]
    },
}


WILD = ("d", "sub.wild.example/app:v3")


def test_a_rule_of_a_mirror_may_give_an_image_another_name(tmp_path):
    """The workload is scaled to zero, so that no pod has a digest. openshift/api, config/v1/types_image_tag_mirror_set.go."""
    with FakeCluster() as cluster:
        cluster.put(ITMS)
        for name, image in (
            ("a", "corp.example/apps/tool:v1"),
            ("b", "corp.example/x/y:v2"),
            ("c", "corp.example/apps/tool"),
            WILD,
        ):
            template = {"metadata": {}, "spec": {"containers": [{"name": "main", "image": image}]}}
            spec = {"replicas": 0, "template": template}
            metadata = {"name": name, "namespace": "openshift-marketplace"}
            cluster.put({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": metadata, "spec": spec})
        names = read_cluster(cluster.kubeconfig(tmp_path)).names
    assert "StatefulSet openshift-marketplace/a" in names["r.example:5000/ocp/org/renamed:v1"]
    places = {"r.example:5000/all/x/y:v2", "r.example:5000/ocp/org/renamed", "r.example:5000/wild/app:v3"}
    assert places <= names.keys()
    assert "r.example:5000/all/apps/tool:v1" not in names


def test_a_name_without_a_tag_where_the_field_says_that_it_is_an_image():
    source = {"from": {"kind": "DockerImage", "name": "r.example/org/base"}}
    assert (None, "r.example/org/base") in list(images_in({"spec": source}))
    assert (None, "r.example/vm/disk") in list(images_in({"spec": {"url": "docker://r.example/vm/disk"}}))
