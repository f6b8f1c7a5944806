"""The fixes of `hub-import doctor --fix`: for some codes of findings, the one change that repairs the cause and nothing else.

To add one, write a function `(_Case, Finding) -> None` and enter it in `FIXES` under the code; what it changes goes through
`Writer`, so that it is recorded for `undo`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from importer.cluster import apply as applying
from importer.cluster.kinds import CATALOG_SOURCE, CONFIG_MAP, JOB, NETWORK_POLICY, OPERATOR_HUB, POD, Resource
from importer.cluster.resources.build import trust
from importer.cluster.resources.catalog_source import address, defaults_off, serving
from importer.cluster.trust import merge_pull_secret, pull_credential, pull_secret_key
from importer.cluster.writing import Writer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from importer.cluster.api.client import ClusterClient
    from importer.cluster.finding import Finding
    from importer.cluster.record import Recorder
    from importer.cluster.release import Release
    from importer.diagnose.snapshot import Snapshot, SourceState
    from importer.settings import ClusterSettings


_REGISTRY = "registry "  # the subject of findings about the mirror, as pods see it
NEEDS_CA, NEEDS_CREDENTIAL = "registry-untrusted", "pull-unauthorized"


@dataclass(frozen=True, slots=True)
class FixInputs:
    """What the fixes need from a person.

    `credential` returns base64 of user:password for a registry's host and a prefix. `replace_credential`: another one that the
    pull secret has for the whole host may be replaced.
    """

    registry_ca: str | None = None
    credential: Callable[[str, str], str] | None = None
    replace_credential: bool = False

    @classmethod
    def of(cls, cluster: ClusterSettings, registry_ca: str | None) -> FixInputs:
        """Return the inputs that the settings of a command name."""
        # Read only when a fix needs it: which entry it is depends on the mirror of the catalog.
        credential = partial(pull_credential, cluster.authfile) if cluster.authfile else None
        return cls(registry_ca, credential, cluster.replace_credential)


@dataclass(frozen=True, slots=True)
class _Case:
    recorder: Recorder
    snapshot: Snapshot
    inputs: FixInputs
    tell: Callable[[str], None]

    @property
    def client(self) -> ClusterClient:
        return self.recorder.client

    @property
    def release(self) -> Release | None:
        return self.snapshot.release

    def writer(self) -> Writer:
        # By patches of single fields, on every release: the objects were not written by this run, and may have other owners.
        return Writer(self.client, server_side=False, dry_run=False, tell=self.tell, recorder=self.recorder)

    def source(self, finding: Finding) -> SourceState:
        # Fixable findings about catalogs have the name of their CatalogSource as the subject.
        name = finding.subject.removeprefix("CatalogSource ")
        return next(source for source in self.snapshot.sources if source.name == name)

    def apply(self, resources: Sequence[Resource]) -> None:
        applying.apply(self.client, resources, release=self.release, dry_run=False, tell=self.tell, recorder=self.recorder)


def with_inputs(findings: Sequence[Finding], inputs: FixInputs) -> list[Finding]:
    """Return the findings, `fixable` only where the inputs that the fix needs are given."""
    # A fix without its input would fail after the person has agreed to it.
    missing = {NEEDS_CA} if inputs.registry_ca is None else set()
    missing |= {NEEDS_CREDENTIAL} if inputs.credential is None else set()
    return [replace(each, fixable=each.fixable and each.code not in missing and each.code in FIXES) for each in findings]


def fix(
    recorder: Recorder,
    snapshot: Snapshot,
    findings: Sequence[Finding],
    inputs: FixInputs,
    tell: Callable[[str], None],
) -> list[Finding]:
    """Apply the fixes of the fixable findings; return those. Changes are recorded for `undo`.

    Raises ClusterError, UsageError for a credential that is not in the given file.
    """
    case = _Case(recorder, snapshot, inputs, tell)
    chosen = [finding for finding in findings if finding.fixable]
    for finding in chosen:
        tell(f"fixing {finding.subject}: {finding.code}")
        FIXES[finding.code](case, finding)
    return chosen


def _default_sources(case: _Case, _finding: Finding) -> None:
    case.writer().shared(OPERATOR_HUB, "cluster", "", defaults_off)


def _trust(case: _Case, finding: Finding) -> None:
    assert case.inputs.registry_ca is not None
    host = finding.subject.removeprefix(_REGISTRY) if finding.subject.startswith(_REGISTRY) else _host(case.source(finding))
    case.apply(trust(host, case.inputs.registry_ca))


def _credential(case: _Case, finding: Finding) -> None:
    assert case.inputs.credential is not None
    if finding.subject.startswith(_REGISTRY):  # of pods, whose image is any that this mirror has
        host, image = finding.subject.removeprefix(_REGISTRY), ""
        expected = next((each for each in case.snapshot.expected if each.mirror.partition("/")[0] == host), None)
    else:
        source = case.source(finding)
        host, image, expected = _host(source), source.image, source.expected
    named, _, prefix = (expected.mirror if expected else "").partition("/")
    host = named or host
    key = pull_secret_key(host, prefix, case.release)
    repository = image.partition("/")[2].partition("@")[0]  # a record of an older version has no mirror prefix
    auth, replace_it = case.inputs.credential(host, prefix or repository), case.inputs.replace_credential
    merge_pull_secret(case.client, key, auth, replace=replace_it, tell=case.tell, recorder=case.recorder)


def _serve(case: _Case, finding: Finding) -> None:
    """Run the catalog in a Deployment of its own, and let the CatalogSource find it by address."""
    source = case.source(finding)
    # OLM prefers an image to an address, and configures no pod for an address.
    spec = {name: value for name, value in source.body["spec"].items() if name not in {"image", "grpcPodConfig"}}
    metadata = {"name": source.name, "namespace": source.namespace, "labels": source.body["metadata"].get("labels") or {}}
    body = {
        "apiVersion": CATALOG_SOURCE.api_version,
        "kind": CATALOG_SOURCE.name,
        "metadata": metadata,
        "spec": {**spec, "address": address(source.name, source.namespace)},
    }
    case.apply([*serving(source.name, source.namespace, source.image, case.release), Resource.of(body)])
    for pod in source.pods:  # OLM creates no pod for an address, and keeps the one that it created before
        case.client.delete(POD, pod.name, source.namespace)
        case.tell(f"deleted Pod {pod.name} in {source.namespace}")
    # The roles of hub-import do not let it delete a Service of OLM; without pods it is harmless.
    service = f"oc delete service {source.name} -n {source.namespace} --ignore-not-found"
    case.tell(f"the Service that OLM made for the image stays without use: {service}")


def _pod_security(case: _Case, finding: Finding) -> None:
    """Give the pods a restricted security context, through the CatalogSource or their own Deployment."""
    source = case.source(finding)
    if source.serves_itself:
        case.apply(serving(source.name, source.namespace, source.image, case.release))
    else:
        _pod_config({"securityContextConfig": "restricted"})(case, finding)


def _reachable(case: _Case, finding: Finding) -> None:
    """Write the NetworkPolicy that lets OLM reach the pods of the catalog's own Deployment."""
    source = case.source(finding)
    served = serving(source.name, source.namespace, source.image, case.release)
    case.apply([resource for resource in served if resource.kind == NETWORK_POLICY.name])


