"""Files of `render` for updates of the cluster, to be applied by hand (docs/reference/openshift-releases.md). Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from common.errors import UsageError
from common.serialization import dump_yaml
from importer.cluster.kinds import UPDATE_SERVICE, Resource
from importer.cluster.nodes import configures_nodes
from importer.cluster.resources.openshift_release import GRAPH_PATH, carries_updates, fitting, is_signatures, merged

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from importer.cluster.api.client import Body
    from importer.cluster.release import Release
    from importer.cluster.resources.build import ResourceOptions
    from importer.mapping import MappedImage

# Not in the kustomization: the kind exists only once its operator is installed, and a patch is no object.
SERVICE_FILE = "updates/updateservice.yaml"
PATCH_FILE = "updates/clusterversion-patch.yaml"
_NOTE = "# oc patch clusterversion version --type merge --patch-file clusterversion-patch.yaml\n"
_URI = re.compile(r"https?://[^\s/?#@]+(?:/[^\s?#]*)?")


def update_files(resources: Sequence[Resource], uri: str) -> dict[str, bytes]:
    """Return the UpdateService, and with the address that one reports the patch of ClusterVersion."""
    services = [each for each in resources if each.kind == UPDATE_SERVICE.name]
    files = {SERVICE_FILE: "---\n".join(dump_yaml(each.body) for each in services)} if services else {}
    if uri:
        files[PATCH_FILE] = _NOTE + dump_yaml({"spec": {"upstream": f"{uri.rstrip('/')}{GRAPH_PATH}"}})
    return {name: text.encode() for name, text in files.items()}


def require_uri(uri: str, images: Sequence[MappedImage], release: Release | None, options: ResourceOptions) -> None:
    """Raise UsageError for an address that is none, or that no ClusterVersion would use."""
    if options.hosted or not configures_nodes(release):
        raise UsageError("--update-service-uri: such a cluster has no ClusterVersion to patch", hint="Leave the option out.")
    if not carries_updates(images):
        raise UsageError("--update-service-uri: the archive has no releases and no graph data", hint="Leave the option out.")
    if not _URI.fullmatch(uri):
        hint = "Wanted: status.policyEngineURI of the UpdateService, such as https://hub-route-….apps.example.com."
        raise UsageError(f"--update-service-uri {uri[:80]!r}: not an address", hint=hint)


def for_updates(resources: Sequence[Resource]) -> bool:
    """Return whether some objects are for updates of the cluster."""
    return any(is_signatures(each) or each.kind == UPDATE_SERVICE.name for each in resources)


def with_earlier_signatures(resource: Resource, earlier: Mapping[tuple[str, str], Body]) -> Resource:
    """Return the ConfigMap with the signatures that an earlier render has for the same payload, as far as there is room."""
    data = (earlier.get((resource.kind, resource.name)) or {}).get("binaryData")
    before = {str(key): str(value) for key, value in data.items()} if isinstance(data, dict) else {}
    added = merged(before, resource.body["binaryData"])
    return Resource.of({**resource.body, "binaryData": dict(sorted({**fitting(added, before), **added}.items()))})
