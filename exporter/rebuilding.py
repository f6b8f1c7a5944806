"""The catalog image that is carried: the original, or one rebuilt around what was selected."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from common.archive.inventory import ImageKind
from common.digest import Digest
from common.errors import UsageError
from common.oci.graph import Tree
from common.oci.manifest import Document, Index, Manifest
from common.reference import Reference
from exporter.catalog import catalog_image, sqlite, sqlite_blobs, sqlite_filter
from exporter.catalog.catalog_image import CatalogFormat, Place
from exporter.catalog.model import Catalog
from exporter.catalog.opening import CatalogBase, OpenedCatalog
from exporter.catalog.render import catalog_files
from exporter.catalog.selection import Selection
from exporter.images import ResolvedImage, WantedImage
from exporter.imageset import OperatorRequest


@dataclass(frozen=True, slots=True)
class CarriedCatalog:
    """A catalog image ready to be planned; `held` are its blobs that exist in no registry, `catalog` is what it serves."""

    resolved: ResolvedImage
    held: Mapping[Digest, bytes]
    catalog: Catalog
    format: CatalogFormat = "file-based"

    @property
    def root(self) -> Document:
        """The document that names the image."""
        assert self.resolved.tree is not None
        return self.resolved.tree.root


def carry(
    opened: OpenedCatalog,
    request: OperatorRequest,
    selection: Selection,
    base: CatalogBase,
    wanted_format: CatalogFormat | None = None,
) -> CarriedCatalog:
    """Return the image for a selection; a database stays one unless another format is wanted.

    Raises CatalogError when OLM would not serve the selection, UsageError for a format that it cannot be brought into.
    """
    wanted_format = wanted_format or opened.place.format
    if wanted_format == "sqlite" and opened.database is None:
        raise UsageError(
            f"{opened.source}: a file-based catalog cannot become an SQLite one", hint="Leave --catalog-format out for it."
        )
    name = None if opened.digest is None else Reference.parse(opened.source)  # a directory has no tag
    wanted = WantedImage(
        base.reference,
        ImageKind.CATALOG,
        target_repository=request.target_catalog,
        target_tag=request.target_tag,
        named=opened.source if name is None or name.digest is None else str(name.pinned(name.digest)),
        tag=name.tag if name else None,
    )
    if selection.unmodified and opened.base is not None and wanted_format == opened.place.format:
        return CarriedCatalog(ResolvedImage(wanted, opened.base.tree), {}, selection.catalog, wanted_format)
    if wanted_format == "sqlite":
        assert opened.database is not None
        database = sqlite_filter.filtered(opened.database, selection.catalog, opened.source)
        tree, held = rebuild(catalog_image.database_layer(database, opened.place.path), base, opened.place)
        kept = sqlite_blobs.catalog_of(sqlite.read(database, opened.source))  # a few entries more: see sqlite_filter.py
    else:
        kept = selection.catalog
        place = Place("file-based", catalog_image.DIRECTORY)
        layer = catalog_image.configs_layer(catalog_files(selection.catalog), place.path)
        tree, held = rebuild(layer, base, place)
    return CarriedCatalog(ResolvedImage(wanted, tree), held, kept, wanted_format)


def rebuild(layer: bytes, base: CatalogBase, place: Place) -> tuple[Tree, dict[Digest, bytes]]:
    """Return the documents and new blobs of an image that serves `place` from one layer more, for every platform of `base`.

    Same input, same digest (design/selection.md, *Filtered catalog*).
    """
    images = {
        manifest.digest: catalog_image.rebuild(manifest, base.configs[manifest.digest], layer, place)
        for manifest in base.tree.documents
        if isinstance(manifest, Manifest) and manifest.digest in base.configs
    }
    documents: list[Document] = [image.manifest for image in images.values()]
    if isinstance(base.tree.root, Index):
        documents.append(catalog_image.rebuild_index(base.tree.root, images))
    held = {digest: content for image in images.values() for digest, content in image.blobs.items()}
    return Tree(documents[-1], tuple(documents), ()), held  # the new index names no platform that is not carried
