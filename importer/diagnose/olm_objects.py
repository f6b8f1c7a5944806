"""ClusterServiceVersions and InstallPlans as a diagnosis needs them, and their reading. Changes nothing.

Types: operator-framework/api, pkg/operators/v1alpha1 (clusterserviceversion_types.go, installplan_types.go).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from importer.cluster.api.client import Body, Query
from importer.cluster.kinds import CLUSTER_SERVICE_VERSION, COPIED_LABEL, INSTALL_PLAN, condition, short, status_of
from importer.diagnose.workloads import WaitingImage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from importer.diagnose.reading import Reader

VERSIONS = 1_000  # ClusterServiceVersions that are read
_PAGE = 50  # each has icons and examples of some hundred KB
PLANS = 100  # InstallPlans that are read
_LONGEST = 600
# Statuses of a requirement, and of its dependents.
_MET = frozenset(("Present", "Satisfied", ""))
# Message of a bundle that is not unpacked yet (operator-lifecycle-manager, pkg/controller/bundle/bundle_unpacker.go).
_UNPACKING = re.compile(
    r"Unpack pod\((?P<namespace>[^/)]+)/(?P<pod>[^)]+)\) container\((?P<container>[^)]*)\) is pending\. "
    r"Reason: (?P<reason>\w+), Message: (?P<message>[^|]*)"
)
_IMAGE = re.compile(r'image "([^"\s]+)"')


@dataclass(frozen=True, slots=True)
class Version:
    """A ClusterServiceVersion. `unmet`: its requirements that are not there; `since_s`: seconds in its phase, None: unknown."""

    namespace: str
    name: str
    phase: str
    reason: str
    message: str
    deployments: tuple[str, ...] = ()
    unmet: tuple[str, ...] = ()
    since_s: float | None = None

    @property
    def said(self) -> str:
        """Reason and message, as far as OLM has given them."""
        return ": ".join(filter(None, (self.reason, self.message)))

    @classmethod
    def of(cls, body: Body) -> Version | None:
        """Return what a body describes; None for a copy."""
        metadata, status = body["metadata"], status_of(body)
        if status.get("reason") == "Copied":  # before the label
            return None
        installed = ((body.get("spec") or {}).get("install") or {}).get("spec") or {}
        return cls(
            str(metadata.get("namespace") or ""),
            str(metadata["name"]),
            str(status.get("phase") or ""),
            str(status.get("reason") or ""),
            short(status.get("message"), _LONGEST),
            tuple(str(each.get("name") or "") for each in installed.get("deployments") or []),
            tuple(_unmet(status.get("requirementStatus") or [])),
            _seconds_since(str(status.get("lastTransitionTime") or "")),
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """An InstallPlan. `failure`: why it failed; `unpacking`: what the bundles that it unpacks wait for.

    `since_s`: seconds since it could begin; None: unknown.
    """

    namespace: str
    name: str
    phase: str
    csvs: tuple[str, ...]
    failure: str = ""
    unpacking: str = ""
    since_s: float | None = None

    @classmethod
    def of(cls, body: Body) -> Plan:
        """Return what a body describes."""
        metadata, spec, status = body["metadata"], body.get("spec") or {}, status_of(body)
        lookups = (each.get("conditions") or [] for each in status.get("bundleLookups") or [])
        said = (str(each.get("message") or "") for found in lookups for each in found if each.get("status") == "True")
        installed, created = condition(body, "Installed"), str(metadata.get("creationTimestamp") or "")
        return cls(
            str(metadata.get("namespace") or ""),
            str(metadata["name"]),
            str(status.get("phase") or ""),
            tuple(map(str, spec.get("clusterServiceVersionNames") or [])),
            short(installed.get("message") or status.get("message"), _LONGEST),
            " ".join(said),
            # One with manual approval begins when it is approved, which may be days after it was made.
            _seconds_since(str(status.get("startTime") or (created if spec.get("approval") == "Automatic" else ""))),
        )


def versions(reader: Reader) -> tuple[Version, ...]:
    """Return the ClusterServiceVersions of all namespaces that may be read, without copies. Raises UnavailableError."""
    return tuple(reader.everywhere(CLUSTER_SERVICE_VERSION, Version.of, Query(VERSIONS, absent=COPIED_LABEL, page=_PAGE)))


def plans(reader: Reader, subscriptions: Iterable[Body]) -> tuple[Plan, ...]:
    """Return the InstallPlans that Subscriptions work on. Raises UnavailableError."""
    # By name: each InstallPlan has all manifests of its operators, and OLM keeps former ones.
    wanted = list(dict.fromkeys(filter(None, map(_pending_plan, subscriptions))))
    if len(wanted) > PLANS:
        reader.note(f"only {PLANS} of {len(wanted)} InstallPlans were read")
    bodies = (reader.get(INSTALL_PLAN, name, namespace) for namespace, name in wanted[:PLANS])
    return tuple(Plan.of(each) for each in bodies if each)


def _pending_plan(subscription: Body) -> tuple[str, str] | None:
    """Return namespace and name of the InstallPlan of a Subscription that is not at its latest version; None without one."""
    status = status_of(subscription)
    name = str((status.get("installPlanRef") or {}).get("name") or "")
    about = (condition(subscription, kind).get("status") for kind in ("InstallPlanPending", "InstallPlanFailed"))
    # AtLatestKnown: subscription_types.go, SubscriptionState.
    if not name or (status.get("state") == "AtLatestKnown" and "True" not in about):
        return None
    return str(subscription["metadata"].get("namespace") or ""), name


def with_unpacking(
    waiting: Iterable[WaitingImage], subscriptions: Sequence[Body], found: Sequence[Plan]
) -> tuple[WaitingImage, ...]:
    """Add the pods that OLM says its unpack jobs wait for, where the pods themselves may not be read."""
    found_pods = list(waiting)
    seen = {(each.namespace, each.pod) for each in found_pods}
    texts = [str(condition(each, "BundleUnpacking").get("message") or "") for each in subscriptions]
    for each in (one for text in (*texts, *(plan.unpacking for plan in found)) for one in _waiting_for(text)):
        if (each.namespace, each.pod) not in seen:
            seen.add((each.namespace, each.pod))
            found_pods.append(each)
    return tuple(found_pods)


def _waiting_for(text: str) -> Iterator[WaitingImage]:
    for found in _UNPACKING.finditer(text):
        image, message = _IMAGE.search(found["message"]), short(found["message"], _LONGEST)
        if image is not None:
            pod = (found["namespace"], found["pod"], found["container"])
            yield WaitingImage(*pod, image[1], found["reason"], message, of_operator=True)


def _unmet(requirements: Sequence[Body]) -> Iterator[str]:
    for each in requirements:
        if str(each.get("status") or "") not in _MET:
            kind = ".".join(filter(None, (str(each.get("kind") or ""), str(each.get("group") or ""))))
            said = f": {short(each['message'])}" if each.get("message") else ""
            yield f"{kind} {each.get('name')}: {each.get('status')}{said}"


def _seconds_since(text: str) -> float | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (datetime.now(UTC) - found).total_seconds() if found.tzinfo else None
