"""The baseline of an incremental archive: blobs that the mirror has, or gets from earlier archives.

A blob counts only for the repositories that it was carried for (ADR 0011).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from common.archive.discover import find
from common.archive.inventory import (
    MAX_CREATED,
    BaseRecord,
    BlobRecord,
    Inventory,
    blobs_of,
    lacking_images,
    repository_of,
    require_bounded_images,
)
from common.mapping import fixed_paths

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from common.archive.location import Place
    from common.archive.receipt import Receipt
    from common.oci.image import Digest
    from exporter.plan.plan import ExportPlan


@dataclass(slots=True)
class Delivered:
    """Blobs by repository, each with the inventory or receipt that says so; of several, the first that was added."""

    # By repository, since a registry finds a blob only there, or mounts it from one that is known to have it (distribution-spec
    # 1.1, *Mounting a blob from another repository*). A blob in an unknown repository would be missing for good.
    _holders: dict[tuple[str, Digest], Digest] = field(default_factory=dict)
    _inventories: set[Digest] = field(default_factory=set)
    _described: dict[Digest, BaseRecord] = field(default_factory=dict)

    @classmethod
    def of_archives(cls, places: Iterable[Place]) -> Delivered:
        """Read the blobs of archives, or of inventories alone. Raises the errors of opening an archive."""
        made = cls()
        for place in places:
            found = find([place])
            made.add_inventory(found.digest, found.inventory)
        return made

    def add_inventory(self, digest: Digest, inventory: Inventory) -> None:
        """Add the blobs of an archive and those that it leaves to earlier ones, of images that are pushed only.

        Raises ArchiveDamagedError for images that share too much.
        """
        # Archives are imported in order, so those that this one requires come before it.
        require_bounded_images(inventory)
        self._inventories |= {digest, *inventory.requires}
        self._describe(inventory.known_bases)
        self._described[digest] = BaseRecord(inventory.created[:MAX_CREATED], inventory.name or "")
        fixed = fixed_paths(inventory.carried_releases)
        lacking = lacking_images(inventory)  # the payload of a release that lacks images is not pushed
        for image in inventory.images:
            if image.complete and image.source not in lacking:
                for blob in blobs_of(inventory, image.digest):
                    record = inventory.blobs[blob]
                    if record.missing is None:  # a blob that the archive names without having it
                        self._holders.setdefault((repository_of(image, fixed), blob), record.in_ or digest)

    def add_receipt(self, digest: Digest, receipt: Receipt) -> None:
        """Add the blobs that a receipt confirms to be in the mirror."""
        for repository, blobs in receipt.repositories.items():
            for blob in blobs:
                self._holders.setdefault((repository, blob), digest)
        self._describe(receipt.archives)
        self._described[digest] = BaseRecord(confirms=receipt.inventories)

    def _describe(self, bases: Mapping[Digest, BaseRecord]) -> None:
        # An archive describes itself; of those that it requires the first description is kept.
        for digest, base in bases.items():
            self._described.setdefault(digest, base)

    def bases(self, holders: Iterable[Digest]) -> dict[Digest, BaseRecord]:
        """Return the description of each holder that has one, and of the archives that receipts among them confirm."""
        own = {digest: self._described[digest] for digest in holders if digest in self._described}
        confirmed = {digest for base in own.values() for digest in base.confirms or () if digest in self._described}
        return dict(sorted((own | {digest: self._described[digest] for digest in confirmed}).items()))

    def holder(self, blob: Digest, repositories: Iterable[str]) -> Digest | None:
        """Return the inventory or receipt that has a blob for any of the repositories."""
        return next((found for name in repositories if (found := self._holders.get((name, blob)))), None)

    def required(self, holders: Iterable[Digest]) -> tuple[Digest, ...]:
        """Return the inventories among holders: the archives that must be imported first."""
        return tuple(sorted(set(holders) & self._inventories))


def leave_out(plan: ExportPlan, delivered: Delivered) -> ExportPlan:
    """Return the plan without the delivered blobs, with the holder of each."""
    repositories = _repositories(plan)
    elsewhere: dict[Digest, BlobRecord] = {}
    for blob in plan.blobs:
        digest, size, media_type = blob.descriptor.digest, blob.descriptor.size, blob.descriptor.media_type
        holder = delivered.holder(digest, repositories.get(digest, ()))
        # One repository is enough: the import mounts the blob into the others.
        if holder is not None:
            elsewhere[digest] = BlobRecord(size, media_type, in_=holder)
    holders = {record.in_ for record in elsewhere.values() if record.in_}
    return left_to(plan, elsewhere, delivered.required(holders), delivered.bases(holders))


def left_to(
    plan: ExportPlan, elsewhere: dict[Digest, BlobRecord], requires: Sequence[Digest], bases: Mapping[Digest, BaseRecord]
) -> ExportPlan:
    """Return the plan without the blobs in `elsewhere`; `bases` describes their holders."""
    kept = tuple(blob for blob in plan.blobs if blob.descriptor.digest not in elsewhere)
    return replace(plan, blobs=kept, elsewhere=elsewhere, requires=tuple(requires), bases=bases)


def _repositories(plan: ExportPlan) -> dict[Digest, list[str]]:
    """Return for each blob the repositories that the images of the plan need it in, sorted."""
    found: dict[Digest, set[str]] = {}
    fixed = fixed_paths(plan.releases)
    for image in plan.images:
        if image.digest is not None and image.digest in plan.documents:
            for blob in plan.needs(image.digest):
                found.setdefault(blob, set()).add(repository_of(image, fixed))
    return {blob: sorted(names) for blob, names in found.items()}
