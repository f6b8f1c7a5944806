"""Fills the positions that the plan fixed: every blob from its registry, or from the catalogs that were read, into its place.

All of the archive, or some of its volumes; parts are joined afterwards. A blob that cannot be had leaves its place empty and
says so in the inventory; the archive is finished all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from common.archive import parity
from common.archive.inventory import Inventory
from common.content import BlobSource, Chunks, DirectoryStore
from common.errors import HubError
from common.oci.image import Descriptor, Digest
from common.progress import Progress
from common.registry.client import RegistryClient
from common.registry.source_sink import RegistrySource
from common.text import counted
from common.transfer import copy
from exporter.archive.archive_spec import Blueprint
from exporter.archive.output import REPORT
from exporter.archive.writer import ArchiveWriter, Filling, blobs_of
from exporter.distributed import join_state, joining
from exporter.distributed.join_state import Owners
from exporter.distributed.part import Part, PartWriter
from exporter.plan.plan import ExportPlan
from exporter.settings import Making


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


def fetch(drawn: Blueprint, making: Making, media: Media, report: Page) -> Inventory:
    """Make an archive, with its report; return the inventory that it carries.

    Raises UsageError (another archive is there, volumes too small), SpaceError, and what the media raise for all blobs.
    """
    share = drawn.terms.parity
    if share:
        parity.require_coder()
    with ArchiveWriter(making.output, drawn.layout, progress=media.progress, share=share, beside=report.room) as writer:
        lost = _copy(drawn.plan, [blob.descriptor for blob in drawn.plan.blobs], making, media, writer)
        closing = drawn.closing(lost, making.sign)
        writer.finish(closing, further=lambda sums: {REPORT: report.render(closing.inventory, sums)})
    return closing.inventory


def fetch_part(
    drawn: Blueprint, making: Making, media: Media, numbers: Collection[int], identity: Digest, *, begin: Callable[[], None]
) -> Part:
    """Make the volumes `numbers` of the archive, whose plan has the `identity`; return what became of them.

    `begin` is called when the directory is locked, before anything in it changes. Raises what `fetch` raises.
    """
    share = drawn.terms.parity
    if share:
        parity.require_coder()
    with PartWriter(
        making.output, drawn.layout, numbers, identity, progress=media.progress, share=share, begin=begin
    ) as writer:
        lost = _copy(drawn.plan, list(blobs_of(drawn.layout, numbers)), making, media, writer)
        return writer.finish(drawn.closing({}, making.sign), lost)


def join(drawn: Blueprint, making: Making, owned: Owners, report: Page, progress: Progress) -> Inventory:
    """Make the archive out of its parts; return the inventory that it carries. Raises what `joining.join` raises."""
    lost = {digest: each.error for digest, each in join_state.lost(owned, drawn.layout).items()}
    closing = drawn.closing(lost, making.sign)
    joining.join(
        owned,
        making.output,
        drawn.layout,
        closing,
        share=drawn.terms.parity,
        progress=progress,
        further=lambda sums: {REPORT: report.render(closing.inventory, sums)},
    )
    return closing.inventory


def _copy(
    plan: ExportPlan, blobs: Sequence[Descriptor], making: Making, media: Media, writer: Filling
) -> dict[Digest, HubError]:
    """Copy blobs; return those that could not be had, with the reason."""
    lost: dict[Digest, HubError] = {}
    media.progress.begin(f"fetching {counted(len(blobs), 'blob')}", sum(blob.size for blob in blobs))
    try:
        for outcome in copy(blobs, PlannedSource(plan, media), writer, jobs=making.jobs, progress=media.progress):
            if outcome.error is not None:
                lost[outcome.blob.digest] = outcome.error
                writer.mark_missing(outcome.blob.digest)
    finally:
        media.progress.end()
    return lost
