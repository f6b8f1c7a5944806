"""An object read by position: small ranges where somebody looks around, larger and larger ones where one reads on."""

from __future__ import annotations

from common.errors import StorageError
from common.storage.place import StoredPlace

_FIRST = 256 * 1024
_MOST = 4 * 1024 * 1024  # twice that, for each of a command's threads


class StoredFile:
    """An object, opened; for one thread. Holds two ranges of at most 4 MiB: a check reads close behind itself."""

    def __init__(self, place: StoredPlace) -> None:
        stat = place.storage.known(place.bucket, place.key)
        if stat is None:
            raise StorageError(f"{place}: there is no such object", hint="Look at what else lies there.")
        self.size = stat.size
        self._tag = stat.tag
        self._place = place
        self._ranges: list[tuple[int, bytes]] = []  # the latest first
        self._step = _FIRST

    def read(self, size: int, offset: int) -> bytes:
        """Return `size` bytes at `offset`, fewer only where the object ends. Raises StorageError."""
        end, parts = min(offset + size, self.size), []
        while offset < end:
            parts.append(self._held(offset, end) or self._fetch(offset, end))
            offset += len(parts[-1])
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _held(self, offset: int, end: int) -> bytes:
        """Return what of a range is here already, from its beginning on."""
        for start, content in self._ranges:
            if start <= offset < start + len(content):
                return content[offset - start : end - start]
        return b""

    def _fetch(self, offset: int, end: int) -> bytes:
        """Return what lies from `offset` to `end`, and keep it as the latest range, with more behind it."""
        reads_on = any(start <= offset <= start + len(content) for start, content in self._ranges[:1])
        self._step = min(self._step * 2, _MOST) if reads_on else _FIRST
        last = min(max(end, offset + self._step), self.size)
        where = self._place
        content = where.storage.read(where.bucket, where.key, offset, last, self._tag)
        if len(content) != last - offset:
            raise StorageError(f"{where}: {len(content)} bytes came of {last - offset} from byte {offset} on")
        self._ranges = [(offset, content), *self._ranges[:1]]
        return content[: end - offset]
