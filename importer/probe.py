"""`hub-import probe`: what the other side has to know of this one. A part that cannot be seen does not stop the rest."""

from __future__ import annotations

from common.registry.client import RegistryClient
from common.target_profile import MEDIA_TYPE, InstalledOperator, TargetProfile, TargetRegistry
from importer import registry_probe
from importer.cluster import installed
from importer.cluster.client import ClusterClient, connect
from importer.cluster.discovery import running_version
from importer.cluster.refusals import ForbiddenError, UnavailableError
from importer.settings import ClusterSettings, ImportSettings
from importer.unseen import Unseen

_Site = tuple[str | None, tuple[str, ...] | None, tuple[InstalledOperator, ...] | None]


def probe(settings: ImportSettings, cluster: ClusterSettings) -> TargetProfile:
    """Return the profile of the cluster and of the mirror. Into the mirror it writes a few hundred bytes, and takes them away.

    Raises ClusterError when the cluster does not answer, or not to us, UsageError for a wrong kubeconfig.
    """
    with connect(cluster.kubeconfig, cluster.context) as client:
        unseen = Unseen(client.server)
        release, platforms, operators = _site(client, unseen)
    registry = _registry(settings, unseen)
    return TargetProfile(MEDIA_TYPE, release, platforms, operators, registry, tuple(unseen.notes))


def _site(client: ClusterClient, unseen: Unseen) -> _Site:
    """Look at the cluster. Where everything fails, and not for want of permission, there is no cluster to tell of."""
    release = unseen.seen("release", lambda: running_version(client))
    failed = unseen.errors[0] if unseen.errors else None
    if isinstance(failed, UnavailableError):
        raise failed
    platforms = unseen.seen("nodes", lambda: installed.platforms(client))
    operators = unseen.seen("installed operators", lambda: installed.operators(client, unseen))
    if failed and platforms is None and operators is None and not isinstance(failed, ForbiddenError):
        raise failed
    return release, platforms, operators


def _registry(settings: ImportSettings, unseen: Unseen) -> TargetRegistry:
    mirror = settings.mirror

    def ask() -> registry_probe.Accepts:
        with RegistryClient(settings.registry, pushes_to=frozenset({str(mirror)})) as client:
            client.ping(str(mirror))
            return registry_probe.ask(client, mirror.at(registry_probe.REPOSITORY), unseen)

    found = unseen.seen("mirror", ask) or registry_probe.Accepts()
    return TargetRegistry(str(mirror), found.nested_paths, found.sparse_indexes, found.referrers)
