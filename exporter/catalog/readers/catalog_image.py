"""The catalog image: the location of the catalog in it, and the image rebuilt with other catalog files. No I/O.

A rebuilt image is its base with one more layer. Rules: docs/reference/selection.md, *Filtered catalog*.
"""

from __future__ import annotations

import io
import posixpath
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from common.errors import CatalogError, ContentError, NotACatalogError
from common.oci.image import Digest, Index, Manifest, Platform, Tree
from common.oci.tar_reader import OPAQUE
from exporter.catalog.readers.entrypoint import entrypoint_of, words_of
from exporter.catalog.readers.layer_tree import DEFAULT_LIMITS, LayerTree, TreeLimits
from exporter.catalog.readers.sqlite import DatabaseTree
from exporter.images.layered_image import (
    Change,
    Fields,
    LayeredImage,
    add_file,
    add_folder,
    add_layer,
    as_raw,
    labels_of,
    parents,
    replace_children,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


DIRECTORY = "/configs"  # as `opm generate dockerfile` has it
USUAL_DATABASES = ("/database/index.db", "/bundles.db")  # opm's, and what `oc adm catalog build` made
CatalogFormat = Literal["file-based", "sqlite"]
MAX_CONFIG_SIZE = 8 * 1024 * 1024  # held in memory; real configs have some kilobytes
# All platforms of a catalog have the same files. A fixed choice: a later run finds the layers of this one in its store.
_PREFERRED = Platform("linux", "amd64")
# The labels of operator-registry, pkg/containertools/labels.go and pkg/lib/bundle/generate.go.
CONFIGS_LABEL = "operators.operatorframework.io.index.configs.v1"
DATABASE_LABEL = "operators.operatorframework.io.index.database.v1"
BUNDLE_LABEL = "operators.operatorframework.io.bundle.package.v1"


@dataclass(frozen=True, slots=True)
class CatalogLocation:
    """The location of the catalog in an image: the absolute path of a directory of files, or of an SQLite database."""

    format: CatalogFormat
    path: str


def location_of(name: str, labels: Mapping[str, str]) -> CatalogLocation | None:
    """Return the location of an image's catalog by its labels; None without them, as before OpenShift 4.6.

    `name` names the image in messages. Raises NotACatalogError for an operator bundle, CatalogError for an invalid path.
    """
    # Files before a database: images of Red Hat's build service may contain an old database too (release-engineering/iib).
    if directory := labels.get(CONFIGS_LABEL):
        return CatalogLocation("file-based", _checked(name, CONFIGS_LABEL, directory))
    if database := labels.get(DATABASE_LABEL):
        return CatalogLocation("sqlite", _checked(name, DATABASE_LABEL, database))
    if BUNDLE_LABEL in labels:
        raise NotACatalogError(
            f"{name}: an operator bundle (of package {labels[BUNDLE_LABEL]}), not a catalog",
            hint="Name the catalog that has the bundle, and the package with --package; or carry it with --image.",
        )
    return None


def no_catalog(name: str) -> NotACatalogError:
    """Return the error for an image without a catalog."""
    return NotACatalogError(
        f"{name}: an image without the label {CONFIGS_LABEL} and without a database, so no catalog",
        hint="Catalog images are for example registry.redhat.io/redhat/redhat-operator-index:v4.18; others go with --image.",
    )


def _checked(name: str, label: str, text: str) -> str:
    # The label may be relative, as the `./index.db` of early Dockerfiles.
    path = posixpath.normpath(posixpath.join("/", text)).replace("//", "/")
    if path == "/" or ".." in text.split("/"):
        raise CatalogError(f"{name}: its label {label} names {text[:200]!r}")
    return path


def read_configs(layers: Iterable[Iterable[bytes]], directory: str, limits: TreeLimits = DEFAULT_LIMITS) -> dict[str, bytes]:
    """Return the files below a directory of an image, by path relative to it.

    `layers` are uncompressed tars in chunks, lowest first; each is read to its end. Raises CatalogError for layers that cannot
    be read, for links that lead out of the directory, and beyond the limits.
    """
    tree = LayerTree(directory, limits)
    for layer in layers:
        tree.apply(layer)
    return tree.files()


def configs_layer(files: Mapping[str, bytes], directory: str) -> bytes:
    """Return the uncompressed layer after which the directory has exactly `files`; the same files give the same bytes.

    Directories have mode 0755, files 0644; all belong to root, are dated 1970 and are sorted by name.
    """
    root = directory.strip("/")
    folders = {parent for path in files for parent in parents(path)}
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for parent in (*sorted(parents(root)), root):
            add_folder(tar, parent)
        # The opaque whiteout is inside the directory. OLM v1 drops all entries outside it before it applies whiteouts
        # (operator-controller, image unpacking), so a whiteout of the directory itself would bring the base's packages back.
        add_file(tar, f"{root}/{OPAQUE}", b"")
        for path in sorted({*folders, *files}):
            if path in files:
                add_file(tar, f"{root}/{path}", files[path])
            else:
                add_folder(tar, f"{root}/{path}")
    return output.getvalue()


def read_database(layers: Iterable[Iterable[bytes]], path: str | None) -> tuple[str, bytes] | None:
    """Return the path and the content of an image's database, found by the `path` of its label or among the usual ones.

    None without one. Raises CatalogError for layers that cannot be read, beyond the limits, and for several databases.
    """
    tree = DatabaseTree()
    for layer in layers:
        tree.apply(layer)
    found = tree.databases()
    for usual in USUAL_DATABASES if path is None else (path,):
        if usual in found:
            return usual, found[usual]
    if path is not None or not found:
        return None
    # A database in another directory is the catalog when it is the only one; among several none can be preferred.
    if len(found) > 1:
        raise CatalogError(f"several databases, and no label says which is the catalog: {', '.join(sorted(found)[:5])}")
    return next(iter(found.items()))


def database_layer(database: bytes, path: str) -> bytes:
    """Return the uncompressed layer with a database at its path; the same database gives the same bytes."""
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w", format=tarfile.PAX_FORMAT) as tar:
        add_file(tar, path.strip("/"), database)
    return output.getvalue()


def readable(tree: Tree) -> Manifest:
    """Return the manifest whose files are read, since every platform has the same. Raises ContentError without any image."""
    manifests = list(tree.images)
    if not manifests:
        raise ContentError(f"no image that runs: {tree.kinds}")
    if isinstance(tree.root, Index):
        preferred = [c.digest for c in tree.root.manifests if c.platform and _PREFERRED.accepts(c.platform)]
        manifests.sort(key=lambda m: m.digest not in preferred)
    return manifests[0]


def rebuild(manifest: Manifest, config: bytes, layer: bytes, location: CatalogLocation) -> LayeredImage:
    """Return the image `manifest` and `config` with `layer` (uncompressed) on top, serving the catalog at `location`.

    All values of both documents stay except diff_ids and history, and for files `Cmd` and the two labels; a database replaces
    the one that the image serves already. Raises UsageError for a base that cannot serve a catalog, CatalogError for documents
    that contradict each other.
    """

    def serve(settings: Fields) -> None:
        if location.format == "file-based":
            labels = labels_of(settings)
            entrypoint = entrypoint_of(manifest, settings, labels)
            labels.pop(DATABASE_LABEL, None)
            labels[CONFIGS_LABEL] = as_raw(location.path)
            # Without --cache-dir: the cache of the base does not match the new files, and opm would exit ("cache requires
            # rebuild", operator-registry, cmd/opm/serve/serve.go, --cache-enforce-integrity).
            settings |= {"Cmd": as_raw(["serve", location.path]), "Labels": as_raw(labels)}
            if entrypoint != words_of(settings, "Entrypoint"):
                settings["Entrypoint"] = as_raw(entrypoint)

    try:
        return add_layer(manifest, config, layer, Change(serve, f"hub-export: selected packages in {location.path}"))
    except ContentError as error:
        raise CatalogError(f"catalog {error.message}") from error


def rebuild_index(index: Index, images: Mapping[Digest, LayeredImage]) -> Index:
    """Return the index with each child in `images` replaced. Raises CatalogError without children."""
    try:
        return replace_children(index, images)
    except ContentError as error:
        raise CatalogError(f"catalog {error.message}") from error
