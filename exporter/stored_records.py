"""What is known of the volumes of an archive in object storage: a record beside each, true of one version of its objects."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from common.archive import parity, part
from common.archive.part import Part
from common.errors import UsageError
from common.storage.place import StoredPlace
from exporter.plan_file import PlanFile

_NAME = re.compile(re.escape(part.NAME) + r"-(\d{4,6})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Records:
    """The records at a place, of volumes that are made by a plan. I/O raises StorageError."""

    place: StoredPlace
    plan: PlanFile

    def all(self) -> dict[int, Part]:
        """Return the records by volume. Raises UsageError for one that cannot be read, or is of another plan."""
        return {number: self._read(child) for child, number in records_in(self.place)}

    def of(self, number: int) -> Part | None:
        """Return the record of a volume; None where there is none. Raises UsageError as `all` does."""
        at = self.at(number)
        return None if at.stat() is None else self._read(at)

    def at(self, number: int) -> StoredPlace:
        """Return where the record of a volume lies."""
        return self.place / f"{part.NAME}-{number:04d}"

    def write(self, number: int, record: Part) -> None:
        """Note what is known of a volume."""
        self.at(number).write(part.encode(record))

    def volume(self, number: int) -> StoredPlace:
        """Return where a volume lies."""
        return self.place / self.plan.drawn.layout.volumes[number - 1].name

    def is_stored(self, number: int, record: Part) -> bool:
        """Say whether a volume, with its parity, is there in the version that the record speaks of."""
        for name in record.sums or (self.volume(number).name,):
            stat = (self.place / name).stat()
            if stat is None or stat.tag != record.tags.get(name):
                return False
        return True

    def sums(self, number: int, record: Part) -> dict[str, str]:
        """Return the checksums of a volume and its parity. Raises UsageError when its record has others."""
        name = self.volume(number).name
        names = [name, name + parity.SUFFIX] if self.plan.drawn.terms.parity else [name]
        if sorted(record.sums) != names:
            raise UsageError(f"{self.at(number)}: not the checksums of {' and '.join(names)}", hint="Delete it there.")
        return record.sums

    def _read(self, at: StoredPlace) -> Part:
        record, layout = part.decode(at.read(part.MAX_SIZE), str(at)), self.plan.drawn.layout
        match = _NAME.fullmatch(at.name)
        numbers = (int(match[1]),) if match else ()
        known = record.lost.keys() <= layout.blobs.keys() and numbers and 1 <= numbers[0] <= len(layout.volumes)
        if record.volumes != numbers or record.plan != self.plan.identity or not known:
            raise UsageError(f"{at}: the record of another volume or plan", hint="Delete it, and its volume.")
        return record


def records_in(place: StoredPlace) -> Iterator[tuple[StoredPlace, int]]:
    """Give where the records at a place lie, and of which volumes they are."""
    for child, _ in place.children():
        match = _NAME.fullmatch(child.name)
        if match is not None:
            yield child, int(match[1])
