"""Write the volumes of an archive from those of its parts, where these are not closed as the archive wants them.

That is so when blobs were accepted as missing, since every volume carries the inventory that names them, and when the archive
is signed by another key than the parts. The volumes of the parts are only read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from common.archive.frames import LARGE, opened_large, read_frame, read_large, read_raw
from common.archive.inventory import Encoding
from common.archive.location import opened
from common.errors import ArchiveDamagedError, ContentError
from exporter.archive.fetch import copy_blobs
from exporter.archive.writer import blobs_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from common.archive.direct_io import File
    from common.archive.inventory import Piece
    from common.archive.layout import Layout, PlacedBlob
    from common.archive.location import Place
    from common.content import Chunk, Chunks
    from common.oci.image import Descriptor, Digest
    from common.progress import Progress
    from exporter.archive.writer import VolumesWriter
    from exporter.distributed.part import MissingBlob


class VolumesSource:
    """Source of blobs: their places in the volumes of a layout. `volume` returns the location of a volume by its number.

    Raises the error of a blob that is `missing`, and ArchiveDamagedError for a place that does not hold its blob.
    """

    def __init__(self, layout: Layout, volume: Callable[[int], Place], missing: Mapping[Digest, MissingBlob]) -> None:
        self._layout = layout
        self._volume = volume
        self._missing = missing

    def read(self, blob: Descriptor, start: int = 0) -> Chunks:
        """Give the content of a blob from byte `start` on."""
        if blob.digest in self._missing:
            raise self._missing[blob.digest].error
        return self._pieces(self._layout.blobs[blob.digest], start)

    def _pieces(self, placed: PlacedBlob, start: int) -> Iterator[Chunk]:
        for piece in placed.pieces:
            # The last piece also of an empty blob, whose frame is checked.
            if start < piece.size or piece is placed.pieces[-1]:
                yield from self._piece(placed, piece, start)
            start = max(start - piece.size, 0)

    def _piece(self, placed: PlacedBlob, piece: Piece, start: int) -> Iterator[Chunk]:
        place = self._volume(piece.volume)
        try:
            with opened(place) as file, opened_large(place, piece) as direct:
                # `verified` throws its ContentError in here when the digest is wrong, so that the volume is named.
                yield from _content(file, direct, placed.encoding, piece, start)
        except (ContentError, OSError) as error:
            raise ArchiveDamagedError(
                f"{place}: not what its part wrote, at offset {piece.offset} ({placed.descriptor.digest}): {error}",
                hint=f"Make this part again: hub-export create --plan … with volume {piece.volume}, then finish.",
            ) from error


def _content(file: File, direct: int | None, encoding: Encoding, piece: Piece, start: int) -> Chunks:
    if encoding is Encoding.ZSTD:
        # A compressed frame has no other way in; such blobs are small (configurations of images).
        return iter((b"".join(read_frame(file, piece.offset, piece.stored, piece.size))[start:],))
    if piece.size >= LARGE:
        return read_large(file, direct, piece.offset, piece.size, start)
    return read_raw(file, piece.offset, piece.size, start)


def copy_volumes(
    writer: VolumesWriter,
    layout: Layout,
    numbers: Collection[int],
    source: VolumesSource,
    missing: Mapping[Digest, MissingBlob],
    *,
    jobs: int,
    progress: Progress,
) -> None:
    """Copy the blobs of volumes into a writer of the same layout. Raises the source's error for any that is not `missing`."""
    blobs = list(blobs_of(layout, numbers))
    lost = copy_blobs(blobs, source, writer, jobs=jobs, progress=progress, what="copying", on_missing=writer.mark_missing)
    # Only a blob that was accepted may be missing; a damaged part must not become a smaller archive.
    for digest in lost.keys() - missing.keys():
        raise lost[digest]
