"""Recognition of MicroShift, which has OLM without the configuration objects of OpenShift. Reads only.

Its OLM (openshift/microshift, assets/optional/operator-lifecycle-manager) has the namespaces of OpenShift, no packageserver and
no marketplace operator; there is no machine config operator, so that CRI-O is configured on the node.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from importer.cluster.api.client import ForbiddenError
from importer.cluster.kinds import CONFIG_MAP

if TYPE_CHECKING:
    from importer.cluster.api.client import ClusterClient


NAMESPACE = "kube-public"
NAME = "microshift-version"
_LONGEST = 80


def microshift_version(client: ClusterClient) -> str | None:
    """Return the version of MicroShift, such as 4.18.7; None for any other cluster. Raises ClusterError."""
    try:
        found = client.get(CONFIG_MAP, NAME, NAMESPACE)
    except ForbiddenError:
        # Another Kubernetes: an administrator of MicroShift may read it, and accounts of `render --rbac` too.
        return None
    # openshift/microshift, assets/version/microshift-version.yaml: major, minor, patch, version
    return str((found.get("data") or {}).get("version") or "")[:_LONGEST] if found is not None else None
