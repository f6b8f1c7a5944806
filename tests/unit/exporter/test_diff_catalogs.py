"""`diff` of archives whose catalogs have other names, because another catalog is next to them (ADR 0051)."""

import pytest

from common.archive.inventory import BundleRecord, ChannelRecord, PackageRecord
from exporter.plan.diff import between, compared, table
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
    old, new = inventory(catalogs=before), inventory(catalogs=after)
    assert between(compared(old), new) == between(old, new)
    found = between(old, new)["packages"]
    named = {
        "": ({}, {}),
        "a19": ({"added": ["my-index-v4-19"]}, {}),
        "r17": ({"removed": ["my-index-v4-17"]}, {}),
        "r:v4.17": ({"removed": ["redhat/my-index:v4.17"]}, {}),
        "c": ({}, {"my-index"}),
    }[changes]
    assert {kind: [each["catalog"] for each in found[kind]] for kind in ("added", "removed") if found[kind]} == named[0]
    assert {each["catalog"] for each in found["changed"]} == set(named[1])


def test_an_archive_without_the_update_graph_differs_in_nothing_but_versions():
    """Archives of older versions lack edges and statements of heads, which is no change of a package."""
    entries = (BundleRecord("foo.v2", "2", "foo.v1", ("foo.v1-bad",), "<2.0.0"), BundleRecord("foo.v1", "1"))
    stable = ChannelRecord("stable", "foo.v2", entries, install_modes=("OwnNamespace",), disconnected=True)
    plain = ChannelRecord("stable", "foo.v2", tuple(BundleRecord(one.name, one.version) for one in entries))
    new = catalog(packages=(PackageRecord("foo", "stable", (stable,)),), update_graph=True)
    old = catalog(packages=(PackageRecord("foo", "stable", (plain,)),))
    assert between(inventory(catalogs=(old,)), inventory(catalogs=(new,)))["packages"]["changed"] == []
    other = catalog(packages=(PackageRecord("foo", "stable", (plain,)),), update_graph=True)
    changed = between(inventory(catalogs=(other,)), inventory(catalogs=(new,)))
    assert [each["package"] for each in changed["packages"]["changed"]] == ["foo"]
    assert any("what updates them" in line for line in table(changed))
