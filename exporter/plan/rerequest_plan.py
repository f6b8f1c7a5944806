"""The plan for a re-request: the images with missing blobs, of which only the requested blobs are carried.

All other blobs are in the mirror or in the volumes on the other side, so the archive is small, and pushing it completes exactly
these images.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from exporter.releases import graph_carrying

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
    graphs = [image for image in wanted.images if image.kind is ImageKind.GRAPH_DATA]
    if (settings.releases.graph_data or settings.releases.graph_base) and not graphs:
        raise UsageError("--graph-data and --graph-base, and the re-request asks for no graph data", hint="Leave them out.")
    if len(graphs) > 1:  # each would fetch the data again
        raise UsageError(f"the re-request names {len(graphs)} images of graph data; an archive has one", hint=_SAME)
    fetched = [
        image
        for image in wanted.images
        if (image.source, image.digest) not in rebuilt and image.kind is not ImageKind.GRAPH_DATA
    ]
    found = resolve([_wanted(image) for image in fetched], context.client, jobs=settings.jobs, progress=context.progress)
    requests = _Requests(wanted.image_set)
    made = [_rebuilt(catalog, requests, settings, context) for catalog in rebuilt.values()]
    made += [_graph_image(image, wanted, found, settings, context) for image in graphs]
    held = {digest: content for _, blobs in made for digest, content in blobs.items()}
    by_digest = {image.tree.root.digest: image for image in (*found, *(image for image, _ in made)) if image.tree}
    plan = make_plan(wanted.catalogs, [*found, *(image for image, _ in made)], held, ())
    # The records of the first archive, so that its inventory and this one agree on names, tags and reasons.
    records = tuple(_record(image, by_digest) for image in wanted.images)
    plan = replace(plan, images=records, releases=wanted.carried_releases)
    asked = frozenset(wanted.blobs)  # a tuple of some 100,000 in the file, and each blob of the plan is looked up
    # With the archive of the re-request as the holder, so that the import knows where to look.
    elsewhere = {
        blob.descriptor.digest: BlobRecord(blob.descriptor.size, blob.descriptor.media_type, in_=wanted.inventory)
        for blob in plan.blobs
        if blob.descriptor.digest not in asked
    }
    return Planned(left_to(plan, elsewhere, (wanted.inventory,), wanted.bases), ())


def _wanted(image: ImageRecord) -> WantedImage:
    """Return the request for exactly the documents that the archive has of an image."""
    assert image.digest is not None
    # By digest: tags may have moved since. Platforms only where some were left out, for an index without others is complete.
    restricted = bool(image.missing_platforms)
    return WantedImage(
        Reference.parse(image.source).pinned(image.digest),
        image.kind,
        image.needed_by,
        tuple(map(Platform.listed, image.platforms)) if restricted else (),
    )


def _record(image: ImageRecord, found: dict[Digest, ResolvedImage]) -> ImageRecord:
    resolved = found.get(image.digest) if image.digest else None
    return replaced(image, complete=resolved is not None and resolved.problem is None)


def _rebuilt(
    catalog: CatalogRecord, requests: _Requests, settings: ExportSettings, context: ExportContext
) -> tuple[ResolvedImage, dict[Digest, bytes]]:
    """Return a rebuilt catalog image, built again from the same catalog and image set."""
    source = WantedImage(Reference("", catalog.source), ImageKind.CATALOG, named=catalog.source)
    try:
        request = requests.of(catalog)
        again = replace(settings, image_set=ImageSet((request,)))
        carried = steps.rebuilt(steps.choose(again, context)[0], again, context)
    except HubError as error:
        return _not_rebuilt(source, error.about(catalog.source)), {}
    # Its blobs are requested by digest, so any other result is of no use.
    if carried.root.digest != catalog.image:
        return _not_rebuilt(source, f"came out as {carried.root.digest}, and {catalog.image} is wanted. {_SAME}"), {}
    return carried.resolved, dict(carried.held)


def _graph_image(
    image: ImageRecord, wanted: ReRequest, found: Sequence[ResolvedImage], settings: ExportSettings, context: ExportContext
) -> tuple[ResolvedImage, dict[Digest, bytes]]:
    """Return the graph-data image, built again: it exists in no registry."""
    try:
        made = graph_carrying.again(image, wanted.carried_releases, found, settings, context)
    except HubError as error:
        return _not_rebuilt(WantedImage(Reference("", image.source), image.kind, named=image.source), error.message), {}
    return made.resolved, dict(made.held)


def _not_rebuilt(image: WantedImage, why: str) -> ResolvedImage:
    what = "the filtered catalog" if image.kind is ImageKind.CATALOG else "the image of graph data"
    message = f"{what} could not be made again as it was: {why}"
    return ResolvedImage(image, problem=Problem("error", ProblemCode.BLOB_UNAVAILABLE, image.source, message))


class _Requests:
    """The requests of the image set that a re-request carries, by the names that the inventory may have for their catalogs."""

    # Read and sorted by name once: both the image set and the list of catalogs are as long as the file makes them.
    def __init__(self, image_set: dict[str, Any]) -> None:
        self._fault: UsageError | None = None
        self._paths: dict[str, OperatorRequest] = {}
        self._references: dict[str, tuple[int, OperatorRequest]] = {}
        self._repositories: dict[str, tuple[int, OperatorRequest]] = {}
        try:
            operators = file.of_document(image_set, "the image set of the re-request").operators
        except UsageError as error:
            operators, self._fault = (), error
        for place, request in enumerate(operators):
            self._paths.setdefault(request.catalog, request)
            self._paths.setdefault(str(Path(request.catalog)), request)
            with suppress(UsageError):  # the path of a directory
                reference = Reference.parse(request.catalog)
                self._references.setdefault(str(reference), (place, request))
                self._repositories.setdefault(reference.name, (place, request))

    def of(self, catalog: CatalogRecord) -> OperatorRequest:
        """Return the request for a catalog, pinned to the digest of the first export. Raises UsageError."""
        if self._fault is not None:
            raise self._fault
        found = self._paths.get(catalog.source)
        if catalog.digest is None and found is not None:
            return found
        if catalog.digest is not None:
            pinned = self._repositories.get(catalog.source.removesuffix(f"@{catalog.digest}"))
            named = self._references.get(catalog.source)
            # A repository counts only for a name with the digest; of several requests the first.
            usable = [each for each in (named, pinned if catalog.source.endswith(f"@{catalog.digest}") else None) if each]
            if usable:
                _, request = min(usable, key=itemgetter(0))
                return replace(request, catalog=str(Reference.parse(request.catalog).pinned(catalog.digest)))
        raise UsageError(f"the image set of the re-request does not name {catalog.source}", hint=_SAME)
