"""`diff` of archives whose catalogs have other names, because another catalog is next to them (ADR 0051)."""

import pytest

from common.archive.inventory import BundleRecord, ChannelRecord, PackageRecord
from exporter.plan.diff import between
from tests.fakes.inventories import A, B, C, catalog, inventory


def index(name, tag, head="1", image=A):
    package = PackageRecord("foo", "stable", (ChannelRecord("stable", f"foo.v{head}", (BundleRecord(f"foo.v{head}", head),)),))
    return catalog(name, f"registry.example/redhat/my-index:{tag}", image=image, packages=(package,))


OLD = (index("my-index", "v4.17", image=B), index("my-index-2", "v4.18", image=C))


@pytest.mark.parametrize(
    ("before", "after", "changes"),
    [
        ((index("my-index", "v4.18"),), (index("my-index-v4-18", "v4.18"), index("my-index-v4-19", "v4.19", image=B)), "a19"),
        ((index("my-index", "v4.17"),), (index("my-index", "v4.18"),), ""),
        ((index("my-index-v4-17", "v4.17"), index("my-index-v4-18", "v4.18")), (index("my-index", "v4.18"),), "r17"),
        # Archives of older versions named the second one by its place.
        (OLD, (index("my-index-v4-17", "v4.17", image=B), index("my-index-v4-18", "v4.18", image=C)), ""),
        (OLD, (index("my-index", "v4.18", image=C),), "r:v4.17"),
        ((index("my-index", "v4.17"),), (index("my-index", "v4.18", head="2"),), "c"),
    ],
)
def test_a_catalog_is_compared_with_itself(before, after, changes):
    found = between(inventory(catalogs=before), inventory(catalogs=after))["packages"]
    named = {
        "": ({}, {}),
        "a19": ({"added": ["my-index-v4-19"]}, {}),
        "r17": ({"removed": ["my-index-v4-17"]}, {}),
        "r:v4.17": ({"removed": ["redhat/my-index:v4.17"]}, {}),
        "c": ({}, {"my-index"}),
    }[changes]
    assert {kind: [each["catalog"] for each in found[kind]] for kind in ("added", "removed") if found[kind]} == named[0]
    assert {each["catalog"] for each in found["changed"]} == set(named[1])
