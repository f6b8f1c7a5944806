"""One volume while it is being written: places filled from many threads, settled, read back, closed with its metadata."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from common.archive import checksums, direct_io, frames, inventory_file, location, metadata, parity
from common.archive.direct_io import STEP, Buffers, CachedWriter, DirectWriter, NullWriter, RangeWriter, open_direct
from common.archive.frames import RawFrameWriter
from common.archive.inventory import Inventory, Piece, VolumeRecord
from common.archive.volume import CLOSING_SIZE, END_MARK, OPENING, Footer, entry_name, extent, header_frame, padding_frame
from common.errors import ContentError
from common.oci.image import Digest, Hasher, digest_of, hex_of

if TYPE_CHECKING:
    from fractions import Fraction

    from common.archive.layout import PlacedBlob
    from common.archive.location import Place
    from common.archive.metadata import Region
    from common.content import Chunks


_LAP = 256 * 1024 * 1024  # settled bytes that are worth a lap of reading back
_HOUSEKEEPING = 1024 * 1024  # journal, checksums, temporary names


def room(volumes: Iterable[VolumeRecord], reserve: int, share: Fraction, beside: int) -> int:
    """Return the bytes on disk that volumes need at most, with their parity and the files next to them.

    `reserve`: bytes kept free in each volume for its metadata; `share`: of parity; `beside`: bytes of the report.
    """
    sizes = [volume.data_size + reserve for volume in volumes]
    made = sum(parity.bound(size, share) for size in sizes) if share else 0
    return sum(sizes) + made + reserve + beside + _HOUSEKEEPING


class VolumeWriter:
    """Volume `number` at `path`; `unsettled` places must be written or marked as missing before it can be closed.

    The file is created, never opened through a link or over another one. It is open only while places are being filled, so that
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
        self._asked = 0  # the end of the range that is queued for read-back
        self._hasher = Hasher()
        self._hashed = 0
        self._lock = threading.Lock()
        self._file: int | None = None
        self._direct: int | None = None

    def create(self, room: int, *, reserve: bool = True) -> None:
        """Make the file with its first entry, and `reserve` its `room` where the file system can. Raises OSError."""
        # O_EXCL and O_NOFOLLOW: a link in the output directory must not lead a write elsewhere.
        file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
        try:
            if reserve:
                direct_io.preallocate(file, room)
            direct_io.write_all(file, [OPENING], 0)
        finally:
            os.close(file)

    def reopen(self, room: int) -> bool:
        """Take up a file that an interrupted export left, and reserve its room again; False without one. Raises OSError."""
        try:
            file = os.open(self.path, os.O_RDWR | os.O_NOFOLLOW)
        except FileNotFoundError:
            return False
        try:
            direct_io.preallocate(file, room)
            direct_io.write_all(file, [OPENING], 0)
        finally:
            os.close(file)
        return True

    def file(self) -> int:
        """Return the file descriptor for the places."""
        with self._lock:
            if self._file is None:
                self._file = os.open(self.path, os.O_RDWR | os.O_NOFOLLOW)
            return self._file

    def run(self, begin: int, *, end: int) -> RangeWriter:
        """Return a way to write a place from `begin` to `end`: past the page cache where it is large."""
        file = self.file()
        # O_DIRECT needs whole aligned pages; small places would be mostly edges (ADR 0021).
        if end - begin < STEP:
            return CachedWriter(file, begin)
        with self._lock:
            if self._direct is None:
                self._direct = open_direct(self.path)
            direct = self._direct
        return CachedWriter(file, begin) if direct is None else DirectWriter(file, direct, begin, self._buffers)

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
        """Close the file in any state."""
        with self._lock:
            for file in (self._file, self._direct):
                if file is not None:
                    os.close(file)
            self._file = self._direct = None

    @property
    def hashed(self) -> int:
        """The bytes that were read back."""
        return self._hashed

    def adopt(self, hasher: Hasher, position: int) -> None:
        """Continue the checksum at `position`: the bytes before it are settled, and were read from the medium."""
        self._hasher, self._hashed, self._asked = hasher, position, position

    def read_back_data(self, advance: Callable[[int], None]) -> None:
        """Hash the settled bytes of the data region, from the medium, from the end of the last call on.

        With the last place settled, all of the data region is on the medium. One thread at a time. Raises ContentError when it
        is not all there, OSError when the medium breaks.
        """
        with self._lock:
            end = self._asked if self._unsettled else self.record.data_size
            # Once for each volume: a flush for each blob costs more than reading the blobs again after a loss of power.
            if not self._unsettled and self._file is not None:
                os.fsync(self._file)
        if not self._unsettled:
            self.close()
        direct_io.read_back(self.path, self._hashed, end, self._hasher, advance)
        self._hashed = end

    def finish(self, region: Region, inventory: Digest, count: int, advance: Callable[[int], None]) -> str:
        """Write metadata, end mark and footer, cut the file to its end, and return the checksum (64 hex digits) of all of it.

        The data region is durable before its footer is written; its hash continues over the rest.
        """
        start = self.record.data_size
        at = start + region.inventory_at
        footer = Footer(self.number, count, start, at, region.inventory_stored, inventory)
        end = start + region.size + CLOSING_SIZE
        file = self.file()
        position = start
        for part in (*region.frames, END_MARK, footer.pack()):
            direct_io.write_all(file, [part], position)
            position += len(part)
        # The room was reserved, and a previous run may have closed the volume with more metadata.
        os.ftruncate(file, end)
        os.fsync(file)
        self.close()
        # Read from the medium, like the data: SHA256SUMS is of bytes that can be read.
        direct_io.read_back(self.path, start, end, self._hasher, advance)
        return hex_of(self._hasher.digest())

    def clear(self, start: int, end: int) -> None:
        """Overwrite the place of a missing blob with zeroed skippable frames."""
        file = self.file()
        # Zeros, so that bytes of a blob that failed its digest are not carried over the gap.
        direct_io.zero(file, start, end - start)
        for position, header in frames.placeholders(end - start):
            direct_io.write_all(file, [header], start + position)


