"""Fetch the blobs of a plan, from registries or from the catalogs that were read, into their places in the volumes.

The place of a blob that cannot be fetched stays empty, and the inventory names the blob; the archive is completed without it.
`exporter.distributed.part_directory` fetches some of the volumes, and leaves them unfinished then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from common.archive.naming import BlobNames
from common.archive.volume import REPORT_NAME
from common.content import Written, in_memory
from common.errors import UsageError
from common.oci.reference import Reference
from common.progress import step
from common.registry.source_sink import RegistrySource
from common.text import counted
from common.transfer import copy, gone, is_host_failure
from exporter.archive.finished import Finished
from exporter.archive.writer import ArchiveWriter, VolumesWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from common.archive.inventory import Inventory
    from common.content import BlobSource, Chunks
    from common.errors import HubError
    from common.oci.image import Descriptor, Digest
    from common.progress import Progress
    from exporter.archive.archive_spec import ArchiveSpec
    from exporter.archive.early_reading import EarlyReading
    from exporter.context import ExportContext
    from exporter.plan.plan import ExportPlan
    from exporter.settings import Making


class PlannedSource:
    """The source of planned blobs: held in memory, read before, or in a registry."""

    def __init__(self, plan: ExportPlan, media: ExportContext) -> None:
        self._held = plan.held
        users = ((place, image.needed_by) for image in plan.images if (place := _repository(image.source)) is not None)
        self.names = BlobNames(lambda digest: plan.places.get(digest, ()), users)
        self._store = media.store
        self._registry = RegistrySource(media.client, plan.places)

    def read(self, blob: Descriptor, start: int = 0) -> Chunks:
        """Give the content of a planned blob from byte `start` on."""
        # Blobs that exist in no registry, such as the layers of a trimmed catalog.
        held = self._held.get(blob.digest)
        if held is not None:
            return in_memory(held, start)
        # Layers of catalogs were read for planning, and are kept until the archive is made.
        medium: BlobSource = self._store if self._store.has(blob) else self._registry
        return medium.read(blob, start)


def _repository(source: str) -> Reference | None:
    """Return the repository of a source; None for a catalog in a directory."""
    try:
        return Reference.parse(source)
    except UsageError:
        return None


class Page(Protocol):
    """The report next to an archive."""

    @property
    def room(self) -> int:
        """Bytes that it needs on disk, approximately."""
        ...

    def render(self, inventory: Inventory, checksums: Mapping[str, str]) -> bytes:
        """Return the page for an inventory and the checksums of the archive's files by name."""
        ...


def fetch(
    spec: ArchiveSpec, making: Making, media: ExportContext, report: Page, reading: EarlyReading | None = None
) -> Finished:
    """Make an archive, with its report. `reading`: that of what an interrupted export left in the output directory.

    Raises UsageError (another archive is there, volumes too small), SpaceError, and what the media raise for all blobs.
    """
    share = spec.terms.parity
    source = PlannedSource(spec.plan, media)
    with ArchiveWriter(
        making.output, spec.layout, progress=media.progress, share=share, beside=report.room, reading=reading
    ) as writer:
        lost = copy_blobs(
            [blob.descriptor for blob in spec.plan.blobs],
            source,
            writer,
            jobs=making.jobs,
            progress=media.progress,
            on_missing=writer.mark_missing,
            names=source.names.name,
        )
        closing = spec.closing(lost, making.sign)
        writer.finish(closing, further=lambda sums: {REPORT_NAME: report.render(closing.inventory, sums)})
    return Finished(closing.inventory, closing.identity)


def copy_blobs(
    blobs: Sequence[Descriptor],
    source: BlobSource,
    writer: VolumesWriter,
    *,
    jobs: int,
    progress: Progress,
    on_missing: Callable[[Digest], None],
    what: str = "fetching",
    names: Callable[[Digest], str] = lambda _digest: "",
) -> dict[Digest, HubError]:
    """Copy blobs; return those that could not be read, with the reason, after `on_missing` was called for each.

    Raises RegistryUnreachableError where hosts that are out gave none of the blobs that were left: the next run continues. An
    archive that is finished without them would have to be made again, for an outage.
    """
    lost: dict[Digest, HubError] = {}
    copied = 0
    with step(progress, f"{what} {counted(len(blobs), 'blob')}", sum(blob.size for blob in blobs), kept=True):
        # One missing blob never ends the export; a registry that is gone does, in `copy`. So do eight in a row of one
        # repository, unlike in a push: a run that ends is continued, an archive that was finished without them is made again.
        for outcome in copy(blobs, source, writer, jobs=jobs, progress=progress, names=names):
            if outcome.error is not None:
                lost[outcome.blob.digest] = outcome.error
                on_missing(outcome.blob.digest)
            copied += outcome.written is Written.COPIED
    if lost and not copied and all(map(is_host_failure, lost.values())):
        raise gone(next(iter(lost.values())), f"none of {counted(len(lost), 'blob')} could be fetched")
    return lost
