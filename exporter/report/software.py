"""Software and licences on the report page: read back from the volumes, by the SBOMs that they carry."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from common.archive.discover import just_made
from common.archive.naming import short
from common.archive.reader import ArchiveReader
from common.progress import Silent
from common.sbom.find import may_carry
from common.sbom.software import Selection, software
from common.text import enumeration, sanitize

if TYPE_CHECKING:
    from common.archive.inventory import Inventory, Problem
    from common.archive.location import Place
    from common.oci.image import Digest
    from common.sbom.software import ImageSoftware, LicenceCount, Software

# A second of CPU for 100 MiB: an export must not wait for its page. The command `sbom` reads all.
MAX_READ = 128 * 1024 * 1024  # bytes of SBOMs
MAX_LARGEST = 16 * 1024 * 1024  # bytes of one, which takes several times as much memory
MAX_ROWS = 3_000  # packages on the page: about 300 bytes each
MAX_LICENCES = 300
_LISTED = 200  # images without an SBOM, and problems
_NAME, _VERSION, _LICENCE = 80, 40, 100  # characters
_IMAGES = 2
_PRINTED = 60  # licences


@dataclass(frozen=True, slots=True)
class Row:
    """A package on the page."""

    name: str
    version: str
    kind: str
    licence: str
    images: str


@dataclass(frozen=True, slots=True)
class ShownSoftware:
    """The section of the page; `packages`, `all_licences`: how many there are, of which `rows` and `licences` are shown."""

    images: int
    read: int
    packages: int
    rows: tuple[Row, ...]
    licences: tuple[LicenceCount, ...]
    all_licences: int
    without: tuple[str, ...]
    all_without: int
    unread: int
    problems: tuple[Problem, ...]
    all_problems: int

    @property
    def printed(self) -> tuple[LicenceCount, ...]:
        """The licences that are printed, in one paragraph: an archive of seven operators fits on eight pages."""
        return self.licences[:_PRINTED]


def shown_software(place: Place, inventory: Inventory, digest: Digest) -> ShownSoftware | None:
    """Read the SBOMs of an archive whose volumes are closed in `place`; None where it carries none.

    Raises MediumGoneError, StorageError.
    """
    if not inventory.volumes or not may_carry(inventory):
        return None
    reader = ArchiveReader(just_made(place, inventory, digest))
    found = software(reader, Selection(size=MAX_READ, largest=MAX_LARGEST), Silent())
    return _shown(found) if any(image.sboms for image in found.images) or found.problems else None


def _shown(found: Software) -> ShownSoftware:
    licences = found.licences()
    without = [f"{_name(image)} {short(image.digest)}" for image in found.images if image.state == "none"]
    return ShownSoftware(
        images=len(found.images),
        read=found.count("read"),
        packages=len(found.packages),
        rows=tuple(
            Row(
                sanitize(package.name, _NAME),
                sanitize(package.version, _VERSION),
                package.kind,
                sanitize(package.licence, _LICENCE),
                enumeration(list(dict.fromkeys(_name(found.images[number]) for number in numbers)), _IMAGES),
            )
            for package, numbers in found.ordered()[:MAX_ROWS]
        ),
        licences=tuple(replace(one, licence=sanitize(one.licence, _LICENCE)) for one in licences[:MAX_LICENCES]),
        all_licences=len(licences),
        without=tuple(without[:_LISTED]),
        all_without=len(without),
        unread=found.unread,
        problems=tuple(found.problems[:_LISTED]),
        all_problems=len(found.problems),
    )


def _name(image: ImageSoftware) -> str:
    """Return the name of an image without registry and digest."""
    return image.records[0].source.partition("@")[0].partition("/")[2]
