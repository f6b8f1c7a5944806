"""What a catalog's pod says when it does not serve, and what that means (docs/facts/openshift.md §6). Pure.

A symptom is known by what the cluster says itself. What the pod does now counts before its log, its log before what happened
earlier, and of that the newest first: an earlier trouble may have been mended.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from importer.cluster.finding import Finding
from importer.diagnose.snapshot import Evidence, PodEvidence, SourceEvidence

Fixable = Callable[[SourceEvidence, Evidence], bool]
_OOM = "OOMKilled"
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Symptom:
    """A passage that tells it, and what it means. `fixable` says whether something here can mend it."""

    code: str
    pattern: re.Pattern[str]
    cause: str
    fix: str
    fixable: Fixable


def _extracts(source: SourceEvidence, _evidence: Evidence) -> bool:
    return "extractContent" in _pod_config(source)


def _may_be_legacy(source: SourceEvidence, evidence: Evidence) -> bool:
    known = evidence.release is None or "securityContextConfig" in evidence.release.pod_config_fields
    return known and bool(source.image) and _pod_config(source).get("securityContextConfig") != "legacy"


def _may_be_restricted(source: SourceEvidence, evidence: Evidence) -> bool:
    if source.serves_itself:
        return bool(source.image) and not source.restricted and (evidence.release is None or evidence.release.restricts_pods)
    return _pod_config(source).get("securityContextConfig") != "restricted"


def _always(_source: SourceEvidence, _evidence: Evidence) -> bool:
    return True


def _by_image(source: SourceEvidence, _evidence: Evidence) -> bool:
    return bool(source.image)


def _pod_config(source: SourceEvidence) -> dict[str, object]:
    return dict((source.body.get("spec") or {}).get("grpcPodConfig") or {})


def _never(_source: SourceEvidence, _evidence: Evidence) -> bool:
    return False


def _is(code: str, pattern: str, cause: str, fix: str, fixable: Fixable = _never) -> Symptom:
    return Symptom(code, re.compile(pattern, re.IGNORECASE), cause, fix, fixable)


PULLS = (
    _is(
        "registry-certificate-without-san",
        r"x509: certificate relies on legacy Common Name",
        "the mirror's certificate names its host only as Common Name, which nodes have not accepted since 4.6",
        "Give the mirror a certificate with its host as subjectAltName.",
    ),
    _is(
        "registry-certificate-name",
        r"x509: certificate is (?:valid|not valid) for|doesn't contain any IP SANs",
        "the mirror's certificate is for another name than the one that nodes use",
        "Give the mirror a certificate with that name as subjectAltName, or use the name that it has in --registry.",
    ),
    _is(
        "registry-certificate-expired",
        r"x509: certificate has expired or is not yet valid",
        "the mirror's certificate has expired, or a node's clock is wrong",
        "Renew the certificate; compare the time on the nodes.",
    ),
    _is(
        "registry-untrusted",
        r"x509: certificate signed by unknown authority",
        "nodes do not trust the certificate of the registry",
        "hub-import doctor --fix --ca FILE with the CA that signed it (or hub-import apply with --ca).",
        _always,
    ),
    _is(
        "registry-plain-http",
        r"server gave HTTP response to HTTPS client",
        "the registry speaks plain HTTP, and nodes ask for HTTPS",
        "Give the registry TLS; or add it to registrySources.insecureRegistries of image.config `cluster` (this rolls nodes).",
    ),
    _is(
        "pull-unauthorized",
        r"\bunauthorized\b|authentication required|\b401\b|no basic auth credentials|access to the resource is denied",
        "nodes have no credential that the registry accepts",
        "hub-import doctor --fix --cluster-authfile FILE with a read-only credential (or hub-import apply with it).",
        _always,
    ),
    _is(
        "image-not-in-mirror",
        r"manifest unknown|manifest for \S+ not found|name unknown|repository name not known|\b404\b",
        "the registry does not have the image under the digest that is asked for",
        "Run hub-import push again with the archive: it asks for every image and brings what is missing.",
    ),
    _is(
        "image-rejected-by-policy",
        r"Source image rejected|SignatureValidationFailed|signature was required",
        "a policy of the nodes (policy.json, ClusterImagePolicy) rejects the image",
        "A filtered catalog is a new image, and unsigned: take the mirror out of the policy's scopes, or sign it.",
    ),
    _is(
        "registry-unreachable",
        r"no such host|i/o timeout|connection refused|no route to host|network is unreachable|TLS handshake timeout",
        "nodes cannot reach the registry that the image is at",
        "Let the nodes resolve and reach that name (DNS, firewall, noProxy of the cluster's proxy).",
    ),
)

RUNS = (
    _is(
        "catalog-cache",
        r"integrity check failed|cache requires rebuild|read existing cache digest|cache directory has unexpected contents",
        "the catalog's cache does not belong to its content",
        "Take extractContent out of the CatalogSource, or let the image serve without --cache-dir.",
        _extracts,
    ),
    _is(
        "catalog-base-too-old",
        r'unknown command "serve"',
        "the catalog is file-based, and the opm in its image is too old to serve it",
        "Export it again with --catalog-base REF, an operator-registry image of 4.9 or newer.",
    ),
    _is(
        "catalog-without-server",
        r'"?grpc_health_probe"?: executable file not found|no command specified',
        "the catalog image has no server in it",
        "Export it with --catalog-base REF; from 4.20 on, grpcPodConfig.extractContent lets OLM serve it itself.",
    ),
    _is(
        "catalog-permissions",
        r"permission denied|mkdir \S+: read-only file system",
        "the catalog's server may not write where it has to",
        "Set grpcPodConfig.securityContextConfig to legacy, also in the image set's targetCatalogSourceTemplate.",
        _may_be_legacy,
    ),
    _is(
        "catalog-slow-start",
        r"(?:Startup|Liveness|Readiness) probe failed: timeout|failed to connect service",
        "the catalog's server is killed before it answers: it takes longer to start than OLM grants",
        "Serve it from a Deployment of its own, which may take its time (hub-import apply --serve-catalog).",
        _by_image,
    ),
)

_POD_SECURITY = _is(
    "pod-security",
    r'violates (?:PodSecurity )?"?restricted',
    "the namespace allows restricted pods alone, and the catalog's pod is not one",
    "Set grpcPodConfig.securityContextConfig to restricted, also in the image set's targetCatalogSourceTemplate; "
    "a catalog by address: apply the archive again.",
    _may_be_restricted,
)


def of_text(symptoms: tuple[Symptom, ...], texts: tuple[str, ...]) -> tuple[Symptom, str] | None:
    """Return the first symptom that a text tells, with the text; texts are looked at in their order."""
    for text in texts:
        for symptom in symptoms:
            if symptom.pattern.search(text):
                return symptom, text
    return None


def pod_findings(source: SourceEvidence, evidence: Evidence) -> Iterator[Finding]:
    """Give what is wrong with the pods of a CatalogSource, and with what keeps them from being made."""
    subject = f"CatalogSource {source.name}"
    said = str((source.body.get("status") or {}).get("message") or "")
    refused = of_text((_POD_SECURITY,), (said, *source.refusals))
    if refused:
        yield _finding(refused[0], subject, (refused[1],), source, evidence)
    for pod in source.pods:
        if not pod.ready:
            yield from _unready(pod, subject, source, evidence)


def _unready(pod: PodEvidence, subject: str, source: SourceEvidence, evidence: Evidence) -> Iterator[Finding]:
    if _OOM in pod.reasons:
        yield _out_of_memory(pod, subject)
        return
    found = of_text((*PULLS, *RUNS), (*pod.states, *pod.log.splitlines(), *pod.events))
    if found is None:
        return
    symptom, text = found
    shown = tuple(dict.fromkeys((text, *pod.states)))[:_SHOWN]
    if symptom.code == "registry-untrusted" and _registry_operator_sleeps(source, evidence):
        yield _registry_operator(subject, text, evidence)
    else:
        yield _finding(symptom, subject, shown, source, evidence)


def _finding(symptom: Symptom, subject: str, shown: tuple[str, ...], source: SourceEvidence, evidence: Evidence) -> Finding:
    return Finding(symptom.code, subject, symptom.cause, shown, symptom.fix, symptom.fixable(source, evidence))


def _out_of_memory(pod: PodEvidence, subject: str) -> Finding:
    if pod.memory_limit:
        return Finding(
            "catalog-memory-limit",
            subject,
            f"OLM gives the catalog's pod {pod.memory_limit} of memory, and it needs more (OpenShift 4.3 before 4.3.10)",
            (*pod.states, f"limits.memory: {pod.memory_limit}"),
            "Serve it from a Deployment of its own (hub-import apply --serve-catalog), or update the cluster.",
            fixable=True,
        )
    return Finding(
        "node-memory",
        subject,
        "the node has no memory left for the catalog's pod, or a LimitRange of the namespace limits it",
        pod.states,
        "Free memory on the node, set grpcPodConfig.memoryTarget (4.14), or export fewer packages.",
    )


def _registry_operator_sleeps(source: SourceEvidence, evidence: Evidence) -> bool:
    """Say whether the CA is there, and what brings it to the nodes is switched off (OpenShift 4.2 to 4.4)."""
    host = source.image.partition("/")[0].replace(":", "..")
    return host in evidence.ca_keys and evidence.registry_state not in {"", "Managed"}


def _registry_operator(subject: str, text: str, evidence: Evidence) -> Finding:
    return Finding(
        "registry-operator-removed",
        subject,
        "the CA is in the cluster, but up to 4.4 nodes get it only while the image registry is Managed",
        (text, f"managementState: {evidence.registry_state}"),
        "hub-import apply --ca FILE, with --image-registry-emptydir when the image registry has no storage.",
    )
