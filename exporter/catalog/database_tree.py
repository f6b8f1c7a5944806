"""The SQLite files of an image, through its layers; nothing else of them is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from common.errors import CatalogError
from common.files import size_text
from exporter.catalog.layer_tree import DEFAULT_LIMITS, LayerTree, TreeLimits, found, parts, sparse_file, walk
from exporter.catalog.sqlite import MAGIC, MAX_SIZE, is_database

if TYPE_CHECKING:
    from exporter.catalog.layer_tree import Node
    from exporter.catalog.tar_reader import Entry, TarReader


class DatabaseTree(LayerTree):
    """All of an image's names, and the content of its databases."""

    def __init__(self, limits: TreeLimits = DEFAULT_LIMITS) -> None:
        super().__init__("/", limits)

    def databases(self) -> dict[str, bytes]:
        """Return the databases that the layers applied so far leave, by absolute path."""
        return {f"/{'/'.join(path)}": node for path, node in walk(self._tree) if isinstance(node, bytes) and node}

    def _node(self, tar: TarReader, entry: Entry, added: dict[str, Node]) -> Node:
        if entry.is_hard_link:
            target = parts(entry.link)
            node = found(added, target) or found(self._tree, target)
            return node if isinstance(node, bytes) else b""
        head = tar.read(len(MAGIC)) if entry.is_file else b""
        if not is_database(head):
            return b""
        if entry.sparse:
            raise sparse_file(entry)
        if entry.size > MAX_SIZE:
            raise CatalogError(f"/{entry.name} of the catalog image has more than {size_text(MAX_SIZE)}")
        return head + tar.read()
