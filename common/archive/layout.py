"""Where every byte of content will lie, before the first one is fetched (docs/archive-format.md, *A volume*; ADR 0003).

Pure and linear. Blobs keep the order they are given in. A volume is closed when the next blob does not fit any more; what
would fit in no empty volume is cut. Same plan, same layout.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from common.archive import frames
from common.archive.inventory import MAX_BLOBS, BlobRecord, Encoding, Piece, VolumeRecord
from common.archive.volume import (
    CLOSING_SIZE,
    MAX_PIECES,
    MAX_VOLUMES,
    OPENING,
    PAX_SIZE,
    header_frame_size,
    padding_frame_size,
    volume_name,
)
from common.errors import UsageError
from common.oci.image import Descriptor, Digest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# What one more volume may add to the inventory: its own record, and that of one more piece of a cut blob.
VOLUME_ROOM = 512


@dataclass(frozen=True, slots=True)
class PlannedBlob:
    """A blob to be carried. `stored` is the length of its content frame when the encoding is zstd."""

    descriptor: Descriptor
    encoding: Encoding = Encoding.RAW
    stored: int | None = None


class PlacedBlob(msgspec.Struct, frozen=True):
    """A blob and its places. The encoding is raw for a blob that had to be cut, whatever was planned."""

    descriptor: Descriptor
    encoding: Encoding
    pieces: tuple[Piece, ...]

    @property
    def record(self) -> BlobRecord:
        """What the inventory says of it."""
        return BlobRecord(self.descriptor.size, self.descriptor.media_type, self.encoding, self.pieces)


@dataclass(frozen=True, slots=True)
class Layout:
    """Every place. `blobs` in the order of the archive; `reserve` are the bytes kept free in each volume for its end."""

    blobs: Mapping[Digest, PlacedBlob]
    volumes: tuple[VolumeRecord, ...]
    reserve: int

    @property
    def size(self) -> int:
        """The bytes of all volumes, at most."""
        return sum(volume.data_size + self.reserve for volume in self.volumes)

    def blob_records(self) -> dict[Digest, BlobRecord]:
        """Return the inventory's `blobs`, as if everything were fetched."""
        return {digest: blob.record for digest, blob in self.blobs.items()}


def extent(piece: Piece) -> tuple[int, int]:
    """Return where the place of a piece begins and ends in its volume, from tar header to padding."""
    return piece.offset - header_frame_size(piece.size), piece.offset + piece.stored + padding_frame_size(piece.size)


def plan_layout(blobs: Sequence[PlannedBlob], metadata_bound: int, volume_size: int) -> Layout:
    """Place every blob, each digest once.

    `metadata_bound`: the most bytes that the metadata region takes in a volume, counting one piece for each blob and no
    volume; `volume_size`: the most bytes of a volume file. Raises UsageError, naming the smallest size that works, when
    volumes are too small, and for more blobs than an inventory may list.
    """
    if len(blobs) > MAX_BLOBS:
        raise UsageError(f"{len(blobs)} blobs; an archive holds at most {MAX_BLOBS}", hint="Make several archives.")
    layout = _fit(blobs, metadata_bound, volume_size)
    if layout is None:
        smallest = _smallest(blobs, metadata_bound, volume_size)
        raise UsageError(
            f"volumes of {volume_size} bytes are too small for this archive: each carries the metadata of all of it",
            hint=f"The smallest --volume-size that works is {smallest}.",
        )
    return layout


def _fit(blobs: Sequence[PlannedBlob], metadata_bound: int, volume_size: int) -> Layout | None:
    """Pack with room for as many volumes as it takes; None when that leaves too little room for content."""
    total = sum(blob.descriptor.size for blob in blobs)
    expected = 1 + (total + total // 64) // max(
        volume_size, 1
    )  # volumes are rarely full; a second packing costs more than room
    while expected <= MAX_VOLUMES:
        reserve = metadata_bound + expected * VOLUME_ROOM + CLOSING_SIZE
        packer = _Packer(volume_size - reserve)
        if packer.limit < len(OPENING) or not all(packer.place(blob) for blob in blobs):
            return None
        volumes = packer.volumes()
        if len(volumes) <= expected:
            return Layout(packer.placed, volumes, reserve)
        expected = len(volumes) + len(volumes) // 8
    return None


