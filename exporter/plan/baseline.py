"""The baseline of an incremental archive: blobs that the mirror has, or gets from earlier archives.

A blob counts only for the repositories that it was carried for (ADR 0011).
"""

from __future__ import annotations

from collections import defaultdict
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
from exporter.plan import diff

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from common.archive.location import Place
    from common.archive.receipt import Receipt
    from common.oci.image import Digest
    from exporter.plan.plan import ExportPlan


@dataclass(slots=True)
class Delivered:
    """Blobs by repository, each with the inventory or receipt that says so; of several, the first that was added.

    `last`: the newest archive, as far as `diff.between` reads it.
    """

    # By repository, since a registry finds a blob only there, or mounts it from one that is known to have it (distribution-spec
    # 1.1, *Mounting a blob from another repository*). A blob in an unknown repository would be missing for good.
    _holders: defaultdict[str, dict[Digest, Digest]] = field(default_factory=lambda: defaultdict(dict))
    _inventories: set[Digest] = field(default_factory=set)
    _described: dict[Digest, BaseRecord] = field(default_factory=dict)
    last: Inventory | None = None

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
        if self.last is None or inventory.created > self.last.created:
            self.last = diff.compared(inventory)
        self._describe(inventory.known_bases)
        self._described[digest] = BaseRecord(inventory.created[:MAX_CREATED], inventory.name or "")
        fixed = fixed_paths(inventory.carried_releases)
        lacking = lacking_images(inventory)  # the payload of a release that lacks images is not pushed
        for image in inventory.images:
            if image.complete and image.source not in lacking:
                held = self._holders[repository_of(image, fixed)]
                for blob in blobs_of(inventory, image.digest):
                    record = inventory.blobs[blob]
                    if record.missing is None:  # a blob that the archive names without having it
                        held.setdefault(blob, record.in_ or digest)

    def add_receipt(self, digest: Digest, receipt: Receipt) -> None:
        """Add the blobs that a receipt confirms to be in the mirror."""
        for repository, blobs in receipt.repositories.items():
            for blob in blobs:
                self._holders[repository].setdefault(blob, digest)
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

    def within(self, repository: str) -> Mapping[Digest, Digest]:
        """Return the blobs of a repository, each with the inventory or receipt that has it."""
        return self._holders.get(repository, {})

    def required(self, holders: Iterable[Digest]) -> tuple[Digest, ...]:
        """Return the inventories among holders: the archives that must be imported first."""
        return tuple(sorted(set(holders) & self._inventories))


def leave_out(plan: ExportPlan, delivered: Delivered) -> ExportPlan:
    """Return the plan without the delivered blobs, with the holder of each."""
    found = _holders(plan, delivered)
    elsewhere = {
        blob.descriptor.digest: BlobRecord(blob.descriptor.size, blob.descriptor.media_type, in_=holder)
        for blob in plan.blobs
        if (holder := found.get(blob.descriptor.digest))
    }
    holders = set(found.values())
    return left_to(plan, elsewhere, delivered.required(holders), delivered.bases(holders))


def left_to(
    plan: ExportPlan, elsewhere: dict[Digest, BlobRecord], requires: Sequence[Digest], bases: Mapping[Digest, BaseRecord]
) -> ExportPlan:
    """Return the plan without the blobs in `elsewhere`; `bases` describes their holders."""
    kept = tuple(blob for blob in plan.blobs if blob.descriptor.digest not in elsewhere)
    return replace(plan, blobs=kept, elsewhere=elsewhere, requires=tuple(requires), bases=bases)


def _holders(plan: ExportPlan, delivered: Delivered) -> dict[Digest, Digest]:
    """Return the holder of each delivered blob: for the first repository, in alphabetical order, that needs it and has it."""
    # One repository is enough: the import mounts the blob into the others.
    found: dict[Digest, Digest] = {}
    fixed = fixed_paths(plan.releases)
    named = ((repository_of(image, fixed), image.digest) for image in plan.images if image.digest in plan.documents)
    for repository, digest in sorted((name, digest) for name, digest in named if digest is not None):
        held = delivered.within(repository)
        for blob in plan.needs(digest) if held else ():
            if blob in held:
                found.setdefault(blob, held[blob])
    return found
