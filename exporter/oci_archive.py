"""Writes an image as one file: the tar of an OCI image layout, which `podman load` and `skopeo copy oci-archive:` take.

The same image gives the same bytes. Section: OCI image specification 1.1, *Image Layout*.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from common.content import BlobSource, Chunk, verified
from common.digest import hex_of
from common.oci import media_types
from common.oci.manifest import Manifest, encode, parse
from common.oci.platform import Platform
from exporter.layered_image import as_raw, fields_of, with_values

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
