"""What OLM installs: an InstallPlan for each update that it resolves, then the ClusterServiceVersion, one read after another.

Sources, all of operator-lifecycle-manager: pkg/controller/operators/catalog/operator.go (`syncResolvingNamespace`: one Subscription
with manual approval makes the InstallPlan of its namespace manual, an update that waits keeps the namespace from being resolved
again; `ensureSubscriptionCSVState`; `createInstallPlan`), pkg/controller/registry/resolver/resolver.go (`sortChannel`: from the head
along `replaces`, up to the first entry that another one skips; candidates replace or skip the installed version, or have it in their
skipRange; the first is taken) and pkg/controller/operators/olm/operator.go (`Replacing`).
"""

from __future__ import annotations

import operator
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from semver import Version

from tests.fakes.cluster_installs import Installs
from tests.fakes.cluster_operators import AT_LATEST, PENDING, InstalledOperator, plan_condition, put_csv, put_plan, put_pod
from tests.fakes.cluster_store import Body, Key

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from common.archive.inventory import ChannelRecord
    from tests.fakes.cluster import FakeCluster

_COMPARED = {
    ">=": operator.ge,
    "<=": operator.le,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
    "=": operator.eq,
    "": operator.eq,
}


@dataclass(frozen=True)
class Edges:
    """The edges of one entry of a channel, as the catalog has them."""

    replaces: str = ""
    skips: Sequence[str] = ()
    skip_range: str = ""


@dataclass
class Updates:
    """The facts that decide on updates, set by tests.

    `edges`, by bundle: where they are others than those of the inventory. `failing`, by bundle: where its
    installation stops (`unpack`, `plan` or `csv`) and the message.
    """

    edges: dict[str, Edges] = field(default_factory=dict)
    failing: dict[str, tuple[str, str]] = field(default_factory=dict)


def in_range(version: str, expression: str) -> bool:
    """Say whether a version is in a range, as blang/semver's ParseRange reads it (`||` of comparisons side by side)."""
    number = Version.parse(version)
    # As published bundles have it: `< 0.6.0` of etcd, `>=2.1.x` of infinispan (expandWildcardVersion).
    plain = re.sub(r"(>=|<)(\d+\.\d+)\.x\b", r"\1\2.0", re.sub(r"([<>=!])\s+", r"\1", expression))
    parts = (part for part in plain.split("||") if part.strip())
    return any(all(_holds(number, term) for term in part.split()) for part in parts)


def _holds(number: Version, term: str) -> bool:
    sign = next(each for each in _COMPARED if term.startswith(each))
    return bool(_COMPARED[sign](number, Version.parse(term.removeprefix(sign))))


def next_bundle(channel: ChannelRecord, installed: str, version: str, edges: Mapping[str, Edges]) -> str:
    """Return the bundle that OLM installs over another; empty without one."""
    of = {each.name: edges.get(each.name) or Edges(each.replaces, each.skips, each.skip_range) for each in channel.bundles}
    skipped = {name for each in of.values() for name in each.skips}
    current = channel.head
    while current in of:
        found = of[current]
        covered = bool(found.skip_range and version) and in_range(version, found.skip_range)
        if current != installed and (installed in {found.replaces, *found.skips} or covered):
            return current
        if current in skipped or current == installed:
            break
        current = found.replaces
    return ""


