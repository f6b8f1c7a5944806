"""What one export is told, frozen and with units; `cli.py` makes it, everything else only reads it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from common.distribution import TOOL

if TYPE_CHECKING:
    from collections.abc import Callable

    from common.archive.location import Place
    from common.archive.rerequest import ReRequest
    from common.archive.signature import Signer, Verifier
    from common.oci.image import Platform
    from common.oci.reference import Reference
    from common.registry.settings import RegistrySettings
    from common.target_profile import TargetProfile
    from exporter.imageset.model import ImageSet


FAT32_BYTES = 4 * 1024**3 - 1
NAMED_SIZES = {"fat32": FAT32_BYTES, "dvd": 4_700_000_000, "bd25": 25_000_000_000}


class SignaturePolicy(StrEnum):
    """What becomes of signatures and attachments of images."""

    REQUIRE = "require"  # an image without one stops the export before the first layer
    CARRY = "carry"  # those that are there come along
    IGNORE = "ignore"  # nobody looks for them


@dataclass(frozen=True, slots=True)
class Terms:
    """What of an archive comes from neither catalog nor registry, fixed with its plan: every part is made on the same terms.

    `created` is RFC 3339 in UTC, `image_set` as it was read, `tool` what planned, `volume_size` in bytes, `parity` as a part.
    """

    created: str
    image_set: dict[str, Any]
    tool: str = TOOL
    volume_size: int = FAT32_BYTES
    parity: Fraction = Fraction(0)


@dataclass(frozen=True, slots=True)
class Making:
    """Who makes an archive of a plan: where, with how many transfers at the same time, signed by whom."""

    output: Path
    jobs: int = 6
    signer: Signer | None = None

    @property
    def sign(self) -> Callable[[bytes], bytes] | None:
        """What signs a file."""
        return self.signer.sign if self.signer else None


@dataclass(frozen=True, slots=True)
class ExportSettings:
    """One export. `created` is RFC 3339 in UTC and comes from SOURCE_DATE_EPOCH where that is set.

    `since` and `receipts`: archives and receipts whose blobs are left out; `only`: heal an archive instead of making one;
    `images`: the sources that alone are carried;
    `release`: the OpenShift release that the catalogs are for; `catalog_format`: what catalogs become, None: what they are;
    `parity`: redundancy beside each volume, as a part of its size; `target`: what the other side said of itself.
    """

    image_set: ImageSet
    registry: RegistrySettings
    created: str
    platforms: tuple[Platform, ...] = ()
    catalog_base: Reference | None = None
    volume_size: int = FAT32_BYTES
    output: Path = Path("archive")
    jobs: int = 6
    strict: bool = False
    signatures: SignaturePolicy = SignaturePolicy.CARRY
    signer: Signer | None = None
    since: tuple[Place, ...] = ()
    receipts: tuple[Path, ...] = ()
    receipt_key: Verifier | None = None
    only: ReRequest | None = None
    release: tuple[int, int] | None = None
    images: frozenset[str] | None = None
    catalog_format: Literal["file-based", "sqlite"] | None = None
    parity: Fraction = Fraction(0)
    target: TargetProfile | None = None

    @property
    def terms(self) -> Terms:
        """What of this the archive itself shows."""
        return Terms(self.created, self.image_set.as_read, TOOL, self.volume_size, self.parity)

    @property
    def making(self) -> Making:
        """What of this is for whoever makes it."""
        return Making(self.output, self.jobs, self.signer)
