"""The credential that the nodes of a cluster get for the mirror."""

from __future__ import annotations

from typing import TYPE_CHECKING

from common.errors import UsageError
from importer.cluster.nodes import configures_nodes
from importer.cluster.trust import pull_credential, pull_secret_key

if TYPE_CHECKING:
    from importer.cluster.release import Release
    from importer.mapping import Mirror
    from importer.settings import ClusterSettings


def node_credential(mirror: Mirror, release: Release | None, cluster: ClusterSettings) -> tuple[str, str] | None:
    """Return the key and the credential for the nodes' pull secret; None where none is wanted. Raises UsageError."""
    if cluster.authfile is None:
        return None
    if not configures_nodes(release):
        raise UsageError(
            "--cluster-authfile: the cluster has no pull secret of the nodes",
            hint="MicroShift: add the credential to /etc/crio/openshift-pull-secret on the node."
            if release is not None
            else "Give the container runtime of each node the credential, or pods an imagePullSecret.",
        )
    # Before 4.9, CRI-O looks up credentials by host only; the key depends on the release (ADR 0026).
    key = pull_secret_key(mirror.host, mirror.prefix, release)
    return key, pull_credential(cluster.authfile, mirror.host, mirror.prefix)
