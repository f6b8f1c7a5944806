import pytest

from common.archive.inventory import ImageKind
from common.errors import UsageError
from common.oci.image import Platform
from common.oci.reference import Reference
from exporter.images.resolve import WantedImage, merged

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
