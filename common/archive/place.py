"""The place of one blob: its entry written from header to padding, in one frame or in raw blocks, over all of its pieces."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from common.archive import disk, frames
from common.archive.inventory import Piece
from common.archive.layout import PlacedBlob, extent
from common.archive.raw_blocks import RawFrameWriter
from common.archive.volume import entry_name, header_frame, padding_frame
from common.archive.volume_file import VolumeFile
from common.content import Chunks
from common.errors import ContentError

Volume = Callable[[Piece], VolumeFile]  # the one that a piece lies in


def write_compressed(volume: Volume, placed: PlacedBlob, content: bytes) -> None:
    """Write content that is here already as one compressed frame. Raises ContentError for other sizes than planned."""
    piece, size = placed.pieces[0], placed.descriptor.size
    frame = frames.compress(content)
    if len(content) != size or len(frame) != piece.stored:
        got = f"{len(content)} bytes, {len(frame)} compressed"
        raise ContentError(f"{placed.descriptor.digest}: {got}; planned were {size} and {piece.stored}")
    header = header_frame(entry_name(placed.descriptor.digest), size)
    disk.write_all(volume(piece).file(), [header, frame, padding_frame(size)], extent(piece)[0])


def write_raw(volume: Volume, placed: PlacedBlob, chunks: Chunks, done: int) -> None:
    """Write content from byte `done` on, which begins a block or a piece. Raises ContentError, OSError."""
    size = placed.descriptor.size
    targets = iter(_targets(volume, placed, done))
    target = next(targets)
    for chunk in chunks:
        rest = memoryview(chunk)
        done += len(rest)
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
        if start + piece.size > done or number == len(placed.pieces):
            name = entry_name(placed.descriptor.digest, number, len(placed.pieces))
            around = header_frame(name, piece.size), padding_frame(piece.size)
            run = partial(volume(piece).run, end=extent(piece)[1])
            writers.append(RawFrameWriter(run, piece.offset, piece.size, *around, done=max(done - start, 0)))
        start += piece.size
    return writers
