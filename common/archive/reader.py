"""Reading of an archive: blobs directly from their offsets in the volumes, manifests from the metadata.

Nothing is unpacked, nothing is written, and any subset of the volumes may be present. Content is located by the inventory and
verified against it. Parity and earlier archives (`in`) are not consulted here.
"""

from __future__ import annotations

import bisect
import heapq
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from common import files
from common.archive import frames, inventory_file, metadata
from common.archive.direct_io import File, read_exactly
from common.archive.discover import FoundArchive, FoundVolume, TrustedArchive, find, find_untrusted
from common.archive.frames import LARGE, opened_large, read_large, read_raw
from common.archive.inventory import MAX_SIZE, BlobRecord, Encoding, Inventory, Piece, Users
from common.archive.location import Place, opened, size_of
from common.archive.metadata import INDEX_NAME
from common.archive.naming import holder_of, label_of
from common.archive.volume import TAR_BLOCK, entry_name, octal, padding, tar_header
from common.content import Chunks, verified
from common.errors import ArchiveDamagedError, ArchiveIncompleteError, ArchiveUntrustedError, ContentError, NotFoundError
from common.oci.image import MAX_MANIFEST_SIZE, Descriptor, Digest, Document, digest_of, parse
from common.text import enumeration

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from common.archive.signature import Verifier


MAX_FRAME = 8 * 1024 * 1024  # content of a frame before the inventory's; writers use 1 MiB
MAX_CACHED = 32 * 1024 * 1024  # content of frames in memory, of all volumes: four at the limit, 32 of a writer
_NAME_END, _SIZE = 100, slice(124, 135)  # the fields of a tar header (POSIX.1-1988, ustar)
_SHOWN = 5  # operators named in one message
_NAMED = 3  # entries named in one message


