"""The model of OCI content: digests, platforms, descriptors, manifests, indexes, image configs, and trees of them. Pure.

Sources: OCI image specification 1.1, OCI distribution specification 1.1, Docker image manifest v2 schema 2.
"""

from __future__ import annotations

import hashlib
import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NewType, Self

import msgspec

from common.decoding import UNDECODABLE
from common.errors import ContentError, UsageError
from common.oci import media_types

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence


Digest = NewType("Digest", str)

_PATTERN = re.compile(r"sha256:[0-9a-f]{64}")  # the only algorithm of the archive format (ADR 0004)
PREFIX = "sha256:"


def parse_digest(text: str) -> Digest:
    """Return `text` as a digest. Raises ContentError for any other algorithm or spelling."""
    if _PATTERN.fullmatch(text):
        return Digest(text)
    algorithm = text.partition(":")[0]  # sha512 is allowed by the OCI specification, so it has a message of its own
    if algorithm != "sha256" and re.fullmatch(r"[a-z0-9]+", algorithm) and ":" in text:
        raise ContentError(f"digest algorithm {algorithm!r} is not supported, only sha256 is: {text[:80]!r}")
    raise ContentError(f"not a digest: {text[:80]!r}, wanted sha256: and 64 lower-case hex digits")


def digest_of(content: bytes | memoryview) -> Digest:
    """Return the digest of bytes."""
    return Digest(PREFIX + hashlib.sha256(content).hexdigest())


def hex_of(digest: Digest) -> str:
    """Return the 64 hex digits of a digest."""
    return digest.removeprefix(PREFIX)


def subject_of_tag(tag: str) -> Digest | None:
    """Return the digest that a tag `sha256-<hex>` or `sha256-<hex>.<suffix>` is about; None for a tag of another form.

    Distribution specification 1.1, *Referrers Tag Schema*; sigstore/cosign, specs/SIGNATURE_SPEC.md, *Discovery*.
    """
    if not tag.startswith("sha256-"):
        return None
    return Digest(PREFIX + tag.removeprefix("sha256-").partition(".")[0])


class Hasher:
    """Incremental computation of a digest."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def copy(self) -> Hasher:
        """Return another one, with the same bytes in it."""
        made = Hasher()
        made._hash = self._hash.copy()
        return made

    def update(self, chunk: bytes | memoryview) -> None:
        """Add the next bytes."""
        self._hash.update(chunk)

    def digest(self) -> Digest:
        """Return the digest of everything so far."""
        return Digest(PREFIX + self._hash.hexdigest())


# Platforms: operating system, architecture, variant (OCI image index, property `platform`).

# Names as in GOOS and GOARCH; the variant may have a dot.
_PLATFORM_PATTERN = re.compile(r"([a-z0-9]+)/([a-z0-9_]+)(?:/([a-z0-9.]+))?")


class Platform(msgspec.Struct, frozen=True, order=True, omit_defaults=True):
    """One platform of an index; `linux/arm64/v8` as text."""

    os: str
    architecture: str
    variant: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `os/architecture[/variant]`. Raises UsageError."""
        match = _PLATFORM_PATTERN.fullmatch(text)
        if not match:
            raise UsageError(f"not a platform: {text[:80]!r}", hint="Wanted: os/architecture, for example linux/amd64")
        return cls(match[1], match[2], match[3] or "")

    @classmethod
    def listed(cls, text: str) -> Self:
        """Return the platform that an inventory lists: as a publisher wrote it, who is not bound to the names of Go."""
        system, _, rest = text.partition("/")
        architecture, _, variant = rest.partition("/")
        return cls(system, architecture, variant)

    def accepts(self, other: Platform) -> bool:
        """Return whether `other` matches `self` as a requirement; one without a variant matches every variant."""
        same = (self.os, self.architecture) == (other.os, other.architecture)
        return same and self.variant in ("", other.variant)

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


# Larger than any layer; the sum of two million of them is below 2^63, so that offsets fit into the fields of a volume.
MAX_SIZE = 1 << 42


class Descriptor(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, gc=False):
    """Reference to content (OCI content descriptor). Unknown fields are left out; the raw document keeps them."""

    # gc=False: it refers to no object that could refer to it, and there are hundreds of thousands.

    media_type: str
    digest: Digest
    size: int
    platform: Platform | None = None
    annotations: dict[str, str] = msgspec.field(default_factory=dict)
    artifact_type: str = ""
    urls: tuple[str, ...] = ()


