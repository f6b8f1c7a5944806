"""The layout: volume and offset of every blob, fixed before the first one is fetched.

Specification: docs/reference/archive-format.md; ADR 0003.

Pure, and linear in the number of blobs. Blobs keep their order. A volume is closed when the next blob does not fit; a blob that
does not fit into an empty volume is cut. The same plan gives the same layout.
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


# gc=False in both, as in `inventory.py`: there are hundreds of thousands, and none is part of a cycle.


class PlannedBlob(msgspec.Struct, frozen=True, gc=False):
    """A blob to be carried. `stored` is the length of its content frame when the encoding is zstd."""

    descriptor: Descriptor
    encoding: Encoding = Encoding.RAW
    stored: int | None = None


class PlacedBlob(msgspec.Struct, frozen=True, gc=False):
    """A blob and its places. A blob that was cut is raw: only whole raw blocks have a known position."""

    descriptor: Descriptor
    encoding: Encoding
    pieces: tuple[Piece, ...]

    @property
    def record(self) -> BlobRecord:
        """The record of the blob in the inventory."""
        return BlobRecord(self.descriptor.size, self.descriptor.media_type, self.encoding, self.pieces)


@dataclass(frozen=True, slots=True)
class Layout:
    """The places of all blobs, in the order of the archive; `reserve`: bytes kept free in each volume for its metadata."""

    blobs: Mapping[Digest, PlacedBlob]
    volumes: tuple[VolumeRecord, ...]
    reserve: int

    def blob_records(self) -> dict[Digest, BlobRecord]:
        """Return the inventory's `blobs` for the case that all of them can be fetched."""
        return {digest: blob.record for digest, blob in self.blobs.items()}


def plan_layout(blobs: Sequence[PlannedBlob], metadata_bound: int, volume_size: int) -> Layout:
    """Place every blob, each digest once.

    `metadata_bound`: the most bytes that the metadata region takes in a volume, counting one piece for each blob and no
    volume; `volume_size`: the most bytes of a volume file. Raises UsageError, naming the smallest size that works, when
    volumes are too small, and for more blobs than an inventory may list.
    """
    if len(blobs) > MAX_BLOBS:  # refused now, since no reader would accept the inventory
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
    """Pack the blobs; None when the metadata leaves too little room for content."""
    total = sum(blob.descriptor.size for blob in blobs)
    # Each volume lists all volumes, so their number has to be guessed first. One in 64 is for volumes that are not full: a
    # second pass over two million blobs costs more than a reserve that is slightly too large.
    expected = 1 + (total + total // 64) // max(volume_size, 1)
    while expected <= MAX_VOLUMES:  # each round has a larger reserve, so this ends
        reserve = metadata_bound + expected * VOLUME_ROOM + CLOSING_SIZE
        packer = _Packer(volume_size - reserve)
        if packer.limit < len(OPENING) or not all(packer.place(blob) for blob in blobs):
            return None
        volumes = packer.volumes()
        if len(volumes) <= expected:
            return Layout(packer.placed, volumes, reserve)
        expected = len(volumes) + len(volumes) // 8  # a larger reserve needs more volumes in turn
    return None


def _smallest(blobs: Sequence[PlannedBlob], metadata_bound: int, too_small: int) -> int:
    """Return the smallest volume size that works, by bisection: the answer to the next question of the user."""
    # Doubling first: there is no upper bound but the size of all blobs, which may be far too large.
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
    """Packer of volumes, one after another; `limit`: the largest possible end of a data region."""

    limit: int
    placed: dict[Digest, PlacedBlob] = field(default_factory=dict)
    _ends: list[int] = field(default_factory=lambda: [len(OPENING)])

    def volumes(self) -> tuple[VolumeRecord, ...]:
        """Return the records of the volumes."""
        return tuple(VolumeRecord(volume_name(number), end) for number, end in enumerate(self._ends, 1))

    def place(self, blob: PlannedBlob) -> bool:
        """Place a blob after the others; False when no volume has room for even one block of it."""
        size, encoding = blob.descriptor.size, blob.encoding
        if blob.descriptor.digest in self.placed:
            raise ValueError(f"{blob.descriptor.digest} is planned twice")
        # The stored length of a raw frame is computed, never taken from a plan that was read from a file.
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
        """Return whether an entry fits into the current volume, or into a new one, which is then begun."""
        length = header_frame_size(size) + stored + padding_frame_size(size)
        # No new volume for a blob that has to be cut anyway: it starts in the rest of the current one.
        if self._ends[-1] + length > self.limit and len(OPENING) + length <= self.limit:
            self._ends.append(len(OPENING))
        return self._ends[-1] + length <= self.limit

    def _take(self, size: int, stored: int) -> Piece:
        offset = self._ends[-1] + header_frame_size(size)
        self._ends[-1] = offset + stored + padding_frame_size(size)
        return Piece(len(self._ends), offset, stored, size)

    def _cut(self, size: int) -> tuple[Piece, ...]:
        """Fill this volume and the next ones; nothing when a volume is too small for a block, or there are too many pieces."""
        pieces: list[Piece] = []
        while not self._fits(size, frames.raw_frame_size(size)):
            part = _most(self.limit - self._ends[-1], size)
            if part:
                pieces.append(self._take(part, frames.raw_frame_size(part)))
                size -= part
            elif self._ends[-1] == len(OPENING):
                return ()  # not even an empty volume has room for one block
            self._ends.append(len(OPENING))
            if len(pieces) >= MAX_PIECES:
                return ()
        pieces.append(self._take(size, frames.raw_frame_size(size)))
        return tuple(pieces)


def _most(room: int, size: int) -> int:
    """Return the largest piece, in whole blocks and less than `size`, whose entry fits into `room` bytes."""
    # Less than `size`: where all of it fits, the caller does not cut.
    part = min(_whole_blocks(room - header_frame_size(0)), (size - 1) // frames.BLOCK * frames.BLOCK)
    if part >= PAX_SIZE:  # its header takes three tar blocks, which may cost it its last block
        part = min(_whole_blocks(room - header_frame_size(PAX_SIZE)), part)
    return max(part, 0)


def _whole_blocks(room: int) -> int:
    """Return the most content, in whole blocks, of a frame of at most `room` bytes."""
    blocks = (room - frames.HEADER_SIZE) // (frames.BLOCK_HEADER_SIZE + frames.BLOCK)
    return blocks * frames.BLOCK
