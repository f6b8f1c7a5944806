"""The controllers of the fake cluster, driven by reads alone: no thread, no clock, the same story every time.

The marketplace removes its defaults, OLM starts catalog pods and lists packages, the machine config operator rolls pools,
catalogd serves ClusterCatalogs. Each takes as many reads of its kind as the cluster was told.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from common.archive.inventory import PackageRecord
from tests.fakes.cluster_store import Body, Key, Write

if TYPE_CHECKING:
    from tests.fakes.cluster import FakeCluster

MARKETPLACE = "openshift-marketplace"
MANAGED_BY = "operatorframework.io/managed-by"
_RULES = ("ImageContentSourcePolicy", "ImageDigestMirrorSet", "ImageTagMirrorSet")


class Simulator:
    """What happens by itself. Called under no lock; takes the store's."""

    def __init__(self, cluster: FakeCluster) -> None:
        self._cluster = cluster
        self._reads: dict[tuple[str, str], int] = {}  # of a CatalogSource with an image
        self._rollout = 0  # reads of pools until they are done
        self._leaving: int | None = None  # reads of CatalogSources until the defaults are gone

    def wrote(self, kind: str) -> None:
        """React to a write."""
        with self._cluster.store.lock:
            if kind in _RULES and self._rollout == 0:
                self._rollout = self._cluster.pool_reads
                self._pools()
            if kind == "OperatorHub" and self._defaults_disabled():
                self._leaving = self._cluster.marketplace_reads
                self._remove_defaults()
            if kind == "ClusterCatalog":
                self._cluster_catalogs()

    def read(self, kind: str) -> None:
        """Let time pass for the kind that is being read."""
        with self._cluster.store.lock:
            if kind == "CatalogSource":
                if self._leaving:
                    self._leaving -= 1
                self._remove_defaults()
                self._catalog_sources()
            if kind == "MachineConfigPool":
                self._rollout = max(self._rollout - 1, 0)
                self._pools()

    def package_manifests(self, namespace: str) -> Iterator[Body]:
        """Give what packageserver lists for a namespace: two catalogs may have packages of one name."""
        for key, image in self._served():
            if namespace in {"", key.namespace} or key.namespace == MARKETPLACE:
                for package in self._cluster.catalog_contents[_digest(image)]:
                    yield _package_manifest(package, key, namespace or key.namespace)

    def _served(self) -> Iterator[tuple[Key, str]]:
        for key in self._keys("CatalogSource"):
            image = _image(self._cluster.store.get(key))
            if self._is_ready(key, image):
                yield key, image

    def _is_ready(self, key: Key, image: str) -> bool:
        return (
            _digest(image) in self._cluster.catalog_contents
            and self._reads.get((key.name, image), 0) > self._cluster.ready_reads
        )

    def _catalog_sources(self) -> None:
        """Move every catalog whose image can be pulled one read further: no connection, CONNECTING, READY with its pod."""
        for key in self._keys("CatalogSource"):
            image = _image(self._cluster.store.get(key))
            if _digest(image) not in self._cluster.catalog_contents:
                continue
            self._reads[key.name, image] = self._reads.get((key.name, image), 0) + 1
            ready = self._is_ready(key, image)
            state = "READY" if ready else "CONNECTING"
            address = f"{key.name}.{key.namespace}.svc:50051"
            connection = {"lastObservedState": state, "address": address}
            self._cluster.store.set_status(key, {"connectionState": connection})
            self._pod(key, image, ready=ready)

    def _pod(self, source: Key, image: str, *, ready: bool) -> None:
        key = Key(self._cluster.kind("Pod"), source.namespace, f"{source.name}-abcde")
        if (live := self._cluster.store.find(key)) and live["spec"]["containers"][0]["image"] != image:
            self._cluster.store.delete(key)
        if self._cluster.store.find(key) is None:
            labels = {"olm.catalogSource": source.name}
            body = {
                "metadata": {"name": key.name, "namespace": key.namespace, "labels": labels},
                "spec": {"containers": [{"name": "registry-server", "image": image}]},
            }
            self._cluster.store.create(key, body, Write("catalog-operator"))
        waiting: Body = {"running": {}} if ready else {"waiting": {"reason": "ContainerCreating"}}
        status = {
            "phase": "Running" if ready else "Pending",
            "conditions": [{"type": "Ready", "status": str(ready)}],
            "containerStatuses": [
                {"name": "registry-server", "imageID": image if ready else "", "ready": ready, "state": waiting}
            ],
        }
        self._cluster.store.set_status(key, status)

    def _pools(self) -> None:
        rolling = self._rollout > 0
        for key in self._keys("MachineConfigPool"):
            body = self._cluster.store.get(key)
            self._cluster.store.set_status(key, pool_status(body, rolling=rolling))

    def _cluster_catalogs(self) -> None:
        for key in self._keys("ClusterCatalog"):
            body = self._cluster.store.get(key)
            image = body["spec"]["source"]["image"]["ref"]
            available = body["spec"].get("availabilityMode") != "Unavailable"
            if available and _digest(image) in self._cluster.catalog_contents:
                serving = {"type": "Serving", "status": "True", "reason": "Available"}
                resolved = {"type": "Image", "image": {"ref": image}}
                self._cluster.store.set_status(key, {"conditions": [serving], "resolvedSource": resolved})
            elif not available:
                gone = {"type": "Serving", "status": "False", "reason": "UserSpecifiedUnavailable"}
                self._cluster.store.set_status(key, {"conditions": [gone]})

    def _defaults_disabled(self) -> bool:
        hubs = [self._cluster.store.get(key) for key in self._keys("OperatorHub")]
        return any(hub.get("spec", {}).get("disableAllDefaultSources") for hub in hubs)

    def _remove_defaults(self) -> None:
        if self._leaving != 0:
            return
        for key in self._keys("CatalogSource"):
            annotations = self._cluster.store.get(key)["metadata"].get("annotations") or {}
            if annotations.get(MANAGED_BY) == "marketplace-operator":
                self._cluster.store.delete(key)

    def _keys(self, kind: str) -> list[Key]:
        found = [each for each in self._cluster.kinds if each.kind == kind]
        return self._cluster.store.keys(found[0]) if found else []


