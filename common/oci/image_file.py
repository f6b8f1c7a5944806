"""One file of an image, out of its layers, in bounded memory; nothing else of them is unpacked.

Layers are read from the top one down, until one has the file. Whiteouts and links are followed as in the OCI image
specification 1.1, *Image Layer Filesystem Changeset*. All numbers and names are untrusted.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Protocol

from common.errors import ImageFileError
from common.files import size_text
from common.oci.compression import decompressed
from common.oci.image import Descriptor
from common.oci.tar_reader import MAX_ALL_EXTENDED, MAX_HEADERS, OPAQUE, WHITEOUT, Entry, LayerTars, TarReader

if TYPE_CHECKING:
    from collections.abc import Sequence


MAX_FILE_LINKS = 40  # in a row, as Linux allows (path_resolution(7)); each may take another pass over the layers
_CHUNK = 1024 * 1024
_SHOWN = 200

Stored = Callable[[Descriptor], Iterable[bytes | memoryview]]
Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FileLimits:
    """Bounds of one file."""

    size: int = 4 * 1024**3  # installers of 4.18 have 0.8 GB
    """Bytes of the file."""
    unpacked: int = 32 * 1024**3  # the layers of such an image have 2 GB
    """Bytes of all layers that are read, each time that one is."""
    extended: int = MAX_ALL_EXTENDED
    """Bytes of the extended tar headers of these layers."""
    headers: int = MAX_HEADERS
    """Headers of these layers, and the records of extended ones."""


DEFAULT_FILE_LIMITS = FileLimits()


class FileSink(Protocol):
    """Where the file goes."""

    def begin(self, size: int) -> None:
        """Start a file of `size` bytes, in place of one that was started before: the last entry of a path counts."""
        ...

    def write(self, chunk: bytes) -> None:
        """Take the next bytes."""
        ...


class _Kind(Enum):
    FILE = auto()
    SYMBOLIC = auto()  # the path, or a directory above it, is a symbolic link
    HARD = auto()
    HIDDEN = auto()  # nothing below this layer counts


@dataclass(frozen=True, slots=True)
class _Found:
    """What a layer has at a path; `target`: where a link leads."""

    kind: _Kind
    target: Path = ()


class ImageFile:
    """Reader of files of one image. `stored` returns the verified bytes of a layer, as they are stored."""

    def __init__(self, layers: Sequence[Descriptor], stored: Stored, limits: FileLimits = DEFAULT_FILE_LIMITS) -> None:
        self._layers = layers[::-1]
        self._stored = stored
        self._limits = limits
        self._tars = LayerTars(ImageFileError, limits.unpacked, limits.extended, limits.headers)

    def copy(self, name: str, sink: FileSink) -> Descriptor:
        """Write a file into `sink`, and return the layer that it is in.

        Every layer that was read was read to its end, so that it is verified. Raises ImageFileError for a file that is not
        there, for another type, and beyond the limits; what `stored` raises; ContentError for a broken layer.
        """
        path, first = _parts(name), 0
        for _ in range(MAX_FILE_LINKS + 1):
            number, found = self._search(path, first, sink)
            match found.kind:
                case _Kind.FILE:
                    return self._layers[number]
                case _Kind.HIDDEN:
                    raise _absent(name, path)
                case _Kind.SYMBOLIC:
                    path, first = found.target, 0
                case _Kind.HARD:  # to a file of this layer, or of a lower one (Changeset, *Hardlinks*)
                    path, first = found.target, number
        raise ImageFileError(f"/{name} is a link that leads to itself, or through more than {MAX_FILE_LINKS} links")

    def _search(self, path: Path, first: int, sink: FileSink) -> tuple[int, _Found]:
        for number in range(first, len(self._layers)):
            if (found := self._read(self._layers[number], path, sink)) is not None:
                return number, found
        return len(self._layers), _Found(_Kind.HIDDEN)

    def _read(self, layer: Descriptor, path: Path, sink: FileSink) -> _Found | None:
        """Return what a layer has at a path; a file is written into `sink`."""
        content = decompressed(self._stored(layer), self._limits.unpacked)
        found: _Found | None = None
        hidden = False
        with self._tars.opened(content, f"layer {layer.digest}") as tar:
            for entry in tar:
                place = tuple(part for part in entry.name.split("/") if part not in ("", "."))
                # The last entry of a name counts, as unpacking does.
                found = self._entry(tar, entry, place, path, sink) or found
                hidden = hidden or _hides(place, path)
        # Whiteouts hide files of lower layers, never those that their own layer adds (Changeset, *Whiteouts*).
        return found or (_Found(_Kind.HIDDEN) if hidden else None)

    def _entry(self, tar: TarReader, entry: Entry, place: Path, path: Path, sink: FileSink) -> _Found | None:
        """Return what an entry says of the path; None where it says nothing."""
        if not place or place != path[: len(place)]:
            return None
        rest = path[len(place) :]
        if entry.is_symbolic_link:
            return _Found(_Kind.SYMBOLIC, (*_followed(place, entry.link), *rest))
        if rest:  # a directory above the path is one, or else nothing can be below it
            return None if entry.is_directory else _Found(_Kind.HIDDEN)
        if entry.is_hard_link:
            return _Found(_Kind.HARD, _parts(entry.link))
        # A kilobyte of a sparse file can stand for any size.
        if not entry.is_file or entry.sparse:
            raise ImageFileError(f"/{'/'.join(path)[:_SHOWN]} is no plain file")
        if entry.size > self._limits.size:
            limit = size_text(self._limits.size)
            raise ImageFileError(f"/{'/'.join(path)[:_SHOWN]} has {size_text(entry.size)}; the limit is {limit}")
        sink.begin(entry.size)
        while chunk := tar.read(_CHUNK):
            sink.write(chunk)
        return _Found(_Kind.FILE)


def _parts(name: str) -> Path:
    return tuple(part for part in posixpath.normpath(f"/{name}").split("/") if part)


def _followed(place: Path, target: str) -> Path:
    """Return the target of a symbolic link; `..` above the root stays at the root (path_resolution(7))."""
    return _parts(posixpath.join("/", *place[:-1], target))


def _hides(place: Path, path: Path) -> bool:
    """Return whether an entry is a whiteout of the path, or of a directory above it."""
    if not place or not place[-1].startswith(WHITEOUT):
        return False
    above, name = place[:-1], place[-1]
    if name == OPAQUE:
        return len(above) < len(path) and path[: len(above)] == above
    hidden = (*above, name.removeprefix(WHITEOUT))
    return path[: len(hidden)] == hidden


def _absent(name: str, path: Path) -> ImageFileError:
    led = "" if path == _parts(name) else f", which leads to /{'/'.join(path)[:_SHOWN]}"
    return ImageFileError(f"the image has no file /{name}{led}")
