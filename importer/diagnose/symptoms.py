"""Tables of symptoms: texts of OLM, kubelet, CRI-O and opm, and what each means. Pure.

Specification: docs/reference/cluster.md, *status and doctor*.

To add one, add a row to `PULLS` (the image cannot be pulled) or `RUNS` (the container runs, and does not serve). The first row
that matches counts, so a specific pattern stands before a general one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

    from importer.diagnose.snapshot import Snapshot, SourceState


IMAGE_ARCHITECTURE, SLOW, PROXY = "image-architecture", "registry-slow", "registry-proxy"
Fixable: TypeAlias = "Callable[[SourceState, Snapshot], bool]"


@dataclass(frozen=True, slots=True)
class Symptom:
    """A pattern of a text, its cause and its fix. `fixable` decides whether `doctor --fix` can repair it in this cluster."""

    code: str
    pattern: re.Pattern[str]
    cause: str
    fix: str
    fixable: Fixable


def match(symptoms: tuple[Symptom, ...], texts: tuple[str, ...]) -> tuple[Symptom, str] | None:
    """Return the first symptom that a text shows, with the text; earlier texts count before later ones."""
    for text in texts:
        for symptom in symptoms:
            if symptom.pattern.search(text):
                return symptom, text
    return None


def _never(_source: SourceState, _snapshot: Snapshot) -> bool:
    return False


def _always(_source: SourceState, _snapshot: Snapshot) -> bool:
    return True


def _by_image(source: SourceState, _snapshot: Snapshot) -> bool:
    return bool(source.image)


def _extracts(source: SourceState, _snapshot: Snapshot) -> bool:
    return "extractContent" in _pod_config(source)


def _may_be_legacy(source: SourceState, snapshot: Snapshot) -> bool:
    known = snapshot.release is None or "securityContextConfig" in snapshot.release.pod_config_fields
    return known and bool(source.image) and _pod_config(source).get("securityContextConfig") != "legacy"


def _may_be_restricted(source: SourceState, snapshot: Snapshot) -> bool:
    if source.serves_itself:
        return bool(source.image) and not source.restricted and (snapshot.release is None or snapshot.release.restricts_pods)
    return _pod_config(source).get("securityContextConfig") != "restricted"


def _pod_config(source: SourceState) -> dict[str, object]:
    return dict((source.body.get("spec") or {}).get("grpcPodConfig") or {})


def _is(code: str, pattern: str, cause: str, fix: str, fixable: Fixable = _never) -> Symptom:
    return Symptom(code, re.compile(pattern, re.IGNORECASE), cause, fix, fixable)


# Errors of a pull, from CRI-O (containers/image) and Go's crypto/x509 and net.
PULLS = (
    # Before all others, since these words are the proxy's: Go says `proxyconnect` where it reaches none, and the text of the
    # status alone where one refuses CONNECT (golang/go, src/net/http/transport.go, dialConn).
    _is(
        PROXY,
        r"proxyconnect tcp|Proxy Authentication Required|"
        r'(?:Get|Head) "https://[^"\s]+": (?:Forbidden|Bad Gateway|Service Unavailable|Gateway Time-?out|Method Not Allowed)',
        "nodes ask the registry through the cluster's proxy, which does not bring them there",
        "Add the host of the registry to noProxy of the cluster's proxy: oc edit proxy cluster (this rolls nodes).",
    ),
    # Go 1.15, with which Kubernetes 1.19 is built, stopped reading the Common Name.
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
        r"server gave HTTP response to HTTPS client|first record does not look like a TLS handshake",
        "the registry speaks plain HTTP, and nodes use HTTPS",
        "Give the registry TLS; or add it to registrySources.insecureRegistries of image.config `cluster` (this rolls nodes).",
    ),
    # Before the credential: Docker Hub's answer to anonymous clients speaks of authentication.
    _is(
        "registry-busy",
        r"toomanyrequests|too many requests|StatusCode: 429|\b429 Too",
        "the registry limits how many requests nodes make (429)",
        "Raise that limit of the registry, or of the proxy before it, for the addresses of the nodes.",
    ),
    _is(
        "pull-unauthorized",
        r"\bunauthorized\b|authentication required|\b401\b|no basic auth credentials|access to the resource is denied|"
        # 403: the account is known, and lacks a right (containers/image, docker/errors.go; docker's `insufficient_scope`).
        r"StatusCode: 403|status code 403|403 \(?Forbidden|insufficient_scope|authorization failed",
        "nodes have no credential that the registry accepts",
        "hub-import doctor --fix --cluster-authfile FILE with a read-only credential (or hub-import apply with it).",
        _always,
    ),
    _is(
        "image-not-in-mirror",
        r"manifest unknown|manifest for \S+ not found|name unknown|repository name not known|\b404\b",
        "the registry does not have the image under the requested digest",
        "Run hub-import push again with the archive: it checks every image and uploads the missing ones.",
    ),
    # A filtered catalog is rebuilt, so no signature of its publisher covers it.
    _is(
        "image-rejected-by-policy",
        r"Source image rejected|SignatureValidationFailed|signature validation failed|signature was required",
        "a policy of the nodes (policy.json, ClusterImagePolicy) rejects the image",
        "Let the policy accept the image from where the node pulls it: its scopes, or the image's signature at that place. A "
        "filtered catalog is a new image, and unsigned: take the mirror out of the policy's scopes, or sign it.",
    ),
    _is(
        "node-disk",
        r"no space left on device|disk quota exceeded",
        "the node has no space left for images",
        "Free space on the node: the kubelet removes unused images only above a threshold of the disk.",
    ),
    # containers/image, manifest (ChooseInstance); containerd, images (`no match for platform`)
    _is(
        IMAGE_ARCHITECTURE,
        r"no image found in (?:manifest list|image index) for architecture|no match for platform in manifest",
        "the image has nothing for the architecture of that node",
        "Export it with --platform for that architecture too, if its publisher has it; or keep the pod off such nodes.",
    ),
    _is(
        "registry-failing",
        # `invalid status code from registry 503 (…)`: answers to a ping, a token or a blob (containers/image, docker/errors.go,
        # httpResponseToError); `": EOF`: the connection was closed without an answer.
        r"(?:status|StatusCode:|status code|HTTP status:|code from registry) 5\d\d\b|"
        r'\b50[0-4] \(?(?:Internal|Bad|Service|Gateway)|unexpected EOF|": EOF\b',
        "the registry, or a proxy before it, fails while it answers",
        "Look at the log of the registry and the space of its storage; a proxy may limit time and size of an answer.",
    ),
    # CRI-O since 1.30 (cri-o/cri-o#7887, #8764), and containerd, which cancel a pull that does not move for some seconds.
    _is(
        SLOW,
        r"context canceled",
        "the node's runtime gave the pull up, because nothing of the image arrived for some seconds",
        "Look at the network between the nodes and the mirror, and at the load of the mirror; CRI-O has pull_progress_timeout.",
    ),
    # Also seen for registry.redhat.io, where no mirror rule matched: the node then asks the source itself.
    _is(
        "registry-unreachable",
        r"no such host|i/o timeout|connection refused|no route to host|network is unreachable|TLS handshake timeout|"
        r"registry is unavailable|server misbehaving|failure in name resolution|context deadline exceeded|"
        r"Client\.Timeout exceeded|connection reset by peer|connection timed out|host is down|client connection lost|"
        r"timeout awaiting response headers",
        "nodes cannot reach the registry that the image is at",
        "Let the nodes resolve and reach that name (DNS, firewall, noProxy of the cluster's proxy).",
    ),
)

# Errors of a catalog server that was started: opm, its base image, or the probes that OLM gives it.
RUNS = (
    # opm compares the digest of its cache with the catalog; a rebuilt catalog has the cache of the original (OCPBUGS-109376).
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
        "the catalog image contains no server",
        "Export it with --catalog-base REF; from 4.20 on, grpcPodConfig.extractContent lets OLM serve it itself.",
    ),
    # Pods run with a user of the namespace's range, in group 0; SQLite images write to files of their own.
    _is(
        "catalog-permissions",
        r"permission denied|mkdir \S+: read-only file system",
        "the catalog's server may not write to a directory that it needs",
        "Set grpcPodConfig.securityContextConfig to legacy, also in the image set's targetCatalogSourceTemplate.",
        _may_be_legacy,
    ),
    # Exit code 137 with reason Error is a probe that failed, unlike OOMKilled. Before 4.9 OLM sets no startup probe.
    _is(
        "catalog-slow-start",
        r"(?:Startup|Liveness|Readiness) probe failed: timeout|failed to connect service",
        "the catalog's server is killed before it answers: it takes longer to start than OLM grants",
        "Serve it from a Deployment of its own, which has more time to start (hub-import apply --serve-catalog).",
        _by_image,
    ),
)

# From OLM or the ReplicaSet, when the API server rejects the pod (Kubernetes, *Pod Security Admission*).
POD_SECURITY = _is(
    "pod-security",
    r'violates (?:PodSecurity )?"?restricted',
    "the namespace allows only restricted pods, and the catalog's pod is not restricted",
    "Set grpcPodConfig.securityContextConfig to restricted, also in the image set's targetCatalogSourceTemplate; "
    "a catalog by address: apply the archive again.",
    _may_be_restricted,
)
