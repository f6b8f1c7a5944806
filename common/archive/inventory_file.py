"""Encoding and validation of `inventory.json` (docs/reference/archive-format.md, *inventory.json*).

An inventory is hostile input. All that later code relies on is checked here once: digests, sizes, places that overlap or are
outside their volume, references without a target, manifests that contain themselves.
"""

from __future__ import annotations

import base64
import binascii
import io
import re
from array import array
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from msgspec.structs import replace as replaced

from common.archive import frames
from common.archive.inventory import (
    MAX_BASES,
    MAX_BLOBS,
    MAX_COMPONENTS,
    MAX_CREATED,
    MAX_ENTRIES,
    MAX_FREE_FORM,
    MAX_IMAGES,
    MAX_NAME,
    MAX_NEEDED_BY,
    MAX_PROBLEMS,
    MAX_PURPOSE,
    MAX_RELEASE_SIGNATURES,
    MAX_RELEASES,
    MAX_REQUESTER,
    MAX_SIGNATURE_SIZE,
    MAX_SIZE,
    MAX_STEPS,
    MEDIA_TYPE,
    BaseRecord,
    BlobRecord,
    CatalogRecord,
    Encoding,
    ImageRecord,
    Inventory,
    ListedDigest,
    ManifestRecord,
    Piece,
    ReleaseRecord,
    UpdatePathRecord,
    VolumeRecord,
    check_documents,
)
from common.archive.naming import is_name
from common.archive.volume import MAX_PIECES, MAX_VOLUMES, OPENING, extent, volume_name
from common.errors import ArchiveDamagedError, ArchiveError, ContentError, UsageError
from common.oci.image import MAX_DEPTH, MAX_MANIFEST_SIZE, Digest, Hasher, parse_digest
from common.oci.image import MAX_SIZE as MAX_BLOB_SIZE
from common.openshift.openshift_release import is_architecture, is_channel
from common.serialization import INDENTED, UNDECODABLE, decode_bounded, json_parts, require_bounded_number, values_in
from common.version import parse as parse_version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence


NAME = "inventory.json"
SIGNATURE_NAME = "inventory.json.sig"
T = TypeVar("T")
_SHOWN = 200
# Bounded digits: the version goes into an error message.
_VERSIONED = re.compile(r"application/vnd\.hub-airgap\.inventory\.v([1-9][0-9]{0,5})\+json", re.ASCII)
_VERSION = "1"


class _Kind(msgspec.Struct, rename="camel"):
    """The only field that every version of an inventory has."""

    media_type: str


class WireCatalog(CatalogRecord, frozen=True):
    """A catalog as received. Its template stays raw until its values are counted: it may have any shape (ADR 0030)."""

    catalog_source_template: msgspec.Raw = msgspec.Raw(b"null")  # type: ignore[assignment]


class _WireInventory(Inventory, frozen=True):
    """An inventory as received: the image set is raw until its values are counted, entries of long lists until their turn."""

    image_set: msgspec.Raw  # type: ignore[assignment]
    catalogs: tuple[WireCatalog, ...]
    images: list[msgspec.Raw]  # type: ignore[assignment]
    manifests: dict[ListedDigest, msgspec.Raw]  # type: ignore[assignment]
    blobs: dict[ListedDigest, msgspec.Raw]  # type: ignore[assignment]


_KIND = msgspec.json.Decoder(_Kind)
_INVENTORY = msgspec.json.Decoder(_WireInventory)
_BLOB, _MANIFEST = msgspec.json.Decoder(BlobRecord), msgspec.json.Decoder(ManifestRecord)
_IMAGE = msgspec.json.Decoder(ImageRecord)
_FREE_FORM = msgspec.json.Decoder(dict[str, Any])
_TEMPLATE: msgspec.json.Decoder[dict[str, Any] | None] = msgspec.json.Decoder(dict[str, Any] | None)


def identity(inventory: Inventory) -> Digest:
    """Return the digest of an archive that this program makes. Raises as `encode` does."""
    hasher = Hasher()
    for part in parts(inventory):
        hasher.update(part)
    return hasher.digest()


def encode(inventory: Inventory) -> bytes:
    """Return the bytes of `inventory.json`: UTF-8, keys sorted, two-space indent, newline at the end.

    Raises UsageError when that is more than a reader accepts.
    """
    buffer = io.BytesIO()  # grows in place, where joining a list would hold the bytes twice
    for part in parts(inventory):
        buffer.write(part)
    return buffer.getvalue()


