"""The nodes of a cluster in groups that pull alike: by MachineConfigPool and architecture. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from common.text import counted, shortened
from importer.cluster.kinds import condition, short, status_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from importer.cluster.api.client import Body

_CANDIDATES = 20  # nodes that the pod of a group may run on; a pool has thousands
_TAINTS = 20
_LONGEST = 200
_MASTER, _WORKER = "master", "worker"
_CURRENT, _DESIRED = "machineconfiguration.openshift.io/currentConfig", "machineconfiguration.openshift.io/desiredConfig"
# What a node that is starting, short of something, or on its way out has, and no pod is to tolerate:
# * node.kubernetes.io/…, of Kubernetes itself (kubernetes, staging/src/k8s.io/api/core/v1/well_known_taints.go);
# * node.cloudprovider.kubernetes.io/uninitialized, node.cluster.x-k8s.io/uninitialized: until a cloud provider, or Cluster API,
#   knows the node; karpenter.sh/unregistered; node.cilium.io/agent-not-ready and the like: until a DaemonSet runs;
# * ToBeDeletedByClusterAutoscaler (kubernetes/autoscaler, cluster-autoscaler/utils/taints).
_PASSING_TAINT = re.compile(
    r"^node\.kubernetes\.io/|/(?:[a-z-]+-)?(?:not-ready|uninitialized|unregistered|unreachable)$|^ToBeDeletedByClusterAutoscaler$"
)
_SOFT = "PreferNoSchedule"
_NAMED = 5  # nodes whose state is said


@dataclass(frozen=True, slots=True)
class Group:
    """Nodes of one pool and architecture. `pool` is empty where there are no pools; `ready`: those that a pod may run on.

    `unready`: why not, of some of the others, as text.
    """

    pool: str
    architecture: str
    nodes: int
    ready: tuple[str, ...] = ()
    taints: tuple[tuple[str, str, str], ...] = ()  # key, value, effect
    unready: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The pool and the architecture."""
        return f"{self.pool}/{self.architecture}" if self.pool else self.architecture

    @property
    def label(self) -> str:
        """The group for people."""
        return f"{self.name} ({counted(self.nodes, 'node')})"


def grouped(nodes: Sequence[Body], pools: Sequence[Body]) -> tuple[Group, ...]:
    """Return the groups of the Linux nodes, sorted by pool and architecture."""
    found: dict[tuple[str, str], list[Body]] = {}
    for node in nodes:
        info = status_of(node).get("nodeInfo") or {}
        if info.get("architecture") and (info.get("operatingSystem") or "linux") == "linux":
            found.setdefault((pool_of(node, pools), str(info["architecture"])), []).append(node)
    return tuple(_group(pool, architecture, members) for (pool, architecture), members in sorted(found.items()))


def pool_of(node: Body, pools: Sequence[Body]) -> str:
    """Return the pool whose configuration a node gets; empty where it is in none."""
    # machine-config-operator, pkg/helpers/helpers.go, GetPoolsForNode: a node of a custom pool is in `worker` too, and a
    # node of `master` takes the configuration of `master` whatever other pool selects it.
    labels = node["metadata"].get("labels") or {}
    names = [str(each["metadata"]["name"]) for each in pools if _selects(each, labels)]
    if _MASTER in names:
        return _MASTER
    own = sorted(each for each in names if each != _WORKER)
    return own[0] if own else _WORKER if names else ""


def _selects(pool: Body, labels: Mapping[str, str]) -> bool:
    """Return whether the nodeSelector of a pool, a LabelSelector of meta/v1, selects labels; an empty one selects none."""
    selector = (pool.get("spec") or {}).get("nodeSelector") or {}
    wanted, terms = selector.get("matchLabels") or {}, selector.get("matchExpressions") or []
    if not wanted and not terms:
        # A pool of a test cluster, or an edited one: by the label that its name stands for.
        return f"node-role.kubernetes.io/{pool['metadata']['name']}" in labels
    return all(labels.get(name) == value for name, value in wanted.items()) and all(_meets(each, labels) for each in terms)


def _meets(term: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    key, values = str(term.get("key")), term.get("values") or []
    has = key in labels
    return {
        "Exists": has,
        "DoesNotExist": not has,
        "In": has and labels.get(key) in values,
        "NotIn": not has or labels[key] not in values,
    }.get(str(term.get("operator")), False)


def _group(pool: str, architecture: str, nodes: Sequence[Body]) -> Group:
    able = [each for each in nodes if not unready(each)][:_CANDIDATES]
    lacking = [f"node {each['metadata']['name']}: {why}" for each in nodes if (why := unready(each))]
    names = tuple(sorted(str(each["metadata"]["name"]) for each in able))
    taints = {_taint(one) for each in able for one in (each.get("spec") or {}).get("taints") or []}
    return Group(
        pool, architecture, len(nodes), names, tuple(sorted(taints)[:_TAINTS]), tuple(shortened(sorted(lacking), _NAMED))
    )


def is_ready(node: Body) -> bool:
    """Return whether the kubelet of a node reports that it is ready."""
    return condition(node, "Ready").get("status") == "True"


def unready(node: Body) -> str:
    """Return why a node takes no pods for now; empty where it does."""
    spec, ready = node.get("spec") or {}, condition(node, "Ready")
    if not is_ready(node):
        return f"not ready: {short(ready.get('message') or ready.get('reason') or 'it states no condition Ready', _LONGEST)}"
    if spec.get("unschedulable"):
        return "cordoned (spec.unschedulable)"
    taints = [each for each in spec.get("taints") or [] if each.get("effect") != _SOFT]
    passing = [str(each.get("key")) for each in taints if _PASSING_TAINT.search(str(each.get("key")))]
    return f"tainted {', '.join(passing[:_NAMED])}" if passing else ""


def _taint(taint: Mapping[str, Any]) -> tuple[str, str, str]:
    return str(taint.get("key") or ""), str(taint.get("value") or ""), str(taint.get("effect") or "")


def configurations(node: Body) -> tuple[str, str]:
    """Return the machine configuration that a node has, and the one that it is to have; empty where it states none."""
    notes = node["metadata"].get("annotations") or {}
    return str(notes.get(_CURRENT) or ""), str(notes.get(_DESIRED) or "")
