"""The path to the head of a channel: cases by hand, and agreement with a model of OLM (tests/fakes/olm_steps.py)."""

from __future__ import annotations

import json
import lzma

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.archive.inventory import BundleRecord, ChannelRecord, PackageRecord
from common.olm import update_path
from common.olm.update_path import NO_VERSION, CarriedPaths, Channel, Obstacle, UpdatePath, follow
from exporter.catalog.readers import sqlite
from tests.fakes import databases, inventories, olm_steps
from tests.fakes.catalogs import CATALOGS, entry, real
from tests.samples import more


def path(entries, name, version="", versions=None):
    """Return the path in one channel; a version is what the name says."""
    listed = {one.name: one.name for one in entries} | (versions or {})
    return follow([Channel(entries, listed)], name, version or name)


CHAIN = [entry("3.0.0", "2.0.0"), entry("2.0.0", "1.0.0"), entry("1.0.0")]
# In each: entries, the installed one, the path from it.
CASES = {
    "one after the other": (CHAIN, "1.0.0", UpdatePath(("2.0.0", "3.0.0"))),
    "from the head": (CHAIN, "3.0.0", UpdatePath()),
    "nothing installed": (CHAIN, "", UpdatePath(("3.0.0",))),
    "not in the channel": (CHAIN, "1.5.0", UpdatePath((), Obstacle.PATH)),
    "ahead of the head": (CHAIN, "3.0.1", UpdatePath((), Obstacle.AHEAD)),
    "skipped": ([entry("3.0.0", "2.0.0", ("2.1.0",)), entry("2.1.0", "2.0.0"), entry("2.0.0")], "2.1.0", UpdatePath(("3.0.0",))),
    "the nearest to the head": ([entry("3.0.0", "2.0.0", ("1.0.0",)), *CHAIN[1:]], "1.0.0", UpdatePath(("3.0.0",))),
    "by range": ([entry("3.0.0", "2.0.0", (), ">=1.0.0 <2.0.0"), *CHAIN[1:]], "1.0.0", UpdatePath(("3.0.0",))),
    "by range, no entry": ([entry("3.0.0", "2.0.0", (), "<2.0.0"), *CHAIN[1:]], "0.9.0", UpdatePath(("3.0.0",))),
    "the range of the head has the head": ([entry("3.0.0", "2.0.0", (), "<=3.0.0"), *CHAIN[1:]], "3.0.0", UpdatePath()),
    "an invalid range is none": ([entry("3.0.0", "2.0.0", (), "~1.0"), *CHAIN[1:]], "1.0.0", UpdatePath(("2.0.0", "3.0.0"))),
    # 1.0.0 is updated by 2.0.0 alone, which is never installed: 3.0.0 skips it (sortChannel leaves it out).
    "below a skipped one": ([entry("3.0.0", "2.0.0", ("2.0.0",)), *CHAIN[1:]], "1.0.0", UpdatePath((), Obstacle.PATH)),
    # The installed version has left the channel, and what replaces it is below a skipped entry.
    "to a dead end": (
        [entry("3.0.0", "2.0.0", ("2.0.0",)), entry("2.0.0", "1.0.0"), entry("1.0.0", "0.9.0")],
        "0.9.0",
        UpdatePath(("1.0.0",), Obstacle.PATH),
    ),
    # k8s-operatorhub/community-operators#119; clusterpulse and kubernaut-operator of the community catalog.
    "each skips the one before": ([entry("3.0.0", "", ("2.0.0",)), entry("2.0.0", "", ("1.0.0",)), entry("1.0.0")], "1.0.0", UpdatePath((), Obstacle.PATH)),
    "back and forth": ([entry("3.0.0", "2.0.0"), entry("2.0.0", "", (), "<4.0.0")], "3.0.0", UpdatePath(("2.0.0",), Obstacle.CYCLE)),
    "two heads": ([entry("3.0.0"), entry("2.0.0")], "2.0.0", UpdatePath((), Obstacle.GRAPH)),
    "a cycle below the head": ([entry("3.0.0", "2.0.0"), entry("2.0.0", "1.0.0"), entry("1.0.0", "2.0.0")], "1.0.0", UpdatePath((), Obstacle.GRAPH)),
    "no entries": ([], "1.0.0", UpdatePath((), Obstacle.GRAPH)),
}  # fmt: skip


@pytest.mark.parametrize(("entries", "installed", "expected"), CASES.values(), ids=CASES)
def test_the_path_from_an_installed_version(entries, installed, expected):
    found = path(entries, installed)
    assert found == expected
    assert found.at_head is (expected == UpdatePath())