def parts(inventory: Inventory) -> Iterator[bytes]:
    """Yield the same bytes in parts, for their length or digest alone. Raises as `encode` does, at the end for their number."""
    size = values = 0
    templates = [one.catalog_source_template for one in inventory.catalogs if one.catalog_source_template is not None]
    try:
        # The limits of a reader, so that an archive that cannot be read is never written (ADR 0030).
        _check_counts(inventory)
        check_documents(inventory)
        _check_free_form([msgspec.json.encode(form) for form in (inventory.image_set, *templates)])
        for part in _encoded(inventory):
            size += len(part)
            values += values_in(part)
            yield part
        require_bounded_number(values, size, INDENTED)
    except (ContentError, msgspec.ValidationError) as error:
        raise UsageError(f"the inventory cannot be read back: {error}", hint="Make several archives.") from error
    if size > MAX_SIZE:
        raise UsageError(f"the inventory has {size} bytes; the limit is {MAX_SIZE}", hint="Make several archives.")


def _encoded(inventory: Inventory) -> Iterator[bytes]:
    # Sorted and indented: the digest is the archive's identity, so the same content must give the same bytes.
    fields = ((field.encode_name, getattr(inventory, field.name)) for field in msgspec.structs.fields(inventory))
    return json_parts({name: value for name, value in fields if value is not msgspec.UNSET})


def decode(raw: bytes, where: str) -> Inventory:
    """Read and check an inventory; `where` names it in errors.

    Raises ArchiveError for another major version, ArchiveDamagedError for an inventory that is invalid.
    """
    if len(raw) > MAX_SIZE:  # before the parser, which takes a multiple of it
        raise ArchiveDamagedError(f"{where}: {len(raw)} bytes; the limit is {MAX_SIZE}")
    try:
        _check_version(_KIND.decode(raw).media_type, where)  # first: another version may have other types of fields
        inventory = decode_unchecked(raw)
        check(inventory)
    except (*UNDECODABLE, ContentError) as error:
        raise ArchiveDamagedError(
            f"{where}: not a usable inventory: {error}",
            hint="Copy it again from where the archive was made, or name the volume files alone: each has a copy of it.",
        ) from error
    return inventory


def decode_unchecked(raw: bytes) -> Inventory:
    """Read an inventory, or that part of a plan, in bounded memory, without `check`. Raises UNDECODABLE."""
    return _with_lists(_with_free_form(decode_bounded(raw, _INVENTORY, INDENTED), Inventory))


def with_free_form(wire: Any, kind: type[T]) -> T:
    """Return the record `kind` of a wire record: the same fields, with image set and templates decoded.

    Raises UNDECODABLE, also where these have more than MAX_FREE_FORM values.
    """
    return kind(**_with_free_form(wire, kind))


def _with_free_form(wire: Any, kind: type) -> dict[str, Any]:
    templates = [one.catalog_source_template for one in wire.catalogs]
    _check_free_form([bytes(form) for form in (wire.image_set, *templates)])
    fields: dict[str, Any] = {name: getattr(wire, name) for name in kind.__struct_fields__}  # type: ignore[attr-defined]
    fields["image_set"] = _FREE_FORM.decode(wire.image_set)
    fields["catalogs"] = tuple(map(_catalog, wire.catalogs))
    return fields


def _with_lists(fields: dict[str, Any]) -> Inventory:
    """Return an inventory whose long lists are still raw, entry by entry.

    One text stands for each digest, media type and name, which is made for each mention of it: all of them at once would take
    more memory than what is left.
    """
    seen: dict[Any, Any] = {digest: digest for name in ("blobs", "manifests") for digest in fields[name]}

    def one(value: T) -> T:
        return seen.setdefault(value, value)  # type: ignore[no-any-return]

    blobs, manifests, images = fields["blobs"], fields["manifests"], fields["images"]
    for digest, raw in blobs.items():
        blobs[digest] = _blob(_decoded(_BLOB, raw, digest), one)
    for digest, raw in manifests.items():
        found = _decoded(_MANIFEST, raw, digest)
        children, parts = tuple(map(one, found.manifests)), tuple(map(one, found.blobs))
        manifests[digest] = ManifestRecord(one(found.media_type), found.size, children, parts, found.subject)
    named = 0
    for place, raw in enumerate(images):
        image = _decoded(_IMAGE, raw, f"images[{place}]")
        named += len(image.needed_by)
        if named > MAX_NEEDED_BY:  # before its texts are kept to be shared, which doubles their memory where all differ
            raise msgspec.ValidationError(f"{named} entries of neededBy; the limit is {MAX_NEEDED_BY}")
        images[place] = _image(image, one)
    return Inventory(**{**fields, "images": tuple(images)})