class ArchiveReader:
    """Reading of an archive whose signature may be invalid or missing; see `Archive`, which every command takes except verify.

    A BlobSource, used from many threads at once. Holds no file open between calls.
    """

    def __init__(self, found: FoundArchive) -> None:
        self._found = found
        self._metadata: dict[int, MetadataIndex | str] = {}  # a text: the error
        self._frames = FrameCache()
        self._lock = threading.Lock()
        self._users: Users | None = None
        self._expected: _Expected | None = None

    @staticmethod
    def open_untrusted(places: Sequence[Place], key: Verifier | None = None) -> ArchiveReader:
        """Open directories, volume files, or both, for a report; `found.signature` is the state of the signature.

        Raises UsageError when there is nothing, ArchiveIncompleteError for an unfinished export, ArchiveDamagedError when no
        inventory can be read or the parts belong to different archives, ArchiveError for a later format.
        """
        return ArchiveReader(find_untrusted(places, key))

    @property
    def inventory(self) -> Inventory:
        """The contents of the archive; checked, so that all references and offsets in it exist."""
        return self._found.inventory

    @property
    def digest(self) -> Digest:
        """The archive's identity: the digest of `inventory.json`."""
        return self._found.digest

    @property
    def label(self) -> str:
        """Name, date and the first digits of the digest, for messages."""
        return label_of(self.inventory, self.digest)

    def volume_sizes(self) -> dict[str, int]:
        """Return the sizes in bytes of the volume files that are present, by name."""
        volumes = self.inventory.volumes
        return {volumes[number - 1].name: size_of(volume.path) for number, volume in self._found.volumes.items()}

    @property
    def found(self) -> FoundArchive:
        """The files that were found."""
        return self._found

    @property
    def present(self) -> tuple[str, ...]:
        """The names of the volumes that are present."""
        return tuple(self.inventory.volumes[number - 1].name for number in self._found.volumes)

    @property
    def missing(self) -> tuple[str, ...]:
        """The names of the volumes that are missing."""
        numbered = enumerate(self.inventory.volumes, 1)
        return tuple(volume.name for number, volume in numbered if number not in self._found.volumes)

    def descriptor(self, digest: Digest) -> Descriptor:
        """Return the descriptor of a blob. Raises NotFoundError."""
        record = self._record(digest)
        return Descriptor(record.media_type, digest, record.size)

    def missing_volumes(self, digest: Digest) -> tuple[str, ...]:
        """Return the absent volumes without which a blob cannot be read; nothing for a blob that is in no volume at all."""
        absent = dict.fromkeys(p.volume for p in self._record(digest).pieces if p.volume not in self._found.volumes)
        return tuple(self.inventory.volumes[number - 1].name for number in absent)

    def is_available(self, digest: Digest) -> bool:
        """Say whether the available volumes hold all of a blob."""
        return self._record(digest).in_ is None and not self.missing_volumes(digest)

    def read(self, blob: Descriptor, start: int = 0) -> Chunks:
        """Return the bytes of a blob from `start` on; unverified.

        Raises NotFoundError for a blob that the inventory does not list, ArchiveIncompleteError for one that is missing, and
        ArchiveDamagedError naming volume, offset and operators, also when `verified` finds the digest wrong.
        """
        record = self._record(blob.digest)
        self._require_available(blob.digest, record)
        position = 0
        for piece in record.pieces:
            # A blob in one piece is read also where nothing is left of it, such as an empty one: its frame is checked.
            if start < position + piece.size or piece.size == record.size:
                yield from self._piece(blob.digest, record, piece, max(start - position, 0))
            position += piece.size

    def content(self, digest: Digest) -> Chunks:
        """Give the verified bytes of a blob; the last chunk only if the digest is right. Raises as `read` does."""
        blob = self.descriptor(digest)
        return verified(self.read(blob), blob)

    def manifest(self, digest: Digest) -> bytes:
        """Return a manifest or index, verified.

        Raises NotFoundError when the inventory does not list it, ArchiveIncompleteError when no volume is present,
        ArchiveDamagedError when it is damaged in all of them.
        """
        # Each volume has all manifests, so a scratch in the metadata of one costs nothing while another is present.
        record = self.inventory.manifests.get(digest)
        if record is None:
            raise NotFoundError(f"manifest {digest}: not in archive {self.digest}")
        damage: list[str] = []
        for number, volume in self._found.volumes.items():
            try:
                return self._manifest_from(number, volume, digest, record.size)
            except (ContentError, OSError) as error:
                if (problem := files.medium_gone(volume.path, error)) is not None:
                    raise problem from error
                damage.append(f"{volume.path.name}: {error}")
        if not damage:
            raise ArchiveIncompleteError(f"manifest {digest}: no volume is here", hint="Bring any volume of the archive.")
        raise ArchiveDamagedError(
            f"manifest {digest}: damaged in every volume that is here: {'; '.join(damage[:_SHOWN])}",
            hint="Bring another volume of the archive: each carries all manifests.",
        )

    def document(self, digest: Digest) -> Document:
        """Return a manifest or index, parsed. Raises as `manifest` does."""
        # Its own media type wins over the inventory's (ADR 0024): until 0.1 the exporter recorded the registry's Content-Type
        # for a document without `mediaType`, such as `application/json`.
        return parse(self.manifest(digest), self.inventory.manifests[digest].media_type)

    def scan(self, number: int) -> MetadataIndex:
        """Return the index of a volume's metadata. Raises ContentError when it is damaged."""
        # Once for each volume, errors too: threads ask for thousands of manifests. Under the lock, so that one thread scans and
        # the others wait for it.
        with self._lock:
            if number not in self._metadata:
                self._metadata[number] = self._scan(self._found.volumes[number])
            found = self._metadata[number]
        if isinstance(found, str):
            raise ContentError(found)
        return found

    def damaged(self, digest: Digest, pieces: Sequence[Piece], why: str) -> ArchiveDamagedError:
        """Return the error for a damaged blob: volume, offset, and the operators that need it."""
        places = ", ".join(f"{self.inventory.volumes[p.volume - 1].name} at offset {p.offset}" for p in pieces[:_SHOWN])
        with self._lock:  # made once: a scratched disc has thousands of damaged blobs
            self._users = self._users or Users(self.inventory)
        names = self._users.names(digest)
        return ArchiveDamagedError(
            f"{digest}: damaged in {places}: {why}",
            hint=f"Needed by {enumeration(names, _SHOWN) or 'no image'}. Copy the volume again, or request the blob again.",
        )

    def _record(self, digest: Digest) -> BlobRecord:
        record = self.inventory.blobs.get(digest)
        if record is None:
            raise NotFoundError(f"{digest}: not in {self.label}")
        return record

    def _require_available(self, digest: Digest, record: BlobRecord) -> None:
        if record.missing is not None:
            raise ArchiveIncompleteError(f"{digest}: could not be fetched when the archive was made ({record.missing})")
        if record.in_ is not None:
            raise ArchiveIncompleteError(
                f"{digest}: is in {holder_of(self.inventory, record.in_)}", hint="Bring that archive first."
            )
        absent = self.missing_volumes(digest)
        if absent:
            raise ArchiveIncompleteError(f"{digest}: is in {', '.join(absent)}, which is missing", hint="Bring that volume.")

    def _piece(self, digest: Digest, record: BlobRecord, piece: Piece, start: int) -> Chunks:
        volume = self._found.volumes[piece.volume]
        try:
            with opened(volume.path) as file, opened_large(volume.path, piece) as direct:
                for chunk in _content(file, direct, record, piece, start):
                    try:
                        yield chunk
                    except ContentError as error:
                        # Thrown into the generator by `verified`: the digest is wrong, and any piece may be the damaged one.
                        raise self.damaged(digest, record.pieces, str(error)) from error
        except (ContentError, OSError) as error:
            raise files.medium_gone(volume.path, error) or self.damaged(digest, (piece,), str(error)) from error

    def _manifest_from(self, number: int, volume: FoundVolume, digest: Digest, size: int) -> bytes:
        index = self.scan(number)
        with opened(volume.path) as file:
            return index.manifest(file, digest, size)

    def _scan(self, volume: FoundVolume) -> MetadataIndex | str:
        footer = volume.footer
        if footer is None:
            return volume.damage
        # Once for all volumes, of which there may be many small ones.
        expected = self._expected or _Expected.of(self.inventory)
        if len(self._found.volumes) > 1:
            self._expected = expected
        try:
            with opened(volume.path) as file:
                start, end = footer.metadata_offset, footer.inventory_offset
                index = MetadataIndex.scan(file, start, end, expected.size, self._frames)
            return index if index.names() == expected.names else expected.difference(index.names())
        except (ContentError, OSError) as error:
            if (problem := files.medium_gone(volume.path, error)) is not None:
                raise problem from error  # not kept: the medium may come back
            return f"its metadata is damaged: {error}"


