"""The OpenShift releases that two inventories do not have in common, and the components that changed. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from common.text import shortened
from common.version import try_parse

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from common.archive.inventory import ReleaseRecord

Document = dict[str, Any]
_SHOWN = 12  # components in a line


def between(old: Sequence[ReleaseRecord], new: Sequence[ReleaseRecord]) -> Document:
    """Return the releases added, removed and changed; those that were added with the components that are not in the one before.

    Changed is a release of one version and architecture with another payload.
    """
    before, after = ({(one.version, one.architecture): one for one in each} for each in (old, new))
    return {
        "added": [
            _named(one) | _components(_predecessor(one, [*old, *new]), one) for key, one in after.items() if key not in before
        ],
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


def _predecessor(one: ReleaseRecord, others: Iterable[ReleaseRecord]) -> ReleaseRecord | None:
    """Return the release of the same architecture with the highest version below."""
    own = try_parse(one.version)
    if own is None:
        return None
    lower = [
        (version.key, other)
        for other in others
        if other.architecture == one.architecture and (version := try_parse(other.version)) and version.key < own.key
    ]
    return max(lower, key=lambda each: each[0])[1] if lower else None


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
