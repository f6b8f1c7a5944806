"""OCI image layouts on disk, as a directory or a tar (`oci:` and `oci-archive:` of skopeo).

Nothing is unpacked, and no link is followed. Source: OCI image specification 1.1, *Image Layout*.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from tempfile import TemporaryFile, gettempdir
from typing import IO, TYPE_CHECKING, cast

import msgspec

from common.content import CHUNK_SIZE, Chunks
from common.errors import ContentError, NotFoundError, UsageError, boundary
from common.files import size_text, writing
from common.oci.image import MAX_MANIFEST_SIZE, Descriptor, Digest, Document, hex_of, parse
from common.oci.tar_reader import Entry, FileSource, TarFormatError, TarReader
from common.serialization import UNDECODABLE, decode_bounded
from exporter.catalog.readers.layout_index import Listed, image_of

if TYPE_CHECKING:
    from pathlib import Path


_INDEX = "index.json"
_MARK = "oci-layout"
_DOCKER_INDEX = "manifest.json"  # of an archive of `docker save`
MAX_ENTRIES = 100_000  # of an archive; an image has a few hundred
Opener = Callable[[str], IO[bytes]]
_MAX_NAME = 256  # of an entry; the longest of a layout is blobs/ALGORITHM/HEX. Bounds the memory of the index
# By the first bytes: gzip (RFC 1952), bzip2, xz. skopeo reads such archives too.
_COMPRESSED: dict[bytes, Callable[[IO[bytes]], IO[bytes]]] = {
    b"\x1f\x8b": lambda file: cast("IO[bytes]", gzip.GzipFile(fileobj=file)),
    b"BZh": lambda file: cast("IO[bytes]", bz2.BZ2File(file)),
    b"\xfd7zXZ\0": lambda file: cast("IO[bytes]", lzma.LZMAFile(file)),  # noqa: SIM115 - closed with its file
}
# Bzip2 expands up to a million times, xz some thousand, and both are slow. Archives of images expand three times, the largest
# real catalog 26 times with xz.
MAX_EXPANSION = 100
ALWAYS_ALLOWED = 256 * 1024**2  # bytes of an archive, uncompressed


class _Index(msgspec.Struct):
    manifests: list[Listed] | None = None  # null where `docker save` was asked for a digest (moby/moby#47210)


_DECODER = msgspec.json.Decoder(_Index)


class OciLayout:
    """An open layout. A BlobSource, for one thread at a time.

    Raises UsageError for a path without a layout, NotFoundError and ContentError for missing and damaged files.
    """

    def __init__(self, path: Path, opener: Opener) -> None:
        self._path = path
        self._open = opener

    def root(self, name: str = "") -> Document:
        """Return the image of a name, or the only one."""
        try:
            index = decode_bounded(self._file(_INDEX), _DECODER)
        except (*UNDECODABLE, NotFoundError) as error:
            raise UsageError(
                f"{self._path}: no OCI layout: {error}", hint="skopeo copy docker://… oci:PATH makes one."
            ) from error
        return image_of(str(self._path), index.manifests or [], name, self.document, self._config)

    def document(self, descriptor: Descriptor) -> Document:
        """Return a manifest or index, verified."""
        # The size in the descriptor is not trusted; the digest is, once it matches.
        document = parse(self._file(_name(descriptor.digest)), descriptor.media_type)
        if document.digest != descriptor.digest:
            raise ContentError(f"{self._path}: manifest {descriptor.digest} has digest {document.digest}")
        return document

    def read(self, blob: Descriptor, start: int = 0) -> Chunks:
        """Return the chunks of a blob from a position on; the caller verifies them."""
        with self._open(_name(blob.digest)) as file:
            file.seek(start)
            while chunk := file.read(CHUNK_SIZE):
                yield chunk

    def _config(self, config: Descriptor) -> bytes:
        return self._file(_name(config.digest))

    def _file(self, name: str) -> bytes:
        with self._open(name) as file:
            content = file.read(MAX_MANIFEST_SIZE + 1)
        if len(content) > MAX_MANIFEST_SIZE:  # registries refuse larger ones too (distribution-spec 1.1, *Pushing Manifests*)
            raise ContentError(f"{self._path}: {name} has more than {MAX_MANIFEST_SIZE} bytes")
        return content


@contextmanager
def opened(path: Path, scratch: Path | None = None) -> Iterator[OciLayout]:
    """Open the layout of a directory or tar. Raises UsageError when there is none.

    `scratch`: the directory in which a compressed tar is kept uncompressed while it is open, else that of temporary files.
    """
    if path.is_dir():
        yield OciLayout(path, lambda name: regular_file(path, name))
        return
    with ExitStack() as stack:
        with _listing(path):
            file = stack.enter_context(_uncompressed(path, lambda: stack.enter_context(_kept_in(scratch))))
            # Links and devices have no content of their own here, so only regular files count.
            entries = {_plain(one.name): one for one in _entries(file) if one.is_file and len(one.name) <= _MAX_NAME}
        # Since Docker 25 `docker save` writes a layout with this file next to it (moby/moby#44598).
        if _DOCKER_INDEX in entries and _INDEX not in entries:
            raise docker_archive(path)
        yield OciLayout(path, lambda name: _of_tar(path, file, entries.get(name), name))


def is_layout(path: Path) -> bool:
    """Return whether a directory is a layout."""
    # Without `oci-layout`, which the specification requires, the two others say enough: no catalog directory has them.
    return (path / _MARK).is_file() or ((path / _INDEX).is_file() and (path / "blobs").is_dir())


def is_archive(path: Path) -> bool:
    """Return whether a file is the tar of a layout, or of `docker save`."""
    try:
        with _listing(path), _uncompressed(path) as file:
            return any(_plain(entry.name) in (_MARK, _DOCKER_INDEX) for entry in _entries(file))
    except UsageError:
        return False


def docker_archive(path: Path) -> UsageError:
    """Return the error for an image as `docker save` wrote it until Docker 25, which has no manifest."""
    return UsageError(
        f"{path}: an archive of docker save, which has no manifest of its image",
        hint=f"Make a layout of it: skopeo copy docker-archive:{path} oci:DIRECTORY, and name oci:DIRECTORY.",
    )


@contextmanager
def _listing(path: Path) -> Iterator[None]:
    """Raise UsageError for a file that is no tar; decompressors raise OSError, EOFError and errors of their own."""
    try:
        with boundary(lambda error: TarFormatError(str(error))):
            yield
    except (OSError, TarFormatError) as error:
        raise UsageError(
            f"{path}: no OCI layout and no archive of one: {error}", hint="Wanted: oci:DIRECTORY or a tar."
        ) from error


@contextmanager
def _kept_in(scratch: Path | None) -> Iterator[IO[bytes]]:
    """Make a file without a name, which is gone when the process is."""
    with writing(scratch or gettempdir(), "Set TMPDIR to a directory with room."):
        if scratch is not None:
            scratch.mkdir(parents=True, exist_ok=True)
        kept = TemporaryFile(dir=scratch)  # noqa: SIM115 - closed below, with errors of its own
    with kept:
        yield kept


@contextmanager
def _uncompressed(path: Path, keep: Callable[[], IO[bytes]] | None = None) -> Iterator[IO[bytes]]:
    """Open a tar, which may be compressed as a whole: skopeo reads such archives too.

    `keep` makes the file for the content, which a reader who seeks back needs.
    """
    with path.open("rb") as file:
        head = file.read(max(map(len, _COMPRESSED)))
        file.seek(0)
        opener = next((opener for magic, opener in _COMPRESSED.items() if head.startswith(magic)), None)
        if opener is None:
            yield file
            return
        bounded = _Bounded(opener(file), path.stat().st_size)
        yield cast("IO[bytes]", bounded if keep is None else _Kept(bounded, keep(), path))


class _Bounded:
    """A decompressed file, up to a multiple of its size; read and skipped bytes beyond it raise TarFormatError."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file = file
        self._limit = ALWAYS_ALLOWED + size * MAX_EXPANSION

    def read(self, size: int) -> bytes:
        self.require_within(self._file.tell() + size)
        return self._file.read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.require_within(offset + (self._file.tell() if whence == io.SEEK_CUR else 0))
        return self._file.seek(offset, whence)

    def require_within(self, end: int) -> None:
        """Raise TarFormatError where the limit is before this position."""
        if end > self._limit:
            raise TarFormatError(f"it has more than {size_text(self._limit)} uncompressed")