@dataclass(frozen=True, slots=True)
class _Expected:
    """The entries of the metadata that an inventory determines; a region with others is damaged or hostile."""

    names: frozenset[str]
    size: int  # of all entries, with their headers

    @classmethod
    def of(cls, inventory: Inventory) -> _Expected:
        index = metadata.index_json(inventory.images, inventory.manifests)
        return cls(frozenset((INDEX_NAME, *map(entry_name, inventory.manifests))), metadata.entries_size(inventory, index))

    def difference(self, found: frozenset[str]) -> str:
        # Exact, not a superset: an entry that the inventory does not list could be taken for content by `tar -x` or skopeo.
        return f"its metadata has other entries than the inventory lists: {heapq.nsmallest(_NAMED, found ^ self.names)}"


class Archive(ArchiveReader):
    """An opened archive. With a key, its signature was verified; without a key, no signature is required."""

    def __init__(self, found: TrustedArchive) -> None:
        # The type is checked also at run time: the whole importer relies on it.
        if not isinstance(found, TrustedArchive):
            raise ArchiveUntrustedError("the signature of the archive was not verified", hint="Open it with Archive.open.")
        super().__init__(found)

    @classmethod
    def open(cls, places: Sequence[Place], key: Verifier | None = None) -> Self:
        """Open directories, volume files, or both; in file systems or in object storage.

        With `key`, raises ArchiveUntrustedError unless the inventory is signed with it. Else raises as `open_untrusted` does.
        """
        return cls(find(places, key))


