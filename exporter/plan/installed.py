"""Installed operators of a target profile that a selection would leave without a way to the head of their channel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from common.archive.inventory import Problem, ProblemCode
from common.update_path import Channel, Obstacle, UpdatePath, follow
from common.version import Key, Version, try_parse

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from common.target_profile import InstalledOperator, TargetProfile
    from exporter.catalog.model import Catalog, Package
    from exporter.catalog.steps import Chosen


Offered = tuple["Catalog", "Catalog"]  # a whole catalog, and the kept part
# A graph too large to follow is no reason for a warning, nor are skip ranges that lead back from the head: debezium-operator
# 2.7.3 of the community catalog has such an entry below it, and nothing that could be carried changes that.
_UPDATABLE = (None, Obstacle.UNKNOWN, Obstacle.CYCLE)


class PackageGraphs:
    """The update graph of one package. Each channel is sorted once, for any number of installed operators."""

    def __init__(self, package: Package) -> None:
        self.package = package
        self._versions = {bundle.name: bundle.version_text for bundle in package.bundles.values()}
        self._channels: dict[str, Channel] = {}

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

    def version(self, name: str) -> Version | None:
        """Return the version of a bundle; None where it has none."""
        return try_parse(self._versions.get(name, ""))

    def _channel(self, name: str) -> Channel:
        if name not in self._channels:
            self._channels[name] = Channel(self.package.channels[name].entries, self._versions)
        return self._channels[name]


class _Both:
    """The graphs of a whole catalog and of its kept part."""

    def __init__(self, offered: Offered) -> None:
        self._catalogs = offered
        self._known: dict[tuple[bool, str], PackageGraphs] = {}

    def whole(self, package: str) -> PackageGraphs | None:
        """Return the package of the catalog; None when it has none of that name."""
        return self._graphs(package, kept=False)

    def kept(self, package: str) -> PackageGraphs | None:
        """Return the kept part of the package."""
        return self._graphs(package, kept=True)

    def _graphs(self, name: str, *, kept: bool) -> PackageGraphs | None:
        package = self._catalogs[kept].packages.get(name)
        if package is None:
            return None
        if (kept, name) not in self._known:
            self._known[kept, name] = PackageGraphs(package)
        return self._known[kept, name]


def stranded(offered: Iterable[Offered], operators: Iterable[InstalledOperator]) -> list[Problem]:
    """Return a warning for each installed operator of a catalog that its kept part cannot update."""
    # Operators that none of the catalogs has come from other catalogs of the cluster.
    catalogs = [_Both(each) for each in offered]
    return [problem for operator in operators for problem in _problems(catalogs, operator)]


def left_behind(chosen: Iterable[Chosen], target: TargetProfile | None) -> list[Problem]:
    """Return a warning for each operator of the target cluster that could not be updated from the selections."""
    operators = target.operators if target else None
    return stranded([(item.opened.catalog, item.selection.catalog) for item in chosen], operators or ())


def _problems(catalogs: Iterable[_Both], operator: InstalledOperator) -> Iterator[Problem]:
    reasons = [
        _reason(whole, each.kept(operator.package), operator) for each in catalogs if (whole := each.whole(operator.package))
    ]
    # One catalog with an update is enough: its package may be in several.
    if reasons and all(reasons):
        version = f" {operator.version}" if operator.version else f" ({operator.csv})"
        message = f"{operator.package}{version} is installed in {operator.namespace}, and {reasons[0]}"
        yield Problem("warning", ProblemCode.OPERATOR_STRANDED, operator.package, message)


def _reason(whole: PackageGraphs, kept: PackageGraphs | None, operator: InstalledOperator) -> str:
    """Return why an operator cannot be updated, and what to add; empty when it can."""
    if kept is None:
        return "its package is not carried: add it"
    name = operator.channel or kept.package.default_channel
    path = kept.path(operator)
    if path.obstacle in _UPDATABLE:
        return ""
    if path.obstacle is Obstacle.CHANNEL:
        there = (
            "add it" if name in whole.package.channels else "the catalog no longer has it: choose another in its Subscription"
        )
        return f"channel {name}, which it follows, is not carried: {there}"
    before = whole.path(operator)
    if before.obstacle in _UPDATABLE:
        wanted = _wanted(path, before, whole, operator)
        return f"no version of channel {name} that is carried updates it: {wanted}"
    return _lost(before, whole, name)


def _lost(path: UpdatePath, whole: PackageGraphs, channel: str) -> str:
    """Return why the catalog itself does not lead an operator to the head."""
    if path.obstacle is Obstacle.AHEAD:
        return f"channel {channel} has no update for it: it is newer than its head"
    if path.steps:
        return f"channel {channel} leads it to {whole.version(path.steps[-1]) or path.steps[-1]}, which has no update itself"
    return f"channel {channel} has no update for it: its publisher has removed the way to the head"


def _wanted(kept: UpdatePath, path: UpdatePath, whole: PackageGraphs, operator: InstalledOperator) -> str:
    """Return the range to request, so that the kept part has the path of the whole catalog."""
    installed = try_parse(operator.version or "")
    if installed is None:
        return "add all its versions"
    if kept.obstacle is Obstacle.AHEAD:
        return f"raise maxVersion to {installed}"
    return f"add minVersion {lowest(path, whole, installed)}"


def lowest(path: UpdatePath, whole: PackageGraphs, installed: Version) -> Version:
    """Return the lowest version of a path, with which it begins or which it passes."""
    # A rebuild that updates the installed version may sort below it (1.0.1-1 replaces 1.0.1).
    return min([installed, *(version for name in path.steps if (version := whole.version(name)))], key=_key)


def _key(version: Version) -> Key:
    return version.key