class _Kept:
    """A decompressed file whose content is kept: each byte is decompressed once, however often a reader seeks back."""

    # A compressed stream can only be entered at its beginning, so each step back to a blob would decompress all before it. On
    # demand, not all at once: what follows the tar (padding, a damaged end) is not read, and is no error.
    def __init__(self, file: _Bounded, kept: IO[bytes], path: Path) -> None:
        self._file = file
        self._kept = kept
        self._path = path
        self._position = self._end = 0  # `end`: of what was decompressed

    def read(self, size: int) -> bytes:
        self._decompress(self._position + size)
        self._kept.seek(self._position)
        content = self._kept.read(size)
        self._position += len(content)
        return content

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        position = offset + (self._position if whence == io.SEEK_CUR else 0)
        self._file.require_within(position)
        self._position = position
        return position

    def _decompress(self, end: int) -> None:
        self._file.require_within(end)
        self._kept.seek(self._end)
        while self._end < end and (chunk := self._file.read(min(CHUNK_SIZE, end - self._end))):
            with writing(f"{self._path}, uncompressed,", "Set TMPDIR to a directory with room."):
                self._kept.write(chunk)
                self._kept.flush()  # here, so that a full disk is seen here
            self._end += len(chunk)


def _entries(file: IO[bytes]) -> Iterator[Entry]:
    for number, entry in enumerate(TarReader(FileSource(file)), 1):
        if number > MAX_ENTRIES:
            raise TarFormatError(f"more than {MAX_ENTRIES} entries")
        yield entry


def _plain(name: str) -> str:
    return name.removeprefix("./")


def _name(digest: Digest) -> str:
    return f"blobs/sha256/{hex_of(digest)}"


def regular_file(path: Path, name: str) -> IO[bytes]:
    """Open a file of a directory. Raises NotFoundError without one, also for a link and a named pipe."""
    try:
        # A link in a layout from elsewhere could lead to any file of this machine, and its content into an error message.
        # Nor does a named pipe block.
        file = os.fdopen(os.open(path / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb")
    except OSError as error:
        raise NotFoundError(f"{path}: {name}: {error.strerror}") from error
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return file
    file.close()
    raise NotFoundError(f"{path}: {name}: not a file")


def _of_tar(path: Path, file: IO[bytes], entry: Entry | None, name: str) -> IO[bytes]:
    if entry is None:
        raise NotFoundError(f"{path}: has no {name}")
    return io.BufferedReader(_Content(file, entry))


class _Content(io.RawIOBase):
    """The content of an entry as a file. Entries share the file of the archive, so each read seeks first."""

    def __init__(self, file: IO[bytes], entry: Entry) -> None:
        super().__init__()
        self._file = file
        self._entry = entry
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._entry.size}[whence]
        self._position = max(base + offset, 0)
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        self._file.seek(self._entry.offset + self._position)
        content = self._file.read(min(len(buffer), max(self._entry.size - self._position, 0)))
        buffer[: len(content)] = content
        self._position += len(content)
        return len(content)
