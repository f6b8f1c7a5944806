"""OCI image layouts, as a directory or in a tar (`oci:` and `oci-archive:` of skopeo): catalogs that lie on a disk.

Nothing is unpacked, and no link is followed. Section: OCI image specification 1.1, *Image Layout*.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import msgspec

from common.content import CHUNK_SIZE, Chunks
from common.digest import Digest, hex_of, parse_digest
from common.errors import ContentError, NotFoundError, UsageError
from common.oci.descriptor import Descriptor
from common.oci.manifest import MAX_MANIFEST_SIZE, Document, parse
from common.serialization import UNDECODABLE

PREFIXES = ("oci:", "oci-archive:")
_REF_NAME = "org.opencontainers.image.ref.name"
_INDEX = "index.json"
Opener = Callable[[str], IO[bytes]]


class _Listed(msgspec.Struct, rename="camel"):
    digest: str
    size: int
    media_type: str | None = None
    annotations: dict[str, str] | None = None

    @property
    def name(self) -> str:
        """What the layout calls the image."""
        return (self.annotations or {}).get(_REF_NAME, "")


class _Index(msgspec.Struct):
    manifests: list[_Listed]


_DECODER = msgspec.json.Decoder(_Index)


class OciLayout:
    """An open layout. A BlobSource, for one thread at a time.

    Raises UsageError for what is no layout, NotFoundError and ContentError for files that are not what they should be.
    """

    def __init__(self, path: Path, opener: Opener) -> None:
        self._path = path
        self._open = opener

    def root(self, name: str = "") -> Document:
        """Return the image of a name, or the only one."""
        try:
            index = _DECODER.decode(self._file(_INDEX))
        except (*UNDECODABLE, NotFoundError) as error:
            raise UsageError(
                f"{self._path}: no OCI layout: {error}", hint="skopeo copy docker://… oci:PATH makes one."
            ) from error
        found = [one for one in index.manifests if name in ("", one.name)]
        if len(found) != 1:
            names = ", ".join(sorted(one.name or one.digest for one in index.manifests)[:10]) or "none"
            raise UsageError(
                f"{self._path}: {len(found)} images{f' of the name {name!r}' if name else ''}",
                hint=f"Say which one, as oci:PATH:NAME. It has: {names}",
            )
        return self.document(Descriptor(found[0].media_type or "", parse_digest(found[0].digest), found[0].size))

    def document(self, descriptor: Descriptor) -> Document:
        """Return a manifest or index, verified."""
        document = parse(self._file(_name(descriptor.digest)), descriptor.media_type)
        if document.digest != descriptor.digest:
            raise ContentError(f"{self._path}: manifest {descriptor.digest} has digest {document.digest}")
        return document

    def read(self, blob: Descriptor, start: int = 0) -> Chunks:
        """See `BlobSource.read`."""
        with self._open(_name(blob.digest)) as file:
            file.seek(start)
            while chunk := file.read(CHUNK_SIZE):
                yield chunk

    def _file(self, name: str) -> bytes:
        with self._open(name) as file:
            content = file.read(MAX_MANIFEST_SIZE + 1)
        if len(content) > MAX_MANIFEST_SIZE:
            raise ContentError(f"{self._path}: {name} has more than {MAX_MANIFEST_SIZE} bytes")
        return content


@contextmanager
def opened(path: Path) -> Iterator[OciLayout]:
    """Open the layout of a directory or tar. Raises UsageError when there is none."""
    if path.is_dir():
        yield OciLayout(path, lambda name: _of_directory(path, name))
        return
    try:
        with tarfile.open(path) as tar:
            names = {member.name.removeprefix("./"): member for member in tar if member.isreg()}
            yield OciLayout(path, lambda name: _of_tar(tar, names.get(name), name))
    except (OSError, tarfile.TarError) as error:
        raise UsageError(
            f"{path}: no OCI layout and no archive of one: {error}", hint="Wanted: oci:DIRECTORY or a tar."
        ) from error


def split(name: str) -> tuple[Path, str] | None:
    """Return path and image of `oci:PATH[:NAME]` or `oci-archive:PATH[:NAME]`; None for anything else."""
    prefix = next((one for one in PREFIXES if name.startswith(one)), None)
    if prefix is None:
        return None
    path, _, image = name.removeprefix(prefix).partition(":")
    return Path(path), image


def is_archive(path: Path) -> bool:
    """Say whether a file is the tar of a layout."""
    try:
        with tarfile.open(path) as tar:
            return any(member.name.removeprefix("./") == "oci-layout" for member in tar)
    except (OSError, tarfile.TarError):
        return False


def _name(digest: Digest) -> str:
    return f"blobs/sha256/{hex_of(digest)}"


def _of_directory(path: Path, name: str) -> IO[bytes]:
    try:
        return os.fdopen(os.open(path / name, os.O_RDONLY | os.O_NOFOLLOW), "rb")
    except OSError as error:
        raise NotFoundError(f"{path}: {name}: {error.strerror}") from error


def _of_tar(tar: tarfile.TarFile, member: tarfile.TarInfo | None, name: str) -> IO[bytes]:
    source = tar.extractfile(member) if member else None
    if source is None:
        raise NotFoundError(f"{tar.name!s}: has no {name}")
    return source
