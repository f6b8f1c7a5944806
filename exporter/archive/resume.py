"""How far an interrupted export got with a blob: what of it lies in its places, told by the places themselves.

Nothing is taken on trust. The blocks that were begun are read and hashed; a blob is complete when its digest says so, and else
goes on from the last block that is surely whole. After a loss of power any block may be wrong: then the digest is wrong in
the end, and the blob is fetched from its beginning (ADR 0010).
"""

from __future__ import annotations

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
from common.log import logger
from common.oci.image import Descriptor, Hasher

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

    from exporter.archive.output import PreviousExport
    from exporter.archive.volume_writer import Volume, VolumeWriter


@dataclass(slots=True)
class Begun:
    """The first `size` bytes of a blob are in their places; `hasher` has taken them in. `complete`: that is all of it."""

    size: int = 0
    hasher: Hasher = field(default_factory=Hasher)
    complete: bool = False


def begun(placed: PlacedBlob, volume: Volume) -> Begun:
    """Return what is there of a blob in raw frames; `volume` gives the one that a piece lies in. Raises OSError."""
    found = Begun()
    for number, piece in enumerate(placed.pieces, 1):
        if not _has_header(placed, number, piece, volume(piece).file()):
            break
        if _take(found, volume(piece), piece) < piece.size:
            break
    if found.size < placed.descriptor.size:
        return found
    found.complete = found.hasher.digest() == placed.descriptor.digest and _ends(placed, volume)
    return found if found.complete else Begun()


def _take(found: Begun, volume: VolumeWriter, piece: Piece) -> int:
    """Take in what is there of a piece; return how many bytes that are."""
    before = found.size
    with opened_large(volume.path, piece) as direct:
        for chunk in read_begun(volume.file(), direct, piece.offset, piece.size):
            found.hasher.update(chunk)
            found.size += len(chunk)
    return found.size - before


def _has_header(placed: PlacedBlob, number: int, piece: Piece, file: int) -> bool:
    wanted = header_frame(entry_name(placed.descriptor.digest, number, len(placed.pieces)), piece.size)
    return _is_there(file, wanted, extent(piece)[0])


def _ends(placed: PlacedBlob, volume: Volume) -> bool:
    """Say whether the padding behind each piece is there too; it is the last thing to be written."""
    return all(
        _is_there(volume(piece).file(), padding_frame(piece.size), piece.offset + piece.stored) for piece in placed.pieces
    )


def _is_there(file: int, wanted: bytes, offset: int) -> bool:
    try:
        return read_exactly(file, len(wanted), offset) == wanted
    except ContentError:
        return False


# Volumes that an interrupted export filled by another layout: what is whole in them is moved, not fetched again.

_LOG = logger(__name__)


class PreviousVolumes:
    """The volumes of one earlier export; their files are closed with `stack`. Shared by threads."""

    def __init__(self, export: PreviousExport, stack: ExitStack) -> None:
        self._layout = export.layout
        self._files: dict[int, int] = {}
        for number, volume in enumerate(export.layout.volumes, 1):
            path = export.directory / volume.name
            if path.is_file() and not path.is_symlink():
                self._files[number] = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
                stack.callback(os.close, self._files[number])

    def move(self, blob: Descriptor, write: Callable[[Chunks], None]) -> bool:
        """Give a blob that is whole here to `write`, and free its room; False when it is not here, or not whole."""
        placed = self._layout.blobs.get(blob.digest)
        if placed is None or placed.encoding is not Encoding.RAW or any(p.volume not in self._files for p in placed.pieces):
            return False
        try:
            write(verified(self._read(placed), blob))
        except ContentError as error:
            _LOG.debug("%s: not whole in the earlier export: %s", blob.digest, error.message)
            return False
        for piece in placed.pieces:
            start, end = extent(piece)
            direct_io.release(self._file(piece), start, end - start)
        return True

    def _read(self, placed: PlacedBlob) -> Chunks:
        for piece in placed.pieces:
            yield from read_raw(self._file(piece), piece.offset, piece.size)

    def _file(self, piece: Piece) -> int:
        return self._files[piece.volume]
