"""The plan for a re-request: the images with missing blobs, of which only the requested blobs are carried.

All other blobs are in the mirror or in the volumes on the other side, so the archive is small, and pushing it completes exactly
these images.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace as replaced

from common.archive.inventory import BlobRecord, CatalogRecord, ImageKind, ImageRecord, Problem, ProblemCode
from common.errors import HubError, UsageError
from common.oci.image import Digest, Platform
from common.oci.reference import Reference
from exporter.catalog import steps
from exporter.images.resolve import ResolvedImage, WantedImage, resolve
from exporter.imageset import file
from exporter.imageset.model import ImageSet, OperatorRequest
from exporter.plan.baseline import left_to
from exporter.plan.plan import make_plan
from exporter.plan.planning import Planned

if TYPE_CHECKING:
    from collections.abc import Sequence

    from common.archive.rerequest import ReRequest
    from exporter.context import ExportContext
    from exporter.settings import ExportSettings


_SAME = (
    "Give the flags of the first export again (--catalog-base, --platform) and use the same version of hub-export, "
    "or make a whole new archive."
)


def make(wanted: ReRequest, settings: ExportSettings, context: ExportContext) -> Planned:
    """Return the plan. An image that cannot be fetched, or rebuilt with the same digest, is a problem, not an error."""
    if not wanted.blobs:
        raise UsageError("the re-request asks for nothing", hint="The archive that it was made of is whole.")
    # A catalog whose image differs from its source was built by the first export, and exists in no registry.
    rebuilt = {(c.source, c.image): c for c in wanted.catalogs if c.image != c.digest}
    fetched = [image for image in wanted.images if (image.source, image.digest) not in rebuilt]
    found = resolve([_wanted(image) for image in fetched], context.client, jobs=settings.jobs, progress=context.progress)
    made = [_rebuilt(catalog, wanted, settings, context) for catalog in rebuilt.values()]
    held = {digest: content for _, blobs in made for digest, content in blobs.items()}
    by_digest = {image.tree.root.digest: image for image in (*found, *(image for image, _ in made)) if image.tree}
    plan = make_plan(wanted.catalogs, [*found, *(image for image, _ in made)], held, ())
    # The records of the first archive, so that its inventory and this one agree on names, tags and reasons.
    plan = replace(plan, images=tuple(_record(image, by_digest) for image in wanted.images))
    # With the archive of the re-request as the holder, so that the import knows where to look.
    elsewhere = {
        blob.descriptor.digest: BlobRecord(blob.descriptor.size, blob.descriptor.media_type, in_=wanted.inventory)
        for blob in plan.blobs
        if blob.descriptor.digest not in wanted.blobs
    }
    return Planned(left_to(plan, elsewhere, (wanted.inventory,)), ())


def _wanted(image: ImageRecord) -> WantedImage:
    """Return the request for exactly the documents that the archive has of an image."""
    assert image.digest is not None
    # By digest: tags may have moved since. Platforms only where some were left out, for an index without others is complete.
    restricted = bool(image.missing_platforms)
    return WantedImage(
        Reference.parse(image.source).pinned(image.digest),
        image.kind,
        image.needed_by,
        tuple(Platform.parse(text) for text in image.platforms) if restricted else (),
    )


def _record(image: ImageRecord, found: dict[Digest, ResolvedImage]) -> ImageRecord:
    resolved = found.get(image.digest) if image.digest else None
    return replaced(image, complete=resolved is not None and resolved.problem is None)


def _rebuilt(
    catalog: CatalogRecord, wanted: ReRequest, settings: ExportSettings, context: ExportContext
) -> tuple[ResolvedImage, dict[Digest, bytes]]:
    """Return a rebuilt catalog image, built again from the same catalog and image set."""
    source = WantedImage(Reference("", catalog.source), ImageKind.CATALOG, named=catalog.source)
    try:
        request = _request(catalog, file.of_document(wanted.image_set, "the image set of the re-request"))
        again = replace(settings, image_set=ImageSet((request,)))
        carried = steps.rebuilt(steps.choose(again, context)[0], again, context)
    except HubError as error:
        return _not_rebuilt(source, error.about(catalog.source)), {}
    # Its blobs are requested by digest, so any other result is of no use.
    if carried.root.digest != catalog.image:
        return _not_rebuilt(source, f"came out as {carried.root.digest}, and {catalog.image} is wanted. {_SAME}"), {}
    return carried.resolved, dict(carried.held)


def _not_rebuilt(image: WantedImage, why: str) -> ResolvedImage:
    message = f"the filtered catalog could not be made again as it was: {why}"
    return ResolvedImage(image, problem=Problem("error", ProblemCode.BLOB_UNAVAILABLE, image.source, message))


def _request(catalog: CatalogRecord, image_set: ImageSet) -> OperatorRequest:
    """Return the request for a catalog, pinned to the digest of the first export. Raises UsageError."""
    for request in image_set.operators:
        if catalog.source in _names(request.catalog, catalog.digest):
            name = request.catalog
            if catalog.digest is not None:
                name = str(Reference.parse(name).pinned(catalog.digest))
            return replace(request, catalog=name)
    raise UsageError(f"the image set of the re-request does not name {catalog.source}", hint=_SAME)


def _names(name: str, digest: Digest | None) -> Sequence[str]:
    """Return the names that the inventory may have for a catalog of an image set."""
    if digest is None:
        return name, str(Path(name))
    reference = Reference.parse(name)
    return str(reference), str(reference.pinned(digest))
