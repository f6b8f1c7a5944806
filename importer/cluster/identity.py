"""Which cluster is worked on, for people and programs: before a question, in results, on the page of a deploy."""

from __future__ import annotations

from dataclasses import dataclass

from common.errors import ClusterError
from importer.cluster.client import ClusterClient
from importer.cluster.discovery import release_of, running_version
from importer.cluster.refusals import UnavailableError
from importer.cluster.release import Release


@dataclass(frozen=True, slots=True)
class ClusterIdentity:
    """The address of the API, the context of the kubeconfig (None in a pod, by its service account), and the version.

    `version` is OpenShift's, such as 4.18.7; None where there is none, or where it cannot be read. No user, no credential.
    """

    server: str
    context: str | None
    version: str | None

    def __str__(self) -> str:
        place = f"context {self.context}" if self.context is not None else "service account of this pod"
        return f"Cluster {self.server} ({place}, {f'OpenShift {self.version}' if self.version else 'no OpenShift version'})"

    @property
    def release(self) -> Release | None:
        """The release of the version."""
        return release_of(self.version)


def identify(client: ClusterClient, told: Release | None = None) -> ClusterIdentity:
    """Ask a cluster for its version; where it does not say and `told` names a release, that counts. Raises ClusterError."""
    try:
        version = running_version(client)
    except UnavailableError:
        raise
    except ClusterError:
        if told is None:
            raise
        version = str(told)
    return ClusterIdentity(client.server, client.context, version)
