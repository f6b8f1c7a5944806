"""The releases of a re-request: its images have the places on the mirror that those of the whole archive have."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from common.archive import rerequest
from common.archive.inventory import BlobRecord, ComponentRecord, ImageKind, ManifestRecord, ReleaseRecord
from common.mapping import Mirror, place_images
from common.oci.image import digest_of
from tests.fakes import inventories

RELEASE = "quay.test/openshift/release"
KINDS = {
    "oci:///mnt/own": ImageKind.CATALOG,  # a directory, of which no reference can be read
    "graph-data": ImageKind.GRAPH_DATA,
    f"{RELEASE}:sha256-1.sig": ImageKind.SIGNATURE,
    "quay.test/openshift/payload:sha256-2.sig": ImageKind.SIGNATURE,
    "quay.test/other/operator:v1": ImageKind.RELATED,
    **{f"{RELEASE}:4.18.{patch}-{name}": ImageKind.COMPONENT for patch in (2, 3) for name in ("cli", "etcd")},
    **{f"quay.test/openshift/payload:4.18.{patch}": ImageKind.RELEASE for patch in (2, 3)},
}
DIGESTS = {source: digest_of(source.encode()) for source in KINDS}


def released(patch):
    payload = f"quay.test/openshift/payload:4.18.{patch}"
    components = tuple(ComponentRecord(name, f"{RELEASE}:4.18.{patch}-{name}") for name in ("cli", "etcd"))
    return ReleaseRecord(f"4.18.{patch}", "amd64", payload, DIGESTS[payload], components=components)


def layer(source):
    return digest_of(f"layer of {source}".encode())


def inventory():
    images = [inventories.image(source, DIGESTS[source], kind) for source, kind in KINDS.items() if "oci:" not in source]
    own = inventories.catalog(source="oci:///mnt/own", digest=None, image=DIGESTS["oci:///mnt/own"])
    return replace(
        inventories.inventory(*images, catalogs=(own,)),
        manifests={DIGESTS[source]: ManifestRecord("", 1, blobs=(layer(source),)) for source in KINDS},
        blobs={layer(source): BlobRecord(1, "") for source in KINDS},
        releases=(released(2), released(3)),
    )


def places(images, catalogs, releases):
    found = place_images(catalogs, images, Mirror.parse("mirror.test"), releases)
    return {each.record.source: (each.repository, each.tags) for each in found}


@pytest.mark.parametrize("source", KINDS)
def test_an_image_has_its_place_by_the_releases_of_the_request(source):
    whole = inventory()
    made = rerequest.make(whole, digest_of(b""), [layer(source)])
    there = places(whole.images, whole.catalogs, whole.carried_releases)
    again = places(made.images, made.catalogs, made.carried_releases)
    assert source in again
    assert again.items() <= there.items()
    assert len(again) <= 3  # with a payload and a component, where these say the place


def test_no_release_is_there_that_says_no_place():
    made = rerequest.make(inventory(), digest_of(b""), [layer(f"{RELEASE}:4.18.3-etcd"), layer(f"{RELEASE}:sha256-1.sig")])
    assert [(each.version, [one.name for one in each.components]) for each in made.carried_releases] == [("4.18.3", ["etcd"])]
