"""Releases of which the archive lacks images: no cluster is led to one, for its update would stop half way."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from common.archive.inventory import ImageKind, ManifestRecord, UpdatePathRecord, UpdateStepRecord
from importer.cluster.release import Release
from importer.cluster.resources.build import ResourceOptions, build
from importer.cluster.resources.openshift_release import signature_name
from importer.cluster.updates.expected import releases_of
from importer.cluster.updates.outlook import updates
from importer.cluster.updates.reading import UpdateState
from importer.configure.files.render import render_archive
from importer.diagnose.rules import diagnose
from importer.diagnose.snapshot import Snapshot
from importer.diagnose.state import Health
from importer.mapping import Mirror, left_out_payloads, map_images, pushed_images
from importer.serving.app import served_repositories
from tests.fakes.carried_releases import Carried, inventory
from tests.samples import more

MIRROR = Mirror.parse("mirror.example:5000/hub")
FIRST, SECOND = Carried("4.18.45"), Carried("4.18.46")
STATE = UpdateState({"status": {"desired": {"version": "4.18.40"}}}, architectures=frozenset(("amd64",)))


def lacking(kind=ImageKind.COMPONENT, release=FIRST, resolved=True, **fields):
    """Return an archive that lacks one image of a release, as an export leaves it that could not fetch all (exit status 3)."""
    content = inventory(FIRST, SECOND, **fields)
    sources = {release.source, *map(release.component, release.components)}
    at = next(at for at, image in enumerate(content.images) if image.kind is kind and image.source in sources)
    images = list(content.images)
    images[at] = replace(images[at], complete=False, **({} if resolved else {"digest": None, "media_type": None}))
    return replace(content, images=tuple(images))


def built(content):
    return build(content, map_images(content, MIRROR), MIRROR, Release(4, 18), ResourceOptions())


@pytest.mark.parametrize("change", [{}, *more([{"resolved": False}, {"kind": ImageKind.RELEASE}])])
def test_a_release_with_an_image_that_is_not_in_the_archive_gets_no_signature(change):
    made = built(lacking(**change))
    names = {each.name for each in made.resources}
    assert signature_name(FIRST.digest) not in names  # the cluster version operator refuses what is not signed
    assert signature_name(SECOND.digest) in names
    (problem,) = made.problems
    assert (problem.severity, problem.code, problem.subject) == ("error", "release-incomplete", "OpenShift 4.18.45 (amd64)")
    assert "1 of its images" in problem.message


def test_no_cluster_is_led_to_it_or_over_it():
    steps = (UpdateStepRecord("4.18.40", "4.18.45"), UpdateStepRecord("4.18.45", "4.18.46"))
    content = lacking(paths=(UpdatePathRecord("amd64", steps),))
    found = updates(STATE, releases_of(content, map_images(content, MIRROR)))
    assert [(each.release.version, each.commands) for each in found] == [("4.18.45", ())]
    assert "export it again" in " ".join(found[0].lines)
    assert "oc adm" not in " ".join(found[0].lines)


def test_status_says_what_is_in_the_way():
    content = lacking()
    targets = updates(STATE, releases_of(content, map_images(content, MIRROR)))
    given = {"missing_rules": {}, "ca_keys": frozenset(), "registry_state": "", "package_log": "", "rule_kinds": frozenset()}
    empty = dict.fromkeys(("sources", "pools", "subscriptions", "jobs", "cluster_catalogs"), ())
    snapshot = Snapshot(release=Release(4, 18), updates=STATE, targets=targets, **empty, **given)
    health = Health(snapshot, (), tuple(diagnose(snapshot)), None)
    assert [health.obstacles(each) for each in targets] == [("release-incomplete",), ("release-signature-missing",)]
    assert health.healthy


def test_an_attached_signature_that_is_not_there_makes_no_release_incomplete():
    content = inventory(FIRST)
    images = [replace(each, complete=each.kind is not ImageKind.SIGNATURE) for each in content.images]
    assert not built(replace(content, images=tuple(images))).problems


@pytest.mark.parametrize("change", [{}, *more([{"resolved": False}, {"kind": ImageKind.RELEASE}])])
def test_its_payload_does_not_get_to_the_mirror(change):
    content = lacking(**change)
    pushed = {image.name for image in pushed_images(content, map_images(content, MIRROR))}
    assert FIRST.source not in pushed
    assert {SECOND.source, *map(SECOND.component, SECOND.components)} < pushed
    left_out = [problem.subject for problem in left_out_payloads(content)]
    assert left_out == ([] if change.get("kind") else ["OpenShift 4.18.45 (amd64)"])  # the export says it of a missing payload


def test_no_line_of_mapping_txt_copies_its_payload():
    lines = render_archive(lacking(), MIRROR, Release(4, 18), ResourceOptions())[0]["mapping.txt"].decode()
    assert SECOND.source in lines
    assert FIRST.source not in lines


def test_it_is_not_served():
    content = lacking()
    found = {image.digest: ManifestRecord("", 1) for image in content.images}
    served = served_repositories(replace(content, manifests=found), MIRROR)["hub/openshift/release-images"]
    assert {tag for tag in served.tags if not tag.endswith(".sig")} == {"4.18.46-x86_64"}
    assert FIRST.digest not in served.manifests