# Image manifests and indexes. The raw bytes stay with the parsed form: they are what the digest is over.

# Registries should accept at least 4 MiB (OCI distribution specification, *Pushing Manifests*).
MAX_MANIFEST_SIZE = 16 * 1024 * 1024
MAX_CHILDREN = 10_000
_SCHEMA_2 = 2


NO_ANNOTATIONS: dict[str, str] = {}  # of all descriptors without any, so that each is smaller; never changed


# Every field but digest and size may be null, and so may the values of a map: for a Go program null and absent are the same.
class WrittenPlatform(msgspec.Struct, frozen=True):
    """A platform as written. The .NET SDK 9.0.100 writes `"variant": null` (dotnet/sdk#43085, ImageIndexGenerator.cs)."""

    os: str | None = None
    architecture: str | None = None
    variant: str | None = None

    @property
    def platform(self) -> Platform | None:
        """The platform; None where it is empty, as distribution writes it for content without one."""
        # manifestlist.ManifestDescriptor had a struct there, no pointer to one (distribution/distribution#2652).
        found = Platform(self.os or "", self.architecture or "", self.variant or "")
        return found if found.os or found.architecture else None


Texts = dict[str, str | None] | None  # annotations or labels as written


def texts(written: Texts) -> dict[str, str]:
    """Return annotations or labels, with empty values for null."""
    return {name: text or "" for name, text in written.items()} if written else NO_ANNOTATIONS


class _WireDescriptor(msgspec.Struct, rename="camel"):
    """A descriptor as written. Publishers leave `mediaType` out, or write null; Go reads both as the empty string."""

    digest: Digest
    size: int
    media_type: str | None = None
    platform: WrittenPlatform | None = None
    annotations: Texts = None
    artifact_type: str | None = None
    urls: tuple[str, ...] | None = None

    def read(self) -> Descriptor:
        """Return the descriptor, with empty values for absent fields."""
        # One text each for all images that share it: 0.6 KiB less for each image of a plan.
        return Descriptor(
            sys.intern(self.media_type or ""),
            Digest(sys.intern(self.digest)),
            self.size,
            self.platform.platform if self.platform is not None else None,
            texts(self.annotations),
            self.artifact_type or "",
            self.urls or (),
        )


class _Wire(msgspec.Struct, rename="camel"):
    """The fields of manifests and indexes that are read."""

    schema_version: int = 0
    media_type: str | None = None
    config: _WireDescriptor | None = None
    layers: tuple[_WireDescriptor, ...] | None = None
    manifests: tuple[_WireDescriptor, ...] | None = None
    subject: _WireDescriptor | None = None
    artifact_type: str | None = None
    annotations: Texts = None


_WIRE = msgspec.json.Decoder(_Wire)


@dataclass(frozen=True, slots=True)
class Manifest:
    """An image manifest: one config, some layers."""

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
        # Images repeat layers, such as the empty one; a registry has a blob once.
        return tuple({blob.digest: blob for blob in (self.config, *self.layers)}.values())

    @property
    def is_image(self) -> bool:
        """Whether a container can run from it: it is no Helm chart, attestation, signature or other artifact."""
        # By the media types that container engines check; the config of an artifact may be of any type.
        # A layer without a type counts: engines look at its first bytes (containers/image, pkg/compression).
        layers_are_tars = all(".tar" in layer.media_type or not layer.media_type for layer in self.layers)
        return layers_are_tars and self.config.media_type.partition(";")[0].strip() in media_types.IMAGE_CONFIGS

    @property
    def descriptor(self) -> Descriptor:
        """The descriptor of this manifest, for an index."""
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
        """The descriptor of this index, for an outer index."""
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
    if len(raw) > MAX_MANIFEST_SIZE:  # before the parser, whose result takes a multiple of the bytes
        raise ContentError(f"manifest of {len(raw)} bytes; the limit is {MAX_MANIFEST_SIZE}")
    digest = digest_of(raw)
    wire = _decode(raw, digest)
    given = media_type.partition(";")[0].strip().lower()
    _refuse_schema_1(wire, given, digest)
    kind = sys.intern(wire.media_type or _oci_type(wire, given))  # not the server's Content-Type first (ADR 0024)
    # A document with the fields of both could be an image for one program and an index for the next (CVE-2021-41190): its type
    # decides.
    if wire.manifests is not None and (kind in media_types.INDEXES or wire.config is None):
        return _index(raw, digest, kind, wire)
    if wire.config is None:
        raise ContentError(f"{digest}: neither an image manifest nor an index (media type {(wire.media_type or given)[:80]!r})")
    return _manifest(raw, digest, kind, wire)


