"""OLM's rules for OperatorGroups: which install modes fit one, and which groups keep an operator from being installed. Pure.

Sources: operator-framework/api, pkg/operators/v1alpha1/clusterserviceversion.go (`InstallModeSet.Supports`);
operator-lifecycle-manager, pkg/controller/operators/olm/operator.go (`operatorGroupForCSV`, `transitionCSVState`),
operatorgroup.go (`getOperatorGroupTargets`) and groups.go (`ReconcileAPIIntersection`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from importer.cluster.kinds import status_of
from importer.install.wanted import InstallMode

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from importer.cluster.api.client import Body

ALL_NAMESPACES = ("",)  # how OLM writes the targets of a group that selects none
_PROVIDED = "olm.providedAPIs"


@dataclass(frozen=True, slots=True)
class Group:
    """One OperatorGroup. `targets` None: its selector matches no namespace so far, or OLM has not evaluated it yet.

    `provided`: the APIs that its operators provide, as OLM notes them; `fixed`: no operator may add others.
    `account`: the ServiceAccount whose rights its operators get, if any.
    """

    namespace: str
    name: str
    targets: tuple[str, ...] | None = ALL_NAMESPACES
    provided: frozenset[str] = frozenset()
    fixed: bool = False
    account: str = ""

    @classmethod
    def of(cls, body: Body) -> Group:
        """Return the OperatorGroup that a body describes."""
        metadata, spec = body["metadata"], body.get("spec") or {}
        listed = str((metadata.get("annotations") or {}).get(_PROVIDED) or "")
        return cls(
            str(metadata.get("namespace") or ""),
            str(metadata["name"]),
            _targets(body),
            frozenset(each for each in listed.split(",") if each),
            spec.get("staticProvidedAPIs") is True,
            str(spec.get("serviceAccountName") or ""),
        )

    @property
    def selection(self) -> frozenset[str] | None:
        """The namespaces that count for conflicts: targets and own namespace; None for all."""
        targets = self.targets or ()
        return None if targets == ALL_NAMESPACES else frozenset((*targets, self.namespace))

    def __str__(self) -> str:
        return f"OperatorGroup {self.namespace}/{self.name}"


def _targets(body: Body) -> tuple[str, ...] | None:
    evaluated = status_of(body).get("namespaces")
    if isinstance(evaluated, list) and evaluated:
        return tuple(sorted(map(str, evaluated)))
    spec = body.get("spec") or {}
    if named := spec.get("targetNamespaces"):
        return tuple(sorted(map(str, named)))
    selector = spec.get("selector") or {}
    return None if selector.get("matchLabels") or selector.get("matchExpressions") else ALL_NAMESPACES


def shown(targets: Sequence[str] | None) -> str:
    """Return the targets of a group for people."""
    if not targets:
        return "no namespace"
    return "all namespaces" if tuple(targets) == ALL_NAMESPACES else ", ".join(targets)


def mode_of(namespace: str, targets: Sequence[str]) -> InstallMode:
    """Return the install mode that an operator in `namespace` runs in with these targets."""
    if tuple(targets) == ALL_NAMESPACES:
        return InstallMode.ALL
    if len(targets) > 1:
        return InstallMode.MULTI
    return InstallMode.OWN if tuple(targets) == (namespace,) else InstallMode.SINGLE


def lacking_mode(modes: Collection[str], namespace: str, targets: Sequence[str]) -> InstallMode | None:
    """Return the mode that an operator in `namespace` needs for these targets and does not have; None when it has all."""
    needed = [mode_of(namespace, targets)]
    # Among several targets, its own namespace needs its own mode as well.
    if len(targets) > 1 and namespace in targets:
        needed.append(InstallMode.OWN)
    return next((mode for mode in needed if mode not in modes), None)


def intersects(one: Group, other: Group) -> bool:
    """Return whether two groups select a namespace in common."""
    first, second = one.selection, other.selection
    if first is None or second is None:
        return True
    return bool(first & second)


def conflicting(own: Group, provided: Collection[str], others: Sequence[Group]) -> tuple[Group, frozenset[str]] | None:
    """Return a group that intersects and provides the same APIs, with these; None without one."""
    # An operator whose APIs its group has already stays a member (RemoveAPIs): OLM decided before.
    if set(provided) <= own.provided:
        return None
    for each in others:
        same = each.provided.intersection(provided)
        if same and (each.namespace, each.name) != (own.namespace, own.name) and intersects(own, each):
            return each, same
    return None
