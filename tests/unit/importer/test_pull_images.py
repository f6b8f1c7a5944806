"""Which image a pull test pulls: the smallest of an architecture that nodes pull by digest from its source."""

from __future__ import annotations

from types import SimpleNamespace

from common.archive.inventory import ImageKind, ImageRecord
from importer.cluster.record import PullImage
from importer.pulls.images import for_architecture, smallest

A, B = (f"sha256:{letter * 64}" for letter in "ab")


def image(name, size, platforms=("linux/amd64",), kind=ImageKind.RELATED, *, digest=A, complete=True, tag=""):
    source = f"quay.io/x/{name}" + (f":{tag}" if tag else f"@{A}")
    return ImageRecord(source, digest, "m", kind, platforms, complete, (), size)


def chosen(*images):
    inventory = SimpleNamespace(images=images, carried_releases=(), problems=(), blobs={}, manifests={})
    return {each.architecture: each.image.partition("@")[0].rpartition("/")[2] for each in smallest(inventory)}


def test_the_smallest_of_each_architecture_is_chosen():
    both = image("both", 30, ("linux/amd64", "linux/arm64/v8"))
    assert chosen(image("large", 90), both, image("small", 10), image("plain", 5, ())) == {
        "": "plain",
        "amd64": "small",
        "arm64": "both",
    }


def test_images_that_no_rule_leads_to_or_that_lack_content_are_left_out():
    left_out = [
        image("catalog", 1, kind=ImageKind.CATALOG),
        image("graph", 1, kind=ImageKind.GRAPH_DATA),
        image("signature", 1, kind=ImageKind.SIGNATURE),
        image("incomplete", 1, complete=False),
        image("unresolved", 1, digest=None),
        image("other-content", 1, digest=B),
        image("by-tag", 1, tag="latest"),
        image("windows", 1, ("windows/amd64",)),
    ]
    assert chosen(*left_out, image("good", 50)) == {"amd64": "good"}


def test_one_that_states_the_architecture_comes_before_one_that_states_none():
    images = (PullImage("", "plain", 1), PullImage("amd64", "small", 9))
    assert for_architecture(images, "amd64").image == "small"
    assert for_architecture(images, "arm64").image == "plain"
    assert for_architecture(images[1:], "arm64") is None
