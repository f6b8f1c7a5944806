"""The updates that OLM takes from an installed version of an operator to the head of its channel. Pure.

OLM looks at one step at a time: of the entries that replace the installed one, skip it, or have its version in their skip
range, it takes the one nearest the head (operator-framework/operator-lifecycle-manager, pkg/controller/registry/resolver:
resolver.go, getSubscriptionVariables and sortChannel; cache/predicates.go, ReplacesPredicate and SkipRangeIncludesPredicate).
An entry that another one skips is never taken, so that releases that each skip the one before strand all but the last two
(k8s-operatorhub/community-operators#119, operator-framework/olm-docs#243).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from common.version import OlmRange, Version, try_parse

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from common.archive.inventory import CatalogRecord, ChannelRecord, PackageRecord


# Characters of skip ranges that one path may compare, about a second. The largest real channel has some hundred ranges.
MAX_COMPARED = 50_000_000
_RESOLVER = (4, 6)  # the first release with the resolver whose rules these are
NO_VERSION = "0.0.0"  # of an installed ClusterServiceVersion without one, as OLM reads it (its zero value)


class Obstacle(StrEnum):
    """Why no path leads from an installed version to the head."""

    PACKAGE = "package-not-carried"
    CHANNEL = "channel-not-carried"
    START = "start-not-carried"  # the channel does not have the version that a Subscription starts with
    PATH = "path-not-carried"  # no entry of the channel replaces, skips or covers the version where the path ends
    AHEAD = "ahead-of-head"  # the same, and the version is higher than that of the head
    CYCLE = "cycle"  # the skip range of an older entry has a newer one, mostly the head: OLM would go back and forth
    GRAPH = "graph-invalid"  # no head, or several: OLM resolves nothing in the namespace
    UNKNOWN = "graph-unknown"  # the archive has no update graph, or one that is too large to follow


@dataclass(frozen=True, slots=True)
class UpdatePath:
    """The entries that OLM installs one after the other. Without an obstacle the last is the head; none: it is installed.

    With an obstacle `steps` are those up to it: an update may lead to a version that nothing updates.
    """

    steps: tuple[str, ...] = ()
    obstacle: Obstacle | None = None

    @property
    def at_head(self) -> bool:
        """Return whether the head is installed already."""
        return not self.steps and self.obstacle is None


class Entry(Protocol):
    """An entry of a channel; empty where it has no such field."""

    @property
    def name(self) -> str:
        """The name of the bundle, which is that of its ClusterServiceVersion."""

    @property
    def replaces(self) -> str:
        """The name that the entry updates."""

    @property
    def skips(self) -> tuple[str, ...]:
        """Further names that it updates. OLM installs none of these."""

    @property
    def skip_range(self) -> str:
        """The versions that it updates."""


class Channel:
    """The entries of a channel in the order in which OLM considers them; `versions` are those of the bundles.

    `release` is that of the cluster, None for a later one: see `is_early`.
    """

    def __init__(
        self, entries: Iterable[Entry], versions: Mapping[str, str | None], release: tuple[int, int] | None = None
    ) -> None:
        # The catalog server lists bundles: an entry without one, such as the end of an edge in SQLite, is not there for OLM.
        listed = [entry for entry in entries if versions.get(entry.name) is not None]
        self._early = is_early(release)
        self._order = _sorted(listed, skipped_too=self._early)
        self._versions = versions
        self._places: dict[str, int] = {}  # of the entry nearest the head that replaces or skips a name
        for place, entry in enumerate(self._order):
            for name in (entry.replaces, *entry.skips):
                self._places.setdefault(name, place)

    @classmethod
    def of(cls, record: ChannelRecord, release: tuple[int, int] | None = None) -> Channel:
        """Return a channel of an inventory that has the update graph."""
        return cls(record.bundles, {bundle.name: bundle.version for bundle in record.bundles}, release)

    @property
    def head(self) -> str:
        """The entry that OLM installs for a new Subscription; empty for an invalid graph."""
        return self._order[0].name if self._order else ""

    @property
    def targets(self) -> tuple[str, ...]:
        """The entries that OLM installs, head first."""
        return tuple(entry.name for entry in self._order)

    @cached_property
    def _ranges(self) -> tuple[tuple[int, OlmRange], ...]:
        """The distinct skip ranges, each with the place of the first entry that has it. OLM ignores those it cannot parse."""
        first: dict[str, int] = {}
        for place, entry in enumerate(self._order[:1] if self._early else self._order):
            if entry.skip_range:
                first.setdefault(entry.skip_range, place)
        return tuple((place, parsed) for text, place in first.items() if (parsed := _parsed(text)) is not None)

    @cached_property
    def longest(self) -> int:
        """The steps that are followed at most: each compares a version with all skip ranges."""
        return MAX_COMPARED // (1 + sum(len(entry.skip_range) for entry in self._order))

    def version(self, name: str) -> Version | None:
        """Return the version of an entry; None where it has none."""
        return try_parse(self._versions.get(name) or "")

    def next(self, csv: str, version: Version | None) -> str:
        """Return the entry that OLM updates an installed one to; the installed one or nothing when it stays."""
        place = self._places.get(csv, len(self._order)) if csv else 0
        if version is not None:
            covering = (each for each, covered in self._ranges if each < place and covered.contains(version))
            place = next(covering, place)
        return self._order[place].name if place < len(self._order) else ""


def follow(channels: Sequence[Channel], csv: str, version: str | None) -> UpdatePath:
    """Return the path from an installed version; from none (`csv` empty) it is the head.

    `version` None: not known, so that skip ranges count for nothing; NO_VERSION for a ClusterServiceVersion that states none.
    `channels`: that of the Subscription; where it names none, all of the package, the default one first.
    """
    if not all(channel.head for channel in channels):
        return UpdatePath(obstacle=Obstacle.GRAPH)
    heads = {channel.head for channel in channels}
    longest = min(channel.longest for channel in channels)
    steps: dict[str, None] = {}
    name, at = csv, try_parse(version or "")
    while True:
        found = next(((to, channel) for channel in channels if (to := channel.next(name, at))), None)
        if found is None or found[0] == name:
            break
        if found[0] == csv or found[0] in steps:
            return UpdatePath(tuple(steps), Obstacle.CYCLE)
        if len(steps) >= longest:
            return UpdatePath(tuple(steps), Obstacle.UNKNOWN)
        name, at = found[0], found[1].version(found[0])
        steps[name] = None
    if name in heads:
        return UpdatePath(tuple(steps))
    top = channels[0].version(channels[0].head)
    ahead = not steps and at is not None and top is not None and at.key > top.key
    return UpdatePath(tuple(steps), Obstacle.AHEAD if ahead else Obstacle.PATH)


class CarriedPaths:
    """The paths through one carried catalog of an inventory, on a release of OpenShift; each channel is sorted once."""

    def __init__(self, catalog: CatalogRecord, release: tuple[int, int] | None = None) -> None:
        self._release = release
        self._known = catalog.update_graph
        self._packages = {package.name: package for package in catalog.packages}
        self._channels: dict[tuple[str, str], Channel] = {}

    def find(self, package: str, channel: str, csv: str, version: str | None) -> UpdatePath:
        """Return the path of an installed operator; `channel` empty: its Subscription names none."""
        carried = self._packages.get(package)
        if carried is None:
            return UpdatePath(obstacle=Obstacle.PACKAGE)
        followed = _followed(carried, channel)
        if not followed:
            return UpdatePath(obstacle=Obstacle.CHANNEL)
        if not self._known:
            at_head = any(record.head == csv for record in followed)
            return UpdatePath(obstacle=None if at_head else Obstacle.UNKNOWN)
        return follow([self._channel(package, record) for record in followed], csv, version)

    def _channel(self, package: str, record: ChannelRecord) -> Channel:
        key = (package, record.name)
        if key not in self._channels:
            self._channels[key] = Channel.of(record, self._release)
        return self._channels[key]


def _followed(package: PackageRecord, channel: str) -> list[ChannelRecord]:
    """Return the channels that a Subscription follows, in OLM's order: the default one, then by name."""
    found = [record for record in package.channels if channel in ("", record.name)]
    return sorted(found, key=lambda record: (record.name != package.default_channel, record.name))


