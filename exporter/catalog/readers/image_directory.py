"""Images in a directory as `skopeo copy … dir:` makes it: `manifest.json`, and every blob in a file named by its digest.

Sources: containers-transports(5), *dir:path*; containers/image, directory/directory_transport.go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from common.content import CHUNK_SIZE, Chunks
from common.errors import ContentError, HubError, UsageError
from common.oci.image import MAX_MANIFEST_SIZE, Descriptor, Document, hex_of, parse
from exporter.catalog.readers.oci_layout import regular_file

if TYPE_CHECKING:
    from pathlib import Path


_MANIFEST = "manifest.json"
_VERSION = "version"
_MARK = b"Directory Transport Version: "


def is_image_directory(path: Path) -> bool:
    """Return whether a directory has an image of `dir:`."""
    return (path / _MANIFEST).is_file() and _head(path, _VERSION, len(_MARK)) == _MARK


def is_docker_archive(path: Path) -> bool:
    """Return whether a directory has what `docker save` writes, unpacked: a list of images in `manifest.json`."""
    head = _head(path, _MANIFEST, 4096).lstrip()
    return head.startswith(b"[") and b'"Config"' in head


def _head(path: Path, name: str, length: int) -> bytes:
    try:
        with regular_file(path, name) as file:
            return file.read(length)
    except (HubError, OSError):
        return b""


class ImageDirectory:
    """The image of a directory. A BlobSource, for one thread at a time. Raises NotFoundError and ContentError."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def root(self, name: str = "") -> Document:
        """Return the image; it has no name."""
        if name:
            raise UsageError(f"{self._path}: a directory of skopeo has no names", hint=f"Wanted: dir:{self._path}.")
        return parse(self._file(_MANIFEST))

    def document(self, descriptor: Descriptor) -> Document:
        """Return a manifest of an index, verified."""
        document = parse(self._file(f"{hex_of(descriptor.digest)}.{_MANIFEST}"), descriptor.media_type)
        if document.digest != descriptor.digest:
            raise ContentError(f"{self._path}: manifest {descriptor.digest} has digest {document.digest}")
        return document

    def read(self, blob: Descriptor, start: int = 0) -> Chunks:
        """Return the chunks of a blob from a position on; the caller verifies them."""
        with regular_file(self._path, hex_of(blob.digest)) as file:
            file.seek(start)
            while chunk := file.read(CHUNK_SIZE):
                yield chunk

    def _file(self, name: str) -> bytes:
        with regular_file(self._path, name) as file:
            content = file.read(MAX_MANIFEST_SIZE + 1)
        if len(content) > MAX_MANIFEST_SIZE:
            raise ContentError(f"{self._path}: {name} has more than {MAX_MANIFEST_SIZE} bytes")
        return content
