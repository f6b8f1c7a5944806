"""The closure of selections over the requirements of their bundles, across the catalogs of an image set. Pure.

Each added bundle has a reason, each requirement that no bundle satisfies is a problem. Rules: docs/reference/selection.md,
*Dependencies*; the order of candidates is that of OLM's resolver (OLM, pkg/controller/registry/resolver/resolver.go).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from common.archive.inventory import Problem, ProblemCode
from common.errors import CatalogError
from common.text import enumeration
from common.version import Bounds
from exporter.catalog.requirements import (
    Api,
    NeedsAll,
    NeedsAny,
    NeedsApi,
    NeedsPackage,
    Requirement,
    Unclear,
    provided,
    required,
)
from exporter.catalog.selection import Selection, extended
from exporter.catalog.update_graph import UpdateGraph, head_only, in_range

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from exporter.catalog.model import Bundle, Catalog, Channel, Package

_SHOWN = 5  # packages in a message


@dataclass(frozen=True, slots=True)
class Selected:
    """A whole catalog and the selection from it. `closed`: the requirements of its bundles are resolved.

    `excluded`: the names of packages that are not added.
    """

    catalog: Catalog
    selection: Selection
    closed: bool = True
    excluded: frozenset[str] = frozenset()

    @property
    def offered(self) -> Catalog:
        """The catalog without the excluded packages."""
        return self._only(lambda name: name not in self.excluded)

    @property
    def refused(self) -> Catalog:
        """The excluded packages alone."""
        return self._only(lambda name: name in self.excluded)

    def _only(self, wanted: Callable[[str], bool]) -> Catalog:
        return replace(self.catalog, packages={name: one for name, one in self.catalog.packages.items() if wanted(name)})


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A bundle that would satisfy a requirement, and the channel to take it from."""

    catalog: int
    package: Package
    channel: Channel
    bundle: Bundle