def is_early(release: tuple[int, int] | None) -> bool:
    """Return whether OLM of a release of OpenShift takes skipped entries too, and the skip range of the head alone.

    So it was before operator-framework/operator-lifecycle-manager#1652 (pkg/controller/registry/resolver/querier.go,
    FindReplacement; operator-framework/operator-registry, pkg/sqlite/query.go, GetBundleThatReplaces).
    """
    return release is not None and release < _RESOLVER


def _sorted(entries: Sequence[Entry], *, skipped_too: bool) -> list[Entry]:
    """Return the chain of `replaces` from the head without skipped entries (sortChannel); nothing for an invalid graph."""
    nodes = {entry.name: entry for entry in entries}
    skipped = {name for entry in entries for name in entry.skips}
    pointed_at = skipped | {entry.replaces for entry in entries}
    heads = [name for name in nodes if name not in pointed_at]
    if len(heads) != 1:
        return []
    chain: dict[str, Entry] = {}
    name = heads[0]
    while name in nodes:
        if name in chain:
            return []
        chain[name] = nodes[name]
        name = nodes[name].replaces
    if skipped_too:
        return list((chain | nodes).values())  # the chain first
    return [entry for entry in chain.values() if entry.name not in skipped]


def _parsed(text: str) -> OlmRange | None:
    try:
        return OlmRange.parse(text)
    except ValueError:
        return None
