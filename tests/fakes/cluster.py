"""A Kubernetes API on loopback that behaves as an OpenShift release, or as a Kubernetes with OLM, as far as we touch it.

    with FakeCluster("4.18") as cluster:
        cluster.catalog_contents[digest] = packages       # this image can be pulled, and offers that
        client = connect(cluster.kubeconfig(tmp_path), None)

Schemas are enforced, unknown fields pruned (and noted in `pruned`), versions and owners of fields kept. Not there: CEL rules,
strategic merge patches, OpenAPI documents.
"""

from __future__ import annotations

import base64
import hashlib
import ssl
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import trustme
import yaml

from common.archive.inventory import PackageRecord
from tests.fakes.cluster_kinds import Minor, Served, kinds_of, kinds_of_microshift, kinds_of_update_service
from tests.fakes.cluster_kubelets import Kubelets
from tests.fakes.cluster_rbac import Roles
from tests.fakes.cluster_request import Request
from tests.fakes.cluster_seed import disabled_defaults, seed, seed_catalogs
from tests.fakes.cluster_server import Server
from tests.fakes.cluster_simulator import Simulator
from tests.fakes.cluster_store import Body, Key, Store, Write
from tests.fakes.cluster_stories import Story, event, filled, has_ended, story, words_of
from tests.fakes.cluster_upgrades import Updates
from tests.fakes.secrets import CLUSTER_TOKEN

TOKEN = CLUSTER_TOKEN
_KUBERNETES: dict[Minor, Minor] = {(4, 3): (1, 16), (4, 4): (1, 17), (4, 5): (1, 18)}


@dataclass
class Fault:
    """What requests whose path contains `part` get, the next `times` times. `status` 0: the connection is dropped."""

    method: str
    part: str
    status: int = 0
    times: int = 1
    body: bytes = b"upstream away\n"
    content_type: str = "text/plain"


