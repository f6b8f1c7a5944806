"""The settings of an export, immutable and with units. Made by the command line."""

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


FAT32_BYTES = 4 * 1024**3 - 1  # the largest file on FAT32, whose sizes are 32-bit numbers
# DVD-R and BD-R hold a little more (4.707 and 25.025 GB); the rest is for the file system.
NAMED_SIZES = {"fat32": FAT32_BYTES, "dvd": 4_700_000_000, "bd25": 25_000_000_000}


class SignaturePolicy(StrEnum):
    """The policy for signatures and attachments of images."""

    REQUIRE = "require"  # an image without one stops the export before the first layer
    CARRY = "carry"  # those that exist are carried
    IGNORE = "ignore"  # none are looked up


@dataclass(frozen=True, slots=True)
class ArchiveTerms:
    """The values of an archive that come from neither catalog nor registry. Fixed in the plan, so all parts have the same.

    `created` is RFC 3339 in UTC, `image_set` as read, `tool` the version that planned, `volume_size` in bytes, `parity` the
    redundancy as a fraction of a volume; `requested_by` and `purpose` are texts for the person who approves the transfer,
    `name` is that of the archive.
    """

    created: str
    image_set: dict[str, Any]
    tool: str = TOOL  # with its version, so that a part made by another one is refused
    volume_size: int = FAT32_BYTES
    parity: Fraction = Fraction(0)
    requested_by: str = ""
    purpose: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Making:
    """The settings of carrying out a plan: output directory, number of parallel transfers, signer."""

    output: Path
    jobs: int = 6
    signer: Signer | None = None

    @property
    def sign(self) -> Callable[[bytes], bytes] | None:
        """The function that signs a file; None without a signer."""
        return self.signer.sign if self.signer else None


@dataclass(frozen=True, slots=True)
class ReleaseSettings:
    """From where OpenShift releases are described, and who may sign them. What is empty is that of the product.

    `unverified`: versions or digests that are carried without a verified signature; `graph_data`: a URL or a file;
    `graph_base`: the image that the graph-data image is built on, None for the `cli` of a release.
    """

    update_service: str | None = None
    graph_files: tuple[Path, ...] = ()
    signature_stores: tuple[str, ...] = ()
    keys: tuple[Path, ...] = ()
    unverified: frozenset[str] = frozenset()
    graph_data: str | None = None
    graph_base: Reference | None = None


_NO_SETTINGS = ReleaseSettings()


@dataclass(frozen=True, slots=True)
class ExportSettings:
    """One export. `created` is RFC 3339 in UTC and comes from SOURCE_DATE_EPOCH where that is set.

    `since` and `receipts`: archives and receipts whose blobs are left out; `only`: make the archive of a re-request;
    `images`: the sources to carry, None for all; `release`: the OpenShift release of the cluster; `catalog_format`: the format
    of rebuilt catalogs, None for that of the source; `parity`: redundancy next to each volume, as a fraction of its size;
    `target`: the profile that the other side made of its cluster and registry; `installed`: carry what it has installed.
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
    installed: bool = False
    releases: ReleaseSettings = _NO_SETTINGS
    requested_by: str = ""
    purpose: str = ""
    name: str = ""

    @property
    def terms(self) -> ArchiveTerms:
        """The settings that are part of the archive."""
        form = (self.volume_size, self.parity, self.requested_by, self.purpose, self.name)
        return ArchiveTerms(self.created, self.image_set.as_read, TOOL, *form)

    @property
    def making(self) -> Making:
        """The settings of carrying out the plan."""
        return Making(self.output, self.jobs, self.signer)
