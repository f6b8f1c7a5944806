"""The graph-data image: an image with a shell, and one more layer with the graph data. No I/O of its own.

The operator of the OpenShift Update Service runs it as an init container, without a command of its own and as any user, and
mounts an empty directory at TARGET (openshift/cincinnati-operator, docs/graph-data-init-container.md). The same data on
the same base give the same digest.
"""

from __future__ import annotations

import io
import posixpath
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from common.archive.inventory import ImageKind
from common.errors import ContentError
from common.oci import media_types
from common.oci.image import Digest, Document, Index, Manifest, Tree, encode, parse, parse_config
from exporter.images.layered_image import (
    Change,
    Fields,
    LayeredImage,
    add_file,
    add_folder,
    add_layer,
    as_raw,
    descriptor_fields,
    parents,
    replace_children,
)
from exporter.images.resolve import ResolvedImage, WantedImage
from exporter.images.stored import config_of
from exporter.releases.graph_data import FOLDERS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from exporter.images.stored import Stored
    from exporter.releases.graph_data import GraphData


NAME = "openshift/graph-image"
TAG = "latest"  # as oc-mirror has it; an UpdateService names the digest
SOURCE = "/var/lib/cincinnati-graph-data"
TARGET = "/var/lib/cincinnati/graph-data"
COMMAND = ("/bin/bash", "-c", f"exec cp -rp {SOURCE}/* {TARGET}")


@dataclass(frozen=True, slots=True)
class GraphImage:
    """The image to be planned; `held` are its blobs that exist in no registry."""

    resolved: ResolvedImage
    held: Mapping[Digest, bytes]

    @property
    def digest(self) -> Digest:
        """The digest of the image, which the UpdateService names."""
        assert self.resolved.tree is not None
        return self.resolved.tree.root.digest


def build(data: GraphData, bases: Sequence[ResolvedImage], stored: Stored) -> GraphImage:
    """Return the image of graph data on the first base, for every architecture of it.

    Further bases add their architecture, where each is an image for one of them in the repository of the first: a site with
    clusters of two architectures has two releases, each with its own base. `stored` returns the contents of a config. Raises
    ContentError for a base that is no image, or contradicts itself.
    """
    first = bases[0]
    layer = layer_of(data)
    if first.tree is None or not first.tree.images:
        raise ContentError(f"{first.wanted.source}: no image that runs, so graph data cannot be added to it")
    if isinstance(first.tree.root, Index):
        images = {one.digest: _layered(one, layer, stored) for one in first.tree.images}
        index: Index | None = replace_children(first.tree.root, images)
    else:
        images = {one.digest: _layered(one, layer, stored) for one in _alike(bases)}
        index = _index(images) if len(images) > 1 else None
    documents: list[Document] = [image.manifest for image in images.values()]
    documents += [index] if index else []
    held = {digest: content for image in images.values() for digest, content in image.blobs.items()}
    # The reference is that of the base, whose layers are fetched there.
    wanted = WantedImage(first.wanted.reference, ImageKind.GRAPH_DATA, named=NAME, tag=TAG)
    return GraphImage(ResolvedImage(wanted, Tree(documents[-1], tuple(documents), ())), held)


def _alike(bases: Sequence[ResolvedImage]) -> list[Manifest]:
    """Return the manifests of bases for one architecture each in one repository, since the archive reads layers from there."""
    name = bases[0].wanted.reference.name
    trees = [base.tree for base in bases if base.tree and base.wanted.reference.name == name]
    return list({tree.root.digest: tree.root for tree in trees if isinstance(tree.root, Manifest) and tree.images}.values())


def _index(images: Mapping[Digest, LayeredImage]) -> Index:
    """Return an index of images; the first one of a platform counts."""
    children: dict[tuple[str, str], dict[str, Any]] = {}
    for image in images.values():
        config = parse_config(image.config)
        platform = {"architecture": config.architecture or "amd64", "os": config.os or "linux"}
        key = (platform["os"], platform["architecture"])
        children.setdefault(key, {**descriptor_fields(image.manifest), "platform": platform})
    listed = [children[key] for key in sorted(children)]
    docker = all(image.manifest.media_type == media_types.DOCKER_MANIFEST for image in images.values())
    kind = media_types.DOCKER_LIST if docker else media_types.OCI_INDEX
    index = parse(encode({"schemaVersion": 2, "mediaType": kind, "manifests": listed}), kind)
    assert isinstance(index, Index)
    return index


def _layered(manifest: Manifest, layer: bytes, stored: Stored) -> LayeredImage:
    return add_layer(manifest, config_of(manifest, stored), layer, Change(_serve, f"hub-export: graph data in {SOURCE}"))


def _serve(settings: Fields) -> None:
    # With an entrypoint of the base the command would be its arguments.
    settings.pop("Entrypoint", None)
    settings["Cmd"] = as_raw(COMMAND)


def layer_of(data: GraphData) -> bytes:
    """Return the uncompressed layer: directories 0755, files 0644, all of root, dated 1970, sorted by name."""
    root = SOURCE.strip("/")
    # `cp -rp` keeps the modes, and the service runs as another user: all has to be readable.
    paths = {path.rstrip("/") for path in data.files} | set(FOLDERS)
    folders = {above for path in paths for above in parents(path)} | (paths - data.files.keys())
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for parent in (*parents(root), root):
            add_folder(tar, parent)
        for path in sorted(paths | folders):
            if path in folders:
                add_folder(tar, posixpath.join(root, path))
            else:
                add_file(tar, posixpath.join(root, path), data.files[path])
    return output.getvalue()
