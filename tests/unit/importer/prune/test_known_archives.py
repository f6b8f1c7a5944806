"""What records say about catalogs, releases and attachments, and what prune keeps of them (ADR 0081)."""

from __future__ import annotations

import base64
import urllib.parse

import pytest

from common.archive.inventory import CatalogRecord, ImageKind, ImageRecord, ManifestRecord
from common.mapping import Mirror
from common.oci.compression import gzip
from common.oci.image import Digest, digest_of
from importer.prune.known import Known
from importer.prune.usage import images_in
from importer.prune.wanted import Policy, RepositoryState, Used, decide
from importer.records.document import Record, head_of
from tests.fakes import carried_releases
from tests.fakes.carried_releases import Carried

MIRROR = Mirror.parse("registry.example/ocp")
INDEX = "registry.redhat.io/redhat/redhat-operator-index"


def record(inventory, day):
    """Return the record of an archive of a day, with manifests of all of its images."""
    images = tuple(with_needed(each) for each in inventory.images)
    fields = {name: getattr(inventory, name) for name in inventory.__struct_fields__}
    manifests = {each.digest: ManifestRecord(each.media_type or "", 1) for each in images}
    created = f"2026-01-{day:02}T12:00:00Z"
    made = type(inventory)(**{**fields, "images": images, "manifests": manifests, "created": created})
    digest = digest_of(f"archive of day {day}".encode())
    return Record(head_of(digest, MIRROR, ""), made, b"")


def with_needed(each):
    release = each.kind in (ImageKind.RELEASE, ImageKind.COMPONENT)
    fields = {name: getattr(each, name) for name in each.__struct_fields__}
    return ImageRecord(**{**fields, "needed_by": ("OpenShift/4.18.1-x86_64",)}) if release else each


def image(source, kind=ImageKind.RELATED, needed_by=(), tag=""):
    named = {"tag": tag} if tag else {}
    return ImageRecord(source, digest_of(source.encode()), "", kind, (), complete=True, needed_by=needed_by, size=1, **named)


def week(number, version="v4.18"):
    """Return an archive with a catalog under a tag that moves each week, and an operator of it."""
    catalog_image = digest_of(f"catalog {number}".encode())
    source = f"{INDEX}:{version}"
    catalog = CatalogRecord(source, catalog_image, catalog_image, "redhat", "file-based", filtered=True, packages=())
    listed = ImageRecord(source, catalog_image, "", ImageKind.CATALOG, (), complete=True, needed_by=(), size=1, tag=version)
    bundle = image(
        f"registry.redhat.io/op/bundle@{digest_of(f'bundle {number}'.encode())}", needed_by=(f"redhat/op/op.v{number}",)
    )
    return record(_with_catalog(carried_releases.inventory(graph=False, images=(listed, bundle)), catalog), number)


def _with_catalog(inventory, catalog):
    fields = {name: getattr(inventory, name) for name in inventory.__struct_fields__}
    return type(inventory)(**{**fields, "catalogs": (catalog,)})


def known_of(*records):
    found = Known("registry.example")
    for each in records:
        found.add(each, MIRROR)
    return found


def state_of(known):
    """Return a mirror that got the archives one after the other."""
    tags: dict[str, dict[str, Digest]] = {}
    for each in known.images():
        tags.setdefault(each.repository, {}).update(dict.fromkeys(each.tags, each.digest))
    return {name: RepositoryState(found) for name, found in tags.items()}


def deleted(known, used=None, keep_last=1, named=()):
    decision = decide(known, Policy(keep_last, frozenset(named)), used or Used(), state_of(known))
    return {digest for found in decision.deleted.values() for digest in found}


def test_catalogs_of_two_releases_are_two_groups():
    known = known_of(week(1), week(2), week(3, "v4.20"))
    gone = deleted(known)
    assert gone == {each.digest for each in known.archives[0].images}
    assert deleted(known, keep_last=2) == set()