class Upgrades:
    """Moves the Subscriptions of a namespace one step further. Called under the store's lock."""

    def __init__(self, cluster: FakeCluster) -> None:
        self._cluster = cluster
        self._installs = Installs(cluster)

    def run(self, namespace: str, found: Sequence[tuple[Key, ChannelRecord | None]]) -> None:
        """Finish what was begun; begin the updates that the channels of the Subscriptions offer."""
        bodies = {key: self._cluster.store.get(key) for key, _ in found}
        waiting = [key for key, body in bodies.items() if _status(body).get("state") == PENDING]
        for key in waiting:
            self._continue(key, bodies[key])
        if waiting:
            return
        approvals = {body["spec"].get("installPlanApproval", "Automatic") for body in bodies.values()}
        approval = "Manual" if "Manual" in approvals else "Automatic"
        for key, channel in found:
            self._finish(namespace, bodies[key])
            if channel is not None:
                self._begin(key, bodies[key], channel, approval)

    def _begin(self, key: Key, body: Body, channel: ChannelRecord, approval: str) -> None:
        """Write the InstallPlan of the next version; before 4.14 bundles are unpacked by it, later before it."""
        status, one = _status(body), _installed(body)
        # Tests write Subscriptions that nothing is to happen to: OLM's have a state.
        updates = self._cluster.updates
        if not status.get("state") or not one.installed:
            wanted = self._installs.first(body, channel)
        else:
            wanted = next_bundle(channel, one.installed, self._version(one), updates.edges)
        if not wanted:
            return
        stage, said = updates.failing.get(wanted, ("", ""))
        if stage == "unpack":
            self._cluster.store.set_status(key, {**status, "conditions": [*_others(status), *self._unpack_failed(said)]})
            return
        phase = "RequiresApproval" if approval == "Manual" else "Installing"
        plan = put_plan(self._cluster, replace(one, approval=approval), wanted, phase)
        self._installs.own_plan(key, plan["installPlanRef"]["name"])
        conditions = [*_others(status), plan_condition(phase)]
        self._cluster.store.set_status(
            key, {**status, "currentCSV": wanted, "state": PENDING, "conditions": conditions, **plan}
        )

    def _unpack_failed(self, said: str) -> list[Body]:
        message = f"bundle unpacking failed. Reason: DeadlineExceeded, and Message: {said}"
        failed = {"type": "BundleUnpackFailed", "status": "True", "reason": "BundleUnpackFailed", "message": message}
        return [failed]

    def _continue(self, key: Key, body: Body) -> None:
        """Carry an InstallPlan out that may be: the version is there at once, and well after another read."""
        status, one = _status(body), _installed(body)
        name = (status.get("installPlanRef") or {}).get("name", "")
        place = Key(self._cluster.kind("InstallPlan"), key.namespace, name)
        plan = self._cluster.store.find(place)
        if plan is None or _status(plan).get("phase") == "Failed" or not plan["spec"].get("approved"):
            return
        wanted = status["currentCSV"]
        stage, said = self._cluster.updates.failing.get(wanted, ("", ""))
        if failed := self._installs.query_failure(key.namespace):
            stage, said = "plan", failed
        if stage == "plan":
            put_plan(self._cluster, one, wanted, "Failed", said)
            self._cluster.store.set_status(key, {**status, "conditions": [*_others(status), plan_condition("Failed", said)]})
            return
        self._cluster.store.set_status(place, {**_status(plan), "phase": "Complete", "conditions": [_INSTALLED]})
        phase = "Failed" if stage == "csv" else "Installing"
        made = replace(one, csv=wanted, phase_message=said)
        put_csv(self._cluster, made, wanted, self._offered(wanted), replaces=one.installed, phase=phase)
        self._set_phase(key.namespace, one.installed, "Replacing")
        self._installs.adopt(key.namespace, key, wanted)
        after = {**status, "installedCSV": wanted, "state": AT_LATEST, "conditions": _others(status)}
        self._cluster.store.set_status(key, after)

    def _finish(self, namespace: str, body: Body) -> None:
        """Let the new version be well, and take the former one away."""
        one = _installed(body)
        key = Key(self._cluster.kind("ClusterServiceVersion"), namespace, one.installed)
        csv = self._cluster.store.find(key)
        if csv is None or _status(csv).get("phase") != "Installing":
            return
        self._set_phase(namespace, one.installed, "Succeeded")
        former = Key(key.kind, namespace, str(csv["spec"].get("replaces")))
        if self._cluster.store.find(former) is not None:
            self._cluster.store.delete(former)
        put_pod(self._cluster, replace(one, version=self._version(one)))

    def _set_phase(self, namespace: str, name: str, phase: str) -> None:
        key = Key(self._cluster.kind("ClusterServiceVersion"), namespace, name)
        if (csv := self._cluster.store.find(key)) is not None:
            self._cluster.store.set_status(key, {**_status(csv), "phase": phase})

    def _offered(self, bundle: str) -> str:
        """Return the version of a bundle in any catalog."""
        packages = (package for offered in self._cluster.catalog_contents.values() for package in offered)
        entries = (each for package in packages for channel in package.channels for each in channel.bundles)
        return next((each.version for each in entries if each.name == bundle and each.version), "0.0.0")

    def _version(self, one: InstalledOperator) -> str:
        csv = self._cluster.store.find(Key(self._cluster.kind("ClusterServiceVersion"), one.namespace, one.installed))
        return str(csv["spec"].get("version") or "") if csv else ""


_INSTALLED = {"type": "Installed", "status": "True"}


def _others(status: Body) -> list[Body]:
    """Return the conditions that are not about an InstallPlan or its bundles."""
    gone = ("InstallPlan", "Bundle")
    return [each for each in status.get("conditions") or [] if not each["type"].startswith(gone)]


def _status(body: Body) -> dict[str, Any]:
    return body.get("status") or {}


def _installed(body: Body) -> InstalledOperator:
    """Return the operator of a Subscription; its version is that of its ClusterServiceVersion."""
    spec, metadata, csv = body["spec"], body["metadata"], str(_status(body).get("installedCSV") or "")
    return InstalledOperator(
        namespace=metadata["namespace"],
        name=metadata["name"],
        package=spec["name"],
        channel=spec.get("channel", ""),
        source=spec["source"],
        approval=spec.get("installPlanApproval", "Automatic"),
        csv=csv,
        version="",  # without a ClusterServiceVersion there is no former one
    )