def pool_status(pool: Body, *, rolling: bool) -> Body:
    """Return the status of a pool of three nodes."""
    return {
        "observedGeneration": pool["metadata"]["generation"],
        "configuration": {"name": "rendered-old" if rolling else pool["spec"]["configuration"]["name"]},
        "machineCount": 3,
        "updatedMachineCount": 1 if rolling else 3,
        "readyMachineCount": 3,
        "unavailableMachineCount": 0,
        "degradedMachineCount": 0,
        "conditions": [
            {"type": "Updated", "status": str(not rolling)},
            {"type": "Updating", "status": str(rolling)},
            {"type": "Degraded", "status": "False"},
        ],
    }


def _image(source: Body) -> str:
    return str(source.get("spec", {}).get("image", ""))


def _digest(image: str) -> str:
    return image.partition("@")[2]


def _package_manifest(package: PackageRecord, source: Key, namespace: str) -> Body:
    channels: list[dict[str, Any]] = [
        {
            "name": channel.name,
            "currentCSV": channel.head,
            "entries": [{"name": bundle.name, "version": bundle.version or ""} for bundle in channel.bundles],
        }
        for channel in package.channels
    ]
    return {
        "apiVersion": "packages.operators.coreos.com/v1",
        "kind": "PackageManifest",
        "metadata": {
            "name": package.name,
            "namespace": namespace,
            "creationTimestamp": "2026-01-02T03:04:05Z",
            "labels": {"catalog": source.name, "catalog-namespace": source.namespace},
        },
        "spec": {},
        "status": {
            "catalogSource": source.name,
            "catalogSourceNamespace": source.namespace,
            "packageName": package.name,
            "defaultChannel": package.default_channel,
            "channels": channels,
        },
    }
