"""One volume while it is being written: places filled from many threads, settled, read back, closed with its metadata."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

from common.archive import disk, frames
from common.archive.inventory import VolumeRecord
from common.archive.metadata import Region
from common.archive.volume import CLOSING_SIZE, END_MARK, OPENING, Footer
from common.digest import Digest, Hasher, hex_of


class VolumeFile:
    """Volume `number` of `count` at `path`; `unsettled` places must be written or marked as missing before it can be closed.

    The file is made anew, never through a link and never over another. It is open only while places are being filled, so that
    an archive may have more volumes than a process may have files.
    """

    def __init__(self, path: Path, number: int, record: VolumeRecord, unsettled: int) -> None:
        self.path = path
        self.number = number
        self.record = record
        self._unsettled = unsettled
        self._hasher = Hasher()
        self._lock = threading.Lock()
        self._file: int | None = None

    def create(self, room: int, *, reserve: bool = True) -> None:
        """Make the file with its first entry, and `reserve` its `room` where the file system can. Raises OSError."""
        file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
        try:
            if reserve:
                disk.preallocate(file, room)
            disk.write_all(file, [OPENING], 0)
        finally:
            os.close(file)

    def reopen(self, room: int) -> bool:
        """Take up a file that an interrupted export left, and reserve its room again; False without one. Raises OSError."""
        try:
            file = os.open(self.path, os.O_RDWR | os.O_NOFOLLOW)
        except FileNotFoundError:
            return False
        try:
            disk.preallocate(file, room)
            disk.write_all(file, [OPENING], 0)
        finally:
            os.close(file)
        return True

    def file(self) -> int:
        """Return the file descriptor for the places."""
        with self._lock:
            if self._file is None:
                self._file = os.open(self.path, os.O_RDWR | os.O_NOFOLLOW)
            return self._file

    def settle(self) -> bool:
        """Count one place as written or missing; True when it was the last: then the data region is on the medium."""
        with self._lock:
            self._unsettled -= 1
            if self._unsettled:
                return False
            if self._file is not None:
                os.fsync(self._file)
        self.close()
        return True

    def close(self) -> None:
        """Let go of the file, whatever its state."""
        with self._lock:
            if self._file is not None:
                os.close(self._file)
                self._file = None

    def read_back_data(self, advance: Callable[[int], None]) -> None:
        """Hash the data region from the medium, once settled. Raises ContentError when it is not all there."""
        disk.read_back(self.path, 0, self.record.data_size, self._hasher, advance)

    def finish(self, region: Region, inventory: Digest, count: int, advance: Callable[[int], None]) -> str:
        """Write metadata, end mark and footer, cut the file to its end, and return the checksum (64 hex digits) of all of it.

        The data region is durable before the footer that vouches for it is written; the hash of it goes on over the rest.
        """
        start = self.record.data_size
        at = start + region.inventory_at
        footer = Footer(self.number, count, start, at, region.inventory_stored, inventory)
        end = start + region.size + CLOSING_SIZE
        file = self.file()
        position = start
        for part in (*region.frames, END_MARK, footer.pack()):
            disk.write_all(file, [part], position)
            position += len(part)
        os.ftruncate(file, end)
        os.fsync(file)
        self.close()
        disk.read_back(self.path, start, end, self._hasher, advance)
        return hex_of(self._hasher.digest())

    def clear(self, start: int, end: int) -> None:
        """Turn a place into zeroed skippable frames: what should be there could not be fetched."""
        file = self.file()
        disk.zero(file, start, end - start)
        for position, header in frames.placeholders(end - start):
            disk.write_all(file, [header], start + position)
