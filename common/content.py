"""The protocols of blob sources and sinks, which every medium implements, and verification between them.

`BlobSource` gives the bytes of a blob, `BlobSink` takes them (docs/architecture.md, *The idea*). `verified` makes it
impossible to take the last byte of a blob whose digest is wrong. `DirectoryStore` is the third medium, a plain directory.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol, TypeVar

from common import files
from common.errors import ContentError, DamagedError, NotFoundError, SpaceError
from common.oci.image import Descriptor, Hasher, hex_of
from common.retry import Retries, RetryableError, RetryPolicy

if TYPE_CHECKING:
    from pathlib import Path


Chunk = bytes | memoryview
Chunks = Iterator[Chunk]
CHUNK_SIZE = 256 * 1024
REPEATS = 5  # how often one place is asked for content that arrives damaged
_DAMAGED = RetryPolicy(first_s=0.5, longest_s=8.0, jitter=0.0)
T = TypeVar("T")


def in_memory(content: bytes, start: int = 0) -> Chunks:
    """Give content that is in memory, from byte `start` on."""
    return iter((memoryview(content)[start:],))


class Written(StrEnum):
    """What a sink had to do."""

    COPIED = "copied"
    MOUNTED = "mounted"
    PRESENT = "present"


class Read(Protocol):
    """Opens the verified content of a blob."""

    def __call__(self, start: int = 0, prefix: Hasher | None = None) -> Chunks:
        """Give the content from `start` on.

        Without `prefix` the bytes before are read too, for the digest; `prefix` is a hasher that has taken them in where they
        are stored already, and then they are not fetched.
        """
        ...


class BlobSource(Protocol):
    """Where blobs are read."""

    def read(self, blob: Descriptor, start: int = 0) -> Chunks:
        """Give the bytes of `blob` from byte `start` on.

        A chunk is valid until the next one is asked for. Closing the iterator frees what it holds. The bytes are not
        verified here; `verified` does that once, for every source. Raises NotFoundError when the blob is not there, and the
        medium's own error when it breaks.
        """
        ...


class BlobSink(Protocol):
    """Where blobs are written."""

    def write(self, blob: Descriptor, read: Read) -> Written:
        """Store `blob`, or find that it is there already.

        `read(start)` opens its verified content; it may be called again, from any start, when the first try breaks. A blob is
        never visible in the sink unless all of its bytes were verified.
        """
        ...


def verified(chunks: Chunks, blob: Descriptor, hasher: Hasher | None = None, start: int = 0) -> Chunks:
    """Pass `chunks` on; the chunk that completes the blob comes only when size and digest are right.

    `hasher` must have taken in the first `start` bytes. Raises ContentError for short, long or wrong content. A source that is
    a generator receives the error at its `yield` and may raise one of its own, which names the place.
    """
    hasher = hasher or Hasher()
    done = start
    for chunk in chunks:
        done += len(chunk)
        hasher.update(chunk)
        if done > blob.size:
            raise reported(chunks, ContentError(f"{blob.digest}: longer than the {blob.size} bytes it should have"))
        if done == blob.size and hasher.digest() != blob.digest:
            raise reported(chunks, _wrong(hasher, blob))
        yield chunk
    if done < blob.size:
        raise ContentError(f"{blob.digest}: ended after {done} of {blob.size} bytes")
    if blob.size == start and hasher.digest() != blob.digest:
        raise _wrong(hasher, blob)


def retry_damaged(action: Callable[[int], T], sleep: Callable[[float], None]) -> T:
    """Return the result of `action`, which receives the number of the try, retried while its content is damaged.

    A registry's DamagedError says whether another try makes sense: the line, or a cache, may give a good copy after a pause.
    Other content errors are retried once, at once.
    """
    for number, attempt in enumerate(Retries(_DAMAGED, sleep=sleep), 1):
        with attempt:
            try:
                return action(number)
            except DamagedError as error:
                if not error.more:
                    raise
                raise RetryableError(error) from error.__cause__
            except ContentError as error:
                # A document that cannot be parsed, a disk that flipped a bit: it may be a bad read, which no pause changes.
                raise RetryableError(error, 2, wait_s=0.0) from error.__cause__
    raise AssertionError("the last attempt returns or raises")


def _wrong(hasher: Hasher, blob: Descriptor) -> ContentError:
    return ContentError(f"content has digest {hasher.digest()}, wanted {blob.digest} ({blob.size} bytes)")


def reported(chunks: Chunks, error: ContentError) -> ContentError:
    """Throw `error` into the source of `chunks`, where that is a generator; return it when that does not raise another."""
    if isinstance(chunks, Generator):
        chunks.throw(error)
    return error


class DirectoryStore:
    """Blobs as files `sha256/<hex>` in a directory: an OCI layout's `blobs/`. Both source and sink.

    `durable`: after a power cut, a file with its final name is whole.
    """

    def __init__(self, root: Path, *, durable: bool = True) -> None:
        self._root = root
        self._durable = durable

    @property
    def root(self) -> Path:
        """The directory."""
        return self._root

    @property
    def is_durable(self) -> bool:
        """Whether the next run can use the directory."""
        return self._durable

    def path(self, blob: Descriptor) -> Path:
        """Return the path of the blob, present or not."""
        return self._root / "sha256" / hex_of(blob.digest)

    def has(self, blob: Descriptor) -> bool:
        """Say whether the blob is here."""
        return self.path(blob).is_file()

    def read(self, blob: Descriptor, start: int = 0) -> Chunks:
        """See `BlobSource.read`."""
        try:
            file = self.path(blob).open("rb")
        except FileNotFoundError:
            raise NotFoundError(f"{blob.digest}: not in {self._root}") from None
        with file:
            file.seek(start)
            while chunk := file.read(CHUNK_SIZE):
                yield chunk

    def write(self, blob: Descriptor, read: Callable[[int], Chunks]) -> Written:
        """See `BlobSink.write`."""
        path = self.path(blob)
        if path.exists():
            return Written.PRESENT
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.partial")
        try:
            with partial.open("wb") as file:
                for chunk in read(0):
                    file.write(chunk)
                if self._durable:
                    file.flush()
                    os.fsync(file.fileno())  # before the rename
            partial.rename(path)
        except OSError as error:
            if error.errno not in files.FULL:
                raise
            hint = "Free some, and run the same command again."
            raise SpaceError(f"no space left in {self._root} for {blob.digest} ({blob.size} bytes)", hint=hint) from error
        finally:
            partial.unlink(missing_ok=True)
        return Written.COPIED
