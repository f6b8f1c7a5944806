"""The controllers of the fake cluster, driven by reads alone: no thread, no clock, the same story every time.

The marketplace removes its defaults, OLM starts catalog pods and lists packages, Deployments run, the machine config operator
rolls pools, catalogd serves ClusterCatalogs. Each takes as many reads of its kind as the cluster was told, and does what the
story says that is being played.

OLM and package-server connect to a catalog apart: package-server, too, keeps a connection of its own and lists nothing until
that is up (operator-lifecycle-manager, pkg/package-server/provider/registry.go). The states on the way are those of gRPC
(grpc/doc/connectivity-semantics-and-api.md), and `lastConnect` is when the state was seen first
(pkg/controller/registry/grpc/source.go). `status.message` is written for a pod that cannot be made, never for a connection
(pkg/controller/operators/catalog/operator.go, `syncRegistryServer`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from common.archive.inventory import ChannelRecord, PackageRecord
from tests.fakes import cluster_network, cluster_pod_security
from tests.fakes.cluster_installs import Installs
from tests.fakes.cluster_machines import RULES, Machines
from tests.fakes.cluster_releases import ReleaseOperators
from tests.fakes.cluster_resolver import Resolver
from tests.fakes.cluster_store import Body, Key, Write
from tests.fakes.cluster_stories import pod_status

if TYPE_CHECKING:
    from tests.fakes.cluster import FakeCluster

MARKETPLACE = "openshift-marketplace"
MANAGED_BY = "operatorframework.io/managed-by"
_BEFORE_READY = ("CONNECTING", "TRANSIENT_FAILURE", "CONNECTING", "IDLE")  # the last first; before those none
_LONG_S = 900  # a catalog that a story shows without packages has been so for long


class Simulator:
    """What happens by itself, and what the stories make of it. Called under no lock; takes the store's."""

    def __init__(self, cluster: FakeCluster) -> None:
        self._cluster = cluster
        self.machines = Machines(cluster)
        self._resolver = Resolver(cluster)
        self._installs = Installs(cluster)
        self._releases = ReleaseOperators(cluster)
        self._reads: dict[tuple[str, str], int] = {}  # of a CatalogSource with what it serves
        self._listed: dict[tuple[str, str], int] = {}  # lists of PackageManifests since it is READY
        self._states: dict[Key, tuple[str, int, str]] = {}  # the state, how old it was when it was seen first, and since when
        self._former: dict[Key, str] = {}  # what was listed last of each CatalogSource
        self._lists: dict[Key, int] = {}  # lists since it is served no more
        self._leaving: int | None = None  # reads of CatalogSources until the defaults are gone

    def wrote(self, kind: str) -> None:
        """React to a write."""
        with self._cluster.store.lock:
            if kind in RULES:
                self.machines.rules_changed()
            if kind == "MachineConfigPool":
                self.machines.show()
            if kind == "OperatorHub":
                self._leaving = self._cluster.marketplace_reads
                self._remove_defaults()
                self._cluster.bring_defaults()
            if kind == "ClusterCatalog":
                self._cluster_catalogs()
            if kind in {"CatalogSource", "Deployment", "Service"}:
                self._deployments()
            if kind == "Namespace":
                self._installs.namespaces()

    def deleted(self) -> None:
        """React to an object that was taken away: the garbage collector takes what it owned."""
        with self._cluster.store.lock:
            self._installs.vanish()
            for kind in ("Deployment", "Pod", "NetworkPolicy", "Service", "InstallPlan"):
                uids = {self._cluster.store.get(key)["metadata"]["uid"] for key in self._cluster.store.all_keys()}
                for key in self._keys(kind):
                    owners = self._cluster.store.get(key)["metadata"].get("ownerReferences") or []
                    if owners and not any(owner["uid"] in uids for owner in owners):
                        self._cluster.store.delete(key)

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
            if kind in {"Subscription", "InstallPlan", "ClusterServiceVersion"}:
                self._resolver.run()
            if kind == "ClusterExtension":
                self._installs.extensions()
            if kind in {"Deployment", "Pod"}:
                self._deployments()
            if kind in {"Node", "Pod"}:
                self._cluster.kubelets.read()
            self._releases.read(kind)

    def package_manifests(self, namespace: str) -> Iterator[Body]:
        """Give what packageserver lists for a namespace: two catalogs may have packages of one name."""
        served = list(self._served())
        for key, content in self._lingering(served):
            for package in self._offered(key, content):
                yield _package_manifest(package, key, namespace or key.namespace)
        for key, content in served:
            self._listed[key.name, content] = self._listed.get((key.name, content), 0) + 1
            if self._listed[key.name, content] <= self._cluster.package_reads:
                continue
            if namespace in {"", key.namespace} or key.namespace == MARKETPLACE:
                for package in self._offered(key, content):
                    yield _package_manifest(package, key, namespace or key.namespace)

    def _lingering(self, served: Sequence[tuple[Key, str]]) -> Iterator[tuple[Key, str]]:
        """Give what package-server still has of a catalog whose image was changed: its cache goes with the connection."""
        for key, content in [each for each in self._former.items() if each[0] not in dict(served)]:
            self._lists[key] = self._lists.get(key, 0) + 1
            if self._lists[key] <= self._cluster.lingering_lists:
                yield key, content
        for key, content in served:
            self._former[key], self._lists[key] = content, 0

    def offers(self, source: Key) -> Sequence[PackageRecord] | None:
        """Return what the resolver reads from a CatalogSource; None while it does not answer."""
        content = dict(self._served()).get(source)
        return None if content is None else self._offered(source, content)

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
        pod = self._behind(source, namespace)
        return str(pod["spec"]["containers"][0]["image"]) if pod else ""

    def _behind(self, source: Body, namespace: str) -> Body | None:
        """Return the pod behind the Service at a CatalogSource's address."""
        service = str((source.get("spec") or {}).get("address", "")).partition(".")[0]
        for key in self._keys("Service"):
            if (key.name, key.namespace) == (service, namespace):
                wanted = self._cluster.store.get(key)["spec"].get("selector") or {}
                for pod in self._pods(namespace):
                    if wanted.items() <= (pod["metadata"].get("labels") or {}).items():
                        return pod
        return None

    def _pods(self, namespace: str) -> list[Body]:
        return [self._cluster.store.get(key) for key in self._keys("Pod") if key.namespace == namespace]

    def _is_ready(self, key: Key, content: str) -> bool:
        return (
            _digest(content) in self._cluster.catalog_contents
            and self._reads.get((key.name, content), 0) > self._cluster.ready_reads
            and self._is_reached(self._cluster.store.get(key), key.namespace)
        )

    def _is_reached(self, source: Body, namespace: str) -> bool:
        """Say whether NetworkPolicies let OLM reach the pod behind a CatalogSource."""
        policies = [self._cluster.store.get(key) for key in self._keys("NetworkPolicy") if key.namespace == namespace]
        pods = [self._behind(source, namespace)] if not (source.get("spec") or {}).get("image") else []
        return all(cluster_network.reaches(pod, policies) for pod in pods if pod)

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
            if source["spec"].get("image") and not told and (said := self._denied(source, key)):
                self._cluster.store.set_status(key, {"message": said, "reason": "RegistryServerError"})
                self._pod(key, content, {"created": False}, ready=False)
                continue
            status = self._connection(key, source, content, told, ready=ready)
            self._cluster.store.set_status(key, {**status, **(told.get("status") or {})})
            if source["spec"].get("image"):
                self._pod(key, content, told, ready=ready)

    def _denied(self, source: Body, key: Key) -> str:
        """Return what OLM says of a pod that the namespace refuses: one without a restricted security context.

        Without securityContextConfig OLM takes the one that the namespace enforces (pkg/controller/registry/reconciler).
        """
        if (source["spec"].get("grpcPodConfig") or {}).get("securityContextConfig") != "legacy":
            return ""
        pod = {"containers": [{"name": "registry-server"}]}
        said = cluster_pod_security.denial(self._cluster.get("Namespace", key.namespace), pod)
        ensuring = f"couldn't ensure registry server - error ensuring pod: : error creating new pod: {key.name}-"
        return f'{ensuring}: pods "{key.name}-abcde" is forbidden: {said}' if said else ""

    def _connection(self, key: Key, source: Body, content: str, told: Mapping[str, Any], *, ready: bool) -> Body:
        """Return the status that OLM writes of its connection; empty before there is one."""
        left = self._cluster.ready_reads - self._reads.get((key.name, content), 0)
        going = _BEFORE_READY[max(left, 0)] if left < len(_BEFORE_READY) else ""
        state = str(told.get("connection", "READY" if ready or told.get("packages") else going))
        if not state:
            return {}
        ago = _LONG_S if told.get("packages") == "none" else self._cluster.connected_s
        if self._states.get(key, ())[:2] != (state, ago):
            seen = datetime.now(UTC) - timedelta(seconds=ago)
            self._states[key] = (state, ago, seen.strftime("%Y-%m-%dT%H:%M:%SZ"))
        address = str(source["spec"].get("address") or f"{key.name}.{key.namespace}.svc:50051")
        since = self._states[key][2]
        return {"connectionState": {"lastObservedState": state, "lastConnect": since, "address": address}}

    def _pod(self, source: Key, image: str, told: Mapping[str, Any], *, ready: bool) -> None:
        key = Key(self._cluster.kind("Pod"), source.namespace, f"{source.name}-abcde")
        owner = {"kind": "CatalogSource", "name": source.name, "uid": self._cluster.store.get(source)["metadata"]["uid"]}
        policy = cluster_network.of_catalog(source.name, source.namespace)
        policy["metadata"]["ownerReferences"] = [owner]
        if self._cluster.release is None or self._cluster.release >= (4, 20):
            self._cluster.put(policy, "catalog-operator")
        self._service(source, owner)
        live = self._cluster.store.find(key)
        wanted = {"containers": [{"name": "registry-server", "image": image, **(told.get("spec") or {})}]}
        if live and (live["spec"] != wanted or told.get("created") is False):
            self._cluster.store.delete(key)
        if told.get("created") is False:
            return
        if self._cluster.store.find(key) is None:
            labels = {"olm.catalogSource": source.name}
            metadata = {"name": key.name, "namespace": key.namespace, "labels": labels, "ownerReferences": [owner]}
            body = {"metadata": metadata, "spec": wanted}
            self._cluster.store.create(key, body, Write("catalog-operator"))
        play = told.get("pod") or ({} if ready else {"phase": "Pending", "waiting": {"reason": "ContainerCreating"}})
        self._cluster.store.set_status(key, pod_status(play, image))
        self._cluster.say(key, told)

    def _service(self, source: Key, owner: Body) -> None:
        """Write the Service of a CatalogSource, which OLM never takes away (pkg/controller/registry/reconciler/grpc.go)."""
        key = Key(self._cluster.kind("Service"), source.namespace, source.name)
        if self._cluster.store.find(key) is None:
            metadata = {"name": key.name, "namespace": key.namespace, "labels": {"olm.service-spec-hash": "5d8f"}}
            metadata["ownerReferences"] = [{**owner, "controller": False}]
            port = {"name": "grpc", "port": 50051, "targetPort": 50051}
            spec = {"selector": {"olm.catalogSource": source.name}, "ports": [port]}
            self._cluster.store.create(key, {"metadata": metadata, "spec": spec}, Write("catalog-operator"))

    def _deployments(self) -> None:
        """Run the pod of every Deployment whose image can be pulled, where the namespace takes such pods."""
        for key in self._keys("Deployment"):
            deployment = self._cluster.store.get(key)
            template = deployment.get("spec", {}).get("template")
            if template is None or self._releases.owns(deployment):  # other kinds may be written here without being run
                continue
            denied = cluster_pod_security.denial(self._cluster.get("Namespace", key.namespace), template["spec"])
            self._replicas(key, denied)
            image = template["spec"]["containers"][0]["image"]
            pod = Key(self._cluster.kind("Pod"), key.namespace, f"{key.name}-5d8f-xyz")
            if (live := self._cluster.store.find(pod)) and live["spec"] != template["spec"]:
                self._cluster.store.delete(pod)
            if denied and self._cluster.store.find(pod) is None:
                continue
            if self._cluster.store.find(pod) is None:
                owner = {"kind": "Deployment", "name": key.name, "uid": deployment["metadata"]["uid"]}
                metadata = {"name": pod.name, "namespace": pod.namespace, "labels": template["metadata"]["labels"]}
                metadata["ownerReferences"] = [owner]
                self._cluster.store.create(pod, {"metadata": metadata, "spec": template["spec"]}, Write("replicaset"))
            well = _digest(image) in self._cluster.catalog_contents
            self._cluster.store.set_status(pod, pod_status({} if well else {"phase": "Pending"}, image))

    def _replicas(self, deployment: Key, denied: str) -> None:
        """Write a Deployment's conditions; where its pods are refused, the event of its ReplicaSet too.

        kubernetes, pkg/controller/deployment/util (ReplicaFailure is copied from the ReplicaSet) and
        pkg/controller/controller_utils.go (`FailedCreate`, "Error creating: …").
        """
        said = f'pods "{deployment.name}-5d8f-xyz" is forbidden: {denied}'
        failure = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": said}
        progressing = {"type": "Progressing", "status": "True", "reason": "NewReplicaSetCreated"}
        self._cluster.store.set_status(deployment, {"conditions": [progressing, *([failure] if denied else [])]})
        annotations = {"deployment.kubernetes.io/revision": "1"}
        self._cluster.store.merge_patch(
            deployment, {"metadata": {"annotations": annotations}}, Write("kube-controller-manager")
        )
        key = Key(self._cluster.kind("Event"), deployment.namespace, f"{deployment.name}-5d8f.0000")
        if denied and self._cluster.store.find(key) is None:
            about = {"kind": "ReplicaSet", "name": f"{deployment.name}-5d8f", "namespace": deployment.namespace}
            metadata = {"name": key.name, "namespace": key.namespace}
            told = {"type": "Warning", "reason": "FailedCreate", "message": f"Error creating: {said}", "count": 3}
            body = {"metadata": metadata, "involvedObject": about, "lastTimestamp": "2026-01-02T03:04:05Z", **told}
            self._cluster.store.create(key, body, Write("kube-controller-manager"))

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

    def _remove_defaults(self) -> None:
        if self._leaving != 0:
            return
        gone = self._cluster.disabled_defaults()
        for key in self._keys("CatalogSource"):
            annotations = self._cluster.store.get(key)["metadata"].get("annotations") or {}
            if key.name in gone and annotations.get(MANAGED_BY) == "marketplace-operator":
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
            "currentCSVDesc": _description(channel),
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


def _description(channel: ChannelRecord) -> Body:
    """Return what package-server says of a head (pkg/package-server/apis/operators/v1/packagemanifest_types.go, CSVDescription)."""
    notes = {
        "operatorframework.io/suggested-namespace": channel.suggested_namespace,
        "operatorframework.io/suggested-namespace-template": channel.suggested_namespace_template,
        "operatorframework.io/cluster-monitoring": "true" if channel.cluster_monitoring else None,
    }
    modes = [{"type": each, "supported": True} for each in channel.install_modes]
    apis = {"owned": _apis(channel.provided_apis), "required": _apis(channel.required_apis)}
    return {
        "version": next((one.version for one in channel.bundles if one.name == channel.head), None) or "",
        "annotations": {name: value for name, value in notes.items() if value},
        "installModes": modes,
        "customresourcedefinitions": {name: listed for name, listed in apis.items() if listed},
    }


def _apis(names: Sequence[str]) -> list[Body]:
    parts = (name.split(".", 2) for name in names)
    return [{"name": f"{kind.lower()}s.{group}", "version": version, "kind": kind} for kind, version, group in parts]