def test_an_archive_that_repairs_another_does_not_push_it_out():
    """A re-request brings a few images again, with the catalog of the archive that it repairs, and is newer."""
    whole = week(8)
    fields = {name: getattr(whole.inventory, name) for name in whole.inventory.__struct_fields__}
    repair = record(type(whole.inventory)(**{**fields, "images": whole.inventory.images[1:]}), 9)
    known = known_of(week(1), whole, repair)
    assert deleted(known) == {each.digest for each in known.archives[0].images}
    assert deleted(known, keep_last=2) == set()


def test_a_catalog_that_is_served_keeps_what_it_offers():
    known = known_of(week(1), week(2), week(3))
    served = known.archives[0].catalogs[0][0]
    pod = Used({served: "Pod openshift-marketplace/redhat"})
    assert deleted(known, pod) == {each.digest for each in known.archives[1].images}
    # By its tag, which leads to the newest catalog by now.
    source = Used({}, {"registry.example/ocp/redhat/redhat-operator-index:v4.18": "CatalogSource"})
    assert deleted(known, source) == {each.digest for one in known.archives[:2] for each in one.images}


def test_a_release_stays_as_a_whole_with_its_signatures():
    old, new = Carried("4.18.1"), Carried("4.18.2")
    known = known_of(record(carried_releases.inventory(old), 1), record(carried_releases.inventory(new), 8))
    of_old = {each.digest for each in old.images()}
    assert deleted(known) == of_old
    history = Used({old.digest: "ClusterVersion version"})
    assert deleted(known, history) == set(), "payload, components, and what is attached to them"
    component = Digest(old.component("cli").partition("@")[2])
    running = deleted(known, Used({component: "Pod openshift-cli/x"}))
    signature = digest_of(f"{component.replace(':', '-')}.sig".encode())
    assert running == of_old - {component, signature}, "a component alone keeps itself"


@pytest.mark.parametrize(
    ("body", "digests", "names"),
    [
        ({"spec": {"containers": [{"image": f"quay.io/a/b@{digest_of(b'1')}"}]}}, {digest_of(b"1")}, set()),
        ({"spec": {"containers": [{"image": "nginx:1.25"}]}}, set(), {"nginx:1.25"}),
        ({"status": {"containerStatuses": [{"imageID": f"docker-pullable://a@{digest_of(b'2')}"}]}}, {digest_of(b"2")}, set()),
        ({"spec": {"env": [{"name": "RELATED_IMAGE_X", "value": "reg.example:5000/a/b:v1"}]}}, set(), {"reg.example:5000/a/b:v1"}),
        ({"metadata": {"annotations": {"alm-examples": '[{"spec": {"image": "quay.io/x/y:2"}}]'}}}, set(), {"quay.io/x/y:2"}),
        ({"metadata": {"managedFields": [{"x": f"a@{digest_of(b'3')}"}]}, "spec": {"icon": "quay.io/x/y:2"}}, set(), set()),
        ({"status": {"history": [{"image": f"quay.io/ocp@{digest_of(b'4')}", "version": "4.18.1"}]}}, {digest_of(b"4")}, set()),
        # openshift/machine-config-operator, templates/common/_base/files/container-registries and crio: encoded, or packed
        ({"source": "data:," + urllib.parse.quote(f'pause_image = "quay.io/ocp@{digest_of(b"5")}"', safe="")}, {digest_of(b"5")}, set()),
        ({"source": "data:;base64," + base64.b64encode(gzip(f"x quay.io/a/b:v1 y@{digest_of(b'6')}".encode())).decode()}, {digest_of(b"6")}, {"quay.io/a/b:v1"}),
        ({"source": "data:;base64,%%%"}, set(), set()),
        ({"spec": {"url": "https://example.com/path:8080/x", "text": "no image: at all", "time": "2026-01-01T12:00:00Z"}}, set(), set()),
    ],
)  # fmt: skip
def test_every_text_of_an_object_counts(body, digests, names):
    found = list(images_in(body))
    assert {digest for digest, _ in found if digest} == digests
    assert {name for _, name in found if name} == names


def test_a_long_text_without_images_is_searched_in_time_in_proportion_to_it():
    assert list(images_in({"spec": {"data": "a/b-c.d" * 200_000}})) == []