@dataclass(slots=True)
class _Closure:
    """The catalogs, the selection from each so far, and the queue of bundles whose requirements are not resolved yet."""

    catalogs: Sequence[Catalog]
    selections: list[Selection]
    waiting: deque[tuple[int, Bundle]] = field(default_factory=deque)
    problems: list[list[Problem]] = field(default_factory=list)
    refused: Sequence[Catalog] = ()
    _providers: list[dict[Api, list[tuple[Package, Bundle]]]] = field(default_factory=list)
    _refused_providers: list[dict[Api, list[tuple[Package, Bundle]]]] = field(default_factory=list)

    def run(self) -> None:
        """Resolve the requirements of bundle after bundle, those that are added too, until the queue is empty."""
        self._providers = [_index(catalog) for catalog in self.catalogs]
        # A name identifies a bundle within its package only: two catalogs may have different bundles of one name.
        seen: set[tuple[int, str, str]] = set()
        while self.waiting:
            catalog, bundle = self.waiting.popleft()
            key = (catalog, bundle.package, bundle.name)
            if key not in seen:
                seen.add(key)
                for one in required(bundle):
                    self._satisfy(catalog, bundle, one)

    def _satisfy(self, catalog: int, bundle: Bundle, requirement: Requirement) -> None:
        if self._kept(requirement):
            return
        reason = f"required by {bundle.package} {bundle.version_text}: {requirement}"
        if not self._add(catalog, requirement, reason):
            # A warning: the cluster may have the dependency already, and this side does not know.
            message = f"requires {requirement}, which {self._why(requirement)}"
            self.problems[catalog].append(
                Problem("warning", ProblemCode.DEPENDENCY_UNSATISFIED, f"{bundle.package}/{bundle.name}", message)
            )

    def _kept(self, requirement: Requirement) -> bool:
        """Return whether the selections satisfy a requirement."""
        match requirement:
            case NeedsAny(options):
                return any(map(self._kept, options))
            case NeedsAll(parts):
                return all(map(self._kept, parts))
            case NeedsPackage(package, _, _):
                packages = (s.catalog.packages.get(package) for s in self.selections)
                return any(_fits(bundle, requirement) for p in packages if p for bundle in p.bundles.values())
            case NeedsApi(api):
                return any(
                    bundle.name in kept.bundles
                    for number, providers in enumerate(self._providers)
                    for package, bundle in providers.get(api, ())
                    if (kept := self.selections[number].catalog.packages.get(package.name))
                )
        return False

    def _add(self, catalog: int, requirement: Requirement, reason: str) -> bool:
        """Extend the selections so that a requirement is satisfied; False when no bundle of any catalog satisfies it."""
        # The first alternative that can be added, as OLM's solver takes the first that is satisfiable.
        if isinstance(requirement, NeedsAny):
            return any(self._add(catalog, option, reason) for option in requirement.options)
        if isinstance(requirement, NeedsAll):
            # Within an alternative, an added part stays when a later part fails: too much installs, too little does not.
            return all(self._kept(part) or self._add(catalog, part, reason) for part in requirement.parts)
        return any(self._keep(candidate, reason) for candidate in self._candidates(catalog, requirement))

    def _candidates(self, first: int, requirement: Requirement) -> Iterator[_Candidate]:
        """Yield the bundles that satisfy a requirement: of catalog `first` first, default channels first, newest first."""
        # OLM prefers the catalog of the dependent bundle, so a bundle from another one might never be installed.
        order = [first, *(number for number in range(len(self.catalogs)) if number != first)]
        for number in order:
            packages: list[Package] = []
            if isinstance(requirement, NeedsPackage) and requirement.package in self.catalogs[number].packages:
                packages = [self.catalogs[number].packages[requirement.package]]
            elif isinstance(requirement, NeedsApi):
                found = self._providers[number].get(requirement.api, ())
                packages = sorted({package.name: package for package, _ in found}.values(), key=lambda package: package.name)
            candidates = [one for package in packages for one in _in_package(number, package, requirement)]
            # A stable sort: within the default channels, and within the others, the order of package names remains.
            yield from sorted(candidates, key=lambda one: one.channel.name != one.package.default_channel)

    def _keep(self, candidate: _Candidate, reason: str) -> bool:
        """Add a bundle and the entries above it, up to the head of its channel; False when OLM would refuse the result."""
        package = candidate.package
        on_the_way = f"needed to reach {candidate.bundle.version_text}, {reason}"
        reasons = {name: reason if name == candidate.bundle.name else on_the_way for name in _segment(candidate)}
        selection = self.selections[candidate.catalog]
        try:
            larger, added = extended(selection, package, candidate.channel.name, reasons)
        except CatalogError:
            return False  # the next candidate may be in a channel that OLM serves
        self.selections[candidate.catalog] = larger
        self.waiting += [(candidate.catalog, package.bundles[name]) for name in added if name in package.bundles]
        return True

    def _why(self, requirement: Requirement) -> str:
        """Return why nothing satisfies a requirement."""
        if isinstance(requirement, Unclear):
            return "cannot be resolved on this side"
        if names := sorted(self._refused(requirement)):
            return f"only {enumeration(names, _SHOWN)} would satisfy, and the image set excludes it"
        if isinstance(requirement, NeedsPackage):
            if requirement.range is None:
                return "is no range of versions that OLM reads"
            offers = [p for catalog in self.catalogs if (p := catalog.packages.get(requirement.package))]
            if offers:
                versions = sorted((b.version for p in offers for b in p.bundles.values() if b.version), key=lambda v: v.key)
                extent = f"from {versions[0]} to {versions[-1]}" if versions else "none at all"
                return f"no version in the catalogs of the image set fits; they go {extent}"
        return "is in no catalog of the image set; it may be on the cluster already"

    def _refused(self, requirement: Requirement) -> set[str]:
        """Return the excluded packages that satisfy a requirement, or a part of it."""
        if isinstance(requirement, NeedsAny | NeedsAll):
            inner = requirement.options if isinstance(requirement, NeedsAny) else requirement.parts
            return {name for one in inner if not self._kept(one) for name in self._refused(one)}
        if isinstance(requirement, NeedsPackage):
            bundles = [
                bundle
                for catalog in self.refused
                if (package := catalog.packages.get(requirement.package))
                for bundle in package.bundles.values()
            ]
            return {bundle.package for bundle in bundles if _fits(bundle, requirement)}
        if not isinstance(requirement, NeedsApi):
            return set()
        # Indexed at the first such requirement: few image sets exclude anything.
        self._refused_providers = self._refused_providers or [_index(catalog) for catalog in self.refused]
        return {package.name for index in self._refused_providers for package, _ in index.get(requirement.api, ())}


