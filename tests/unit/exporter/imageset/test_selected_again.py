"""The image set of an inventory after `--installed`: as a file it selects the same again."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from exporter.imageset import file
from exporter.imageset.model import ChannelRequest, ImageSet, PackageRequest, from_flags, with_requests

DOCUMENT = {
    "apiVersion": "mirror.openshift.io/v1alpha2",
    "kind": "ImageSetConfiguration",
    "archiveSize": 4,
    "mirror": {
        "operators": [
            {"catalog": "quay.io/a/index:v1", "packages": [{"name": "foo", "channels": [{"name": "stable", "minBundle": "foo.v2"}]}]},
            {"catalog": "quay.io/b/index:v1", "targetTag": "x", "packages": [{"name": "bar"}]},
        ],
        "additionalImages": [{"name": "quay.io/a/image:1"}],
    },
}  # fmt: skip


def read(document) -> ImageSet:
    return file.of_document(document, "x")


def test_packages_are_replaced_and_nothing_else():
    before = read(DOCUMENT)
    channels = (ChannelRequest("stable", min_bundle="foo.v2"), ChannelRequest("fast", "1.0.0", "2.0.0"))
    longer = PackageRequest("foo", "stable", channels=channels, optional=False)
    more = PackageRequest("baz", min_version="1.2.3")
    requests = [replace(before.operators[0], packages=(longer, more)), before.operators[1]]
    made = with_requests(before, requests)
    assert made["mirror"]["operators"][1] == DOCUMENT["mirror"]["operators"][1]
    assert set(made["mirror"]["operators"][0]) == {"catalog", "packages"}
    assert {**made, "mirror": None} == {**DOCUMENT, "mirror": None}
    again = read(msgspec.json.decode(msgspec.json.encode(made)))
    assert again.operators == tuple(requests)
    assert again.additional_images == before.additional_images


def test_a_catalog_of_which_nothing_is_installed_is_left_out():
    flags = from_flags(catalogs=["quay.io/a/index:v1", "quay.io/b/index:v1"], installed=True)
    assert all(one.installed_only for one in flags.operators)
    chosen = replace(flags.operators[1], packages=(PackageRequest("foo"),), installed_only=False)
    made = with_requests(flags, [chosen])
    assert made["mirror"]["operators"] == [{"catalog": "quay.io/b/index:v1", "packages": [{"name": "foo"}]}]
    assert read(made).operators == (chosen,)


def test_what_is_asked_for_and_absent_stays():
    """An optional package that the catalog lacks: nothing of it is carried, and it was asked for."""
    before = read(DOCUMENT)
    assert with_requests(before, []) == DOCUMENT
