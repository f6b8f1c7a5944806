"""Reads what decides on updates of the cluster: ClusterVersion, signatures, update services. Changes nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from common.version import Version, try_parse
from importer.cluster.kinds import (
    CLUSTER_VERSION,
    CONFIG_MAP,
    CONFIG_NAMESPACE,
    IMAGE_POLICY,
    MANAGED_NAMESPACE,
    NODE,
    UPDATE_SERVICE,
    Kind,
    condition,
    status_of,
)
from importer.cluster.resources.openshift_release import GRAPH_PATH, SIGNATURE_LABEL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from importer.cluster.api.client import Body
    from importer.cluster.release import Release

GATES, ACKS = "admin-gates", "admin-acks"
# openshift/cluster-version-operator, pkg/cvo/upgradeable.go, adminAckGateFmt.
_GATE = re.compile(r"^ack-([4-5])[.]([0-9]{1,4})-[^-]")
MULTI = "multi"
_MULTI = "Multi"  # as ClusterVersion has it
# openshift/cluster-version-operator, pkg/cvo/sync_worker.go, syncPayload.
_LOADED = re.compile(r'^Payload loaded .* architecture="([A-Za-z0-9]{1,20})"')


class Reads(Protocol):
    """A client of the cluster, or the reader of a diagnosis, which leaves out what it may not read."""

    def get(self, kind: Kind, name: str, namespace: str = "") -> Body | None:
        """Return an object."""
        ...

    def list(self, kind: Kind, namespace: str = "", labels: Mapping[str, str] | None = None) -> list[Body] | None:
        """Return the objects of a kind."""
        ...


@dataclass(frozen=True, slots=True)
class UpdateState:
    """What a cluster says of its updates. `version`: its ClusterVersion; `services`: None where the kind is not served.

    `signatures`: the ConfigMaps that the cluster version operator looks for signatures in. `gates` and `acks`: what has to be
    acknowledged, and what was. `architectures`: of its nodes, as the update service names them.
    """

    version: Body
    services: tuple[Body, ...] | None = None
    signatures: tuple[Body, ...] = ()
    gates: Mapping[str, str] = field(default_factory=dict)
    acks: Mapping[str, str] = field(default_factory=dict)
    policies: tuple[Body, ...] = ()
    architectures: frozenset[str] = frozenset()

    @property
    def current(self) -> Version | None:
        """The version that the cluster has, or updates to; None where it states none."""
        return try_parse(str((status_of(self.version).get("desired") or {}).get("version") or ""))

    @property
    def architecture(self) -> str:
        """The architecture of its releases; empty where it is not known."""
        # No payload of one architecture runs on nodes of two.
        if self._runs_multi or len(self.architectures) > 1:
            return MULTI
        return next(iter(self.architectures), "")

    @property
    def _runs_multi(self) -> bool:
        """Whether the payload is one for several architectures, of which the nodes may have a single one."""
        # openshift/api, config/v1, Release.Architecture: Multi, or absent. Most clusters do not have it: openshift/api#2024 of
        # 2024 was behind a feature gate, and lost after that (openshift/cluster-version-operator#1269). From 4.12 on the
        # operator says it in the message about the payload, and `oc adm upgrade --to-multi-arch` leaves it in `spec`.
        stated = [status_of(self.version).get("desired"), self.spec.get("desiredUpdate")]
        loaded = self.condition("ReleaseAccepted")
        said = _LOADED.search(str(loaded.get("message") or "")) if loaded.get("status") == "True" else None
        return _MULTI in {(each or {}).get("architecture") for each in stated} or (said is not None and said[1] == _MULTI)

    @property
    def spec(self) -> Mapping[str, Any]:
        """The `spec` of ClusterVersion."""
        return self.version.get("spec") or {}

    @property
    def upstream(self) -> str:
        """The address of the update graph; empty for the public one."""
        return str(self.spec.get("upstream") or "")

    @property
    def channel(self) -> str:
        """The channel of updates; empty without one."""
        return str(self.spec.get("channel") or "")

    @property
    def follows_service(self) -> bool:
        """Whether the cluster asks an update service of its own for the graph."""
        return self.upstream in {graph_address(each) for each in self.services or ()} - {""}

    def condition(self, kind: str) -> Mapping[str, Any]:
        """Return a condition of ClusterVersion; empty when it has none of the kind."""
        return condition(self.version, kind)

    def wanted_acks(self, target: Version) -> dict[str, str]:
        """Return what has to be acknowledged before an update to `target`, by name, with its text."""
        now = self.current
        if now is None or target.release[:2] <= now.release[:2]:
            return {}  # updates within a minor release need none
        return {name: text for name, text in sorted(self.gates.items()) if self._applies(name, now) and not self._given(name)}

    def _applies(self, gate: str, now: Version) -> bool:
        found = _GATE.match(gate)
        return found is not None and (int(found[1]), int(found[2])) == now.release[:2]

    def _given(self, gate: str) -> bool:
        return self.acks.get(gate) == "true"


def graph_address(service: Body) -> str:
    """Return the address of the graph of an UpdateService; empty while it reports none."""
    uri = str(status_of(service).get("policyEngineURI") or "")
    return f"{uri.rstrip('/')}{GRAPH_PATH}" if uri else ""


def read_updates(reads: Reads, release: Release | None) -> UpdateState:
    """Return what decides on updates of an OpenShift cluster. Raises ClusterError."""
    services = reads.list(UPDATE_SERVICE)
    has_policies = release is not None and release.has_image_policies
    # The kubelet reports GOARCH, which is how the update service names architectures.
    infos = [status_of(each).get("nodeInfo") or {} for each in reads.list(NODE) or []]
    return UpdateState(
        version=reads.get(CLUSTER_VERSION, "version") or {},
        services=None if services is None else tuple(services),
        signatures=tuple(reads.list(CONFIG_MAP, MANAGED_NAMESPACE, {SIGNATURE_LABEL: ""}) or ()),
        gates=_data(reads.get(CONFIG_MAP, GATES, MANAGED_NAMESPACE)),
        acks=_data(reads.get(CONFIG_MAP, ACKS, CONFIG_NAMESPACE)),
        policies=tuple(reads.list(IMAGE_POLICY) or ()) if has_policies else (),
        architectures=frozenset(str(each["architecture"]) for each in infos if each.get("architecture")),
    )


def _data(body: Body | None) -> dict[str, str]:
    data = (body or {}).get("data") or {}
    return {str(name): str(text) for name, text in data.items()}
