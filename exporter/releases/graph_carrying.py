"""The graph-data image of an export: the data fetched and checked, on the command line tools of the carried releases."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from common.archive.inventory import ImageKind, Problem, ProblemCode
from common.archive.rerequest import GRAPH_BASE
from common.errors import ContentError, HubError, UsageError
from exporter.images.resolve import WantedImage, resolve
from exporter.images.stored import StoredBlobs
from exporter.imageset.releases import MULTI
from exporter.releases.graph_data import MAX_TARBALL, checked, from_file
from exporter.releases.graph_image import NAME, build
from exporter.releases.hosts import GRAPH_DATA

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from common.archive.inventory import ImageRecord, ReleaseRecord
    from exporter.context import ExportContext
    from exporter.images.resolve import ResolvedImage
    from exporter.releases.graph_data import GraphData
    from exporter.releases.graph_image import GraphImage
    from exporter.releases.reading import ReadRelease
    from exporter.settings import ExportSettings


def require_base(settings: ExportSettings) -> None:
    """Raise UsageError for graph data without an image that it could be put on."""
    request = settings.image_set.platform
    if request.graph and not (request.channels or request.release or settings.releases.graph_base):
        raise UsageError(
            "the graph data needs an image with a shell, and no release is requested whose cli could serve",
            hint="Name one with --graph-base, such as registry.access.redhat.com/ubi9/ubi:latest, or request a release.",
        )


def data(settings: ExportSettings, context: ExportContext) -> GraphData | None:
    """Return the graph data, if they are requested. Raises RegistryError, ContentError, UsageError for a file."""
    return _fetched(settings, context) if settings.image_set.platform.graph else None


def _fetched(settings: ExportSettings, context: ExportContext) -> GraphData:
    where = settings.releases.graph_data or GRAPH_DATA
    if "://" in where:
        return checked(context.client.fetch(where, what="graph data", limit=MAX_TARBALL), where)
    return from_file(Path(where))


def images(
    found: GraphData | None,
    releases: Sequence[ReadRelease],
    resolved: Sequence[ResolvedImage],
    settings: ExportSettings,
    context: ExportContext,
) -> tuple[list[GraphImage], list[Problem]]:
    """Return the image of graph data, or the problem for which there is none. `resolved`: the components, among others."""
    if found is None:
        return [], []
    # Releases are in the order of their versions.
    newest = {one.payload.architecture: one.payload.component(GRAPH_BASE) for one in releases}
    sources = {name: WantedImage(one, ImageKind.COMPONENT).source for name, one in newest.items() if one is not None}
    try:
        made = _built(found, sources, resolved, settings, context)
    except HubError as error:
        return [], [Problem("error", ProblemCode.GRAPH_DATA_MISSING, NAME, f"left out: {error.message}")]
    return [made], []


def again(
    wanted: ImageRecord,
    releases: Sequence[ReleaseRecord],
    resolved: Sequence[ResolvedImage],
    settings: ExportSettings,
    context: ExportContext,
) -> GraphImage:
    """Return the graph-data image of an earlier export, made again. Raises HubError where another one comes out."""
    newest = {one.architecture: one for one in releases}
    components = [(name, one) for name, release in newest.items() for one in release.components]
    sources = {name: one.source for name, one in components if one.name == GRAPH_BASE}
    made = _built(_fetched(settings, context), sources, resolved, settings, context)
    if made.digest != wanted.digest:
        raise ContentError(
            f"came out as {made.digest}, and {wanted.digest} is wanted: data or base are not those of the first export. Name "
            "them with --graph-data FILE and --graph-base, or make a new archive with --graph"
        )
    return made


def _built(
    found: GraphData,
    sources: Mapping[str, str],
    resolved: Sequence[ResolvedImage],
    settings: ExportSettings,
    context: ExportContext,
) -> GraphImage:
    bases = _bases(sources, resolved, settings, context)
    blobs = StoredBlobs(context.client, context.store)
    return build(found, bases, lambda blob: blobs.read(bases[0].wanted.reference, blob))


def _bases(
    sources: Mapping[str, str], resolved: Sequence[ResolvedImage], settings: ExportSettings, context: ExportContext
) -> list[ResolvedImage]:
    """Return the images to put the data on: the one that was named, else those of `sources`, by architecture.

    Raises ContentError where there is none.
    """
    if settings.releases.graph_base is not None:
        wanted = WantedImage(settings.releases.graph_base, ImageKind.ADDITIONAL, platforms=settings.platforms)
        bases = resolve([wanted], context.client, jobs=1, progress=context.progress)
        return _whole(bases)
    by_source = {one.wanted.source: one for one in resolved}
    found = {name: by_source[source] for name, source in sources.items() if source in by_source}
    # An index of several architectures serves alone.
    return _whole([found[MULTI]] if MULTI in found else list(found.values()))


def _whole(bases: Sequence[ResolvedImage]) -> list[ResolvedImage]:
    for problem in (one.problem for one in bases if one.problem is not None):
        raise ContentError(f"the image to put it on: {problem.message}")
    if not bases:
        raise ContentError(f"no release is carried that has the component {GRAPH_BASE}, on which it is put")
    return list(bases)
