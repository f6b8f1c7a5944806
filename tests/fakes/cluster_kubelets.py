"""The scheduler and the kubelets of the fake cluster, for pods that pull by a node's own rules, one step for each read of pods.

A node has the mirror rules of its current machine configuration. Sources:
* order of a container's start, reasons: kubernetes, pkg/kubelet/kuberuntime/kuberuntime_container.go (startContainer) and
  pkg/kubelet/images/types.go; events and their words: pkg/kubelet/images/image_manager.go (durations since 1.19, kubernetes#91563;
  `including waiting` since patches of 1.23, #111772 and #114430; the size since 1.30; the error in ImagePullBackOff since 1.32,
  #127918); an error without its gRPC code since 1.28: k8s.io/cri-client, pkg/remote_image.go (pullImageV1);
* words of the scheduler: pkg/scheduler/framework/types.go (FitError); reasons of a failed pod: pkg/kubelet/eviction/helpers.go;
* attempts by mirrors: containers/image, docker/docker_image_src.go (newImageSource); errors of a registry: docker/docker_client.go
  (`pinging container registry`, `reading manifest`, `is blocked in`) and docker/errors.go (registryHTTPResponseToError: the message
  without its code where it is the default one); of the network: Go's net, crypto/x509;
* a 429 or 5xx: docker/errors.go (httpResponseToError for a ping, registryHTTPResponseToError for a manifest: 50 characters of a
  body that is no JSON); an index without the architecture: manifest (ChooseInstance); a proxy: golang/go,
  src/net/http/transport.go (dialConn: the text of the status of CONNECT alone); no progress: cri-o/cri-o#8764;
* connection refused: CRI-O says RegistryUnavailable first (cri-o/cri-o#6842), which the kubelet makes a reason of its own
  (pkg/kubelet/images/image_manager.go, evalCRIPullErr, since 1.28); a pod that a full node refuses: pkg/kubelet/eviction/helpers.go
  (nodeConditionMessageFmt) and pkg/kubelet/kubelet.go (rejectPod);
* the words of CRI-O around them: internal/storage/image.go (pullImageImplementation; since cri-o#9367 an image that cannot be
  pulled is then tried as an artifact);
* a command that an image lacks: CRI-O reports it when the container is created (crun, src/libcrun/container.c), containerd when it
  is started (runc, libcontainer/standard_init_linux.go);
* currentConfig and desiredConfig of nodes: machine-config-operator, pkg/daemon/constants/constants.go.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.fakes.cluster_store import Body, Key, Write

if TYPE_CHECKING:
    from tests.fakes.cluster import FakeCluster

_WRITER, _TAINTED = Write("kubelet"), "node.kubernetes.io/"
_CONFIG = "machineconfiguration.openshift.io/"
_REGISTRY = re.compile(r'^ {2}location = "([^"]+)"\n((?:\n {2}\[\[registry\.mirror\]\]\n.*\n.*\n)*)', re.MULTILINE)
_MIRROR = re.compile(r'^ {4}location = "([^"]+)"\n {4}pull-from-mirror = "digest-only"', re.MULTILINE)
_TIME = "2026-01-02T03:04:{:02}Z"

# What a node answers about a registry. {host}: the registry, {place}: the repository there, {digest}: what was asked for.
WORDS = {
    "x509": 'pinging container registry {host}: Get "https://{host}/v2/": tls: failed to verify certificate: x509: certificate '
    "signed by unknown authority",
    "name": 'pinging container registry {host}: Get "https://{host}/v2/": tls: failed to verify certificate: x509: certificate is '
    "valid for other.example.com, not {name}",
    "unauthorized": "reading manifest {digest} in {place}: authentication required",
    "forbidden": 'reading manifest {digest} in {place}: StatusCode: 403, "access forbidden"',
    "denied": "reading manifest {digest} in {place}: requested access to the resource is denied",
    "missing": "reading manifest {digest} in {place}: manifest unknown",
    "absent": "reading manifest {digest} in {place}: repository name not known to registry",
    "timeout": 'pinging container registry {host}: Get "https://{host}/v2/": dial tcp 192.0.2.1:443: i/o timeout',
    "deadline": 'pinging container registry {host}: Get "https://{host}/v2/": context deadline exceeded',
    "dns": 'pinging container registry {host}: Get "https://{host}/v2/": dial tcp: lookup {name} on 10.0.0.10:53: no such host',
    "http": 'pinging container registry {host}: Get "https://{host}/v2/": http: server gave HTTP response to HTTPS client',
    "refused": 'pinging container registry {host}: Get "https://{host}/v2/": dial tcp 192.0.2.1:443: connect: connection refused',
    "silent": 'pinging container registry {host}: Get "https://{host}/v2/": dial tcp 192.0.2.1:443: connect: connection timed out',
    "resolver": 'pinging container registry {host}: Get "https://{host}/v2/": dial tcp: lookup {name} on 10.0.0.10:53: read udp '
    "10.0.0.5:41234->10.0.0.10:53: i/o timeout",
    "misbehaving": 'pinging container registry {host}: Get "https://{host}/v2/": dial tcp: lookup {name} on 10.0.0.10:53: server '
    "misbehaving",
    "hangs-up": 'pinging container registry {host}: Get "https://{host}/v2/": EOF',
    "busy": "reading manifest {digest} in {place}: too many requests",
    "busy-ping": "pinging container registry {host}: too many requests to registry",
    "limit": "reading manifest {digest} in {place}: toomanyrequests: You have reached your pull rate limit. You may increase the "
    "limit by authenticating and upgrading: https://www.docker.com/increase-rate-limit",
    "failing": 'reading manifest {digest} in {place}: StatusCode: 503, "<html><body><h1>503 Service Unavailable</h1>\\nNo se..."',
    "failing-ping": "pinging container registry {host}: invalid status code from registry 502 (Bad Gateway)",
    "failing-token": "Requesting bearer token: invalid status code from registry 500 (Internal Server Error)",
    "proxy": 'pinging container registry {host}: Get "https://{host}/v2/": proxyconnect tcp: dial tcp 192.0.2.9:3128: connect: '
    "connection refused",
    "proxy-forbids": 'pinging container registry {host}: Get "https://{host}/v2/": Forbidden',
    "proxy-login": 'pinging container registry {host}: Get "https://{host}/v2/": Proxy Authentication Required',
    "proxy-fails": 'pinging container registry {host}: Get "https://{host}/v2/": Service Unavailable',
    "architecture": 'choosing image instance: no image found in image index for architecture "arm64", variant "v8", OS "linux"',
    "stalls": "copying system image from manifest list: copying config: context canceled",
    "blob": "copying system image from manifest list: reading blob {digest}: fetching blob: invalid status code from registry 520 ()",
    "disk": 'writing blob: storing blob to file "/var/tmp/container_images_storage123/1": write '
    "/var/tmp/container_images_storage123/1: no space left on device",
    "odd": "the moon is in the wrong quarter",
}

_AFTER_MANIFEST = ("architecture", "blob", "disk", "stalls")
_ENDS = {
    "evicted": "The node was low on resource: ephemeral-storage. ",
    "pressure": "Pod was rejected: The node had condition: [DiskPressure]. ",
}


@dataclass
class Node:
    """How a node behaves. `fault`: a key of WORDS, or of _ENDS, or `dies`, `leaves`, `hangs`, `present`, `unscheduled`; `passes`: tries that fail."""

    name: str
    pool: str
    fault: str = ""
    passes: int | None = None
    config: str = ""  # a machine configuration that it stays on
    source: str = "dns"  # what becomes of an attempt at an image's own registry: the site is disconnected


@dataclass
class Kubelets:
    """The nodes. `steps`: reads of pods that each pod has been through."""

    cluster: FakeCluster
    nodes: dict[str, Node] = field(default_factory=dict)
    steps: dict[str, int] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)  # node, and the registry that answered a pull
    fast: bool = False  # a pod is through all steps after one read
    rewrites: str = ""  # by an admission webhook: the image of every pod

    def add(
        self, name: str, *, pool: str = "", architecture: str = "amd64", fault: str = "", ready: bool = True, **more: Any
    ) -> Node:
        """Add a node; `more`: fields of its spec."""
        labels = {"kubernetes.io/hostname": name, "kubernetes.io/arch": architecture, "kubernetes.io/os": "linux"}
        # A node of a custom pool is a worker too (machine-config-operator, pkg/helpers/helpers.go, GetPoolsForNode).
        for role in ([pool, *(["worker"] if pool not in ("master", "worker") else [])]) if pool else []:
            labels[f"node-role.kubernetes.io/{role}"] = ""
        status = {
            "nodeInfo": {"architecture": architecture, "operatingSystem": "linux"},
            "conditions": [{"type": "Ready", "status": "True" if ready else "Unknown"}],
        }
        self.cluster.put(
            {"kind": "Node", "metadata": {"name": name, "labels": labels}, "spec": more, "status": status}, "kubelet"
        )
        self.nodes[name] = Node(name, pool, fault)
        return self.nodes[name]

    def two_pools(self) -> None:
        """Add three masters and two workers, one of these with another architecture."""
        taint = {"key": "node-role.kubernetes.io/master", "effect": "NoSchedule"}
        for number in range(3):
            self.add(f"master-{number}", pool="master", taints=[taint])
        self.add("worker-0", pool="worker")
        self.add("worker-1", pool="worker", architecture="arm64")

    def read(self) -> None:
        """Write the configurations of the nodes, and take each pod a step on. Called under the store's lock."""
        for node in self.nodes.values():
            if self.cluster.store.find(Key(self.cluster.kind("Node"), "", node.name)) is not None:
                self._configure(node)
        for key in self.cluster.store.keys(self.cluster.kind("Pod")) if self.nodes else ():
            body = self.cluster.store.get(key)
            if self.rewrites and body["spec"]["containers"][0:1]:
                container = {**body["spec"]["containers"][0], "image": self.rewrites}
                self.cluster.store.merge_patch(key, {"spec": {"containers": [container]}}, Write("webhook"))
                body = self.cluster.store.get(key)
            if "nodeAffinity" in ((body.get("spec") or {}).get("affinity") or {}):
                for _ in range(4 if self.fast else 1):
                    self.steps[key.name] = step = self.steps.get(key.name, 0) + 1
                    self._step(key, self.cluster.store.get(key), step)

    def _configure(self, node: Node) -> None:
        pool = next((each for each in self.cluster.names("MachineConfigPool") if each == node.pool), None)
        if pool is None:
            return
        body = self.cluster.get("MachineConfigPool", pool)
        wanted = body["spec"]["configuration"]["name"]
        current = node.config or str((body.get("status") or {}).get("configuration", {}).get("name") or wanted)
        # desiredConfig of the nodes of a paused pool stays as it is (pkg/controller/node/node_controller.go).
        desired = current if body["spec"].get("paused") else wanted
        notes = {f"{_CONFIG}currentConfig": current, f"{_CONFIG}desiredConfig": desired}
        live = self.cluster.get("Node", node.name)["metadata"].get("annotations") or {}
        if notes.items() - live.items():
            key = Key(self.cluster.kind("Node"), "", node.name)
            self.cluster.store.merge_patch(key, {"metadata": {"annotations": notes}}, Write("machine-config-daemon"))

    def _step(self, key: Key, body: Body, step: int) -> None:
        if not body["spec"].get("nodeName"):
            node = self._scheduled(body)
            if node is None:
                count = len(self.nodes)
                said = f"0/{count} nodes are available: {count} Insufficient memory. preemption: 0/{count} nodes are available"
                unschedulable = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": said}
                self.cluster.store.set_status(key, {"phase": "Pending", "conditions": [unschedulable]})
                return
            self.cluster.store.merge_patch(key, {"spec": {"nodeName": node.name}}, Write("kube-scheduler"))
            self._say(key, "Normal", "Scheduled", f"Successfully assigned {key.namespace}/{key.name} to {node.name}", 0)
            self._waits(key, "ContainerCreating", "")
            return
        node, image = self.nodes[body["spec"]["nodeName"]], str(body["spec"]["containers"][0]["image"])
        if node.fault in _ENDS:
            self.cluster.store.set_status(key, {"phase": "Failed", "reason": "Evicted", "message": _ENDS[node.fault]})
        elif node.fault in ("dies", "leaves"):
            self._lose(node)
        elif node.fault == "sandbox":
            said = "Failed to create pod sandbox: rpc error: code = Unknown desc = the network plugin is not ready"
            self._say(key, "Warning", "FailedCreatePodSandBox", said, 1)
        elif step == 2:
            self._say(key, "Normal", "Pulling", f'Pulling image "{image}"', 1)
        elif node.fault == "present":
            self._say(key, "Normal", "Pulled", f'Container image "{image}" already present on machine', 2)
            self._run(key, image)
        elif node.fault != "hangs":
            self._pull(key, node, image, step)

    def _lose(self, node: Node) -> None:
        """Let a node stop; the node controller notices (kubernetes, pkg/controller/nodelifecycle), or a machine is removed."""
        key = Key(self.cluster.kind("Node"), "", node.name)
        live = self.cluster.store.find(key)
        if live is not None and node.fault == "leaves":
            self.cluster.store.delete(key)
        elif live is not None:
            said = {"type": "Ready", "status": "Unknown", "message": "Kubelet stopped posting node status."}
            self.cluster.store.set_status(key, {**live["status"], "conditions": [said]})

    def _scheduled(self, body: Body) -> Node | None:
        terms = body["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
        tolerated = {(t.get("key"), t.get("value", ""), t.get("effect")) for t in body["spec"].get("tolerations") or []}
        for term in terms:
            name = term["matchFields"][0]["values"][0]
            live = self.cluster.get("Node", name)
            found = [each for each in (live.get("spec") or {}).get("taints") or [] if each["effect"] != "PreferNoSchedule"]
            taints = {(each["key"], each.get("value", ""), each["effect"]) for each in found}
            if self.nodes[name].fault != "unscheduled" and taints <= tolerated:
                return self.nodes[name]
        return None

    def _pull(self, key: Key, node: Node, image: str, step: int) -> None:
        error = self._error(node, image)
        if node.passes is not None and step - 2 > node.passes:
            error = ""
        if not error:
            self._say(key, "Normal", "Pulled", self._pulled(image), 3)
            self._run(key, image)
            return
        said, reason = self._by_runtime(image, error), "ErrImagePull"
        # Of the last attempt, at the source, or of the only one.
        is_refused = error.endswith("connection refused") and self.cluster.release is not None
        if is_refused and self.cluster.kubernetes >= (1, 28):
            self._say(key, "Warning", "Failed", f'Failed to pull image "{image}": RegistryUnavailable: {said}', 2)
            said, reason = f"image pull failed for {image} because the registry is unavailable: {said}", "RegistryUnavailable"
        self._say(key, "Warning", "Failed", f'Failed to pull image "{image}": {said}', 2)
        self._say(key, "Warning", "Failed", f"Error: {reason}", 2, more="b")
        back_off = f'Back-off pulling image "{image}"'
        if step % 2:
            self._waits(key, reason, said)
        else:
            more = f": {reason}: {said}" if self.cluster.kubernetes >= (1, 32) else ""
            self._waits(key, "ImagePullBackOff", back_off + more)
            self._say(key, "Normal", "BackOff", back_off, 4)

    def _by_runtime(self, image: str, error: str) -> str:
        if self.cluster.release is None:  # containerd, core/remotes/docker/resolver.go
            host, _, place = image.partition("@")[0].partition("/")
            asked = f'Head "https://{host}/v2/{place}/manifests/{image.partition("@")[2]}"'
            request = f"failed to do request: {asked}: {error.rpartition(chr(34) + ': ')[2]}"
            return f'failed to pull and unpack image "{image}": failed to resolve reference "{image}": {request}'
        code = "rpc error: code = Unknown desc = " if self.cluster.kubernetes < (1, 28) else ""
        writing = error.startswith(("writing blob", "copying system image", "choosing image instance"))
        pulling = f"copying system image from manifest list: {error}" if error.startswith("writing blob") else error
        if self.cluster.kubernetes < (1, 33):
            return f"{code}{pulling}"
        pulling = pulling if writing else f"initializing source docker://{image}: {error}"
        no_artifact = "image reference: reference is a container image, not an OCI artifact"
        artifact = no_artifact if writing else f"get manifest: build image source: {error}"
        return f"unable to pull image or OCI artifact: pull image err: {pulling}; artifact err: {artifact}"

    def _error(self, node: Node, image: str) -> str:
        """Return the error of a pull, by the rules that the node has; empty for one that succeeds."""
        name, _, digest = image.partition("@")
        mirrors = [*self._mirrors(node, name)] if node.pool else [name]
        if not node.fault and mirrors:
            self.asked.append((node.name, mirrors[0].partition("/")[0]))
            return ""
        source = _said(node.source, name, digest)
        if not mirrors or mirrors == [name]:
            return _said(node.fault, name, digest) if node.fault and not node.pool else source
        if node.fault in _AFTER_MANIFEST:
            return _said(node.fault, name, digest)
        failed = "\n".join(f"[{each}@{digest}: {_said(node.fault, each, digest)}]" for each in mirrors)
        for blocked in self._blocked(name):
            both = "/etc/containers/registries.conf or /root/.config/containers/registries.conf.d"
            source = f"registry {blocked} is blocked in {both}"
        return f"(Mirrors also failed: {failed}): {image}: {source}"

    def _blocked(self, name: str) -> Iterator[str]:
        rules = self.cluster.simulator.machines.rules()
        never = (rule["source"] for rule in rules if rule.get("mirrorSourcePolicy") == "NeverContactSource")
        return (source for source in never if _covers(source, name))

    def _mirrors(self, node: Node, name: str) -> Iterator[str]:
        notes = self.cluster.get("Node", node.name)["metadata"].get("annotations") or {}
        text = self.cluster.simulator.machines.texts.get(notes.get(f"{_CONFIG}currentConfig", ""), "")
        rules = sorted(_REGISTRY.findall(text), key=lambda each: -len(each[0]))
        for source, listed in rules:
            if _covers(source, name):
                yield from (mirror + name[len(source) :] for mirror in _MIRROR.findall(listed))
                return

    def _pulled(self, image: str) -> str:
        took = "1.234567s" if self.cluster.kubernetes >= (1, 19) else ""
        waited = " (1.3s including waiting)" if self.cluster.kubernetes >= (1, 23) else ""
        size = ". Image size: 1234 bytes." if self.cluster.kubernetes >= (1, 30) else ""
        return f'Successfully pulled image "{image}"{f" in {took}" if took else ""}{waited}{size}'

    def _run(self, key: Key, image: str) -> None:
        if self.cluster.release is not None:  # CRI-O
            said = (
                "container create failed: executable file `/hub-import-pull-test` not found in $PATH: No such file or directory"
            )
            self._waits(key, "CreateContainerError", said)
            return
        ended = {
            "exitCode": 128,
            "reason": "StartError",
            "message": "failed to create containerd task: no such file or directory",
        }
        container = {"name": "pull", "image": image, "imageID": image, "state": {"terminated": ended}}
        self.cluster.store.set_status(key, {"phase": "Failed", "containerStatuses": [container]})

    def _waits(self, key: Key, reason: str, message: str) -> None:
        waiting = {"reason": reason, **({"message": message} if message else {})}
        container = {"name": "pull", "image": "", "imageID": "", "state": {"waiting": waiting}}
        scheduled = {"type": "PodScheduled", "status": "True"}
        self.cluster.store.set_status(key, {"phase": "Pending", "conditions": [scheduled], "containerStatuses": [container]})

    def _say(self, pod: Key, kind: str, reason: str, message: str, second: int, *, more: str = "") -> None:
        key = Key(self.cluster.kind("Event"), pod.namespace, f"{pod.name}.{reason.lower()}{second}{more}")
        about = {"kind": "Pod", "name": pod.name, "namespace": pod.namespace}
        body = {"metadata": {"name": key.name, "namespace": key.namespace}, "involvedObject": about, "count": 1}
        body |= {"type": kind, "reason": reason, "message": message, "lastTimestamp": _TIME.format(second)}
        if self.cluster.store.find(key) is None:
            self.cluster.store.create(key, body, _WRITER)


def _covers(source: str, name: str) -> bool:
    return name == source or name.startswith(f"{source}/")


def _said(fault: str, place: str, digest: str) -> str:
    host = place.partition("/")[0]
    return WORDS[fault].format(host=host, name=host.partition(":")[0], place=place, digest=digest)
