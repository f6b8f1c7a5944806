"""An image with one added layer: deterministic bytes of the layer, the new manifest and config, and an OCI archive of all.

The caller decides on the files of the layer and on changes of the image's settings: a catalog
(catalog/readers/catalog_image.py), graph data (releases/graph_image.py) or the importer itself (kit/importer_image.py).
"""

from __future__ import annotations

import io
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from common.content import BlobSource, Chunk, verified
from common.errors import ContentError
from common.oci import media_types
from common.oci.compression import gzip
from common.oci.image import Descriptor, Digest, Index, Manifest, Platform, digest_of, encode, hex_of, parse
from common.serialization import UNDECODABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path


FILE, PROGRAM, FOLDER = 0o644, 0o755, 0o755
# One time for all files, so that the same files give the same digest on every run.
_EPOCH = "1970-01-01T00:00:00Z"
_DOCKER = (media_types.DOCKER_MANIFEST, media_types.DOCKER_LIST)

# The members of a JSON object, each as it was written: unknown members and the form of numbers survive a change.
Fields = dict[str, msgspec.Raw]


@dataclass(frozen=True, slots=True)
class LayeredImage:
    """An image with one added layer. `layer`: the layer as it is stored, compressed."""

    manifest: Manifest
    config: bytes
    layer: bytes
    layer_descriptor: Descriptor

    @property
    def blobs(self) -> dict[Digest, bytes]:
        """The blobs that the base does not have."""
        return {self.manifest.config.digest: self.config, self.layer_descriptor.digest: self.layer}


@dataclass(frozen=True, slots=True)
class Change:
    """The change of an image's config: `apply` edits the settings (`config`) in place; `history`: `created_by`."""

    apply: Callable[[Fields], None]
    history: str


def add_folder(tar: tarfile.TarFile, name: str) -> None:
    """Add a directory with owner 0:0 and time 0."""
    member = tarfile.TarInfo(name)
    member.type, member.mode = tarfile.DIRTYPE, FOLDER
    tar.addfile(member)


def add_file(tar: tarfile.TarFile, name: str, content: bytes, mode: int = FILE) -> None:
    """Add a file with owner 0:0 and time 0."""
    member = tarfile.TarInfo(name)
    member.mode, member.size = mode, len(content)
    tar.addfile(member, io.BytesIO(content))


def parents(path: str) -> list[str]:
    """Return the parent directories of a relative path, outermost first."""
    parts = path.split("/")[:-1]
    return ["/".join(parts[: end + 1]) for end in range(len(parts))]


def add_layer(manifest: Manifest, config: bytes, layer: bytes, change: Change) -> LayeredImage:
    """Return the image `manifest` and `config` with `layer` (uncompressed) on top.

    All members of both documents are kept except diff_ids, history, and those that `change` edits. Raises ContentError for
    documents that cannot be read or contradict each other, and the errors of `change`.
    """
    try:
        return _layered(manifest, config, layer, change)
    except UNDECODABLE as error:
        raise ContentError(f"image {manifest.digest}: its manifest or config cannot be read: {error}") from error


def _layered(manifest: Manifest, config: bytes, layer: bytes, change: Change) -> LayeredImage:
    new_config = _config(manifest, config, digest_of(layer), change)
    stored = gzip(layer)
    # A manifest keeps its format: some clients refuse OCI layers in a Docker manifest.
    docker = manifest.media_type in _DOCKER
    kind = media_types.DOCKER_LAYER_GZIP if docker else media_types.OCI_LAYER_GZIP
    descriptor = Descriptor(kind, digest_of(stored), len(stored))
    fields = fields_of(manifest.raw, "manifest")
    of_config = fields_of(fields.get("config", b"{}"), "config descriptor")
    of_config |= {"digest": as_raw(digest_of(new_config)), "size": as_raw(len(new_config))}
    layers = msgspec.json.decode(fields.get("layers", b"[]"), type=list[msgspec.Raw])
    fields |= {"config": as_raw(of_config), "layers": as_raw([*layers, as_raw(descriptor)])}
    raw = encode(fields)
    made = parse(raw, manifest.media_type)
    assert isinstance(made, Manifest)
    return LayeredImage(made, new_config, stored, descriptor)


def _config(manifest: Manifest, config: bytes, diff_id: Digest, change: Change) -> bytes:
    fields = fields_of(config, "config")
    settings = fields_of(fields.get("config", b"null"), "config")
    # Without a change `config` stays absent or null where it was.
    before = dict(settings)
    change.apply(settings)
    if settings != before:
        fields["config"] = as_raw(settings)
    fields["rootfs"] = as_raw(_with_diff_id(manifest, fields, diff_id))
    history = msgspec.json.decode(fields.get("history", b"null"), type=list[msgspec.Raw] | None)
    # With a history, its entries have to match the layers (image-spec 1.1, config.md, `history`): none is added to no history.
    if history:
        created = msgspec.json.decode(fields.get("created", b"null"))
        fields["history"] = as_raw([*history, as_raw({"created": created or _EPOCH, "created_by": change.history})])
    return encode(fields)


def _with_diff_id(manifest: Manifest, fields: Fields, diff_id: Digest) -> Fields:
    rootfs = fields_of(fields.get("rootfs", b"null"), "rootfs")
    diff_ids = msgspec.json.decode(rootfs.get("diff_ids", b"null"), type=list[str] | None) or []
    # Runtimes pair layers and diff_ids by position; a difference would shift the new layer's.
    if len(diff_ids) != len(manifest.layers):
        raise ContentError(f"image {manifest.digest} has {len(manifest.layers)} layers but {len(diff_ids)} diff_ids")
    rootfs["diff_ids"] = as_raw([*diff_ids, diff_id])
    return rootfs


