"""Opening of a catalog by its name: an image of a registry or a layout, a directory of files, or a file.

The layers of a catalog image are stored in a `DirectoryStore` next to the archive, which is filled from there later, so that
each blob is requested from the registry once (ADR 0007).
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from common.content import Chunks, DirectoryStore, Written, in_memory, verified
from common.errors import CatalogError, ContentError, NotACatalogError, NotFoundError, UsageError, boundary
from common.files import size_text
from common.oci.compression import decompressed
from common.oci.image import Descriptor, Digest, Platform, Tree, parse_config, walk
from common.oci.reference import Reference
from common.olm.catalog_names import bare_name
from common.progress import Silent, step
from exporter.catalog.readers import catalog_image, file_based, image_directory, oci_layout, package_manifests, sqlite
from exporter.catalog.readers.catalog_image import CatalogLocation
from exporter.catalog.readers.image_directory import ImageDirectory
from exporter.images.resolve import fetch_tree
from exporter.imageset import source_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from common.progress import Progress
    from common.registry.client import RegistryClient
    from exporter.catalog.model import Catalog
    from exporter.catalog.readers.oci_layout import OciLayout
    from exporter.catalog.readers.package_manifests import PackageManifests


MAX_LAYER_SIZE = 8 * 1024**3  # before and after decompression; the layers of real catalogs have some hundred megabytes
LOCAL = "oci.invalid"  # in place of a registry for a catalog from disk; the top-level domain never resolves (RFC 6761)


FILES = CatalogLocation("file-based", catalog_image.DIRECTORY)


@dataclass(frozen=True, slots=True)
class CatalogBase:
    """The image of a catalog, or the image that it is rebuilt on: its documents, and the config of each manifest."""

    reference: Reference
    tree: Tree
    configs: Mapping[Digest, bytes]


@dataclass(frozen=True, slots=True)
class OpenedCatalog:
    """An opened catalog. `digest` is that of the image as pulled; a file or directory has neither digest nor base.

    `location`: where the image has it; `database`: the SQLite file from which it was read.
    """

    source: str
    name: str
    catalog: Catalog
    digest: Digest | None = None
    base: CatalogBase | None = None
    location: CatalogLocation = FILES
    database: bytes | None = None


class CatalogOpener:
    """Opener of catalogs; `store` keeps the layers that were read. `progress` shows how much of them is fetched."""

    def __init__(
        self,
        client: RegistryClient,
        store: DirectoryStore,
        max_layer: int = MAX_LAYER_SIZE,
        progress: Progress | None = None,
    ) -> None:
        self._client = client
        self._store = store
        self._max_layer = max_layer
        self._progress = progress or Silent()

    def open(self, name: str, platforms: Sequence[Platform] = (), *, partial: bool = False) -> OpenedCatalog:
        """Open catalog files, package manifests or an SQLite file, or the image of a reference for some platforms (none: all).

        `partial`: packages will be named, so a catalog file that cannot be read is a problem only.

        Raises NotACatalogError, CatalogError, UsageError (no reference and no directory), RegistryError.
        """
        if (layout := source_name.split_layout(name)) is not None:
            return self._open_layout(name, *layout, platforms, partial)
        if not source_name.exists(name):
            return self._open_image(source_name.reference_of(name), platforms, partial)
        # By content, not by extension: users rename databases and archives, and leave the transport out.
        if _is_image(Path(name)):
            return self._open_layout(name, Path(name), "", platforms, partial)
        return _open_files(name, Path(name), partial)

    def base(self, reference: Reference, platforms: Sequence[Platform] = ()) -> CatalogBase:
        """Fetch the documents and configs of an image to build on, for the wanted platforms."""
        tree = fetch_tree(reference, self._client, platforms)
        # Checked before configs and layers are fetched: a base that is an artifact would fail later, with a worse message.
        _require_images(str(reference), tree)
        configs = {m.digest: self._config(reference, m.config) for m in tree.images}
        return CatalogBase(reference, tree, configs)

    def _open_image(self, reference: Reference, platforms: Sequence[Platform], partial: bool) -> OpenedCatalog:
        base = self.base(reference, platforms)

        def chunks(layer: Descriptor) -> Chunks:
            for chunk in verified(self._client.blob(reference, layer), layer):
                self._progress.advance(len(chunk))
                yield chunk

        def store(layer: Descriptor) -> None:
            if self._store.write(layer, lambda _start: chunks(layer)) is Written.PRESENT:
                self._progress.advance(layer.size, moved=False)

        # On a slow line the layers of a catalog take minutes, before anything else can be shown.
        size = sum(layer.size for layer in catalog_image.readable(base.tree).layers)
        with step(self._progress, f"reading catalog {reference}", size, kept=self._store.is_durable):
            opened = self._read(str(reference), bare_name(reference.repository), base, store, partial)
        return replace(opened, digest=base.tree.root.digest)

    def _open_layout(self, name: str, path: Path, image: str, platforms: Sequence[Platform], partial: bool) -> OpenedCatalog:
        """Open a catalog image of a layout on disk. All its blobs are copied into the store, as if they were fetched."""
        with _whole(name), _opened(path, self._store.root) as layout:
            tree = walk(layout.root(image), layout.document, platforms)
            _require_configs(name, tree)
            for blob in tree.blobs:
                # The archive is filled from the store; no registry has these blobs.
                self._store.write(blob, lambda _start, blob=blob: verified(layout.read(blob), blob))  # type: ignore[misc]
        _require_images(name, tree)
        configs = {m.digest: b"".join(map(bytes, self._store.read(m.config))) for m in tree.images}
        stem = bare_name(path.resolve().stem)
        return self._read(name, stem, CatalogBase(Reference(LOCAL, stem), tree, configs), lambda _layer: None, partial)

    def _read(
        self, source: str, name: str, base: CatalogBase, store: Callable[[Descriptor], None], partial: bool
    ) -> OpenedCatalog:
        """Read the catalog of an image; `store` puts a layer into the store."""
        with boundary(lambda error: CatalogError(f"{source}: the catalog cannot be read: {error}")):
            return self._found(source, name, base, store, partial)

    def _found(
        self, source: str, name: str, base: CatalogBase, store: Callable[[Descriptor], None], partial: bool
    ) -> OpenedCatalog:
        manifest = catalog_image.readable(base.tree)
        location = catalog_image.location_of(source, parse_config(base.configs[manifest.digest]).labels)
        layers = (self._layer(source, layer, store) for layer in manifest.layers)
        if location is not None and location.format == "file-based":
            catalog, database = self._files(source, layers, location.path, partial), None
        else:
            found = catalog_image.read_database(layers, location.path if location else None)
            if found is None:
                raise _no_database(source, location)
            location, database = CatalogLocation("sqlite", found[0]), found[1]
            catalog = sqlite.catalog_of(sqlite.read(database, f"{source}{location.path}"))
        return OpenedCatalog(source, name, catalog, None, base, location, database)

    def _files(self, source: str, layers: Iterable[Iterable[bytes]], directory: str, partial: bool) -> Catalog:
        files = catalog_image.read_configs(layers, directory)
        # A label without the directory: the image was built wrongly, and its registry would serve nothing.
        if not files:
            raise NotACatalogError(f"{source}: the image has no files in {directory}, where its label says the catalog is")
        return file_based.load(sorted(files.items()), partial=partial)

    def _config(self, reference: Reference, config: Descriptor) -> bytes:
        if config.size <= catalog_image.MAX_CONFIG_SIZE and self._store.has(config):
            return b"".join(map(bytes, verified(self._store.read(config), config)))
        raw = self._client.blob_bytes(reference, config, catalog_image.MAX_CONFIG_SIZE)
        self._store.write(config, lambda _start: in_memory(raw))  # an archive of the whole image has it, too
        return raw

    def _layer(self, source: str, layer: Descriptor, store: Callable[[Descriptor], None]) -> Iterator[bytes]:
        """Return the chunks of the uncompressed tar of a layer, which is stored first."""
        if layer.size > self._max_layer:
            raise CatalogError(f"{source}: its layer {layer.digest} has {layer.size} bytes; the limit is {self._max_layer}")
        store(layer)
        return self._unpacked(source, layer)

    def _unpacked(self, source: str, layer: Descriptor) -> Iterator[bytes]:
        try:
            yield from decompressed(self._store.read(layer), self._max_layer)
        except ContentError as error:  # broken, or beyond the limit: it names neither image nor layer
            raise CatalogError(f"{source}: its layer {layer.digest} cannot be read: {error.message}") from error


def _open_files(name: str, path: Path, partial: bool) -> OpenedCatalog:
    """Open the catalog of a directory, or of a file."""
    if path.is_dir() and package_manifests.is_directory(path):
        found = package_manifests.read(package_manifests.files_of_directory(path), str(path))
        return of_package_manifests(found, str(path), bare_name(path.resolve().name))
    if path.is_dir():
        return OpenedCatalog(str(path), bare_name(path.resolve().name), file_based.load_directory(path, partial=partial))
    if not path.is_file():  # a pipe or a terminal, such as /dev/stdin
        raise source_name.not_named(name, "neither a file nor a directory")
    if _is_database(path):
        return _open_database(path)
    return OpenedCatalog(str(path), bare_name(path.resolve().stem), file_based.load_file(path))


def _is_image(path: Path) -> bool:
    """Return whether a path has an image: a layout, as a directory or a tar, a directory of skopeo, or what Docker saved."""
    if path.is_dir():
        kinds = (oci_layout.is_layout, image_directory.is_image_directory, image_directory.is_docker_archive)
        return any(kind(path) for kind in kinds)
    return path.is_file() and not _is_database(path) and oci_layout.is_archive(path)


@contextmanager
def _opened(path: Path, scratch: Path) -> Iterator[OciLayout | ImageDirectory]:
    """Open the image of a path, by its content: the transport that was given may be another one."""
    if path.is_dir() and not oci_layout.is_layout(path):
        if image_directory.is_image_directory(path):
            yield ImageDirectory(path)
            return
        if image_directory.is_docker_archive(path):
            raise oci_layout.docker_archive(path)
    with oci_layout.opened(path, scratch) as layout:
        yield layout


@contextmanager
def _whole(name: str) -> Iterator[None]:
    """Raise CatalogError that names the image for a file of it that is damaged or missing."""
    try:
        yield
    except (ContentError, NotFoundError) as error:  # their hints are about registries and networks
        hint = "Copy it again from where it came, with skopeo copy for example."
        raise CatalogError(f"{name}: the image is damaged or incomplete: {error.message}", hint=hint) from error


def of_package_manifests(found: PackageManifests, source: str, name: str) -> OpenedCatalog:
    """Return the catalog of package manifests: a database of schema 5, at the path that `oc adm catalog build` used."""
    catalog = sqlite.catalog_of(found.database)
    # The faults of files come first: those of the catalog may follow from them.
    catalog = replace(catalog, problems=(*found.problems, *catalog.problems))
    location = CatalogLocation("sqlite", catalog_image.USUAL_DATABASES[1])
    return OpenedCatalog(source, name, catalog, location=location, database=package_manifests.sqlite_database(found.database))


def _no_database(source: str, location: CatalogLocation | None) -> NotACatalogError:
    if location is None:
        return catalog_image.no_catalog(source)
    return NotACatalogError(f"{source}: the image has no SQLite file {location.path}, where its label says the catalog is")


def _is_database(path: Path) -> bool:
    with path.open("rb") as file:
        return sqlite.is_database(file.read(len(sqlite.MAGIC)))


def _open_database(path: Path) -> OpenedCatalog:
    if path.stat().st_size > sqlite.MAX_SIZE:  # before it is read into memory
        raise CatalogError(f"{path}: {path.stat().st_size} bytes; the limit is {sqlite.MAX_SIZE}")
    content = path.read_bytes()
    catalog = sqlite.catalog_of(sqlite.read(content, str(path)))
    location = CatalogLocation("sqlite", catalog_image.USUAL_DATABASES[0])
    return OpenedCatalog(str(path), bare_name(path.resolve().stem), catalog, location=location, database=content)


def _require_images(name: str, tree: Tree) -> None:
    """Raise UsageError for a tree without images of the wanted platforms, NotACatalogError for one without any image."""
    if tree.images:
        return
    if tree.left_out:
        raise UsageError(
            f"{name}: has no image for the platforms that were asked for", hint="Leave --platform out, or name one it has."
        )
    raise NotACatalogError(
        f"{name}: no image that runs: {tree.kinds}",
        hint="Name a catalog image; to build a catalog on, the operator-registry image of your release.",
    )


def _require_configs(name: str, tree: Tree) -> None:
    """Raise CatalogError for a config that is too large to be held in memory."""
    for manifest in tree.images:
        if manifest.config.size > catalog_image.MAX_CONFIG_SIZE:
            raise CatalogError(f"{name}: a config of {size_text(manifest.config.size)} is too much")
