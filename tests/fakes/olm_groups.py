"""A model of what OLM decides about a ClusterServiceVersion and the OperatorGroups of a cluster, written from its sources.

operator-lifecycle-manager, pkg/controller/operators/olm/operator.go (operatorGroupForCSV, transitionCSVState), operatorgroup.go
(getOperatorGroupTargets, updateNamespaceList) and groups.go (NewOperatorGroup, Intersection, ReconcileAPIIntersection);
operator-framework/api, pkg/operators/v1alpha1/clusterserviceversion.go (InstallModeSet.Supports).
"""

from __future__ import annotations


def targets(group, labels):
    """Return the namespaces that a group selects; `labels`: of each namespace of the cluster."""
    spec = group.get("spec") or {}
    named = spec.get("targetNamespaces") or []
    if named:
        return sorted(named)
    wanted = (spec.get("selector") or {}).get("matchLabels") or {}
    if not wanted:
        return [""]
    return sorted(name for name, found in labels.items() if wanted.items() <= found.items())


def supports(modes, namespace, selected):
    """InstallModeSet.Supports: the error, or None."""
    if len(selected) == 0:
        return "cannot configure to watch zero namespaces"
    if len(selected) == 1:
        needed = {namespace: "OwnNamespace", "": "AllNamespaces"}.get(selected[0], "SingleNamespace")
        return None if needed in modes else f"{needed} InstallModeType not supported"
    if "MultiNamespace" not in modes:
        return "MultiNamespace InstallModeType not supported"
    for each in selected:
        if each == namespace and "OwnNamespace" not in modes:
            return "OwnNamespace InstallModeType not supported"
        if each == "":
            return "NamespaceAll found when |selected namespaces| > 1"
    return None


def _surface(group, labels):
    selected = targets(group, labels)
    if selected and selected[0] != "":
        selected = [*selected, group["metadata"]["namespace"]]
    listed = (group["metadata"].get("annotations") or {}).get("olm.providedAPIs", "")
    return set(selected), {each for each in listed.split(",") if each}


def _meet(one, other):
    if one == {""}:
        return set(other)
    return set(one) if other == {""} else one & other


def verdict(namespace, modes, provided, groups, labels):
    """Return the reason for which OLM fails a ClusterServiceVersion; empty where it installs it."""
    members = [each for each in groups if each["metadata"]["namespace"] == namespace]
    if not members:
        return "NoOperatorGroup"
    if len(members) > 1:
        return "TooManyOperatorGroups"
    (own,) = members
    selected = targets(own, labels)
    if not selected:
        return "NoTargetNamespaces"
    if supports(modes, namespace, selected):
        return "UnsupportedOperatorGroup"
    own_targets, own_apis = _surface(own, labels)
    taken = set()
    for group in groups:
        if group is own:
            continue
        other_targets, apis = _surface(group, labels)
        if _meet(own_targets, other_targets):
            taken |= apis
    subset, intersecting = provided <= own_apis, bool(provided & taken)
    # RemoveAPIs: both; AddAPIs: neither.
    if (own.get("spec") or {}).get("staticProvidedAPIs") and subset == intersecting:
        return "CannotModifyStaticOperatorGroupProvidedAPIs"
    if not subset and intersecting:
        return "InterOperatorGroupOwnerConflict"
    return ""
