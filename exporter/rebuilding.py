"""The catalog image that is carried: the original, or one rebuilt around what was selected."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from common.archive.inventory import ImageKind
from common.digest import Digest
from common.oci.graph import Tree
from common.oci.manifest import Document, Index, Manifest
from common.reference import Reference
from exporter.catalog import catalog_image
from exporter.catalog.model import Catalog
from exporter.catalog.opening import CatalogBase, OpenedCatalog
from exporter.catalog.render import catalog_files
from exporter.catalog.selection import Selection
from exporter.images import ResolvedImage, WantedImage
from exporter.imageset import OperatorRequest


@dataclass(frozen=True, slots=True)
class CarriedCatalog:
    """A catalog image ready to be planned; `held` are its blobs that exist in no registry."""

    resolved: ResolvedImage
    held: Mapping[Digest, bytes]

    @property
    def root(self) -> Document:
        """The document that names the image."""
        assert self.resolved.tree is not None
        return self.resolved.tree.root


def carry(opened: OpenedCatalog, request: OperatorRequest, selection: Selection, base: CatalogBase) -> CarriedCatalog:
    """Return the image for a selection. Raises CatalogError when OLM would not serve the selection."""
    name = None if opened.digest is None else Reference.parse(opened.source)  # a directory has no tag
    wanted = WantedImage(
        base.reference,
        ImageKind.CATALOG,
        target_repository=request.target_catalog,
        target_tag=request.target_tag,
        named=opened.source if name is None or name.digest is None else str(name.pinned(name.digest)),
        tag=name.tag if name else None,
    )
    if selection.unmodified and opened.base is not None:
        return CarriedCatalog(ResolvedImage(wanted, opened.base.tree), {})
    tree, held = rebuild(selection.catalog, base)
    return CarriedCatalog(ResolvedImage(wanted, tree), held)


def rebuild(catalog: Catalog, base: CatalogBase) -> tuple[Tree, dict[Digest, bytes]]:
    """Return the documents and new blobs of an image with just `catalog` in it, for every platform of `base`.

    Same input, same digest. Raises CatalogError (design/selection.md, *Filtered catalog*).
    """
    layer = catalog_image.configs_layer(catalog_files(catalog), catalog_image.DIRECTORY)
    images = {
        manifest.digest: catalog_image.rebuild(manifest, base.configs[manifest.digest], layer, catalog_image.DIRECTORY)
        for manifest in base.tree.documents
        if isinstance(manifest, Manifest) and manifest.digest in base.configs
    }
    documents: list[Document] = [image.manifest for image in images.values()]
    if isinstance(base.tree.root, Index):
        documents.append(catalog_image.rebuild_index(base.tree.root, images))
    held = {digest: content for image in images.values() for digest, content in image.blobs.items()}
    return Tree(documents[-1], tuple(documents), ()), held  # the new index names no platform that is not carried