class _OtherVolume(VolumeWriter):
    """A volume of another part: bytes that are written into it are discarded."""

    def __init__(self) -> None:
        super().__init__(Path("/dev/null"), 0, VolumeRecord("", 0), 0, Buffers())

    def run(self, begin: int, *, end: int) -> RangeWriter:
        """Return a run that discards its bytes."""
        del begin, end
        return NullWriter()

    def settle(self, begin: int, end: int) -> bool:
        """Never anything to read back."""
        del begin, end
        return False

    def clear(self, start: int, end: int) -> None:
        """Do nothing: another process writes the volume."""


OTHERS = _OtherVolume()


# Writing the entry of one blob, from header to padding, in one frame or in raw blocks, over all of its pieces.

Volume = Callable[[Piece], VolumeWriter]  # returns the volume of a piece


def write_compressed(volume: Volume, placed: PlacedBlob, content: bytes) -> None:
    """Write content that is here already as one compressed frame. Raises ContentError for other sizes than planned."""
    piece, size = placed.pieces[0], placed.descriptor.size
    frame = frames.compress(content)  # the same zstd in planning and here, but perhaps not on another machine: compared
    if len(content) != size or len(frame) != piece.stored:
        got = f"{len(content)} bytes, {len(frame)} compressed"
        raise ContentError(f"{placed.descriptor.digest}: {got}; planned were {size} and {piece.stored}")
    header = header_frame(entry_name(placed.descriptor.digest), size)
    direct_io.write_all(volume(piece).file(), [header, frame, padding_frame(size)], extent(piece)[0])


