"""Writing an archive: a sink that fills the places of a layout from many threads, and the order in which it becomes whole.

Volumes carry their final names from the start. That is safe, because a volume is one only by its footer, which comes after its
content is durable, and an archive is finished only by SHA256SUMS, which comes last of all: journal, volumes (content, then
metadata and footer), inventory.json, further files, SHA256SUMS, each durable before the next begins; then the journal goes.
A temporary suffix would add renames, which are not atomic over several files, and promise nothing more.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from common.archive.closing import Closing, Further
from common.archive.filling import Filling
from common.archive.inventory import Inventory
from common.digest import Digest


@dataclass(frozen=True, slots=True)
class FinishedArchive:
    """An archive that is complete and durable: its identity and its files, in the order they are carried."""

    inventory: Digest
    files: tuple[Path, ...]


class ArchiveWriter(Filling):
    """Makes one archive in `directory`: see `Filling`."""

    def finish(self, closing: Closing, further: Further | None = None) -> FinishedArchive:
        """Make the archive whole: metadata into every volume, everything read back, inventory and checksums last.

        The inventory must give every blob the layout's places, or call it missing as `mark_missing` did. `further` gives name
        and content of files beside it (the report), for the checksums of the others by name.
        Raises ContentError when a medium has less than was written, OSError when it breaks; what it gives back is what the
        checksums are of.
        """
        self._check(closing.inventory)
        sums = self._close_volumes(closing.region, closing.identity)
        sums |= self._make_parity(sums)
        names = closing.complete(self._directory, sums, further)
        self._output.finished()
        self._progress.end()
        return FinishedArchive(closing.identity, tuple(self._directory / name for name in names))

    def _check(self, inventory: Inventory) -> None:
        """Refuse an inventory that does not describe what was written: a mistake of the caller, not of any input."""
        if inventory.volumes != self._layout.volumes:
            raise ValueError("the inventory lists other volumes than the layout")
        if any(record.pieces and digest not in self._layout.blobs for digest, record in inventory.blobs.items()):
            raise ValueError("the inventory gives places to blobs that the layout has not")
        for digest, placed in self._layout.blobs.items():
            record = inventory.blobs[digest]
            if digest not in self._settled:
                raise ValueError(f"{digest} is neither written nor marked as missing")
            if (record.missing is not None) != (digest in self._missing):
                raise ValueError(f"{digest}: written and missing at once")
            if record.missing is None and record != placed.record:
                raise ValueError(f"{digest}: its record is not that of its place")