def _decoded(decoder: msgspec.json.Decoder[T], raw: msgspec.Raw, where: str) -> T:
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError as error:
        raise msgspec.ValidationError(f"{where[:_SHOWN]}: {error}") from error


def _blob(blob: BlobRecord, one: Callable[[Any], Any]) -> BlobRecord:
    size, pieces = blob.size, blob.pieces
    if len(pieces) == 1 and pieces[0].size == size:
        size = pieces[0].size  # one number for both
    return BlobRecord(size, one(blob.media_type), blob.encoding, pieces, one(blob.in_), blob.missing)


def _image(image: ImageRecord, one: Callable[[Any], Any]) -> ImageRecord:
    return replaced(
        image,
        digest=one(image.digest),
        media_type=one(image.media_type),
        platforms=one(image.platforms),
        needed_by=one(tuple(map(one, image.needed_by))),
    )


def _catalog(wire: WireCatalog) -> CatalogRecord:
    fields = {name: getattr(wire, name) for name in CatalogRecord.__struct_fields__}
    fields["catalog_source_template"] = _TEMPLATE.decode(wire.catalog_source_template)
    return CatalogRecord(**fields)


def _check_free_form(forms: Iterable[bytes]) -> None:
    values = sum(map(values_in, forms))
    if values > MAX_FREE_FORM:
        raise msgspec.ValidationError(f"about {values} values in its image set and templates; the limit is {MAX_FREE_FORM}")


def _check_version(media_type: str, where: str) -> None:
    found = _VERSIONED.fullmatch(media_type)
    if found is None:
        raise ContentError(f"its media type is {media_type[:80]!r}, wanted {MEDIA_TYPE!r}")
    if found[1] != _VERSION:
        raise ArchiveError(
            f"{where}: the archive has format version {found[1]}; this program reads version {_VERSION}",
            hint=f"Use a hub-airgap that reads format version {found[1]}.",
        )


def check(inventory: Inventory) -> None:
    """Raise ContentError for an inventory that is invalid."""
    _check_counts(inventory)
    for digest in _digests(inventory):
        parse_digest(digest)
    check_layout(inventory.volumes, inventory.blobs)
    for digest, manifest in inventory.manifests.items():
        _check_manifest(digest, manifest, inventory)
    _check_depth(inventory.manifests)
    check_releases(inventory.images, inventory.carried_releases)
    check_documents(inventory)
    # Only complete images are pushed; an incomplete one may lack everything.
    for image in inventory.images:
        if image.complete and image.digest not in inventory.manifests:
            raise ContentError(f"image {image.source[:200]!r} is complete, but its manifest {image.digest} is not listed")


def _check_counts(inventory: Inventory) -> None:
    for what, count, limit in (
        ("blobs", len(inventory.blobs), MAX_BLOBS),
        ("manifests", len(inventory.manifests), MAX_BLOBS),
        ("volumes", len(inventory.volumes), MAX_VOLUMES),
        ("images", len(inventory.images), MAX_IMAGES),
        ("problems", len(inventory.problems), MAX_PROBLEMS),
        ("entries of neededBy", sum(len(image.needed_by) for image in inventory.images), MAX_NEEDED_BY),
        ("entries of channels, with what they skip", sum(map(_entries, inventory.catalogs)), MAX_ENTRIES),
        ("releases", len(inventory.carried_releases), MAX_RELEASES),
        ("components of releases", sum(len(one.components) for one in inventory.carried_releases), MAX_COMPONENTS),
        ("steps of update paths, with their risks", sum(map(_steps, _paths(inventory))), MAX_STEPS),
    ):
        if count > limit:
            raise ContentError(f"{count} {what}; the limit is {limit}")
    for what, text, limit in (
        ("requestedBy", inventory.requested_by or "", MAX_REQUESTER),
        ("purpose", inventory.purpose or "", MAX_PURPOSE),
    ):
        if len(text) > limit:
            raise ContentError(f"{what} has {len(text)} characters; the limit is {limit}")
    check_names([] if inventory.name is msgspec.UNSET else [inventory.name], inventory.known_bases)
    for image in inventory.images:
        if any(len(name) > MAX_NAME for name in (image.source, *image.needed_by)):
            raise ContentError(f"image {image.source[:80]!r}: a name of more than {MAX_NAME} characters")


