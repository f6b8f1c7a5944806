"""Whether an installed operator can be updated from a selection: cases worked out by hand.

The channel `stable` of alpha, head first (`─` replaces, `s` skips, `r` skipRange):

    4.0.0 ─ 3.0.0 (s 2.5.0, s 2.4.0; r >=2.1.0 <2.3.0) ─ 2.0.0 ─ 1.0.0;  2.5.0 and 2.4.0 are below 3.0.0
"""

from __future__ import annotations

import pytest

from common.archive.inventory import ProblemCode
from common.target_profile import InstalledOperator
from exporter.catalog.selection import select
from exporter.imageset.model import ChannelRequest, OperatorRequest, PackageRequest
from exporter.plan.installed import stranded
from tests.fakes.catalogs import bundle_blob, catalog_of, channel_blob, entry, package_blob, real
from tests.samples import more


def v(version):
    return f"alpha.v{version}"


ENTRIES = [
    entry(v("4.0.0"), v("3.0.0")),
    entry(v("3.0.0"), v("2.0.0"), (v("2.5.0"), v("2.4.0")), ">=2.1.0 <2.3.0"),
    entry(v("2.5.0"), v("2.4.0")),
    entry(v("2.4.0"), v("2.0.0")),
    entry(v("2.0.0"), v("1.0.0")),
    entry(v("1.0.0")),
]
VERSIONS = ("4.0.0", "3.0.0", "2.5.0", "2.4.0", "2.0.0", "1.0.0")


def catalog(entries, versions, *channels):
    """Return a catalog of alpha with `stable`, and with `channels` that have the first version alone."""
    blobs = [package_blob("alpha", "stable"), channel_blob("stable", entries, "alpha")]
    blobs += [channel_blob(name, [entry(v(versions[0]))], "alpha") for name in channels]
    return catalog_of(*blobs, *(bundle_blob(v(version), version, "alpha") for version in versions))


def installed(version, *, channel="stable", csv="", package="alpha"):
    return InstalledOperator(package, channel, csv or v(version), version, "redhat-operators", "site")


def messages(whole, request, *operators):
    selection = select(whole, OperatorRequest("x", packages=(request,)))
    found = stranded([(whole, selection.catalog)], operators)
    assert {(each.severity, each.code) for each in found} <= {("warning", ProblemCode.OPERATOR_STRANDED)}
    return [each.message for each in found]


@pytest.mark.parametrize(
    ("version", "minimum", "maximum", "said"),
    [
        ("4.0.0", "4.0.0", "", None),  # is the head
        ("3.0.0", "4.0.0", "", None),  # 4.0.0 replaces it, though 3.0.0 itself is not kept
        ("2.0.0", "4.0.0", "", "add minVersion 2.0.0"),  # only 3.0.0 and what hangs there replace it
        ("2.0.0", "3.0.0", "", None),
        ("2.5.0", "3.0.0", "", None),  # skipped by 3.0.0
        ("2.5.0", "4.0.0", "", "add minVersion 2.5.0"),
        ("2.4.0", "3.0.0", "", None),
        ("2.2.0", "3.0.0", "", None),  # no entry, within the skipRange of 3.0.0
        ("2.3.0", "3.0.0", "", "has no update for it"),  # the range ends before it, and no entry names it
        ("2.2.0", "4.0.0", "", "add minVersion 2.2.0"),
        ("1.0.0", "2.0.0", "", None),
        ("1.0.0", "3.0.0", "", "add minVersion 1.0.0"),
        ("0.9.0", "1.0.0", "", "has no update for it"),
        ("4.0.0", "1.0.0", "3.0.0", "raise maxVersion to 4.0.0"),  # newer than all that is carried
    ],
)
def test_the_way_to_the_head(version, minimum, maximum, said):
    request = PackageRequest("alpha", min_version=minimum, max_version=maximum)
    found = messages(catalog(ENTRIES, VERSIONS), request, installed(version))
    assert len(found) == (said is not None), found
    if said:
        assert said in found[0]
        assert all(word in found[0] for word in (f"alpha {version}", "channel stable", "installed in site"))