def close(selected: Sequence[Selected]) -> list[Selection]:
    """Return the selections with all bundles that theirs require, as far as the catalogs have them."""
    closure = _Closure(
        [one.offered if one.excluded else one.catalog for one in selected],
        [one.selection for one in selected],
        problems=[[] for _ in selected],
        refused=[one.refused for one in selected if one.excluded],
    )
    # Bundles that are added later are closed too, also in a catalog with `skipDependencies`: otherwise they could not install.
    closure.waiting.extend(
        (number, bundle) for number, one in enumerate(selected) if one.closed for bundle in one.selection.catalog.bundles
    )
    closure.run()
    return [
        selection.with_problems(_once(found)) for selection, found in zip(closure.selections, closure.problems, strict=True)
    ]


def _once(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    return tuple(dict.fromkeys(problems))


def _index(catalog: Catalog) -> dict[Api, list[tuple[Package, Bundle]]]:
    found: dict[Api, list[tuple[Package, Bundle]]] = {}
    for package in catalog.packages.values():
        for bundle in package.bundles.values():
            for api in provided(bundle):
                found.setdefault(api, []).append((package, bundle))
    return found


def _fits(bundle: Bundle, requirement: Requirement) -> bool:
    if isinstance(requirement, NeedsPackage):
        within = requirement.range is not None and bundle.version is not None and requirement.range.contains(bundle.version)
        return bundle.package == requirement.package and within
    return isinstance(requirement, NeedsApi) and requirement.api in provided(bundle)


def _in_package(number: int, package: Package, requirement: Requirement) -> Iterator[_Candidate]:
    """Yield the bundle nearest the head, so the newest, of each channel, the default channel first."""
    for name in sorted(package.channels, key=lambda name: (name != package.default_channel, name)):
        channel = package.channels[name]
        try:
            graph = UpdateGraph.of(channel.entries, "")
        except CatalogError:
            continue  # OLM would not serve the channel
        # Another entry has no way from the head, so it cannot be kept with one.
        fitting = (package.bundles[entry] for entry in graph.reached() if entry in package.bundles)
        best = next((bundle for bundle in fitting if _fits(bundle, requirement)), None)
        if best is not None:
            yield _Candidate(number, package, channel, best)


def _segment(candidate: _Candidate) -> frozenset[str]:
    """Return the entries from the head of the channel down to the bundle."""
    # A channel must have one head that reaches every entry (operator-registry, alpha/model/model.go, Channel.Head), so a
    # bundle in the middle cannot be kept alone.
    graph = UpdateGraph.of(candidate.channel.entries, "")
    if candidate.bundle.name == graph.head or candidate.bundle.version is None:
        return frozenset(head_only(graph, candidate.channel.name).kept)
    # The range that ends at the head: what it keeps of the chain, with its reasons, is the rule for `minVersion` as well.
    versions = {name: bundle.version for name, bundle in candidate.package.bundles.items() if bundle.version is not None}
    bounds = Bounds.of(str(candidate.bundle.version), "")
    return frozenset(in_range(graph, versions, bounds, candidate.channel.name).kept)
