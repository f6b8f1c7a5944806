"""Problems of a selection on its cluster: packages that its release does not support, and operators without an update."""

from __future__ import annotations

from typing import TYPE_CHECKING

from common.archive.inventory import Problem, ProblemCode
from common.olm.update_path import Obstacle
from common.openshift import supported_releases
from common.text import enumeration
from common.version import try_parse
from exporter.catalog.installed import PackageGraphs, lowest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from common.archive.inventory import PackageRecord
    from common.olm.update_path import UpdatePath
    from common.target_profile import InstalledOperator, TargetProfile
    from exporter.catalog.model import Catalog
    from exporter.catalog.steps import Chosen


_SHOWN = 5  # channels that a reason names
Release = tuple[int, int] | None
Offered = tuple["Catalog", "Catalog"]  # a whole catalog, and the kept part
# A graph too large to follow is no reason for a warning, nor are skip ranges that lead back from the head: debezium-operator
# 2.7.3 of the community catalog has such an entry below it, and nothing that could be carried changes that.
_UPDATABLE = (None, Obstacle.UNKNOWN, Obstacle.CYCLE)


class _Both:
    """The graphs of a whole catalog and of its kept part."""

    def __init__(self, offered: Offered, release: Release) -> None:
        self._catalogs = offered
        self._release = release
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
            self._known[kept, name] = PackageGraphs(package, self._release)
        return self._known[kept, name]


def stranded(offered: Iterable[Offered], operators: Iterable[InstalledOperator], release: Release = None) -> list[Problem]:
    """Return a warning for each operator installed on a release, of a catalog whose kept part cannot update it."""
    # Operators that none of the catalogs has come from other catalogs of the cluster.
    catalogs = [_Both(each, release) for each in offered]
    return [problem for operator in operators for problem in _problems(catalogs, operator)]


def left_behind(chosen: Iterable[Chosen], target: TargetProfile | None) -> list[Problem]:
    """Return a warning for each operator of the target cluster that could not be updated from the selections."""
    if target is None or not target.operators:
        return []
    offered = [(item.opened.catalog, item.selection.catalog) for item in chosen]
    return stranded(offered, target.operators, target.minor_release)


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
    name = operator.channel or whole.package.default_channel
    gone = f"channel {name}, which it follows, is not carried: the catalog no longer has it: choose another in its Subscription"
    if kept is None:
        return "its package is not carried: add it" if name in whole.package.channels else gone
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
        missing = [each for each in whole.route(operator)[1] if each not in kept.package.channels]
        if missing:  # of a Subscription without a channel, which follows all of them
            others = enumeration(missing, _SHOWN)
            return (
                f"its Subscription names no channel, and channel {name} does not update it: add channel {others}, and {wanted}"
            )
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


def unsupported(packages: Iterable[PackageRecord], release: tuple[int, int] | None) -> list[Problem]:
    """Return a warning for each package with heads that are not for the release of the cluster."""
    found = supported_releases.unsupported(packages, release) if release is not None else ()
    return [Problem("warning", ProblemCode.RELEASE_UNSUPPORTED, name, message) for name, message in found]
