"""The re-request: content of an archive that did not arrive whole, asked for again (docs/archive-format.md, *Re-requests*).

It holds all that the exporter needs to make the small archive that heals the other side: the images that were hurt as the
inventory lists them, and which of their blobs are wanted. Like the inventory it names nothing of the closed network.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from common.archive import inventory_file
from common.archive.inventory import CatalogRecord, ImageRecord, Inventory, blobs_of
from common.errors import ContentError, UsageError
from common.oci.image import Digest, parse_digest
from common.serialization import UNDECODABLE, decode_bounded, pretty_json

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

MEDIA_TYPE = "application/vnd.hub-airgap.rerequest.v1+json"
MAX_SIZE = 512 * 1024 * 1024


class ReRequest(msgspec.Struct, frozen=True, rename="camel"):
    """What is wanted again. `inventory`: the archive to be healed; `images`: those that need any of `blobs`."""

    media_type: str
    inventory: Digest
    image_set: dict[str, Any]
    catalogs: tuple[CatalogRecord, ...]
    images: tuple[ImageRecord, ...]
    blobs: tuple[Digest, ...]


class _WireReRequest(ReRequest, frozen=True):
    """A re-request as it comes from outside."""

    image_set: msgspec.Raw  # type: ignore[assignment]
    catalogs: tuple[inventory_file.WireCatalog, ...]


_DECODER = msgspec.json.Decoder(_WireReRequest)


def make(inventory: Inventory, digest: Digest, blobs: Collection[Digest]) -> ReRequest:
    """Return the re-request for blobs of an archive; only those count that an image needs."""
    wanted = frozenset(blobs)
    hurt = [image for image in inventory.images if blobs_of(inventory, image.digest) & wanted]
    names = {(image.source, image.digest) for image in hurt}
    needed = frozenset(blob for image in hurt for blob in blobs_of(inventory, image.digest))
    return ReRequest(
        MEDIA_TYPE,
        digest,
        inventory.image_set,
        tuple(catalog for catalog in inventory.catalogs if (catalog.source, catalog.image) in names),
        tuple(hurt),
        tuple(sorted(wanted & needed)),
    )


def encode(wanted: ReRequest) -> bytes:
    """Return the bytes of a re-request."""
    return pretty_json(wanted)


def load(path: Path) -> ReRequest:
    """Read a re-request. Raises UsageError for a file that is none."""
    try:
        with path.open("rb") as file:
            return _decoded(file.read(MAX_SIZE + 1))
    except (*UNDECODABLE, ContentError) as error:
        raise UsageError(f"{path}: not a re-request: {error}", hint="hub-import verify --rerequest makes one.") from error
    except OSError as error:
        raise UsageError(
            f"{path}: cannot be read: {error.strerror}", hint="hub-import verify --rerequest, or push --rerequest, makes one."
        ) from error


def _decoded(raw: bytes) -> ReRequest:
    if len(raw) > MAX_SIZE:
        raise ContentError(f"more than {MAX_SIZE} bytes")
    wanted = inventory_file.with_free_form(decode_bounded(raw, _DECODER), ReRequest)
    if wanted.media_type != MEDIA_TYPE:
        raise ContentError(f"its media type is {wanted.media_type[:80]!r}, wanted {MEDIA_TYPE!r}")
    for digest in (wanted.inventory, *wanted.blobs, *(image.digest for image in wanted.images if image.digest)):
        parse_digest(digest)
    return wanted
