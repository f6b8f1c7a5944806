"""The versions that OLM v1 installs for a ClusterExtension, one after the other. Pure.

OLM v1 has neither a chain of `replaces` nor a head. Of every entry in any channel that replaces the installed bundle,
skips it, or has its version in its skip range, and of the installed version itself, it takes those in the channels and
versions that the ClusterExtension allows, and of these the highest version, deprecated ones last
(operator-framework/operator-controller, internal/operator-controller: resolve/catalog.go, catalogmetadata/filter/successors.go
and compare/compare.go).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from common.olm.update_path import MAX_COMPARED, Obstacle, UpdatePath
from common.version import Key, OlmRange, Version, try_parse

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from common.archive.inventory import PackageRecord
    from importer.operators.constraint import Constraint


@dataclass(frozen=True, slots=True)
class Allowed:
    """What a ClusterExtension allows: channels (none: all), versions, and whether any of these may follow any other."""

    channels: Collection[str] = ()
    versions: Constraint | None = None
    any_edge: bool = False  # upgradeConstraintPolicy SelfCertified


@dataclass(frozen=True, slots=True)
class _Bundle:
    name: str
    version: Version
    channels: frozenset[str]
    deprecated: bool

    @property
    def rank(self) -> tuple[bool, Key]:
        """The order in which OLM v1 takes them: deprecated ones last, then by version."""
        return not self.deprecated, self.version.key


@dataclass(frozen=True, slots=True)
class Followed:
    """The path of a ClusterExtension, the highest version that it allows, and why there is no path, where more is known.

    `ambiguous`: the catalogs of which OLM v1 cannot choose one.
    """

    path: UpdatePath
    head: str = ""
    reason: str = ""
    ambiguous: tuple[str, ...] = ()


class Bundles:
    """The bundles of a package in one ClusterCatalog, as far as a ClusterExtension allows them."""

    def __init__(self, catalog: str, priority: int, package: PackageRecord, allowed: Allowed) -> None:
        self.catalog, self.priority = catalog, priority
        self.has_channel = not allowed.channels or any(each.name in allowed.channels for each in package.channels)
        self._any_edge = allowed.any_edge
        found = _bundles(package)
        self._allowed = {name: one for name, one in found.items() if _may_be(one, allowed)}
        self._edges = _Edges(package, self._allowed)

    @property
    def heads(self) -> dict[str, _Bundle]:
        """The highest allowed bundle of each channel."""
        heads: dict[str, _Bundle] = {}
        for one in self._allowed.values():
            for channel in one.channels:
                if channel not in heads or one.rank > heads[channel].rank:
                    heads[channel] = one
        return heads

    @property
    def cost(self) -> int:
        """The characters of skip ranges that one step compares."""
        return self._edges.cost

    def best(self, name: str, version: Version | None) -> _Bundle | None:
        """Return the bundle that is taken in place of an installed one; that itself where nothing is better."""
        if not name or version is None or self._any_edge:
            candidates: Iterable[_Bundle] = self._allowed.values()
        else:
            same = (one for one in self._allowed.values() if one.version.key == version.key)
            candidates = [*same, *(self._allowed[to] for to in self._edges.successors(name, version))]
        # Of equal versions the installed one, which OLM v1 does not replace.
        return max(candidates, key=lambda one: (one.rank, one.name == name, one.name), default=None)


def _bundles(package: PackageRecord) -> dict[str, _Bundle]:
    versions: dict[str, Version] = {}
    channels: dict[str, set[str]] = {}
    deprecated: set[str] = set()
    for channel in package.channels:
        for entry in channel.bundles:
            if entry.version is not None and (version := try_parse(entry.version)) is not None:
                versions[entry.name] = version
                channels.setdefault(entry.name, set()).add(channel.name)
                if entry.deprecated:
                    deprecated.add(entry.name)
    return {name: _Bundle(name, version, frozenset(channels[name]), name in deprecated) for name, version in versions.items()}


def _may_be(one: _Bundle, allowed: Allowed) -> bool:
    in_channel = not allowed.channels or not one.channels.isdisjoint(allowed.channels)
    return in_channel and (allowed.versions is None or allowed.versions.allows(one.version))


class _Edges:
    """Which bundles update which, in all channels: also those that the ClusterExtension does not name."""

    def __init__(self, package: PackageRecord, kept: Collection[str]) -> None:
        self._by_name: dict[str, set[str]] = {}
        ranges: dict[str, set[str]] = {}
        for channel in package.channels:
            for entry in channel.bundles:
                if entry.name in kept:
                    for name in (entry.replaces, *entry.skips):
                        self._by_name.setdefault(name, set()).add(entry.name)
                    ranges.setdefault(entry.skip_range, set()).add(entry.name)
        ranges.pop("", None)
        self.cost = 1 + sum(map(len, ranges))
        self._by_range = [(parsed, to) for text, to in ranges.items() if (parsed := _parsed(text)) is not None]

    def successors(self, name: str, version: Version) -> set[str]:
        """Return the bundles that update an installed one."""
        return self._by_name.get(name, set()).union(*(to for each, to in self._by_range if each.contains(version)))


def _parsed(text: str) -> OlmRange | None:
    try:
        return OlmRange.parse(text)
    except ValueError:
        return None


def follow(catalogs: Sequence[Bundles], installed: str, version: Version | None) -> Followed:
    """Return the path from an installed bundle; from none (`installed` empty) it is the highest version.

    A ClusterExtension is at its end where it has the highest allowed version of a channel: not every channel leads to
    the highest of all.
    """
    heads = _heads(catalogs)
    top = max(heads.values(), key=lambda one: one.rank, default=None)
    head = top.name if top is not None else ""
    longest = MAX_COMPARED // sum(each.cost for each in catalogs)
    steps: dict[str, None] = {}
    name, at = installed, version
    while True:
        found, ambiguous = _chosen(catalogs, name, at)
        if ambiguous:
            return Followed(UpdatePath(tuple(steps), Obstacle.PATH), head, ambiguous=ambiguous)
        if found is None or found.name == name:
            break
        if found.name == installed or found.name in steps:
            return Followed(UpdatePath(tuple(steps), Obstacle.CYCLE), head)
        if len(steps) >= longest:
            return Followed(UpdatePath(tuple(steps), Obstacle.UNKNOWN), head)
        name, at = found.name, found.version
        steps[name] = None
    if any(one.name == name for one in heads.values()):
        return Followed(UpdatePath(tuple(steps)), head)
    ahead = not steps and at is not None and top is not None and at.key > top.version.key
    reason = "" if heads else "no version of its channels is one that spec.source.catalog.version allows"
    return Followed(UpdatePath(tuple(steps), Obstacle.AHEAD if ahead else Obstacle.PATH), head, reason)


def _heads(catalogs: Iterable[Bundles]) -> Mapping[tuple[str, str], _Bundle]:
    return {(each.catalog, channel): one for each in catalogs for channel, one in each.heads.items()}


def _chosen(catalogs: Iterable[Bundles], name: str, version: Version | None) -> tuple[_Bundle | None, tuple[str, ...]]:
    """Return the bundle of the catalog with the highest priority; catalogs of the same priority are an error of OLM v1.

    A deprecated bundle counts only where no catalog of any priority has another one.
    """
    found = [(each, one) for each in catalogs if (one := each.best(name, version)) is not None]
    found = [(each, one) for each, one in found if not one.deprecated] or found
    highest = max((each.priority for each, _ in found), default=0)
    first = [(each, one) for each, one in found if each.priority == highest]
    if len(first) > 1:
        return None, tuple(sorted(each.catalog for each, _ in first))
    return (first[0][1] if first else None), ()
