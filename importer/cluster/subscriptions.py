"""Subscriptions whose CatalogSource is missing, or will be missing after an import. Reads only.

Such a Subscription gets no updates, and OLM resolves no Subscription of its namespace any more. Used by preflight and doctor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from common.catalog_names import packages_of_several, release_of_tag
from common.text import counted, shortened
from importer.cluster.client import Body, ClusterClient, ForbiddenError
from importer.cluster.finding import Finding, Severity
from importer.cluster.kinds import CATALOG_SOURCE, NAMESPACE, OPERATOR_HUB, SUBSCRIPTION, status_of
from importer.cluster.resources.catalog_source import is_default

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from common.catalog_names import Identity
    from importer.cluster.resources.names import ServedCatalog

ORPHANED = "subscription-orphaned"
RENAMED = "catalog-renamed"
_SHOWN = 10  # packages named in one finding
SourceKey = tuple[str, str]  # namespace and name of a CatalogSource


@dataclass(frozen=True, slots=True)
class Subscribed:
    """One Subscription: its operator (a package), the CatalogSource that it names, and the version installed, if any."""

    namespace: str
    name: str
    package: str
    source: SourceKey
    installed: str = ""

    @classmethod
    def of(cls, body: Body) -> Subscribed:
        """Return the Subscription that a body describes; missing fields are empty."""
        metadata, spec = body["metadata"], body.get("spec") or {}
        namespace = str(metadata.get("namespace") or "")
        # CRDs up to 4.5 have no structural schema, so that fields can be missing.
        source = (str(spec.get("sourceNamespace") or namespace), str(spec.get("source") or ""))
        installed = str(status_of(body).get("installedCSV") or "")
        return cls(namespace, str(metadata["name"]), str(spec.get("name") or ""), source, installed)

    def __str__(self) -> str:
        version = f", installed {self.installed}" if self.installed else ""
        return f"Subscription {self.namespace}/{self.name}: operator {self.package}{version}"


@dataclass(frozen=True, slots=True)
class Sources:
    """The CatalogSources of a cluster. `everywhere` False: only those of `namespace` could be read."""

    bodies: Mapping[SourceKey, Body]
    namespace: str
    everywhere: bool = True

    def lack(self, source: SourceKey) -> bool:
        """Return whether a CatalogSource is known not to exist."""
        # A namespace that may not be read may have it.
        seen = self.everywhere or source[0] == self.namespace
        return bool(source[1]) and seen and source not in self.bodies


@dataclass(frozen=True, slots=True)
class Offering:
    """A catalog of the archive: its name, its CatalogSource, its packages, and its repository and tag."""

    catalog: str
    source: SourceKey
    packages: frozenset[str]
    identity: Identity


@dataclass(frozen=True, slots=True)
class CatalogChange:
    """The catalogs of an import, and the operators that may lose theirs. `defaults_off`: default sources are disabled.

    `served`: the CatalogSources of earlier imports.
    """

    offerings: Sequence[Offering]
    namespace: str
    defaults_off: bool
    allowed: Collection[str] = ()
    served: Sequence[ServedCatalog] = ()


def sources_of(client: ClusterClient, namespace: str) -> Sources:
    """Return all CatalogSources, or only those of `namespace` where others may not be read. Raises ClusterError."""
    try:
        return Sources(_by_key(client.list(CATALOG_SOURCE)), namespace)
    except ForbiddenError:
        return Sources(_by_key(client.list(CATALOG_SOURCE, namespace)), namespace, everywhere=False)


def _by_key(bodies: Iterable[Body] | None) -> dict[SourceKey, Body]:
    # One that is being deleted no longer serves anything.
    found = (each for each in bodies or () if not each["metadata"].get("deletionTimestamp"))
    return {(str(each["metadata"].get("namespace") or ""), str(each["metadata"]["name"])): each for each in found}


def orphans(client: ClusterClient, terms: CatalogChange) -> Iterator[Finding]:
    """Yield one error for each CatalogSource that Subscriptions name, and that is missing or will be removed.

    It is a warning for operators that may lose their catalog, and for Subscriptions that may not be read. Raises ClusterError.
    """
    bodies, unreadable = _readable(client)
    yield from unreadable
    subscribed = [Subscribed.of(each) for each in bodies]
    yield from _renamed(terms, subscribed, all_seen=not unreadable)
    yield from _shared_packages(terms)
    sources = sources_of(client, terms.namespace)
    # Without the capability `marketplace` there are no defaults to disable.
    off = terms.defaults_off and client.get(OPERATOR_HUB, "cluster") is not None
    going = {source for source, body in sources.bodies.items() if off and source[0] == terms.namespace and is_default(body)}
    made = {each.source for each in terms.offerings}
    losing_by_source: dict[SourceKey, list[Subscribed]] = {}
    for one in sorted(subscribed, key=lambda each: (each.source, each.namespace, each.name)):
        if one.source not in made and (one.source in going or sources.lack(one.source)):
            losing_by_source.setdefault(one.source, []).append(one)
    fixes = _Fixes(terms)
    # The largest first: a catalog can take the name of one missing source only, and that keeps the most Subscriptions.
    for source, losing in sorted(losing_by_source.items(), key=lambda each: (-len(each[1]), each[0])):
        yield from _orphaned(source, losing, terms, goes=source in going, fix=fixes.of(source, losing))


def _renamed(terms: CatalogChange, subscribed: Iterable[Subscribed], *, all_seen: bool) -> Iterator[Finding]:
    """Yield a warning for each CatalogSource of an earlier import whose catalog gets another name, or none, in this one."""
    names = {each.source[1]: each for each in terms.offerings}
    by_text = {str(each.identity): each for each in terms.offerings}
    using: dict[SourceKey, list[Subscribed]] = {}
    for one in subscribed:
        using.setdefault(one.source, []).append(one)
    for each in terms.served:
        here, taken, moved = (terms.namespace, each.name), names.get(each.name), by_text.get(each.catalog)
        users = using.get(here, [])
        same = [one for one in terms.offerings if each.is_of(one.identity.path)]
        if taken is not None and moved is not None and moved is not taken:
            cause = f"this import gives it {taken.identity}; {moved.identity} is {moved.source[1]}"
            yield _name_changed(here, cause, users, moved, "")
        elif taken is None and same and (moved is not None or users):
            wanted = {one.package for one in users}
            best = moved or max(same, key=lambda one: (len(wanted & one.packages), one.source))
            cause = f"this import does not update it: {best.identity} is {best.source[1]}"
            # A CatalogSource that is left behind offers its packages a second time.
            unused = f"Nothing names it: oc delete catalogsource {each.name} -n {terms.namespace}."
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


def _shared_packages(terms: CatalogChange) -> Iterator[Finding]:
    """Yield a warning for packages that several catalogs of the import have, or one of an earlier import too."""
    offered = {each.name: each.packages for each in terms.served} | {each.source[1]: each.packages for each in terms.offerings}
    new = {each.source[1] for each in terms.offerings}
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


def _readable(client: ClusterClient) -> tuple[list[Body], list[Finding]]:
    """Return the Subscriptions of all readable namespaces, and a warning when there are others."""
    try:
        return client.list(SUBSCRIPTION) or [], []
    except ForbiddenError as error:
        refused = error.message
    try:
        # Reads that are refused for the cluster may be allowed in single namespaces (Role instead of ClusterRole).
        namespaces = [str(each["metadata"]["name"]) for each in client.list(NAMESPACE) or []]
    except ForbiddenError:
        namespaces = []
    found: list[Body] = []
    hidden = 0
    for namespace in namespaces:
        try:
            found += client.list(SUBSCRIPTION, namespace) or []
        except ForbiddenError:
            hidden += 1
    whole = namespaces and not hidden
    return found, [] if whole else [_unseen(refused, f"{hidden} of {len(namespaces)} namespaces" if namespaces else "")]


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


def _orphaned(
    source: SourceKey, losing: Sequence[Subscribed], terms: CatalogChange, *, goes: bool, fix: str
) -> Iterator[Finding]:
    subject = f"CatalogSource {'/'.join(source)}"
    cause = "it is a default source and is removed when they are disabled" if goes else "it does not exist"
    for allowed in (False, True):
        chosen = [one for one in losing if (one.package in terms.allowed) is allowed]
        if chosen:
            named = " ".join(f"--allow-orphaned {package}" for package in sorted({one.package for one in chosen}))
            accept = "Allowed by --allow-orphaned." if allowed else f"Or leave them without a catalog: {named}."
            severity = Severity.WARNING if allowed else Severity.ERROR
            message = f"{cause}, and Subscriptions name it: they would get no updates"
            yield Finding(ORPHANED, subject, message, tuple(map(str, chosen)), f"{fix} {accept}", severity=severity)


class _Fixes:
    """Advice for the Subscriptions of missing CatalogSources; each catalog can take the name of one of them."""

    def __init__(self, terms: CatalogChange) -> None:
        self._terms = terms
        self._named: dict[str, str] = {}  # catalog → the name that it is advised to take

    def of(self, source: SourceKey, losing: Sequence[Subscribed]) -> str:
        """Return the advice, as one or more sentences."""
        packages = {one.package for one in losing}
        carrying = [each for each in self._terms.offerings if packages & each.packages]
        if not carrying:
            names = ", ".join(sorted(packages))
            return f"No catalog of this archive carries {names}: export that too."
        # A catalog that has no advised name yet, then the one that serves most of the operators.
        best = max(carrying, key=lambda each: (each.catalog not in self._named, len(packages & each.packages)))
        # No option gives a name in another namespace, or a second name to one catalog.
        if source[0] != self._terms.namespace or best.catalog in self._named:
            return _repointed(losing, best, self._named.get(best.catalog, best.source[1]))
        self._named[best.catalog] = source[1]
        alone = len(self._terms.offerings) == 1
        return f"Keep it: --catalog-name {source[1] if alone else f'{best.catalog}={source[1]}'}."


def _repointed(losing: Sequence[Subscribed], offering: Offering, name: str) -> str:
    """Return the advice to let the Subscriptions name the CatalogSource of an offering."""
    first = next(one for one in losing if one.package in offering.packages)
    return f"Let the Subscriptions name {name}: {repoint(first, (offering.source[0], name))}."


def repoint(one: Subscribed, source: SourceKey) -> str:
    """Return the command that lets a Subscription name another CatalogSource."""
    patch = f'{{"spec":{{"source":"{source[1]}","sourceNamespace":"{source[0]}"}}}}'
    return f"oc patch subscription.operators.coreos.com {one.name} -n {one.namespace} --type merge -p '{patch}'"
