"""The archives that a mirror remembers, for people and for JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from common.mapping import Mirror
from common.oci.image import Digest, hex_of
from common.registry.client import RegistryClient
from common.text import counted
from importer.records.store import RecordStore

if TYPE_CHECKING:
    from common.registry.settings import RegistrySettings
    from importer.records.document import Record


_SHORT = 12  # digits of a digest in a table, as container engines show them


class RememberedCatalog(msgspec.Struct, frozen=True, rename="camel"):
    """A catalog of an archive, and its packages."""

    name: str
    image: Digest
    packages: tuple[str, ...]


class RememberedArchive(msgspec.Struct, frozen=True, rename="camel"):
    """An archive that a mirror remembers. `pruned`: when a part of it was deleted; empty where all of it is kept."""

    digest: Digest
    name: str | None
    created: str
    pushed: str
    catalogs: tuple[RememberedCatalog, ...]
    releases: tuple[str, ...]
    images: int
    requires: tuple[Digest, ...]
    pruned: str = ""

    @property
    def short(self) -> str:
        """The first digits of its digest, with a mark where a part of it was deleted."""
        return f"{hex_of(self.digest)[:_SHORT]}{' (pruned)' if self.pruned else ''}"

    @property
    def content(self) -> list[str]:
        """Its operators and releases, in a few words; of images alone their number."""
        operators = [f"{catalog.name}/{name}" for catalog in self.catalogs for name in catalog.packages]
        return [*(f"OpenShift {release}" for release in self.releases), *operators] or [counted(self.images, "image")]


class Remembered(msgspec.Struct, frozen=True):
    """The archives of a mirror, the newest first, and why some records cannot be used, by their tag.

    `repository`: where the records are.
    """

    mirror: str
    repository: str
    archives: tuple[RememberedArchive, ...]
    unusable: dict[str, str]


def remembered(mirror: str, settings: RegistrySettings) -> Remembered:
    """Return the archives that a mirror remembers. Raises UsageError, RegistryError."""
    place = Mirror.parse(mirror)
    with RegistryClient(settings) as client:
        client.ping(mirror, may_be_closed=True)
        store = RecordStore(client, place)
        # One at a time: the inventories of a year of large archives would not fit into memory.
        found = [_summary(record) for record in store.records()]
    archives = tuple(sorted(found, key=lambda one: (one.created, one.digest), reverse=True))
    return Remembered(str(place), store.repository.name, archives, store.unusable)


def _summary(record: Record) -> RememberedArchive:
    inventory = record.inventory
    catalogs = tuple(
        RememberedCatalog(catalog.name, catalog.image, tuple(package.name for package in catalog.packages))
        for catalog in inventory.catalogs
    )
    releases = tuple(f"{one.version} ({one.architecture})" for one in inventory.carried_releases)
    return RememberedArchive(
        record.digest,
        inventory.name or None,
        inventory.created,
        record.head.pushed,
        catalogs,
        releases,
        len(inventory.images),
        inventory.requires,
        record.head.pruned,
    )
