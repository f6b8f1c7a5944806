from pathlib import Path

import pytest

from common.archive.inventory import ImageKind, ProblemCode
from common.errors import UsageError
from common.oci.image import Platform
from common.oci.reference import Reference
from common.progress import Silent
from common.registry.client import RegistryClient
from common.registry.settings import RegistrySettings
from exporter.images.resolve import WantedImage, merged, resolve
from tests.fakes.clock import FakeClock
from tests.fakes.factories import image, index
from tests.fakes.registry import FakeRegistry

AMD, ARM = Platform("linux", "amd64"), Platform("linux", "arm64")


def want(text="quay.io/x/y:v1", needed_by=(), **fields):
    return WantedImage(Reference.parse(text), ImageKind.RELATED, needed_by, **fields)


def test_an_image_wanted_twice_serves_all_that_want_it():
    (one,) = merged(
        [want(needed_by=("a/b/c",), platforms=(ARM,)), want(needed_by=("a/b/d",), platforms=(AMD,), target_tag="z")]
    )
    assert one.needed_by == ("a/b/c", "a/b/d")
    assert one.platforms == (AMD, ARM)
    assert one.target_tag == "z"


def test_who_wants_all_platforms_gets_all():
    (one,) = merged([want(platforms=(AMD,)), want()])
    assert one.platforms == ()


def test_one_source_cannot_go_to_two_places():
    with pytest.raises(UsageError, match="two places"):
        merged([want(target_repository="a"), want(target_repository="b")])


def test_images_are_sorted_and_a_digest_names_them_without_their_tag():
    hexes = "sha256:" + "a" * 64
    images = merged([want("quay.io/x/z:v1"), want(f"quay.io/x/a:v1@{hexes}"), want(f"quay.io/x/a:v2@{hexes}")])
    assert [image.source for image in images] == [f"quay.io/x/a@{hexes}", "quay.io/x/z:v1"]


def resolved(registry, reference, tmp_path: Path, *platforms):
    settings = RegistrySettings(insecure=frozenset({registry.host}), environ={"HOME": str(tmp_path)}, system_root=tmp_path)
    wanted = WantedImage(reference, ImageKind.ADDITIONAL, platforms=platforms)
    with RegistryClient(settings, clock=FakeClock().clock) as client:
        (one,) = resolve([wanted], client, jobs=1, progress=Silent())
    return one


def test_a_variant_that_nobody_else_spells_so_is_no_wrong_option(tmp_path):
    child = image([b"arm"], platform="linux/arm64/V8")
    with FakeRegistry() as registry:
        reference = registry.add_image("org/app", index([child, image([b"amd"])]), "v1")
        one = resolved(registry, reference, tmp_path, ARM)
        assert (one.problem, one.platforms, one.missing_platforms) == (None, ("linux/arm64/V8",), ("linux/amd64",))
        gone = resolved(registry, reference, tmp_path, Platform("linux", "s390x"))
        assert gone.problem.code is ProblemCode.PLATFORM_MISSING


S390X = image([b"s390x"], platform="linux/s390x")
PPC64LE = image([b"ppc64le"], platform="linux/ppc64le")
CHILDREN = [image([b"amd64"]), S390X, image([b"arm64"], platform="linux/arm64/v8"), PPC64LE]
SCHEMA_1 = b'{"schemaVersion": 1, "fsLayers": []}'


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (404, b"", ProblemCode.IMAGE_NOT_FOUND),
        (401, b"", ProblemCode.IMAGE_UNAUTHORIZED),
        (200, SCHEMA_1, ProblemCode.IMAGE_UNSUPPORTED),
    ],
)
def test_a_platform_that_is_gone_is_named_with_the_options_for_the_others(tmp_path, status, body, code):
    """Registries may hold an index without all of its manifests (distribution/distribution#3536, openshift/oc-mirror#733)."""
    with FakeRegistry() as registry:
        reference = registry.add_image("org/app", index(CHILDREN), "v1")
        registry.fault("GET", S390X.digest, times=100, status=status, body=body)
        registry.fault("GET", PPC64LE.digest, times=100, status=404)
        problem = resolved(registry, reference, tmp_path).problem
        assert problem.code is code
        assert "the manifest for linux/s390x cannot be fetched" in problem.message
        assert ("log in with" in problem.message) is (status == 401)
        assert "--platform linux/amd64 --platform linux/arm64/v8 carries the others." in problem.message
        chosen = [Platform.parse("linux/amd64"), Platform.parse("linux/arm64")]
        assert resolved(registry, reference, tmp_path, *chosen).problem is None
        only = resolved(registry, reference, tmp_path, Platform.parse("linux/s390x")).problem
        assert only.code is code
        assert "--platform" not in only.message
