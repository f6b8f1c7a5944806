"""Operators as OLM leaves them behind: Subscriptions, InstallPlans, ClusterServiceVersions and pods, put on the fake cluster.

    put_operator(cluster, InstalledOperator("team-a", "my-alpha", "alpha", version="0.9.0", source="redhat-operators"))
    five = lived_in(cluster)                     # a site in use: five Subscriptions, each in a state of its own

Sources: operator-framework/api, pkg/operators/v1alpha1 (subscription_types.go, installplan_types.go,
clusterserviceversion_types.go); operator-lifecycle-manager, pkg/controller/operators/catalog/operator.go (names of
InstallPlans, labels `operators.coreos.com/PACKAGE.NAMESPACE`) and pkg/controller/operators/catalog/subscription/state.go.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.fakes.cluster_store import Body, Key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.fakes.cluster import FakeCluster

MARKETPLACE = "openshift-marketplace"
# SubscriptionState of subscription_types.go; none while nothing was resolved.
AT_LATEST, PENDING, AVAILABLE, FAILED = "AtLatestKnown", "UpgradePending", "UpgradeAvailable", "UpgradeFailed"
_COMPLETE = {"type": "Installed", "status": "True"}


@dataclass(frozen=True)
class InstalledOperator:
    """A Subscription with what OLM made for it. `version` empty: nothing is installed.

    `pending`: the version of an InstallPlan that is not complete, `plan_phase` its phase. `phase`: that of the CSV.
    `waiting`: the reason for which its pod waits, such as ImagePullBackOff, `waiting_message` the kubelet's words.
    """

    namespace: str
    name: str
    package: str
    channel: str = "stable"
    version: str = "0.9.0"
    source: str = "redhat-operators"
    source_namespace: str = MARKETPLACE
    approval: str = "Automatic"
    state: str = AT_LATEST
    csv: str = ""
    phase: str = "Succeeded"
    phase_message: str = ""
    pending: str = ""
    plan_phase: str = "RequiresApproval"
    plan_message: str = ""
    starting_csv: str = ""
    image: str = ""
    waiting: str = ""
    waiting_message: str = ""
    conditions: tuple[Body, ...] = ()

    def csv_of(self, version: str) -> str:
        """Return the name of the bundle of a version."""
        return f"{self.package}.v{version}" if version else ""

    @property
    def installed(self) -> str:
        """The name of the installed ClusterServiceVersion; empty without one."""
        return self.csv or self.csv_of(self.version)

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"


def put_operator(cluster: FakeCluster, one: InstalledOperator) -> InstalledOperator:
    """Put an operator on the cluster, as OLM and its administrator left it."""
    cluster._ensure_namespace(one.namespace)
    spec: Body = {"name": one.package, "channel": one.channel, "source": one.source}
    spec |= {"sourceNamespace": one.source_namespace, "installPlanApproval": one.approval}
    if one.starting_csv:
        spec["startingCSV"] = one.starting_csv
    metadata = {"name": one.name, "namespace": one.namespace}
    body: Body = {"kind": "Subscription", "metadata": metadata, "spec": spec, "status": {}}
    # A person's: hub-import must not lose a field that somebody else owns.
    cluster.put(body, "another-manager")
    status: Body = {}
    if one.installed:
        plan = put_plan(cluster, one, one.installed, "Complete")
        put_csv(cluster, one, one.installed, one.version)
        status = {"installedCSV": one.installed, "currentCSV": one.installed, "state": one.state, **plan}
        put_pod(cluster, one)
    if one.pending:
        waiting = one.csv_of(one.pending)
        plan = put_plan(cluster, one, waiting, one.plan_phase, one.plan_message)
        status |= {"currentCSV": waiting, "state": PENDING, **plan}
        status["conditions"] = [plan_condition(one.plan_phase, one.plan_message)]
    if one.conditions:
        status["conditions"] = [*status.get("conditions", []), *one.conditions]
    cluster.store.set_status(_key(cluster, "Subscription", one.namespace, one.name), status)
    return one


def plan_condition(phase: str, message: str = "") -> Body:
    """Return what a Subscription says of an InstallPlan that is not complete (`CheckInstallPlanStatus`)."""
    if phase == "Failed":
        return {"type": "InstallPlanFailed", "status": "True", "reason": "InstallComponentFailed", "message": message}
    said = {"message": message} if message else {}
    return {"type": "InstallPlanPending", "status": "True", "reason": phase or "InstallPlanNotYetReconciled", **said}


def put_plan(cluster: FakeCluster, one: InstalledOperator, csv: str, phase: str, message: str = "") -> Body:
    """Write the InstallPlan of a bundle; return the references that a Subscription keeps of it."""
    name = plan_name(one.namespace, csv)
    approved = one.approval == "Automatic" or phase in {"Complete", "Installing", "Failed"}
    spec = {"clusterServiceVersionNames": [csv], "approval": one.approval, "approved": approved, "generation": 1}
    labels = {f"operators.coreos.com/{one.package}.{one.namespace}": ""}
    metadata = {"name": name, "namespace": one.namespace, "labels": labels}
    status: Body = {"phase": phase, "catalogSources": [one.source]}
    if phase == "Complete":
        status["conditions"] = [_COMPLETE]
    elif phase == "Failed":
        reason = "InstallComponentFailed"
        status["conditions"] = [{"type": "Installed", "status": "False", "reason": reason, "message": message}]
    elif message:  # of the jobs that unpack the bundles (bundle_unpacker.go)
        pending = {"type": "BundleLookupPending", "status": "True", "reason": "JobIncomplete", "message": message}
        status["bundleLookups"] = [{"identifier": csv, "conditions": [pending]}]
    body = {"kind": "InstallPlan", "metadata": metadata, "spec": spec, "status": status}
    written = cluster.put(body, "catalog-operator")
    ref = {"apiVersion": "operators.coreos.com/v1alpha1", "kind": "InstallPlan", "name": name, "namespace": one.namespace}
    ref["uid"] = written["metadata"]["uid"]
    return {"installPlanRef": ref, "installplan": {key: ref[key] for key in ("apiVersion", "kind", "name", "uid")}}


def plan_name(namespace: str, csv: str) -> str:
    """Return a name as OLM generates it (`install-` and five letters), the same for the same bundle."""
    return "install-" + "".join(letter for letter in f"{csv}{namespace}" if letter.isalnum())[-24:].lower()


def put_csv(
    cluster: FakeCluster, one: InstalledOperator, name: str, version: str, *, replaces: str = "", phase: str = ""
) -> None:
    """Write a ClusterServiceVersion with its phase."""
    phase = phase or one.phase
    spec: Body = {"displayName": one.package.title(), "version": version}
    if replaces:
        spec["replaces"] = replaces
    labels = {f"operators.coreos.com/{one.package}.{one.namespace}": ""}
    metadata = {"name": name, "namespace": one.namespace, "labels": labels}
    # ConditionReason of clusterserviceversion_types.go
    reason = {"Succeeded": "InstallSucceeded", "Failed": "InstallCheckFailed", "Pending": "RequirementsNotMet"}.get(phase)
    status: Body = {"phase": phase, "reason": reason or "InstallWaiting", "message": one.phase_message}
    cluster.put({"kind": "ClusterServiceVersion", "metadata": metadata, "spec": spec, "status": status}, "catalog-operator")


def put_pod(cluster: FakeCluster, one: InstalledOperator) -> None:
    """Write the pod of the operator, run by a Deployment of its CSV."""
    name = f"{one.package}-controller-manager"
    image = one.image or f"registry.example.com/{one.package}/operator:v{one.version}"
    owner = {"kind": "ReplicaSet", "name": f"{name}-6f9c", "uid": "0"}
    metadata = {"name": f"{name}-6f9c-x2x4z", "namespace": one.namespace, "labels": {"name": name}, "ownerReferences": [owner]}
    container: Body = {"name": "manager", "image": image, "ready": not one.waiting, "restartCount": 0}
    container["state"] = {"running": {"startedAt": "2026-01-02T03:04:05Z"}}
    if one.waiting:
        container |= {"imageID": "", "state": {"waiting": {"reason": one.waiting, "message": one.waiting_message}}}
    status = {
        "phase": "Pending" if one.waiting else "Running",
        "conditions": [{"type": "Ready", "status": str(not one.waiting)}],
        "containerStatuses": [container],
    }
    spec = {"containers": [{"name": "manager", "image": image}]}
    cluster.put({"kind": "Pod", "metadata": metadata, "spec": spec, "status": status}, "kube-controller-manager")


def lived_in(
    cluster: FakeCluster,
    packages: Sequence[str] = ("alpha", "beta"),
    channel: str = "stable",
    *,
    version: str = "0.9.0",
    csv: str = "",
) -> list[InstalledOperator]:
    """Put five Subscriptions on the cluster, in namespaces of their own, and return them in this order:

    fed by a default name (the first package of `packages`); fed by a custom name, `site-catalog` (the second, where there is
    one); stranded (a package that no archive carries, fed by a default); Manual (the first package again, another
    namespace); already broken (its CatalogSource is long gone, and its pod cannot be pulled). `version` is installed of the
    first package, and `csv` the name of that bundle where it is not as usual.
    """
    first, second = packages[0], packages[-1]
    spec: dict[str, Any] = {"sourceType": "grpc", "image": "old.example.com/site/catalog:v1", "displayName": "Site"}
    metadata = {"name": "site-catalog", "namespace": MARKETPLACE}
    cluster.put({"kind": "CatalogSource", "metadata": metadata, "spec": spec}, "another-manager")
    default = "redhat-operators"
    gone = {
        "type": "CatalogSourcesUnhealthy",
        "status": "True",
        "reason": "UnhealthyCatalogSourceFound",
        "message": f"targeted catalogsource {MARKETPLACE}/retired-catalog missing",
    }
    back_off = f'Back-off pulling image "registry.example.com/broken/operator@sha256:{"0" * 64}"'
    return [
        put_operator(cluster, each)
        for each in (
            InstalledOperator("team-default", f"my-{first}", first, channel, version, source=default, csv=csv),
            InstalledOperator("team-custom", f"my-{second}", second, channel, source="site-catalog"),
            InstalledOperator("team-stranded", "my-stranded", "stranded", channel, source=default),
            InstalledOperator(
                "team-manual", f"my-{first}", first, channel, version, source=default, approval="Manual", csv=csv
            ),
            InstalledOperator(
                *("team-broken", "my-broken", "broken", channel),
                source="retired-catalog",
                image=f"registry.example.com/broken/operator@sha256:{'0' * 64}",
                waiting="ImagePullBackOff",
                waiting_message=back_off,
                conditions=(gone,),
            ),
        )
    ]


def _key(cluster: FakeCluster, kind: str, namespace: str, name: str) -> Key:
    return Key(cluster.kind(kind), namespace, name)
