"""The OpenShift releases that two inventories do not have in common, and the components that changed. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from common.text import shortened
from common.version import try_parse

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from common.archive.inventory import ReleaseRecord
    from common.version import Key

Document = dict[str, Any]
_SHOWN = 12  # components in a line


def between(old: Sequence[ReleaseRecord], new: Sequence[ReleaseRecord]) -> Document:
    """Return the releases added, removed and changed; those that were added with the components that are not in the one before.

    Changed is a release of one version and architecture with another payload.
    """
    before, after = ({(one.version, one.architecture): one for one in each} for each in (old, new))
    known = _Predecessors([*old, *new])
    return {
        "added": [_named(one) | _components(known.of(one), one) for key, one in after.items() if key not in before],
        "removed": [_named(one) for key, one in before.items() if key not in after],
        "changed": [
            _named(one) | {"from": before[key].digest, "to": one.digest} | _components(before[key], one)
            for key, one in after.items()
            if key in before and before[key].digest != one.digest
        ],
    }


def rows(found: Document) -> list[tuple[str, str, str, str]]:
    """Return the lines of a table: sign, architecture, version, change."""
    listed = [("+", one["architecture"], one["version"], _change(one)) for one in found["added"]]
    listed += [("-", one["architecture"], one["version"], "gone") for one in found["removed"]]
    return listed + [("~", one["architecture"], one["version"], _change(one)) for one in found["changed"]]


def _named(one: ReleaseRecord) -> Document:
    return {"version": one.version, "architecture": one.architecture}


class _Predecessors:
    """Releases by architecture, sorted by version: an inventory may have thousands."""

    def __init__(self, releases: Iterable[ReleaseRecord]) -> None:
        self._sorted: defaultdict[str, list[tuple[Key, ReleaseRecord]]] = defaultdict(list)
        for one in releases:
            if version := try_parse(one.version):
                self._sorted[one.architecture].append((version.key, one))
        for each in self._sorted.values():
            each.sort(key=itemgetter(0))

    def of(self, one: ReleaseRecord) -> ReleaseRecord | None:
        """Return the release of the same architecture with the highest version below."""
        own = try_parse(one.version)
        listed = self._sorted[one.architecture]
        place = bisect_left(listed, own.key, key=itemgetter(0)) if own else 0
        # Of several that differ in build metadata alone, the first.
        place = bisect_left(listed, listed[place - 1][0], key=itemgetter(0)) if place else -1
        return listed[place][1] if place >= 0 else None


def _components(old: ReleaseRecord | None, new: ReleaseRecord) -> Document:
    if old is None:
        return {}
    before, after = _sources(old), _sources(new)
    return {
        "components": {
            "since": old.version,
            "added": sorted(after.keys() - before.keys()),
            "removed": sorted(before.keys() - after.keys()),
            "changed": sorted(name for name in after if name in before and before[name] != after[name]),
        }
    }


def _sources(one: ReleaseRecord) -> Mapping[str, str]:
    return {component.name: component.source for component in one.components}


def _change(one: Document) -> str:
    if "components" not in one:
        return "new"
    found = one["components"]
    names = [*found["changed"], *(f"+{name}" for name in found["added"]), *(f"-{name}" for name in found["removed"])]
    listed = ", ".join(shortened(names, _SHOWN, " components"))
    return f"since {found['since']}: {listed}" if names else f"the same components as {found['since']}"
