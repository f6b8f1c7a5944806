"""The operators of a cluster as its Subscriptions and ClusterExtensions describe them. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from importer.cluster.kinds import condition, short, status_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from importer.cluster.api.client import Body

SourceKey = tuple[str, str]  # namespace and name of a CatalogSource
CsvKey = tuple[str, str]  # namespace and name of a ClusterServiceVersion
# SubscriptionStateUpgradePending and InstallPlanPhase (operator-framework/api, pkg/operators/v1alpha1).
_UPGRADE_PENDING, _REQUIRES_APPROVAL = "UpgradePending", "RequiresApproval"
SUCCEEDED = "Succeeded"
# catalogd sets it on every ClusterCatalog, so that a selector can name one (operator-controller, catalogd/api/v1).
_SELF_CERTIFIED = "SelfCertified"  # operator-controller, api/v1/clusterextension_types.go
_TROUBLES = frozenset(("Retrying", "Blocked"))  # reasons of the condition Progressing (api/v1/common_types.go)
_CATALOG_LABEL = "olm.operatorframework.io/metadata.name"


@dataclass(frozen=True, slots=True)
class Subscribed:
    """One Subscription: its operator (a package), the CatalogSource that it names, and the version installed, if any.

    `current` and `plan`: the ClusterServiceVersion and the InstallPlan that OLM works on, while an update is pending.
    """

    namespace: str
    name: str
    package: str
    source: SourceKey
    installed: str = ""
    channel: str = ""
    approval: str = "Automatic"
    starting: str = ""
    current: str = ""
    plan: str = ""
    needs_approval: bool = False
    plan_failure: str = ""
    unresolved: str = ""  # the message of OLM's resolver
    unreachable: bool = False  # whether the resolver failed because a catalog did not answer

    @classmethod
    def of(cls, body: Body) -> Subscribed:
        """Return the Subscription that a body describes; missing fields are empty."""
        metadata, spec, status = body["metadata"], body.get("spec") or {}, status_of(body)
        namespace = str(metadata.get("namespace") or "")
        # CRDs up to 4.5 have no structural schema, so that fields can be missing.
        source = (str(spec.get("sourceNamespace") or namespace), str(spec.get("source") or ""))
        pending = status.get("state") == _UPGRADE_PENDING
        plan = _failing(body, "InstallPlanPending") or _failing(body, "InstallPlanFailed")
        unresolved = _failing(body, "ResolutionFailed")
        return cls(
            namespace,
            str(metadata["name"]),
            str(spec.get("name") or ""),
            source,
            str(status.get("installedCSV") or ""),
            channel=str(spec.get("channel") or ""),
            approval=str(spec.get("installPlanApproval") or "Automatic"),
            starting=str(spec.get("startingCSV") or ""),
            current=str(status.get("currentCSV") or "") if pending else "",
            plan=str((status.get("installPlanRef") or {}).get("name") or "") if pending else "",
            needs_approval=pending and plan.get("reason") == _REQUIRES_APPROVAL,
            plan_failure=_message(_failing(body, "InstallPlanFailed") or _failing(body, "BundleUnpackFailed")),
            unresolved=_message(unresolved),
            # ErrorPreventedResolution: the cache could not list the bundles of a catalog (resolver/cache/cache.go).
            unreachable=unresolved.get("reason") == "ErrorPreventedResolution",
        )

    def __str__(self) -> str:
        version = f", installed {self.installed}" if self.installed else ""
        return f"Subscription {self.namespace}/{self.name}: operator {self.package}{version}"


def _failing(body: Body, kind: str) -> Mapping[str, Any]:
    found = condition(body, kind)
    return found if found.get("status") == "True" else {}


def _message(found: Mapping[str, Any]) -> str:
    return short(found.get("message") or found.get("reason")) if found else ""


@dataclass(frozen=True, slots=True)
class Extension:
    """One ClusterExtension of OLM v1. `wanted`: the versions that it allows, as text; empty: every version.

    `any_edge`: whether each of them may follow any other, also a higher one (upgradeConstraintPolicy).
    `trouble`: the error for which OLM v1 tries again, or waits.
    `catalogs`: the ClusterCatalogs that it is limited to; None: by another selector, which is not followed here.
    """

    name: str
    namespace: str
    package: str
    channels: tuple[str, ...] = ()
    wanted: str = ""
    installed: str = ""
    version: str = ""
    healthy: bool = False
    catalogs: tuple[str, ...] | None = ()
    any_edge: bool = False
    trouble: str = ""

    @classmethod
    def of(cls, body: Body) -> Extension:
        """Return the ClusterExtension that a body describes; missing fields are empty."""
        spec, status = body.get("spec") or {}, status_of(body)
        source = spec.get("source")
        asked = (source.get("catalog") if isinstance(source, dict) else None) or {}
        bundle = (status.get("install") or {}).get("bundle") or {}
        return cls(
            str(body["metadata"]["name"]),
            str(spec.get("namespace") or ""),
            str(asked.get("packageName") or ""),
            tuple(map(str, asked.get("channels") or ())),
            str(asked.get("version") or ""),
            str(bundle.get("name") or ""),
            str(bundle.get("version") or ""),
            condition(body, "Installed").get("status") == "True",
            _limited(asked.get("selector") or {}),
            asked.get("upgradeConstraintPolicy") == _SELF_CERTIFIED,
            _trouble(condition(body, "Progressing")),
        )

    def __str__(self) -> str:
        version = f", installed {self.installed}" if self.installed else ""
        return f"ClusterExtension {self.name}: operator {self.package}{version}"


def _trouble(progressing: Mapping[str, Any]) -> str:
    return _message(progressing) if progressing.get("reason") in _TROUBLES else ""


def _limited(selector: Mapping[str, Any]) -> tuple[str, ...] | None:
    labels = selector.get("matchLabels") or {}
    if not selector or (not labels and not selector.get("matchExpressions")):
        return ()
    if selector.get("matchExpressions") or set(labels) != {_CATALOG_LABEL}:
        return None
    return (str(labels[_CATALOG_LABEL]),)


@dataclass(frozen=True, slots=True)
class Csv:
    """What a ClusterServiceVersion says: its version (empty: none) and its phase."""

    version: str
    phase: str

    @classmethod
    def of(cls, body: Body) -> Csv:
        """Return what a body says."""
        version = (body.get("spec") or {}).get("version")
        return cls(str(version or ""), str(status_of(body).get("phase") or ""))


@dataclass(frozen=True, slots=True)
class Sources:
    """The CatalogSources of a cluster. `everywhere` False: only those of `namespace` could be read.

    `classic` False: the cluster has no OLM (Classic), and no such kind.
    """

    bodies: Mapping[SourceKey, Body]
    namespace: str
    everywhere: bool = True
    classic: bool = True

    def lack(self, source: SourceKey) -> bool:
        """Return whether a CatalogSource is known not to exist."""
        # A namespace that may not be read may have it.
        seen = self.everywhere or source[0] == self.namespace
        return bool(source[1]) and seen and source not in self.bodies

    def image(self, source: SourceKey) -> str:
        """Return the image of a CatalogSource; empty for one that is missing, or has none."""
        return str((self.bodies.get(source, {}).get("spec") or {}).get("image") or "")


@dataclass(frozen=True, slots=True)
class Installed:
    """The operators of a cluster, as far as they may be read.

    `refused`: why Subscriptions are missing, empty when all were read; `hidden`: in which namespaces, as text.
    `extensions_refused`: the same of ClusterExtensions.
    `cluster_catalogs`: the priorities of the available ClusterCatalogs; None where these may not be read.
    """

    subscriptions: Sequence[Subscribed]
    sources: Sources
    csvs: Mapping[CsvKey, Csv] = field(default_factory=dict)
    extensions: Sequence[Extension] = ()
    cluster_catalogs: Mapping[str, int] | None = field(default_factory=dict)
    refused: str = ""
    hidden: str = ""
    extensions_refused: str = ""

    def csv(self, one: Subscribed) -> Csv | None:
        """Return the installed ClusterServiceVersion of a Subscription; None where it is not known."""
        return self.csvs.get((one.namespace, one.installed)) if one.installed else None