def _refuse_schema_1(wire: _Wire, given: str, digest: Digest) -> None:
    """Raise ContentError for Docker schema 1, which never has a `mediaType`."""
    named = wire.media_type or (given if wire.schema_version != _SCHEMA_2 else "")
    # Its digest is that of a payload without the signatures inside of it, not that of its bytes.
    if wire.schema_version == 1 or named in media_types.SCHEMA_1:
        raise ContentError(
            f"{digest}: Docker schema 1 manifests are not supported",
            hint="Ask the publisher for an image that was pushed after 2016, or leave it out with blockedImages.",
        )


def _oci_type(wire: _Wire, given: str) -> str:
    """Return the type of a document without `mediaType`."""
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
    return Index(raw, kind, digest, children, _subject(wire, digest), wire.artifact_type or "")


def _manifest(raw: bytes, digest: Digest, kind: str, wire: _Wire) -> Manifest:
    assert wire.config is not None  # `parse` has refused a document without one
    config, layers = wire.config.read(), tuple(layer.read() for layer in wire.layers or ())
    _check(digest, (config, *layers))
    return Manifest(raw, kind, digest, config, layers, _subject(wire, digest), wire.artifact_type or "")


def _subject(wire: _Wire, digest: Digest) -> Descriptor | None:
    if wire.subject is None:
        return None
    subject = wire.subject.read()
    # It gets into the inventory, which no import reads with another text in place of a digest.
    try:
        _check(digest, (subject,))
    except ContentError as error:
        hint = "Ask the publisher for it, or leave it out with blockedImages."
        raise ContentError(f"{digest}: its subject: {error.message}", hint=hint) from error
    return subject


def _check(digest: Digest, descriptors: tuple[Descriptor, ...]) -> None:
    if len(descriptors) > MAX_CHILDREN:
        raise ContentError(f"{digest}: {len(descriptors)} descriptors; the limit is {MAX_CHILDREN}")
    for descriptor in descriptors:
        parse_digest(descriptor.digest)
        # Sizes are summed up to offsets and free space; a negative one would make room for others.
        if not 0 <= descriptor.size <= MAX_SIZE:
            raise ContentError(f"{digest}: impossible size {descriptor.size} of {descriptor.digest}")


_DESCRIPTOR = msgspec.json.Decoder(_WireDescriptor)


def parse_descriptor(raw: bytes) -> Descriptor:
    """Read one descriptor of a list. Raises ContentError."""
    try:
        descriptor = _DESCRIPTOR.decode(raw).read()
    except UNDECODABLE as error:
        raise ContentError(f"not a descriptor: {error}") from error
    _check(descriptor.digest, (descriptor,))
    return descriptor


class RuntimeConfig(msgspec.Struct, rename={"env": "Env", "entrypoint": "Entrypoint", "cmd": "Cmd", "labels": "Labels"}):
    """The fields of `config` in an image config that are read."""

    env: list[str] | None = None
    entrypoint: list[str] | None = None
    cmd: list[str] | None = None
    labels: Texts = None


class ImageConfig(WrittenPlatform, frozen=True):
    """The fields of an image config (OCI image configuration) that are read."""

    config: RuntimeConfig | None = None

    @property
    def labels(self) -> dict[str, str]:
        """The image's labels; empty when it has none."""
        return texts(self.config.labels) if self.config else {}

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
    """Return the bytes of a new manifest, index or config: compact JSON, keys in the given order."""
    return msgspec.json.encode(document)


def artifact_type(document: Document) -> str:
    """Return the artifact type of a document: its own, else the media type of its config, else the empty string."""
    return document.artifact_type or (document.config.media_type if isinstance(document, Manifest) else "")


def described(document: Document) -> dict[str, Any]:
    """Return the descriptor of a referrer, with artifact type and annotations (distribution spec., *Listing Referrers*)."""
    kind = artifact_type(document)
    wire = _WIRE.decode(document.raw)  # as `parse` read it: other fields may have values that cannot be decoded
    notes = texts(wire.annotations)
    plain = {"mediaType": document.media_type, "digest": digest_of(document.raw), "size": len(document.raw)}
    return plain | ({"artifactType": kind} if kind else {}) | ({"annotations": notes} if notes else {})


