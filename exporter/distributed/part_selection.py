"""Selection of parts: which part gives each volume of an archive, and which blobs are missing from it."""

from __future__ import annotations

import errno
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from common.errors import ArchiveIncompleteError, InUseError, UsageError
from common.files import locked
from common.text import counted, enumeration
from exporter.archive.output import LOCK
from exporter.distributed import part

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping
    from pathlib import Path

    from common.archive.layout import Layout
    from common.oci.image import Digest
    from exporter.distributed.part import MissingBlob, Part


_SHOWN = 5  # volumes or blobs that a message names


@dataclass(frozen=True, slots=True)
class FoundPart:
    """A part and its directory."""

    directory: Path
    record: Part


Selection = dict[int, FoundPart]  # by volume number


def select(parts: Iterable[FoundPart], layout: Layout, plan: Digest) -> Selection:
    """Return the part that gives each volume; of several, a finished one before an unfinished one.

    Volumes that are in no part are left out: see `require_all`. Raises UsageError for a part of another plan.
    """
    found = Selection()
    # Later parts replace earlier ones, so the finished ones come last.
    for one in sorted(parts, key=lambda one: not one.record.lost):
        if one.record.plan != plan:
            raise UsageError(f"{one.directory} is a part of another plan", hint="Join only parts that were made by one plan.")
        if max(one.record.volumes, default=0) > len(layout.volumes) or not one.record.lost.keys() <= layout.blobs.keys():
            raise UsageError(
                f"{one.directory}: its record has volumes or blobs that its plan does not have", hint=again(one.directory)
            )
        found |= dict.fromkeys(one.record.volumes, one)
    return found


def require_all(found: Container[int], layout: Layout) -> None:
    """Raise ArchiveIncompleteError, naming the volumes that are not among the `found`."""
    if absent := [record.name for number, record in enumerate(layout.volumes, 1) if number not in found]:
        raise ArchiveIncompleteError(
            f"{len(absent)} of {counted(len(layout.volumes), 'volume')} in none of the parts: {enumeration(absent, _SHOWN)}",
            hint="Make them with hub-export create --plan … --volumes …, or name their directories.",
        )


def parts_of(selection: Selection) -> list[FoundPart]:
    """Return the parts that give any volume."""
    return list({one.directory: one for one in selection.values()}.values())


def missing_blobs(selection: Selection, layout: Layout) -> dict[Digest, MissingBlob]:
    """Return the blobs that the selected volumes lack, with the reasons.

    A part may lack a blob only in volumes that another part gives: such a blob is not missing.
    """
    return {
        digest: why
        for one in parts_of(selection)
        for digest, why in one.record.lost.items()
        if any(selection.get(number) is one for number in volumes_of(digest, layout))
    }


def volumes_of(digest: Digest, layout: Layout) -> set[int]:
    """Return the numbers of the volumes that have a piece of a blob."""
    return {piece.volume for piece in layout.blobs[digest].pieces}


def require_finished(unfinished: Iterable[str], missing: Mapping[Digest, MissingBlob], hint: str) -> None:
    """Raise UsageError, with the names of the `unfinished` parts and of their blobs, when any blob is `missing`."""
    if not missing:
        return
    blobs = [f"{digest} ({why.message.removeprefix(f'{digest}: ')})" for digest, why in sorted(missing.items())]
    raise UsageError(
        f"unfinished, without {counted(len(blobs), 'blob')}: {enumeration(list(unfinished), _SHOWN)}; "
        f"missing: {enumeration(blobs, _SHOWN)}",
        hint=hint,
    )


@contextmanager
def locked_parts(parts: Iterable[FoundPart]) -> Iterator[None]:
    """Hold the locks of parts. Raises InUseError for one that is in use, or whose record has changed since it was read."""
    with ExitStack() as stack:
        for one in parts:
            try:
                stack.enter_context(locked(one.directory / LOCK, f"the part {one.directory}"))
            except OSError as error:
                # A part on a read-only mount needs no lock: no process can change it there.
                if error.errno not in {errno.EROFS, errno.EACCES, errno.EPERM}:
                    raise
            if part.read(one.directory) != one.record:
                raise InUseError(f"{one.directory} was made again just now", hint="Run this again.")
        yield


def again(directory: Path) -> str:
    """Return the advice for a part that cannot be used."""
    return f"Make this part again: remove {directory}, and run its hub-export create."
