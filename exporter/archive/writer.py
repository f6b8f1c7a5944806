"""Writing an archive: a sink that fills the places of a layout from many threads, and the order in which it becomes whole.

Volumes carry their final names from the start. That is safe, because a volume is one only by its footer, which comes after its
content is durable, and an archive is finished only by SHA256SUMS, which comes last of all: journal, volumes (content, then
metadata and footer), inventory.json, further files, SHA256SUMS, each durable before the next begins; then the journal goes.
A temporary suffix would add renames, which are not atomic over several files, and promise nothing more.
"""

from __future__ import annotations

import errno
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Self

from common.archive import direct_io, metadata, parity
from common.archive.direct_io import Buffers
from common.archive.inventory import Encoding, Inventory, Piece
from common.archive.volume import CLOSING_SIZE, extent
from common.content import Read, Written
from common.errors import ContentError, InterruptedByUserError, SpaceError, UsageError
from common.files import require_space, size_text
from common.progress import Progress, Silent, step
from exporter.archive import resume, volume_writer
from exporter.archive.output import OutputDirectory, refuse_parts
from exporter.archive.resume import Begun, LeftBehind, PreviousVolumes
from exporter.archive.volume_writer import OTHERS, Closing, Further, VolumeWriter

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    from common.archive.layout import Layout, PlacedBlob
    from common.oci.image import Descriptor, Digest
    from exporter.archive.early_reading import EarlyReading


# Filling the places of a layout from many threads, and reading back the bytes: shared by every way to make volumes.
#
# All volumes of an archive, or only some of them, where several processes make one archive (docs/reference/archive-format.md,
# *Parts*). Bytes of a blob in volumes of other processes are verified and discarded.


