"""Where an object lies, `s3://bucket/key`: named and walked like a path, so that an archive may lie in either."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Self

from common.content import Chunk
from common.errors import StorageError, UsageError
from common.storage.answers import Stat
from common.storage.client import Storage, service

SCHEME = "s3://"
_MAX_KEY = 1024
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}", re.ASCII)


@dataclass(frozen=True, slots=True)
class StoredPlace:
    """An object, or what a directory is elsewhere: a prefix, without its last `/`. I/O raises StorageError."""

    bucket: str
    key: str
    storage: Storage = field(compare=False, repr=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the place of `s3://bucket/key`. Raises UsageError, also when there is no library for it."""
        bucket, _, key = text.removeprefix(SCHEME).partition("/")
        steps = [step for step in key.split("/") if step]
        if not _BUCKET.fullmatch(bucket) or {".", ".."} & set(steps) or not key.isprintable():
            raise UsageError(f"not a place in object storage: {text[:200]!r}", hint="Wanted: s3://BUCKET/PREFIX.")
        return cls(bucket, "/".join(steps), service())

    def __str__(self) -> str:
        return f"{SCHEME}{self.bucket}/{self.key}".rstrip("/")

    def __truediv__(self, name: str) -> StoredPlace:
        return StoredPlace(self.bucket, f"{self.key}/{name}" if self.key else name, self.storage)

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
    def parent(self) -> StoredPlace:
        """What the place lies in."""
        return StoredPlace(self.bucket, self.key.rpartition("/")[0], self.storage)

    def with_name(self, name: str) -> StoredPlace:
        """Return what lies beside it under a name."""
        return self.parent / name

    def resolve(self) -> StoredPlace:
        """Return itself: there are no links."""
        return self

    def stat(self) -> Stat | None:
        """Return what is known of the object; None where there is none."""
        return self.storage.stat(self.bucket, self.key) if self.key else None

    def children(self) -> Iterator[tuple[StoredPlace, int]]:
        """Give the objects directly below, with their sizes, in the order of their names; not what nobody could name."""
        prefix = f"{self.key}/" if self.key else ""
        for key, size in self.storage.below(self.bucket, prefix):
            name = key.removeprefix(prefix)
            if key.startswith(prefix) and name and "/" not in name and key.isprintable() and len(key) <= _MAX_KEY:
                yield StoredPlace(self.bucket, key, self.storage), size

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
        """Take the object away, if it is there."""
        self.storage.delete(self.bucket, self.key)
