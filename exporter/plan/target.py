"""What a target profile asks of a selection: that no operator of the cluster is left where nothing can update it. Pure.

An operator gets on when the channel that its Subscription follows is kept, and what is installed is an entry of it, or one that
replaces it, skips it, or has its version in `skipRange` (docs/facts/openshift.md §2.3).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from common.archive.inventory import Problem, ProblemCode
from exporter.catalog.model import Catalog, Channel, ChannelEntry, Package
from exporter.version import Key, OlmRange, Version, try_parse

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from common.target_profile import InstalledOperator, TargetProfile
    from exporter.catalog.steps import Chosen

Offered = tuple[Catalog, Catalog]  # all that a catalog has, and what of it is kept


def stranded(offered: Iterable[Offered], operators: Iterable[InstalledOperator]) -> list[Problem]:
    """Return a warning for each installed operator that a catalog has and that what is kept of it cannot update.

    An operator that none of the catalogs has is somebody else's.
    """
    catalogs = list(offered)
    return [problem for operator in operators for problem in _problems(catalogs, operator)]


def left_behind(chosen: Iterable[Chosen], target: TargetProfile | None) -> list[Problem]:
    """Return a warning for each operator of the target cluster that could not be updated from the selections."""
    operators = target.operators if target else None
    return stranded([(item.opened.catalog, item.selection.catalog) for item in chosen], operators or ())


def _problems(catalogs: list[Offered], operator: InstalledOperator) -> Iterator[Problem]:
    having = [(whole, kept) for whole, kept in catalogs if operator.package in whole.packages]
    if not having:
        return
    reasons = [
        _reason(whole.packages[operator.package], kept.packages.get(operator.package), operator) for whole, kept in having
    ]
    if all(reasons):
        version = f" {operator.version}" if operator.version else f" ({operator.csv})"
        message = f"{operator.package}{version} is installed in {operator.namespace}, and {reasons[0]}"
        yield Problem("warning", ProblemCode.OPERATOR_STRANDED, operator.package, message)


def _reason(whole: Package, kept: Package | None, operator: InstalledOperator) -> str:
    """Return what keeps an operator from its updates, and what to add; empty when nothing does."""
    if kept is None:
        return "its package is not carried: add it"
    name = operator.channel or kept.default_channel
    channel = kept.channels.get(name)
    if channel is None:
        there = "add it" if name in whole.channels else "the catalog no longer has it: choose another in its Subscription"
        return f"channel {name}, which it follows, is not carried: {there}"
    if _takers(channel, operator):
        return ""
    before = whole.channels.get(name)
    if before is not None and (takers := _takers(before, operator)):
        wanted = _wanted(_versions(whole, takers), _versions(kept, channel.entries), operator)
        return f"no version of channel {name} that is carried updates it: {wanted}"
    return f"channel {name} has no update for it: whoever publishes it has taken the way away"


def _wanted(takers: list[Version], carried: list[Version], operator: InstalledOperator) -> str:
    """Return what to ask for: all between what is installed, or what updates it (a rebuild may sort below), and the head."""
    installed = try_parse(operator.version or "")
    if installed is None:
        return "add all its versions"
    if carried and all(version.key < installed.key for version in carried):
        return f"raise maxVersion to {installed}"
    lowest = min([installed, *([max(takers, key=_key)] if takers else [])], key=_key)
    return f"add minVersion {lowest}"


def _versions(package: Package, entries: Iterable[ChannelEntry]) -> list[Version]:
    bundles = (package.bundles.get(entry.name) for entry in entries)
    return [bundle.version for bundle in bundles if bundle is not None and bundle.version is not None]


def _key(version: Version) -> Key:
    return version.key


def _takers(channel: Channel, operator: InstalledOperator) -> list[ChannelEntry]:
    """Return the entries from which there is a way to the head: one step is enough, for every entry leads there."""
    version = try_parse(operator.version or "")
    return [entry for entry in channel.entries if _takes(entry, operator.csv, version)]


def _takes(entry: ChannelEntry, csv: str, version: Version | None) -> bool:
    """Return whether an entry is what is installed, or updates it."""
    if csv in {entry.name, entry.replaces, *entry.skips}:
        return True
    if version is None or not entry.skip_range:
        return False
    try:
        return OlmRange.parse(entry.skip_range).contains(version)
    except ValueError:
        return False
