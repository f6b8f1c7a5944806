"""From an archive, and the files that people give, to the files of `render`. Contacts nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from importer.configure.files.earlier import NONE, read_earlier
from importer.configure.files.hosted import read_hosted_cluster
from importer.configure.files.install import install_files
from importer.configure.files.render import render_archive
from importer.configure.files.subscriptions import NO_SUBSCRIPTIONS, Subscriptions

if TYPE_CHECKING:
    from pathlib import Path

    from common.archive.reader import Archive
    from importer.cluster.release import Release
    from importer.cluster.resources.build import Built, ResourceOptions
    from importer.settings import ImportSettings


def render_files(
    archive: Archive,
    settings: ImportSettings,
    release: Release | None,
    options: ResourceOptions,
    *,
    merged: Path | None = None,
    hosted: Path | None = None,
    updates_from: str = "",
    subscriptions: Subscriptions = NO_SUBSCRIPTIONS,
) -> tuple[dict[str, bytes], Built]:
    """Return the files for the cluster, and the resources in them.

    What an earlier render in `merged` has is kept; `hosted` has the HostedCluster of a guest; `updates_from` is the address
    that an UpdateService reports; `subscriptions` are operators to install. Raises UsageError.
    """
    known = read_hosted_cluster(hosted) if hosted is not None else None
    earlier = read_earlier(merged) if merged is not None else NONE
    mirror, insecure = settings.mirror, settings.mirror.host in settings.registry.insecure
    return render_archive(
        archive.inventory,
        mirror,
        release,
        options,
        earlier,
        insecure=insecure,
        hosted=known,
        updates_from=updates_from,
        subscriptions=subscriptions,
    )


def render_installation(
    archive: Archive, settings: ImportSettings, options: ResourceOptions, *, version: str | None, expected: Release | None
) -> tuple[dict[str, bytes], Built]:
    """Return the files for an installation of a carried release, and the objects in them; see `install_files`."""
    mirror, insecure = settings.mirror, settings.mirror.host in settings.registry.insecure
    return install_files(archive.inventory, mirror, options, version=version, expected=expected, insecure=insecure)
