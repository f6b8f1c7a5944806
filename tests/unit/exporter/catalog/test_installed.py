"""`--installed`: the requests that select what a target profile has installed, beside whatever else is asked for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from common.target_profile import InstalledOperator
from common.text import enumeration
from exporter.catalog.installed import Asked, with_installed
from exporter.catalog.selection import select
from exporter.imageset.model import ChannelRequest, OperatorRequest, PackageRequest
from exporter.plan.installed import stranded
from tests.fakes.catalogs import bundle_blob, catalog_of, channel_blob, entry, package_blob, real
from tests.samples import more

ALONE = OperatorRequest("x", installed_only=True)


def v(*versions, package="alpha"):
    return {f"{package}.v{version}" for version in versions}


def alpha(version, replaces="", skips=(), skip_range=""):
    return entry(f"alpha.v{version}", f"alpha.v{replaces}" if replaces else "", tuple(f"alpha.v{s}" for s in skips), skip_range)


CHANNELS = {
    "stable": [
        alpha("3.0.0", "2.0.0"),
        alpha("2.0.0", "1.0.0", ("1.9.0",), ">=1.5.0 <1.9.0"),
        alpha("1.9.0", "1.0.0"),
        alpha("1.0.0"),
    ],
    "fast": [alpha("4.0.0", "3.0.0"), alpha("3.0.0", "2.5.0")],
    "old": [alpha("1.0.0")],
}
_NAMES = {one.name for entries in CHANNELS.values() for one in entries}
CATALOG = catalog_of(
    package_blob("alpha", "stable"),
    *(channel_blob(name, entries, "alpha") for name, entries in CHANNELS.items()),
    *(bundle_blob(name, None, "alpha") for name in sorted(_NAMES)),
    package_blob("beta", "stable"),
    channel_blob("stable", [entry("beta.v2.0.0", "beta.v1.0.0"), entry("beta.v1.0.0")], "beta"),
    *(bundle_blob(f"beta.v{version}", None, "beta") for version in ("2.0.0", "1.0.0")),
)


def installed(version, channel="stable", package="alpha", catalog="redhat-operators", *, known=True):
    return InstalledOperator(package, channel, f"{package}.v{version}", version if known else None, catalog, "site")


def kept(request, *operators, catalog=CATALOG):
    """Return the selected entries by package and channel, and the notes; no operator may be stranded by the selection."""
    found = with_installed([Asked("redhat-operator-index", catalog, request)], operators)
    selection = select(catalog, found.requests[0])
    channels = {
        (package.name, channel.name): {one.name for one in channel.entries}
        for package in selection.catalog.packages.values()
        for channel in package.channels.values()
    }
    whole = {each.message for each in stranded([(catalog, catalog)], operators)}
    assert {each.message for each in stranded([(catalog, selection.catalog)], operators)} == whole
    return channels, found.notes


@pytest.mark.parametrize(
    ("operator", "expected", "note"),
    [
        (installed("3.0.0"), v("3.0.0"), ""),
        (installed("2.0.0"), v("3.0.0", "2.0.0"), ""),
        (installed("1.9.0"), v("3.0.0", "2.0.0", "1.9.0"), ""),
        (installed("1.7.0"), v("3.0.0", "2.0.0"), "channel stable does not have that version: from 2.0.0 on"),  # skipRange
        (installed("2.5.0"), v("3.0.0"), "channel stable does not have that version: its head alone"),  # no path
        (installed("3.5.0"), v("3.0.0"), ""),  # ahead of the head
        (installed("2.0.0", known=False), v("3.0.0", "2.0.0"), ""),  # the version of its entry
        (installed("x", known=False), v("3.0.0"), "alpha alpha.vx is installed in site"),
        (installed("2.0.0", channel=""), v("3.0.0", "2.0.0"), ""),  # follows the default channel
        (
            installed("2.0.0", channel="gone"),
            v("3.0.0", "2.0.0"),
            "follows channel gone in site, which the catalog redhat-operator-index does not have: its default channel stable",
        ),
    ],
)
def test_the_channel_is_kept_from_the_installed_version_on(operator, expected, note):
    found, notes = kept(ALONE, operator)
    assert found == {("alpha", "stable"): expected}
    assert len(notes) == bool(note)
    assert note in "".join(notes)


def test_a_version_that_has_left_the_channel_is_reached_from_what_replaces_it():
    found, notes = kept(ALONE, installed("2.5.0", "fast"))
    assert found[("alpha", "fast")] == v("4.0.0", "3.0.0")
    assert "alpha 2.5.0 is installed in site, and channel fast does not have that version: from 3.0.0 on" in notes


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("2.5.0", {"stable": v("3.0.0"), "fast": v("4.0.0", "3.0.0")}),  # `fast` alone leads from there
        ("4.0.0", {"stable": v("3.0.0"), "fast": v("4.0.0")}),  # the head of another channel
        ("1.0.0", {"stable": v("3.0.0", "2.0.0", "1.9.0", "1.0.0")}),  # the default channel is enough
        ("0.1.0", {"stable": v("3.0.0")}),
    ],
)
def test_a_subscription_without_a_channel_keeps_those_of_its_path(version, expected):
    """OLM follows all channels, the default one first (getSubscriptionVariables)."""
    found, _ = kept(ALONE, installed(version, channel=""))
    assert found == {("alpha", name): names for name, names in expected.items()}


@pytest.mark.parametrize("name", ["fbc/redhat", *more(["fbc/community-v4.20"])])
def test_without_a_channel_no_version_of_a_real_catalog_is_left_behind(name):
    catalog = real(name)
    for package in catalog.packages.values():
        for one in list(package.bundles.values())[::3]:
            kept(ALONE, InstalledOperator(package.name, "", one.name, one.version_text, "", "site"), catalog=catalog)


def test_several_namespaces_have_the_lowest_version_and_each_channel():
    """Two channels without the default one would be an error; its head is kept, for Subscriptions without a channel."""
    found, _ = kept(ALONE, installed("3.0.0"), installed("2.0.0"))
    assert found == {("alpha", "stable"): v("3.0.0", "2.0.0")}
    found, _ = kept(ALONE, installed("3.0.0", "fast"), installed("1.0.0", "old"))
    assert found == {("alpha", "fast"): v("4.0.0", "3.0.0"), ("alpha", "old"): v("1.0.0"), ("alpha", "stable"): v("3.0.0")}


HEADS = {("alpha", "stable"): v("3.0.0"), ("alpha", "fast"): v("4.0.0"), ("alpha", "old"): v("1.0.0")}
BETA = {("beta", "stable"): v("2.0.0", package="beta")}
LONG = v("3.0.0", "2.0.0")


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        # Beside another package, and beside the same one.
        ([PackageRequest("beta")], {("alpha", "stable"): LONG} | BETA),
        ([PackageRequest("alpha")], HEADS | {("alpha", "stable"): LONG}),
        ([PackageRequest("alpha", channels=(ChannelRequest("stable"),))], {("alpha", "stable"): LONG}),
        (
            [PackageRequest("alpha", channels=(ChannelRequest("fast"),))],
            {("alpha", "stable"): LONG, ("alpha", "fast"): v("4.0.0")},
        ),
        # A range of its own is widened, never narrowed.
        ([PackageRequest("alpha", channels=(ChannelRequest("stable", "3.0.0"),))], {("alpha", "stable"): LONG}),
        (
            [PackageRequest("alpha", channels=(ChannelRequest("stable", "1.0.0"),))],
            {("alpha", "stable"): v("3.0.0", "2.0.0", "1.9.0", "1.0.0")},
        ),
        ([PackageRequest("alpha", channels=(ChannelRequest("stable", "1.0.0", "1.9.0"),))], None),
        (
            [PackageRequest("alpha", min_version="3.0.0", channels=(ChannelRequest("fast"),))],
            {("alpha", "stable"): LONG, ("alpha", "fast"): v("4.0.0", "3.0.0")},
        ),
        (
            [PackageRequest("alpha", channels=(ChannelRequest("stable", min_bundle="alpha.v3.0.0"),))],
            {("alpha", "stable"): LONG},
        ),
        # No packages is the head of every channel.
        ([], HEADS | {("alpha", "stable"): LONG} | BETA),
    ],
)
def test_it_is_added_to_what_is_asked_for(request_, expected):
    found, notes = kept(OperatorRequest("x", packages=tuple(request_)), installed("2.0.0"))
    if expected is None:
        assert "alpha, channel stable: 2.0.0 is installed, so maxVersion 1.9.0 is raised to it" in notes
        expected = {("alpha", "stable"): v("2.0.0", "1.9.0", "1.0.0")}
    assert found == expected


def test_full_stays_full():
    every = {("alpha", name): {one.name for one in entries} for name, entries in CHANNELS.items()}
    whole, _ = kept(OperatorRequest("x", full=True), installed("2.0.0"))
    assert whole == every | {("beta", "stable"): v("2.0.0", "1.0.0", package="beta")}
    some, _ = kept(OperatorRequest("x", full=True, packages=(PackageRequest("beta"),)), installed("2.0.0"))
    assert some == {("alpha", "stable"): every[("alpha", "stable")], ("beta", "stable"): v("2.0.0", "1.0.0", package="beta")}
    same, _ = kept(OperatorRequest("x", full=True, packages=(PackageRequest("alpha"),)), installed("2.0.0"))
    assert same == every


def test_operators_of_other_catalogs_are_named_once():
    foreign = [installed("1.0.0", package=f"o{n}", catalog="certified-operators") for n in range(12)]
    _, notes = kept(ALONE, installed("3.0.0"), *foreign, foreign[0])
    names = enumeration(sorted(f"o{n} (certified-operators)" for n in range(12)), 10)
    assert notes == (f"installed, and in none of the catalogs that are asked for: {names}",)


def test_what_is_excluded_stays_out():
    request = OperatorRequest("x", packages=(PackageRequest("beta"),), exclude=("alp*",))
    found = with_installed([Asked("redhat-operator-index", CATALOG, request)], [installed("3.0.0")])
    assert found.requests == (request,)
    assert found.notes == ("alpha is installed in site, and excluded",)


def test_a_catalog_of_which_nothing_is_installed():
    """Asked for by `--installed` alone it is left out; with packages it stays as it was."""
    request = OperatorRequest("x", packages=(PackageRequest("beta"),))
    asked = [Asked("a-index", CATALOG, ALONE), Asked("b-index", CATALOG, request)]
    assert with_installed(asked, []).requests == (None, request)


def test_the_catalog_whose_name_is_like_that_of_the_catalog_source():
    asked = [Asked(name, CATALOG, ALONE) for name in ("redhat-operator-index", "community-operator-index")]

    def chosen(source):
        return [each is not None for each in with_installed(asked, [installed("2.0.0", catalog=source)]).requests]

    assert chosen("redhat-operators") == [True, False]
    assert chosen("cs-community-operator-index-v4-18") == [False, True]
    assert chosen("site-catalog") == [True, True], "not known, so that both have it"
    longer = replace(
        asked[1],
        catalog=catalog_of(
            package_blob("alpha"), channel_blob("stable", [alpha("9.0.0")], "alpha"), bundle_blob("alpha.v9.0.0", None, "alpha")
        ),
    )
    asked[1] = longer
    assert chosen("site-catalog") == [True, False], "the other one has no update for it"


def test_notes_have_a_limit():
    many = [installed(f"0.{n}.0") for n in range(51)]
    _, notes = kept(ALONE, *many)
    assert (len(notes), notes[-1]) == (51, "and 1 more")


@pytest.mark.parametrize("name", ["fbc/bundle-object-v4.16", *more(["fbc/redhat", "fbc/community-v4.20"])])
def test_every_version_of_a_real_catalog_has_a_path_in_its_selection(name):
    catalog = real(name)
    for package in catalog.packages.values():
        for channel in package.channels.values():
            for one in channel.entries:
                operator = InstalledOperator(
                    package.name, channel.name, one.name, package.bundles[one.name].version_text, "", "site"
                )
                found, notes = kept(ALONE, operator, catalog=catalog)
                assert set(found) == {(package.name, channel.name)}
                assert one.name in found[(package.name, channel.name)]
                assert not notes