def replace_children(index: Index, images: Mapping[Digest, LayeredImage]) -> Index:
    """Return the index with each child in `images`, by the digest of its base, replaced; other children are left out.

    Platforms and annotations stay; the media type of a child is that of its new manifest. Raises ContentError without children.
    """
    fields = fields_of(index.raw, "index")
    children = [fields_of(one, "index") for one in msgspec.json.decode(fields["manifests"], type=list[msgspec.Raw])]
    kept = [
        with_values(child, descriptor_fields(image.manifest))
        for child, old in zip(children, index.manifests, strict=True)
        if (image := images.get(old.digest)) is not None
    ]
    if not kept:
        raise ContentError(f"image {index.digest}: none of its platforms is left")
    rebuilt = parse(encode(with_values(fields, {"manifests": kept})), index.media_type)
    assert isinstance(rebuilt, Index)
    return rebuilt


def descriptor_fields(manifest: Manifest) -> dict[str, Any]:
    """Return the fields of a descriptor that are about the content of a manifest."""
    return {"mediaType": manifest.media_type, "digest": manifest.digest, "size": len(manifest.raw)}


def labels_of(settings: Fields) -> Fields:
    """Return the labels in an image's settings, each value as it was written."""
    return msgspec.json.decode(settings.get("Labels", b"null"), type=Fields | None) or {}


def fields_of(raw: bytes | msgspec.Raw, what: str) -> Fields:
    """Return the members of a JSON object, each as it was written; none for null. Raises ContentError."""
    try:
        return msgspec.json.decode(raw, type=Fields | None) or {}
    except UNDECODABLE as error:
        raise ContentError(f"image's {what} cannot be read: {error}") from error


def as_raw(value: Any) -> msgspec.Raw:
    """Return the JSON of a value."""
    return msgspec.Raw(msgspec.json.encode(value))


def with_values(fields: Fields, values: Mapping[str, Any]) -> Fields:
    """Return the fields with `values` in place of their own."""
    return fields | {name: as_raw(value) for name, value in values.items()}


# An image as one file: the tar of an OCI image layout (image-spec 1.1, image-layout.md), for `podman load` and
# `skopeo copy oci-archive:`. The same image gives the same bytes.

_REF_NAME = "org.opencontainers.image.ref.name"
_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
_AS_OCI = {
    media_types.DOCKER_MANIFEST: media_types.OCI_MANIFEST,
    media_types.DOCKER_CONFIG: media_types.OCI_CONFIG,
    media_types.DOCKER_LAYER: media_types.OCI_LAYER,
    media_types.DOCKER_LAYER_GZIP: media_types.OCI_LAYER_GZIP,
}


def as_oci(manifest: Manifest) -> Manifest:
    """Return a manifest with the media types of Docker replaced by those of OCI, which a layout requires; the blobs stay."""
    fields = fields_of(manifest.raw, "manifest")

    def named(descriptor: msgspec.Raw) -> msgspec.Raw:
        inner = fields_of(descriptor, "descriptor")
        kind = msgspec.json.decode(inner.get("mediaType", b'""'))
        return as_raw(with_values(inner, {"mediaType": _AS_OCI.get(kind, kind)}))

    layers = msgspec.json.decode(fields.get("layers", b"[]"), type=list[msgspec.Raw])
    fields = with_values(fields, {"schemaVersion": 2, "mediaType": media_types.OCI_MANIFEST})
    fields |= {"config": named(fields["config"]), "layers": as_raw([named(layer) for layer in layers])}
    made = parse(encode(fields))
    assert isinstance(made, Manifest)
    return made


def write(path: Path, manifest: Manifest, platform: Platform, name: str, blobs: BlobSource) -> None:
    """Write the image as an OCI archive. `name`: its name after `podman load`. Raises the errors of `blobs`."""
    listed = msgspec.to_builtins(manifest.descriptor) | {
        "platform": msgspec.to_builtins(platform),
        "annotations": {_REF_NAME: name},
    }
    index = encode({"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": [listed]})
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for folder in ("blobs", "blobs/sha256"):
            member = tarfile.TarInfo(folder)
            member.type, member.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(member)
        # tar has no order of its own: by digest, so that the same blobs give the same file.
        for blob in sorted(manifest.blobs, key=lambda one: one.digest):
            _add(tar, f"blobs/sha256/{hex_of(blob.digest)}", blob.size, verified(blobs.read(blob), blob))
        _add(tar, f"blobs/sha256/{hex_of(manifest.digest)}", len(manifest.raw), [manifest.raw])
        _add(tar, "index.json", len(index), [index])
        _add(tar, "oci-layout", len(_LAYOUT), [_LAYOUT])


def _add(tar: tarfile.TarFile, name: str, size: int, content: Iterable[Chunk]) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o644
    tar.addfile(member, io.BufferedReader(_Stream(iter(content))))


class _Stream(io.RawIOBase):
    """A stream of chunks as a readable file, for tarfile."""

    def __init__(self, chunks: Iterator[Chunk]) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        """Return True: `io.BufferedReader` asks."""
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Read into a buffer; return the number of bytes, 0 at the end."""
        # An empty chunk is no end: 0 would mean that.
        while not self._rest and (chunk := next(self._chunks, None)) is not None:
            self._rest = memoryview(chunk)
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count