class VolumesWriter:
    """Fills the volumes `numbers` (counted from 1; all, when None) in `directory`; a context manager and a BlobSink.

    Entering claims the directory, checks the free space and reserves it; nothing is fetched before. Leaving keeps the
    unfinished volumes; the next export into the directory continues: whole blobs are not read from their source again, others
    from the last whole block on. `share`: parity for each volume; `beside`: bytes that further files will need; `reading`: that
    of the volumes in `directory`, which holds its lock.

    Raises UsageError for a directory that cannot be taken, SpaceError when there is too little room.
    """

    def __init__(
        self,
        directory: Path,
        layout: Layout,
        *,
        numbers: Collection[int] | None = None,
        progress: Progress | None = None,
        share: Fraction = Fraction(0),
        beside: int = 0,
        reading: EarlyReading | None = None,
    ) -> None:
        self._directory = directory
        self._layout = layout
        self._share = share
        self._beside = beside
        self._reading = reading
        self._progress = progress or Silent()
        self._stack = ExitStack()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._settled: set[Digest] = set()
        self._missing: set[Digest] = set()
        self._doubted: set[Digest] = set()
        self._begun: dict[Digest, Begun] = {}
        self._read_back: dict[int, list[Future[None]]] = {}
        self._hashed = 0
        self._telling = False
        self._broken: OSError | None = None
        self._earlier: Sequence[PreviousVolumes] = ()
        self._volumes = _volumes(directory, layout, numbers)

    def __enter__(self) -> Self:
        if self._share:
            parity.require_coder()  # before the first layer: a missing library is found at once
        with ExitStack() as stack:
            is_held = self._reading is not None
            self._output = stack.enter_context(OutputDirectory(self._directory, self._layout, self._admit, is_held=is_held))
            self._check_reading()
            self._earlier = [PreviousVolumes(export, stack) for export in self._output.earlier]
            # Allocated blocks, not sizes: files of an interrupted export have holes.
            there = sum(direct_io.allocated(path) for path in self._output.volumes())
            try:
                require_space(self._directory, max(self._need - there, 0), "the archive")
            except SpaceError:
                self._output.abandon()
                raise
            self._create()
            # One thread: read-back competes with writing for the disk, and one volume is hashed in order.
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="read-back")
            stack.callback(self._halt)
            if self._output.resumes:
                self._take_up()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()

    def write(self, blob: Descriptor, read: Read) -> Written:
        """Write a blob to its places. Raises ContentError for another size than planned, OSError from the file system."""
        # Read-back runs behind the writers; its failure ends the copying of all further blobs.
        if self._broken is not None:
            raise self._broken
        placed = self._layout.blobs[blob.digest]
        if blob.digest in self._settled:
            return Written.PRESENT
        # Compressed blobs are configurations of a few KiB: they are fetched again rather than resumed.
        if placed.encoding is Encoding.ZSTD:
            volume_writer.write_compressed(self._volume, placed, b"".join(read(0)))
            self._settle(placed)
            return Written.COPIED
        begun = self._begun_before(placed)
        if not begun.complete:
            self._doubted.add(blob.digest)  # if this try fails, the next one starts from the first byte
            volume_writer.write_raw(self._volume, placed, read(begun.size, begun.hasher) if begun.size else read(0), begun.size)
        self._settle(placed)
        return Written.PRESENT if begun.complete else Written.COPIED

    def mark_missing(self, digest: Digest) -> None:
        """Clear the places of a blob that could not be fetched; its record in the inventory must say `missing`."""
        placed = self._layout.blobs[digest]
        if digest in self._settled:
            raise ValueError(f"{digest} is written already, or marked as missing twice")
        for piece in placed.pieces:
            self._volume(piece).clear(*extent(piece))
        self._missing.add(digest)
        self._settle(placed)

    def _admit(self, directory: Path) -> None:
        """Refuse parts, and volumes from parts (see `OutputDirectory`)."""
        refuse_parts(directory)

    def _close_volumes(self, region: metadata.Region, inventory: Digest) -> dict[str, str]:
        """Read everything back and close every volume with `region`; return the checksums by file name."""
        # The bound was computed before fetching; beyond it the metadata would not fit the volume size.
        if region.size + CLOSING_SIZE > self._layout.reserve:
            raise ContentError(f"metadata of {region.size} bytes, and {self._layout.reserve - CLOSING_SIZE} were reserved")
        try:
            self._begin_progress(region.size + CLOSING_SIZE)
            return {volume.path.name: self._finish_volume(volume, region, inventory) for volume in self._volumes.values()}
        finally:
            self._progress.end()

    def _make_parity(self, sums: Mapping[str, str]) -> dict[str, str]:
        """Write parity where a share of it is wanted; return its checksums by file name."""
        if not self._share or not self._volumes:
            return {}
        made: dict[str, str] = {}
        paths = [volume.path for volume in self._volumes.values()]
        with step(self._progress, "making parity", sum(path.stat().st_size for path in paths), kept=True):
            for volume in paths:
                path, checksum = parity.make(volume, self._share, sums[volume.name], self._advance)
                made[path.name] = checksum
        return made

    @property
    def _need(self) -> int:
        """The bytes that the volumes and the files next to them take at most."""
        records = [volume.record for volume in self._volumes.values()]
        return volume_writer.room(records, self._layout.reserve, self._share, self._beside)

    def _check_reading(self) -> None:
        """Stop an early reading of volumes that belong to another layout, or changed meanwhile."""
        if self._reading is not None and not (self._output.resumes and self._reading.is_current()):
            self._reading.close()
            self._reading = None

    def _take_up(self) -> None:
        """Settle what an interrupted export completed, and note what it began."""
        found = self._left_behind()
        for number, checksum in found.checksums.items():
            self._volumes[number].adopt(*checksum)
        self._hashed = sum(volume.hashed for volume in self._volumes.values())
        self._begun = found.begun
        for digest in found.complete:
            self._settle(self._layout.blobs[digest])

    def _left_behind(self) -> LeftBehind:
        """Return the result of the early reading; where there is none, read the volumes now."""
        total = left = sum(volume.record.data_size for volume in self._volumes.values())
        if self._reading is not None and (early := self._reading.result(self._progress, total)) is not None:
            return early

        def advance(size: int) -> None:
            nonlocal left
            left -= size
            if size:
                self._progress.advance(size)

        with step(self._progress, resume.STEP, total, kept=True):
            found = resume.left_behind(self._layout, self._directory, self._volumes, advance)
            self._progress.advance(left, moved=False)  # places that were not reached
        return found

    def _begun_before(self, placed: PlacedBlob) -> Begun:
        """Return the state of a blob after an interrupted export, in its places or in those of a previous layout."""
        if placed.descriptor.digest in self._doubted or any(piece.volume not in self._volumes for piece in placed.pieces):
            return Begun()  # a blob with a piece in another part cannot be verified here
        if (found := self._begun.pop(placed.descriptor.digest, None)) is not None:
            return found
        for earlier in self._earlier:
            if earlier.move(placed.descriptor, lambda chunks: volume_writer.write_raw(self._volume, placed, chunks, 0)):
                return Begun(placed.descriptor.size, complete=True)
        return Begun()

    def _create(self) -> None:
        for volume in self._volumes.values():
            room = volume.record.data_size + self._layout.reserve
            try:
                if not (self._output.resumes and volume.reopen(room)):
                    # With a previous layout, room is freed blob by blob, and cannot be reserved ahead.
                    volume.create(room, reserve=not self._earlier)
            except OSError as error:
                # FAT takes no file of 4 GiB, and fails when its room is reserved.
                if error.errno != errno.EFBIG:
                    raise
                raise UsageError(
                    f"the file system of {self._directory} takes no files of {size_text(room)}",
                    hint="Use --volume-size fat32, or another file system.",
                ) from error

    def _volume(self, piece: Piece) -> VolumeWriter:
        return self._volumes.get(piece.volume, OTHERS)

    def _settle(self, placed: PlacedBlob) -> None:
        """Count a blob as done. The settled beginning of a volume is read back while the rest is being filled."""
        with self._lock:
            if placed.descriptor.digest in self._settled:
                return
            self._settled.add(placed.descriptor.digest)
            self._doubted.discard(placed.descriptor.digest)
        for piece in placed.pieces:
            if self._volume(piece).settle(*extent(piece)):
                self._hash_later(self._volume(piece))

    def _hash_later(self, volume: VolumeWriter) -> None:
        lap = self._pool.submit(volume.read_back_data, self._advance)
        lap.add_done_callback(self._note)
        self._read_back.setdefault(volume.number, []).append(lap)

    def _note(self, lap: Future[None]) -> None:
        """Keep the reason why a lap failed: a medium that breaks is not filled to its end."""
        error = None if lap.cancelled() else lap.exception()
        if isinstance(error, (OSError, ContentError)):
            self._broken = OSError(getattr(error, "errno", None) or errno.EIO, f"it cannot be read back: {error}")

    def _wait(self, volume: VolumeWriter) -> None:
        """Wait until all content of a volume is on the medium and was read back."""
        if volume.number not in self._read_back:
            self._hash_later(volume)  # it has no blobs at all
        for lap in self._read_back[volume.number]:
            lap.result()

    def _finish_volume(self, volume: VolumeWriter, region: metadata.Region, inventory: Digest) -> str:
        self._wait(volume)
        return volume.finish(region, inventory, len(self._layout.volumes), self._advance)

    def _begin_progress(self, closing: int) -> None:
        # Laps may have read most of it already: progress shows what is left.
        with self._lock:
            total = sum(volume.record.data_size + closing for volume in self._volumes.values()) - self._hashed
            self._progress.begin("reading back what was written", total, kept=True)
            self._telling = True

    def _advance(self, size: int) -> None:
        if self._stop.is_set():
            raise InterruptedByUserError("stopped")
        with self._lock:
            self._hashed += size
            if self._telling:
                self._progress.advance(size)

    def _halt(self) -> None:
        # A lap hears the stop at its next chunk, in `_advance`.
        self._stop.set()
        self._pool.shutdown(wait=True, cancel_futures=True)
        for volume in self._volumes.values():
            volume.close()


