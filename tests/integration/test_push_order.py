"""The order of a push: an image is tagged as soon as all of it is there, and never before."""

from __future__ import annotations

import pytest

from common.oci.image import digest_of
from tests.fakes.commands import run
from tests.fakes.factories import image
from tests.fakes.registry import FakeRegistry

pytestmark = pytest.mark.integration
IMAGES = [image([b"base", b"own layer %d" % number * 5000]) for number in range(30)]


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    folder = tmp_path_factory.mktemp("order")
    with FakeRegistry() as source:
        names = []
        for number, each in enumerate(IMAGES):
            source.add_image(f"org/app{number}", each, tag="v1")
            names += ["--image", f"{source.host}/org/app{number}:v1"]
        done = run("hub-export", "create", *names, "--insecure", source.host, "--output", folder / "out")
        assert done.status == 0, done.stderr
    return folder / "out"


def push(archive, mirror):
    return run(
        *("hub-import", "push", archive, "--registry", mirror.host, "--insecure", mirror.host, "--format", "json"),
        *("--jobs", "2"),
    )


def test_images_are_tagged_while_other_blobs_are_uploaded(archive):
    with FakeRegistry() as mirror:
        assert push(archive, mirror).status == 0
        order = [(r.method, "manifests" if "/manifests/" in r.path else "blobs") for r in mirror.requests if r.method == "PUT"]
    first_tag = order.index(("PUT", "manifests"))
    last_blob = len(order) - 1 - order[::-1].index(("PUT", "blobs"))
    assert first_tag < last_blob


def test_no_tag_comes_before_the_last_blob_of_its_image(archive):
    with FakeRegistry() as mirror:
        assert push(archive, mirror).status == 0
        held: set[tuple[str, str]] = set()
        for request in mirror.requests:
            _, _, rest = request.path.partition("/v2/")
            repository = rest.partition("/blobs/")[0].partition("/manifests/")[0]
            if request.method == "PUT" and "/blobs/" in request.path:
                held.add((repository, request.query["digest"]))
            if request.method == "POST" and "mount" in request.query:
                held.add((repository, request.query["mount"]))
            if request.method == "PUT" and "/manifests/" in request.path and repository != "hub-airgap-archives":
                parts = IMAGES[int(repository.removeprefix("org/app"))]
                assert digest_of(request.body) == parts.digest
                assert {(repository, digest) for digest in parts.blobs} <= held


def test_a_failed_blob_fails_its_own_image_alone(archive):
    with FakeRegistry() as mirror:
        mirror.fault("POST", "/org/app7/blobs/uploads/", status=403, times=99)
        pushed = push(archive, mirror)
        assert pushed.status == 5
        tagged = {name for name, repository in mirror.repositories.items() if "v1" in repository.tags}
    assert tagged == {f"org/app{number}" for number in range(30)} - {"org/app7"}
