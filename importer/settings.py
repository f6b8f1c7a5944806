"""The settings of an import, frozen and with units; made by the command line, read by everything else."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from importer.cluster.resources.build import ResourceOptions

if TYPE_CHECKING:
    from pathlib import Path

    from common.registry.settings import RegistrySettings
    from importer.cluster.release import Release
    from importer.mapping import Mirror


# A pool of dozens of nodes that drains and reboots one after the other needs most of an hour; see --timeout.
TIMEOUT_S = 45 * 60.0


@dataclass(frozen=True, slots=True)
class ImportSettings:
    """The mirror registry, and how to push to it."""

    mirror: Mirror
    registry: RegistrySettings
    jobs: int = 6  # the registry client starts with as many requests to a host, and adapts (docs/reference/registry.md)
    strict: bool = False  # `done, with problems` is a failure: exit status 1 instead of 3
    heal: bool = False
    """Whether to check every blob, also of images whose tags are right."""
    volumes: range | None = None
    """The volumes, counted from 1, of this process's part of a push; None: all (ADR 0022)."""


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """The cluster, its new configuration, and how far to go. `release` None: that of ClusterVersion.

    `authfile`: credentials for the nodes to pull from the mirror with, merged into the global pull secret; never those that
    were used to push. `allowed_orphans`: operators whose Subscriptions may lose their CatalogSource.
    `allowed_stranded`: operators that the catalogs need not update. `repoint`: Subscriptions that lose their CatalogSource name
    that of a catalog with their package.
    `installs`: the operators that an archive lists for installation are installed.
    `update_service`: ClusterVersion is to ask the UpdateService; `acknowledged`: names of what has to be, before an update.
    `replace_credential`: the pull secret's credential for the whole registry may be replaced.
    `pull_test`: pods are to prove that the nodes can pull.
    """

    kubeconfig: Path | None = None
    context: str | None = None
    authfile: Path | None = None
    resources: ResourceOptions = field(default_factory=ResourceOptions)
    release: Release | None = None
    replace_credential: bool = False
    allowed_orphans: tuple[str, ...] = ()
    allowed_stranded: tuple[str, ...] = ()
    repoint: bool = False
    installs: bool = True
    update_service: bool = False
    acknowledged: tuple[str, ...] = ()
    pull_test: bool = False
    dry_run: bool = False
    timeout_s: float = TIMEOUT_S
