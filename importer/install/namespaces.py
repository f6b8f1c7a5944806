"""The namespaces of an installation: labels that they lack, pods that nothing restricts, names that do not exist."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from importer.cluster.api.client import ForbiddenError
from importer.cluster.finding import Finding, Severity
from importer.cluster.kinds import NAMESPACE, has_own_label
from importer.install.groups import ALL_NAMESPACES
from importer.install.objects import MONITORING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from importer.cluster.api.client import Body, ClusterClient
    from importer.cluster.kinds import Resource
    from importer.cluster.release import Release
    from importer.install.writing import Installation

PRIVILEGED = "namespace-privileged"
_ENFORCE = "pod-security.kubernetes.io/enforce"
_RUN_LEVEL = "openshift.io/run-level"
_SYNC = "security.openshift.io/scc.podSecurityLabelSync"
_OF_OPENSHIFT = "openshift-"
# Neither SecurityContextConstraints nor Pod Security admission apply there (documentation of OpenShift, *Managing security
# context constraints*: default projects, and those of run level 0 and 1).
_UNGUARDED = frozenset(("default", "kube-public", "kube-system", "openshift", "openshift-infra", "openshift-node"))
_OTHER = "Choose another namespace: --namespace."


@dataclass(frozen=True, slots=True)
class Existing:
    """The namespaces of an installation that exist, by name; those that may not be read are left out."""

    bodies: Mapping[str, Body]
    unread: frozenset[str] = frozenset()

    @property
    def foreign(self) -> frozenset[str]:
        """The names of those that no earlier run created."""
        return frozenset(name for name, body in self.bodies.items() if not has_own_label(body))


def existing(client: ClusterClient, names: Collection[str]) -> Existing:
    """Return which namespaces exist. Raises ClusterError."""
    found, unread = {}, set[str]()
    for name in sorted(names):
        try:
            body = client.get(NAMESPACE, name)
        except ForbiddenError:
            # One of the permissions that are asked for together, with the names of all objects, once these are known.
            unread.add(name)
            continue
        if body is not None:
            found[name] = body
    return Existing(found, frozenset(unread))


def remarks(installation: Installation, seen: Existing, release: Release | None) -> Iterator[Finding]:
    """Yield warnings about the namespaces of an installation."""
    for resource in installation.namespaces:
        live = seen.bodies.get(resource.name)
        if live is None and resource.name not in seen.unread:
            yield from loosened(resource, release)
        elif live is not None:
            yield from _labels(resource, live)
            yield from _unguarded(resource.name, live, release)


def loosened(namespace: Resource, release: Release | None) -> Iterator[Finding]:
    """Yield warnings for a new namespace whose pods may do more than others, or whose metrics the cluster collects."""
    given = namespace.body["metadata"].get("labels") or {}
    if release is not None and namespace.name in _UNGUARDED:
        yield _exempt(namespace.name)
    elif lax := _lax(given):
        cause = "its operator asks for labels that let all pods of the namespace do more than others"
        fix = "Nothing, if the operator is to have that; otherwise create the namespace without them first."
        yield _warning(PRIVILEGED, namespace.name, cause, lax, fix)
    if given.get(MONITORING) == "true":
        cause = "the Prometheus of the platform collects the metrics of its operator"
        # The console warns of operators that are not Red Hat's (openshift/console, operator-hub-subscribe.tsx).
        fix = "Nothing, if you trust its publisher: metrics can replace those of the cluster. Else create it without the label."
        yield _warning("namespace-monitored", namespace.name, cause, (f"{MONITORING}=true",), fix)


def _lax(labels: Mapping[str, Any]) -> tuple[str, ...]:
    lax = [_ENFORCE] if labels.get(_ENFORCE) in ("privileged", "baseline") else []
    # OpenShift applies no SecurityContextConstraints in namespaces of run level 0 and 1.
    lax += [_RUN_LEVEL] if labels.get(_RUN_LEVEL) in ("0", "1") else []
    return tuple(f"{each}={labels[each]}" for each in lax)


def _unguarded(name: str, live: Body, release: Release | None) -> Iterator[Finding]:
    """Yield a warning for a namespace that exists, and whose pods may do more than the rights of their accounts allow."""
    # Another Kubernetes restricts no namespace unless labels, or a configuration that clients cannot read, say so.
    if release is None:
        return
    labels = live["metadata"].get("labels") or {}
    if name in _UNGUARDED:
        yield _exempt(name)
        return
    # The level of other namespaces is that of the permissions of their accounts (cluster-policy-controller,
    # pkg/psalabelsyncer/podsecurity_label_sync_controller.go, isNSControlled); then a lax one is no decision of a person.
    synced = labels.get(_SYNC) == "true" or (labels.get(_SYNC) != "false" and not name.startswith(_OF_OPENSHIFT))
    lax = [each for each in _lax(labels) if not (synced and each.startswith(_ENFORCE))]
    if lax:
        cause = "its labels let all pods of the namespace do more than others"
        yield _warning(PRIVILEGED, name, cause, tuple(lax), f"Nothing, if the operator is to have that. {_OTHER}")


def _exempt(name: str) -> Finding:
    cause = "OpenShift applies neither SecurityContextConstraints nor Pod Security admission there: pods may do everything"
    return _warning(PRIVILEGED, name, cause, ("it is a namespace of the cluster itself",), _OTHER)


def _labels(resource: Resource, live: Body) -> Iterator[Finding]:
    """Yield a warning for labels that a namespace lacks."""
    labels = live["metadata"].get("labels") or {}
    wanted = {key: value for key, value in resource.body["metadata"]["labels"].items() if "managed-by" not in key}
    # To its own namespace the run adds labels that are missing, and leaves other values.
    compared = wanted.keys() & labels.keys() if has_own_label(live) else wanted.keys()
    lacking = tuple(f"{key}={wanted[key]}" for key in sorted(compared) if labels.get(key) != wanted[key])
    if lacking:
        cause = "it exists, and lacks labels that an operator wants: it is left as it is"
        # The command comes last, so that it can be copied.
        role = " (the platform's Prometheus, prometheus-k8s, then needs a Role there, too)"
        fix = f"If they are right{role if f'{MONITORING}=true' in lacking else ''}: "
        fix += f"oc label namespace {resource.name} {' '.join(lacking)}"
        yield _warning("namespace-labels", resource.name, cause, lacking, fix)


def watched(installation: Installation) -> dict[str, str]:
    """Return the namespaces that operators are to watch, and no run creates, with what names them."""
    found: dict[str, str] = {}
    for each in installation.fresh:
        for name in each.group.targets if each.group.targets not in (None, ALL_NAMESPACES) else ():
            found.setdefault(name, str(each.chosen) if each.fresh else str(each.group))
    for one in installation.extended:
        if one.watch and not one.present:
            found.setdefault(one.watch, str(one.chosen))
    return {name: why for name, why in found.items() if name not in installation.members}


def unwatched(installation: Installation, seen: Existing) -> Iterator[Finding]:
    """Yield warnings for namespaces that operators are to watch and that do not exist."""
    for name, why in watched(installation).items():
        if name in seen.bodies or name in seen.unread:
            continue
        # OLM creates Roles and a copy of the ClusterServiceVersion in each (operator-lifecycle-manager,
        # pkg/controller/operators/olm/operatorgroup.go, ensureTenantRBAC), OLM v1 the Roles of the bundle.
        cause = f"{why} selects it to be watched, and it does not exist: the operator is not installed until it does"
        fix = f"Check the name, or create it: oc create namespace {name}."
        yield _warning("namespace-missing", name, cause, (), fix)


def _warning(code: str, name: str, cause: str, evidence: tuple[str, ...], fix: str) -> Finding:
    return Finding(code, f"Namespace {name}", cause, evidence, fix, severity=Severity.WARNING)