def _pod_config(value: Mapping[str, Any]) -> Callable[[_Case, Finding], None]:
    def apply_fix(case: _Case, finding: Finding) -> None:
        source = case.source(finding)
        case.writer().shared(
            CATALOG_SOURCE, source.name, source.namespace, lambda _live: {"spec": {"grpcPodConfig": dict(value)}}
        )

    return apply_fix


def _restart(case: _Case, finding: Finding) -> None:
    """Delete the pods that run another image; OLM then creates one with the expected image."""
    source = case.source(finding)
    for pod in source.stale_pods:
        case.client.delete(POD, pod.name, source.namespace)
        case.tell(f"deleted Pod {pod.name} in {source.namespace}")


def _unpack_again(case: _Case, _finding: Finding) -> None:
    """Delete the jobs that failed, with the ConfigMaps of the same name; OLM starts them again only then."""
    for job in case.snapshot.failed_unpacks:
        name, namespace = job["metadata"]["name"], job["metadata"]["namespace"]
        # The uid keeps a job that OLM has started meanwhile under the same name.
        case.client.delete(JOB, name, namespace, only={"uid": str(job["metadata"]["uid"])})
        case.client.delete(CONFIG_MAP, name, namespace)
        case.tell(f"deleted Job and ConfigMap {name} in {namespace}")


def _host(source: SourceState) -> str:
    return source.image.partition("/")[0]


# By code of finding. Each is safe while the cluster is in use: no foreign object is changed, and no node is drained, except for
# a changed pull secret up to 4.6, which the question says.
FIXES: dict[str, Callable[[_Case, Finding], None]] = {
    "default-sources-enabled": _default_sources,
    NEEDS_CA: _trust,
    NEEDS_CREDENTIAL: _credential,
    # An own Deployment has neither the limit of memory nor the probes of OLM.
    "catalog-memory-limit": _serve,
    "catalog-slow-start": _serve,
    "catalog-cache": _pod_config({"extractContent": None}),
    "catalog-permissions": _pod_config({"securityContextConfig": "legacy"}),
    "pod-security": _pod_security,
    "catalog-network-denied": _reachable,
    "catalog-stale": _restart,
    "bundle-unpack-failed": _unpack_again,
}
