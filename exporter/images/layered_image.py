"""An image with one layer more: the layer as deterministic bytes, and the manifest and config that go with it. No I/O.

What the layer holds, and what of the image's settings it changes, is the caller's: a catalog (catalog/catalog_image.py), or the
importer itself (kit/importer_image.py).
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
from common.oci.image import Descriptor, Digest, Manifest, Platform, digest_of, encode, hex_of, parse
from common.serialization import UNDECODABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

FILE, PROGRAM, FOLDER = 0o644, 0o755, 0o755
_EPOCH = "1970-01-01T00:00:00Z"
_DOCKER = (media_types.DOCKER_MANIFEST, media_types.DOCKER_LIST)

Fields = dict[str, msgspec.Raw]


@dataclass(frozen=True, slots=True)
class LayeredImage:
    """An image with one layer more. `layer` is the layer as it is stored, compressed."""

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
    """What a layer means for an image: `apply` changes the settings (the config's `config`) in place; `history` says why."""

    apply: Callable[[Fields], None]
    history: str


def add_folder(tar: tarfile.TarFile, name: str) -> None:
    """Add a directory: root's, of the year 1970."""
    member = tarfile.TarInfo(name)
    member.type, member.mode = tarfile.DIRTYPE, FOLDER
    tar.addfile(member)


def add_file(tar: tarfile.TarFile, name: str, content: bytes, mode: int = FILE) -> None:
    """Add a file: root's, of the year 1970."""
    member = tarfile.TarInfo(name)
    member.mode, member.size = mode, len(content)
    tar.addfile(member, io.BytesIO(content))


def parents(path: str) -> list[str]:
    """Return the directories that a relative path lies in, outermost first."""
    parts = path.split("/")[:-1]
    return ["/".join(parts[: end + 1]) for end in range(len(parts))]


def add_layer(manifest: Manifest, config: bytes, layer: bytes, change: Change) -> LayeredImage:
    """Return the image `manifest` and `config` with `layer` (uncompressed) on top.

    Every value of both documents survives but diff_ids, history, and what `change` changes. Raises ContentError for documents
    that cannot be read or contradict each other, and whatever `change` raises.
    """
    try:
        return _layered(manifest, config, layer, change)
    except UNDECODABLE as error:
        raise ContentError(f"image {manifest.digest}: its manifest or config cannot be read: {error}") from error


def _layered(manifest: Manifest, config: bytes, layer: bytes, change: Change) -> LayeredImage:
    new_config = _config(manifest, config, digest_of(layer), change)
    stored = gzip(layer)
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
    before = dict(settings)
    change.apply(settings)
    if settings != before:
        fields["config"] = as_raw(settings)
    fields["rootfs"] = as_raw(_with_diff_id(manifest, fields, diff_id))
    history = msgspec.json.decode(fields.get("history", b"null"), type=list[msgspec.Raw] | None)
    if history:  # an image without a history gets none: it would have to tell of every layer
        created = msgspec.json.decode(fields.get("created", b"null"))
        fields["history"] = as_raw([*history, as_raw({"created": created or _EPOCH, "created_by": change.history})])
    return encode(fields)


def _with_diff_id(manifest: Manifest, fields: Fields, diff_id: Digest) -> Fields:
    rootfs = fields_of(fields.get("rootfs", b"null"), "rootfs")
    diff_ids = msgspec.json.decode(rootfs.get("diff_ids", b"null"), type=list[str] | None) or []
    if len(diff_ids) != len(manifest.layers):
        raise ContentError(f"image {manifest.digest} has {len(manifest.layers)} layers but {len(diff_ids)} diff_ids")
    rootfs["diff_ids"] = as_raw([*diff_ids, diff_id])
    return rootfs


def labels_of(settings: Fields) -> Fields:
    """Return the labels among an image's settings, each value as written."""
    return msgspec.json.decode(settings.get("Labels", b"null"), type=Fields | None) or {}


def fields_of(raw: bytes | msgspec.Raw, what: str) -> Fields:
    """Return the fields of an object, each as written; none for null. Raises ContentError."""
    try:
        return msgspec.json.decode(raw, type=Fields | None) or {}
    except UNDECODABLE as error:
        raise ContentError(f"image's {what} cannot be read: {error}") from error


def as_raw(value: Any) -> msgspec.Raw:
    """Return a value as it is written in JSON."""
    return msgspec.Raw(msgspec.json.encode(value))


def with_values(fields: Fields, values: Mapping[str, Any]) -> Fields:
    """Return the fields with some values others."""
    return fields | {name: as_raw(value) for name, value in values.items()}


# Writes an image as one file: the tar of an OCI image layout, which `podman load` and `skopeo copy oci-archive:` take.
#
# The same image gives the same bytes. Section: OCI image specification 1.1, *Image Layout*.

_REF_NAME = "org.opencontainers.image.ref.name"
_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
_AS_OCI = {
    media_types.DOCKER_MANIFEST: media_types.OCI_MANIFEST,
    media_types.DOCKER_CONFIG: media_types.OCI_CONFIG,
    media_types.DOCKER_LAYER: media_types.OCI_LAYER,
    media_types.DOCKER_LAYER_GZIP: media_types.OCI_LAYER_GZIP,
}


def as_oci(manifest: Manifest) -> Manifest:
    """Return a manifest with Docker's media types replaced by OCI's, which name the same bytes: a layout has no others."""
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
    """Write the image under `name`, which is what it is called where it is loaded. Raises the errors of `blobs`."""
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
    """Chunks as a file that is read once."""

    def __init__(self, chunks: Iterator[Chunk]) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        """See `io.RawIOBase`."""
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """See `io.RawIOBase`."""
        while not self._rest and (chunk := next(self._chunks, None)) is not None:
            self._rest = memoryview(chunk)
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count
