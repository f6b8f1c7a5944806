"""What OLM v1 installs for a ClusterExtension: by hand, and agreement with a model of its resolver (tests/fakes/olm_v1.py)."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.archive.inventory import BundleRecord, CatalogRecord, ChannelRecord, PackageRecord
from common.oci.image import Digest
from common.olm.catalog_names import Identity
from common.olm.update_path import Obstacle
from common.version import try_parse
from importer.operators.constraint import Constraint
from importer.operators.findings import Allowed as AllowedByName
from importer.operators.findings import findings
from importer.operators.installed import Extension, Installed, Sources
from importer.operators.outlook import Offering, Outlook
from importer.operators.successors import Allowed, Bundles, follow
from importer.operators.table import make
from tests.fakes import olm_v1

replace_record = msgspec.structs.replace

HERE = "openshift-marketplace"
STABLE = (
    BundleRecord("a.v3", "3.0.0", "a.v2", ("a.v2",)),
    BundleRecord("a.v2", "2.0.0", "a.v1", skip_range=">=1.0.0 <2.0.0"),
    BundleRecord("a.v1", "1.0.0"),
)
FAST = (BundleRecord("a.v4", "4.0.0-rc1", "a.v3"), BundleRecord("a.v3", "3.0.0", "a.v1"))
PACKAGE = PackageRecord("a", "stable", (ChannelRecord("stable", "a.v3", STABLE), ChannelRecord("fast", "a.v4", FAST)))
LONE = PackageRecord("b", "old", (
    ChannelRecord("old", "b.v1", (BundleRecord("b.v1", "1.5.0"),)), ChannelRecord("new", "b.v2", (BundleRecord("b.v2", "2.0.0"),)),
))  # fmt: skip


def catalog(name, *packages, graph=True):
    record = CatalogRecord(
        name, None, Digest("sha256:" + "1" * 64), name, "file-based", filtered=True, packages=packages, update_graph=graph
    )
    return Offering(name, (HERE, name), record, Identity(name, f"x/{name}", "v1", "", "x"), in_olm_v1=True)


def one(package="a", version="1.0.0", **fields):
    installed = f"{package}.v{version[0]}" if version else ""
    return Extension("mine", "team", package, installed=installed, version=version, healthy=True, **fields)


def row(extension, *offered, off=(), **seen):
    sources = Sources({}, HERE)
    installed = Installed((), sources, extensions=[extension], **seen)
    outlook = Outlook(offered or [catalog("index", PACKAGE, LONE)], HERE, sources, switched_off=off)
    (found,) = make(installed, outlook)
    return found, list(findings(installed, outlook, [found], AllowedByName()))


@pytest.mark.parametrize(
    ("extension", "result", "path"),
    [
        # Every channel counts, and the highest version that follows is taken: 3.0.0 of `fast` replaces 1.0.0.
        (one(), "updates-now", ("a.v3", "a.v4")),
        # An entry that another one skips is taken (OKD, Extensions, Upgrade edges); the edge is in any channel.
        (one(channels=("stable",)), "updates-now", ("a.v3",)),
        (one(wanted="<3.0.0"), "updates-now", ("a.v2",)),
        (one(wanted=">=1.0, <3"), "updates-now", ("a.v2",)),
        (one(wanted="~1.0"), "unchanged", ()),
        (one(wanted="1.0.0"), "unchanged", ()),
        (one(wanted="3.0.0"), "updates-now", ("a.v3",)),
        (one(wanted="^4.0"), "stranded", ()),  # a prerelease is in no range without one
        (one(wanted=">=4.0.0-0"), "stranded", ()),  # only from 3.0.0, which is not allowed
        (one(wanted=">=4.0.0-0", any_edge=True), "updates-now", ("a.v4",)),
        (one(wanted="<2", version="3.0.0", any_edge=True), "updates-now", ("a.v1",)),  # back
        (one(wanted=">=1 <4.0.0-rc2", channels=("fast", "stable")), "unknown", None),  # Masterminds/semver 3.3 or 3.4
        (one(wanted="latest"), "unknown", None),
        (one(version=""), "updates-now", ("a.v4",)),
        (one(version="", wanted="2.x"), "updates-now", ("a.v2",)),
        (one(channels=("slow",)), "stranded", ()),
        (one(channels=("slow", "stable")), "updates-now", ("a.v3",)),
        (one(version="5.0.0"), "unchanged", ()),
        (one(version="0.5.0"), "stranded", ()),
        # No entry leads from 1.5.0 to another channel, which no export changes.
        (one("b", "1.5.0"), "unchanged", ()),
        (one("b", "1.5.0", channels=("new",)), "stranded", ()),
    ],
)  # fmt: skip
def test_the_versions_that_olm_v1_takes(extension, result, path):
    """operator-framework/operator-controller, internal/operator-controller/resolve/catalog.go."""
    found, _ = row(extension)
    assert (found.result, found.path) == (result, path), found.reason
    assert bool(found.reason) == (result in {"stranded", "unknown"} or found.obstacle is Obstacle.AHEAD)


def test_a_deprecated_version_is_taken_only_where_no_other_follows():
    """compare.ByDeprecationFunc; Subscriptions do not look at deprecations."""

    def deprecated(*names):
        channels = [
            replace_record(
                channel, bundles=tuple(replace_record(each, deprecated=each.name in names) for each in channel.bundles)
            )
            for channel in PACKAGE.channels
        ]
        return catalog("index", replace_record(PACKAGE, channels=tuple(channels)))

    stable = one(channels=("stable",))
    assert row(stable, deprecated("a.v3"))[0].path == ("a.v2",)
    found, _ = row(stable, deprecated("a.v2", "a.v3"))
    assert (found.result, found.path) == ("unchanged", ())
    assert row(stable, deprecated("a.v1", "a.v2", "a.v3"))[0].path == ("a.v3",)
    assert row(replace(stable, installed="a.v3", version="3.0.0"), deprecated("a.v3"))[0].result == "unchanged"
    # Of another catalog that one which is not deprecated, although its priority is lower.
    newer = replace(deprecated("a.v1", "a.v2", "a.v3"), catalog="old", source=(HERE, "old"))
    found, _ = row(stable, newer, catalog("index", PACKAGE), cluster_catalogs={"old": 9, "index": 0})
    assert found.path == ("a.v3",)


def test_a_package_in_two_catalogs_of_the_same_priority_is_stranded():
    """CatalogResolver.Resolve: "found bundles for package … in multiple catalogs with the same priority"."""
    two = catalog("index", PACKAGE), catalog("other", PACKAGE)
    found, said = row(one(), *two, cluster_catalogs={"index": 0, "other": 0})
    (finding,) = (each for each in said if each.severity == "error")
    assert (found.result, finding.code) == ("stranded", "operator-stranded")
    assert "index, other have it with the same priority" in found.reason
    assert "spec.source.catalog.selector" in finding.fix
    assert "hub-export" not in finding.fix
    assert row(one(), *two, cluster_catalogs={"index": 5, "other": 0})[0].result == "updates-now"
    assert row(replace(one(), catalogs=("other",)), *two)[0].result == "updates-now"
    # Only one of them has what may follow.
    behind = catalog(
        "other", PackageRecord("a", "stable", (ChannelRecord("stable", "a.v9", (BundleRecord("a.v9", "9.0.0"),)),))
    )
    assert row(one(), two[0], behind)[0].path == ("a.v3", "a.v4")


def test_catalogs_that_the_import_does_not_write():
    mine = one("c")
    assert row(mine)[0].result == "stranded"
    # Of an earlier import of another archive, or of the site.
    kept, found = row(mine, cluster_catalogs={"earlier": 0, "index": 0})
    assert (kept.result, found) == ("unchanged", [])
    assert "ClusterCatalog earlier" in kept.reason
    assert row(replace(mine, catalogs=("elsewhere",)), cluster_catalogs={"earlier": 0})[0].result == "stranded"
    assert row(mine, cluster_catalogs=None)[0].result == "unknown"


def test_a_default_catalog_that_is_made_unavailable():
    default = {"openshift-redhat-operators": 0}
    assert row(one("c"), cluster_catalogs=default)[0].result == "unchanged"
    assert row(one("c"), cluster_catalogs=default, off=default)[0].result == "stranded"
    assert row(one(), cluster_catalogs=default, off=default)[0].result == "updates-now"
    bound = replace(one(), catalogs=("openshift-redhat-operators",))
    found, (finding,) = row(bound, cluster_catalogs=default, off=default)
    assert (found.result, "is made unavailable" in found.reason) == ("stranded", True)
    assert "spec.source.catalog.selector" in finding.fix


def test_without_an_update_graph_only_the_heads_are_known():
    old = catalog("index", PACKAGE, graph=False)
    results = {text: row(extension, old)[0].result for text, extension in (
        ("below", one()), ("head", one(version="3.0.0")), ("other channel", one(version="3.0.0", channels=("fast",))),
        ("pinned", one(wanted="=1.0.0")), ("no channel", one(channels=("slow",))),
    )}  # fmt: skip
    assert results == {
        "below": "unknown", "head": "unchanged", "other channel": "unknown", "pinned": "unchanged", "no channel": "stranded",
    }  # fmt: skip


def test_the_row_says_what_limits_it():
    found, (finding,) = row(one(wanted="^7"))
    assert found.versions == "^7"
    assert "no version of its channels is one that spec.source.catalog.version allows" in found.reason
    assert finding.subject == "ClusterExtension mine"
    # A profile of probe has no ClusterExtensions (ADR 0016).
    assert finding.fix == "Export package a with minVersion 1.0.0. Or leave it as it is: --allow-stranded a."


def test_extensions_that_may_not_be_listed_are_said():
    sources = Sources({}, HERE)
    seen = Installed((), sources, extensions_refused="forbidden: list clusterextensions")
    (finding,) = findings(seen, Outlook([], HERE, sources), [], AllowedByName())
    assert (finding.code, finding.severity) == ("cluster-extensions-unseen", "warning")


VERSIONS = ["1.0.0", "1.1.0", "1.2.0-rc1", "2.0.0", "2.1.0"]


@st.composite
def packages(draw):
    channels = []
    for name in ("x", "y"):
        entries = []
        for version in draw(st.lists(st.sampled_from(VERSIONS), unique=True, min_size=1)):
            replaces = draw(st.sampled_from([*VERSIONS, "0.9.0", ""]))
            skips = tuple(draw(st.lists(st.sampled_from(VERSIONS), max_size=2)))
            skip_range = draw(st.sampled_from(["", "<2.0.0", ">=1.0.0 <=2.1.0", "nonsense"]))
            entries.append(BundleRecord(version, version, replaces, skips, skip_range))
        channels.append(ChannelRecord(name, entries[0].name, tuple(entries)))
    return PackageRecord("p", "x", tuple(channels))


@given(
    packages(),
    st.sampled_from([*VERSIONS, "0.9.0", ""]),
    st.sampled_from([(), ("x",), ("y", "z"), ("z",)]),
    st.sampled_from(["", "<2", ">=1.1.0-0", "1.x"]),
    st.booleans(),
)
def test_it_agrees_with_olm_v1(package, installed, channels, wanted, any_edge):
    expected, circles = olm_v1.steps(package, installed, channels, wanted, any_edge=any_edge)
    allowed = Allowed(channels, Constraint.parse(wanted) if wanted else None, any_edge)
    found = follow([Bundles("index", 0, package, allowed)], installed, try_parse(installed))
    assert found.path.steps == tuple(expected)
    assert (found.path.obstacle is Obstacle.CYCLE) is circles