# The tree of documents below an index.

MAX_DEPTH = 8  # an index of multi-architecture images has depth 1; deeper ones are rare, and recursion has to end
MAX_DOCUMENTS = 10_000
MAX_TREE_SIZE = 128 * 1024 * 1024  # bytes of all documents, which stay in memory; those of real images have some kilobytes
ATTESTATION = Platform("unknown", "unknown")  # the platform that BuildKit gives to attestations
_NAMED = 4  # how many media types a message names


@dataclass(frozen=True, slots=True)
class Tree:
    """A top-level document and the selected documents below it. `left_out`: children of other platforms."""

    root: Document
    documents: tuple[Document, ...]
    left_out: tuple[Descriptor, ...]

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """Every blob of every document, each digest once."""
        found = {b.digest: b for d in self.documents if not isinstance(d, Index) for b in d.blobs}
        return tuple(found.values())

    @property
    def images(self) -> tuple[Manifest, ...]:
        """The manifests of container images, without the artifacts that an index may have next to them."""
        return tuple(one for one in self.documents if isinstance(one, Manifest) and one.is_image)

    @property
    def is_hollow(self) -> bool:
        """Whether this is an index that lists only attestations, or nothing."""
        # Indexes among the children do not count as content: their own children are listed as well.
        listed = [child for one in self.documents if isinstance(one, Index) for child in one.manifests]
        indexes = {one.digest for one in self.documents if isinstance(one, Index)}
        content = (child for child in listed if child.digest not in indexes and child.platform != ATTESTATION)
        return isinstance(self.root, Index) and next(content, None) is None

    @property
    def kinds(self) -> str:
        """The media types of the content, for the message that this is not an image."""
        if self.is_hollow:
            return "an index that lists no image"
        manifests = [one for one in self.documents if isinstance(one, Manifest)]
        found = {blob.media_type for one in manifests for blob in one.blobs}
        return (
            f"content of the media types {', '.join(sorted(found)[:_NAMED])}"
            if found
            else "an index without the requested platforms"
        )


def walk(root: Document, fetch: Callable[[Descriptor], Document], platforms: Sequence[Platform] = ()) -> Tree:
    """Collect `root` and all below it, children before parents; `platforms` (none means all) chooses among children.

    Raises ContentError past MAX_DEPTH, MAX_DOCUMENTS and MAX_TREE_SIZE; errors of `fetch` pass through.
    """
    # A registry refuses an index whose manifests it does not have, so children come first.
    seen: dict[Digest, Document] = {}
    left_out: list[Descriptor] = []
    count = size = 0

    def visit(document: Document, depth: int) -> None:
        nonlocal count, size
        if depth > MAX_DEPTH:
            raise ContentError(f"{root.digest}: indexes nested deeper than {MAX_DEPTH}")
        if document.digest in seen:
            return
        count += 1  # the indexes around it are not in `seen` yet
        if count > MAX_DOCUMENTS:
            raise ContentError(f"{root.digest}: more than {MAX_DOCUMENTS} manifests below one index")
        size += len(document.raw)
        if size > MAX_TREE_SIZE:
            raise ContentError(f"{root.digest}: the manifests below it have more than {MAX_TREE_SIZE} bytes")
        if isinstance(document, Index):
            wanted, unwanted = choose(document.manifests, platforms)
            left_out.extend(unwanted)
            for child in wanted:
                if child.digest not in seen:  # before the request: several indexes may share a manifest
                    visit(fetch(child), depth + 1)
        seen[document.digest] = document

    visit(root, 0)
    return Tree(root, tuple(seen.values()), tuple(left_out))


def choose(children: Iterable[Descriptor], platforms: Sequence[Platform]) -> tuple[list[Descriptor], list[Descriptor]]:
    """Divide children into those of the platforms and others. A child without a platform belongs to the first."""
    wanted: list[Descriptor] = []
    unwanted: list[Descriptor] = []
    for child in children:
        fits = not platforms or child.platform is None or any(p.accepts(child.platform) for p in platforms)
        (wanted if fits else unwanted).append(child)
    return wanted, unwanted


def platforms_of(documents: Iterable[Document]) -> Iterator[Platform]:
    """Yield the platforms that indexes list, in order, with repeats."""
    for document in documents:
        if isinstance(document, Index):
            yield from (child.platform for child in document.manifests if child.platform is not None)