def check_names(names: Iterable[str], bases: Mapping[Digest, BaseRecord]) -> None:
    """Check the names of an archive and of its bases, and that these are bounded. Raises ContentError."""
    # They become part of file names and of texts for people, also those of untrusted archives.
    for name in (*names, *(base.name for base in bases.values() if base.name)):
        if not is_name(name):
            raise ContentError(f"not a name of an archive: {name[:80]!r}")
    described = len(bases) + sum(len(base.confirms or ()) for base in bases.values())
    if described > MAX_BASES:
        raise ContentError(f"{described} earlier archives are described; the limit is {MAX_BASES}")
    for base in bases.values():
        if len(base.created) > MAX_CREATED:
            raise ContentError(f"a date of {len(base.created)} characters; the limit is {MAX_CREATED}")
    for digest in (*bases, *(one for base in bases.values() for one in base.confirms or ())):
        parse_digest(digest)


def _entries(catalog: CatalogRecord) -> int:
    channels = (channel for package in catalog.packages for channel in package.channels)
    return sum(
        len(channel.provided_apis)
        + len(channel.required_apis)
        + len(channel.required_packages)
        + sum(1 + len(entry.skips) for entry in channel.bundles)
        for channel in channels
    )


def _paths(inventory: Inventory) -> tuple[UpdatePathRecord, ...]:
    return inventory.update_graph.paths if inventory.update_graph else ()


def _steps(path: UpdatePathRecord) -> int:
    return sum(1 + len(step.risks) for step in path.steps)


def check_releases(images: Iterable[ImageRecord], releases: Sequence[ReleaseRecord]) -> None:
    """Check the names of each release, that its images are listed, and that its signatures are bounded. Raises ContentError."""
    found = {image.source: image.digest for image in images} if releases else {}
    for release in releases:
        if fault := next(_faults(release, found), ""):
            raise ContentError(f"release {release.version[:80]!r}: {fault}")


def _faults(release: ReleaseRecord, images: Mapping[str, Digest | None]) -> Iterator[str]:
    # Names first: they become part of commands that people copy, and of names in the cluster.
    try:
        parse_version(release.version)
    except ValueError as error:
        yield str(error)[:_SHOWN]
    if not is_architecture(release.architecture):
        yield f"not an architecture: {release.architecture[:80]!r}"
    yield from (f"not a channel: {channel[:80]!r}" for channel in release.channels if not is_channel(channel))
    yield from (f"its image {source[:_SHOWN]!r} is not listed" for source in release.sources if source not in images)
    # The cluster is led to the one, signatures are for the other.
    if (listed := images[release.source]) not in (None, release.digest):
        yield f"its payload is {release.digest}, and the image {release.source[:_SHOWN]!r} is {listed}"
    if (count := len(release.signatures)) > MAX_RELEASE_SIGNATURES:
        yield f"{count} signatures; the limit is {MAX_RELEASE_SIGNATURES}"
    for signature in release.signatures:
        try:
            size = len(base64.b64decode(signature.content, validate=True))
        except (binascii.Error, ValueError) as error:
            yield f"a signature is not base64: {error}"
        else:
            if not 0 < size <= MAX_SIGNATURE_SIZE:
                yield f"a signature of {size} bytes; the limit is {MAX_SIGNATURE_SIZE}"


def _digests(inventory: Inventory) -> Iterator[Digest]:
    yield from inventory.requires
    yield from inventory.blobs
    yield from inventory.manifests
    yield from (image.digest for image in inventory.images if image.digest is not None)
    yield from (manifest.subject for manifest in inventory.manifests.values() if manifest.subject is not None)
    yield from (blob.in_ for blob in inventory.blobs.values() if blob.in_ is not None)
    for catalog in inventory.catalogs:
        yield catalog.image
        if catalog.digest is not None:
            yield catalog.digest
    yield from (release.digest for release in inventory.carried_releases)
    if inventory.update_graph and inventory.update_graph.graph_data is not None:
        yield inventory.update_graph.graph_data


def check_layout(volumes: Sequence[VolumeRecord], blobs: Mapping[Digest, BlobRecord]) -> None:
    """Check names and sizes of volumes, and that the places of blobs are in them. Raises ContentError."""
    _check_volumes(volumes)
    for digest, blob in blobs.items():
        _check_blob(digest, blob)
    _check_places(volumes, blobs)


def _check_volumes(volumes: Sequence[VolumeRecord]) -> None:
    if not volumes:
        raise ContentError("it lists no volumes")
    for number, volume in enumerate(volumes, 1):
        # The format defines the names, so none leaves the directory (../) and none occurs twice.
        if volume.name != volume_name(number):
            raise ContentError(f"volume {number} is called {volume.name[:80]!r}, wanted {volume_name(number)!r}")
        if not len(OPENING) <= volume.data_size <= MAX_BLOB_SIZE:
            raise ContentError(f"{volume.name}: impossible size of its data region: {volume.data_size}")


