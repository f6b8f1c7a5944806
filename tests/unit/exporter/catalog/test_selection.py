"""Selection: the range table of oc-mirror's catalog filter, whole catalogs, and the rules of docs/reference/selection.md."""

from __future__ import annotations

import pytest

from common.errors import CatalogError, UsageError
from exporter.catalog.model import Catalog, ChannelEntry
from exporter.catalog.rebuild import catalog_files
from exporter.catalog.selection import Selection, select
from exporter.imageset.model import ChannelRequest, OperatorRequest, PackageRequest
from tests.fakes.catalogs import bundle_blob, catalog_of, channel_blob, entry, package_blob, package_of, real

BELOW_2 = ("1.0.0", "1.999")  # ≥1.0.0 and <2.0.0: a maximum of `1.999` is every 1.999.x
TABLE: list[tuple[str, list[ChannelEntry], tuple[str, str], list[str]]] = [
    ("one inside", [entry("1.0.0")], BELOW_2, ["1.0.0"]),
    ("tail cut", [entry("1.1.0", "1.0.0"), entry("1.0.0", "0.1.0"), entry("0.1.0")], BELOW_2, ["1.0.0", "1.1.0"]),
    ("head cut", [entry("2.0.0", "1.1.0"), entry("1.1.0", "1.0.0"), entry("1.0.0")], BELOW_2, ["1.0.0", "1.1.0"]),
    (
        "both cut",
        [entry("2.0.0", "1.1.0"), entry("1.1.0", "1.0.0"), entry("1.0.0", "0.1.0"), entry("0.1.0")],
        BELOW_2,
        ["1.0.0", "1.1.0"],
    ),
    ("skipped cannot become head", [entry("2.0.0", "", ("1.0.0",)), entry("1.0.0")], BELOW_2, ["1.0.0", "2.0.0"]),
    (
        "head kept for what it skips",
        [entry("2.0.0", "1.1.1", ("1.1.0",)), entry("1.1.1"), entry("1.1.0")],
        BELOW_2,
        ["1.1.0", "1.1.1", "2.0.0"],
    ),
    (
        "out of range in the middle",
        [entry("1.1.0", "2.0.0"), entry("2.0.0", "1.0.0"), entry("1.0.0", "0.1.0"), entry("0.1.0")],
        BELOW_2,
        ["1.0.0", "1.1.0", "2.0.0"],
    ),
    (
        "skipped by several",
        [
            entry("1.1.3", "1.1.2", ("1.1.0",)), entry("1.1.2", "1.1.1", ("1.1.0",)), entry("1.1.1", "", ("1.1.0",)),
            entry("1.1.0"),
        ],
        ("1.1.0", "1.1.1"),
        ["1.1.0", "1.1.1"],
    ),
    (
        "integration",
        [
            entry("0.1.0"), entry("0.2.0", "0.1.0", ("0.1.1", "0.1.2")), entry("0.3.0", "0.2.0"),
            entry("0.3.1", "0.2.0", ("0.3.0",)),
        ],
        ("0.2.0", "0.3.1"),
        ["0.2.0", "0.3.0", "0.3.1"],
    ),
    (
        "integration, one version",
        [entry("0.1.0"), entry("0.2.0", "0.1.0"), entry("0.3.0", "0.2.0"), entry("0.3.1", "0.2.0", ("0.3.0",))],
        ("0.3.1", "0.3.1"),
        ["0.3.1"],
    ),
    ("a rebuild sorts below", [entry("1.0.1-1", "1.0.1"), entry("1.0.1", "1.0.0"), entry("1.0.0")], ("1.0.1", ""), ["1.0.1", "1.0.1-1"]),
    ("minimum reaches rebuilds", [entry("1.34.1-5", "1.30.0"), entry("1.30.0")], ("1.34.0", ""), ["1.34.1-5"]),
    (
        "skips in chains of skips",
        [entry("3.0.0", "1.0.0", ("1.2.0",)), entry("1.2.0", "", ("1.1.0",)), entry("1.1.0"), entry("1.0.0")],
        ("1.0.0", "2"),
        ["1.0.0", "1.1.0", "1.2.0", "3.0.0"],
    ),
    (
        "skipped by what is out of range and off the chain",
        [entry("3.0.0", "1.0.0", ("1.2.0",)), entry("1.2.0", "", ("1.1.0",)), entry("1.1.0"), entry("1.0.0")],
        ("1.0.0", "1.1"),
        ["1.0.0"],
    ),
    (
        "skipped by the chain and off it",
        [entry("3.0.0", "2.0.0", ("1.2.0",)), entry("2.0.0", "1.0.0", ("1.1.0",)), entry("1.2.0", "", ("1.1.0",)), entry("1.1.0"), entry("1.0.0")],
        ("1.0.0", "1.1"),
        ["1.0.0", "1.1.0", "2.0.0"],
    ),
    (
        "a partial minimum",
        [entry("3.1.0", "3.0.0"), entry("3.0.0", "3.0.0-rc.1"), entry("3.0.0-rc.1", "2.9.0"), entry("2.9.0")],
        ("3", ""),
        ["3.0.0", "3.1.0"],
    ),
    (
        "a partial maximum",
        [entry("4.0.0", "4.0.0-rc.1"), entry("4.0.0-rc.1", "3.9.0-5"), entry("3.9.0-5", "3.0.0"), entry("3.0.0")],
        ("", "3"),
        ["3.0.0", "3.9.0-5"],
    ),
]  # fmt: skip


