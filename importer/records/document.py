"""The record of one archive: its encoding, and its validation. Pure.

Specification: docs/reference/registry.md, *The mirror's record*. A record is one layer, a gzip-compressed tar of `record.json`,
`inventory.json` and `inventory.json.sig`, behind a manifest of one of three forms. What is read back is a stranger's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec

from common.archive import inventory_file
from common.archive.frames import Packed
from common.archive.inventory import MAX_SIZE, Inventory
from common.archive.signature import MAX_SIGNATURE
from common.archive.volume import entry_header, padded, padding
from common.distribution import TOOL
from common.errors import ArchiveError, ContentError
from common.mapping import Mirror
from common.oci import media_types
from common.oci.compression import decompressed, gzip_parts
from common.oci.image import Descriptor, Digest, Hasher, digest_of, encode, hex_of, parse_digest
from common.oci.tar_reader import ChunkSource, TarReader
from common.serialization import UNDECODABLE, decode_bounded, pretty_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from common.archive.signature import Verifier


REPOSITORY = "hub-airgap-archives"  # below the prefix; one component, for registries that take no nested paths
ARTIFACT_TYPE = "application/vnd.hub-airgap.record.v1"
LAYER_TYPE = f"{ARTIFACT_TYPE}.tar+gzip"
MEDIA_TYPE = f"{ARTIFACT_TYPE}+json"
EMPTY = b"{}"  # the empty descriptor of the OCI image specification 1.1, *Guidance for an Empty Descriptor*
MAX_LAYER = MAX_SIZE  # bytes as stored; of real inventories a tenth of what they have
_MAX_HEAD = 64 * 1024
_MAX_FILES = 16  # of a layer, with the end of its tar; a later version may add some
_MAX_SIGNATURES = 10  # that are written: most archives have one
_HEAD = "record.json"
_END = bytes(1024)  # of a tar
_TAG = re.compile(r"(archive|pruned)-([0-9a-f]{64})((?:\.n[1-9][0-9]{0,4})?(?:\.host)?(?:\.source)?)", re.ASCII)
_MAX_COMPONENTS = 99_999


class Form(StrEnum):
    """A form of the manifest. The plain ones are images, for registries that take artifacts by a list of their types."""

    ARTIFACT = "artifact"
    PLAIN = "plain"
    DOCKER = "docker"


class RecordHead(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """What the inventory does not say: when the archive was pushed, and by which options its sources became paths.

    `pruned`: when a part of the archive was deleted; the rest is kept. Times are RFC 3339 in UTC.
    """

    media_type: str
    archive: Digest
    pushed: str
    tool: str
    max_path_components: int | None = None
    keep_source_host: bool = False
    releases_by_source: bool = False
    pruned: str = ""

    @property
    def tag(self) -> str:
        """The tag of the record: by the archive and the paths, so that a push finds it with one HEAD."""
        kind = "pruned" if self.pruned else "archive"
        parts = f".n{self.max_path_components}" if self.max_path_components is not None else ""
        host, source = ".host" if self.keep_source_host else "", ".source" if self.releases_by_source else ""
        return f"{kind}-{hex_of(self.archive)}{parts}{host}{source}"

    def mirror(self, base: Mirror) -> Mirror:
        """Return the mirror `base` with the paths that the push had. Raises UsageError."""
        return Mirror(base.host, base.prefix, self.max_path_components, self.keep_source_host, self.releases_by_source)


@dataclass(frozen=True, slots=True)
class Record:
    """A record that was read, and is consistent. `signed`: with the key that was asked for; False without one."""

    head: RecordHead
    inventory: Inventory
    layer: bytes = field(repr=False)
    signatures: tuple[bytes, ...] = ()
    signed: bool = False
    stored: Mapping[Digest, int] = field(default_factory=dict)
    """The sizes of its manifest and blobs in the registry."""

    @property
    def digest(self) -> Digest:
        """The digest of the archive."""
        return self.head.archive

    @property
    def packed(self) -> Packed:
        """The bytes of the inventory."""
        return Packed.of(_files(self.layer)[inventory_file.NAME])


_HEAD_DECODER = msgspec.json.Decoder(RecordHead)


def head_of(archive: Digest, mirror: Mirror, now: str, *, pruned: bool = False) -> RecordHead:
    """Return the head of a record that is made now."""
    return RecordHead(
        MEDIA_TYPE,
        archive,
        now,
        TOOL,
        mirror.max_path_components,
        mirror.keep_source_host,
        mirror.releases_by_source,
        now if pruned else "",
    )


def is_record_tag(tag: str) -> bool:
    """Say whether a tag has the form of a record's tag."""
    return _TAG.fullmatch(tag) is not None


@dataclass(frozen=True, slots=True)
class Layer:
    """The layer of a record; `unpacked`: the digest of the tar in it."""

    content: bytes
    unpacked: Digest


def encode_layer(head: RecordHead, inventory: Packed, signatures: Iterable[bytes] = ()) -> Layer:
    """Return the layer of a record."""
    hasher = Hasher()

    def hashed(part: bytes) -> bytes:
        hasher.update(part)
        return part

    # In parts: at the end of a push the inventory as bytes, and as a tar, would be the most memory that it takes (ADR 0086).
    return Layer(gzip_parts(map(hashed, _tar(head, inventory, signatures))), hasher.digest())