def write_raw(volume: Volume, placed: PlacedBlob, chunks: Chunks, done: int) -> None:
    """Write content from byte `done` on, which begins a block or a piece. Raises ContentError, OSError."""
    size = placed.descriptor.size
    targets = iter(_targets(volume, placed, done))
    target = next(targets)
    for chunk in chunks:
        rest = memoryview(chunk)
        done += len(rest)
        # Before any byte is written behind the place, where another blob may be.
        if done > size:
            break
        while len(rest) > target.room:
            room = target.room
            target.write(rest[:room])
            target.close()
            rest = rest[room:]
            target = next(targets)
        target.write(rest)
    if done != size:
        raise ContentError(f"{placed.descriptor.digest}: {done} bytes came, planned were {size}")
    target.close()


def _targets(volume: Volume, placed: PlacedBlob, done: int) -> list[RawFrameWriter]:
    """Return the writers of the pieces that are not complete yet."""
    writers, start = [], 0
    for number, piece in enumerate(placed.pieces, 1):
        # The last piece counts even when it is complete: its padding may not be.
        if start + piece.size > done or number == len(placed.pieces):
            name = entry_name(placed.descriptor.digest, number, len(placed.pieces))
            around = header_frame(name, piece.size), padding_frame(piece.size)
            run = partial(volume(piece).run, end=extent(piece)[1])
            writers.append(RawFrameWriter(run, piece.offset, piece.size, *around, done=max(done - start, 0)))
        start += piece.size
    return writers


# Closing: the end of every volume, and the files next to them.
#
# The order is that of docs/reference/archive-format.md, *Writing*: volumes, inventory, further files, SHA256SUMS last, each
# durable before the next begins.

Sign = Callable[[bytes], bytes]
Further = Callable[[Mapping[str, str]], Mapping[str, bytes]]


@dataclass(frozen=True)
class Closing:
    """The bytes that close an archive: its inventory, the signature over it, and the metadata of every volume.

    The inventory is encoded each time it is needed: as bytes it takes as much memory as the list itself.
    """

    inventory: Inventory
    manifests: Mapping[Digest, bytes]
    index_json: bytes
    sign: Sign | None = None

    @cached_property
    def identity(self) -> Digest:
        """The archive's identity."""
        return inventory_file.identity(self.inventory)

    @cached_property
    def signature(self) -> bytes | None:
        """The signature over the inventory."""
        return self.sign(inventory_file.encode(self.inventory)) if self.sign else None

    def region(self) -> metadata.Region:
        """Return the metadata region of every volume."""
        inventory = partial(inventory_file.parts, self.inventory)
        return metadata.build_in_parts(self.index_json, self.manifests, inventory, self.signature)

    def complete(self, place: Place, volumes: Mapping[str, str], further: Further | None = None) -> tuple[str, ...]:
        """Write the files next to the closed `volumes` (checksums by file name), SHA256SUMS last; return the names written.

        `further` gives name and content of more files (the report), for the checksums of all others.
        """
        signed = {inventory_file.SIGNATURE_NAME: self.signature} if self.signature is not None else {}
        location.write_parts(place / inventory_file.NAME, inventory_file.parts(self.inventory))
        files = {inventory_file.NAME: hex_of(self.identity), **_written(place, signed)}
        sums = {**volumes, **files}
        beside = further(sums) if further else {}
        listed = checksums.render(sums | _written(place, beside))
        # The signature of SHA256SUMS before the file itself: SHA256SUMS marks the archive as finished.
        last = {checksums.SIGNATURE_NAME: self.sign(listed)} if self.sign else {}
        _written(place, last | {checksums.NAME: listed})
        return (*files, *volumes, *beside, *last, checksums.NAME)


def _written(place: Place, files: Mapping[str, bytes]) -> dict[str, str]:
    """Write files; return their checksums by name."""
    for name, raw in files.items():
        location.write(place / name, raw)
    return {name: hex_of(digest_of(raw)) for name, raw in files.items()}
