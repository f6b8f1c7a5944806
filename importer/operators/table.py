"""The table of operators: what an import does to each operator of a cluster. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from common.olm.update_path import NO_VERSION, Obstacle, UpdatePath
from common.openshift.supported_releases import below
from common.text import enumeration
from common.version import try_parse
from importer.operators.constraint import Constraint
from importer.operators.installed import SUCCEEDED
from importer.operators.successors import Allowed, Bundles, Followed, follow

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from importer.operators.installed import Extension, Installed, Subscribed
    from importer.operators.outlook import Offering, Outlook

SUBSCRIPTION, CLUSTER_EXTENSION = "Subscription", "ClusterExtension"
MANUAL = "Manual"
_UPDATE = "Update the cluster first, or export the newest version that it can run (maxVersion in the image set)."
_SHOWN = 5  # catalogs named in a reason
_ANY_CATALOG = "(any)"  # a ClusterExtension takes its package from every ClusterCatalog that has it


class Result(StrEnum):
    """What becomes of an operator."""

    UNCHANGED = "unchanged"
    UPDATES = "updates-now"
    WAITS = "waits-for-approval"
    STRANDED = "stranded"
    ORPHANED = "orphaned"
    UNRESOLVED = "unresolved"
    UNKNOWN = "unknown"

    @property
    def text(self) -> str:
        """The result for people."""
        return self.value.replace("-", " ")


@dataclass(frozen=True, slots=True)
class Row:
    """One operator. `installed`: its ClusterServiceVersion or bundle; `version` and `phase` are of it, empty if not known.

    `plan`: an InstallPlan that is not complete. `catalog_then` None: it has none. `head`: of its channel, as carried.
    `path`: the versions that OLM installs one after another; None: not known. `well`: whether it works now.
    `versions`: those that a ClusterExtension allows, as text; empty: all. `remedy`: what helps where an export does not.
    """

    kind: str
    operator: str
    namespace: str
    name: str
    installed: str
    version: str
    phase: str
    plan: str
    approval: str
    catalog_now: str
    catalog_then: str | None
    channel: str
    head: str
    path: tuple[str, ...] | None
    result: Result
    reason: str = ""
    obstacle: Obstacle | None = None
    well: bool = False
    versions: str = ""
    remedy: str = ""

    @property
    def subject(self) -> str:
        """The object, as findings name it."""
        return f"{self.kind} {self.namespace}/{self.name}" if self.kind == SUBSCRIPTION else f"{self.kind} {self.name}"


def make(seen: Installed, outlook: Outlook) -> list[Row]:
    """Return the table: Subscriptions by namespace and name, then ClusterExtensions."""
    by_namespace: dict[str, list[Subscribed]] = {}
    for one in sorted(seen.subscriptions, key=lambda each: (each.namespace, each.name)):
        by_namespace.setdefault(one.namespace, []).append(one)
    rows = [row for group in by_namespace.values() for row in _together(seen, outlook, group)]
    return rows + [_extension(one, seen, outlook) for one in sorted(seen.extensions, key=lambda each: each.name)]


# Subscriptions. OLM resolves those of a namespace together, and makes one InstallPlan for all of their updates
# (operator-lifecycle-manager, pkg/controller/operators/catalog/operator.go, syncResolvingNamespace).


def _together(seen: Installed, outlook: Outlook, group: Sequence[Subscribed]) -> list[Row]:
    """Return the rows of one namespace, with what its Subscriptions do to each other."""
    changed = any(map(outlook.changes, group)) or (bool(outlook.going) and any(one.unreachable for one in group))
    rows = [_subscription(one, seen, outlook, changed=changed) for one in group]
    blocking = next((row for row in rows if _blocks(row)), None)
    approving = next((one for one in group if one.approval == MANUAL), None)
    return [_held(row, blocking, approving) for row in rows]


def _blocks(row: Row) -> bool:
    """Return whether OLM resolves no Subscription of the namespace because of this one (operator-lifecycle-manager#3162)."""
    lost = row.obstacle in (Obstacle.PACKAGE, Obstacle.CHANNEL, Obstacle.GRAPH, Obstacle.START)
    return row.result in (Result.ORPHANED, Result.UNRESOLVED) or (row.result is Result.STRANDED and lost)


def _held(row: Row, blocking: Row | None, approving: Subscribed | None) -> Row:
    if row.result not in (Result.UPDATES, Result.WAITS) or (row.result is Result.WAITS and row.plan):
        return row
    if blocking is not None:
        return replace(row, result=Result.UNRESOLVED, reason=f"{blocking.subject} of its namespace is {blocking.result.text}")
    if row.result is Result.UPDATES and approving is not None and row.approval != MANUAL:
        why = f"{SUBSCRIPTION} {approving.name} of its namespace has manual approval"
        return replace(row, result=Result.WAITS, reason=why)
    return row


def _subscription(one: Subscribed, seen: Installed, outlook: Outlook, *, changed: bool) -> Row:
    csv, then = seen.csv(one), outlook.source_of(one)
    offering = outlook.offering(then)
    channel = offering.channel(one.package, one.channel) if offering is not None else None
    phase = csv.phase if csv is not None else ""
    row = Row(
        SUBSCRIPTION,
        one.package,
        one.namespace,
        one.name,
        one.installed,
        csv.version if csv is not None else "",
        phase,
        one.plan,
        one.approval,
        _shown(one.source, outlook),
        None if outlook.lacks(then) else _shown(then, outlook),
        one.channel,
        channel.head if channel is not None else "",
        None,
        Result.UNCHANGED,
        well=phase == SUCCEEDED and not (one.unresolved or one.plan_failure),
    )
    if row.catalog_then is None:
        why = "is a default source, which is removed" if then in outlook.going else "does not exist"
        return replace(row, result=Result.ORPHANED, reason=f"CatalogSource {_shown(then, outlook)} {why}")
    if one.plan_failure:
        return replace(row, result=Result.UNRESOLVED, reason=one.plan_failure)
    if one.unresolved and not changed:
        return replace(row, result=Result.UNRESOLVED, reason=one.unresolved)
    if offering is None:
        return _untouched(row, one)
    followed = _followed(row, one, offering, seen)
    why = below(channel.min_kube_version, outlook.kubernetes) if channel is not None and followed.path else ""
    if not why or followed.result not in (Result.UPDATES, Result.WAITS):
        return followed
    # The resolver does not compare it: the new ClusterServiceVersion stays Pending, and the present one is never replaced
    # (operator-lifecycle-manager, pkg/controller/operators/olm/requirements.go, minKubeVersionStatus).
    why = f"OLM does not install {row.head}, which {why}"
    return replace(followed, result=Result.STRANDED, reason=why, remedy=_UPDATE)


def _shown(source: tuple[str, str], outlook: Outlook) -> str:
    return source[1] if source[0] == outlook.namespace else "/".join(source)


def _untouched(row: Row, one: Subscribed) -> Row:
    """Return the row of an operator whose catalog the import does not write."""
    if one.needs_approval:
        return replace(row, path=(one.current,), result=Result.WAITS, reason=f"InstallPlan {one.plan} waits for approval")
    return row


def _followed(row: Row, one: Subscribed, offering: Offering, seen: Installed) -> Row:
    """Return the row of an operator whose catalog is carried."""
    path = _path(one, offering, seen)
    if path.obstacle is Obstacle.UNKNOWN and one.needs_approval:
        return _untouched(row, one)
    row = _judged(row, path, one.starting)
    if row.result is not Result.UPDATES:
        return row
    if one.needs_approval:
        return replace(row, result=Result.WAITS, reason=f"InstallPlan {one.plan} waits for approval")
    return replace(row, result=Result.WAITS) if one.approval == MANUAL else row


def _path(one: Subscribed, offering: Offering, seen: Installed) -> UpdatePath:
    """Return the path of a Subscription: from what is installed, what an InstallPlan installs, or what it starts with."""
    versions = {
        entry.name: entry.version for channel in offering.channels(one.package, one.channel) for entry in channel.bundles
    }
    # OLM does not revise an InstallPlan; the resolver continues from what that installs.
    begun = one.current if one.current != one.installed else ""
    if not one.installed and not begun:
        begun = one.starting
    if not begun:
        csv = seen.csv(one)
        version = csv.version or NO_VERSION if csv is not None else versions.get(one.installed)
        return _unless_unread(offering.paths.find(one.package, one.channel, one.installed, version), one, version)
    found = offering.paths.find(one.package, one.channel, begun, versions.get(begun))
    if found.obstacle in (Obstacle.PACKAGE, Obstacle.CHANNEL, Obstacle.GRAPH, Obstacle.UNKNOWN):
        return found
    if offering.record.update_graph and begun not in versions:
        # One that OLM has not begun with is an error of its resolver (getSubscriptionVariables), and so is a missing channel.
        return UpdatePath(obstacle=Obstacle.PATH if one.current else Obstacle.START)
    return UpdatePath((begun, *found.steps), found.obstacle)


def _unless_unread(path: UpdatePath, one: Subscribed, version: str | None) -> UpdatePath:
    """Return a path; unknown where only the version, which may not be read, would show a way."""
    unread = bool(one.installed) and version is None
    return UpdatePath(obstacle=Obstacle.UNKNOWN) if unread and path.obstacle is Obstacle.PATH else path


_REASONS = {
    Obstacle.PACKAGE: "the catalog does not have the package",
    Obstacle.CHANNEL: "the catalog does not have channel {channel}",
    Obstacle.START: "the channel does not have its startingCSV, {start}",
    Obstacle.PATH: "no entry of the channel updates {last}",
    Obstacle.CYCLE: "the updates of the channel lead back to {last}",
    Obstacle.GRAPH: "the channel has no head, or several",
    Obstacle.AHEAD: "newer than the head of the channel, {head}",
    Obstacle.UNKNOWN: "the update graph of the catalog, or the installed version, is not known",
}


def _judged(row: Row, path: UpdatePath, start: str = "") -> Row:
    """Return a row with the result of its path. `start`: the startingCSV of its Subscription."""
    if path.obstacle is None:
        return replace(row, path=path.steps, result=Result.UPDATES if path.steps else Result.UNCHANGED)
    last = path.steps[-1] if path.steps else row.installed or "what it starts with"
    reason = _REASONS[path.obstacle].format(channel=row.channel, last=last, head=row.head, start=start)
    if path.obstacle is Obstacle.UNKNOWN:
        return replace(row, result=Result.UNKNOWN, reason=reason, obstacle=path.obstacle)
    # Of an older archive: the operator stays as it is until a later one has its version.
    result = Result.UNCHANGED if path.obstacle is Obstacle.AHEAD else Result.STRANDED
    return replace(row, path=path.steps, result=result, reason=reason, obstacle=path.obstacle)


# ClusterExtensions. OLM v1 takes the successors of the installed bundle from every ClusterCatalog that it may use
# (operator-controller, internal/operator-controller/resolve/catalog.go).


def _extension(one: Extension, seen: Installed, outlook: Outlook) -> Row:
    shown = ", ".join(one.catalogs or ()) or _ANY_CATALOG
    row = Row(
        CLUSTER_EXTENSION,
        one.package,
        one.namespace,
        one.name,
        one.installed,
        one.version,
        "",
        "",
        "Automatic",
        shown,
        shown,
        ", ".join(one.channels),
        "",
        None,
        Result.UNKNOWN,
        well=one.healthy,
        versions=one.wanted,
        # probe lists Subscriptions alone (ADR 0016), so that `create --target` does not know this one.
        remedy=f"Export package {one.package} {f'with minVersion {one.version}' if one.version else 'too'}.",
    )
    if one.catalogs is None:
        return replace(row, reason="its selector of catalogs is not followed")
    carrying = [
        each for each in outlook.offerings if each.in_olm_v1 and _may_use(one, each.source[1]) and one.package in each.packages
    ]
    if not carrying:
        return _not_carried(row, one, seen, outlook)
    if not all(each.record.update_graph for each in carrying):
        return _by_heads(row, one, carrying)
    return _successors(row, one, carrying, seen.cluster_catalogs or {})


def _may_use(one: Extension, catalog: str) -> bool:
    return not one.catalogs or catalog in one.catalogs


def _not_carried(row: Row, one: Extension, seen: Installed, outlook: Outlook) -> Row:
    """Return the row of an operator that no catalog of hub-import has."""
    if seen.cluster_catalogs is None:
        return replace(row, reason="which ClusterCatalogs there are may not be read")
    written = {each.source[1] for each in outlook.offerings}
    present = [name for name in sorted(seen.cluster_catalogs) if _may_use(one, name) and name not in written]
    if others := [name for name in present if name not in outlook.switched_off]:
        why = f"its package may be in ClusterCatalog {enumeration(others, _SHOWN)}, whose content is not known here"
        return replace(row, result=Result.UNCHANGED, reason=why)
    row = _judged(row, UpdatePath(obstacle=Obstacle.PACKAGE))
    if one.catalogs and present:
        why = f"ClusterCatalog {', '.join(present)} is a default one, which is made unavailable"
        remedy = "Let spec.source.catalog.selector of the ClusterExtension name a catalog of the archive that has it."
        return replace(row, reason=why, remedy=remedy)
    return row


def _by_heads(row: Row, one: Extension, carrying: Iterable[Offering]) -> Row:
    """Return the row of an operator of catalogs without an update graph: whether it has the head of a channel."""
    channels = [
        channel
        for each in carrying
        for package in each.record.packages
        for channel in package.channels
        if package.name == one.package and (not one.channels or channel.name in one.channels)
    ]
    if not channels:
        return _judged(row, UpdatePath(obstacle=Obstacle.CHANNEL))
    pinned = bool(one.version) and one.wanted.lstrip("=v ") == one.version
    at_head = pinned or any(channel.head == one.installed for channel in channels)
    return _judged(replace(row, head=channels[0].head), UpdatePath(obstacle=None if at_head else Obstacle.UNKNOWN))


def _successors(row: Row, one: Extension, carrying: Sequence[Offering], priorities: Mapping[str, int]) -> Row:
    """Return the row of an operator whose catalogs have an update graph."""
    version = try_parse(one.version)
    if one.installed and version is None:
        return _judged(row, UpdatePath(obstacle=Obstacle.UNKNOWN))
    try:
        # Which of two rules for prereleases a release has is not known: where they differ, nothing is concluded.
        constraints = [Constraint.parse(one.wanted, together=each) for each in (True, False)] if one.wanted else [None]
    except ValueError as error:
        return replace(row, reason=f"spec.source.catalog.version is {error}")
    ways = set()
    for constraint in constraints:
        allowed = Allowed(one.channels, constraint, one.any_edge)
        catalogs = [
            Bundles(each.source[1], priorities.get(each.source[1], 0), package, allowed)
            for each in carrying
            for package in each.record.packages
            if package.name == one.package
        ]
        if not any(each.has_channel for each in catalogs):
            return _judged(row, UpdatePath(obstacle=Obstacle.CHANNEL))
        ways.add(follow(catalogs, one.installed, version))
    if len(ways) > 1:
        return replace(
            row, reason=f"prereleases and spec.source.catalog.version {one.wanted}: it depends on the release of OLM v1"
        )
    return _followed_v1(row, ways.pop())


def _followed_v1(row: Row, way: Followed) -> Row:
    row = _judged(replace(row, head=way.head), way.path)
    if way.ambiguous:
        why = f"ClusterCatalogs {', '.join(way.ambiguous)} have it with the same priority, so that OLM v1 takes none"
        remedy = "Let spec.source.catalog.selector of the ClusterExtension name one of them."
        return replace(row, reason=why, remedy=remedy)
    return replace(row, reason=way.reason or row.reason)
