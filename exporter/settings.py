"""What one export is told, frozen and with units; `cli.py` makes it, everything else only reads it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from common.oci.platform import Platform
from common.reference import Reference
from common.registry.settings import RegistrySettings
from exporter.imageset import ImageSet

FAT32_BYTES = 4 * 1024**3 - 1
NAMED_SIZES = {"fat32": FAT32_BYTES, "dvd": 4_700_000_000, "bd25": 25_000_000_000}


@dataclass(frozen=True, slots=True)
class ExportSettings:
    """One export. `created` is RFC 3339 in UTC and comes from SOURCE_DATE_EPOCH where that is set."""

    image_set: ImageSet
    registry: RegistrySettings
    created: str
    platforms: tuple[Platform, ...] = ()
    catalog_base: Reference | None = None
    volume_size: int = FAT32_BYTES
    output: Path = Path("archive")
    jobs: int = 6
    strict: bool = False