def by_channel(minimum: str = "", maximum: str = "", channel: str = "stable") -> OperatorRequest:
    return OperatorRequest("test", packages=(PackageRequest("foo", channels=(ChannelRequest(channel, minimum, maximum),)),))


def by_package(minimum: str = "", maximum: str = "", **more: object) -> OperatorRequest:
    return OperatorRequest("test", packages=(PackageRequest("foo", min_version=minimum, max_version=maximum, **more),))  # type: ignore[arg-type]


def kept(selection: Selection, channel: str = "stable") -> list[str]:
    entries = sorted(one.name for one in selection.catalog.packages["foo"].channels[channel].entries)
    assert catalog_files(selection.catalog), "OLM must serve every result"
    return entries


def reason(selection: Selection, bundle: str) -> str:
    return next(one.reason for one in selection.reasons if one.bundle == bundle)


@pytest.mark.parametrize(("entries", "bounds", "wanted"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_ranges(entries: list[ChannelEntry], bounds: tuple[str, str], wanted: list[str]) -> None:
    selection = select(package_of({"stable": entries}), by_channel(*bounds))
    assert kept(selection) == wanted
    assert {one.bundle for one in selection.reasons} == {one.name for one in entries}
    assert sorted(one.bundle for one in selection.reasons if one.kept) == wanted


def test_nothing_in_range_is_an_error() -> None:
    with pytest.raises(UsageError, match=r"nothing is in the range 1\.0\.0\.\.1\.999 of stable") as caught:
        select(package_of({"stable": [entry("2.0.0")]}), by_channel(*BELOW_2))
    assert "from 2.0.0 to 2.0.0" in caught.value.hint


def test_what_is_in_range_and_cut_off_is_named_with_what_would_reach_it() -> None:
    """An entry out of range that only `skips` lead to is left out, and with it what it skips (docs/reference/selection.md, *Rules*)."""
    off_chain = [entry("3.0.0", "", ("1.2.0",)), entry("1.2.0", "", ("1.1.0",)), entry("1.1.0")]
    for request in (by_channel("1.1", "1.1"), by_package("1.1", "1.1")):
        with pytest.raises(UsageError, match=r"1\.1\.0 \(1\.1\.0\) is in range, but cut off from the head") as caught:
            select(package_of({"stable": off_chain}), request)
        assert "so that it has 1.2.0 (1.2.0)" in caught.value.hint
    assert kept(select(package_of({"stable": off_chain}), by_channel("1.1", "1.2"))) == ["1.1.0", "1.2.0", "3.0.0"]
    # In another channel it is a note, with the same words.
    both = package_of({"stable": [entry("1.1.0")], "beta": off_chain})
    assert "channel beta is left out: 1.1.0 (1.1.0) is in range, but cut off" in select(both, by_package("1.1", "1.1")).notes[0]


@pytest.mark.parametrize("maximum", ["1.0", "1.0.0"])
def test_what_is_in_range_and_stranded_is_no_unknown_version(maximum: str) -> None:
    stranded = package_of({"stable": [entry("3.0.0", "", ("2.0.0",)), entry("2.0.0", "1.0.0"), entry("1.0.0")]})
    for request in (by_channel(maximum, maximum), by_package(maximum, maximum)):
        with pytest.raises(UsageError, match=r"1\.0\.0\)? is in range, but stranded") as caught:
            select(stranded, request)
        assert "other versions" in caught.value.hint


def test_unversioned_nodes_connect() -> None:
    """A bundle whose version is no SemVer is refused by OLM, so the package is left out and named; nothing else is hurt."""
    broken = package_of({"stable": [entry("1.1.0", "odd"), entry("odd", "1.0.0"), entry("1.0.0")]}, {"odd": "two"})
    with pytest.raises(CatalogError, match=r"nothing of catalog test could be served.*'two' is no semantic version"):
        select(broken, by_channel(*BELOW_2))


CHAIN = [entry(f"1.{n}.0", f"1.{n - 1}.0" if n else "") for n in range(5)]


def test_every_bundle_has_a_reason() -> None:
    entries = [
        entry("1.0.0"), entry("1.1.0", "1.0.0"), entry("9.0.0", "1.1.0"), entry("1.2.0", "9.0.0", ("1.1.5",)), entry("1.1.5"),
        entry("1.3.0-rc1", "1.2.0"),
    ]  # fmt: skip
    catalog = package_of({"stable": entries, "beta": [entry("5.0.0")]})
    selection = select(catalog, by_channel("1.1.0", "1.2.0"))
    assert kept(selection) == ["1.1.0", "1.1.5", "1.2.0", "9.0.0"]
    assert {one.bundle: one.reason for one in selection.reasons} == {
        "1.0.0": "out of range 1.1.0..1.2.0",
        "1.1.0": "in range 1.1.0..1.2.0",
        "1.1.5": "in range 1.1.0..1.2.0, skipped by 1.2.0",
        "1.2.0": "in range 1.1.0..1.2.0",
        "1.3.0-rc1": "out of range 1.1.0..1.2.0",
        "5.0.0": "in channel beta, which was not asked for",
        "9.0.0": "needed to connect 1.2.0 with 1.1.0",
    }


def test_the_reason_says_that_a_prerelease_is_older() -> None:
    catalog = package_of({"stable": [entry("4.13.0", "4.12.0-202301010000"), entry("4.12.0-202301010000")]})
    selection = select(catalog, by_channel("4.12.0"))
    assert kept(selection) == ["4.13.0"]
    assert reason(selection, "4.12.0-202301010000") == (
        "out of range 4.12.0..: 4.12.0-202301010000 is a prerelease, older than 4.12.0"
    )


def test_a_head_out_of_range_says_why_it_stays() -> None:
    catalog = package_of({"stable": [entry("2.0.0", "", ("1.0.0",)), entry("1.0.0")]})
    assert reason(select(catalog, by_channel("", "1.5.0")), "2.0.0") == (
        "head of stable (out of range ..1.5.0, but what it skips cannot become head)"
    )


def test_heads_and_full() -> None:
    catalog = package_of({"stable": CHAIN, "beta": CHAIN[:2]})
    heads = select(catalog, by_package())
    assert (kept(heads), kept(heads, "beta")) == (["1.4.0"], ["1.1.0"])
    assert reason(heads, "1.4.0") == "head of stable"
    assert reason(heads, "1.3.0") == "older than the head of stable"
    everything = select(catalog, OperatorRequest("test", full=True, packages=(PackageRequest("foo"),)))
    assert kept(everything) == [one.name for one in CHAIN]
    assert not everything.unmodified
    assert reason(everything, "1.0.0") == "all of stable; all of beta"


def test_everything_goes_along_untouched() -> None:
    catalog = package_of({"stable": CHAIN})
    selection = select(catalog, OperatorRequest("test", full=True))
    assert selection.unmodified
    assert selection.catalog.packages["foo"] is catalog.packages["foo"]
    assert len(selection.reasons) == 5


def test_no_packages_means_the_head_of_every_channel() -> None:
    catalog = real("fbc/redhat")
    selection = select(catalog, OperatorRequest("test"))
    assert list(selection.catalog.packages) == list(catalog.packages)
    channels = [channel for package in selection.catalog.packages.values() for channel in package.channels.values()]
    assert [len(channel.entries) for channel in channels] == [1] * 11


def test_one_version_of_the_package_drops_channels_without_it() -> None:
    catalog = package_of({"stable": CHAIN, "beta": CHAIN[:2]}, default="beta")
    selection = select(catalog, by_package("1.3.0", "1.3.0"))
    package = selection.catalog.packages["foo"]
    assert list(package.channels) == ["stable"]
    assert package.default_channel == "stable"
    assert selection.notes == (
        "foo: channel beta is left out: nothing in it is in range",
        "foo: stable becomes the default channel, for 'beta' is not kept",
    )


def test_one_version_missing_from_a_named_channel_is_an_error() -> None:
    with pytest.raises(UsageError, match=r"package foo, channel stable has no version '1\.4\.1'") as caught:
        select(package_of({"stable": CHAIN}), by_channel("1.4.1", "1.4.1"))
    assert "1.4.0" in caught.value.hint
    with pytest.raises(UsageError, match=r"package foo has no version '7\.7\.7'"):
        select(package_of({"stable": CHAIN}), by_package("7.7.7", "7.7.7"))


REBUILDS = {"stable": [entry("a", "b"), entry("b", "c"), entry("c")]}
BUILDS: dict[str, str | None] = {"a": "1.42.0-5+2.p", "b": "1.42.0-5+1.p", "c": "1.42.0-5"}


@pytest.mark.parametrize(("wanted", "bundle"), [("1.42.0-5", "a"), ("1.42.0-5+1.p", "b"), ("1.42.0-5+2.p", "a")])
def test_build_metadata_decides_between_equals(wanted: str, bundle: str) -> None:
    assert kept(select(package_of(REBUILDS, BUILDS), by_channel(wanted, wanted))) == [bundle]


def test_build_metadata_that_no_equal_has_is_an_error() -> None:
    with pytest.raises(UsageError, match="has no version"):
        select(package_of(REBUILDS, BUILDS), by_channel("1.42.0-5+9", "1.42.0-5+9"))


def test_build_metadata_does_not_matter_without_equals() -> None:
    assert kept(select(package_of({"stable": CHAIN}), by_channel("1.3.0+x", "1.3.0+x"))) == ["1.3.0"]


def test_names_outside_the_channel_drag_nothing_along() -> None:
    """beta's bundle replaces one of stable, and skips another."""
    catalog = package_of({"stable": CHAIN, "beta": [entry("2.0.0", "1.4.0", ("1.3.0",))]})
    selection = select(catalog, by_channel("", "2.0.0", channel="beta"))
    assert list(selection.catalog.packages["foo"].bundles) == ["2.0.0"]
    assert selection.catalog.packages["foo"].channels["beta"].entries[0].replaces == "1.4.0"


def test_a_dropped_default_with_several_left_is_an_error_that_lists_them() -> None:
    catalog = package_of({"stable": CHAIN, "beta": CHAIN, "alpha": CHAIN})
    wanted = PackageRequest("foo", channels=(ChannelRequest("alpha"), ChannelRequest("beta")))
    with pytest.raises(UsageError, match="drops its default channel 'stable'") as caught:
        select(catalog, OperatorRequest("test", packages=(wanted,)))
    assert "alpha, beta" in caught.value.hint
    chosen = select(catalog, OperatorRequest("test", packages=(PackageRequest("foo", "beta", channels=wanted.channels),)))
    assert chosen.catalog.packages["foo"].default_channel == "beta"
    assert b'"defaultChannel":"beta"' in chosen.catalog.packages["foo"].blob.raw


def test_a_default_channel_that_is_not_kept_is_an_error() -> None:
    with pytest.raises(UsageError, match="defaultChannel 'stable' is not among the channels kept: beta"):
        select(
            package_of({"stable": CHAIN, "beta": CHAIN}),
            OperatorRequest("test", packages=(PackageRequest("foo", "stable", channels=(ChannelRequest("beta"),)),)),
        )


def test_unknown_names_are_errors_with_near_ones() -> None:
    catalog = package_of({"stable-4.18": CHAIN}, default="stable-4.18")
    with pytest.raises(UsageError, match="catalog test has no package 'fooo'") as caught:
        select(catalog, OperatorRequest("test", packages=(PackageRequest("fooo"),)))
    assert caught.value.hint == "Near it: foo"
    with pytest.raises(UsageError, match=r"package foo has no channel 'stable-4\.81'") as caught:
        select(catalog, by_channel(channel="stable-4.81"))
    assert caught.value.hint == "Near it: stable-4.18"
    with pytest.raises(UsageError, match="no package 'zzz'") as caught:
        select(catalog, OperatorRequest("test", packages=(PackageRequest("zzz"),)))
    assert caught.value.hint == "It has: foo"


def packages(*names: str) -> Catalog:
    blobs = []
    for name in names:
        bundles = [f"{name}.v1.0.0", f"{name}.v1.1.0"]
        blobs += [package_blob(name)]
        blobs += [
            channel_blob(one, [entry(bundles[0]), entry(bundles[1], bundles[0])], package=name) for one in ("stable", "beta")
        ]
        blobs += [bundle_blob(bundle, bundle.partition(".v")[2], package=name) for bundle in bundles]
    return catalog_of(*blobs)


def test_all_faults_of_a_selection_are_named_at_once() -> None:
    wanted = (
        PackageRequest("a", channels=(ChannelRequest("stabel"), ChannelRequest("stable"), ChannelRequest("betta"))),
        PackageRequest("b", min_version="7.0.0"),
        PackageRequest("bb"),
        PackageRequest("c", min_version="7.7.7", max_version="7.7.7"),
        PackageRequest("d", channels=tuple(ChannelRequest(name, "7.7.7", "7.7.7") for name in ("beta", "stable", "x"))),
        PackageRequest("e", "alpha"),
        PackageRequest("f"),
    )
    with pytest.raises(UsageError) as caught:
        select(packages(*"abcdef"), OperatorRequest("test", packages=wanted))
    first, *lines = caught.value.message.splitlines()
    assert first == "catalog test: 9 faults:"
    words = [
        *("package a has no channel 'betta'. Near it: beta", "package a has no channel 'stabel'. Near it: stable"),
        *("package b: nothing is in the range", "catalog test has no package 'bb'", "package c has no version '7.7.7'"),
        *("package d has no channel 'x'", "package d, channel beta has no version", "package d, channel stable has no version"),
        "package e: defaultChannel 'alpha' is not among",
    ]
    assert len(lines) == len(words)
    assert all(any(line.startswith(f"  {word}") for line in lines) for word in words), lines


def test_faults_of_a_selection_are_bounded() -> None:
    wanted = tuple(PackageRequest(f"x{number}") for number in range(5_000))
    with pytest.raises(UsageError) as caught:
        select(packages("a"), OperatorRequest("test", packages=wanted))
    assert caught.value.message.startswith("catalog test: 100 faults at least:")
    channels = tuple(ChannelRequest(f"x{number}") for number in range(5_000))
    with pytest.raises(UsageError) as caught:
        select(packages("a"), OperatorRequest("test", packages=(PackageRequest("a", channels=channels),)))
    assert caught.value.message.startswith("catalog test: 100 faults at least:")
    assert len(caught.value.message.splitlines()) == 101


def deprecated() -> Catalog:
    """A package with deprecations of everything, and a blob without a package, as in tests of oc-mirror's filter."""
    references = [
        {"schema": "olm.package"},
        *({"schema": "olm.channel", "name": name} for name in ("ch1", "ch2")),
        *({"schema": "olm.bundle", "name": name} for name in ("b1", "b2", "b4")),
    ]
    return catalog_of(
        package_blob(default="ch1", description="1.10 \\u00e9"),
        channel_blob("ch1", [entry("b2", "b1", ("b0",)), entry("b1")]),
        channel_blob("ch2", [entry("b4")]),
        *(bundle_blob(name, f"{name[1:]}.0.0") for name in ("b1", "b2", "b4")),
        {
            "schema": "olm.deprecations",
            "package": "foo",
            "entries": [{"reference": one, "message": "old"} for one in references],
        },
        {"schema": "example.lifecycle", "package": "foo", "anything": [1, {"x": None}]},
        {"schema": "example.lifecycle", "package": "bar"},
        {"schema": "example.meta", "value": 1.10},
    )


def test_deprecations_of_what_is_dropped_go_with_it() -> None:
    selection = select(deprecated(), by_channel(channel="ch1"))
    package = selection.catalog.packages["foo"]
    assert package.channels["ch1"].entries == (entry("b2", "b1", ("b0",)),)
    assert package.deprecations is not None
    assert [(one.reference.schema, one.reference.name) for one in package.deprecations.entries] == [
        ("olm.package", ""),
        ("olm.channel", "ch1"),
        ("olm.bundle", "b2"),
    ]
    files = catalog_files(selection.catalog)
    assert list(files) == ["catalog.json", "foo/catalog.json"]
    assert b"example.meta" in files["catalog.json"]
    assert b"example.lifecycle" in files["foo/catalog.json"]


def test_one_package_that_olm_would_refuse_is_left_out_and_others_are_kept() -> None:
    good = [package_blob("good"), channel_blob("stable", [entry("g")], "good"), bundle_blob("g", "1.0.0", "good")]
    bad = [package_blob("bad"), channel_blob("stable", [entry("x"), entry("y")], "bad"), bundle_blob("x", "1.0.0", "bad")]
    selection = select(catalog_of(*good, *bad), OperatorRequest("test"))
    assert list(selection.catalog.packages) == ["good"]
    assert [(one.severity, one.subject) for one in selection.problems] == [("error", "bad")]
    assert "multiple channel heads" in selection.problems[0].message


def test_what_only_a_stranded_entry_skips_goes_with_it() -> None:
    """It would be a second head, and the package was left out. opm refuses the channel (alpha/model, validateReplacesChain)."""
    below = [entry("2.0.0", "1.5.0"), entry("1.5.0", "", ("1.4.0",)), entry("1.4.0"), entry("1.0.0")]
    catalog = package_of({"stable": [entry("3.0.0", "1.0.0", ("2.0.0",)), *below]})
    selection = select(catalog, OperatorRequest("test", full=True, packages=(PackageRequest("foo"),)))
    assert kept(selection) == ["1.0.0", "2.0.0", "3.0.0"]
    assert [(one.severity, one.subject) for one in selection.problems] == [("warning", "foo/1.5.0"), ("warning", "foo/1.4.0")]
    assert "only a stranded entry skips it" in selection.problems[1].message


def test_stranded_bundles_are_named_and_left_out() -> None:
    entries = [entry("3.0.0", "", ("2.0.0",)), entry("2.0.0", "1.0.0"), entry("1.0.0")]
    catalog = package_of({"stable": entries, "beta": [entry("3.0.0")]})
    selection = select(catalog, OperatorRequest("test", full=True, packages=(PackageRequest("foo"),)))
    assert kept(selection) == ["2.0.0", "3.0.0"]
    assert [(one.severity, one.subject) for one in selection.problems] == [("warning", "foo/1.0.0")]
    assert reason(selection, "1.0.0").startswith("stranded")


def test_a_bundle_in_no_channel_is_named_and_left_out() -> None:
    catalog = catalog_of(
        package_blob(), channel_blob("stable", [entry("a")]), bundle_blob("a", "1.0.0"), bundle_blob("b", "2.0.0")
    )
    selection = select(catalog, by_package())
    assert reason(selection, "b") == "in no channel"
    assert [one.subject for one in selection.problems] == ["foo/b"]


def test_a_head_that_olm_will_not_list_is_a_problem() -> None:
    bare = bundle_blob("a", "1.0.0", properties=[{"type": "olm.package", "value": {"packageName": "foo", "version": "1.0.0"}}])
    selection = select(catalog_of(package_blob(), channel_blob("stable", [entry("a")]), bare), by_package())
    assert [one.subject for one in selection.problems] == ["foo"]
    assert "OLM will not list it" in selection.problems[0].message
    assert catalog_files(selection.catalog)


def test_problems_of_packages_that_were_not_requested_are_left_out() -> None:
    blobs = [package_blob(), channel_blob("stable", [entry("a")]), bundle_blob("a", "1.0.0"), channel_blob("x", [], "ghost")]
    catalog = catalog_of(*blobs)
    assert [one.subject for one in catalog.problems] == ["ghost"]
    assert select(catalog, by_package()).problems == ()
    assert len(select(catalog, OperatorRequest("test")).problems) == 1


def test_many_skips_do_not_show() -> None:
    """93 bundles that each skip all before them; work is counted, not timed: it must end at all."""
    names = [f"0.{n}.0" for n in range(100)]
    entries = [entry(name, names[n - 1] if n else "", tuple(names[:n])) for n, name in enumerate(names)]
    catalog = package_of({f"ch{n}": entries for n in range(11)}, default="ch0")
    selection = select(catalog, by_package("0.0.0", "0.98.0"))
    assert len(selection.catalog.packages["foo"].bundles) == 99
    assert kept(select(catalog, by_package()), "ch3") == ["0.99.0"]
