"""Image manifests and indexes, parsed once; the raw bytes stay with the parsed form and are the truth.

Leaves fetching to the registry client and walking to `graph.py`. Sources: OCI image specification 1.1 (manifest, image
index), Docker image manifest v2 schema 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from common.digest import Digest, digest_of, parse_digest
from common.errors import ContentError
from common.oci import media_types
from common.oci.descriptor import MAX_SIZE, Descriptor
from common.oci.platform import Platform
from common.serialization import UNDECODABLE

MAX_MANIFEST_SIZE = 16 * 1024 * 1024
MAX_CHILDREN = 10_000
_SCHEMA_2 = 2


class _WireDescriptor(msgspec.Struct, rename="camel"):
    """A descriptor as written. Publishers leave `mediaType` out, or write null; Go reads both as the empty string."""

    digest: Digest
    size: int
    media_type: str | None = None
    platform: Platform | None = None
    annotations: dict[str, str] | None = None
    artifact_type: str | None = None
    urls: tuple[str, ...] | None = None

    def read(self) -> Descriptor:
        """Return the descriptor, with its empty fields empty."""
        return Descriptor(
            self.media_type or "",
            self.digest,
            self.size,
            self.platform,
            self.annotations or {},
            self.artifact_type or "",
            self.urls or (),
        )


class _Wire(msgspec.Struct, rename="camel"):
    """The fields of both documents that we act on."""

    schema_version: int = 0
    media_type: str | None = None
    config: _WireDescriptor | None = None
    layers: tuple[_WireDescriptor, ...] | None = None
    manifests: tuple[_WireDescriptor, ...] | None = None
    subject: _WireDescriptor | None = None
    artifact_type: str | None = None
    annotations: dict[str, str] | None = None


_WIRE = msgspec.json.Decoder(_Wire)


@dataclass(frozen=True, slots=True)
class Manifest:
    """An image manifest: one config, some layers. `blobs` is config and layers, each digest once."""

    raw: bytes
    media_type: str
    digest: Digest
    config: Descriptor
    layers: tuple[Descriptor, ...]
    subject: Descriptor | None = None
    artifact_type: str = ""

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """Config and layers, each digest once, in order."""
        return tuple({blob.digest: blob for blob in (self.config, *self.layers)}.values())

    @property
    def is_image(self) -> bool:
        """Whether this is an image that runs: no Helm chart, attestation, signature or other artifact."""
        layers_are_tars = all(".tar" in layer.media_type for layer in self.layers)
        return layers_are_tars and self.config.media_type.partition(";")[0].strip() in media_types.IMAGE_CONFIGS

    @property
    def descriptor(self) -> Descriptor:
        """What an index would say of this manifest."""
        return Descriptor(self.media_type, self.digest, len(self.raw))


@dataclass(frozen=True, slots=True)
class Index:
    """An image index: descriptors of manifests, or of further indexes."""

    raw: bytes
    media_type: str
    digest: Digest
    manifests: tuple[Descriptor, ...]
    subject: Descriptor | None = None
    artifact_type: str = ""

    @property
    def descriptor(self) -> Descriptor:
        """What an outer index would say of this one."""
        return Descriptor(self.media_type, self.digest, len(self.raw))


Document = Manifest | Index


def parse(raw: bytes, media_type: str = "") -> Document:
    """Read a manifest or index from the bytes received.

    The media type is the document's own `mediaType`. A document without one is an OCI document, an index when it has
    `manifests`, else a manifest: the field is optional in the OCI image specification, and required in Docker schema 2.
    `media_type`, the Content-Type of the answer or of the descriptor, only decides between the two where a document without
    `mediaType` has the fields of both, and names Docker schema 1. Many servers give `application/json` or `text/plain`.

    Raises ContentError for Docker schema 1 (by name), for anything that is neither, and for values beyond their limits.
    """
    if len(raw) > MAX_MANIFEST_SIZE:
        raise ContentError(f"manifest of {len(raw)} bytes; the limit is {MAX_MANIFEST_SIZE}")
    digest = digest_of(raw)
    wire = _decode(raw, digest)
    given = media_type.partition(";")[0].strip().lower()
    _refuse_schema_1(wire, given, digest)
    kind = wire.media_type or _oci_type(wire, given)
    if wire.manifests is not None and (kind in media_types.INDEXES or wire.config is None):
        return _index(raw, digest, kind, wire)
    if wire.config is None:
        raise ContentError(f"{digest}: neither an image manifest nor an index (media type {(wire.media_type or given)[:80]!r})")
    return _manifest(raw, digest, kind, wire)


def _refuse_schema_1(wire: _Wire, given: str, digest: Digest) -> None:
    """Raise ContentError for Docker schema 1, which never has a `mediaType`."""
    named = wire.media_type or (given if wire.schema_version != _SCHEMA_2 else "")
    if wire.schema_version == 1 or named in media_types.SCHEMA_1:
        raise ContentError(
            f"{digest}: Docker schema 1 manifests are not supported",
            hint="Ask the publisher for an image that was pushed after 2016, or leave it out with blockedImages.",
        )


def _oci_type(wire: _Wire, given: str) -> str:
    """Return the type of a document that does not name its own."""
    if wire.manifests is None or (wire.config is not None and given not in media_types.INDEXES):
        return media_types.OCI_MANIFEST
    return media_types.OCI_INDEX


def _decode(raw: bytes, digest: Digest) -> _Wire:
    try:
        return _WIRE.decode(raw)
    except UNDECODABLE as error:
        raise ContentError(f"{digest}: not a manifest: {error}") from error


def _index(raw: bytes, digest: Digest, kind: str, wire: _Wire) -> Index:
    children = tuple(child.read() for child in wire.manifests or ())
    _check(digest, children)
    return Index(raw, kind, digest, children, _subject(wire), wire.artifact_type or "")


def _manifest(raw: bytes, digest: Digest, kind: str, wire: _Wire) -> Manifest:
    assert wire.config is not None
    config, layers = wire.config.read(), tuple(layer.read() for layer in wire.layers or ())
    _check(digest, (config, *layers))
    return Manifest(raw, kind, digest, config, layers, _subject(wire), wire.artifact_type or "")


def _subject(wire: _Wire) -> Descriptor | None:
    return wire.subject.read() if wire.subject is not None else None


def _check(digest: Digest, descriptors: tuple[Descriptor, ...]) -> None:
    if len(descriptors) > MAX_CHILDREN:
        raise ContentError(f"{digest}: {len(descriptors)} descriptors; the limit is {MAX_CHILDREN}")
    for descriptor in descriptors:
        parse_digest(descriptor.digest)
        if not 0 <= descriptor.size <= MAX_SIZE:
            raise ContentError(f"{digest}: impossible size {descriptor.size} of {descriptor.digest}")


class RuntimeConfig(msgspec.Struct, rename={"env": "Env", "entrypoint": "Entrypoint", "cmd": "Cmd", "labels": "Labels"}):
    """The part `config` of an image config that we read."""

    env: list[str] | None = None
    entrypoint: list[str] | None = None
    cmd: list[str] | None = None
    labels: dict[str, str] | None = None


class ImageConfig(msgspec.Struct):
    """An image config (OCI image configuration) as far as we read it."""

    architecture: str = ""
    os: str = ""
    variant: str = ""
    config: RuntimeConfig | None = None

    @property
    def labels(self) -> dict[str, str]:
        """The image's labels; empty when it has none."""
        return (self.config and self.config.labels) or {}

    @property
    def environment(self) -> dict[str, str]:
        """The image's environment variables; empty when it has none."""
        return dict(line.split("=", 1) for line in (self.config and self.config.env) or [] if "=" in line)


_CONFIG = msgspec.json.Decoder(ImageConfig)


def parse_config(raw: bytes) -> ImageConfig:
    """Read an image config. Raises ContentError."""
    try:
        return _CONFIG.decode(raw)
    except UNDECODABLE as error:
        raise ContentError(f"{digest_of(raw)}: not an image config: {error}") from error


def encode(document: dict[str, Any]) -> bytes:
    """Return the bytes of a manifest, index or config of our own making: compact JSON, keys in the given order."""
    return msgspec.json.encode(document)
