"""The name of each catalog's CatalogSource (and ClusterCatalog): from its repository, its tag and the release (ADR 0051). Pure.

A name does not depend on the order of the catalogs, so that Subscriptions, which name it, stay with their catalog.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from common.errors import UsageError
from common.olm.catalog_names import Identity, bare_names, distinct, identities_of, label, release_of_tag
from common.text import enumeration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from common.archive.inventory import CatalogRecord, Inventory
    from importer.cluster.release import Release


@dataclass(frozen=True, slots=True)
class ServedCatalog:
    """A CatalogSource of hub-import that a cluster has: its catalog as `path:tag` (empty: not recorded) and its image.

    `packages`: what it offers, as far as that was recorded.
    """

    name: str
    catalog: str
    image: str
    packages: frozenset[str] = frozenset()

    def is_of(self, path: str) -> bool:
        """Return whether it serves a catalog of a repository, as far as that is known."""
        if self.catalog:
            return self.catalog in (path, f"{path}:{self.catalog.rpartition(':')[2]}")
        # Without a record only the image is known: the mirror's host and prefix come before the path.
        return self.image.partition("@")[0].endswith(f"/{path}")


@dataclass(frozen=True, slots=True)
class Named:
    """A catalog with the name of its CatalogSource; `title`: repository and tag, as consoles show them."""

    catalog: CatalogRecord
    name: str
    identity: Identity
    title: str


_LISTED, _CHOICES = 5, 20  # names in a message, and to choose from
_SHOWN = 50  # characters of a name or a tag, which may have 128: the tile of a console cuts longer texts


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def _given(catalogs: Sequence[CatalogRecord], identities: Sequence[Identity], wanted: Mapping[str, str]) -> dict[int, str]:
    """Return the names of `--catalog-name`, by the position of their catalog. Raises UsageError.

    A catalog is named by its name in the inventory, by its bare name or `path:tag` where that fits one, or by its source.
    """
    found: dict[int, str] = {}
    for catalog, name in wanted.items():
        for number in _positions(catalogs, identities, catalog) if catalog else range(len(catalogs)):
            found[number] = name
    return found


def _positions(catalogs: Sequence[CatalogRecord], identities: Sequence[Identity], text: str) -> list[int]:
    listed = enumeration(sorted(catalog.name for catalog in catalogs), _CHOICES)
    ways = (
        [catalog.name for catalog in catalogs],
        [catalog.source for catalog in catalogs],
        [str(identity) for identity in identities],
        [identity.bare for identity in identities],
    )
    for spelled in ways:
        found = [number for number, each in enumerate(spelled) if each == text]
        if len(found) > 1:
            raise UsageError(f"--catalog-name: {text!r} is the name of {len(found)} catalogs", hint=f"Name one of: {listed}")
        if found:
            return found
    raise UsageError(f"--catalog-name: the archive has no catalog {text!r}", hint=f"It has: {listed}")


def name_catalogs(
    inventory: Inventory,
    release: Release | None,
    wanted: Mapping[str, str],
    served: Sequence[ServedCatalog] = (),
    fitting: Mapping[int, str] | None = None,
) -> list[Named]:
    """Return every catalog with the name of its CatalogSource on a cluster of `release`. Raises UsageError.

    `wanted`: the names of `--catalog-name`. `served`: what the cluster has from earlier imports, which keeps its names.
    `fitting`: names of defaults, by the position of their catalog, for catalogs that have no name of these two kinds.
    """
    catalogs, identities = inventory.catalogs, identities_of(inventory)
    given = _given(catalogs, identities, wanted)
    naming = _Naming(catalogs, identities, release, given, served)
    naming.take(fitting or {})
    named = naming.names()
    if twice := sorted(name for name, count in Counter(named).items() if count > 1):
        raise UsageError(
            f"two catalogs would get the same CatalogSource: {enumeration(twice, _LISTED)}",
            hint="Use --catalog-name CATALOG=NAME.",
        )
    titles = _titles(naming.own, named)
    return [Named(*each) for each in zip(catalogs, named, naming.own, titles, strict=True)]


def _titles(identities: Sequence[Identity], names: Sequence[str]) -> list[str]:
    """Return what people are shown of each catalog: its bare name and tag, or its path where others have the bare name."""
    whole = {(own.bare, own.path, own.host) for own in identities}
    of_bare = Counter(bare for bare, _, _ in whole)
    of_path = Counter((bare, path) for bare, path, _ in whole)
    titles = []
    for own, name in zip(identities, names, strict=True):
        # The path of a directory is one of the exporter's machine.
        apart = own.path if own.host else name
        apart = f"{own.host}/{apart}" if of_path[own.bare, own.path] > 1 else apart
        shown = apart if of_bare[own.bare] > 1 else own.bare
        titles.append(" ".join(_cut(part) for part in (shown, own.tag) if part))
    return titles


class _Naming:
    """The decision on the names of one import, step by step; `fixed` has those that are decided."""

    def __init__(
        self,
        catalogs: Sequence[CatalogRecord],
        identities: Sequence[Identity],
        release: Release | None,
        given: Mapping[int, str],
        served: Sequence[ServedCatalog],
    ) -> None:
        self._release = (release.major, release.minor) if release is not None else None
        self._images = [catalog.image for catalog in catalogs]
        made = bare_names(catalogs, identities)
        self.own = [
            replace(identity, bare=label(catalog.name if bare is None else bare))
            for catalog, identity, bare in zip(catalogs, identities, made, strict=True)
        ]
        # A name that the exporter did not make is somebody's decision, like one of --catalog-name.
        self._fixed = {number: own.bare for number, own in enumerate(self.own) if made[number] is None} | dict(given)
        self._taken = set(self._fixed.values())
        self._free = [number for number in range(len(catalogs)) if number not in self._fixed]
        self._by_path = _grouped(self._free, lambda number: self.own[number].path)
        self._served = [each for each in served if each.name not in self._taken]
        self._holder = {each.name: each for each in self._served}
        self._texts = {str(own) for own in self.own}
        self._held = self._find_held()

    def take(self, fitting: Mapping[int, str]) -> None:
        """Decide on names that fit catalogs, where the cluster has no name for them yet."""
        for number, name in fitting.items():
            if number in self._free and number not in self._held and self._continued(number) is None:
                self._fix(number, name)

    def names(self) -> list[str]:
        """Return the names: those that were given, those of the release, those that the cluster has, then all others."""
        for number in self._of_release():
            if self._takes_over(number):
                self._fix(number, self.own[number].bare)
        for number in self._free:
            for name in self._held.get(number, ()):
                self._fix(number, name)
        for number in self._free:
            if (sole := self._continued(number)) is not None:
                self._fix(number, sole.name)
        left = [number for number in self._free if number not in self._fixed]
        # Nor does another repository take the name of an earlier import: Subscriptions would lose its operators.
        carried = {each.name for path in self._by_path for each in self._served if each.is_of(path)} if left else set()
        foreign = {each.name: "" for each in self._served if each.catalog and each.name not in carried}
        taken = foreign | {name: self.own[number].path for number, name in self._fixed.items()}
        tagged = [self._release is not None and self._tag_release(number) not in (None, self._release) for number in left]
        made = distinct([self.own[number] for number in left], tagged, taken)
        found = self._fixed | dict(zip(left, made, strict=True))
        return [found[number] for number in range(len(self.own))]

    def _fix(self, number: int, name: str) -> None:
        if number not in self._fixed and name not in self._taken:
            self._fixed[number] = name
            self._taken.add(name)

    def _tag_release(self, number: int) -> tuple[int, int] | None:
        return release_of_tag(self.own[number].tag)

    def _of_release(self) -> list[int]:
        """Return the catalogs of the cluster's release that are the only ones of it under their bare name."""
        current = [each for each in self._free if self._release is not None and self._tag_release(each) == self._release]
        by_bare = _grouped(current, lambda number: self.own[number].bare)
        return [numbers[0] for numbers in by_bare.values() if len(numbers) == 1]

    def _find_held(self) -> dict[int, list[str]]:
        """Return by catalog the CatalogSources that serve it already, the one of its bare name first."""
        by_text = _grouped(self._free, lambda number: str(self.own[number]))
        by_image = _grouped(self._free, lambda number: self._images[number])
        found: dict[int, list[str]] = {}
        for each in sorted(self._served, key=lambda each: each.name):
            if each.catalog:
                fits = by_text.get(each.catalog, [])
            else:
                # Of an import that did not record its catalogs (before ADR 0051).
                same = by_image.get(each.image.rpartition("@")[2], [])
                fits = [number for number in same if each.is_of(self.own[number].path)]
            if len(fits) == 1:
                names = found.setdefault(fits[0], [])
                names.insert(0 if each.name == self.own[fits[0]].bare else len(names), each.name)
        return found

    def _takes_over(self, number: int) -> bool:
        """Return whether a catalog of the cluster's release gets the bare name, which the cluster may have for another."""
        own, held = self.own[number], self._held.get(number, [])
        holder = self._holder.get(own.bare)
        if holder is None:
            return not held and self._continued(number) is None
        if own.bare in held:
            return True
        if not holder.is_of(own.path):
            return not held and not holder.catalog
        # It was imported before the cluster had its release; Subscriptions that name the bare name follow the cluster. A name
        # of another making, such as the `-2` of older versions, stays as long as the holder's catalog is carried too.
        return not held or _tagged(own) in held or not self._is_carried(holder)

    def _is_carried(self, holder: ServedCatalog) -> bool:
        return holder.catalog in self._texts if holder.catalog else holder.image.rpartition("@")[2] in self._images

    def _continued(self, number: int) -> ServedCatalog | None:
        """Return the CatalogSource whose catalog this one follows: each is the only one of the repository on its side.

        None where the former one is still that of the cluster's release: then this one is for the time after an update.
        """
        own = self.own[number]
        holders = [each for each in self._served if each.is_of(own.path)] if len(self._by_path[own.path]) == 1 else []
        if number in self._held or len(holders) != 1 or self._is_carried(holders[0]):
            return None
        before = release_of_tag(holders[0].catalog.rpartition(":")[2])
        early = holders[0].catalog and holders[0].name == _tagged(replace(own, tag=holders[0].catalog.rpartition(":")[2]))
        ahead = self._release is not None and self._tag_release(number) not in (None, self._release)
        return None if early or (ahead and before is not None and before == self._release) else holders[0]


def _grouped(numbers: Iterable[int], key: Callable[[int], str]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for number in numbers:
        found.setdefault(key(number), []).append(number)
    return found


def _tagged(own: Identity) -> str:
    """Return the name that a catalog has on a cluster of another release."""
    return distinct([own], [True])[0]
