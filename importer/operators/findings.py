"""Findings of the preflight about the operators that a cluster has. Pure.

A Subscription without its CatalogSource gets no updates, and OLM resolves no Subscription of its namespace any more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from common.olm.catalog_names import packages_of_several, release_of_tag
from common.text import counted, shortened
from importer.cluster.finding import Finding, Severity
from importer.operators.keeping import repoint
from importer.operators.table import Result

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from importer.cluster.resources.names import ServedCatalog
    from importer.operators.installed import Installed, SourceKey, Subscribed
    from importer.operators.outlook import Offering, Outlook
    from importer.operators.table import Row

ORPHANED = "subscription-orphaned"
STRANDED = "operator-stranded"
RENAMED = "catalog-renamed"
KEPT = "catalog-takes-default-name"
_EXPORT = "Export it with the versions in between: hub-export create --target, with a profile of probe."
_SHOWN = 10  # packages named in one finding


@dataclass(frozen=True, slots=True)
class Allowed:
    """The operators (packages) that may lose their catalog, and those that may lose their way to a head."""

    orphaned: Collection[str] = ()
    stranded: Collection[str] = ()


def findings(seen: Installed, outlook: Outlook, rows: Sequence[Row], allowed: Allowed) -> Iterator[Finding]:
    """Yield errors for operators that lose their catalog or their way; warnings for those that may, and about names."""
    if seen.refused:
        yield _unseen(seen.refused, seen.hidden)
    if seen.extensions_refused:
        yield _extensions_unseen(seen.extensions_refused)
    yield from _kept(outlook, seen.subscriptions)
    yield from _renamed(outlook, seen.subscriptions, all_seen=not seen.refused)
    yield from _shared_packages(outlook)
    losing_by_source: dict[SourceKey, list[Subscribed]] = {}
    for one in sorted(seen.subscriptions, key=lambda each: (each.source, each.namespace, each.name)):
        if outlook.lacks(outlook.source_of(one)):
            losing_by_source.setdefault(outlook.source_of(one), []).append(one)
    fixes = _Fixes(outlook)
    # The largest first: a catalog can take the name of one missing source only, and that keeps the most Subscriptions.
    for source, losing in sorted(losing_by_source.items(), key=lambda each: (-len(each[1]), each[0])):
        yield from _orphaned(source, losing, allowed, goes=source in outlook.going, fix=fixes.of(source, losing))
    yield from _stranded(rows, allowed)


def _kept(outlook: Outlook, subscribed: Sequence[Subscribed]) -> Iterator[Finding]:
    """Yield a warning for each catalog that takes the name of a default source, so that Subscriptions keep a catalog."""
    for each in outlook.offerings:
        if each.source in outlook.kept:
            using = sorted(str(one) for one in subscribed if one.source == each.source)
            yield Finding(
                KEPT,
                f"CatalogSource {'/'.join(each.source)}",
                f"catalog {each.catalog} takes the name of this default source, which Subscriptions name",
                tuple(shortened(using, _SHOWN)),
                f"Nothing, or choose another name: --catalog-name {each.catalog}=NAME.",
                severity=Severity.WARNING,
            )


def _stranded(rows: Iterable[Row], allowed: Allowed) -> Iterator[Finding]:
    for row in rows:
        if row.result is Result.STRANDED:
            may = row.operator in allowed.stranded
            accept = "Allowed by --allow-stranded." if may else f"Or leave it as it is: --allow-stranded {row.operator}."
            yield Finding(
                STRANDED,
                row.subject,
                f"the import has no way from the installed version to the head of the channel: {row.reason}",
                (f"operator {row.operator}, installed {row.installed or 'nothing'}, catalog {row.catalog_then}",),
                f"{row.remedy or _EXPORT} {accept}",
                severity=Severity.WARNING if may else Severity.ERROR,
            )


def _renamed(outlook: Outlook, subscribed: Iterable[Subscribed], *, all_seen: bool) -> Iterator[Finding]:
    """Yield a warning for each CatalogSource of an earlier import whose catalog gets another name, or none, in this one."""
    names = {each.source[1]: each for each in outlook.offerings}
    by_text = {str(each.identity): each for each in outlook.offerings}
    using: dict[SourceKey, list[Subscribed]] = {}
    for one in subscribed:
        using.setdefault(one.source, []).append(one)
    for each in outlook.served:
        here, taken, moved = (outlook.namespace, each.name), names.get(each.name), by_text.get(each.catalog)
        users = using.get(here, [])
        same = [one for one in outlook.offerings if each.is_of(one.identity.path)]
        if taken is not None and moved is not None and moved is not taken:
            cause = f"this import gives it {taken.identity}; {moved.identity} is {moved.source[1]}"
            yield _name_changed(here, cause, users, moved, "")
        elif taken is None and same and (moved is not None or users):
            wanted = {one.package for one in users}
            best = moved or max(same, key=lambda one: (len(wanted & one.packages), one.source))
            cause = f"this import does not update it: {best.identity} is {best.source[1]}"
            # A CatalogSource that is left behind offers its packages a second time.
            unused = f"Nothing names it: oc delete catalogsource {each.name} -n {outlook.namespace}."
            advice = unused if all_seen and not users else _until_update(each, best)
            yield _name_changed(here, cause, users, best, advice)


def _until_update(served: ServedCatalog, offering: Offering) -> str:
    """Return what happens to a CatalogSource after an update of the cluster; empty when its catalog is of no older release."""
    before, after = (release_of_tag(tag) for tag in (served.catalog.rpartition(":")[2], offering.identity.tag))
    follows = before is not None and after is not None and before < after and served.name == offering.identity.bare
    return f"After an update of the cluster to {after[0]}.{after[1]}, apply again: it follows." if follows and after else ""


def _name_changed(here: SourceKey, cause: str, using: Sequence[Subscribed], offering: Offering, advice: str) -> Finding:
    first = next((one for one in using if one.package in offering.packages), None)
    move = f"Subscriptions that want {offering.identity}: {repoint(first, offering.source)}." if first else ""
    keep = f"To give it {offering.identity}: --catalog-name {offering.catalog}={here[1]}."
    fix = " ".join(part for part in (advice, keep, move) if part)
    return Finding(RENAMED, f"CatalogSource {'/'.join(here)}", cause, tuple(map(str, using)), fix, severity=Severity.WARNING)


def _shared_packages(outlook: Outlook) -> Iterator[Finding]:
    """Yield a warning for packages that several catalogs of the import have, or one of an earlier import too."""
    offered = {each.name: each.packages for each in outlook.served} | {
        each.source[1]: each.packages for each in outlook.offerings
    }
    new = {each.source[1] for each in outlook.offerings}
    for names, packages in packages_of_several(offered.items()):
        if new.isdisjoint(names):
            continue
        yield Finding(
            "package-in-two-catalogs",
            f"CatalogSources {', '.join(names)}",
            f"they have the same {counted(len(packages), 'package')}: a PackageManifest of such a name is that of any of them",
            tuple(shortened(packages, _SHOWN)),
            "Select by the label: oc get packagemanifest -l catalog=NAME. Subscriptions have their catalog in spec.source.",
            severity=Severity.WARNING,
        )


def _unseen(refused: str, where: str) -> Finding:
    return Finding(
        "subscriptions-unseen",
        "Subscriptions",
        f"those {f'of {where}' if where else 'of the cluster'} may not be listed, "
        "so that it is not known whether one of them loses its catalog",
        (refused,),
        "`hub-import render --rbac` writes the permission (list subscriptions); without it, ask which catalogs are in use.",
        severity=Severity.WARNING,
    )


def _extensions_unseen(refused: str) -> Finding:
    return Finding(
        "cluster-extensions-unseen",
        "ClusterExtensions",
        "they may not be listed, so that it is not known whether an operator of OLM v1 loses its updates",
        (refused,),
        "`hub-import render --rbac` writes the permission (list clusterextensions); without it, ask which are in use.",
        severity=Severity.WARNING,
    )


def _orphaned(source: SourceKey, losing: Sequence[Subscribed], allowed: Allowed, *, goes: bool, fix: str) -> Iterator[Finding]:
    subject = f"CatalogSource {'/'.join(source)}"
    cause = "it is a default source and is removed when they are disabled" if goes else "it does not exist"
    for may in (False, True):
        chosen = [one for one in losing if (one.package in allowed.orphaned) is may]
        if chosen:
            named = " ".join(f"--allow-orphaned {package}" for package in sorted({one.package for one in chosen}))
            accept = "Allowed by --allow-orphaned." if may else f"Or leave them without a catalog: {named}."
            severity = Severity.WARNING if may else Severity.ERROR
            message = f"{cause}, and Subscriptions name it: they would get no updates"
            yield Finding(ORPHANED, subject, message, tuple(map(str, chosen)), f"{fix} {accept}", severity=severity)


class _Fixes:
    """Advice for the Subscriptions of missing CatalogSources; each catalog can take the name of one of them."""

    def __init__(self, outlook: Outlook) -> None:
        self._outlook = outlook
        # catalog → the name that it takes without an option, or is advised to take
        self._named = {each.catalog: each.source[1] for each in outlook.offerings if each.source in outlook.kept}

    def of(self, source: SourceKey, losing: Sequence[Subscribed]) -> str:
        """Return the advice, as one or more sentences."""
        packages = {one.package for one in losing}
        carrying = [each for each in self._outlook.offerings if packages & each.packages]
        if not carrying:
            names = ", ".join(sorted(packages))
            return f"No catalog of this archive carries {names}: export that too."
        # A catalog that has no advised name yet, then the one that serves most of the operators.
        best = max(carrying, key=lambda each: (each.catalog not in self._named, len(packages & each.packages)))
        # No option gives a name in another namespace, or a second name to one catalog.
        if source[0] != self._outlook.namespace or best.catalog in self._named:
            return _repointed(losing, best, self._named.get(best.catalog, best.source[1]))
        self._named[best.catalog] = source[1]
        alone = len(self._outlook.offerings) == 1
        return f"Keep it: --catalog-name {source[1] if alone else f'{best.catalog}={source[1]}'}."


def _repointed(losing: Sequence[Subscribed], offering: Offering, name: str) -> str:
    """Return the advice to let the Subscriptions name the CatalogSource of an offering."""
    first = next(one for one in losing if one.package in offering.packages)
    return f"Let the Subscriptions name {name}: --repoint, or {repoint(first, (offering.source[0], name))}."