def _smallest(blobs: Sequence[PlannedBlob], metadata_bound: int, too_small: int) -> int:
    works = max(2 * too_small, metadata_bound, CLOSING_SIZE)
    while _fit(blobs, metadata_bound, works) is None:
        works *= 2
    while works - too_small > 1:
        middle = (works + too_small) // 2
        if _fit(blobs, metadata_bound, middle) is None:
            too_small = middle
        else:
            works = middle
    return works


@dataclass(slots=True)
class _Packer:
    """Fills volumes one after another; `limit` is where a data region ends at the latest."""

    limit: int
    placed: dict[Digest, PlacedBlob] = field(default_factory=dict)
    _ends: list[int] = field(default_factory=lambda: [len(OPENING)])

    def volumes(self) -> tuple[VolumeRecord, ...]:
        """Return what was filled."""
        return tuple(VolumeRecord(volume_name(number), end) for number, end in enumerate(self._ends, 1))

    def place(self, blob: PlannedBlob) -> bool:
        """Place a blob behind the others; False when no volume can take even a block of it."""
        size, encoding = blob.descriptor.size, blob.encoding
        if blob.descriptor.digest in self.placed:
            raise ValueError(f"{blob.descriptor.digest} is planned twice")
        if blob.stored is None or encoding is Encoding.RAW:
            encoding, stored = Encoding.RAW, frames.raw_frame_size(size)
        else:
            stored = blob.stored
        pieces: tuple[Piece, ...]
        if self._fits(size, stored):
            pieces = (self._take(size, stored),)
        else:
            encoding, pieces = Encoding.RAW, self._cut(size)
        self.placed[blob.descriptor.digest] = PlacedBlob(blob.descriptor, encoding, pieces)
        return bool(pieces)

    def _fits(self, size: int, stored: int) -> bool:
        """Say whether an entry fits into the current volume, or else into a new one, which is then begun."""
        length = header_frame_size(size) + stored + padding_frame_size(size)
        if self._ends[-1] + length > self.limit and len(OPENING) + length <= self.limit:
            self._ends.append(len(OPENING))
        return self._ends[-1] + length <= self.limit

    def _take(self, size: int, stored: int) -> Piece:
        offset = self._ends[-1] + header_frame_size(size)
        self._ends[-1] = offset + stored + padding_frame_size(size)
        return Piece(len(self._ends), offset, stored, size)

    def _cut(self, size: int) -> tuple[Piece, ...]:
        """Fill this volume, then as many as it takes; nothing when a volume is too small for a block or pieces too many."""
        pieces: list[Piece] = []
        while not self._fits(size, frames.raw_frame_size(size)):
            part = _most(self.limit - self._ends[-1], size)
            if part:
                pieces.append(self._take(part, frames.raw_frame_size(part)))
                size -= part
            elif self._ends[-1] == len(OPENING):
                return ()
            self._ends.append(len(OPENING))
            if len(pieces) >= MAX_PIECES:
                return ()
        pieces.append(self._take(size, frames.raw_frame_size(size)))
        return tuple(pieces)


def _most(room: int, size: int) -> int:
    """Return the largest piece, in whole blocks and less than `size`, whose entry fits into `room` bytes."""
    part = min(_whole_blocks(room - header_frame_size(0)), (size - 1) // frames.BLOCK * frames.BLOCK)
    if part >= PAX_SIZE:
        part = min(_whole_blocks(room - header_frame_size(PAX_SIZE)), part)
    return max(part, 0)


def _whole_blocks(room: int) -> int:
    """Return how much content a frame of at most `room` bytes takes, in whole blocks."""
    blocks = (room - frames.HEADER_SIZE) // (frames.BLOCK_HEADER_SIZE + frames.BLOCK)
    return blocks * frames.BLOCK
