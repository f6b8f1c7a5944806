"""`hub-export.joining`: what the volumes in an output directory are that came from parts, durable before any of it changes.

Of a gathered volume nobody else knows: its part has no more of it, and its bytes do not tell by which plan, or what of them is
cleared. So it is closed again by nothing but its plan, and by no inventory that calls present what is cleared in it
(docs/archive-format.md, *Parts*).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import msgspec

from common.archive import parity
from common.archive.volume import CLOSING_SIZE, VOLUME_NAME
from common.errors import ArchiveIncompleteError, UsageError
from common.files import read_limited, write_atomic
from common.oci.image import Digest
from common.serialization import UNDECODABLE
from common.text import counted
from exporter.archive import output
from exporter.distributed.part import MAX_SIZE, Lost, Part, signature_of

if TYPE_CHECKING:
    from collections.abc import Collection, Container, Iterable, Mapping
    from fractions import Fraction
    from pathlib import Path

    from common.archive.inventory import VolumeRecord
    from common.archive.layout import Layout
    from exporter.archive.volume_writer import Closing

_TYPE = "application/vnd.hub-airgap.joining.v1+json"
_OTHER = "Choose another --output, or move away what is there."


class Gathered(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """A volume that came from a part: the blobs whose places in it are `cleared`, and what it is closed with.

    `inventory`, `signature` and `sums` are as in `Part`; without `inventory` it is not known what the volume ends with.
    """

    cleared: tuple[Digest, ...] = ()
    inventory: Digest | None = None
    signature: Digest | None = None
    sums: dict[str, str] = {}

    def closed_by(self, closing: Closing) -> bool:
        """Say whether the volume is closed as `closing` would do it."""
        return self.inventory == closing.identity and self.signature == signature_of(closing)


class _Mark(msgspec.Struct, frozen=True, rename="camel"):
    media_type: str
    plan: Digest
    volumes: dict[int, Gathered]


_MARK = msgspec.json.Decoder(_Mark)


class Mark:
    """The mark of a joining by a plan, in an output directory."""

    def __init__(self, directory: Path, plan: Digest) -> None:
        self._path = directory / output.JOINING
        self._plan = plan
        self._volumes: dict[int, Gathered] = {}

    def admit(self, directory: Path) -> None:
        """Read what an interrupted joining noted in its directory; changes nothing.

        Raises UsageError for a directory whose volumes came from parts of another plan, or from no part, or are a part.
        """
        output.refuse_part(directory)
        files = [path for path in directory.iterdir() if VOLUME_NAME.fullmatch(path.name.removesuffix(parity.SUFFIX))]
        if self._path.is_file():
            self._volumes = self._read()
        elif files:
            raise UsageError(f"{directory} holds volumes of an interrupted export", hint="Choose another --output.")
        for path in files:
            if not output.is_plain(path):
                raise UsageError(f"{path} is a link, or has another name", hint="Put a copy of it there.")

    def of(self, number: int) -> Gathered | None:
        """Return what is known of a volume, should it be there."""
        return self._volumes.get(number)

    def note(self, volumes: Mapping[int, Gathered]) -> None:
        """Note what volumes are, or will be when they are there; durable when this returns. Raises OSError."""
        self._volumes |= volumes
        write_atomic(self._path, msgspec.json.encode(_Mark(_TYPE, self._plan, self._volumes)) + b"\n")

    def _read(self) -> dict[int, Gathered]:
        try:
            mark = _MARK.decode(read_limited(self._path, MAX_SIZE))
        except UNDECODABLE as error:
            raise UsageError(f"{self._path}: not the mark of a joining: {error}", hint=_OTHER) from error
        if mark.media_type != _TYPE:
            raise UsageError(f"{self._path}: of another version: {mark.media_type[:80]!r}", hint="Use the version that began.")
        if mark.plan != self._plan:
            raise UsageError(
                f"{self._path.parent} holds volumes of another plan's parts",
                hint=f"They are not touched: finish that archive first. {_OTHER}",
            )
        return mark.volumes


@dataclass(frozen=True)
class Volumes:
    """The volumes of an archive in a directory: how they shall be closed, and how those that came from parts are."""

    directory: Path
    layout: Layout
    closing: Closing
    share: Fraction
    mark: Mark

    @property
    def numbers(self) -> range:
        """The numbers of all volumes."""
        return range(1, len(self.layout.volumes) + 1)

    @cached_property
    def missing(self) -> frozenset[Digest]:
        """The blobs of the layout that the archive is to call missing."""
        blobs = self.closing.inventory.blobs
        return frozenset(digest for digest in self.layout.blobs if blobs[digest].missing is not None)

    def record(self, number: int) -> VolumeRecord:
        """Return name and data size of a volume."""
        return self.layout.volumes[number - 1]

    def names(self, number: int) -> list[str]:
        """Return the names of a volume and its parity."""
        name = self.record(number).name
        return [name, name + parity.SUFFIX] if self.share else [name]

    def path(self, number: int) -> Path:
        """Return where a volume is to be."""
        return self.directory / self.record(number).name

    def size(self, number: int) -> int:
        """Return the size of a volume that is closed."""
        return self.record(number).data_size + self.closing.region.size + CLOSING_SIZE

    def is_long_enough(self, number: int, path: Path) -> bool:
        """Say whether a volume at `path` has its whole data region: then it can be closed again, whatever it ends with."""
        return path.stat().st_size >= self.record(number).data_size

    def is_whole(self, number: int) -> bool:
        """Say whether a volume that is here is closed as it shall be, with all that belongs to it."""
        known = self._known(number)
        right = known.closed_by(self.closing) and set(self.names(number)) == known.sums.keys()
        here = right and all((self.directory / name).is_file() for name in known.sums)
        return here and self.path(number).stat().st_size == self.size(number)

    def stays(self, number: int) -> bool:
        """Say whether a volume is here that can be gone on with."""
        path, known = self.path(number), self.mark.of(number)
        usable = known is not None and path.is_file() and self.is_long_enough(number, path)
        return usable and not self.cleared_for_nothing(number)

    def cleared_for_nothing(self, number: int) -> list[Digest]:
        """Return what is cleared in a volume that is here, though the archive shall have it."""
        known = self.mark.of(number)
        cleared = known.cleared if known is not None and self.path(number).is_file() else ()
        return [digest for digest in cleared if digest not in self.missing]

    def lacks(self, number: int, name: str, record: Part) -> bool:
        """Say whether a volume that stays came without a file that its part has."""
        mine = of_part(record, number, self.layout)
        return self.mark.of(number) == mine and name in mine.sums and not (self.directory / name).is_file()

    def to_be_cleared(self, number: int) -> tuple[Digest, ...]:
        """Return the blobs whose places a volume is to be without. Raises ValueError where it is without others already."""
        if not self.missing.issuperset(self._known(number).cleared):
            raise ValueError(f"volume {number} was to be closed as if it had what is cleared in it")
        return cleared_in(number, self.missing, self.layout)

    def sums(self) -> dict[str, str]:
        """Return the checksums of the volumes, those of parity behind them, as one process would list them."""
        sums = {name: checksum for number in self.numbers for name, checksum in self._known(number).sums.items()}
        return dict(sorted(sums.items(), key=lambda item: item[0].endswith(parity.SUFFIX)))

    def _known(self, number: int) -> Gathered:
        known = self.mark.of(number)
        if known is None:
            raise ValueError(f"volume {number} was not gathered")
        return known


def of_part(record: Part, number: int, layout: Layout) -> Gathered:
    """Return what a part says of one of its volumes."""
    name = layout.volumes[number - 1].name
    sums = {each: record.sums[each] for each in (name, name + parity.SUFFIX) if each in record.sums}
    return Gathered(cleared_in(number, record.lost, layout), record.inventory, record.signature, sums)


def cleared_in(number: int, lost: Iterable[Digest], layout: Layout) -> tuple[Digest, ...]:
    """Return which of the blobs that were lost have a place in a volume."""
    return tuple(sorted(digest for digest in lost if number in volumes_of(digest, layout)))


def volumes_of(digest: Digest, layout: Layout) -> Collection[int]:
    """Return the numbers of the volumes that have a piece of a blob."""
    return {piece.volume for piece in layout.blobs[digest].pieces}


# Which part has which volume, where several processes made one archive (docs/archive-format.md, *Parts*).

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
        if any(number in owned and owned[number] is one for number in volumes_of(digest, layout))
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
