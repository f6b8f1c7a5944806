"""The plan for a re-request takes CPU in proportion to the file, which a person brings from elsewhere."""

from __future__ import annotations

import hashlib
import json
from functools import partial
from types import SimpleNamespace

import pytest

from common.archive.inventory import CatalogRecord, ImageKind, ImageRecord
from common.archive.rerequest import MEDIA_TYPE, ReRequest
from common.content import DirectoryStore
from common.errors import NotFoundError
from common.oci import media_types
from common.oci.image import parse
from common.progress import Silent
from common.registry.settings import RegistrySettings
from exporter.context import ExportContext
from exporter.imageset.model import ImageSet
from exporter.plan import rerequest_plan
from exporter.settings import ExportSettings, ReleaseSettings
from tests.spent import spent

LAYERS = 4


def digest(text):
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def descriptor(name, kind):
    return {"mediaType": kind, "size": 10, "digest": digest(name)}


def manifest(number):
    layers = [descriptor(f"{number}/{layer}", media_types.OCI_LAYER_GZIP) for layer in range(LAYERS)]
    config = descriptor(f"{number}/config", media_types.OCI_CONFIG)
    return json.dumps({"schemaVersion": 2, "mediaType": media_types.OCI_MANIFEST, "config": config, "layers": layers})


class Source:
    """A registry client with manifests in memory."""

    def __init__(self):
        self.manifests, self.asked = {}, []

    def document(self, reference):
        self.asked.append(str(reference))
        if reference.digest not in self.manifests:
            raise NotFoundError(f"{reference}: not there")
        return parse(self.manifests[reference.digest], media_types.OCI_MANIFEST)


def record(source, found, kind=ImageKind.ADDITIONAL):
    return ImageRecord(source, found, media_types.OCI_MANIFEST, kind, (), complete=True, needed_by=(), size=50)


def images(count):
    source, records, blobs = Source(), [], []
    for number in range(count):
        raw = manifest(number)
        source.manifests[digest(raw)] = raw.encode()
        records.append(record(f"r.example/o/a{number}@{digest(raw)}", digest(raw)))
        blobs += [digest(f"{number}/{name}") for name in ("config", *range(LAYERS))]
    return source, ReRequest(MEDIA_TYPE, digest("archive"), {}, (), tuple(records), tuple(sorted(blobs)))


def catalog(source, built):
    return CatalogRecord(source, digest("pulled"), built, "name", "file-based", filtered=True, packages=())


def catalogs(count):
    """Filtered catalogs, which the first export built; the image set of the re-request names all of them."""
    operators = [{"catalog": f"r.example/c/n{number}:v1"} for number in range(count)]
    found = tuple(catalog(f"r.example/c/n{number}:v1", digest(f"built {number}")) for number in range(count))
    records = tuple(record(each.source, each.image, ImageKind.CATALOG) for each in found)
    image_set = {
        "kind": "ImageSetConfiguration",
        "apiVersion": "mirror.openshift.io/v2alpha1",
        "mirror": {"operators": operators},
    }
    return Source(), ReRequest(MEDIA_TYPE, digest("archive"), image_set, found, records, (digest("x"),))


@pytest.mark.parametrize(("kind", "sizes"), [(catalogs, (30, 120)), pytest.param(images, (800, 3200), marks=pytest.mark.more)])
def test_four_times_the_images_take_about_four_times_the_cpu(tmp_path, kind, sizes):
    """20,000 images had not ended after 240 s: each blob was looked up in the list of the file, and the image set read for
    each catalog."""

    def planned(made):
        source, wanted = made
        settings = ExportSettings(ImageSet(), RegistrySettings(), "2026-01-01T00:00:00Z")
        return rerequest_plan.make(wanted, settings, ExportContext(source, DirectoryStore(tmp_path), Silent()))

    # The better of two: on a busy machine the same work takes up to twice the CPU.
    few, many = (min((spent(partial(planned, kind(size))) for _ in range(2)), key=lambda one: one.cpu) for size in sizes)
    assert (few.error, many.error) == ("", "")
    assert many.cpu < 8 * few.cpu + 0.1, (few.cpu, many.cpu)


def test_the_plan_has_the_requested_blobs_alone(tmp_path):
    source, wanted = images(3)
    wanted = ReRequest(MEDIA_TYPE, wanted.inventory, {}, (), wanted.images, wanted.blobs[:2])
    settings = SimpleNamespace(jobs=1, releases=ReleaseSettings())
    plan = rerequest_plan.make(wanted, settings, ExportContext(source, DirectoryStore(tmp_path), Silent())).plan
    assert {blob.descriptor.digest for blob in plan.blobs} == set(wanted.blobs)
    assert len(plan.elsewhere) == 3 * (LAYERS + 1) - 2
    assert all(image.complete for image in plan.images)


@pytest.mark.parametrize("platform", ["linux/arm64/V8", "linux", ""])
def test_a_platform_that_is_written_otherwise_is_asked_for_as_the_inventory_has_it(platform):
    image = ImageRecord(
        "r.example/c/n1:v1",
        digest("x"),
        None,
        ImageKind.RELATED,
        (platform,),
        complete=True,
        needed_by=(),
        size=1,
        missing_platforms=("linux/amd64",),
    )
    assert list(map(str, rerequest_plan._wanted(image).platforms)) == [platform]


@pytest.mark.parametrize("source", ["r.example/c/n1:v1", f"r.example/c/n1@{digest('pulled')}", "r.example/c/n1"])
def test_a_catalog_is_found_by_the_names_of_the_inventory(tmp_path, source):
    """By its tag, or by the digest of the first export; a directory among the requests is no reference, and no error."""
    client, wanted = catalogs(2)
    wanted.image_set["mirror"]["operators"].insert(0, {"catalog": str(tmp_path / "Some Catalog")})
    one = catalog(source, digest("built 1"))
    wanted = ReRequest(
        MEDIA_TYPE, wanted.inventory, wanted.image_set, (one,), (record(source, one.image, ImageKind.CATALOG),), wanted.blobs
    )
    settings = ExportSettings(ImageSet(), RegistrySettings(), "2026-01-01T00:00:00Z")
    plan = rerequest_plan.make(wanted, settings, ExportContext(client, DirectoryStore(tmp_path), Silent())).plan
    assert len(plan.problems) == 1
    assert client.asked == ([] if source == "r.example/c/n1" else [f"r.example/c/n1@{digest('pulled')}"])
    assert ("does not name" in plan.problems[0].message) is (client.asked == [])