class FakeCluster:
    """A running cluster. `release` None: a Kubernetes with OLM alone. `microshift`: MicroShift of the release.

    `ready_reads`, `mco_reads`, `pool_reads`, `marketplace_reads`: how many reads of CatalogSources or pools until OLM has a
    connection, a rollout begins, it is over, the default sources are gone. `package_reads`: how many lists of PackageManifests,
    after that connection, until package-server has one of its own; `lingering_lists`: how many still show the packages of a former
    image. `connected_s`: for how long a catalog that is READY has
    been so. `update_service`: the operator of the OpenShift Update Service runs; with it, or `plays_updates`, the
    cluster version operator looks for updates, and at the desired one. `updates`: the update graph that OLM sees, and the installations that fail. `pruned`: fields that a schema did not
    know. `play` makes something go wrong.
    """

    def __init__(
        self,
        release: str | None = "4.18",
        *,
        patch: int = 40,
        tls: bool = True,
        token: str = TOKEN,
        authority: trustme.CA | None = None,
        microshift: bool = False,
        update_service: bool = False,
    ) -> None:
        major_minor = tuple(int(part) for part in release.split(".")) if release else None
        self.release: Minor | None = (major_minor[0], major_minor[1]) if major_minor else None
        self.patch = patch
        self.microshift = microshift
        self.update_service = self.plays_updates = update_service
        self.kinds = kinds_of_microshift(self.release) if microshift and self.release else kinds_of(self.release)
        self.kinds = (*self.kinds, *(kinds_of_update_service() if update_service else ()))
        self.plays_installs = False  # OLM installs what new Subscriptions and ClusterExtensions ask for
        self.watches_one = False  # by OLM v1: the feature gate NewOLMOwnSingleNamespace
        self.needs_account = True  # by OLM v1: ClusterExtensions have to name a ServiceAccount
        self.trusted_routes = True  # by the cluster version operator: the CA of the cluster's router
        self.absent_payloads: set[str] = set()  # digests that nodes cannot pull
        self.service_failure: tuple[str, str] | None = None  # reason and message of its operator
        self.service_reads = 1  # of UpdateServices, until their operator has done its work
        self.server_side_apply = self.release is None or self.release >= (4, 6)
        self.token = token
        self.account = "tester"  # of everybody who comes with the token
        self.store = Store(self.kinds)
        self.catalog_contents: dict[str, Sequence[PackageRecord]] = {}
        self.ready_reads, self.mco_reads, self.pool_reads, self.marketplace_reads = 2, 1, 2, 0
        self.package_reads = self.connected_s = self.lingering_lists = 0
        self.updates = Updates()
        self.stories: list[Story] = []
        self.logs: dict[str, str] = {}  # namespace/pod/container → text
        self.forbidden: set[tuple[str, str]] = set()
        self.forbidden_everywhere: set[tuple[str, str]] = set()  # allowed by Roles of single namespaces, by no ClusterRole
        self.roles: Roles | None = None  # with them, all is forbidden that none of them allows
        self.faults: list[Fault] = []
        self.warnings: list[tuple[str, str]] = []  # a part of a path, and what writes there are answered with (webhooks)
        self.changed_answer: Callable[[Request, bytes], bytes] | None = None  # for answers that no API server gives
        self.writes_left: int | None = None  # after so many writes the API server is away, until this is None again
        self.log: list[Request] = []
        self.errors: list[BaseException] = []
        self.simulator = Simulator(self)
        self.kubelets = Kubelets(self)
        self._authority = (authority or trustme.CA()) if tls else None
        self._server: Server | None = None
        self._lock = threading.Lock()
        seed(self)

    def __enter__(self) -> Self:
        self._server = Server(self, self._context())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._server is not None
        self._server.stop()
        if self.errors and error is None:
            raise self.errors[0]

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"{'https' if self._authority else 'http'}://127.0.0.1:{self._server.server_address[1]}"

    @property
    def kubernetes(self) -> Minor:
        """The level of Kubernetes that the release has."""
        if self.release is None:
            return (1, 31)
        return _KUBERNETES.get(self.release, (1, self.release[1] + 13))

    @property
    def pruned(self) -> list[str]:
        return self.store.pruned

    @property
    def writes(self) -> list[Request]:
        """The requests that wanted to change something, dry runs left out."""
        return [request for request in self.log if request.writes]

    def kubeconfig(self, folder: Path, *, trust: bool = True, token: str | None = None) -> Path:
        """Write a kubeconfig for this cluster. `trust` False: without its CA."""
        cluster: dict[str, Any] = {"server": self.url}
        if self._authority and trust:
            cluster["certificate-authority-data"] = base64.b64encode(self._authority.cert_pem.bytes()).decode()
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "fake", "cluster": cluster}],
            "users": [{"name": "tester", "user": {"token": self.token if token is None else token}}],
            "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "tester"}}],
            "current-context": "fake",
        }
        path = folder / "kubeconfig"
        path.write_text(yaml.safe_dump(document))
        return path

    def play_installs(self, *packages: PackageRecord, source: str = "index") -> None:
        """Let OLM install, from a CatalogSource of these packages; with the home of operators that watch all namespaces."""
        self.plays_installs = True
        self.ready_reads = -1
        home = "operators" if self.release is None else "openshift-operators"
        place = "olm" if self.release is None else "openshift-marketplace"
        self._ensure_namespace(home)
        group = {"kind": "OperatorGroup", "metadata": {"name": "global-operators", "namespace": home}, "spec": {}}
        self.put(group, "cluster-version-operator")
        digest = f"sha256:{hashlib.sha256(source.encode()).hexdigest()}"
        self.catalog_contents[digest] = packages
        image = f"mirror.example.com/catalog/{source}@{digest}"
        spec = {"sourceType": "grpc", "image": image}
        self.put({"kind": "CatalogSource", "metadata": {"name": source, "namespace": place}, "spec": spec}, "someone")
        if any(kind.kind == "ClusterCatalog" for kind in self.kinds):
            self.add("ClusterCatalog", source, spec={"source": {"type": "Image", "image": {"ref": image}}})

    def play(self, name: str, **words: str) -> Story:
        """Begin a story: what it shows is there from now on, until what it waits for has happened."""
        told = story(name)
        if told.source.get("of") == "defaults":
            for body in told.plays.get("objects") or []:
                self.put(body, "somebody")
            self.bring_defaults()
        ours = [source for source in self._sources() if told.concerns(source)]
        told.words = {**(words_of(ours[0]) if ours else {}), **words}
        with self.store.lock:
            for source in ours if "preset" in told.plays else ():
                self.put({"kind": "CatalogSource", "metadata": source["metadata"], "spec": told.plays["preset"]}, "somebody")
            for body in filled(told.plays.get("objects") or [], told.words):
                self._ensure_namespace(body["metadata"].get("namespace"))
                self.put(body, "somebody")
            if told.pool:
                spec = {"paused": bool(told.pool.get("paused"))}
                self.put({"kind": "MachineConfigPool", "metadata": {"name": told.pool["name"]}, "spec": spec}, "somebody")
            self.logs |= filled(told.plays.get("logs") or {}, told.words)
            self.stories.append(told)
            self.simulator.machines.show()
        return told

    def bring_defaults(self) -> None:
        """Put the default catalogs back, as the marketplace does once they are no longer disabled."""
        seed_catalogs(self)

    def disabled_defaults(self) -> set[str]:
        """Return the default catalogs that are switched off."""
        return disabled_defaults(self)

    def source_story(self, source: Body) -> Body:
        """Return what a story does to a CatalogSource; nothing where none does."""
        for told in self.stories:
            if told.concerns(source):
                told.words = {**told.words, **words_of(source)}
                if not has_ended(told, self):
                    return dict(filled(dict(told.source), told.words))
        return {}

    def pool_story(self, name: str) -> Body:
        """Return what a story does to a pool."""
        found = [told.pool for told in self.stories if told.pool.get("name") == name and not has_ended(told, self)]
        return dict(found[0]) if found else {}

    def cluster_catalog_story(self) -> Body:
        """Return the status that a story gives to our ClusterCatalogs."""
        found = [told.cluster_catalog for told in self.stories if told.cluster_catalog and not has_ended(told, self)]
        return dict(found[0]) if found else {}

    def say(self, pod: Key, told: Body) -> None:
        """Write the events and the logs of a catalog's pod."""
        kind = self.kind("Event")
        for number, each in enumerate(told.get("events") or ()):
            body = event(pod, number, each)
            key = Key(kind, pod.namespace, body["metadata"]["name"])
            if self.store.find(key) is None:
                self.store.create(key, body, Write("kubelet"))
        if told:
            self.logs[f"{pod.namespace}/{pod.name}/registry-server"] = str(told.get("log", ""))

    def _sources(self) -> list[Body]:
        kind = self.kind("CatalogSource")
        return [self.store.get(key) for key in self.store.keys(kind)]

    def _ensure_namespace(self, name: str | None) -> None:
        if name and name not in self.namespaces():
            self.add("Namespace", name)

    def kind(self, name: str) -> Served:
        return next(each for each in self.kinds if each.kind == name)

    def put(self, body: Body, manager: str = "kubectl-edit") -> Body:
        """Write an object as somebody else does: created, or its fields changed."""
        key = self._key(body)
        write = Write(manager)
        with self.store.lock:
            made = (
                self.store.create(key, body, write)
                if self.store.find(key) is None
                else self.store.merge_patch(key, body, write)
            )
            if "status" in body:
                self.store.set_status(key, body["status"])
        return made

    def get(self, kind: str, name: str, namespace: str = "") -> Body:
        return self.store.get(Key(self.kind(kind), namespace, name))

    def names(self, kind: str) -> list[str]:
        """Return the names of all objects of a kind; none when it is not served."""
        return [key.name for each in self.kinds if each.kind == kind for key in self.store.keys(each)]

    def versions(self) -> dict[str, str]:
        """Return the resourceVersion of every object."""
        with self.store.lock:
            return {
                f"{key.namespace}/{key}": self.store.get(key)["metadata"]["resourceVersion"] for key in self.store.all_keys()
            }

    def objects(self, kind: Served, namespace: str) -> list[Body]:
        """Return what a list shows."""
        if kind.kind == "PackageManifest":
            return list(self.simulator.package_manifests(namespace))
        return [self.store.get(key) for key in self.store.keys(kind, namespace)]

    def namespaces(self) -> list[str]:
        return self.names("Namespace")

    def take_fault(self, request: Request) -> Fault | None:
        with self._lock:
            if self.writes_left is not None:
                self.writes_left -= request.writes
                if self.writes_left < 0:
                    return Fault(request.method, "")
            for fault in self.faults:
                if fault.times > 0 and fault.method == request.method and fault.part in request.path:
                    fault.times -= 1
                    return fault
        return None

    def _key(self, body: Body) -> Key:
        return Key(self.kind(body["kind"]), body["metadata"].get("namespace", ""), body["metadata"]["name"])

    def _context(self) -> ssl.SSLContext | None:
        if self._authority is None:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._authority.issue_cert("127.0.0.1").configure_cert(context)
        return context

    def add(self, kind: str, name: str, **fields: Any) -> Body:
        return self.put({"kind": kind, "metadata": {"name": name}, **fields}, "cluster-version-operator")
