"""The catalog image: where in it the catalog lies, and the image rebuilt around other catalog files. No I/O.

What layers mean is `layer_tree.py`'s. Rebuilt, an image is its base and one layer more: the configs directory, in it the
opaque whiteout, then the files. Never a whiteout beside the directory, for OLM v1 drops everything outside it before it applies
whiteouts, and what was left out would be back. Sources: facts/openshift.md §0.7, §3; design/selection.md *Filtered catalog*.
"""

from __future__ import annotations

import io
import posixpath
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import msgspec

from common.errors import CatalogError, ContentError, NotACatalogError, UsageError
from common.oci.image import Digest, Index, Manifest, Platform, Tree, encode, parse
from exporter.catalog.readers.layer_tree import DEFAULT_LIMITS, OPAQUE, LayerTree, TreeLimits
from exporter.catalog.readers.sqlite import DatabaseTree
from exporter.images.layered_image import (
    Change,
    Fields,
    LayeredImage,
    add_file,
    add_folder,
    add_layer,
    as_raw,
    fields_of,
    labels_of,
    parents,
    with_values,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

DIRECTORY = "/configs"
USUAL_DATABASES = ("/database/index.db", "/bundles.db")  # opm's, and what `oc adm catalog build` made
CatalogFormat = Literal["file-based", "sqlite"]
MAX_CONFIG_SIZE = 8 * 1024 * 1024  # held in memory; real configs have some kilobytes
# All platforms of a catalog have the same files. A fixed choice: a later run finds the layers of this one in its store.
_PREFERRED = Platform("linux", "amd64")
CONFIGS_LABEL = "operators.operatorframework.io.index.configs.v1"
DATABASE_LABEL = "operators.operatorframework.io.index.database.v1"
BUNDLE_LABEL = "operators.operatorframework.io.bundle.package.v1"


@dataclass(frozen=True, slots=True)
class Place:
    """Where an image has its catalog: a directory of files, or an SQLite database; an absolute path."""

    format: CatalogFormat
    path: str


def place_of(name: str, labels: Mapping[str, str]) -> Place | None:
    """Return where an image has its catalog, by its labels; None where they do not say, as before OpenShift 4.6.

    `name` is what messages call the image. Files go before a database: an image may have an old one hidden beside them. Raises
    NotACatalogError for an operator bundle, CatalogError for a path that cannot be meant.
    """
    if directory := labels.get(CONFIGS_LABEL):
        return Place("file-based", _checked(name, CONFIGS_LABEL, directory))
    if database := labels.get(DATABASE_LABEL):
        return Place("sqlite", _checked(name, DATABASE_LABEL, database))
    if BUNDLE_LABEL in labels:
        raise NotACatalogError(
            f"{name}: an operator bundle (of package {labels[BUNDLE_LABEL]}), not a catalog",
            hint="Name the catalog that has the bundle, and the package with --package; or carry it with --image.",
        )
    return None


def no_catalog(name: str) -> NotACatalogError:
    """Return the error for an image that has no catalog at all."""
    return NotACatalogError(
        f"{name}: an image without the label {CONFIGS_LABEL} and without a database, so no catalog",
        hint="Catalog images are for example registry.redhat.io/redhat/redhat-operator-index:v4.18; others go with --image.",
    )


def _checked(name: str, label: str, text: str) -> str:
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
    """Return the uncompressed layer that leaves just `files` in the directory; the same files give the same bytes.

    Directories 0755, files 0644, all root's and of the year 1970; sorted by name.
    """
    root = directory.strip("/")
    folders = {parent for path in files for parent in parents(path)}
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for parent in (*sorted(parents(root)), root):
            add_folder(tar, parent)
        add_file(tar, f"{root}/{OPAQUE}", b"")
        for path in sorted({*folders, *files}):
            if path in files:
                add_file(tar, f"{root}/{path}", files[path])
            else:
                add_folder(tar, f"{root}/{path}")
    return output.getvalue()


def read_database(layers: Iterable[Iterable[bytes]], path: str | None) -> tuple[str, bytes] | None:
    """Return an image's database, by the `path` that its label names or where catalogs have theirs, and where it lies.

    None when there is none. Raises CatalogError for layers that cannot be read, beyond the limits, and for several.
    """
    tree = DatabaseTree()
    for layer in layers:
        tree.apply(layer)
    found = tree.databases()
    for place in (path, *USUAL_DATABASES) if path is None else (path,):
        if place is not None and place in found:
            return place, found[place]
    if path is not None or not found:
        return None
    if len(found) > 1:
        raise CatalogError(f"several databases, and no label says which is the catalog: {', '.join(sorted(found)[:5])}")
    return next(iter(found.items()))


def database_layer(database: bytes, path: str) -> bytes:
    """Return the uncompressed layer that puts a database in its place; the same database gives the same bytes."""
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


def rebuild(manifest: Manifest, config: bytes, layer: bytes, place: Place) -> LayeredImage:
    """Return the image `manifest` and `config` with `layer` (uncompressed) on top, serving `place`.

    Every value of both documents survives but those that have to change: diff_ids and history, and where files are served
    `Cmd` without a cache and the two labels; a database stays where the image serves it already. Raises UsageError for a base
    that cannot serve a catalog, CatalogError for documents that contradict each other.
    """

    def serve(settings: Fields) -> None:
        if place.format == "file-based":
            _require_entrypoint(manifest, settings)
            labels = labels_of(settings)
            labels.pop(DATABASE_LABEL, None)
            labels[CONFIGS_LABEL] = as_raw(place.path)
            settings |= {"Cmd": as_raw(["serve", place.path]), "Labels": as_raw(labels)}

    try:
        return add_layer(manifest, config, layer, Change(serve, f"hub-export: selected packages in {place.path}"))
    except ContentError as error:
        raise CatalogError(f"catalog {error.message}") from error


def _require_entrypoint(manifest: Manifest, runtime: Fields) -> None:
    entrypoint = msgspec.json.decode(runtime.get("Entrypoint", b"null"), type=list[str] | None)
    if entrypoint and "serve" not in entrypoint[1:]:
        return
    why = f"its entrypoint is {' '.join(entrypoint)!r}" if entrypoint else "it has no entrypoint"
    raise UsageError(
        f"catalog image {manifest.digest} cannot serve a filtered catalog: {why}",
        hint="Name an image to build on that has opm as its entrypoint, with --catalog-base.",
    )


def rebuild_index(index: Index, images: Mapping[Digest, LayeredImage]) -> Index:
    """Return the index with each child in `images`, by the digest of its base, replaced; the others are left out.

    Platforms and annotations stay as they are; each child gets the media type that it has. Raises CatalogError when no child
    is left.
    """
    fields = fields_of(index.raw, "index")
    children = [fields_of(one, "index") for one in msgspec.json.decode(fields["manifests"], type=list[msgspec.Raw])]
    kept = [
        with_values(child, _described(image.manifest))
        for child, old in zip(children, index.manifests, strict=True)
        if (image := images.get(old.digest)) is not None
    ]
    if not kept:
        raise CatalogError(f"catalog image {index.digest}: none of its platforms is left")
    rebuilt = parse(encode(with_values(fields, {"manifests": kept})), index.media_type)
    assert isinstance(rebuilt, Index)
    return rebuilt


def _described(manifest: Manifest) -> dict[str, str | int]:
    return {"mediaType": manifest.media_type, "digest": manifest.digest, "size": len(manifest.raw)}
