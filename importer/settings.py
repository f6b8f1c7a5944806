"""What one import is told, frozen and with units; `cli.py` makes it, everything else only reads it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from importer.cluster.resources.build import ResourceOptions

if TYPE_CHECKING:
    from pathlib import Path

    from common.registry.settings import RegistrySettings
    from importer.cluster.release import Release
    from importer.mapping import Mirror

TIMEOUT_S = 45 * 60.0


@dataclass(frozen=True, slots=True)
class ImportSettings:
    """Where the archive lies and where its content goes."""

    mirror: Mirror
    registry: RegistrySettings
    jobs: int = 6
    strict: bool = False
    heal: bool = False
    """Whether to ask for every blob, also of images that are there."""
    volumes: range | None = None
    """The volumes, counted from 1, of this process's shard of a push; None: all of it."""


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """Which cluster, what it shall be told, and how far to go. `release` None: what the cluster says of itself.

    `authfile`: credentials for the nodes to pull from the mirror with, merged into the global pull secret; never those that
    were used to push. `allowed_orphans`: operators whose Subscriptions may lose their CatalogSource.
    `replace_credential`: the pull secret's credential for the whole registry may be replaced.
    """

    kubeconfig: Path | None = None
    context: str | None = None
    authfile: Path | None = None
    resources: ResourceOptions = field(default_factory=ResourceOptions)
    release: Release | None = None
    replace_credential: bool = False
    allowed_orphans: tuple[str, ...] = ()
    dry_run: bool = False
    timeout_s: float = TIMEOUT_S
