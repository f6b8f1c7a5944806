"""The re-request: a list of blobs of an archive to be exported again (docs/archive-format.md, *Re-requests*).

It has all that the exporter needs for the small archive that repairs the mirror: the affected images as the inventory lists
them, and the digests to export. It leaves a closed network, so it names no host of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from common.archive import inventory_file
from common.archive.inventory import CatalogRecord, ImageRecord, Inventory, blobs_of, images_by_digest
from common.errors import ContentError, UsageError
from common.files import read_limited
from common.oci.image import Digest, parse_digest
from common.serialization import UNDECODABLE, decode_bounded, pretty_json

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path


MEDIA_TYPE = "application/vnd.hub-airgap.rerequest.v1+json"
MAX_SIZE = 512 * 1024 * 1024  # as of an inventory, of which it is a part


class ReRequest(msgspec.Struct, frozen=True, rename="camel"):
    """Blobs to be exported again. `inventory`: the archive that lacks them; `images`: those that need any of `blobs`."""

    media_type: str
    inventory: Digest
    image_set: dict[str, Any]
    catalogs: tuple[CatalogRecord, ...]
    images: tuple[ImageRecord, ...]
    blobs: tuple[Digest, ...]


class _WireReRequest(ReRequest, frozen=True):
    """A re-request as received; free-form fields stay raw until their values are counted (ADR 0030)."""

    image_set: msgspec.Raw  # type: ignore[assignment]
    catalogs: tuple[inventory_file.WireCatalog, ...]


_DECODER = msgspec.json.Decoder(_WireReRequest)


def make(inventory: Inventory, digest: Digest, blobs: Collection[Digest]) -> ReRequest:
    """Return the re-request for blobs of an archive; blobs that no image needs are left out."""
    wanted = frozenset(blobs)
    closures = ((root, blobs_of(inventory, root)) for root in images_by_digest(inventory))
    closures_of = {root: closure for root, closure in closures if closure & wanted}
    affected = [image for image in inventory.images if image.digest in closures_of]
    # With the records of their catalogs: a filtered catalog is in no registry, and the exporter builds it again.
    names = {(image.source, image.digest) for image in affected}
    needed = frozenset().union(*closures_of.values())
    return ReRequest(
        MEDIA_TYPE,
        digest,
        inventory.image_set,
        tuple(catalog for catalog in inventory.catalogs if (catalog.source, catalog.image) in names),
        tuple(affected),
        tuple(sorted(wanted & needed)),
    )


def encode(request: ReRequest) -> bytes:
    """Return the bytes of a re-request."""
    return pretty_json(request)


def load(path: Path) -> ReRequest:
    """Read a re-request. Raises UsageError for any other file."""
    raw = read_limited(path, MAX_SIZE, "hub-import verify --rerequest, or push --rerequest, makes one.")
    try:
        return _decoded(raw)
    except (*UNDECODABLE, ContentError) as error:
        raise UsageError(f"{path}: not a re-request: {error}", hint="hub-import verify --rerequest makes one.") from error


def _decoded(raw: bytes) -> ReRequest:
    request = inventory_file.with_free_form(decode_bounded(raw, _DECODER), ReRequest)
    if request.media_type != MEDIA_TYPE:
        raise ContentError(f"its media type is {request.media_type[:80]!r}, wanted {MEDIA_TYPE!r}")
    # Digests become parts of URLs and file names.
    for digest in (request.inventory, *request.blobs, *(image.digest for image in request.images if image.digest)):
        parse_digest(digest)
    return request
