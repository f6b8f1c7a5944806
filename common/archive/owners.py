"""Which part has which volume, where several processes made one archive (docs/archive-format.md, *Parts*)."""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass
from pathlib import Path

from common.archive import gathered
from common.archive.layout import Layout
from common.archive.part import Lost, Part
from common.columns import counted
from common.digest import Digest
from common.errors import ArchiveIncompleteError, UsageError

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class FoundPart:
    """A part, and where it lies."""

    directory: Path
    record: Part


Owners = dict[int, FoundPart]  # by number of a volume


def owners(parts: Iterable[FoundPart], layout: Layout, plan: Digest) -> Owners:
    """Return which part has each volume; of several the one that lost nothing.

    Raises UsageError for parts of another plan, ArchiveIncompleteError when volumes are in no part.
    """
    found = held(parts, layout, plan)
    require_all(found, layout)
    return found


def held(parts: Iterable[FoundPart], layout: Layout, plan: Digest) -> Owners:
    """Return the same for the volumes that are in any part. Raises UsageError for parts of another plan."""
    found = Owners()
    for one in sorted(parts, key=lambda one: not one.record.lost):
        if one.record.plan != plan:
            raise UsageError(f"{one.directory} is a part of another plan", hint="Join only parts that were made by one plan.")
        if max(one.record.volumes, default=0) > len(layout.volumes) or not one.record.lost.keys() <= layout.blobs.keys():
            raise UsageError(
                f"{one.directory}: its record has volumes or blobs that its plan has not", hint=again(one.directory)
            )
        found |= dict.fromkeys(one.record.volumes, one)
    return found


def lost(owned: Owners, layout: Layout) -> dict[Digest, Lost]:
    """Return what cannot be in the archive, and why: what a part lost of the volumes that it is to give."""
    return {
        digest: why
        for one in parts_of(owned)
        for digest, why in one.record.lost.items()
        if any(number in owned and owned[number] is one for number in gathered.volumes_of(digest, layout))
    }


def parts_of(owned: Owners) -> list[FoundPart]:
    """Return the parts that have any of the volumes."""
    return list({one.directory: one for one in owned.values()}.values())


def require_all(found: Container[int], layout: Layout) -> None:
    """Raise ArchiveIncompleteError, naming the volumes that are not among the `found`."""
    if absent := [record.name for number, record in enumerate(layout.volumes, 1) if number not in found]:
        named = ", ".join(absent[:_SHOWN]) + (", …" if len(absent) > _SHOWN else "")
        raise ArchiveIncompleteError(
            f"{len(absent)} of {counted(len(layout.volumes), 'volume')} in no part that is here: {named}",
            hint="Make them with hub-export create --plan … --volumes …, or name the places that they are in.",
        )


def again(directory: Path) -> str:
    """Return the advice for a part that is of no use as it is."""
    return f"Make this part again: remove {directory}, and run its hub-export create."
