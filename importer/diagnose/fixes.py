"""What `hub-import doctor --fix` does: for some findings, the one step that mends them and can do no other harm."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from importer.cluster import apply as applying
from importer.cluster.discovery import switched_off
from importer.cluster.kinds import CATALOG_SOURCE, CONFIG_MAP, JOB, NETWORK_POLICY, OPERATOR_HUB, POD, Resource
from importer.cluster.resources.build import trust
from importer.cluster.resources.catalog_source import address, serving
from importer.cluster.trust import merge_pull_secret, pull_secret_key
from importer.cluster.writing import Writer
from importer.diagnose.rules_cluster import is_failed_unpack

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from importer.cluster.client import ClusterClient
    from importer.cluster.finding import Finding
    from importer.cluster.record import Recorder
    from importer.cluster.release import Release
    from importer.diagnose.snapshot import Evidence, SourceEvidence

NEEDS_CA, NEEDS_CREDENTIAL = "registry-untrusted", "pull-unauthorized"


@dataclass(frozen=True, slots=True)
class Means:
    """The inputs of the remedies.

    `credential`: of a registry's host and a prefix → base64 of user:password; None: not there. `replace_credential`: another
    one that the pull secret has for the whole host may be replaced.
    """

    registry_ca: str | None = None
    credential: Callable[[str, str], str] | None = None
    replace_credential: bool = False


@dataclass(frozen=True, slots=True)
class _Case:
    recorder: Recorder
    evidence: Evidence
    means: Means
    tell: Callable[[str], None]

    @property
    def client(self) -> ClusterClient:
        return self.recorder.client

    @property
    def release(self) -> Release | None:
        return self.evidence.release

    def writer(self) -> Writer:
        return Writer(self.client, server_side=False, dry_run=False, tell=self.tell, recorder=self.recorder)

    def source(self, finding: Finding) -> SourceEvidence:
        name = finding.subject.removeprefix("CatalogSource ")
        return next(source for source in self.evidence.sources if source.name == name)

    def apply(self, resources: Sequence[Resource]) -> None:
        applying.apply(self.client, resources, release=self.release, dry_run=False, tell=self.tell, recorder=self.recorder)


def possible(findings: Sequence[Finding], means: Means) -> list[Finding]:
    """Return the findings, with `fixable` only where what it takes was given."""
    lacking = {NEEDS_CA} if means.registry_ca is None else set()
    lacking |= {NEEDS_CREDENTIAL} if means.credential is None else set()
    return [replace(each, fixable=each.fixable and each.code not in lacking and each.code in _REMEDIES) for each in findings]


def mend(
    recorder: Recorder,
    evidence: Evidence,
    findings: Sequence[Finding],
    means: Means,
    tell: Callable[[str], None],
) -> list[Finding]:
    """Carry out the remedies of the fixable findings; return those. What is changed is recorded for `undo`.

    Raises ClusterError, UsageError for a credential that is not in the file given.
    """
    case = _Case(recorder, evidence, means, tell)
    chosen = [finding for finding in findings if finding.fixable]
    for finding in chosen:
        tell(f"mending {finding.subject}: {finding.code}")
        _REMEDIES[finding.code](case, finding)
    return chosen


def _default_sources(case: _Case, _finding: Finding) -> None:
    case.writer().shared(OPERATOR_HUB, "cluster", "", switched_off)


def _trust(case: _Case, finding: Finding) -> None:
    assert case.means.registry_ca is not None
    case.apply(trust(_host(case.source(finding)), case.means.registry_ca))


def _credential(case: _Case, finding: Finding) -> None:
    assert case.means.credential is not None
    source = case.source(finding)
    host, _, prefix = (source.expected.mirror if source.expected else "").partition("/")
    host = host or _host(source)
    key = pull_secret_key(host, prefix, case.release)
    repository = source.image.partition("/")[2].partition("@")[0]  # where an older record does not have the prefix
    auth, replace_it = case.means.credential(host, prefix or repository), case.means.replace_credential
    merge_pull_secret(case.client, key, auth, replace=replace_it, tell=case.tell, recorder=case.recorder)


def _serve(case: _Case, finding: Finding) -> None:
    """Run the catalog in a Deployment of ours, and let the CatalogSource find it by address."""
    source = case.source(finding)
    spec = {name: value for name, value in source.body["spec"].items() if name not in {"image", "grpcPodConfig"}}
    metadata = {"name": source.name, "namespace": source.namespace, "labels": source.body["metadata"].get("labels") or {}}
    body = {
        "apiVersion": CATALOG_SOURCE.api_version,
        "kind": CATALOG_SOURCE.name,
        "metadata": metadata,
        "spec": {**spec, "address": address(source.name, source.namespace)},
    }
    case.apply([*serving(source.name, source.namespace, source.image, case.release), Resource.of(body)])
    for pod in source.pods:  # OLM makes no pod for an address, and may leave the one that it made before
        case.client.delete(POD, pod.name, source.namespace)


def _pod_security(case: _Case, finding: Finding) -> None:
    """Give the pods a restricted security context: OLM's by the CatalogSource, those of our Deployment by writing it anew."""
    source = case.source(finding)
    if source.serves_itself:
        case.apply(serving(source.name, source.namespace, source.image, case.release))
    else:
        _pod_config({"securityContextConfig": "restricted"})(case, finding)


def _reachable(case: _Case, finding: Finding) -> None:
    """Write the NetworkPolicy that lets OLM reach the pods of our Deployment."""
    source = case.source(finding)
    served = serving(source.name, source.namespace, source.image, case.release)
    case.apply([resource for resource in served if resource.kind == NETWORK_POLICY.name])


def _pod_config(value: Mapping[str, Any]) -> Callable[[_Case, Finding], None]:
    def remedy(case: _Case, finding: Finding) -> None:
        source = case.source(finding)
        case.writer().shared(
            CATALOG_SOURCE, source.name, source.namespace, lambda _live: {"spec": {"grpcPodConfig": dict(value)}}
        )

    return remedy


def _restart(case: _Case, finding: Finding) -> None:
    """Take away the pods that run another image; OLM makes the one that is wanted."""
    source = case.source(finding)
    for pod in source.stale_pods:
        case.client.delete(POD, pod.name, source.namespace)
        case.tell(f"deleted Pod {pod.name} in {source.namespace}")


def _unpack_again(case: _Case, _finding: Finding) -> None:
    """Take away the jobs that failed, with the ConfigMaps that they were to fill."""
    for job in case.evidence.jobs:
        name, namespace = job["metadata"]["name"], job["metadata"]["namespace"]
        if is_failed_unpack(job):
            case.client.delete(JOB, name, namespace, only={"uid": str(job["metadata"]["uid"])})
            case.client.delete(CONFIG_MAP, name, namespace)
            case.tell(f"deleted Job and ConfigMap {name} in {namespace}")


def _host(source: SourceEvidence) -> str:
    return source.image.partition("/")[0]


_REMEDIES: dict[str, Callable[[_Case, Finding], None]] = {
    "default-sources-enabled": _default_sources,
    NEEDS_CA: _trust,
    NEEDS_CREDENTIAL: _credential,
    "catalog-memory-limit": _serve,
    "catalog-slow-start": _serve,
    "catalog-cache": _pod_config({"extractContent": None}),
    "catalog-permissions": _pod_config({"securityContextConfig": "legacy"}),
    "pod-security": _pod_security,
    "catalog-network-denied": _reachable,
    "catalog-stale": _restart,
    "bundle-unpack-failed": _unpack_again,
}