@pytest.mark.parametrize("version", ["2.0.0", "2.2.0", "2.5.0", "1.0.0"])
def test_what_is_advised_is_enough(version):
    whole = catalog(ENTRIES, VERSIONS)
    said = messages(whole, PackageRequest("alpha", min_version="4.0.0"), installed(version))[0]
    advised = said.rpartition("add minVersion ")[2]
    assert messages(whole, PackageRequest("alpha", min_version=advised), installed(version)) == []


def test_a_rebuild_that_updates_it_sorts_below_it_and_is_advised():
    """1.0.1-1 is a prerelease of 1.0.1 by SemVer, and replaces it; 1.0.1 itself has left the channel."""
    whole = catalog([entry(v("1.1.0"), v("1.0.1-1")), entry(v("1.0.1-1"), v("1.0.1"))], ("1.1.0", "1.0.1-1"))
    said = messages(whole, PackageRequest("alpha", min_version="1.0.1"), installed("1.0.1"))
    assert [each.rpartition(": ")[2] for each in said] == ["add minVersion 1.0.1-1"]
    assert messages(whole, PackageRequest("alpha", min_version="1.0.1-1"), installed("1.0.1")) == []


def test_a_version_that_is_not_known_goes_by_its_name_alone():
    whole = catalog(ENTRIES, VERSIONS)
    nameless = InstalledOperator("alpha", "stable", v("2.2.0"), None, "redhat-operators", "site")
    assert "has no update" in messages(whole, PackageRequest("alpha", min_version="3.0.0"), nameless)[0]
    older = InstalledOperator("alpha", "stable", v("1.0.0"), None, "redhat-operators", "site")
    assert "add all its versions" in messages(whole, PackageRequest("alpha", min_version="3.0.0"), older)[0]


def test_the_channel_that_is_followed_has_to_be_kept():
    whole = catalog(ENTRIES, VERSIONS, "next")
    request = PackageRequest("alpha", channels=(ChannelRequest("next"),), default_channel="next")
    assert "channel stable, which it follows, is not carried: add it" in messages(whole, request, installed("4.0.0"))[0]
    assert messages(whole, request, installed("4.0.0", channel="next")) == []
    assert messages(whole, request, installed("4.0.0", channel="")) == [], "no channel is the default channel"
    assert "the catalog no longer has it" in messages(whole, request, installed("4.0.0", channel="fast"))[0]


def test_an_operator_of_another_catalog_is_somebody_elses():
    whole = catalog(ENTRIES, VERSIONS)
    assert messages(whole, PackageRequest("alpha"), installed("1.0.0", package="gamma", csv="gamma.v1.0.0")) == []


def test_one_catalog_that_leads_on_is_enough():
    whole = catalog(ENTRIES, VERSIONS)
    short, long = (
        select(whole, OperatorRequest("x", packages=(PackageRequest("alpha", min_version=low),))).catalog
        for low in ("4.0.0", "1.0.0")
    )
    assert len(stranded([(whole, short)], [installed("2.0.0")])) == 1
    assert stranded([(whole, short), (whole, long)], [installed("2.0.0")]) == []


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("2.0.0", None),
        ("1.0.0", "channel stable has no update for it"),
        ("0.5.0", "channel stable has no update for it"),  # in the range of 2.0.0 alone
        ("3.1.0", "channel stable has no update for it: it is newer than its head"),
    ],
)
def test_nothing_leads_over_an_entry_that_is_skipped(version, said):
    """2.0.0 alone updates 1.0.0, and OLM never installs what an entry skips.

    operator-framework/operator-lifecycle-manager, pkg/controller/registry/resolver/resolver.go, sortChannel.
    """
    entries = [entry(v("3.0.0"), v("2.0.0"), (v("2.0.0"),)), entry(v("2.0.0"), v("1.0.0"), (), "<1.0.0")]
    found = messages(catalog(entries, ("3.0.0", "2.0.0")), PackageRequest("alpha", min_version="1.0.0"), installed(version))
    assert len(found) == (said is not None), found
    assert not said or said in found[0]


