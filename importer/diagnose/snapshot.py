"""What a cluster shows of itself at one moment, as a diagnosis needs it; `gathering.py` reads it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from importer.cluster.discovery import is_default
from importer.cluster.kinds import OWN_LABELS
from importer.cluster.readiness.readiness import Look, status_of
from importer.cluster.resources.catalog_source import address

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from importer.cluster.client import Body
    from importer.cluster.readiness.expectation import ExpectedCatalog
    from importer.cluster.release import Release
    from importer.cluster.resources.mirror_rules import Pair
    from importer.cluster.subscriptions import Sources

_ASKS_AGAIN_S = 300.0
_STARTING = frozenset(("ContainerCreating", "PodInitializing"))


@dataclass(frozen=True, slots=True)
class PodEvidence:
    """A pod of a catalog: what its containers do now, what was said of it (newest first), the end of its log."""

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
        """Whether its containers are being made for the first time, and nothing was said against it."""
        return self.reasons <= _STARTING and bool(self.reasons) and not self.events


@dataclass(frozen=True, slots=True)
class SourceEvidence:
    """A CatalogSource. `expected` None: not one of ours, or nothing is known of what it shall serve.

    `listed`: how many packages OLM lists from it; None: it could not be asked. `refusals`: what keeps its pods from being made;
    `restricted`: those of our Deployment have a restricted security context; `lacks_policy`: OLM may not reach them.
    `connected_s`: for how many seconds the connection has been as it is, and its pods ready; None where nothing says so.
    """

    body: Body
    pods: tuple[PodEvidence, ...]
    expected: ExpectedCatalog | None = None
    packages: Look | None = None
    listed: int | None = None
    missing: tuple[str, ...] = ()
    refusals: tuple[str, ...] = ()
    restricted: bool = False
    lacks_policy: bool = False
    connected_s: float | None = None

    @property
    def name(self) -> str:
        """Of the CatalogSource."""
        return str(self.body["metadata"]["name"])

    @property
    def namespace(self) -> str:
        """Of the CatalogSource."""
        return str(self.body["metadata"].get("namespace", ""))

    @property
    def is_default(self) -> bool:
        """Whether OpenShift itself put it there."""
        return is_default(self.body)

    @property
    def is_ours(self) -> bool:
        """Whether an apply put it there."""
        labels = self.body["metadata"].get("labels") or {}
        return self.expected is not None or OWN_LABELS.items() <= labels.items()

    @property
    def state(self) -> str:
        """What OLM says of its connection to the catalog."""
        return str((status_of(self.body).get("connectionState") or {}).get("lastObservedState") or "no connection yet")

    @property
    def serves_itself(self) -> bool:
        """Whether the catalog runs in a Deployment of ours."""
        spec = self.body.get("spec") or {}
        return not spec.get("image") and spec.get("address") == address(self.name, self.namespace)

    @property
    def connected_lately(self) -> bool:
        """Whether package-server may not have asked the catalog again yet, though OLM has a connection.

        gRPC tries again after up to two minutes, and some (grpc/doc/connection-backoff.md); then it reads all packages.
        """
        return self.state == "READY" and self.connected_s is not None and self.connected_s < _ASKS_AGAIN_S

    @property
    def stale_pods(self) -> list[PodEvidence]:
        """The pods that answer, and run another image than the one expected."""
        if self.expected is None:
            return []
        return [pod for pod in self.pods if pod.ready and not (pod.runs_image and self.expected.image in pod.images)]

    @property
    def lists_all(self) -> bool:
        """Whether OLM lists from it what it should, as far as that is known."""
        return self.packages is None or self.packages.ok

    @property
    def image(self) -> str:
        """The image that it serves; empty when that is not known."""
        expected = self.expected.image if self.expected else ""
        return str((self.body.get("spec") or {}).get("image") or expected)


@dataclass(frozen=True, slots=True)
class Evidence:
    """A cluster at one moment. `unseen`: what could not be read, and why; `held_back`: what paused pools would roll out.

    `sources` are those of the catalogs' namespace, `all_sources` what else could be read; None: none could.
    """

    release: Release | None
    sources: tuple[SourceEvidence, ...]
    pools: tuple[Body, ...]
    lacking: Mapping[str, Sequence[Pair]]
    ca_keys: frozenset[str]
    registry_state: str
    subscriptions: tuple[Body, ...]
    jobs: tuple[Body, ...]
    cluster_catalogs: tuple[Body, ...]
    package_log: str
    rule_kinds: frozenset[str]
    unseen: tuple[str, ...] = ()
    all_sources: Sources | None = None
    held_back: Mapping[str, str] = field(default_factory=dict)