def _tar(head: RecordHead, inventory: Packed, signatures: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the tar of a record in parts."""
    described = pretty_json(head)
    yield entry_header(_HEAD, len(described)) + padded(described)
    yield entry_header(inventory_file.NAME, inventory.size)
    yield from inventory.parts()
    yield bytes(padding(inventory.size))
    # Several: a file next to the inventory may be foreign, and the copies in the volumes be right (common/archive/discover.py).
    for number, signature in enumerate(islice(dict.fromkeys(signatures), _MAX_SIGNATURES)):
        name = f"{inventory_file.SIGNATURE_NAME}{f'.{number}' if number else ''}"
        yield entry_header(name, len(signature)) + padded(signature)
    yield _END


@dataclass(frozen=True, slots=True)
class Written:
    """A manifest in one form, and the blobs that it needs."""

    raw: bytes
    media_type: str
    blobs: tuple[tuple[Descriptor, bytes], ...]


def encode_form(form: Form, head: RecordHead, created: str, layer: Layer) -> Written:
    """Return the manifest of a record in one form."""
    kinds = {
        Form.ARTIFACT: (media_types.OCI_MANIFEST, media_types.OCI_EMPTY, LAYER_TYPE),
        Form.PLAIN: (media_types.OCI_MANIFEST, media_types.OCI_CONFIG, media_types.OCI_LAYER_GZIP),
        Form.DOCKER: (media_types.DOCKER_MANIFEST, media_types.DOCKER_CONFIG, media_types.DOCKER_LAYER_GZIP),
    }
    manifest_type, config_type, layer_type = kinds[form]
    config = EMPTY if form is Form.ARTIFACT else _config(head, created, layer.unpacked)
    blobs = tuple(
        (Descriptor(kind, digest_of(content), len(content)), content)
        for kind, content in ((config_type, config), (layer_type, layer.content))
    )
    document: dict[str, Any] = {"schemaVersion": 2, "mediaType": manifest_type}
    if form is Form.ARTIFACT:
        document["artifactType"] = ARTIFACT_TYPE
    document["config"], document["layers"] = _plain(blobs[0][0]), [_plain(blobs[1][0])]
    if form is not Form.DOCKER:
        document["annotations"] = {"org.opencontainers.image.created": created, "io.hub-airgap.archive": head.archive}
    return Written(encode(document), manifest_type, blobs)


def _plain(blob: Descriptor) -> dict[str, Any]:
    return {"mediaType": blob.media_type, "digest": blob.digest, "size": blob.size}


def _config(head: RecordHead, created: str, unpacked: Digest) -> bytes:
    # Scanners and registries read it: an image has an architecture, and the digest of each layer as unpacked.
    return encode(
        {
            "created": created,
            "architecture": "amd64",
            "os": "linux",
            "config": {"Labels": {"io.hub-airgap.archive": head.archive}},
            "rootfs": {"type": "layers", "diff_ids": [unpacked]},
            "history": [{"created": created, "created_by": TOOL}],
        }
    )


def decode(tag: str, layer: bytes, key: Verifier | None = None) -> Record:
    """Read the record that a tag has, from its layer, whose digest is verified. Raises ContentError, ArchiveError."""
    files = _files(layer)
    head = _head(files, tag)
    raw = files.get(inventory_file.NAME, b"")
    # The tag, the head and the bytes name one archive: a record cannot pass for that of another one.
    if digest_of(raw) != head.archive:
        raise ContentError(f"its inventory is {digest_of(raw)}, and not that of the archive {head.archive}")
    signatures = tuple(content for name, content in files.items() if name.startswith(inventory_file.SIGNATURE_NAME))
    signed = key is not None and any(key.accepts(raw, each) for each in signatures)
    return Record(head, inventory_file.decode(raw, tag), layer, signatures, signed)


def _head(files: Mapping[str, bytes], tag: str) -> RecordHead:
    try:
        head = decode_bounded(files.get(_HEAD, b""), _HEAD_DECODER)
    except UNDECODABLE as error:
        raise ContentError(f"its {_HEAD} cannot be read: {error}") from error
    if head.media_type != MEDIA_TYPE:
        if head.media_type.startswith("application/vnd.hub-airgap.record."):
            raise ArchiveError(f"a record of another version, {head.media_type[:80]}", hint="Use a newer hub-airgap.")
        raise ContentError(f"its media type is {head.media_type[:80]!r}, wanted {MEDIA_TYPE!r}")
    parse_digest(head.archive)
    # The paths decide what is deleted: a number that no option takes is refused, and so is a tag that says something else.
    if head.max_path_components is not None and not 1 <= head.max_path_components <= _MAX_COMPONENTS:
        raise ContentError(f"{head.max_path_components} components of a path")
    if head.tag != tag:
        raise ContentError(f"it is the record {head.tag}")
    return head


def _files(layer: bytes) -> dict[str, bytes]:
    """Return the files of a layer, by name, each within its limit. Raises ContentError."""
    limits = {_HEAD: _MAX_HEAD, inventory_file.NAME: MAX_SIZE}
    found: dict[str, bytes] = {}
    tar = TarReader(ChunkSource(decompressed(iter([layer]), MAX_SIZE + 1024 * 1024)), 0, _MAX_FILES)
    for entry in tar:
        limit = limits.get(entry.name, MAX_SIGNATURE if entry.name.startswith(inventory_file.SIGNATURE_NAME) else -1)
        if limit < 0:
            continue  # of a later version
        if not entry.is_file or entry.sparse or entry.size > limit or entry.name in found:
            raise ContentError(f"its {entry.name[:80]} is twice there, no plain file, or larger than {limit} bytes")
        found[entry.name] = tar.read()
    return found
