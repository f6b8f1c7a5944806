"""Installed operators of a target profile in a catalog: their paths, and the requests that select them. Pure.

`--installed` adds to the request for each catalog the packages that the profile has installed: the channel of each
Subscription, from the installed version to the head. Rules: docs/reference/selection.md, *What is installed*.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

import msgspec

from common.olm.update_path import Channel, Obstacle, UpdatePath, follow
from common.text import enumeration, shortened
from common.version import Key, Version, try_parse
from exporter.imageset.model import ChannelRequest, PackageRequest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from common.target_profile import InstalledOperator
    from exporter.catalog.model import Catalog, Package
    from exporter.imageset.model import OperatorRequest


_SHOWN = 10  # operators that a note names
_MAX_NOTES = 50
Ranged = TypeVar("Ranged", PackageRequest, ChannelRequest)


class PackageGraphs:
    """The update graph of one package. Each channel is sorted once, for any number of installed operators."""

    def __init__(self, package: Package, release: tuple[int, int] | None) -> None:
        self.package = package
        self._release = release
        self._versions = {bundle.name: bundle.version_text for bundle in package.bundles.values()}
        self._channels: dict[str, Channel] = {}
        self._names: dict[str, set[str]] = {}

    def path(self, operator: InstalledOperator) -> UpdatePath:
        """Return the path of an installed operator to the head of the channel that its Subscription follows."""
        package = self.package
        # A Subscription without a channel follows all of them, the default one first (OLM, getSubscriptionVariables).
        rest = sorted(name for name in package.channels if name != package.default_channel)
        names = [operator.channel] if operator.channel else [package.default_channel, *rest]
        found = [self._channel(name) for name in names if name in package.channels]
        if not found:
            return UpdatePath(obstacle=Obstacle.CHANNEL)
        return follow(found, operator.csv, operator.version)

    def names(self, channel: str) -> set[str]:
        """Return the entries of a channel."""
        if channel not in self._names:
            self._names[channel] = {entry.name for entry in self.package.channels[channel].entries}
        return self._names[channel]

    def route(self, operator: InstalledOperator) -> tuple[UpdatePath, list[str]]:
        """Return the path to carry, and its channels: without one in the Subscription the default, where that is enough."""
        if operator.channel:
            return self.path(operator), [operator.channel]
        default = self.package.default_channel
        alone = self.path(msgspec.structs.replace(operator, channel=default))
        whole = self.path(operator)
        if alone.obstacle is None or whole.obstacle is not None:
            return alone, [default]
        passed = {operator.csv, *whole.steps}
        return whole, [default, *(name for name in self.package.channels if name != default and self.names(name) & passed)]

    def lowest(self, operator: InstalledOperator, path: UpdatePath, channel: str) -> Version | None:
        """Return the lowest version of a channel to carry, of the installed one and its path; None: the head alone."""
        # The installed version is carried too, where the catalog has it: its pods may have to be pulled again.
        installed = try_parse(operator.version or "") or self.version(operator.csv)
        listed = self.names(channel)
        versions = [self.version(name) for name in path.steps if name in listed] + [installed] * (operator.csv in listed)
        return min((version for version in versions if version is not None), key=_key, default=None)

    def version(self, name: str) -> Version | None:
        """Return the version of a bundle; None where it has none."""
        return try_parse(self._versions.get(name, ""))

    def _channel(self, name: str) -> Channel:
        if name not in self._channels:
            self._channels[name] = Channel(self.package.channels[name].entries, self._versions, self._release)
        return self._channels[name]


def lowest(path: UpdatePath, whole: PackageGraphs, installed: Version) -> Version:
    """Return the lowest version of a path, with which it begins or which it passes."""
    # A rebuild that updates the installed version may sort below it (1.0.1-1 replaces 1.0.1).
    return min([installed, *(version for name in path.steps if (version := whole.version(name)))], key=_key)


def _key(version: Version) -> Key:
    return version.key


@dataclass(frozen=True, slots=True)
class Asked:
    """A catalog with its name, and the request for it."""

    name: str
    catalog: Catalog
    request: OperatorRequest


@dataclass(frozen=True, slots=True)
class Requests:
    """The requests with the installed operators, in the same order; None for one that asks for that alone, and nothing is."""

    requests: tuple[OperatorRequest | None, ...]
    notes: tuple[str, ...]


def with_installed(
    asked: Sequence[Asked], operators: Iterable[InstalledOperator], release: tuple[int, int] | None = None
) -> Requests:
    """Return the requests with the packages of operators that are installed on a release, and notes for people."""
    state = [_Additions(each, release) for each in asked]
    foreign: list[str] = []
    for operator in operators:
        having = _having(state, operator)
        if not having:
            foreign.append(f"{operator.package} ({operator.catalog or 'no catalog'})")
        for each in having:
            each.add(operator)
    requests = tuple(each.request() for each in state)
    notes = list(dict.fromkeys(note for each in state for note in each.notes))
    if foreign:
        names = enumeration(sorted(set(foreign)), _SHOWN)
        notes.append(f"installed, and in none of the catalogs that are asked for: {names}")
    return Requests(requests, tuple(shortened(notes, _MAX_NOTES)))


def _having(state: Sequence[_Additions], operator: InstalledOperator) -> Sequence[_Additions]:
    """Return the catalogs that an operator is selected from."""
    having = [each for each in state if operator.package in each.asked.catalog.packages]
    # The profile has the name of a CatalogSource. A catalog that several have is the one that this is like.
    alike = [each for each in having if _stem(each.asked.name) in operator.catalog]
    leading = [each for each in having if each.path(operator).obstacle is None]
    return alike or leading or having


def _stem(name: str) -> str:
    """Return what names of a catalog and of its CatalogSource share: redhat-operator-index is served as redhat-operators."""
    return name.removesuffix("-index").removesuffix("s")


@dataclass(slots=True)
class _Additions:
    """What installed operators add to the request for one catalog."""

    asked: Asked
    release: tuple[int, int] | None
    notes: list[str] = field(default_factory=list)
    _graphs: dict[str, PackageGraphs] = field(default_factory=dict)
    _wanted: dict[str, dict[str, Version | None]] = field(default_factory=dict)  # package → channel → minimum; None: the head

    def path(self, operator: InstalledOperator) -> UpdatePath:
        """Return the path of an operator through this catalog."""
        return self._of(operator.package).path(operator)

    def add(self, operator: InstalledOperator) -> None:
        """Add the channel that an operator follows, from the installed version on."""
        name, graphs = operator.package, self._of(operator.package)
        if self.asked.request.excluded([name]):
            self.notes.append(f"{name} is installed in {operator.namespace}, and excluded")
            return
        default = graphs.package.default_channel
        if operator.channel and operator.channel not in graphs.package.channels:
            self.notes.append(
                f"{name} follows channel {operator.channel} in {operator.namespace}, which the catalog {self.asked.name} "
                f"does not have: its default channel {default} is selected"
            )
            operator = msgspec.structs.replace(operator, channel=default)
        if (operator.channel or default) not in graphs.package.channels:
            return  # the package itself is broken
        path, channels = graphs.route(operator)
        wanted = self._wanted.setdefault(name, {})
        for channel in channels:
            low = graphs.lowest(operator, path, channel)
            before = wanted.get(channel)
            wanted[channel] = min((each for each in (low, before) if each is not None), key=_key, default=None)
        self._note(graphs, operator, path, channels)

    def _note(self, graphs: PackageGraphs, operator: InstalledOperator, path: UpdatePath, channels: Sequence[str]) -> None:
        """Add a note about an installed version that none of its channels has."""
        if path.obstacle is Obstacle.AHEAD or any(operator.csv in graphs.names(channel) for channel in channels):
            return
        lows = [low for channel in channels if (low := graphs.lowest(operator, path, channel))]
        start = f"from {min(lows, key=_key)} on" if lows else "its head alone"
        self.notes.append(
            f"{operator.package} {operator.version or operator.csv} is installed in {operator.namespace}, "
            f"and channel {channels[0]} does not have that version: {start}"
        )

    def request(self) -> OperatorRequest | None:
        """Return the request with what was added."""
        request, catalog = self.asked.request, self.asked.catalog
        if not self._wanted:
            return None if request.installed_only else request
        if request.full and not request.packages:
            return request  # everything
        packages = {one.name: one for one in request.packages}
        if not packages and not request.installed_only:
            # No packages means the heads of all; spelled out, so that some of them can have a range.
            left_out = request.excluded(catalog.packages)
            packages = {name: PackageRequest(name) for name in catalog.packages if name not in left_out}
        for name, channels in self._wanted.items():
            package = catalog.packages[name]
            packages[name] = _merged(package, packages.get(name), channels, full=request.full, notes=self.notes)
        return replace(request, packages=tuple(packages.values()), installed_only=False)

    def _of(self, package: str) -> PackageGraphs:
        if package not in self._graphs:
            self._graphs[package] = PackageGraphs(self.asked.catalog.packages[package], self.release)
        return self._graphs[package]


def _merged(
    package: Package,
    before: PackageRequest | None,
    wanted: Mapping[str, Version | None],
    *,
    full: bool,
    notes: list[str],
) -> PackageRequest:
    """Return the request for a package with the channels of installed operators, from their versions on."""
    lows: dict[str, Version | None] = dict.fromkeys(wanted) if full else dict(wanted)
    if before is None:
        channels = {name: ChannelRequest(name, _text(low)) for name, low in lows.items()}
        return _with_channels(package, PackageRequest(package.name), channels)
    one = _without_bundle(package, before)
    if not one.channels and full:
        return one  # every channel
    if not one.bounds.open:  # a range of the package is that of all its channels
        for low in lows.values():
            one = _widened(one, low, one.name, notes)
        named = {each.name: each for each in one.channels}
        added = {name: ChannelRequest(name) for name in lows if named and name not in named}
        return _with_channels(package, one, named | added)
    channels = {each.name: each for each in one.channels or map(ChannelRequest, package.channels)}
    for name, low in lows.items():
        each = _without_bundle(package, channels.get(name, ChannelRequest(name)))
        channels[name] = _widened(each, low, f"{one.name}, channel {name}", notes)
    return _with_channels(package, one, channels)


def _with_channels(package: Package, one: PackageRequest, channels: Mapping[str, ChannelRequest]) -> PackageRequest:
    default = package.default_channel
    # Several channels without the default one are an error of an image set; here the site has chosen them.
    if len(channels) > 1 and not one.default_channel and default in package.channels and default not in channels:
        channels = {**channels, default: ChannelRequest(default)}
    return replace(one, channels=tuple(channels.values()))


def _without_bundle(package: Package, one: Ranged) -> Ranged:
    """Return the request with the version of `minBundle` of v1alpha2 as the minimum, where the bundle is known."""
    bundle = package.bundles.get(one.min_bundle) if one.min_bundle else None
    return replace(one, min_version=str(bundle.version), min_bundle="") if bundle and bundle.version else one


def _widened(one: Ranged, low: Version | None, what: str, notes: list[str]) -> Ranged:
    """Return the request with a range that has a version in it."""
    if low is None or one.min_bundle:
        return one
    if one.bounds.open or one.bounds.below(low):
        return replace(one, min_version=str(low))
    if one.bounds.above(low):
        notes.append(f"{what}: {low} is installed, so maxVersion {one.max_version} is raised to it")
        return replace(one, max_version=str(low))
    return one


def _text(version: Version | None) -> str:
    return str(version) if version is not None else ""