def blobs_of(layout: Layout, numbers: Collection[int]) -> Iterator[Descriptor]:
    """Give the blobs with a piece in the volumes `numbers`, in the order of the archive."""
    for placed in layout.blobs.values():
        if any(piece.volume in numbers for piece in placed.pieces):
            yield placed.descriptor


def _volumes(directory: Path, layout: Layout, numbers: Collection[int] | None) -> dict[int, VolumeWriter]:
    places, buffers = [0] * len(layout.volumes), Buffers()
    for placed in layout.blobs.values():
        for piece in placed.pieces:
            places[piece.volume - 1] += 1
    return {
        number: VolumeWriter(directory / record.name, number, record, unsettled, buffers)
        for number, (record, unsettled) in enumerate(zip(layout.volumes, places, strict=True), 1)
        if numbers is None or number in numbers
    }


@dataclass(frozen=True, slots=True)
class FinishedArchive:
    """An archive that is complete and durable: its identity and its files, in the order they are carried."""

    inventory: Digest
    files: tuple[Path, ...]


class ArchiveWriter(VolumesWriter):
    """Makes one archive in `directory`: see `VolumesWriter`."""

    def finish(self, closing: Closing, further: Further | None = None) -> FinishedArchive:
        """Make the archive whole: metadata into every volume, everything read back, inventory and checksums last.

        The inventory must give every blob the layout's places, or call it missing as `mark_missing` did. `further` gives name
        and content of further files (the report), for the checksums of the others by name.
        Raises ContentError when a medium has less than was written, OSError when it breaks. The checksums are those of the
        bytes that were read back.
        """
        self._check(closing.inventory)
        sums = self._close_volumes(closing.region(), closing.identity)
        sums |= self._make_parity(sums)
        names = closing.complete(self._directory, sums, further)
        self._output.finished()
        return FinishedArchive(closing.identity, tuple(self._directory / name for name in names))

    def _check(self, inventory: Inventory) -> None:
        """Raise ValueError for an inventory that does not describe the written volumes: a mistake of the caller."""
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