def _content(file: File, direct: int | None, record: BlobRecord, piece: Piece, start: int) -> Chunks:
    # Large content bypasses the page cache: it is read once, and would evict everything else (ADR 0021).
    if record.encoding is Encoding.RAW and piece.size >= LARGE:
        return read_large(file, direct, piece.offset, piece.size, start)
    if record.encoding is Encoding.RAW:
        return read_raw(file, piece.offset, piece.size, start)
    return _skip(frames.read_frame(file, piece.offset, piece.stored, piece.size), start)


def _skip(chunks: Iterator[bytes], start: int) -> Chunks:
    """Give the content after the first `start` bytes. A zstd frame can only be decompressed from its beginning."""
    for chunk in chunks:
        if start < len(chunk):
            yield memoryview(chunk)[start:]
        start = max(start - len(chunk), 0)


# The metadata of a volume: one pass over its frames finds the entries, which are then read one by one. Names only find content
# here and are never used as paths; content is verified by its digest.


@dataclass(frozen=True, slots=True, eq=False)  # equal only to itself: volumes have frames at the same places
class _Frame:
    """A frame: the start of its content in the tar, its offset in the file, and its stored size."""

    start: int
    offset: int
    stored: int


class FrameCache:
    """The content of the frames that were read last, of all volumes of an archive. Shared by threads."""

    # Manifests are mostly read in order, and a frame of 1 MiB holds hundreds of them. But six jobs of a push, and the clients
    # of `serve`, read in an order of their own: with one frame in memory each manifest took the decompression of a whole frame.

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._contents: OrderedDict[_Frame, bytes] = OrderedDict()  # the one that was used last comes last
        self._size = 0

    def get(self, frame: _Frame) -> bytes | None:
        """Return the content of a frame, if it is here."""
        with self._lock:
            if frame in self._contents:
                self._contents.move_to_end(frame)
            return self._contents.get(frame)

    def put(self, frame: _Frame, content: bytes) -> None:
        """Keep the content of a frame; release those that were not used for the longest time."""
        with self._lock:
            self._discard(frame)
            self._contents[frame] = content
            self._size += len(content)
            while self._size > MAX_CACHED:
                self._discard(next(iter(self._contents)))

    def discard(self, frames: Iterable[_Frame]) -> None:
        """Release the content of frames."""
        with self._lock:
            for frame in frames:
                self._discard(frame)

    def _discard(self, frame: _Frame) -> None:
        self._size -= len(self._contents.pop(frame, b""))


@dataclass(slots=True)
class MetadataIndex:
    """The positions of the entries before the inventory, in the decompressed tar."""

    _cache: FrameCache
    _frames: list[_Frame] = field(default_factory=list)
    _entries: dict[str, tuple[int, int]] = field(default_factory=dict)
    inventory_size: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def scan(cls, file: File, start: int, end: int, limit: int, cache: FrameCache | None = None) -> MetadataIndex:
        """Read bytes `start` to `end` of a volume: everything up to the content of the inventory.

        `limit` bounds the decompressed size; `cache` is shared by all volumes of an archive. Raises ContentError for anything
        but the entries of the format.
        """
        index = cls(cache or FrameCache())
        tar = _Tar(index._entries)
        position = start
        done = 0
        while position < end:
            frame_end = frames.frame_end(file, position, end)
            index._frames.append(_Frame(done, position, frame_end - position))
            content = _decompressed(file, index._frames[-1])
            done += len(content)
            if done > limit:  # after each frame: one of them decompresses to MAX_FRAME at most
                raise ContentError(f"the metadata grows past {limit} bytes")
            if done > MAX_MANIFEST_SIZE + frames.blob_bound(frame_end - start):
                raise ContentError(f"the metadata grows to {done} bytes from {frame_end - start}")
            tar.feed(content)
            position = frame_end
        index.inventory_size = tar.close()
        return index

    def forget(self) -> None:
        """Release the content of the frames: other volumes need the room."""
        self._cache.discard(self._frames)

    def ordered(self, digests: Iterable[Digest]) -> list[Digest]:
        """Return digests in the order of their entries, so that each frame is decompressed once."""
        return sorted(digests, key=lambda digest: self._entries.get(entry_name(digest), (0, 0)))

    def names(self) -> frozenset[str]:
        """Return the names of the entries found."""
        return frozenset(self._entries)

    def manifest(self, file: File, digest: Digest, size: int | None = None) -> bytes:
        """Return a manifest. Raises ContentError when it is missing, or not of this digest and `size` (None: any)."""
        raw = self._entry(file, entry_name(digest), size)
        if digest_of(raw) != digest:
            raise ContentError(f"manifest {digest} has digest {digest_of(raw)}")
        return raw

    def index_json(self, file: File, size: int | None = None) -> bytes:
        """Return `index.json`, unverified. Raises ContentError when it is missing, or not of `size` bytes (None: any)."""
        return self._entry(file, INDEX_NAME, size)

    def _entry(self, file: File, name: str, expected: int | None) -> bytes:
        place = self._entries.get(name)
        if place is None:
            raise ContentError(f"{name} is not in the metadata")
        start, size = place
        if expected is not None and size != expected:  # before it is read: its header may claim anything
            raise ContentError(f"its {name} is not that of the inventory: {size} bytes, the inventory says {expected}")
        with self._lock:  # threads that want the same frame wait for the one that decompresses it
            return b"".join(self._parts(file, start, start + size))

    def _parts(self, file: File, start: int, end: int) -> Iterator[bytes]:
        number = max(bisect.bisect_right(self._frames, start, key=lambda frame: frame.start) - 1, 0)
        while start < end:
            content = self._content(file, number)
            first = start - self._frames[number].start
            part = content[first : first + end - start]
            yield part
            start += len(part)
            number += 1

    def _content(self, file: File, number: int) -> bytes:
        """Return the content of a frame."""
        frame = self._frames[number]
        content = self._cache.get(frame)
        if content is None:
            content = _decompressed(file, frame)
            self._cache.put(frame, content)
        return content


