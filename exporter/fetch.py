"""Fills the positions that the plan fixed: every blob from its registry, or from the catalogs that were read, into its place.

A blob that cannot be had leaves its place empty and says so in the inventory; the archive is finished all the same.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from msgspec.structs import replace as replaced

from common.archive import metadata, parity
from common.archive.inventory import ATTACHED, MEDIA_TYPE, BlobRecord, ImageRecord, Inventory, Problem, ProblemCode
from common.archive.layout import Layout, plan_layout
from common.archive.metadata import index_json
from common.archive.output import REPORT
from common.archive.writer import ArchiveWriter
from common.columns import counted
from common.content import BlobSource, Chunks, DirectoryStore
from common.digest import Digest
from common.errors import HubError
from common.oci.descriptor import Descriptor
from common.progress import Progress
from common.registry.client import RegistryClient
from common.registry.source_sink import RegistrySource
from common.transfer import copy
from common.version import TOOL
from exporter.plan import ExportPlan
from exporter.settings import ExportSettings

MAX_PROBLEM_TEXT = 400  # characters of a registry's message in a problem
_NAMED = 3  # how many of the bundles that it hurts a problem names


@dataclass(frozen=True, slots=True)
class Media:
    """What an export reads from: registries, and the store of the catalogs' layers."""

    client: RegistryClient
    store: DirectoryStore
    progress: Progress


class PlannedSource:
    """The source of planned blobs: held in memory, read before, or in a registry."""

    def __init__(self, plan: ExportPlan, media: Media) -> None:
        self._held = plan.held
        self._store = media.store
        self._registry = RegistrySource(media.client, plan.places)

    def read(self, blob: Descriptor, start: int = 0) -> Chunks:
        """See `BlobSource.read`."""
        held = self._held.get(blob.digest)
        if held is not None:
            return iter((memoryview(held)[start:],))
        medium: BlobSource = self._store if self._store.has(blob) else self._registry
        return medium.read(blob, start)


class Page(Protocol):
    """The report beside an archive."""

    @property
    def room(self) -> int:
        """Bytes that it needs on disk, at most or nearly so."""
        ...

    def render(self, inventory: Inventory, checksums: Mapping[str, str]) -> bytes:
        """Return it for what was fetched, and for the checksums of the archive's files by name."""
        ...


def fetch(plan: ExportPlan, settings: ExportSettings, media: Media, report: Page) -> Inventory:
    """Make the archive of a plan, with its report; return the inventory that it carries.

    Raises UsageError (another archive is there, volumes too small), SpaceError, and what the media raise for all blobs.
    """
    if settings.parity:
        parity.require_coder()
    layout = layout_of(plan, settings)
    with ArchiveWriter(settings.output, layout, progress=media.progress, share=settings.parity, beside=report.room) as writer:
        lost = _copy(plan, settings, media, writer)
        inventory = _inventory(plan, settings, layout, lost)
        manifests = {digest: document.raw for digest, document in plan.documents.items()}
        index = index_json(inventory.images, inventory.manifests)
        writer.finish(
            inventory,
            manifests,
            index,
            further=lambda checksums: {REPORT: report.render(inventory, checksums)},
            sign=settings.signer.sign if settings.signer else None,
        )
    return inventory


def layout_of(plan: ExportPlan, settings: ExportSettings) -> Layout:
    """Return where everything would lie; a volume and its parity fit the size. Raises UsageError when that is too small."""
    planned = _inventory(plan, settings, None, {})
    bound = metadata.bound(planned, index_json(planned.images, planned.manifests))
    return plan_layout(plan.blobs, bound, parity.room(settings.volume_size, settings.parity))


def planned_inventory(plan: ExportPlan, settings: ExportSettings) -> Inventory:
    """Return the inventory as it would be if everything could be fetched; blobs have no pieces."""
    return replaced(_inventory(plan, settings, None, {}), volumes=layout_of(plan, settings).volumes)


def _copy(plan: ExportPlan, settings: ExportSettings, media: Media, writer: ArchiveWriter) -> dict[Digest, HubError]:
    """Copy every blob; return those that could not be had, with the reason."""
    lost: dict[Digest, HubError] = {}
    blobs = [blob.descriptor for blob in plan.blobs]
    media.progress.begin(f"fetching {counted(len(blobs), 'blob')}", plan.size)
    try:
        for outcome in copy(blobs, PlannedSource(plan, media), writer, jobs=settings.jobs, progress=media.progress):
            if outcome.error is not None:
                lost[outcome.blob.digest] = outcome.error
                writer.mark_missing(outcome.blob.digest)
    finally:
        media.progress.end()
    return lost


def _inventory(plan: ExportPlan, settings: ExportSettings, layout: Layout | None, lost: Mapping[Digest, HubError]) -> Inventory:
    """Return the inventory of what was fetched; without a layout, of what is planned."""
    damaged = _damaged(plan, lost)
    blobs = layout.blob_records() | dict(plan.elsewhere) if layout else plan.blob_records()
    return Inventory(
        media_type=MEDIA_TYPE,
        created=settings.created,
        tool=TOOL,
        image_set=settings.image_set.as_read,
        requires=plan.requires,
        catalogs=plan.catalogs,
        images=tuple(_settled(image, damaged) for image in plan.images),
        manifests=plan.manifest_records(),
        blobs=blobs | {digest: _missing(blobs[digest]) for digest in lost},
        volumes=layout.volumes if layout else (),
        problems=(*plan.problems, *metadata.within_room(_problems(damaged, lost))),
    )


def _missing(record: BlobRecord) -> BlobRecord:
    return BlobRecord(record.size, record.media_type, missing=ProblemCode.BLOB_UNAVAILABLE)


def _damaged(plan: ExportPlan, lost: Mapping[Digest, HubError]) -> dict[str, tuple[ImageRecord, list[Digest]]]:
    """Return the images that need a lost blob, by source, with these blobs."""
    found = {}
    for image in plan.images if lost else ():
        if image.digest is not None and image.digest in plan.documents:
            gone = [digest for digest in plan.needs(image.digest) if digest in lost]
            if gone:
                found[image.source] = (image, gone)
    return found


def _settled(image: ImageRecord, damaged: Container[str]) -> ImageRecord:
    return replaced(image, complete=False) if image.source in damaged else image


def _problems(damaged: Mapping[str, tuple[ImageRecord, Sequence[Digest]]], lost: Mapping[Digest, HubError]) -> list[Problem]:
    """Return a problem for each image that lost a blob, naming the bundles that it hurts."""
    found = []
    for source, (image, gone) in damaged.items():
        hurt = f"; needed by {', '.join(image.needed_by[:_NAMED])}" if image.needed_by else ""
        note = f"; {counted(len(gone), 'blob')} of it missing{hurt}"
        text = lost[gone[0]].about(source, note)[:MAX_PROBLEM_TEXT]
        severity: Literal["error", "warning"] = "warning" if image.kind in ATTACHED else "error"
        found.append(Problem(severity, ProblemCode.BLOB_UNAVAILABLE, source, text))
    return found
