"""How far an installation is, by Subscription, InstallPlan and ClusterServiceVersion, or by ClusterExtension. Reads only."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from common.errors import ClusterError
from importer.cluster.kinds import (
    CLUSTER_EXTENSION,
    CLUSTER_SERVICE_VERSION,
    INSTALL_PLAN,
    SUBSCRIPTION,
    condition,
    short,
    status_of,
)
from importer.cluster.readiness.readiness import Check
from importer.install.wanted import object_name
from importer.operators.installed import SUCCEEDED, Subscribed

if TYPE_CHECKING:
    from importer.cluster.api.client import Body, ClusterClient
    from importer.cluster.readiness.wait import Checks
    from importer.install.writing import Installation

_TRIES = "OLM tries again on its own"
_REQUIRES_APPROVAL, _FAILED = "RequiresApproval", "Failed"
_BLOCKED = "Blocked"
# operator-controller, internal/operator-controller/applier/provider.go (webhooks where the cluster has no provider of their
# certificates, API services, install modes) and resolve/validation.go (requirements).
_UNSUPPORTED = ("unsupported bundle", "currently not supported")


@dataclass(slots=True)
class Progress:
    """The checks of one installation. `states`: the last result of each, by package.

    `approvals`: the InstallPlans that wait for approval, as namespace and name by package.
    """

    client: ClusterClient
    installation: Installation
    approvals: dict[str, tuple[str, str]] = field(default_factory=dict)
    states: dict[str, Check] = field(default_factory=dict)

    def checks(self) -> dict[str, Checks]:
        """Return a check for each operator, by its subject."""
        found: dict[str, Checks] = {}
        for each in self.installation.placements:
            found[f"operator {each.chosen.package}"] = partial(self._noted, each.chosen.package, each.namespace)
        for one in self.installation.extended:
            found[f"operator {one.chosen.package}"] = partial(self._noted, one.chosen.package)
        return found

    def _noted(self, package: str, namespace: str = "") -> list[Check]:
        self.states[package] = self._subscription(namespace, package) if namespace else self._extension(package)
        return [self.states[package]]

    def _subscription(self, namespace: str, package: str) -> Check:
        """Check the operator of a Subscription. Raises ClusterError for an InstallPlan that has failed for good."""
        subject = f"operator {package}"
        one = self._subscribed(namespace, package)
        if one is None:
            return Check(subject, ok=False, state="its Subscription does not exist any more")
        self.approvals.pop(package, None)
        if one.unresolved:
            return Check(subject, ok=False, state="not resolved", evidence=one.unresolved, next_step=_TRIES)
        if one.installed:
            return self._version(subject, one)
        return self._plan(subject, one)

    def _subscribed(self, namespace: str, package: str) -> Subscribed | None:
        # One that was there before may have another name.
        found = self.client.get(SUBSCRIPTION, object_name(package), namespace)
        if found is not None and (found.get("spec") or {}).get("name") == package:
            return Subscribed.of(found)
        listed = (Subscribed.of(each) for each in self.client.list(SUBSCRIPTION, namespace) or ())
        return next((each for each in listed if each.package == package), None)

    def _plan(self, subject: str, one: Subscribed) -> Check:
        if one.plan_failure and not one.plan:
            return Check(subject, ok=False, state="its bundle cannot be unpacked", evidence=one.plan_failure, next_step=_TRIES)
        if not one.plan:
            return Check(subject, ok=False, state="being resolved", next_step="OLM makes an InstallPlan")
        plan = self.client.get(INSTALL_PLAN, one.plan, one.namespace) or {}
        phase = str(status_of(plan).get("phase") or "")
        if phase == _REQUIRES_APPROVAL:
            self.approvals[one.package] = (one.namespace, one.plan)
            return Check(subject, ok=True, state="waits for approval", evidence=f"InstallPlan {one.namespace}/{one.plan}")
        if phase == _FAILED:
            raise _failed(one, plan)
        next_step = "OLM carries the InstallPlan out"
        return Check(subject, ok=False, state=f"InstallPlan {one.plan}: {phase or 'no phase yet'}", next_step=next_step)

    def _version(self, subject: str, one: Subscribed) -> Check:
        body = self.client.get(CLUSTER_SERVICE_VERSION, one.installed, one.namespace)
        if body is None:
            return Check(subject, ok=False, state=f"{one.installed} is not there yet", next_step="OLM creates it")
        status = status_of(body)
        phase = str(status.get("phase") or "")
        if phase == SUCCEEDED:
            return Check(subject, ok=True, state=f"{one.installed} is installed")
        said = ": ".join(filter(None, (str(status.get("reason") or ""), short(status.get("message")))))
        return Check(subject, ok=False, state=f"{one.installed}: {phase or 'no phase yet'}", evidence=said, next_step=_TRIES)

    def _extension(self, package: str) -> Check:
        subject = f"operator {package}"
        body = self.client.get(CLUSTER_EXTENSION, object_name(package))
        if body is None:
            return Check(subject, ok=False, state="its ClusterExtension does not exist any more")
        installed, progressing = condition(body, "Installed"), condition(body, "Progressing")
        if installed.get("status") == "True" and progressing.get("reason") not in ("Retrying", "Blocked"):
            bundle = (status_of(body).get("install") or {}).get("bundle") or {}
            return Check(subject, ok=True, state=f"{bundle.get('name') or package} is installed")
        said = short(progressing.get("message") or installed.get("message"))
        reason = str(progressing.get("reason") or "being resolved")
        # Blocked is for good (operator-controller, api/v1/common_types.go); it repeats even what the bundle decides alone.
        if reason == _BLOCKED or any(each in said for each in _UNSUPPORTED):
            raise _refused(package, said or reason)
        return Check(subject, ok=False, state=reason, evidence=said, next_step="OLM v1 tries again on its own")


def _refused(package: str, said: str) -> ClusterError:
    return ClusterError(
        f"operator {package} cannot be installed by OLM v1",
        details=[said],
        hint=f"Remove its ClusterExtension (oc delete clusterextension {object_name(package)}). Another version may do, or OLM "
        "(Classic), where the cluster has it: the same command without --olm v1.",
    )


def _failed(one: Subscribed, plan: Body) -> ClusterError:
    # OLM does not carry a failed InstallPlan out again (catalog/operator.go, transitionInstallPlanState).
    said = short(condition(plan, "Installed").get("message")) or one.plan_failure or "it has no message"
    return ClusterError(
        f"operator {one.package} cannot be installed: InstallPlan {one.namespace}/{one.plan} has failed",
        details=[said],
        hint=f"OLM does not repeat it. Remove the cause, delete the Subscription (oc delete subscription {one.name} "
        f"-n {one.namespace}), and run the same command again; hub-import doctor shows causes.",
    )


def approval(namespace: str, plan: str) -> str:
    """Return the command that approves an InstallPlan."""
    patch = json.dumps({"spec": {"approved": True}}, separators=(",", ":"))
    return f"oc patch installplan {plan} -n {namespace} --type merge -p '{patch}'"