def _decompressed(file: File, frame: _Frame) -> bytes:
    """Return the content of a frame. Raises ContentError beyond MAX_FRAME."""
    if frame.stored > frames.compress_bound(MAX_FRAME):
        raise ContentError(f"a frame of {frame.stored} bytes; the limit is {frames.compress_bound(MAX_FRAME)}")
    return frames.decompress(read_exactly(file, frame.stored, frame.offset), MAX_FRAME)


class _Tar:
    """A parser of a tar that arrives in parts. Accepts only the exact headers that this program's writer makes."""

    def __init__(self, entries: dict[str, tuple[int, int]]) -> None:
        self._entries = entries
        self._header = bytearray()
        self._position = 0  # of the next byte fed
        self._next = 0  # where the next header begins
        self._inventory_size: int | None = None

    def feed(self, content: bytes) -> None:
        start = self._position
        self._position += len(content)
        while self._next < self._position:
            if self._inventory_size is not None:
                raise ContentError("entries behind the inventory's")
            at = max(self._next - start, 0)
            self._header += content[at : at + TAR_BLOCK - len(self._header)]
            if len(self._header) < TAR_BLOCK:
                return
            self._take()

    def close(self) -> int:
        """Return the size in the inventory's header."""
        if self._inventory_size is None:
            raise ContentError("the metadata ends before the inventory")
        return self._inventory_size

    def _take(self) -> None:
        header = bytes(self._header)
        self._header.clear()
        name, size = _parse(header)
        # Tools that unpack take the last of two entries, this program would take the first: so neither.
        if name in self._entries:
            raise ContentError(f"{name} stands twice in the metadata")
        content = self._next + TAR_BLOCK
        if name == inventory_file.NAME:
            self._inventory_size = size
            self._next = content
        else:
            self._entries[name] = content, size
            self._next = content + size + padding(size)


def _parse(header: bytes) -> tuple[str, int]:
    """Return name and size of an entry. Raises ContentError unless the header has the exact bytes of one written here."""
    # Comparing with a header made from name and size also covers checksum, type, owner and links, without parsing them.
    name = header[:_NAME_END].rstrip(b"\0").decode("ascii", "replace")
    size = octal(header[_SIZE])
    if size is None or size > MAX_SIZE or not name.isascii() or not name.isprintable() or header != tar_header(name, size):
        raise ContentError("damaged tar header in the metadata")
    return name, size
