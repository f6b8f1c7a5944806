"""The closure of selections over what their bundles require, across the catalogs of an image set. Pure.

Looked for first in the catalog of the bundle that requires, then in the others, as OLM does; what is kept already counts
first. What is added says why, what cannot be satisfied is a problem. Sources: facts/openshift.md §7, design/selection.md.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from common.archive.inventory import Problem, ProblemCode
from common.errors import CatalogError
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
from exporter.version import Bounds

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from exporter.catalog.model import Bundle, Catalog, Channel, Package


@dataclass(frozen=True, slots=True)
class Selected:
    """A catalog with all that it offers, and what is kept of it. `closed`: what its bundles require is looked for."""

    catalog: Catalog
    selection: Selection
    closed: bool = True


@dataclass(frozen=True, slots=True)
class _Place:
    """A bundle that would satisfy a requirement, and the channel to take it from."""

    catalog: int
    package: Package
    channel: Channel
    bundle: Bundle


@dataclass(slots=True)
class _Closure:
    """The catalogs, what is kept of each so far, and the bundles whose requirements are still to be looked at."""

    catalogs: Sequence[Catalog]
    selections: list[Selection]
    waiting: deque[tuple[int, Bundle]] = field(default_factory=deque)
    problems: list[list[Problem]] = field(default_factory=list)
    _providers: list[dict[Api, list[tuple[Package, Bundle]]]] = field(default_factory=list)

    def run(self) -> None:
        """Look at bundle after bundle until nothing is required that was not looked for."""
        self._providers = [_index(catalog) for catalog in self.catalogs]
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
            message = f"requires {requirement}, which {self._why(requirement)}"
            self.problems[catalog].append(
                Problem("warning", ProblemCode.DEPENDENCY_UNSATISFIED, f"{bundle.package}/{bundle.name}", message)
            )

    def _kept(self, requirement: Requirement) -> bool:
        """Say whether what is kept satisfies a requirement."""
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
        """Keep more, so that a requirement is satisfied; False when nothing in any catalog can do that."""
        if isinstance(requirement, NeedsAny):
            return any(self._add(catalog, option, reason) for option in requirement.options)
        if isinstance(requirement, NeedsAll):
            return all(self._kept(part) or self._add(catalog, part, reason) for part in requirement.parts)
        return any(self._keep(place, reason) for place in self._places(catalog, requirement))

    def _places(self, first: int, requirement: Requirement) -> Iterator[_Place]:
        """Give the bundles that would do: of the own catalog first, in each default channels first, the newest first."""
        order = [first, *(number for number in range(len(self.catalogs)) if number != first)]
        for number in order:
            packages: list[Package] = []
            if isinstance(requirement, NeedsPackage) and requirement.package in self.catalogs[number].packages:
                packages = [self.catalogs[number].packages[requirement.package]]
            elif isinstance(requirement, NeedsApi):
                found = self._providers[number].get(requirement.api, ())
                packages = sorted({package.name: package for package, _ in found}.values(), key=lambda package: package.name)
            places = [place for package in packages for place in _in_package(number, package, requirement)]
            yield from sorted(places, key=lambda place: place.channel.name != place.package.default_channel)

    def _keep(self, place: _Place, reason: str) -> bool:
        """Keep a bundle and what leads to it from the head of its channel; False when OLM would refuse the result."""
        on_the_way = f"needed to reach {place.bundle.version_text}, {reason}"
        reasons = {name: reason if name == place.bundle.name else on_the_way for name in _segment(place)}
        selection = self.selections[place.catalog]
        try:
            larger, added = extended(selection, place.package, place.channel.name, reasons)
        except CatalogError:
            return False
        self.selections[place.catalog] = larger
        self.waiting += [(place.catalog, place.package.bundles[name]) for name in added if name in place.package.bundles]
        return True

    def _why(self, requirement: Requirement) -> str:
        """Say why nothing satisfies a requirement."""
        if isinstance(requirement, Unclear):
            return "nobody can look for here"
        if isinstance(requirement, NeedsPackage):
            if requirement.range is None:
                return "is no range of versions that OLM reads"
            offers = [p for catalog in self.catalogs if (p := catalog.packages.get(requirement.package))]
            if offers:
                versions = sorted((b.version for p in offers for b in p.bundles.values() if b.version), key=lambda v: v.key)
                extent = f"from {versions[0]} to {versions[-1]}" if versions else "none at all"
                return f"no version in the catalogs of the image set fits; they go {extent}"
        return "is in no catalog of the image set; it may be on the cluster already"


def close(selected: Sequence[Selected]) -> list[Selection]:
    """Return the selections with everything that their bundles require, where it is in any of the catalogs."""
    closure = _Closure([one.catalog for one in selected], [one.selection for one in selected], problems=[[] for _ in selected])
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


def _in_package(number: int, package: Package, requirement: Requirement) -> Iterator[_Place]:
    """Give the best bundle of each channel, the default one first: nearest the head, which is the newest."""
    for name in sorted(package.channels, key=lambda name: (name != package.default_channel, name)):
        channel = package.channels[name]
        try:
            graph = UpdateGraph.of(channel.entries, "")
        except CatalogError:
            continue
        stranded = set(graph.stranded)
        fitting = (package.bundles[entry] for entry in graph.order() if entry in package.bundles and entry not in stranded)
        best = next((bundle for bundle in fitting if _fits(bundle, requirement)), None)
        if best is not None:
            yield _Place(number, package, channel, best)


def _segment(place: _Place) -> frozenset[str]:
    """Return the entries from the head of the channel down to the bundle."""
    graph = UpdateGraph.of(place.channel.entries, "")
    if place.bundle.name == graph.head or place.bundle.version is None:
        return frozenset(head_only(graph, place.channel.name).kept)
    versions = {name: bundle.version for name, bundle in place.package.bundles.items() if bundle.version is not None}
    bounds = Bounds.of(str(place.bundle.version), "")
    return frozenset(in_range(graph, versions, bounds, place.channel.name).kept)
