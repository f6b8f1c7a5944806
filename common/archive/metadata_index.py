"""Reading a metadata region: one pass over its frames tells where each entry lies; entries are then read one by one.

Names only find content here, they are never used as paths. What an entry holds is believed once its digest fits.
"""

from __future__ import annotations

import bisect
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

from common.archive import frames, inventory_file
from common.archive.disk import File, read_exactly
from common.archive.inventory import MAX_SIZE
from common.archive.metadata import INDEX_NAME
from common.archive.volume import TAR_BLOCK, entry_name, padding, tar_header
from common.digest import Digest, digest_of
from common.errors import ContentError

MAX_FRAME = 8 * 1024 * 1024  # content of a frame before the inventory's; writers use 1 MiB
_NAME_END, _SIZE = 100, slice(124, 135)


@dataclass(frozen=True, slots=True)
class _Frame:
    """A frame: where its content begins in the tar, and where it lies in the file."""

    start: int
    offset: int
    stored: int


@dataclass(slots=True)
class MetadataIndex:
    """Where the entries before the inventory lie, as positions in the decompressed tar."""

    _frames: list[_Frame] = field(default_factory=list)
    _entries: dict[str, tuple[int, int]] = field(default_factory=dict)
    inventory_size: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _last: tuple[int, bytes] = (-1, b"")

    @classmethod
    def scan(cls, file: File, start: int, end: int, limit: int) -> MetadataIndex:
        """Read bytes `start` to `end` of a volume: everything up to the content of the inventory.

        `limit` bounds what all of it may decompress to. Raises ContentError for anything but the entries of the format.
        """
        index = cls()
        tar = _Tar(index._entries)
        position = start
        done = 0
        while position < end:
            frame_end = frames.frame_end(file, position, end)
            index._frames.append(_Frame(done, position, frame_end - position))
            content = index._content(file, len(index._frames) - 1)
            done += len(content)
            if done > limit:
                raise ContentError(f"the metadata grows past {limit} bytes")
            tar.feed(content)
            position = frame_end
        index.inventory_size = tar.close()
        return index

    def names(self) -> frozenset[str]:
        """Return the names of the entries found."""
        return frozenset(self._entries)

    def manifest(self, file: File, digest: Digest, size: int | None = None) -> bytes:
        """Return a manifest. Raises ContentError when it is not there, or not of this digest and `size` (None: any)."""
        raw = self._entry(file, entry_name(digest), size)
        if digest_of(raw) != digest:
            raise ContentError(f"manifest {digest} has digest {digest_of(raw)}")
        return raw

    def index_json(self, file: File, size: int | None = None) -> bytes:
        """Return `index.json`, unverified. Raises ContentError when it is not there, or not of `size` bytes (None: any)."""
        return self._entry(file, INDEX_NAME, size)

    def _entry(self, file: File, name: str, wanted: int | None) -> bytes:
        place = self._entries.get(name)
        if place is None:
            raise ContentError(f"{name} is not in the metadata")
        start, size = place
        if wanted is not None and size != wanted:  # before it is read: its header may claim anything
            raise ContentError(f"its {name} is not that of the inventory: {size} bytes, the inventory says {wanted}")
        with self._lock:
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
        """Return a frame's content; the last one is kept, since manifests are mostly asked for in order."""
        if self._last[0] != number:
            frame = self._frames[number]
            content = frames.decompress(read_exactly(file, frame.stored, frame.offset), MAX_FRAME)
            self._last = number, content
        return self._last[1]


class _Tar:
    """Finds the entries of a tar that comes in pieces. Only the exact headers that our writer makes are taken."""

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
    """Return name and size of an entry. Raises ContentError unless these are the exact bytes that we would write for it."""
    name = header[:_NAME_END].rstrip(b"\0").decode("ascii", "replace")
    digits = header[_SIZE]
    size = int(digits, 8) if digits.isdigit() and not set(digits) & set(b"89") else MAX_SIZE + 1
    if size > MAX_SIZE or not name.isascii() or not name.isprintable() or header != tar_header(name, size):
        raise ContentError("damaged tar header in the metadata")
    return name, size
