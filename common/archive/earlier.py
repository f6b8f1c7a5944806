"""Volumes that an interrupted export filled by another layout: what is whole in them is moved, not fetched again."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack

from common.archive import disk
from common.archive.inventory import Encoding, Piece
from common.archive.layout import PlacedBlob, extent
from common.archive.output import EarlierExport
from common.archive.raw_blocks import read_raw
from common.content import Chunks, verified
from common.errors import ContentError
from common.log import logger
from common.oci.descriptor import Descriptor

_LOG = logger(__name__)


class EarlierVolumes:
    """The volumes of one earlier export; their files are closed with `stack`. Shared by threads."""

    def __init__(self, export: EarlierExport, stack: ExitStack) -> None:
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
            disk.release(self._file(piece), start, end - start)
        return True

    def _read(self, placed: PlacedBlob) -> Chunks:
        for piece in placed.pieces:
            yield from read_raw(self._file(piece), piece.offset, piece.size)

    def _file(self, piece: Piece) -> int:
        return self._files[piece.volume]
