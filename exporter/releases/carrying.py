"""The releases of an export: selected, verified, and their payloads read, before anything of their components is fetched.

selection ─► signatures ─► payloads ─► components
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from msgspec.structs import replace as replaced

from common.archive.inventory import ImageKind, Problem, ProblemCode
from common.errors import HubError, PayloadError, ReleaseUnverifiedError, UsageError
from common.interruption import workers
from common.oci.reference import Reference
from common.progress import step
from common.text import counted
from exporter.images.resolve import WantedImage, problem_of
from exporter.releases.hosts import OKD_PAYLOADS
from exporter.releases.reading import ReadRelease, ReleaseReader, named, names_of
from exporter.releases.selection import SelectedRelease, Selection, choose
from exporter.releases.updates.update_service import graph_source

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from common.archive.inventory import ReleaseRecord, UpdatePathRecord
    from common.oci.image import Platform
    from exporter.context import ExportContext
    from exporter.images.resolve import ResolvedImage
    from exporter.settings import ExportSettings


_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CarriedReleases:
    """The releases of a plan, with the update paths between them, and the problems of those that are left out."""

    releases: tuple[ReadRelease, ...] = ()
    paths: tuple[UpdatePathRecord, ...] = ()
    problems: tuple[Problem, ...] = ()

    @property
    def payloads(self) -> dict[str, ResolvedImage]:
        """The payloads by source; they are resolved already."""
        return {one.image.wanted.source: one.image for one in self.releases}

    def wanted(self, platforms: tuple[Platform, ...]) -> list[WantedImage]:
        """Return payloads and components; of those that are indexes only `platforms` (none: all of them)."""
        components = [image for one in self.releases for image in one.components(platforms)]
        return [*(replace(one.image.wanted, needed_by=one.needed_by) for one in self.releases), *components]

    def records(self, images: Iterable[ResolvedImage]) -> tuple[ReleaseRecord, ...]:
        """Return the releases in the inventory, without images that are not among `images`: blockedImages leaves some out."""
        sources = {image.wanted.source for image in images}
        return tuple(
            replaced(record, components=tuple(each for each in record.components if each.source in sources))
            for record in (one.record for one in self.releases)
            if record.source in sources
        )


def find(settings: ExportSettings, context: ExportContext) -> CarriedReleases:
    """Return the releases that an image set asks for; fetches graphs, signatures and payloads, and nothing of components.

    Raises UsageError for what does not exist, HubError for an update service without an answer. A release without an accepted
    signature, and one whose payload cannot be read, is a problem, and is left out; where nothing else is requested it is the
    error itself. So is one whose payload `blockedImages` matches: its components are nothing without it.
    """
    selection = selected(settings, context)
    found = _read(selection, settings, context)
    alone = not (settings.image_set.operators or settings.image_set.additional_images)
    if found.errors and not found.releases and alone:
        raise found.errors[0]
    if selection.releases and not found.releases and not found.errors and alone:
        raise UsageError(
            "blockedImages leaves out all that is requested", hint="Its patterns match the payload of each release."
        )
    # Paths lead over carried releases only: each one that is left out is a problem.
    have = {(one.payload.architecture, one.payload.version) for one in found.releases}
    paths = [path for path in selection.paths if all((path.architecture, name) in have for name in _versions(path))]
    return CarriedReleases(tuple(found.releases), tuple(paths), (*selection.problems, *found.problems))


def selected(settings: ExportSettings, context: ExportContext) -> Selection:
    """Return the releases that an image set asks for, by the update graphs alone. Raises UsageError, HubError."""
    request = settings.image_set.platform
    if request.release:
        reference = Reference.parse(request.release)
        return Selection((SelectedRelease("", "", reference, okd=reference.name.startswith(OKD_PAYLOADS)),))
    found = choose(request, graph_source(context.client, settings.releases))
    for note in found.notes:
        _LOG.warning("%s", note)
    return found


def _versions(path: UpdatePathRecord) -> Iterator[str]:
    yield from (step.from_ for step in path.steps)
    yield from (step.to for step in path.steps[-1:])


@dataclass(slots=True)
class _Found:
    """The releases whose payload could be read, and the problems and errors of the others."""

    releases: list[ReadRelease] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    errors: list[HubError] = field(default_factory=list)


def _read(selection: Selection, settings: ExportSettings, context: ExportContext) -> _Found:
    """Return the selected releases, verified before their payloads are pulled."""
    reader = ReleaseReader(settings, context)
    found = _Found()
    what, count = f"verifying {counted(len(selection.releases), 'release')}", len(selection.releases)
    with step(context.progress, what, count, "releases"), workers(settings.jobs, "releases") as pool:
        answers = list(pool.map(reader.read, selection.releases))
    for selected, answer in zip(selection.releases, answers, strict=True):
        if isinstance(answer, ReadRelease):
            found.releases.append(answer)
            found.problems += answer.payload.problems
            for note in answer.payload.notes:
                _LOG.warning("%s", note)
        elif answer is not None:
            found.errors.append(answer)
            found.problems.append(_problem(selected, answer))
    found.problems += sorted(reader.problems, key=lambda one: (one.subject, one.message))  # threads add them
    # The version of a release by its image is known once it is read: the error that it was not is the one to see.
    if not (found.errors and settings.image_set.platform.release):
        _require_named(settings.releases.unverified, [*selection.releases, *found.releases])
    return found


def _problem(selected: SelectedRelease, error: HubError) -> Problem:
    if isinstance(error, ReleaseUnverifiedError):
        code = ProblemCode.RELEASE_UNVERIFIED
    elif isinstance(error, PayloadError):
        code = ProblemCode.RELEASE_UNREADABLE
    else:
        return problem_of(WantedImage(selected.payload, ImageKind.RELEASE), error)
    return Problem("error", code, named(selected), f"left out: {' '.join(error.about(named(selected)).split())}")


def _require_named(unverified: frozenset[str], known: Sequence[SelectedRelease | ReadRelease]) -> None:
    """Raise UsageError for a release that is to be carried unverified, and that is not requested."""
    # A misspelt version would leave the release out, after the user said that it may come.
    names = {name for one in known for name in names_of(one)}
    for name in sorted(unverified - names):
        raise UsageError(
            f"--unverified-release {name[:100]!r}: the image set asks for no such release",
            hint="Name it by its version, by version and architecture such as 4.18.3-arm64, or by the digest of its payload.",
        )