def _check_blob(digest: Digest, blob: BlobRecord) -> None:
    if not 0 <= blob.size <= MAX_BLOB_SIZE:
        raise ContentError(f"{digest}: impossible size {blob.size}")
    if [bool(blob.pieces), blob.in_ is not None, blob.missing is not None].count(True) != 1:
        raise ContentError(f"{digest}: must be in this archive, in an earlier one, or missing, and only one of these")
    if not blob.pieces:
        return
    if len(blob.pieces) > MAX_PIECES:
        raise ContentError(f"{digest}: {len(blob.pieces)} pieces; the limit is {MAX_PIECES}")
    # Each size as well as the sum: a negative size could make the sum right.
    if any(not 0 <= piece.size <= blob.size for piece in blob.pieces) or sum(p.size for p in blob.pieces) != blob.size:
        raise ContentError(f"{digest}: its pieces do not add up to {blob.size} bytes")
    if any(not _stored_fits(blob.encoding, piece) for piece in blob.pieces):
        raise ContentError(f"{digest}: the stored length of a piece does not fit its size and encoding")
    # A reader finds the piece of a byte by division, so only whole raw blocks may be in front of a cut.
    if len(blob.pieces) > 1 and (blob.encoding is not Encoding.RAW or any(p.size % frames.BLOCK for p in blob.pieces[:-1])):
        raise ContentError(f"{digest}: cut where no blob is cut")


def _stored_fits(encoding: Encoding | None, piece: Piece) -> bool:
    if encoding is Encoding.RAW:
        return piece.stored == frames.raw_frame_size(piece.size)
    # A few kilobytes could claim gigabytes of content, which would be decompressed and hashed.
    fits = piece.size <= frames.blob_bound(piece.stored)
    return encoding is Encoding.ZSTD and 0 < piece.stored <= frames.compress_bound(piece.size) and fits


def _check_places(volumes: Sequence[VolumeRecord], blobs: Mapping[Digest, BlobRecord]) -> None:
    """Check that every place is in the data region of a listed volume, and that no two overlap."""
    starts: dict[int, array[int]] = {}
    ends: dict[int, array[int]] = {}
    for digest, blob in blobs.items():
        for piece in blob.pieces:
            if not 1 <= piece.volume <= len(volumes):
                raise ContentError(f"{digest}: is in volume {piece.volume} of {len(volumes)}")
            start, end = extent(piece)
            if start < len(OPENING) or end > volumes[piece.volume - 1].data_size:
                raise ContentError(f"{digest}: is outside the data region of volume {piece.volume}: {start} to {end}")
            starts.setdefault(piece.volume, array("Q")).append(start)
            ends.setdefault(piece.volume, array("Q")).append(end)
    # None overlap exactly where, of both sorted, each place ends before the next one begins.
    for volume, found in starts.items():
        for end, start in zip(sorted(ends[volume]), sorted(found)[1:], strict=False):
            if start < end:
                raise ContentError(f"volume {volume}: places overlap at byte {start}")


def _check_manifest(digest: Digest, manifest: ManifestRecord, inventory: Inventory) -> None:
    if not 0 <= manifest.size <= MAX_MANIFEST_SIZE:
        raise ContentError(f"manifest {digest}: impossible size {manifest.size}")
    for child in _absent(manifest.manifests, inventory.manifests):
        raise ContentError(f"manifest {digest}: its child {child[:80]!r} is not listed")
    for blob in _absent(manifest.blobs, inventory.blobs):
        raise ContentError(f"manifest {digest}: its blob {blob[:80]!r} is not listed")


def _absent(digests: Iterable[Digest], listed: Mapping[Digest, object]) -> Iterator[Digest]:
    return (digest for digest in digests if digest not in listed)


def _check_depth(manifests: Mapping[Digest, ManifestRecord]) -> None:
    """Check that no manifest is nested deeper than MAX_DEPTH, and so that none contains itself.

    Later code relies on this for its recursion.
    """
    parents = [digest for digest, record in manifests.items() if record.manifests]
    for _ in range(MAX_DEPTH):
        # Each round keeps only those that list one of the last round: the ancestors of documents one level deeper. Time is
        # linear in the listed children; following every path would be exponential in a crafted graph.
        kept = set(parents)
        parents = [digest for digest in parents if any(child in kept for child in manifests[digest].manifests)]
    if parents:
        raise ContentError(f"manifest {parents[0]}: lists itself, or is nested deeper than {MAX_DEPTH}")