def test_a_version_that_is_not_known_counts_for_no_range():
    entries = [entry("3.0.0", "2.0.0", (), "<3.0.0"), entry("2.0.0", "1.0.0")]
    channel = Channel(entries, {"3.0.0": "3.0.0", "2.0.0": "2.0.0"})
    assert follow([channel], "other", None).obstacle is Obstacle.PATH
    assert follow([channel], "1.0.0", None) == UpdatePath(("2.0.0", "3.0.0"))
    assert follow([channel], "other", NO_VERSION) == UpdatePath(("3.0.0",)), "OLM reads a CSV without a version as 0.0.0"


def test_an_entry_without_a_bundle_is_no_target():
    """In SQLite the end of an edge stays in the channel without its bundle; the catalog server does not list it."""
    entries = [entry("2.0.0", "1.0.0"), entry("1.0.0", "0.9.0")]
    channel = Channel(entries, {"2.0.0": "2.0.0", "1.0.0": None})
    assert channel.targets == ("2.0.0",)
    assert follow([channel], "0.9.0", "0.9.0").obstacle is Obstacle.PATH
    assert follow([channel], "1.0.0", "1.0.0") == UpdatePath(("2.0.0",))


VERSIONS = [f"{major}.{minor}.0" for major in (1, 2) for minor in range(3)]


@st.composite
def channels(draw):
    """A channel of which everything but the order of names is random; most have one head."""
    names = list(reversed(VERSIONS))
    found = []
    for place, name in enumerate(names):
        lower = st.sampled_from([*names[place + 1 :], "0.9.0", ""])
        replaces = draw(st.one_of(st.just(names[place + 1] if place + 1 < len(names) else ""), lower))
        skips = tuple(draw(st.lists(lower.filter(bool), max_size=2)))
        low, high = draw(st.sampled_from([*VERSIONS, ""])), draw(st.sampled_from(VERSIONS))
        skip_range = draw(st.sampled_from(["", f"<{high}", f">={low or high} <={high}", f"{high} || >{high}"]))
        found.append(entry(name, replaces, skips, skip_range))
    return draw(st.permutations(found))


@given(channels(), st.sampled_from([*VERSIONS, "0.9.0", "3.0.0", "1.1.5"]))
def test_it_agrees_with_olm(entries, installed):
    versions = {one.name: one.name for one in entries}
    try:
        ordered = olm_steps.sort_channel(entries)
    except olm_steps.ChannelError:
        assert path(entries, installed).obstacle is Obstacle.GRAPH
        return
    assert_agrees(path(entries, installed), ordered, versions | {installed: installed}, installed)


def assert_agrees(found, ordered, versions, installed):
    """Assert that a path has the steps of the model, and an obstacle where these end elsewhere than at the head."""
    expected = olm_steps.walk(ordered, versions, installed, versions.get(installed))
    circles = bool(expected) and expected[-1] in {installed, *expected[:-1]}
    assert found.steps == tuple(expected[:-1] if circles else expected), installed
    assert (found.obstacle is Obstacle.CYCLE) is circles
    last = expected[-1] if expected else installed
    assert (found.obstacle is None) is (not circles and last == ordered[0].name), installed


def _graphs(name):
    """Yield the versions of the bundles, and the entries of the channels, of each package of a real catalog."""
    if name == "update-graphs":
        for package in json.loads(lzma.decompress((CATALOGS / f"{name}.json.xz").read_bytes())).values():
            yield package["versions"], [[entry(*one) for one in entries] for entries in package["channels"].values()]
        return
    kind, _, database = name.partition("/")
    catalog = sqlite.catalog_of(sqlite.read(databases.real(database), "x")) if kind == "sqlite" else real(name)
    for package in catalog.packages.values():
        versions = {one.name: one.version_text for one in package.bundles.values()}
        yield versions, [each.entries for each in package.channels.values()]


FURTHER = [
    *("fbc/community-v4.20", "fbc/bundle-object-v4.16", "sqlite/community", "sqlite/schema-05", "sqlite/schema-10"),
    "update-graphs",
]


@pytest.mark.parametrize("name", ["fbc/redhat", *more(FURTHER)])
def test_it_agrees_with_olm_on_every_entry_of_a_real_catalog(name):
    """Which versions reach the head of which channel, and in how many steps."""
    compared = 0
    for versions, channels in _graphs(name):
        for entries in channels:
            channel = Channel(entries, versions)
            ordered = olm_steps.sort_channel([one for one in entries if versions.get(one.name) is not None])
            for one in entries:
                assert_agrees(follow([channel], one.name, versions.get(one.name)), ordered, versions, one.name)
                compared += 1
    assert compared


