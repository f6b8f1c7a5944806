"""What the other side has already, or gets from earlier archives: blobs that a new archive may leave out.

A blob counts only for the repositories that it was carried for. A registry finds a blob in its repository or mounts it from
another that is known to have it; one that lies somewhere unknown would have to be brought again, and nobody could (ADR 0011).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from common.archive.discover import find
from common.archive.inventory import BlobRecord, Inventory, blobs_of, repository_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from common.archive.location import Place
    from common.archive.receipt import Receipt
    from common.oci.image import Digest
    from exporter.plan.plan import ExportPlan


@dataclass(slots=True)
class Delivered:
    """Blobs by repository, each with the inventory or receipt that says so; of several, the first that was added."""

    _holders: dict[tuple[str, Digest], Digest] = field(default_factory=dict)
    _inventories: set[Digest] = field(default_factory=set)

    @classmethod
    def of_archives(cls, places: Iterable[Place]) -> Delivered:
        """Read what archives, or inventories alone, carry. Raises what opening an archive raises."""
        made = cls()
        for place in places:
            found = find([place])
            made.add_inventory(found.digest, found.inventory)
        return made

    def add_inventory(self, digest: Digest, inventory: Inventory) -> None:
        """Count what an archive carries, and what it leaves to earlier ones; images that are not whole count nothing."""
        self._inventories |= {digest, *inventory.requires}
        for image in inventory.images:
            if image.complete:
                for blob in blobs_of(inventory, image.digest):
                    record = inventory.blobs[blob]
                    if record.missing is None:
                        self._holders.setdefault((repository_of(image), blob), record.in_ or digest)

    def add_receipt(self, digest: Digest, receipt: Receipt) -> None:
        """Count what a receipt confirms."""
        for repository, blobs in receipt.repositories.items():
            for blob in blobs:
                self._holders.setdefault((repository, blob), digest)

    def holder(self, blob: Digest, repositories: Iterable[str]) -> Digest | None:
        """Return who has a blob for any of the repositories."""
        return next((found for name in repositories if (found := self._holders.get((name, blob)))), None)

    def required(self, holders: Iterable[Digest]) -> tuple[Digest, ...]:
        """Return the inventories among holders: the archives that must come before."""
        return tuple(sorted(set(holders) & self._inventories))


def leave_out(plan: ExportPlan, delivered: Delivered) -> ExportPlan:
    """Return the plan without the blobs that were delivered; it names for each who has it."""
    repositories = _repositories(plan)
    elsewhere: dict[Digest, BlobRecord] = {}
    for blob in plan.blobs:
        digest, size, media_type = blob.descriptor.digest, blob.descriptor.size, blob.descriptor.media_type
        holder = delivered.holder(digest, repositories.get(digest, ()))
        if holder is not None:
            elsewhere[digest] = BlobRecord(size, media_type, in_=holder)
    return left_to(plan, elsewhere, delivered.required(record.in_ for record in elsewhere.values() if record.in_))


def left_to(plan: ExportPlan, elsewhere: dict[Digest, BlobRecord], requires: Sequence[Digest]) -> ExportPlan:
    """Return the plan without the blobs that lie `elsewhere`."""
    kept = tuple(blob for blob in plan.blobs if blob.descriptor.digest not in elsewhere)
    return replace(plan, blobs=kept, elsewhere=elsewhere, requires=tuple(requires))


def _repositories(plan: ExportPlan) -> dict[Digest, list[str]]:
    """Return for each blob the repositories that the images of the plan need it in, sorted."""
    found: dict[Digest, set[str]] = {}
    for image in plan.images:
        if image.digest is not None and image.digest in plan.documents:
            for blob in plan.needs(image.digest):
                found.setdefault(blob, set()).add(repository_of(image))
    return {blob: sorted(names) for blob, names in found.items()}
