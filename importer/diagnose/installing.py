"""Rules about operators that are not installed, or not well: ClusterServiceVersions and InstallPlans. No I/O.

An operator whose own pods wait for images is explained by these (`pulls.py`), and has no second finding here.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from common.text import counted, enumeration, shortened
from importer.cluster.finding import UNKNOWN, Finding, Severity
from importer.cluster.kinds import condition, short, status_of
from importer.diagnose.pulls import unexplained

if TYPE_CHECKING:
    from collections.abc import Iterator

    from importer.diagnose.olm_objects import Plan, Version
    from importer.diagnose.snapshot import Snapshot

_SHOWN = 5
_PLANS_SHOWN = 20
# OLM gives an installation five minutes (operator-lifecycle-manager, pkg/controller/operators/olm/operator.go).
_TAKES_S = 600.0
_IN_HOURS, _IN_DAYS = 2 * 60, 2 * 24 * 60  # minutes from which a time is given in the larger unit
_OVER = frozenset(("Succeeded", "Replacing", "Deleting"))
_WORKING = frozenset(("", "Planning", "Installing"))
FAILED, REQUIRES_APPROVAL, COMPLETE = "Failed", "RequiresApproval", "Complete"

# Reasons of a ClusterServiceVersion that are about its OperatorGroup (clusterserviceversion_types.go, ConditionReason).
_GROUP_REASONS = frozenset(
    (
        "CannotModifyStaticOperatorGroupProvidedAPIs",
        "InterOperatorGroupOwnerConflict",
        "InvalidInstallModes",
        "NoOperatorGroup",
        "NoTargetNamespaces",
        "TooManyOperatorGroups",
        "UnsupportedOperatorGroup",
    )
)
_GROUP = re.compile(r"operator ?group", re.IGNORECASE)
UNPACK = re.compile(r"bundle unpacking failed|unpack", re.IGNORECASE)
_UNMET_CRD = re.compile(r"CustomResourceDefinition\S* (?P<name>\S+): NotPresent")
# Why InstallPlans fail (pkg/controller/operators/catalog/operator.go, step.go); the documentation of operator-lifecycle-manager
# on failed InstallPlans names the same.
_PLAN_SYMPTOMS = (
    (
        re.compile(r"error validating existing CRs against new CRD", re.IGNORECASE),
        "custom resources of the cluster do not fit the CustomResourceDefinition of the new version",
        "Change or delete the custom resources that the message names; see the notes of the operator's version.",
    ),
    (
        re.compile(r"risk of data loss", re.IGNORECASE),
        "the new CustomResourceDefinition lacks a version in which objects are stored",
        "Migrate the stored objects, and remove the old version from status.storedVersions; see the notes of the operator.",
    ),
    (
        re.compile(r"api-server resource not found|no matches for kind", re.IGNORECASE),
        "the bundle has an object of a kind that the cluster does not serve",
        "Install what provides that kind (such as the Prometheus operator for ServiceMonitor), or use another version.",
    ),
)
_AGAIN = "OLM does not repeat it: delete the InstallPlan, and where no new one comes, the Subscription, and create that again."


def operators(snapshot: Snapshot) -> Iterator[Finding]:
    """Give a finding for each operator that is not installed, and one for all InstallPlans that wait for approval."""
    yield from _groups(snapshot)
    for version in snapshot.versions:
        found = _version(version, snapshot)
        if found is not None:
            yield found
    for plan in current_plans(snapshot):
        if plan.phase == FAILED and not UNPACK.search(plan.failure) and not _GROUP.search(plan.failure):
            yield _failed_plan(plan)
        elif plan.phase in _WORKING and (plan.since_s or 0) >= _TAKES_S and not _is_unpacking(plan, snapshot):
            yield _slow_plan(plan)
    yield from _approvals(snapshot)
    yield from _missing_plans(snapshot)


def unwell(snapshot: Snapshot) -> list[Version]:
    """Return the ClusterServiceVersions that are not installed, or not well."""
    return [each for each in snapshot.versions if each.phase not in _OVER]


def current_plans(snapshot: Snapshot) -> list[Plan]:
    """Return the InstallPlans that Subscriptions wait for, and that are not complete."""
    return [each for each in snapshot.plans if each.phase != COMPLETE]


def _plan_of(subscription: dict[str, object]) -> str:
    return str((status_of(subscription).get("installPlanRef") or {}).get("name") or "")


def _subject(version: Version) -> str:
    return f"ClusterServiceVersion {version.namespace}/{version.name}"


def _is_about_group(version: Version) -> bool:
    return version.phase not in _OVER and version.reason in _GROUP_REASONS


def _groups(snapshot: Snapshot) -> Iterator[Finding]:
    """Give one finding for each namespace whose OperatorGroup keeps operators from being installed."""
    found: dict[str, list[str]] = {}
    for version in filter(_is_about_group, snapshot.versions):
        found.setdefault(version.namespace, []).append(f"{_subject(version)}: {version.said}")
    for plan in current_plans(snapshot):
        if plan.phase == FAILED and _GROUP.search(plan.failure):
            found.setdefault(plan.namespace, []).append(f"InstallPlan {plan.namespace}/{plan.name}: {plan.failure}")
    for namespace, shown in sorted(found.items()):
        yield Finding(
            "operator-group",
            f"OperatorGroup of namespace {namespace}",
            "the namespace has no OperatorGroup, several, or one that the operator's install modes do not fit",
            tuple(shortened(shown, _SHOWN)),
            f"A namespace has exactly one: oc get operatorgroup -n {namespace}. Without spec.targetNamespaces it stands for "
            "AllNamespaces, with the namespace itself for OwnNamespace.",
        )


def _version(version: Version, snapshot: Snapshot) -> Finding | None:
    if version.phase in _OVER or _is_about_group(version):
        return None
    if version.phase != FAILED and (version.unmet or version.reason == "RequirementsNotMet"):
        return _requirements(version)
    if _waits_for_images(version, snapshot):
        return None
    evidence = (_phase(version), *version.unmet[:_SHOWN])
    describe = f"oc describe csv {version.name} -n {version.namespace}, and the pods of its deployments, say more."
    if version.phase == FAILED:
        return Finding(
            "csv-failed", _subject(version), "OLM cannot install the operator, or it is not healthy", evidence, describe
        )
    if version.since_s is None or version.since_s < _TAKES_S:
        return None  # `status` shows it
    cause = f"it is not installed yet, and has been in phase {version.phase or 'none'} for {_lasting(version.since_s)}"
    return Finding("csv-pending", _subject(version), cause, evidence, describe)


def _phase(version: Version) -> str:
    return ", ".join(filter(None, (f"phase {version.phase or 'none yet'}", version.said)))


def _lasting(seconds: float) -> str:
    """Return a time as text: in minutes below two hours, in days from two days on."""
    minutes = int(seconds // 60)
    if minutes < _IN_HOURS:
        return counted(minutes, "minute")
    return counted(minutes // 60, "hour") if minutes < _IN_DAYS else counted(minutes // (24 * 60), "day")


def _requirements(version: Version) -> Finding:
    absent = [found["name"] for each in version.unmet if (found := _UNMET_CRD.search(each))]
    if absent:
        fix = f"Install the operator that provides {enumeration(absent, _SHOWN)}; export its package where no catalog has it."
    elif any("minKubeVersion" in each for each in version.unmet):
        fix = "Update the cluster, or install a version of the operator that is meant for it."
    else:
        fix = "Create what the list names; for permissions see the ServiceAccount of the OperatorGroup."
    # Requirements are also unmet for the seconds in which OLM creates them.
    lately = version.since_s is not None and version.since_s < _TAKES_S
    return Finding(
        "csv-pending",
        _subject(version),
        "requirements of the operator are not met",
        (*shortened(version.unmet, _SHOWN), _phase(version)),
        fix,
        severity=Severity.WARNING if lately else Severity.ERROR,
    )


def _waits_for_images(version: Version, snapshot: Snapshot) -> bool:
    """Return whether a pod of the operator waits for an image; any pod of the namespace where its deployments are unknown."""
    pods = [each.pod for each in unexplained(snapshot) if each.namespace == version.namespace]
    names = tuple(f"{name}-" for name in version.deployments)
    return any(not names or pod.startswith(names) for pod in pods)


def _failed_plan(plan: Plan) -> Finding:
    known = next((each for each in _PLAN_SYMPTOMS if each[0].search(plan.failure)), None)
    _, cause, fix = known or (None, "OLM could not carry it out", "See the message of the cluster.")
    return Finding(
        "installplan-failed",
        f"InstallPlan {plan.namespace}/{plan.name}",
        cause,
        (f"for {enumeration(plan.csvs, _SHOWN)}", plan.failure or "it has no message"),
        f"{fix} {_AGAIN}",
    )


def _is_unpacking(plan: Plan, snapshot: Snapshot) -> bool:
    """Return whether a pod that unpacks one of its bundles waits for an image, which has a finding of its own."""
    return any(f"{each.namespace}/{each.pod}" in plan.unpacking for each in unexplained(snapshot))


def _slow_plan(plan: Plan) -> Finding:
    return Finding(
        UNKNOWN,
        f"InstallPlan {plan.namespace}/{plan.name}",
        f"is not carried out after {_lasting(plan.since_s or 0)}, for an unknown reason",
        (
            f"phase {plan.phase or 'none yet'}, for {enumeration(plan.csvs, _SHOWN)}",
            short(plan.unpacking) or "it has no message",
        ),
        f"oc describe installplan {plan.name} -n {plan.namespace}, and the log of catalog-operator, say more.",
    )


def _approvals(snapshot: Snapshot) -> Iterator[Finding]:
    waiting = [each for each in current_plans(snapshot) if each.phase == REQUIRES_APPROVAL]
    if not waiting:
        return
    patch = json.dumps({"spec": {"approved": True}}, separators=(",", ":"))
    first = waiting[0]
    yield Finding(
        "installplan-waits",
        f"InstallPlan {first.namespace}/{first.name}" if len(waiting) == 1 else counted(len(waiting), "InstallPlan"),
        "waiting for approval, as the Subscription has installPlanApproval Manual: the operator stays on its version",
        tuple(shortened([f"{each.namespace}/{each.name}: {enumeration(each.csvs, _SHOWN)}" for each in waiting], _PLANS_SHOWN)),
        f"To let it happen: oc patch installplan {first.name} -n {first.namespace} --type merge -p '{patch}'",
        severity=Severity.WARNING,  # waiting is what Manual is for
    )


def _missing_plans(snapshot: Snapshot) -> Iterator[Finding]:
    """Give the Subscriptions that wait for an InstallPlan that was deleted (subscription/state.go, InstallPlanMissing)."""
    for body in snapshot.subscriptions:
        found = condition(body, "InstallPlanMissing")
        if found.get("status") == "True":
            name, namespace = body["metadata"]["name"], body["metadata"].get("namespace", "")
            said = short(found.get("message") or found.get("reason") or "InstallPlanMissing")
            yield Finding(
                "installplan-missing",
                f"Subscription {namespace}/{name}",
                "it waits for an InstallPlan that does not exist any more",
                (said, f"installPlanRef: {_plan_of(body)}"),
                "Delete the Subscription and create it again: the operator that is installed stays.",
            )
