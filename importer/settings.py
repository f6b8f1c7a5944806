"""What one import is told, frozen and with units; `cli.py` makes it, everything else only reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from common.registry.settings import RegistrySettings
from importer.mapping import Mirror

TIMEOUT_S = 45 * 60.0


@dataclass(frozen=True, slots=True)
class ImportSettings:
    """Where the archive lies and where its content goes."""

    mirror: Mirror
    registry: RegistrySettings
    jobs: int = 6
    strict: bool = False


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """Which cluster, what it shall be told, and how far to go. `catalog_names`: catalog → name of its CatalogSource."""

    kubeconfig: Path | None = None
    context: str | None = None
    authfile: Path | None = None
    catalog_names: Mapping[str, str] = field(default_factory=dict)
    mirror_scope: str = "repository"
    release: str | None = None
    ca: Path | None = None
    dry_run: bool = False
    timeout_s: float = TIMEOUT_S
