"""Operator bundle images: the Kubernetes objects in their manifests directory.

Sources: operator-registry, docs/design/operator-bundle.md; OLM, pkg/controller/bundle/bundle_unpacker.go.
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any

from common.errors import CatalogError, ContentError, boundary
from common.files import size_text
from common.oci.compression import decompressed
from common.oci.image import parse_config
from common.serialization import DocumentError, load_yaml_documents
from exporter.catalog.readers.catalog_image import MAX_CONFIG_SIZE, readable
from exporter.catalog.readers.layer_tree import LayerTree, TreeLimits
from exporter.catalog.related_images import KIND as CSV
from exporter.catalog.related_images import csvs_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from common.content import Chunks
    from common.oci.image import Descriptor, Tree


MANIFESTS_LABEL = "operators.operatorframework.io.bundle.manifests.v1"
_DIRECTORY = "manifests"  # what `opm alpha bundle generate` names it; used where the label is missing
_EXTENSIONS = (".yaml", ".yml", ".json")
# Bundle authors keep other files in the directory; one without an extension counts as an object when it has this line.
_OBJECT = re.compile(rb"""^[ \t]*["']?kind["']?[ \t]*:""", re.MULTILINE)
MAX_SIZE = 64 * 1024**2  # compressed; real ones have a hundredth of that
# Deflate expands up to 1,032 times (zlib, *Technical Details*): without a bound, these 64 MiB could take minutes.
_MAX_UNPACKED = MAX_SIZE * 4
MAX_CONTENTS = 16 * 1024**2  # of all files of the manifests directory; OLM has at most 1 MiB for them in its ConfigMap
# Of one file. etcd refuses an object of more than 1.5 MiB of JSON (etcd, *System limits*); as YAML it has up to twice as many
# bytes. The largest real one has 0.8 MB.
MAX_FILE = 4 * 1024**2
_LIMITS = TreeLimits(size=MAX_CONTENTS, entries=100_000, extended=16 * 1024**2, unpacked=_MAX_UNPACKED)
Resources = tuple[Any, ...]
_LOG = logging.getLogger(__name__)


def read(tree: Tree, stored: Callable[[Descriptor], Chunks]) -> tuple[Resources, list[DocumentError]]:
    """Return the objects of a bundle image as JSON values, and the errors of files that cannot be read.

    `stored` returns the contents of a blob. Raises CatalogError beyond the limits, ContentError for an image that is not a
    bundle, DocumentError for a ClusterServiceVersion that cannot be read.
    """
    with boundary(lambda error: CatalogError(f"the bundle cannot be read: {error}")):
        return _read(tree, stored)


def _read(tree: Tree, stored: Callable[[Descriptor], Chunks]) -> tuple[Resources, list[DocumentError]]:
    manifest = readable(tree)
    size = sum(layer.size for layer in manifest.layers)
    if size > MAX_SIZE:
        raise CatalogError(f"{size_text(size)} are too much for a bundle")
    if manifest.config.size > MAX_CONFIG_SIZE:
        raise CatalogError(f"a config of {size_text(manifest.config.size)} is too much")
    config = parse_config(b"".join(bytes(chunk) for chunk in stored(manifest.config)))
    files = LayerTree(f"/{config.labels.get(MANIFESTS_LABEL, _DIRECTORY).strip('/')}", _LIMITS)
    for layer in manifest.layers:
        files.apply(decompressed(stored(layer), _MAX_UNPACKED))
    found = files.files()
    if not found:
        raise ContentError("it has no manifests, so it is no bundle")
    if sum(map(len, found.values())) > MAX_CONTENTS:  # links give one file many names, each of which is read
        raise CatalogError(f"its manifests have more than {size_text(MAX_CONTENTS)}")
    unread: list[DocumentError] = []
    objects = tuple(one for name, content in sorted(found.items()) for one in _objects(name, content, unread))
    if not any(csvs_of(objects)):
        raise ContentError(f"it has no {CSV}")
    return objects, unread


def _objects(name: str, content: bytes, unread: list[DocumentError]) -> Iterator[Any]:
    """Yield the objects of a file; errors go to `unread`. Raises DocumentError for an unreadable ClusterServiceVersion."""
    try:
        for document in _documents(name, content):
            if isinstance(document, dict):
                yield document
            elif name.lower().endswith(_EXTENSIONS):
                unread.append(DocumentError(f"{name}: not a Kubernetes object"))
    except DocumentError as error:
        # Without the ClusterServiceVersion the images of the bundle are unknown; any other file is one object less.
        if CSV.encode() in content or CSV.lower() in name.lower():
            raise
        _LOG.info("%s", error.message)
        if name.lower().endswith(_EXTENSIONS) or _OBJECT.search(content):
            unread.append(error)


def _documents(name: str, content: bytes) -> Iterator[Any]:
    if len(content) > MAX_FILE:
        raise DocumentError(f"{name}: {size_text(len(content))}; the limit of a manifest is {size_text(MAX_FILE)}")
    yield from load_yaml_documents(content, name, forgiving=True)
