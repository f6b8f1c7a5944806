"""Location of an object, `s3://bucket/key`, with the interface of a path, so that an archive may be stored in either."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from common.errors import StorageError, UsageError
from common.storage.client import Stat, Storage, service

if TYPE_CHECKING:
    from collections.abc import Iterator

    from common.content import Chunk


SCHEME = "s3://"
_MAX_KEY = 1024  # the limit of S3, in bytes (User Guide, *Naming objects*)
# Wider than the rules of AWS (3 to 63 lower-case letters): older buckets and other services have upper case, and more.
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}", re.ASCII)


@dataclass(frozen=True, slots=True)
class S3Location:
    """An object, or a prefix in the role of a directory, without its last `/`. I/O raises StorageError."""

    bucket: str
    key: str
    storage: Storage = field(compare=False, repr=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the location of `s3://bucket/key`. Raises UsageError, also when boto3 is not installed."""
        bucket, _, key = text.removeprefix(SCHEME).partition("/")
        # S3 takes "." and ".." as plain names; most tools that copy the archive to a disk do not.
        steps = [step for step in key.split("/") if step]
        if not _BUCKET.fullmatch(bucket) or {".", ".."} & set(steps) or not key.isprintable():
            raise UsageError(f"not a place in object storage: {text[:200]!r}", hint="Wanted: s3://BUCKET/PREFIX.")
        return cls(bucket, "/".join(steps), service())

    def __str__(self) -> str:
        return f"{SCHEME}{self.bucket}/{self.key}".rstrip("/")

    def __truediv__(self, name: str) -> S3Location:
        return S3Location(self.bucket, f"{self.key}/{name}" if self.key else name, self.storage)

    @property
    def name(self) -> str:
        """The last step."""
        return self.key.rpartition("/")[2]

    @property
    def suffix(self) -> str:
        """The ending of the name, with its dot."""
        dot = self.name.rfind(".")
        return self.name[dot:] if dot > 0 else ""

    @property
    def parent(self) -> S3Location:
        """The location one step up."""
        return S3Location(self.bucket, self.key.rpartition("/")[0], self.storage)

    def with_name(self, name: str) -> S3Location:
        """Return the location next to it with another name."""
        return self.parent / name

    def resolve(self) -> S3Location:
        """Return itself: there are no links."""
        return self

    def stat(self) -> Stat | None:
        """Return size and tag of the object; None where there is none."""
        return self.storage.stat(self.bucket, self.key) if self.key else None

    def children(self) -> Iterator[tuple[S3Location, int]]:
        """Give the objects directly below, with their sizes, by name; keys that cannot be typed are left out."""
        prefix = f"{self.key}/" if self.key else ""
        for key, size in self.storage.below(self.bucket, prefix):
            name = key.removeprefix(prefix)
            # The service is not trusted: it may list keys that were not requested.
            if key.startswith(prefix) and name and "/" not in name and key.isprintable() and len(key) <= _MAX_KEY:
                yield S3Location(self.bucket, key, self.storage), size

    def read(self, limit: int) -> bytes:
        """Return all of a small object, of at most `limit` bytes."""
        stat = self.stat()
        if stat is None:
            raise StorageError(f"{self}: there is no such object")
        if stat.size > limit:
            raise StorageError(f"{self}: {stat.size} bytes, and the limit is {limit}")
        content = self.storage.read(self.bucket, self.key, 0, stat.size, stat.tag) if stat.size else b""
        if len(content) != stat.size:
            raise StorageError(f"{self}: {len(content)} bytes came of {stat.size}")
        return content

    def write(self, content: Chunk) -> None:
        """Make the object, whole or not at all."""
        self.storage.write(self.bucket, self.key, content)

    def delete(self) -> None:
        """Delete the object, if there is one."""
        self.storage.delete(self.bucket, self.key)


# Reading by position: small ranges for single accesses, growing ones for a sequential reader.

_FIRST = 256 * 1024  # a footer and the metadata index of a volume
_MOST = 4 * 1024 * 1024  # twice that, for each of a command's threads


class S3File:
    """An object, opened; for one thread. Holds two ranges of at most 4 MiB: a check reads close behind itself."""

    def __init__(self, place: S3Location) -> None:
        stat = place.storage.known(place.bucket, place.key)
        if stat is None:
            raise StorageError(f"{place}: there is no such object", hint="List the objects below the prefix.")
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
        """Return the part of a range that is in memory, from its beginning on."""
        for start, content in self._ranges:
            if start <= offset < start + len(content):
                return content[offset - start : end - start]
        return b""

    def _fetch(self, offset: int, end: int) -> bytes:
        """Return the bytes from `offset` to `end`, and keep them as the latest range, with more behind it."""
        # A read that begins in or right behind the latest range is sequential.
        reads_on = any(start <= offset <= start + len(content) for start, content in self._ranges[:1])
        self._step = min(self._step * 2, _MOST) if reads_on else _FIRST
        last = min(max(end, offset + self._step), self.size)
        where = self._place
        content = where.storage.read(where.bucket, where.key, offset, last, self._tag)
        if len(content) != last - offset:
            raise StorageError(f"{where}: {len(content)} bytes came of {last - offset} from byte {offset} on")
        self._ranges = [(offset, content), *self._ranges[:1]]
        return content[: end - offset]
