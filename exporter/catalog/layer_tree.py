"""The files of one directory of an image, read through its layers without anything touching a disk.

Owns what tar entries, whiteouts and links mean (OCI image layout specification 1.1, *Image Layer Filesystem Changeset*); which
directory is asked for is `catalog_image.py`'s. Every number and name comes from outside, so each has a limit.
"""

from __future__ import annotations

import io
import posixpath
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from common.errors import CatalogError
from common.files import size_text

MAX_HEADER = 1024 * 1024
MAX_NAME = 4096
MAX_DEPTH = 128
MAX_LINKS = 40
_STEP = 1024 * 1024
WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"
_EXTENDED = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)


@dataclass(frozen=True, slots=True)
class TreeLimits:
    """Bounds on what is read."""

    size: int = 2 * 1024**3
    """Bytes of all files that the directory has, in any layer."""
    entries: int = 5_000_000
    """Tar entries of all layers."""


DEFAULT_LIMITS = TreeLimits()


@dataclass(frozen=True, slots=True)
class _Link:
    """A symbolic link; `target` as written."""

    target: str


Node: TypeAlias = "bytes | _Link | dict[str, Node]"


class _Member(tarfile.TarInfo):
    """A header that refuses to have a mebibyte of names behind it, which tarfile would read into memory."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Member:
        member = super().frombuf(buf, encoding, errors)
        if member.type in _EXTENDED and not 0 <= member.size <= MAX_HEADER:
            raise CatalogError(f"a layer of the catalog image has a tar header of {member.size} bytes")
        return member


class LayerTree:
    """The directory, and what lies above it, as the layers applied so far leave it."""

    def __init__(self, directory: str, limits: TreeLimits = DEFAULT_LIMITS) -> None:
        """Begin with an empty tree; `directory` is absolute."""
        self._directory = parts(directory)
        self._limits = limits
        self._tree: dict[str, Node] = {}
        self._size = 0
        self._entries = 0

    def apply(self, layer: Iterable[bytes]) -> None:
        """Apply the next layer, lowest first: the chunks of its uncompressed tar, read to their end.

        Raises CatalogError for a broken tar, for what a catalog has no use for, and beyond the limits.
        """
        chunks = iter(layer)
        added: dict[str, Node] = {}
        hidden: list[tuple[str, ...]] = []
        try:
            with tarfile.open(fileobj=_Chunks(chunks), mode="r|", tarinfo=_Member, bufsize=_STEP) as tar:
                while (member := tar.next()) is not None:
                    tar.members = []  # type: ignore[attr-defined]  # else tarfile keeps every header in memory
                    self._take(tar, member, added, hidden)
        except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
            raise CatalogError(f"a layer of the catalog image is no readable tar: {error}") from error
        for _ in chunks:  # whoever verifies the layer does so at its last byte
            pass
        # Whiteouts hide what lower layers have, never what their own layer adds.
        for path in hidden:
            _hide(self._tree, path)
        _merge(self._tree, added)

    def files(self) -> dict[str, bytes]:
        """Return every file by its path relative to the directory, links resolved.

        Raises CatalogError for a link that leads out of the directory or nowhere.
        """
        root = found(self._tree, self._directory)
        if root is not None and not isinstance(root, dict):
            raise CatalogError(f"/{'/'.join(self._directory)} of the catalog image is no directory")
        return {"/".join(path): self._content(path, node) for path, node in walk(root or {})}

    def _take(
        self, tar: tarfile.TarFile, member: tarfile.TarInfo, added: dict[str, Node], hidden: list[tuple[str, ...]]
    ) -> None:
        self._entries += 1
        if self._entries > self._limits.entries:
            raise CatalogError(f"the catalog image has more than {self._limits.entries} files and directories")
        path = parts(member.name)
        if not path or not self._concerns(path):
            return
        name = path[-1]
        if name.startswith(WHITEOUT):
            hidden.append(path if name == OPAQUE else (*path[:-1], name.removeprefix(WHITEOUT)))
        elif member.isdir():
            _folder(added, path)
        else:
            _folder(added, path[:-1])[name] = self._node(tar, member, added)

    def _concerns(self, path: tuple[str, ...]) -> bool:
        """Say whether a path is in the directory, is it, lies above it, or hides something above it."""
        length = min(len(path) - path[-1].startswith(WHITEOUT), len(self._directory))
        return path[:length] == self._directory[:length]

    def _node(self, tar: tarfile.TarFile, member: tarfile.TarInfo, added: dict[str, Node]) -> Node:
        """Return what an entry that is no directory puts at its path."""
        if member.issym():
            return _Link(member.linkname[:MAX_NAME])
        if member.islnk():
            target = parts(member.linkname)
            node = found(added, target) or found(self._tree, target)
            if node is None or isinstance(node, dict):
                raise CatalogError(f"/{member.name} of the catalog image is a hard link to something outside the catalog")
            return node
        if not member.isreg():
            raise CatalogError(f"/{member.name} of the catalog image is neither a file, a directory nor a link")
        self._size += member.size
        if member.size < 0 or self._size > self._limits.size:
            raise CatalogError(f"the catalog has more than {size_text(self._limits.size)}")
        source = tar.extractfile(member)
        content = source.read() if source else b""
        if len(content) != member.size:
            raise CatalogError(f"/{member.name} of the catalog image ends after {len(content)} of {member.size} bytes")
        return content

    def _content(self, path: tuple[str, ...], node: Node) -> bytes:
        """Follow links that stay in the directory."""
        place, why = (*self._directory, *path), "leads to itself"
        for _ in range(MAX_LINKS):
            if isinstance(node, bytes):
                return node
            if not isinstance(node, _Link):
                why = "leads to a directory"
                break
            place = _followed(place, node.target)
            leads = found(self._tree, place) if place[: len(self._directory)] == self._directory else None
            if leads is None:
                why = "leads nowhere in the catalog"
                break
            node = leads
        name = "/".join((*self._directory, *path))
        raise CatalogError(f"/{name} of the catalog image is a link that {why}", hint="Its publisher has to mend the image.")


def found(tree: dict[str, Node], path: tuple[str, ...]) -> Node | None:
    """Return what lies at a path; None for nothing."""
    node: Node | None = tree
    for part in path:
        node = node.get(part) if isinstance(node, dict) else None
    return node


def _folder(tree: dict[str, Node], path: tuple[str, ...]) -> dict[str, Node]:
    """Return the folder at a path; what stands in the way of it is replaced."""
    for part in path:
        child = tree.get(part)
        if not isinstance(child, dict):
            child = tree[part] = {}
        tree = child
    return tree


def _hide(tree: dict[str, Node], path: tuple[str, ...]) -> None:
    parent = found(tree, path[:-1])
    if isinstance(parent, dict):
        parent.clear() if path[-1] == OPAQUE else parent.pop(path[-1], None)


def _merge(lower: dict[str, Node], upper: dict[str, Node]) -> None:
    for name, node in upper.items():
        below = lower.get(name)
        if isinstance(node, dict) and isinstance(below, dict):
            _merge(below, node)
        else:
            lower[name] = node


def walk(folder: dict[str, Node], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Node]]:
    """Give everything that is no directory, by path, sorted."""
    for name, node in sorted(folder.items()):
        if isinstance(node, dict):
            yield from walk(node, (*above, name))
        else:
            yield (*above, name), node


def parts(name: str) -> tuple[str, ...]:
    """Return the components of a tar name. Raises CatalogError for a name that climbs, or is too long or deep."""
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if len(name) > MAX_NAME or len(parts) > MAX_DEPTH:
        raise CatalogError(f"the catalog image has a name of {len(name)} characters, {len(parts)} directories deep")
    if ".." in parts or "\0" in name:
        raise CatalogError(f"the catalog image has a name with '..' or worse: {name[:200]!r}")
    return parts


def _followed(place: tuple[str, ...], target: str) -> tuple[str, ...]:
    """Return where a link leads; `..` above the root stays at the root, as in a kernel."""
    path = posixpath.normpath(posixpath.join("/", *place[:-1], target))
    return tuple(part for part in path.split("/") if part)


class _Chunks(io.RawIOBase):
    """A `read()` over chunks, for tarfile's stream mode."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        super().__init__()
        self._source = chunks
        self._pending = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._pending:
            chunk = next(self._source, None)
            if chunk is None:
                return 0
            self._pending = memoryview(chunk)
        size = min(len(buffer), len(self._pending))
        buffer[:size] = self._pending[:size]
        self._pending = self._pending[size:]
        return size
