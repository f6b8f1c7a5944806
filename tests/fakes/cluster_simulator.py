"""The controllers of the fake cluster, driven by reads alone: no thread, no clock, the same story every time.

The marketplace removes its defaults, OLM starts catalog pods and lists packages, Deployments run, the machine config operator
rolls pools, catalogd serves ClusterCatalogs. Each takes as many reads of its kind as the cluster was told, and does what the
story says that is being played.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from common.archive.inventory import PackageRecord
from tests.fakes.cluster_machines import RULES, Machines
from tests.fakes.cluster_store import Body, Key, Write
from tests.fakes.cluster_stories import pod_status

if TYPE_CHECKING:
    from tests.fakes.cluster import FakeCluster

MARKETPLACE = "openshift-marketplace"
MANAGED_BY = "operatorframework.io/managed-by"


class Simulator:
    """What happens by itself, and what the stories make of it. Called under no lock; takes the store's."""

    def __init__(self, cluster: FakeCluster) -> None:
        self._cluster = cluster
        self.machines = Machines(cluster)
        self._reads: dict[tuple[str, str], int] = {}  # of a CatalogSource with what it serves
        self._leaving: int | None = None  # reads of CatalogSources until the defaults are gone

    def wrote(self, kind: str) -> None:
        """React to a write."""
        with self._cluster.store.lock:
            if kind in RULES:
                self.machines.rules_changed()
            if kind == "MachineConfigPool":
                self.machines.show()
            if kind == "OperatorHub" and self._defaults_disabled():
                self._leaving = self._cluster.marketplace_reads
                self._remove_defaults()
            elif kind == "OperatorHub":
                self._cluster.bring_defaults()
            if kind == "ClusterCatalog":
                self._cluster_catalogs()
            if kind in {"CatalogSource", "Deployment", "Service"}:
                self._deployments()

    def read(self, kind: str) -> None:
        """Let time pass for the kind that is being read."""
        with self._cluster.store.lock:
            if kind in {"CatalogSource", "Pod"}:
                if self._leaving and kind == "CatalogSource":
                    self._leaving -= 1
                self._remove_defaults()
                self._catalog_sources(passing=kind == "CatalogSource")
            if kind == "ClusterCatalog" and self._cluster.cluster_catalog_story():
                self._cluster_catalogs()
            if kind == "MachineConfigPool":
                self.machines.read()

    def package_manifests(self, namespace: str) -> Iterator[Body]:
        """Give what packageserver lists for a namespace: two catalogs may have packages of one name."""
        for key, content in self._served():
            if namespace in {"", key.namespace} or key.namespace == MARKETPLACE:
                for package in self._offered(key, content):
                    yield _package_manifest(package, key, namespace or key.namespace)

    def _offered(self, key: Key, content: str) -> Sequence[PackageRecord]:
        told = self._cluster.source_story(self._cluster.store.get(key)).get("packages", "all")
        found = self._cluster.catalog_contents.get(_digest(content), ())
        if told == "none":
            return ()
        if told == "stale":
            return [msgspec.structs.replace(each, channels=each.channels[:1]) for each in found[:1]]
        if told != "all":
            return [each for number, each in enumerate(found) if number not in told["without"]]
        return found

    def _served(self) -> Iterator[tuple[Key, str]]:
        for key in self._keys("CatalogSource"):
            content = self._content(self._cluster.store.get(key), key.namespace)
            if self._is_ready(key, content):
                yield key, content

    def _content(self, source: Body, namespace: str) -> str:
        """Return the image that a CatalogSource serves: its own, or that of the Deployment at its address."""
        spec = source.get("spec") or {}
        if spec.get("image"):
            return str(spec["image"])
        service = str(spec.get("address", "")).partition(".")[0]
        for key in self._keys("Service"):
            if (key.name, key.namespace) == (service, namespace):
                wanted = self._cluster.store.get(key)["spec"].get("selector") or {}
                for pod in self._pods(namespace):
                    if wanted.items() <= (pod["metadata"].get("labels") or {}).items():
                        return str(pod["spec"]["containers"][0]["image"])
        return ""

    def _pods(self, namespace: str) -> list[Body]:
        return [self._cluster.store.get(key) for key in self._keys("Pod") if key.namespace == namespace]

    def _is_ready(self, key: Key, content: str) -> bool:
        return (
            _digest(content) in self._cluster.catalog_contents
            and self._reads.get((key.name, content), 0) > self._cluster.ready_reads
        )

    def _catalog_sources(self, *, passing: bool) -> None:
        """Move every catalog one read further: no connection, CONNECTING, READY with its pod; or what its story says."""
        for key in self._keys("CatalogSource"):
            source = self._cluster.store.get(key)
            content = self._content(source, key.namespace)
            told = self._cluster.source_story(source)
            if not told and _digest(content) not in self._cluster.catalog_contents:
                continue
            if passing:
                self._reads[key.name, content] = self._reads.get((key.name, content), 0) + 1
            ready = self._is_ready(key, content)
            state = told.get("connection", "READY" if ready else "CONNECTING")
            address = str(source["spec"].get("address") or f"{key.name}.{key.namespace}.svc:50051")
            status: Body = {"connectionState": {"lastObservedState": state, "address": address}}
            self._cluster.store.set_status(key, {**status, **(told.get("status") or {})})
            if source["spec"].get("image"):
                self._pod(key, content, told, ready=ready)

    def _pod(self, source: Key, image: str, told: Mapping[str, Any], *, ready: bool) -> None:
        key = Key(self._cluster.kind("Pod"), source.namespace, f"{source.name}-abcde")
        live = self._cluster.store.find(key)
        wanted = {"containers": [{"name": "registry-server", "image": image, **(told.get("spec") or {})}]}
        if live and (live["spec"] != wanted or told.get("created") is False):
            self._cluster.store.delete(key)
        if told.get("created") is False:
            return
        if self._cluster.store.find(key) is None:
            labels = {"olm.catalogSource": source.name}
            body = {"metadata": {"name": key.name, "namespace": key.namespace, "labels": labels}, "spec": wanted}
            self._cluster.store.create(key, body, Write("catalog-operator"))
        play = told.get("pod") or ({} if ready else {"phase": "Pending", "waiting": {"reason": "ContainerCreating"}})
        self._cluster.store.set_status(key, pod_status(play, image))
        self._cluster.say(key, told)

    def _deployments(self) -> None:
        """Run the pod of every Deployment whose image can be pulled."""
        for key in self._keys("Deployment"):
            template = self._cluster.store.get(key).get("spec", {}).get("template")
            if template is None:  # other kinds may be written here without being run
                continue
            image = template["spec"]["containers"][0]["image"]
            pod = Key(self._cluster.kind("Pod"), key.namespace, f"{key.name}-5d8f-xyz")
            if (live := self._cluster.store.find(pod)) and live["spec"] != template["spec"]:
                self._cluster.store.delete(pod)
            if self._cluster.store.find(pod) is None:
                metadata = {"name": pod.name, "namespace": pod.namespace, "labels": template["metadata"]["labels"]}
                self._cluster.store.create(pod, {"metadata": metadata, "spec": template["spec"]}, Write("replicaset"))
            well = _digest(image) in self._cluster.catalog_contents
            self._cluster.store.set_status(pod, pod_status({} if well else {"phase": "Pending"}, image))

    def _cluster_catalogs(self) -> None:
        for key in self._keys("ClusterCatalog"):
            body = self._cluster.store.get(key)
            image = body["spec"]["source"]["image"]["ref"]
            available = body["spec"].get("availabilityMode") != "Unavailable"
            told = {} if key.name.startswith("openshift-") else self._cluster.cluster_catalog_story()
            if told:
                self._cluster.store.set_status(key, dict(told))
            elif available and _digest(image) in self._cluster.catalog_contents:
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
        if self._leaving != 0 or not self._defaults_disabled():
            return
        for key in self._keys("CatalogSource"):
            annotations = self._cluster.store.get(key)["metadata"].get("annotations") or {}
            if annotations.get(MANAGED_BY) == "marketplace-operator":
                self._cluster.store.delete(key)

    def _keys(self, kind: str) -> list[Key]:
        found = [each for each in self._cluster.kinds if each.kind == kind]
        return self._cluster.store.keys(found[0]) if found else []


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