def test_an_update_to_a_version_without_one_is_named():
    """A whole catalog is carried as it is, also with a channel that opm would refuse: 1.0.0 is below a skipped entry."""
    entries = [entry(v("3.0.0"), v("2.0.0"), (v("2.0.0"),)), entry(v("2.0.0"), v("1.0.0")), entry(v("1.0.0"), v("0.9.0"))]
    whole = catalog(entries, ("3.0.0", "2.0.0", "1.0.0"))
    assert "leads it to 1.0.0, which has no update" in stranded([(whole, whole)], [installed("0.9.0")])[0].message


def test_skip_ranges_that_lead_back_are_no_lack_of_a_version():
    """The head is installed, and OLM takes the older entry whose range has its version: debezium-operator 2.7.0 and 2.7.3."""
    whole = catalog([entry(v("2.0.0"), v("1.0.0")), entry(v("1.0.0"), "", (), ">0.9.0")], ("2.0.0", "1.0.0"))
    assert messages(whole, PackageRequest("alpha", min_version="1.0.0"), installed("2.0.0")) == []


def test_a_subscription_without_a_channel_is_updated_by_another_channel():
    """OLM takes the entries of all channels, the default one first (resolver.go, getSubscriptionVariables)."""
    blobs = [package_blob("alpha", "stable"), channel_blob("stable", [entry(v("2.0.0"))], "alpha")]
    blobs += [channel_blob("fast", [entry(v("3.0.0"), v("1.0.0"))], "alpha")]
    whole = catalog_of(*blobs, *(bundle_blob(v(version), version, "alpha") for version in ("3.0.0", "2.0.0")))
    assert messages(whole, PackageRequest("alpha"), installed("1.0.0", channel="")) == []
    assert "has no update" in messages(whole, PackageRequest("alpha"), installed("1.0.0"))[0]


@pytest.mark.parametrize("name", ["fbc/redhat", *more(["fbc/community-v4.20"])])
def test_what_is_advised_is_enough_for_every_version_of_a_real_catalog(name):
    advised = 0
    for package in real(name).packages.values():
        for channel in package.channels.values():
            for one in channel.entries:
                version = package.bundles[one.name].version_text
                operator = InstalledOperator(package.name, channel.name, one.name, version, "x", "site")
                heads = PackageRequest(package.name, channels=(ChannelRequest(channel.name),), default_channel=channel.name)
                for said in messages(real(name), heads, operator):
                    low = said.rpartition("add minVersion ")[2]
                    longer = ChannelRequest(channel.name, min_version=low)
                    request = PackageRequest(package.name, channels=(longer,), default_channel=channel.name)
                    assert messages(real(name), request, operator) == []
                    advised += 1
    assert advised > 3


def test_of_a_subscription_without_a_channel_the_missing_channels_are_named():
    """OLM follows all channels of the package then (getSubscriptionVariables); `minVersion` of the default alone is no help."""
    whole = catalog_of(
        package_blob("alpha", "stable"),
        channel_blob("stable", [entry(v("4.0.0"))], "alpha"),
        channel_blob("old", [entry(v("2.0.0"), v("1.0.0")), entry(v("1.0.0"))], "alpha"),
        *(bundle_blob(v(version), version, "alpha") for version in ("4.0.0", "2.0.0", "1.0.0")),
    )
    request = PackageRequest("alpha", channels=(ChannelRequest("stable"),))
    (message,) = messages(whole, request, installed("1.0.0", channel=""))
    assert message.endswith(
        "its Subscription names no channel, and channel stable does not update it: add channel old, and add minVersion 1.0.0"
    )
