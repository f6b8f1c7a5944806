"""`hub-import probe`: what the other side has to know of this one. A part that cannot be seen does not stop the rest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from common.errors import HubError
from common.registry.client import RegistryClient
from common.target_profile import MEDIA_TYPE, InstalledOperator, TargetProfile, TargetRegistry
from importer import registry_probe
from importer.cluster import installed
from importer.cluster.client import ClusterClient, connect
from importer.cluster.discovery import running_version
from importer.settings import ClusterSettings, ImportSettings

T = TypeVar("T")


@dataclass(slots=True)
class _Notes:
    """What could not be seen, and why."""

    texts: list[str] = field(default_factory=list)

    def seen(self, what: str, look: Callable[[], T]) -> T | None:
        try:
            return look()
        except HubError as error:
            self.texts.append(f"{what}: {error.message}")
            return None


def probe(settings: ImportSettings, cluster: ClusterSettings) -> TargetProfile:
    """Return the profile of the cluster and of the mirror. Into the mirror it writes a few hundred bytes, and takes them away.

    Raises ClusterError when the cluster does not answer at all, UsageError for a wrong kubeconfig.
    """
    notes = _Notes()
    with connect(cluster.kubeconfig, cluster.context) as client:
        release = running_version(client)
        platforms = notes.seen("nodes", lambda: installed.platforms(client))
        operators = notes.seen("installed operators", lambda: _operators(client, notes))
    registry = _registry(settings, notes)
    return TargetProfile(MEDIA_TYPE, release, platforms, operators, registry, tuple(notes.texts))


def _operators(client: ClusterClient, notes: _Notes) -> tuple[InstalledOperator, ...]:
    found = installed.operators(client)
    notes.texts += found.notes
    return found.operators


def _registry(settings: ImportSettings, notes: _Notes) -> TargetRegistry:
    mirror = settings.mirror

    def ask() -> registry_probe.Accepts:
        with RegistryClient(settings.registry) as client:
            client.ping(mirror.host)
            return registry_probe.ask(client, mirror.at(registry_probe.REPOSITORY))

    found = notes.seen("mirror", ask) or registry_probe.Accepts()
    notes.texts += found.notes
    return TargetRegistry(str(mirror), found.nested_paths, found.sparse_indexes, found.referrers)
