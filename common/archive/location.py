"""Locations of archive files, in a file system or in object storage, with the same operations for both."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from common import files
from common.errors import ContentError, UsageError
from common.files import write_atomic, write_parts_atomic
from common.oci.reference import local_path
from common.storage.location import SCHEME, S3File, S3Location

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from common.archive.direct_io import File


Place = Path | S3Location


def parse(text: str) -> Place:
    """Return the location in an argument: `s3://BUCKET/PREFIX`, a path, or `file:///PATH`. Raises UsageError."""
    # By `s3:` alone: `s3:bucket` and `s3:/bucket` are mistakes in an address, not paths.
    return S3Location.parse(text) if text.lower().startswith(SCHEME.rstrip("/")) else local_path(text)


def require_place(text: str) -> Place:
    """Return the location of a file to be written at the end of a command. Raises UsageError for one that is not writable."""
    place = parse(text)
    if isinstance(place, S3Location):
        if not place.key:
            raise UsageError(f"{text} is a bucket", hint="Name the object that is to be written: s3://BUCKET/NAME.")
        next(iter(place.parent.children()), None)  # a request, so that a missing bucket fails now, not after hours of work
    elif files.names_directory(text):
        raise UsageError(f"{text} is a directory", hint="Name the file that is to be written.")
    else:
        files.require_place(place)
    return place


def files_in(place: Place) -> list[Place] | None:
    """Return the files in a directory, sorted by name; None for any other location. Raises OSError, StorageError."""
    if isinstance(place, S3Location):
        # Object storage has no directories; a prefix without objects is none.
        return [child for child, _ in place.children()] or None
    return [*sorted(path for path in place.iterdir() if path.is_file())] if place.is_dir() else None


def entries_of(directory: Place) -> list[Place]:
    """Return the entries of a directory, sorted by name. Raises OSError, StorageError."""
    return files_in(directory) or [] if isinstance(directory, S3Location) else [*sorted(directory.iterdir())]


def is_file(place: Place) -> bool:
    """Return whether a file exists. Raises StorageError."""
    return place.stat() is not None if isinstance(place, S3Location) else place.is_file()


def size_of(place: Place) -> int:
    """Return the size of a file in bytes. Raises OSError, StorageError."""
    if not isinstance(place, S3Location):
        return place.stat().st_size
    stat = place.stat()  # a HEAD request; an object may disappear between two of them
    return 0 if stat is None else stat.size


@contextmanager
def opened(place: Place) -> Iterator[File]:
    """Open a file for reading by position, for one thread. Raises OSError, StorageError."""
    if isinstance(place, S3Location):
        yield S3File(place)
        return
    file = os.open(place, os.O_RDONLY)  # a descriptor: reading by position needs no buffer of Python's
    try:
        yield file
    finally:
        os.close(file)


def read(place: Place, limit: int) -> bytes:
    """Return the content of a file of at most `limit` bytes. Raises ContentError for more, OSError, StorageError."""
    if isinstance(place, S3Location):
        return place.read(limit)
    with place.open("rb") as file:
        raw = file.read(limit + 1)  # bounded by reading, since the file may grow after its size was asked for
    if len(raw) > limit:
        raise ContentError(f"{place}: more than {limit} bytes")
    return raw


def write(place: Place, content: bytes) -> None:
    """Write or replace a file, atomically and durably. Raises OSError, StorageError."""
    if isinstance(place, S3Location):
        place.write(content)
    else:
        write_atomic(place, content)


def write_parts(place: Place, parts: Iterable[bytes]) -> None:
    """Write or replace a file as `write` does, without holding all of it where it is in a file system."""
    if isinstance(place, S3Location):
        place.write(b"".join(parts))
        return
    write_parts_atomic(place, parts)