def _carried(*, graph=True, default="stable", release=None):
    stable = ChannelRecord("stable", "2.0.0", (BundleRecord("2.0.0", "2.0.0", "1.0.0"), BundleRecord("1.0.0", "1.0.0")))
    fast = ChannelRecord("fast", "3.0.0", (BundleRecord("3.0.0", "3.0.0", "2.0.0"),))
    package = PackageRecord("foo", default, (fast, stable))
    return CarriedPaths(inventories.catalog(packages=(package,), update_graph=graph), release)


def test_a_subscription_of_a_carried_catalog():
    carried = _carried()
    assert carried.find("foo", "stable", "1.0.0", "1.0.0") == UpdatePath(("2.0.0",))
    assert carried.find("bar", "stable", "1.0.0", "1.0.0").obstacle is Obstacle.PACKAGE
    assert carried.find("foo", "slow", "1.0.0", "1.0.0").obstacle is Obstacle.CHANNEL
    assert carried.find("foo", "fast", "1.0.0", "1.0.0").obstacle is Obstacle.PATH


def test_a_subscription_without_a_channel_follows_all_of_them():
    """OLM sorts the bundles of the default channel first, then the others by name (getSubscriptionVariables)."""
    assert _carried().find("foo", "", "1.0.0", "1.0.0") == UpdatePath(("2.0.0", "3.0.0"))
    assert _carried().find("foo", "", "", None) == UpdatePath(("2.0.0", "3.0.0"))


def test_an_archive_without_the_graph_says_so():
    """Its entries have none of the fields, which entries of a channel with one version lack as well."""
    old = _carried(graph=False)
    assert old.find("foo", "stable", "1.0.0", "1.0.0").obstacle is Obstacle.UNKNOWN
    assert old.find("foo", "stable", "2.0.0", "2.0.0").at_head
    assert old.find("bar", "stable", "1.0.0", "1.0.0").obstacle is Obstacle.PACKAGE
    assert old.find("foo", "slow", "1.0.0", "1.0.0").obstacle is Obstacle.CHANNEL


@pytest.mark.parametrize(
    ("entries", "installed", "early", "later"),
    [
        # A skipped entry is a target, on the chain and off it; GetBundleThatReplaces knows edges only.
        ([entry("3.0.0", "2.0.0", ("2.0.0",)), entry("2.0.0", "1.0.0")], "1.0.0", ("2.0.0", "3.0.0"), None),
        ([entry("3.0.0", "1.0.0", ("2.0.0",)), entry("2.0.0", "0.9.0"), entry("1.0.0")], "0.9.0", ("2.0.0", "3.0.0"), None),
        # FindReplacement looks at the skip range of the head alone.
        ([entry("3.0.0", "2.0.0"), entry("2.0.0", "1.0.0", (), "<2.0.0")], "0.5.0", None, ("2.0.0", "3.0.0")),
        ([entry("3.0.0", "2.0.0", (), "<2.0.0"), *CHAIN[1:]], "1.0.0", ("3.0.0",), ("3.0.0",)),
    ],
)
def test_releases_before_the_resolver(entries, installed, early, later):
    """operator-framework/operator-lifecycle-manager#1652, which OpenShift has since 4.6."""
    versions = {one.name: one.name for one in entries}
    for release, expected in (((4, 5), early), ((4, 3), early), ((4, 6), later), ((4, 20), later), (None, later)):
        found = follow([Channel(entries, versions, release)], installed, installed)
        assert found == (UpdatePath(expected) if expected else UpdatePath((), Obstacle.PATH))


def test_the_work_has_a_limit():
    """Each step compares a version with all skip ranges; the largest real channel takes 0.2 % of the limit."""
    size = update_path.MAX_COMPARED // 40  # so that ten steps reach it
    wide = "9.9.9" + " || 9.9.9" * 500
    entries = [entry(f"{n}.0.0", f"{n - 1}.0.0" if n else "", (), f"{wide} || {n}.9.9") for n in range(size // 1000, -1, -1)]
    cost = sum(len(one.skip_range) for one in entries)
    steps = update_path.MAX_COMPARED // (cost + 1)
    assert 5 < steps < len(entries) // 2
    inside = path(entries, f"{len(entries) - 1 - steps}.0.0")
    assert (len(inside.steps), inside.obstacle) == (steps, None)
    beyond = path(entries, f"{len(entries) - 2 - steps}.0.0")
    assert (len(beyond.steps), beyond.obstacle) == (steps, Obstacle.UNKNOWN)


def test_a_long_channel_takes_linear_time():
    """Each of 400 entries skips all before it, and the path from the lowest is one step."""
    names = [f"1.{n}.0" for n in range(400)]
    entries = [entry(name, names[n - 1] if n else "", tuple(names[: max(n - 1, 0)])) for n, name in enumerate(names)]
    assert path(entries, "1.0.0") == UpdatePath(("1.399.0",))
