"""The re-request: a list of blobs of an archive to be exported again (docs/reference/archive-format.md, *Re-requests*).

It has all that the exporter needs for the small archive that repairs the mirror: the affected images as the inventory lists
them, and the digests to export. It leaves a closed network, so it names no host of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from common.archive import inventory_file
from common.archive.inventory import (
    MAX_CREATED,
    BaseRecord,
    CatalogRecord,
    ImageKind,
    ImageRecord,
    Inventory,
    ReleaseRecord,
    blobs_of,
    images_by_digest,
)
from common.errors import ContentError, UsageError
from common.files import read_limited
from common.oci.image import Digest, parse_digest
from common.oci.reference import Reference
from common.serialization import UNDECODABLE, bounded_json, decode_bounded

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path


MEDIA_TYPE = "application/vnd.hub-airgap.rerequest.v1+json"
MAX_SIZE = 512 * 1024 * 1024  # as of an inventory, of which it is a part
GRAPH_BASE = "cli"  # the component that the graph-data image is built on: it has a shell and `cp`


class ReRequest(msgspec.Struct, frozen=True, rename="camel"):
    """Blobs to be exported again. `inventory`: the archive that lacks them; `images`: those that need any of `blobs`.

    `releases`: those of the images, with no other components; absent where there are none. They say where the images belong on
    the mirror, so their payloads are among `images` in any case. `name` and `created` are those of the archive (ADR 0076).
    """

    media_type: str
    inventory: Digest
    image_set: dict[str, Any]
    catalogs: tuple[CatalogRecord, ...]
    images: tuple[ImageRecord, ...]
    blobs: tuple[Digest, ...]
    releases: tuple[ReleaseRecord, ...] | msgspec.UnsetType = msgspec.UNSET
    name: str | msgspec.UnsetType = msgspec.UNSET
    created: str | msgspec.UnsetType = msgspec.UNSET

    @property
    def bases(self) -> dict[Digest, BaseRecord]:
        """The description of the archive that lacks the blobs; none where an earlier version made the re-request."""
        return {self.inventory: BaseRecord(self.created or "", self.name or "")} if self.created or self.name else {}

    @property
    def carried_releases(self) -> tuple[ReleaseRecord, ...]:
        """The OpenShift releases; mostly none."""
        return self.releases or ()


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
    releases = _releases(inventory, affected)
    placed = {source for release in releases for source in release.sources}
    affected = [image for image in inventory.images if image.digest in closures_of or image.source in placed]
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
        releases or msgspec.UNSET,
        inventory.name,
        inventory.created[:MAX_CREATED],
    )


def _releases(inventory: Inventory, affected: Sequence[ImageRecord]) -> tuple[ReleaseRecord, ...]:
    """Return the releases that affected images belong to, or whose repository they are in, without other components."""
    releases = inventory.carried_releases
    if not releases:
        return ()
    kept = {image.source for image in affected}
    if any(image.kind is ImageKind.GRAPH_DATA for image in affected):
        kept.update(_graph_bases(releases))
    kept.update(release.source for release in releases if not kept.isdisjoint(release.sources))
    # An image that only shares a repository with a release, such as a signature, has its place by that release as well.
    placed = {Reference.parse(source).name for release in releases for source in kept.intersection(release.sources)}
    unplaced = _repositories(inventory, affected) - placed
    for release in releases if unplaced else ():
        for source in release.sources:
            if (name := Reference.parse(source).name) in unplaced:
                kept.update((source, release.source))
                unplaced.remove(name)
    return tuple(
        replace(release, components=tuple(one for one in release.components if one.source in kept))
        for release in releases
        if release.source in kept
    )


def _repositories(inventory: Inventory, images: Sequence[ImageRecord]) -> set[str]:
    """Return the repositories that images are from. Graph data, and catalogs that were directories, are from none."""
    local = {catalog.source for catalog in inventory.catalogs if catalog.digest is None}
    found = (image.source for image in images if image.kind is not ImageKind.GRAPH_DATA and image.source not in local)
    return {Reference.parse(source).name for source in found}


def _graph_bases(releases: Sequence[ReleaseRecord]) -> Iterator[str]:
    """Yield what the graph-data image was built on: the tools of the newest release of each architecture."""
    newest = {release.architecture: release for release in releases}  # in the order of their versions
    for release in newest.values():
        yield from (component.source for component in release.components if component.name == GRAPH_BASE)


def encode(request: ReRequest) -> bytes:
    """Return the bytes of a re-request. Raises ContentError for one that is too large to be read."""
    return bounded_json(request, MAX_SIZE, "re-request", "Export the archive again: most of it is missing.")


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
    named = (image.digest for image in request.images if image.digest)
    for digest in (request.inventory, *request.blobs, *named, *(release.digest for release in request.carried_releases)):
        parse_digest(digest)
    inventory_file.check_releases(request.images, request.carried_releases)
    inventory_file.check_names([], request.bases)
    return request
