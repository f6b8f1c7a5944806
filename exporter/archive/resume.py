"""State of a blob after an interrupted export: how many of its bytes are in its places.

The blocks that were begun are read and hashed. A blob is complete when its digest matches; otherwise it continues from the last
whole block. After a loss of power any block may be wrong: then the digest is wrong in the end, and the blob is fetched from its
beginning (ADR 0010).
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from common.archive import direct_io
from common.archive.direct_io import read_exactly
from common.archive.frames import opened_large, read_begun, read_raw
from common.archive.inventory import Encoding, Piece
from common.archive.layout import PlacedBlob, extent
from common.archive.volume import entry_name, header_frame, padding_frame
from common.content import Chunks, verified
from common.errors import ContentError
from common.oci.image import Descriptor, Hasher

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

    from exporter.archive.output import PreviousExport
    from exporter.archive.volume_writer import Volume, VolumeWriter


@dataclass(slots=True)
class Begun:
    """The first `size` bytes of a blob are in their places, and hashed by `hasher`. `complete`: these are all of its bytes."""

    size: int = 0
    hasher: Hasher = field(default_factory=Hasher)
    complete: bool = False


def begun(placed: PlacedBlob, volume: Volume) -> Begun:
    """Return the state of a blob in raw frames; `volume` returns the volume of a piece. Raises OSError."""
    found = Begun()
    for number, piece in enumerate(placed.pieces, 1):
        if not _has_header(placed, number, piece, volume(piece).file()):
            break
        if _take(found, volume(piece), piece) < piece.size:
            break
    # The hash of the bytes so far goes on with the rest, so the digest still covers all of them.
    if found.size < placed.descriptor.size:
        return found
    found.complete = found.hasher.digest() == placed.descriptor.digest and _ends(placed, volume)
    # Which byte is wrong is not known, so all of them are fetched again.
    return found if found.complete else Begun()


def _take(found: Begun, volume: VolumeWriter, piece: Piece) -> int:
    """Hash the bytes of a piece that were written; return their number."""
    before = found.size
    with opened_large(volume.path, piece) as direct:
        for chunk in read_begun(volume.file(), direct, piece.offset, piece.size):
            found.hasher.update(chunk)
            found.size += len(chunk)
    return found.size - before


def _has_header(placed: PlacedBlob, number: int, piece: Piece, file: int) -> bool:
    # The name in the header has the digest: bytes of another blob are never taken for this one.
    wanted = header_frame(entry_name(placed.descriptor.digest, number, len(placed.pieces)), piece.size)
    return _is_there(file, wanted, extent(piece)[0])


def _ends(placed: PlacedBlob, volume: Volume) -> bool:
    """Say whether the padding behind each piece was written; it comes last."""
    return all(
        _is_there(volume(piece).file(), padding_frame(piece.size), piece.offset + piece.stored) for piece in placed.pieces
    )


def _is_there(file: int, wanted: bytes, offset: int) -> bool:
    try:
        return read_exactly(file, len(wanted), offset) == wanted
    except ContentError:
        return False


# Volumes of an interrupted export with another layout: their whole blobs are moved, and not fetched again.

_LOG = logging.getLogger(__name__)


class PreviousVolumes:
    """The volumes of one previous export; their files are closed with `stack`. Thread-safe."""

    def __init__(self, export: PreviousExport, stack: ExitStack) -> None:
        self._layout = export.layout
        self._files: dict[int, int] = {}
        for number, volume in enumerate(export.layout.volumes, 1):
            path = export.directory / volume.name
            # Some may have been removed, or never created before the export was interrupted.
            if path.is_file() and not path.is_symlink():
                self._files[number] = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
                stack.callback(os.close, self._files[number])

    def move(self, blob: Descriptor, write: Callable[[Chunks], None]) -> bool:
        """Pass a whole blob to `write`, and free its room; False when it is absent or not whole."""
        placed = self._layout.blobs.get(blob.digest)
        # Only raw frames: a compressed blob is small, and may be planned uncompressed now.
        if placed is None or placed.encoding is not Encoding.RAW or any(p.volume not in self._files for p in placed.pieces):
            return False
        try:
            write(verified(self._read(placed), blob))
        except ContentError as error:
            _LOG.debug("%s: not whole in the earlier export: %s", blob.digest, error.message)
            return False
        for piece in placed.pieces:
            start, end = extent(piece)
            # Punching the hole keeps the disk from needing room for two archives.
            direct_io.release(self._file(piece), start, end - start)
        return True

    def _read(self, placed: PlacedBlob) -> Chunks:
        for piece in placed.pieces:
            yield from read_raw(self._file(piece), piece.offset, piece.size)

    def _file(self, piece: Piece) -> int:
        return self._files[piece.volume]
