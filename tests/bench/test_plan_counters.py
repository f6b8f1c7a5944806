"""What a plan costs for each image, by counting: memory, calls of functions, requests at a time."""

from __future__ import annotations

import cProfile
import gc
import io
import pstats
import re
import threading
import tracemalloc

import msgspec
import pytest

from common.archive.inventory import ImageKind
from common.oci import media_types
from common.oci.image import digest_of, parse
from common.oci.reference import Reference
from common.progress import Silent
from common.registry.client import RegistryClient
from common.registry.settings import RegistrySettings
from exporter import workflow
from exporter.images import signatures
from exporter.images.resolve import WantedImage, resolve
from exporter.imageset.model import ImageSet, OperatorRequest
from exporter.plan.plan import make_plan
from exporter.settings import ExportSettings
from tests.fakes import sources
from tests.fakes.catalogs import bundle_blob, channel_blob, entry, package_blob, stream
from tests.fakes.factories import image
from tests.fakes.registry import FakeRegistry

pytestmark = pytest.mark.integration
KIB = 1024
CALLS = 1400
JOBS = 6
BUNDLES = 40
METADATA = 100_000  # bytes of each


def document(number: int) -> bytes:
    """Return the manifest of an image: every second one is a bundle of one layer, the others share two of their six."""
    layers = [f"shared {number % 50} {each}" if each < 2 else f"{number} {each}" for each in range(6 if number % 2 else 1)]
    described = [
        {"mediaType": media_types.OCI_LAYER_GZIP, "digest": digest_of(each.encode()), "size": 1000 + number} for each in layers
    ]
    config = {"mediaType": media_types.OCI_CONFIG, "digest": digest_of(b"config %d" % number), "size": 7000}
    return msgspec.json.encode(
        {"schemaVersion": 2, "mediaType": media_types.OCI_MANIFEST, "config": config, "layers": described}
    )


class Source:
    """A registry in memory, without signatures: what a plan holds is that of the plan alone."""

    def document(self, reference):
        return parse(document(int(reference.repository.rpartition("-")[2])))

    def read_tags(self, repository, subjects, sampled):
        pass

    def lacks_tag(self, _tagged):
        return True

    def is_in_doubt(self, _subject):
        return False

    def referrers(self, _subject):
        return ()


def memory(count: int) -> int:
    """Return the most memory that a plan for so many images takes, from their references to the records of the inventory."""
    gc.collect()
    tracemalloc.start()
    wanted = [
        WantedImage(
            Reference("quay.io", f"org/app-{number}").pinned(digest_of(document(number))),
            ImageKind.RELATED,
            (f"catalog/package-{number // 20}/bundle.v1.0.{number // 3}",),
        )
        for number in range(count)
    ]
    images = resolve(wanted, Source(), jobs=2, progress=Silent())
    attached, problems = signatures.find(images, Source(), jobs=2, progress=Silent())
    plan = make_plan([], [*images, *attached], {}, problems)
    records = plan.manifests, plan.blob_records()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(records[0]) == count
    return most


def test_a_further_image_takes_less_than_8_kib_of_a_plan():
    memory(50)  # what is made once
    assert (memory(300) - memory(100)) / 200 <= 8 * KIB


class Watching(Silent):
    """Notes the memory that is held at the beginning of each step."""

    def __init__(self):
        self.held = {}

    def begin(self, what, *_args, **_options):
        gc.collect()
        self.held[" ".join(re.findall(r"[a-z]+(?= |$)", what)[:2])] = tracemalloc.get_traced_memory()[0]


def test_a_catalog_is_gone_when_images_are_looked_up():
    """A bundle of the largest real catalog has 20 KiB of metadata, more than all that a plan holds of its images."""
    with FakeRegistry() as registry:
        texts = [bundle_blob(f"foo.v1.0.{number}", image=f"{registry.host}/org/gone:v{number}") for number in range(BUNDLES)]
        for text in texts:
            text["properties"][-1]["value"]["description"] = "x" * METADATA
        entries = [entry(f"foo.v1.0.{number}", f"foo.v1.0.{number - 1}" if number else "") for number in range(BUNDLES)]
        files = {"catalog.json": stream(package_blob(), channel_blob("stable", entries), *texts)}
        name = registry.add_image("org/catalog", sources.catalog_image(files), tag="v1")
        access = RegistrySettings(insecure=frozenset({registry.host}))
        settings = ExportSettings(ImageSet((OperatorRequest(str(name), full=True),)), access, "2026-11-30T00:00:00Z")
        watching = Watching()
        tracemalloc.start()
        try:
            planned = workflow.plan(settings, watching)
        finally:
            tracemalloc.stop()
    assert len(planned.plan.images) == 1 + BUNDLES
    begun = watching.held.pop("reading catalog")
    assert len([step for step in watching.held if step.startswith("looking")]) >= 3
    assert max(watching.held.values()) - begun <= BUNDLES * METADATA / 8


def test_a_manifest_costs_a_bounded_number_of_calls():
    """CPU without a clock: 90 % of the time of a request for a manifest is that of Python's calls."""
    apps = [image([f"app {number}".encode()]) for number in range(20)]
    with FakeRegistry() as registry, RegistryClient(RegistrySettings(insecure=frozenset({registry.host}))) as client:
        names = [registry.add_image("org/app", app) for app in apps]
        client.document(names[0])
        counted = cProfile.Profile()
        counted.runcall(lambda: [client.document(name) for name in names])
    calls = pstats.Stats(counted, stream=io.StringIO()).total_calls / len(names)
    assert calls <= CALLS


def test_a_plan_has_as_many_requests_at_a_time_as_jobs(tmp_path):
    """No answer comes before `JOBS` requests of its kind wait for one: a step that asks one after the other would not end.

    So tokens (one for each repository) and tag lists take one round trip, manifests and lists of referrers one for `JOBS` images.
    """
    apps = [image([f"app {number}".encode()]) for number in range(4)]
    with FakeRegistry(auth="token", anonymous=True) as registry:
        names = [registry.add_image(f"org/app-{number}", app) for number in range(JOBS) for app in apps]
        client = RegistryClient(RegistrySettings(insecure=frozenset({registry.host}), jobs=JOBS))
        client.ping(registry.host)  # learns of the token server
        together = {
            part: threading.Barrier(JOBS, timeout=60) for part in ("/token", "/manifests/sha256:", "/tags/", "/referrers/")
        }
        for part, barrier in together.items():
            registry.fault("GET", part, times=10**6, action=barrier.wait)
        with client:
            wanted = [WantedImage(name, ImageKind.RELATED) for name in names]
            images = resolve(wanted, client, jobs=JOBS, progress=Silent())
            assert [each.wanted for each in images] == wanted
            assert not any(each.problem for each in images)
            assert signatures.find(images, client, jobs=JOBS, progress=Silent()) == ([], [])
        asked = {part: len(registry.log("GET", part)) for part in together}
    assert asked == {"/token": 1 + JOBS, "/manifests/sha256:": 4 * JOBS, "/tags/": JOBS, "/referrers/": 4 * JOBS}
