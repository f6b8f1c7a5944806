"""The state of a cluster at one moment, as far as a diagnosis needs it; `collect.py` reads it. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from importer.cluster.kinds import condition, has_own_label
from importer.cluster.readiness.readiness import connection_state
from importer.cluster.resources.catalog_source import address, is_default

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from importer.cluster.api.client import Body
    from importer.cluster.readiness.readiness import Check, ExpectedCatalog, Offer
    from importer.cluster.release import Release
    from importer.cluster.resources.mirror_rules import Listed, Pair
    from importer.cluster.updates.outlook import Update
    from importer.cluster.updates.reading import UpdateState
    from importer.diagnose.olm_objects import Plan, Version
    from importer.diagnose.workloads import WaitingImage
    from importer.operators.installed import Sources


_RECONNECTS_WITHIN_S = 300.0  # gRPC waits up to two minutes and jitter, then package-server reads all packages
# Reasons of kubelet for a container that was not created yet.
_STARTING = frozenset(("ContainerCreating", "PodInitializing"))


@dataclass(frozen=True, slots=True)
class PodState:
    """A pod of a catalog: the states of its containers, its events (newest first), the end of its log."""

    name: str
    images: frozenset[str]
    ready: bool
    runs_image: bool
    states: tuple[str, ...]
    reasons: frozenset[str]
    memory_limit: str
    events: tuple[str, ...]
    log: str
    created: str

    @property
    def is_starting(self) -> bool:
        """Whether its containers are being created for the first time, and no event reports an error."""
        # Without a reason the pod is not scheduled yet, which has causes of its own.
        return self.reasons <= _STARTING and bool(self.reasons) and not self.events


@dataclass(frozen=True, slots=True)
class SourceState:
    """A CatalogSource. `expected` None: foreign, or the record does not have its expected content.

    `offers`: the packages that OLM lists from it; None: unknown. `versions`: the entries of each package's channels, where
    package-server lists them. `refusals`: errors of creating its pods.
    `restricted`: the pods of its own Deployment have a restricted security context. `lacks_policy`: no NetworkPolicy lets OLM
    reach them. `connected_s`: seconds since the connection, or a pod's readiness, changed last; None: unknown.
    """

    body: Body
    pods: tuple[PodState, ...]
    expected: ExpectedCatalog | None = None
    packages: Check | None = None
    offers: Mapping[str, Offer] | None = None
    versions: Mapping[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    refusals: tuple[str, ...] = ()
    restricted: bool = False
    lacks_policy: bool = False
    connected_s: float | None = None

    @property
    def listed(self) -> int | None:
        """The number of packages that OLM lists from it; None: unknown."""
        return None if self.offers is None else len(self.offers)

    @property
    def name(self) -> str:
        """The name of the CatalogSource."""
        return str(self.body["metadata"]["name"])

    @property
    def namespace(self) -> str:
        """The namespace of the CatalogSource."""
        return str(self.body["metadata"].get("namespace", ""))

    @property
    def is_default(self) -> bool:
        """Whether it is a default source of OpenShift."""
        return is_default(self.body)

    @property
    def is_managed(self) -> bool:
        """Whether an apply created it."""
        # The label alone covers catalogs of an older version, whose record has no expected content.
        return self.expected is not None or has_own_label(self.body)

    @property
    def state(self) -> str:
        """The last observed state of OLM's connection to the catalog."""
        return connection_state(self.body)

    @property
    def serves_itself(self) -> bool:
        """Whether the catalog runs in a Deployment of hub-import, and is found by address."""
        spec = self.body.get("spec") or {}
        return not spec.get("image") and spec.get("address") == address(self.name, self.namespace)

    @property
    def connected_lately(self) -> bool:
        """Whether package-server may not have queried the catalog again yet, though OLM has a connection."""
        # package-server has a connection of its own, which backs off up to two minutes (grpc/doc/connection-backoff.md).
        return self.state == "READY" and self.connected_s is not None and self.connected_s < _RECONNECTS_WITHIN_S

    @property
    def stale_pods(self) -> list[PodState]:
        """The ready pods that run another image than the expected one."""
        if self.expected is None:
            return []
        # Only ready ones answer; a new pod that is not ready yet is not stale.
        return [pod for pod in self.pods if pod.ready and not (pod.runs_image and self.expected.image in pod.images)]

    @property
    def lists_all(self) -> bool:
        """Whether OLM lists the expected packages from it; True where they are not known."""
        # Nothing is known of a catalog without expected content, and that is no error.
        return self.packages is None or self.packages.ok

    @property
    def image(self) -> str:
        """The image that it serves; empty when that is not known."""
        # A catalog by address has no image in its spec.
        expected = self.expected.image if self.expected else ""
        return str((self.body.get("spec") or {}).get("image") or expected)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A cluster at one moment. `unreadable`: the reads that were refused, and why.

    `sources` are those of the catalogs' namespace, `all_sources` those of all readable namespaces; None: none were readable.
    `missing_rules` and `held_back`, by pool: the mirror rules that its nodes lack, and the changes that a paused pool would
    roll out. `mirror_rules`: those of all objects; None where nodes have others, or where they may not be read. `waiting`:
    the containers that wait for images. `versions`: the ClusterServiceVersions, `plans`: the InstallPlans.
    `updates`: what decides on updates of the cluster, where imports brought releases; `targets`: those that it can go to.
    """

    release: Release | None
    sources: tuple[SourceState, ...]
    pools: tuple[Body, ...]
    missing_rules: Mapping[str, Sequence[Pair]]
    ca_keys: frozenset[str]
    registry_state: str
    subscriptions: tuple[Body, ...]
    jobs: tuple[Body, ...]
    cluster_catalogs: tuple[Body, ...]
    package_log: str
    rule_kinds: frozenset[str]
    unreadable: tuple[str, ...] = ()
    all_sources: Sources | None = None
    held_back: Mapping[str, str] = field(default_factory=dict)
    expected: tuple[ExpectedCatalog, ...] = ()
    mirror_rules: tuple[Listed, ...] | None = None
    waiting: tuple[WaitingImage, ...] = ()
    versions: tuple[Version, ...] = ()
    plans: tuple[Plan, ...] = ()
    updates: UpdateState | None = None
    targets: tuple[Update, ...] = ()

    @property
    def classic(self) -> bool:
        """Whether catalogs are served by OLM (Classic); False where the cluster has OLM v1 alone."""
        by_v1 = self.release is not None and self.release.has_cluster_catalog
        return self.all_sources is None or self.all_sources.classic or not by_v1

    @property
    def failed_unpacks(self) -> list[Body]:
        """The jobs that failed to unpack a bundle."""
        return [job for job in self.jobs if _is_failed_unpack(job)]


def _is_failed_unpack(job: Body) -> bool:
    """Return whether a job unpacks a bundle, and has failed."""
    if condition(job, "Failed").get("status") != "True":
        return False
    labels, name = job["metadata"].get("labels") or {}, job["metadata"]["name"]
    # Newer OLM labels its unpack jobs (pkg/controller/bundle/bundle_unpacker.go); older ones are named by a hash alone.
    return "operatorframework.io/bundle-unpack-ref" in labels or re.fullmatch(r"[0-9a-f]{10,64}", name) is not None
