"""One volume while it is being written: places filled from many threads, settled, read back, closed with its metadata."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

from common.archive import disk, frames
from common.archive.inventory import VolumeRecord
from common.archive.metadata import Region
from common.archive.staging import STEP, Buffers, DiscardedRun, PlainRun, Run, StagedRun, open_direct
from common.archive.volume import CLOSING_SIZE, END_MARK, OPENING, Footer
from common.digest import Digest, Hasher, hex_of

_LAP = 256 * 1024 * 1024  # settled bytes that are worth a lap of reading back


class VolumeFile:
    """Volume `number` at `path`; `unsettled` places must be written or marked as missing before it can be closed.

    The file is made anew, never through a link and never over another. It is open only while places are being filled, so that
    an archive may have more volumes than a process may have files.
    """

    def __init__(self, path: Path, number: int, record: VolumeRecord, unsettled: int, buffers: Buffers) -> None:
        self.path = path
        self.number = number
        self.record = record
        self._unsettled = unsettled
        self._buffers = buffers
        self._settled: dict[int, int] = {}  # begin → end, of those behind one that is not settled yet
        self._ready = len(OPENING)  # before it everything is settled
        self._asked = 0  # and so much of that shall be read back
        self._hasher = Hasher()
        self._hashed = 0
        self._lock = threading.Lock()
        self._file: int | None = None
        self._direct: int | None = None

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

    def run(self, begin: int, *, end: int) -> Run:
        """Return a way to write a place from `begin` to `end`: past the page cache where it is large."""
        file = self.file()
        if end - begin < STEP:
            return PlainRun(file, begin)
        with self._lock:
            if self._direct is None:
                self._direct = open_direct(self.path)
            direct = self._direct
        return PlainRun(file, begin) if direct is None else StagedRun(file, direct, begin, self._buffers)

    def settle(self, begin: int, end: int) -> bool:
        """Count a place as written or missing. True when so much is settled from the beginning on that it may be read back."""
        with self._lock:
            self._unsettled -= 1
            self._settled[begin] = end
            while self._ready in self._settled:
                self._ready = self._settled.pop(self._ready)
            if self._unsettled:
                enough = self._ready - self._asked >= _LAP
                self._asked = self._ready if enough else self._asked
                return enough
            self._asked = self.record.data_size
            return True

    def close(self) -> None:
        """Let go of the file, whatever its state."""
        with self._lock:
            for file in (self._file, self._direct):
                if file is not None:
                    os.close(file)
            self._file = self._direct = None

    def read_back_data(self, advance: Callable[[int], None]) -> None:
        """Hash what of the data region is settled, from the medium, and go on where that ended the last time.

        With the last place settled, all of the data region is on the medium. One thread at a time. Raises ContentError when it
        is not all there, OSError when the medium breaks.
        """
        with self._lock:
            end = self._asked if self._unsettled else self.record.data_size
            if not self._unsettled and self._file is not None:
                os.fsync(self._file)
        if not self._unsettled:
            self.close()
        disk.read_back(self.path, self._hashed, end, self._hasher, advance)
        self._hashed = end

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


class _OtherVolume(VolumeFile):
    """A volume that somebody else makes: what is written into it is not kept, and nothing is waited for."""

    def __init__(self) -> None:
        super().__init__(Path("/dev/null"), 0, VolumeRecord("", 0), 0, Buffers())

    def run(self, begin: int, *, end: int) -> Run:
        """See `VolumeFile.run`."""
        del begin, end
        return DiscardedRun()

    def settle(self, begin: int, end: int) -> bool:
        """Never anything to read back."""
        del begin, end
        return False

    def clear(self, start: int, end: int) -> None:
        """Leave the place to whoever makes the volume."""


OTHERS = _OtherVolume()
