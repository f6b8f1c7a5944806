"""Blobs of the archive for clients: hashed once, and after that sent from files that are still the same."""

from __future__ import annotations

import os
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

from common.archive.frames import raw_spans
from common.archive.inventory import Encoding
from common.errors import ArchiveError, HubError
from common.files import medium_gone
from common.text import enumeration

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from common.archive.inventory import Piece
    from common.archive.location import Place
    from common.archive.reader import Archive
    from common.content import Chunks
    from common.oci.image import Digest
    from importer.serving.sendfile import Span


# A file that was changed so recently may be changed again without another time: FAT has steps of two seconds.
_FRESH_NS = 3_000_000_000
_MAX_FILES = 4  # open for one connection; a blob may be in hundreds of small volumes
_CHANGED = "its file was changed or replaced while it was sent"

# What changes with the content: device, inode, size, and both times of a file; size and tag of an object in object storage.
Identity = tuple[object, ...]


def identity_of(stat: os.stat_result, now_ns: int) -> Identity | None:
    """Return the identity of a file; None for one that was changed just now."""
    # ctime, too: `cp -p` and `touch` set the other time as they like, and only the system sets this one.
    if abs(now_ns - stat.st_mtime_ns) < _FRESH_NS:
        return None
    return (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


@dataclass(slots=True)
class _Volume:
    """Verified pieces of a volume, by their offsets, as long as its file has this identity."""

    identity: Identity
    pieces: set[int] = field(default_factory=set)


class ServedBlobs:
    """Content of blobs. A blob is hashed while it is sent the first time, and again only if one of its files changed.

    Clients check digests themselves: this is for the log. The assumptions: docs/reference/registry.md, *Serving*.
    """

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._verified: dict[int, _Volume] = {}  # by the number of the volume
        self._lock = threading.Lock()

    def content(self, digest: Digest) -> Iterator[bytes]:
        """Give all bytes of a blob, the last chunk only if they are right."""
        before = self._identities(digest)
        known = self._is_verified(digest, before)
        blob = self._archive.descriptor(digest)
        # `Archive.content` gives the last chunk only if the digest is right, so a damaged blob ends the connection early.
        chunks: Chunks = self._archive.read(blob) if known else self._archive.content(digest)
        left = blob.size
        for chunk in chunks:
            left -= len(chunk)
            # The reader opens files by their names, so they are compared before and after it.
            if known and not left and self._identities(digest) != before:
                raise self.damaged(digest, _CHANGED)
            yield bytes(chunk)  # a copy: the reader uses its buffer again for the next chunk
        if not known and self._identities(digest) == before:
            self._add(digest, before)

    def part(self, digest: Digest, first: int, end: int) -> Iterator[bytes]:
        """Give a range of a blob, unverified."""
        left = end - first
        for chunk in self._archive.read(self._archive.descriptor(digest), first):
            yield bytes(chunk[:left])
            left -= len(chunk)
            if left <= 0:
                return

    def opened(self, digest: Digest) -> OpenBlob | None:
        """Open the files of a verified blob that the kernel can send as it is stored; None for any other."""
        record = self._archive.inventory.blobs[digest]
        if record.encoding is not Encoding.RAW or len(record.pieces) > _MAX_FILES:
            return None
        verified = self._identities(digest)
        if not self._is_verified(digest, verified):
            return None
        files = [(self._place(piece), piece, verified[piece.volume]) for piece in record.pieces]
        paths = [(place, piece, identity) for place, piece, identity in files if isinstance(place, Path)]
        return OpenBlob.of(paths) if len(paths) == len(files) else None

    def taken_away(self, digest: Digest) -> tuple[str, ...]:
        """Return the names of the volumes of a blob whose files are not there now, as of a medium that was removed."""
        places = dict.fromkeys(self._place(piece) for piece in self._archive.inventory.blobs[digest].pieces)
        files = [place for place in places if isinstance(place, Path)]
        return tuple(file.name for file in files if not os.path.exists(file))  # noqa: PTH110 - False for any error

    def damaged(self, digest: Digest, why: str) -> HubError:
        """Return the error for a blob that was found wrong after it was verified, and forget that it was."""
        pieces = self._archive.inventory.blobs[digest].pieces
        self._forget(pieces)
        return self._archive.damaged(digest, pieces, why)

    def unreadable(self, digest: Digest, error: OSError) -> HubError:
        """Return the error for a file of a verified blob that cannot be read any more."""
        pieces = self._archive.inventory.blobs[digest].pieces
        self._forget(pieces)
        places = enumeration([str(self._place(piece)) for piece in pieces], _MAX_FILES)
        return medium_gone(places, error) or ArchiveError(f"{digest}: reading {places}: {error.strerror or error}")

    def _forget(self, pieces: Iterable[Piece]) -> None:
        with self._lock:
            for piece in pieces:
                self._verified.pop(piece.volume, None)

    def _place(self, piece: Piece) -> Place:
        return self._archive.found.volumes[piece.volume].path

    def _identities(self, digest: Digest) -> Mapping[int, Identity | None]:
        """Return the present identities of the volumes of a blob, by number; None for one that has none."""
        pieces = {piece.volume: piece for piece in self._archive.inventory.blobs[digest].pieces}
        return {number: self._identity(self._place(piece)) for number, piece in pieces.items()}

    @staticmethod
    def _identity(place: Place) -> Identity | None:
        try:
            if isinstance(place, Path):
                return identity_of(place.stat(), time.time_ns())
            stat = place.storage.known(place.bucket, place.key)
        except (OSError, HubError):
            return None  # reading it says why
        # Of the first time that it was read: all reads are of that version (`If-Match`), or fail. Some services have no tags.
        return stat if stat is not None and stat.tag else None

    def _is_verified(self, digest: Digest, identities: Mapping[int, Identity | None]) -> bool:
        pieces = self._archive.inventory.blobs[digest].pieces
        with self._lock:
            volumes = [(self._verified.get(piece.volume), piece) for piece in pieces]
            return bool(volumes) and all(
                volume is not None and volume.identity == identities[piece.volume] and piece.offset in volume.pieces
                for volume, piece in volumes
            )

    def _add(self, digest: Digest, identities: Mapping[int, Identity | None]) -> None:
        with self._lock:
            for piece in self._archive.inventory.blobs[digest].pieces:
                identity = identities[piece.volume]
                if identity is None:
                    continue
                volume = self._verified.get(piece.volume)
                if volume is None or volume.identity != identity:
                    volume = self._verified[piece.volume] = _Volume(identity)
                volume.pieces.add(piece.offset)


@dataclass(frozen=True, slots=True)
class _OpenPiece:
    """A piece of a blob in an open file."""

    file: int
    piece: Piece
    identity: Identity | None

    @property
    def is_unchanged(self) -> bool:
        return identity_of(os.fstat(self.file), time.time_ns()) == self.identity


class ChangedError(Exception):
    """A file that was changed while it was sent."""


class OpenBlob:
    """The open files of a verified blob; a context manager."""

    def __init__(self, pieces: Sequence[_OpenPiece], files: ExitStack) -> None:
        self._pieces = pieces
        self._files = files

    @classmethod
    def of(cls, pieces: Sequence[tuple[Path, Piece, Identity | None]]) -> Self | None:
        """Open the files; None where one is not there, or another than the one that was verified."""
        with ExitStack() as files:
            opened = []
            for path, piece, identity in pieces:
                try:
                    file = os.open(path, os.O_RDONLY)
                except OSError:
                    return None
                files.callback(os.close, file)
                opened.append(_OpenPiece(file, piece, identity))
            if all(each.is_unchanged for each in opened):
                return cls(opened, files.pop_all())
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._files.close()

    def spans(self, first: int, end: int) -> Iterator[Span]:
        """Yield where bytes `first` to `end` are; the last place only if no file was changed. Raises ChangedError."""
        left = end - first
        for each in self._pieces:
            size = each.piece.size
            for position, length in raw_spans(each.piece.offset, max(first, 0), min(end, size)):
                left -= length
                if not left and not all(opened.is_unchanged for opened in self._pieces):
                    raise ChangedError(_CHANGED)
                yield each.file, position, length
            first, end = first - size, end - size
