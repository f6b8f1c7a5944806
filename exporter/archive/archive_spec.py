"""Specification of an archive, to the byte: a plan and its terms, and from these layout, inventory and closing bytes.

A blob that could not be fetched is missing, an image that needs it is not complete, and a problem names both. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from msgspec import UNSET
from msgspec.structs import replace as replaced

from common.archive import metadata, parity
from common.archive.inventory import (
    ATTACHED,
    MEDIA_TYPE,
    BlobRecord,
    ImageRecord,
    Inventory,
    Problem,
    ProblemCode,
    UpdateGraphRecord,
    VolumeRecord,
)
from common.archive.layout import Layout, plan_layout
from common.archive.metadata import index_json
from common.text import counted
from exporter.archive import volume_writer
from exporter.archive.volume_writer import Closing, Sign

if TYPE_CHECKING:
    from collections.abc import Container, Mapping, Sequence

    from common.errors import HubError
    from common.oci.image import Digest
    from exporter.plan.plan import ExportPlan
    from exporter.settings import ArchiveTerms


MAX_PROBLEM_TEXT = 400  # characters of a registry's message in a problem
_NAMED = 3  # bundles that a problem names


@dataclass(frozen=True)
class ArchiveSpec:
    """Plan and terms, which determine every byte of an archive except the content of blobs.

    Processes that make parts of one archive have equal specs.
    """

    plan: ExportPlan
    terms: ArchiveTerms

    @cached_property
    def layout(self) -> Layout:
        """The place of every blob; a volume and its parity fit the volume size. Raises UsageError when that is too small."""
        planned = self._inventory(self.plan.blob_records(), (), {})
        # The inventory comes last, but its room is reserved first: the bound holds for any number of missing blobs.
        bound = metadata.bound(planned, index_json(planned.images, planned.manifests))
        return plan_layout(self.plan.blobs, bound, parity.room(self.terms.volume_size, self.terms.parity))

    def room(self, beside: int) -> int:
        """Return the bytes on disk that the archive needs at most; `beside`: those of the report."""
        return volume_writer.room(self.layout.volumes, self.layout.reserve, self.terms.parity, beside)

    @property
    def planned_inventory(self) -> Inventory:
        """The inventory as it would be if everything could be fetched; blobs have no pieces."""
        return self._inventory(self.plan.blob_records(), self.layout.volumes, {})

    def problems(self, lost: Mapping[Digest, HubError]) -> tuple[Problem, ...]:
        """Return a problem for each image that needs one of the blobs `lost`, which could not be fetched."""
        return metadata.within_room(_problems(_damaged(self.plan, lost), lost))

    def inventory(self, lost: Mapping[Digest, HubError]) -> Inventory:
        """Return the inventory of an archive without the blobs `lost`."""
        blobs = self.layout.blob_records()
        blobs.update(self.plan.elsewhere)  # blobs of an increment that an earlier archive carries
        blobs.update({digest: _missing(blobs[digest]) for digest in lost})
        return self._inventory(blobs, self.layout.volumes, lost)

    def closing(self, lost: Mapping[Digest, HubError], sign: Sign | None) -> Closing:
        """Return the bytes that close the archive, without the blobs `lost`."""
        inventory = self.inventory(lost)
        return Closing(inventory, self.plan.documents, index_json(inventory.images, inventory.manifests), sign)

    def _inventory(
        self, blobs: dict[Digest, BlobRecord], volumes: tuple[VolumeRecord, ...], lost: Mapping[Digest, HubError]
    ) -> Inventory:
        damaged = _damaged(self.plan, lost)
        return Inventory(
            media_type=MEDIA_TYPE,
            created=self.terms.created,
            tool=self.terms.tool,
            image_set=self.terms.image_set,
            requires=self.plan.requires,
            catalogs=self.plan.catalogs,
            images=tuple(_settled(image, damaged) for image in self.plan.images),
            manifests=dict(self.plan.manifests),
            blobs=blobs,
            volumes=volumes,
            # Texts of registries are cut to the reserved room: a long message must not break the layout.
            problems=(*self.plan.problems, *metadata.within_room(_problems(damaged, lost))),
            releases=self.plan.releases or UNSET,
            update_graph=self.plan.update_graph if self.plan.update_graph != UpdateGraphRecord() else UNSET,
            requested_by=self.terms.requested_by or UNSET,
            purpose=self.terms.purpose or UNSET,
            name=self.terms.name or UNSET,
            bases=dict(self.plan.bases) or UNSET,
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
    """Return a problem for each image without a blob, naming the bundles that need it."""
    found = []
    for source, (image, gone) in damaged.items():
        hurt = f"; needed by {', '.join(image.needed_by[:_NAMED])}" if image.needed_by else ""
        note = f"; {counted(len(gone), 'blob')} of it missing{hurt}"
        text = lost[gone[0]].about(source, note)[:MAX_PROBLEM_TEXT]
        # An image without its signature or SBOM still runs, so that is a warning.
        severity: Literal["error", "warning"] = "warning" if image.kind in ATTACHED else "error"
        found.append(Problem(severity, ProblemCode.BLOB_UNAVAILABLE, source, text))
    return found
