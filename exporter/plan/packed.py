"""The manifests of a plan in memory: compressed some hundred at a time, since an archive needs their bytes only at its end."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING

from common.archive import frames
from common.oci.image import MAX_MANIFEST_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from common.oci.image import Digest


# Manifests repeat media types and names of fields; what remains are digests. So a fifth is left of hundreds of them, and half
# of a single one.
_CHUNK = 256 * 1024  # bytes that are compressed at once


class PackedManifests(Mapping["Digest", bytes]):
    """A mapping of manifests that keeps their order. Values are made when they are asked for, fastest in that order."""

    def __init__(self, manifests: Iterable[tuple[Digest, bytes]]) -> None:
        self._places: dict[Digest, tuple[int, int, int]] = {}  # chunk, begin and end in it
        self._chunks: list[bytes] = []
        self._lock = threading.Lock()
        self._open: tuple[int, bytes] = (-1, b"")  # the chunk that was used last
        pending = bytearray()
        for digest, raw in manifests:
            if digest in self._places:
                continue
            self._places[digest] = len(self._chunks), len(pending), len(pending) + len(raw)
            pending += raw
            if len(pending) >= _CHUNK:
                self._chunks.append(frames.compress(bytes(pending)))
                pending.clear()
        self._chunks.append(frames.compress(bytes(pending)))

    def __getitem__(self, digest: Digest) -> bytes:
        number, begin, end = self._places[digest]
        with self._lock:
            if self._open[0] != number:
                self._open = number, frames.decompress(self._chunks[number], _CHUNK + MAX_MANIFEST_SIZE)
            content = self._open[1]
        return content[begin:end]

    def __iter__(self) -> Iterator[Digest]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, digest: object) -> bool:
        return digest in self._places
