"""The files of one directory of an image, with all its layers applied in memory.

Tar entries, whiteouts and links as in the OCI image specification 1.1, *Image Layer Filesystem Changeset*. All numbers and
names are untrusted, so each has a limit.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from common.errors import CatalogError
from common.files import size_text
from common.oci.tar_reader import MAX_ALL_EXTENDED, MAX_HEADERS, OPAQUE, WHITEOUT, Entry, LayerTars, TarReader

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


MAX_NAME = 4096  # PATH_MAX of Linux: no engine could create a longer one
MAX_DEPTH = 128  # `walk` and `_merge` recurse once for each directory, and Python allows 1,000 frames
MAX_LINKS = 40  # symbolic links in a row, as Linux allows (path_resolution(7))


@dataclass(frozen=True, slots=True)
class TreeLimits:
    """Bounds of one image."""

    size: int = 1024**3  # held in memory; the largest real catalog has 132 MB, and four times that with inlined objects
    """Bytes of all files that the directory has, in any layer."""
    entries: int = 1_000_000  # an image of a whole operating system has some hundred thousand
    """Tar entries of all layers, and the directories above them that have no entry."""
    unpacked: int = 16 * 1024**3  # catalog images have up to 2.5 GB (operator-registry#259)
    """Bytes of all layers. A manifest may name a layer of some megabytes thousands of times."""
    extended: int = MAX_ALL_EXTENDED
    """Bytes of the extended tar headers of all layers."""
    headers: int = MAX_HEADERS
    """Headers of all layers, and the records of extended ones."""


DEFAULT_LIMITS = TreeLimits()


@dataclass(frozen=True, slots=True)
class _Link:
    """A symbolic link; `target` as in the tar."""

    target: str


Node: TypeAlias = "bytes | _Link | dict[str, Node]"


class LayerTree:
    """The directory and its parents after the layers applied so far."""

    def __init__(self, directory: str, limits: TreeLimits = DEFAULT_LIMITS) -> None:
        """Create an empty tree; `directory` is absolute."""
        self._directory = parts(directory)
        self._limits = limits
        self._tree: dict[str, Node] = {}
        self._size = 0
        self._entries = 0
        self._tars = LayerTars(CatalogError, limits.unpacked, limits.extended, limits.headers)

    def apply(self, layer: Iterable[bytes]) -> None:
        """Apply the next layer, lowest first: the chunks of its uncompressed tar, read to their end.

        Raises CatalogError for a broken tar, for kinds of files that a catalog never has, and beyond the limits.
        """
        # Whiteouts hide files of lower layers, never those that their own layer adds (Changeset, *Whiteouts*): collected apart.
        added: dict[str, Node] = {}
        hidden: list[tuple[str, ...]] = []
        with self._tars.opened(layer, "a layer of the catalog image") as tar:
            for entry in tar:
                self._take(tar, entry, added, hidden)
        for path in hidden:
            _hide(self._tree, path)
        _merge(self._tree, added)

    def files(self) -> dict[str, bytes]:
        """Return every file by its path relative to the directory, links resolved.

        Raises CatalogError for a link out of the directory and for a dangling one.
        """
        root = found(self._tree, self._directory)
        if root is not None and not isinstance(root, dict):
            raise CatalogError(f"/{'/'.join(self._directory)} of the catalog image is no directory")
        return {"/".join(path): self._content(path, node) for path, node in walk(root or {})}

    def _take(self, tar: TarReader, entry: Entry, added: dict[str, Node], hidden: list[tuple[str, ...]]) -> None:
        self._count_entry()
        path = parts(entry.name)
        # The tar and the names of the whole image are read, the contents of the directory only.
        if not path or not self._concerns(path):
            return
        name = path[-1]
        # `.wh.NAME` hides NAME, `.wh..wh..opq` all siblings; neither becomes a file.
        if name.startswith(WHITEOUT):
            hidden.append(path if name == OPAQUE else (*path[:-1], name.removeprefix(WHITEOUT)))
        elif entry.is_directory:
            self._folder(added, path)
        else:
            self._folder(added, path[:-1])[name] = self._node(tar, entry, added)

    def _count_entry(self) -> None:
        self._entries += 1
        if self._entries > self._limits.entries:
            raise CatalogError(f"the catalog image has more than {self._limits.entries} files and directories")

    def _folder(self, tree: dict[str, Node], path: tuple[str, ...]) -> dict[str, Node]:
        """Return the folder at a path. A file or link in its place is replaced, as unpacking does."""
        for part in path:
            child = tree.get(part)
            if not isinstance(child, dict):
                self._count_entry()  # one entry makes up to MAX_DEPTH directories of 200 bytes and more
                child = tree[part] = {}
            tree = child
        return tree

    def _concerns(self, path: tuple[str, ...]) -> bool:
        """Return whether a path is in the directory, is the directory or a parent of it, or hides one of these."""
        length = min(len(path) - path[-1].startswith(WHITEOUT), len(self._directory))
        return path[:length] == self._directory[:length]

    def _node(self, tar: TarReader, entry: Entry, added: dict[str, Node]) -> Node:
        """Return the node of an entry that is not a directory."""
        if entry.is_symbolic_link:
            return _Link(entry.link[:MAX_NAME])
        if entry.is_hard_link:
            target = parts(entry.link)
            # To a file of this layer, or of a lower one: both are valid (Changeset, *Hardlinks*).
            node = found(added, target) or found(self._tree, target)
            if node is None or isinstance(node, dict):
                raise CatalogError(f"/{entry.name} of the catalog image is a hard link to a file outside the catalog")
            return node
        if entry.sparse:
            raise sparse_file(entry)
        if not entry.is_file:
            raise CatalogError(f"/{entry.name} of the catalog image is neither a file, a directory nor a link")
        # Counted for every layer, also for files that a later one replaces: memory is used before that is known.
        self._size += entry.size
        if self._size > self._limits.size:
            raise CatalogError(f"the catalog has more than {size_text(self._limits.size)}")
        return tar.read()

    def _content(self, path: tuple[str, ...], node: Node) -> bytes:
        """Return the content of a file, links within the directory followed."""
        # Bounded by a count, since links may form a cycle; and each step must stay inside, for OLM v1 unpacks nothing else.
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
        raise CatalogError(f"/{name} of the catalog image is a link that {why}", hint="Its publisher has to repair the image.")


def found(tree: dict[str, Node], path: tuple[str, ...]) -> Node | None:
    """Return the node at a path, or None."""
    node: Node | None = tree
    for part in path:
        node = node.get(part) if isinstance(node, dict) else None
    return node


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
    """Yield all nodes except directories, sorted by path."""
    for name, node in sorted(folder.items()):
        if isinstance(node, dict):
            yield from walk(node, (*above, name))
        else:
            yield (*above, name), node


def parts(name: str) -> tuple[str, ...]:
    """Return the components of a tar name. Raises CatalogError for a name with `..`, and for one too long or too deep."""
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if len(name) > MAX_NAME or len(parts) > MAX_DEPTH:
        raise CatalogError(f"the catalog image has a name of {len(name)} characters, {len(parts)} directories deep")
    # Refused rather than resolved: engines differ in what they do with such a name.
    if ".." in parts or "\0" in name:
        raise CatalogError(f"the catalog image has a name with '..' or worse: {name[:200]!r}")
    return parts


def sparse_file(entry: Entry) -> CatalogError:
    """Return the error for a sparse file: a kilobyte of it can expand to any size, and no builder of catalogs makes one."""
    return CatalogError(
        f"/{entry.name} of the catalog image is a sparse file",
        hint="Its publisher has to build the image with a tar that stores files whole (GNU tar without --sparse).",
    )


def _followed(place: tuple[str, ...], target: str) -> tuple[str, ...]:
    """Return the target of a link; `..` above the root stays at the root (path_resolution(7))."""
    path = posixpath.normpath(posixpath.join("/", *place[:-1], target))
    return tuple(part for part in path.split("/") if part)
