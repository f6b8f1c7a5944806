"""The files of one directory of an image, read through its layers without anything touching a disk.

Owns what tar entries, whiteouts and links mean (OCI image layout specification 1.1, *Image Layer Filesystem Changeset*); which
directory is asked for is `catalog_image.py`'s. Every number and name comes from outside, so each has a limit.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from common.errors import CatalogError
from common.files import size_text
from exporter.catalog.readers.tar_reader import MAX_ALL_EXTENDED, ChunkSource, Entry, TarFormatError, TarReader

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MAX_NAME = 4096
MAX_DEPTH = 128
MAX_LINKS = 40
WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"


@dataclass(frozen=True, slots=True)
class TreeLimits:
    """Bounds on what is read."""

    size: int = 2 * 1024**3
    """Bytes of all files that the directory has, in any layer."""
    entries: int = 5_000_000
    """Tar entries of all layers."""
    extended: int = MAX_ALL_EXTENDED
    """Bytes of the extended tar headers of all layers."""


DEFAULT_LIMITS = TreeLimits()


@dataclass(frozen=True, slots=True)
class _Link:
    """A symbolic link; `target` as written."""

    target: str


Node: TypeAlias = "bytes | _Link | dict[str, Node]"


class LayerTree:
    """The directory, and what lies above it, as the layers applied so far leave it."""

    def __init__(self, directory: str, limits: TreeLimits = DEFAULT_LIMITS) -> None:
        """Begin with an empty tree; `directory` is absolute."""
        self._directory = parts(directory)
        self._limits = limits
        self._tree: dict[str, Node] = {}
        self._size = 0
        self._entries = 0
        self._extended = 0

    def apply(self, layer: Iterable[bytes]) -> None:
        """Apply the next layer, lowest first: the chunks of its uncompressed tar, read to their end.

        Raises CatalogError for a broken tar, for what a catalog has no use for, and beyond the limits.
        """
        chunks = iter(layer)
        added: dict[str, Node] = {}
        hidden: list[tuple[str, ...]] = []
        tar = TarReader(ChunkSource(chunks), self._limits.extended - self._extended)
        try:
            for entry in tar:
                self._take(tar, entry, added, hidden)
        except TarFormatError as error:
            raise CatalogError(f"a layer of the catalog image is no readable tar: {error.message}") from error
        self._extended += tar.extended
        for _ in chunks:  # a layer is verified when its last byte was read
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

    def _take(self, tar: TarReader, entry: Entry, added: dict[str, Node], hidden: list[tuple[str, ...]]) -> None:
        self._entries += 1
        if self._entries > self._limits.entries:
            raise CatalogError(f"the catalog image has more than {self._limits.entries} files and directories")
        path = parts(entry.name)
        if not path or not self._concerns(path):
            return
        name = path[-1]
        if name.startswith(WHITEOUT):
            hidden.append(path if name == OPAQUE else (*path[:-1], name.removeprefix(WHITEOUT)))
        elif entry.is_directory:
            _folder(added, path)
        else:
            _folder(added, path[:-1])[name] = self._node(tar, entry, added)

    def _concerns(self, path: tuple[str, ...]) -> bool:
        """Say whether a path is in the directory, is it, lies above it, or hides something above it."""
        length = min(len(path) - path[-1].startswith(WHITEOUT), len(self._directory))
        return path[:length] == self._directory[:length]

    def _node(self, tar: TarReader, entry: Entry, added: dict[str, Node]) -> Node:
        """Return what an entry that is no directory puts at its path."""
        if entry.is_symbolic_link:
            return _Link(entry.link[:MAX_NAME])
        if entry.is_hard_link:
            target = parts(entry.link)
            node = found(added, target) or found(self._tree, target)
            if node is None or isinstance(node, dict):
                raise CatalogError(f"/{entry.name} of the catalog image is a hard link to something outside the catalog")
            return node
        if entry.sparse:
            raise sparse_file(entry)
        if not entry.is_file:
            raise CatalogError(f"/{entry.name} of the catalog image is neither a file, a directory nor a link")
        self._size += entry.size
        if self._size > self._limits.size:
            raise CatalogError(f"the catalog has more than {size_text(self._limits.size)}")
        return tar.read()

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


def sparse_file(entry: Entry) -> CatalogError:
    """Return the error for a sparse file: a kilobyte of it stands for any size, and no builder of catalogs makes one."""
    return CatalogError(
        f"/{entry.name} of the catalog image is a sparse file",
        hint="Its publisher has to build the image with a tar that stores files whole (GNU tar without --sparse).",
    )


def _followed(place: tuple[str, ...], target: str) -> tuple[str, ...]:
    """Return where a link leads; `..` above the root stays at the root, as in a kernel."""
    path = posixpath.normpath(posixpath.join("/", *place[:-1], target))
    return tuple(part for part in path.split("/") if part)
