"""Preflight checks before the first change: permissions, conditions, effects on the nodes.

Specification: docs/reference/cluster.md, *Preflight*.

Reads only. Conditions that would make the import fail later are errors; others that a person should know are warnings.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from common.oci.reference import split_host
from common.openshift.supported_releases import unsupported
from common.registry.http.tls import is_exempt
from common.text import counted, shortened
from importer.cluster.api.discovery import is_hosted, mirror_objects
from importer.cluster.finding import Finding, Severity
from importer.cluster.kinds import (
    CATALOG_SOURCE,
    DEPLOYMENT,
    IMAGE_CONFIG,
    IMAGE_POLICY,
    IMAGE_REGISTRY,
    MACHINE_CONFIG_POOL,
    MARKETPLACE,
    NETWORK_POLICY,
    OLM_LABEL,
    POD,
    PROXY,
    SECRET,
    SERVICE,
    Resource,
    is_owned,
    status_of,
)
from importer.cluster.nodes import configures_nodes, lacking, not_led, refused_rules, unseen_rules
from importer.cluster.readiness.readiness import (
    READY,
    complaint,
    connection_state,
    held_back,
    how_far,
    is_paused,
    is_rolled_out,
    unpause,
)
from importer.cluster.resources.build import DELETED_IN_GUESTS, OTHER_NAME, reserved_names
from importer.cluster.resources.catalog_source import is_default
from importer.cluster.resources.mirror_rules import FIELD, covers, listed, rules_of
from importer.cluster.resources.permissions import Permission, missing, needed
from importer.cluster.rollout import REGISTRIES, RULES, effects, strongest

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    from common.archive.inventory import ImageRecord, PackageRecord
    from common.openshift.supported_releases import Kubernetes
    from importer.cluster.api.client import Body, ClusterClient
    from importer.cluster.release import Release
    from importer.cluster.resources.mirror_rules import Pair
    from importer.cluster.writing import Change


_OPTIONAL = frozenset(
    (DEPLOYMENT.name, SERVICE.name, NETWORK_POLICY.name, IMAGE_REGISTRY.name)
)  # read only when they are written
_READS = frozenset(("get", "list"))
_ROLLING = RULES | {REGISTRIES}
_HOSTS = Path("/etc/hosts")
_NAMED = 20  # operators that a finding lists: one screen


@dataclass(frozen=True, slots=True)
class Intent:
    """An import, as far as preflight needs it.

    `unsigned`: catalog images that cannot have a signature of their publisher. `packages`: what its catalogs offer.
    `images`: those of the inventory. `node_rules`: mirror rules that nodes need and the import does not write. `catalogs_only`:
    rules, trust and default sources are in place. `kubernetes`: the version of the cluster.
    """

    resources: Sequence[Resource]
    release: Release | None
    mirror: str
    catalogs: Collection[str] = ()
    unsigned: Collection[str] = ()
    packages: Sequence[PackageRecord] = ()
    images: Sequence[ImageRecord] = ()
    node_rules: Sequence[Pair] = ()
    catalogs_only: bool = False
    kubernetes: Kubernetes = ()


def permissions(client: ClusterClient, intent: Intent) -> Iterator[Finding]:
    """Yield one error that lists all missing permissions. Raises ClusterError."""
    written = {resource.kind for resource in intent.resources} | {SECRET.name}  # the record is one
    if refused := missing(client, (one for one in needed(intent.release, intent.resources) if _is_used(one, written))):
        yield Finding(
            "not-allowed",
            "permissions",
            f"{counted(len(refused), 'permission is', 'permissions are')} missing",
            tuple(map(str, refused)),
            "`hub-import render --rbac` writes a ClusterRole and Roles with exactly these; an administrator binds them.",
        )


def _is_used(permission: Permission, written: set[str]) -> bool:
    """Return whether an import that writes these kinds uses a permission; only `undo` deletes."""
    kind, verb = permission.kind.name, permission.verb
    return kind not in _OPTIONAL - written if verb in _READS else kind in written and verb != "delete"


def circumstances(client: ClusterClient, intent: Intent) -> list[Finding]:
    """Return the conditions of the cluster that speak against an import. Raises ClusterError."""
    anywhere: tuple[Callable[[ClusterClient, Intent], Iterator[Finding]], ...] = (
        _unsupported,
        _unresolvable,
        _nodes,
        _leftovers,
    )
    checks = anywhere if intent.release is None else (_hosted, _blocked, _policies, _rules, _defaults, _proxied, *anywhere)
    return [finding for check in checks for finding in check(client, intent)]


def rollout(client: ClusterClient, intent: Intent, changes: Iterable[Change]) -> list[Finding]:
    """Return the effects of changes on the nodes, and the conditions that would block their rollout. Raises ClusterError."""
    changed = _changed(changes)
    if intent.release is None or not changed & (_ROLLING | {SECRET.name}):
        return []
    pools = client.list(MACHINE_CONFIG_POOL) or []
    rolls = bool(changed & _ROLLING)
    return [*_announced(intent.release, changed), *(found for pool in pools for found in _pool(client, pool, rolls=rolls))]


def drain(intent: Intent, changes: Iterable[Change]) -> str:
    """Return the strongest effect of changes on the nodes: `no drain`, or that every node is drained; empty if unknown."""
    return strongest(intent.release, _changed(changes))


def _changed(changes: Iterable[Change]) -> frozenset[str]:
    # Only registrySources of image.config rolls nodes; additionalTrustedCA does not in any release.
    return frozenset(REGISTRIES if REGISTRIES in change.detail else change.kind for change in changes)


def _hosted(client: ClusterClient, intent: Intent) -> Iterator[Finding]:
    if not is_hosted(client):
        return
    evidence = "controlPlaneTopology: External"
    if not intent.catalogs_only:
        yield Finding(
            "hosted-control-plane",
            "Infrastructure cluster",
            "a hosted cluster (HyperShift) gets its mirror rules from its HostedCluster, on the cluster that hosts it",
            (evidence,),
            f"hub-import render --openshift-release {intent.release} --hosted writes the patch of the HostedCluster; then run "
            "the same command here with --catalogs-only.",
        )
    for name in sorted(reserved_names(intent.resources)):
        yield Finding("hosted-catalog-name", f"CatalogSource {name}", DELETED_IN_GUESTS, (evidence,), OTHER_NAME)


def _leftovers(client: ClusterClient, intent: Intent) -> Iterator[Finding]:
    """Yield a warning for the pods that OLM made for a catalog which is served by address; they run on without use."""
    for resource in intent.resources:
        if resource.kind != CATALOG_SOURCE.name or "address" not in resource.body["spec"]:
            continue
        live = client.get(CATALOG_SOURCE, resource.name, resource.namespace)
        # operator-lifecycle-manager, pkg/controller/registry/reconciler/grpc_address.go: nothing is removed there.
        pods = client.list(POD, resource.namespace, {OLM_LABEL: resource.name}) if live else None
        if live and (own := [str(pod["metadata"]["name"]) for pod in pods or [] if is_owned(pod, live)]):
            what = " ".join([*(f"pod/{name}" for name in own), f"service/{resource.name}"])
            yield Finding(
                "catalog-leftovers",
                f"CatalogSource {resource.namespace}/{resource.name}",
                "OLM keeps the pod and the Service that it made for the image, and they run on without use",
                tuple(f"Pod {name}" for name in own),
                f"When the catalog is served from the Deployment: oc delete {what} -n {resource.namespace} --ignore-not-found",
                severity=Severity.WARNING,
            )


def _blocked(client: ClusterClient, intent: Intent) -> Iterator[Finding]:
    sources = ((client.get(IMAGE_CONFIG, "cluster") or {}).get("spec") or {}).get("registrySources") or {}
    if found := [each for each in sources.get("blockedRegistries") or [] if covers(each, intent.mirror)]:
        yield Finding(
            "registry-blocked",
            "image.config cluster",
            "nodes are configured not to pull from the mirror",
            (f"blockedRegistries: {', '.join(found)}",),
            "Remove it from spec.registrySources.blockedRegistries.",
        )


def _policies(client: ClusterClient, intent: Intent) -> Iterator[Finding]:
    """Yield the policies that require a signature of a catalog image."""
    if intent.release is None or not intent.release.has_image_policies:
        return
    for policy in client.list(IMAGE_POLICY) or []:
        scopes = (policy.get("spec") or {}).get("scopes") or []
        asked = [(scope, image) for scope in scopes for image in intent.catalogs if covers(scope, image)]
        rejected = [pair for pair in asked if pair[1] in intent.unsigned]
        if asked:
            yield Finding(
                "image-rejected-by-policy",
                f"ClusterImagePolicy {policy['metadata']['name']}",
                "it asks for a signature of a catalog image" + (", and a filtered catalog has none" if rejected else ""),
                tuple(f"{scope} covers {image}" for scope, image in (rejected or asked)),
                "Take the mirror out of its scopes, or sign the catalog image and add the key.",
                severity=Severity.ERROR if rejected else Severity.WARNING,
            )


def _rules(client: ClusterClient, intent: Intent) -> Iterator[Finding]:
    """Yield a warning for mirror rules of the cluster that contradict each other; no node would get those of the import."""
    if intent.catalogs_only or not configures_nodes(intent.release):
        return
    wanted = {rule.source for each in intent.resources if each.kind in FIELD for rule in rules_of(each.body)}
    found = (each for body in mirror_objects(client, intent.release) for each in listed(body))
    # A rule of hub-import that is written again gets the policy of the others.
    yield from refused_rules((each for each in found if not each.owned or each.rule.source not in wanted), Severity.WARNING)


def _proxied(client: ClusterClient, intent: Intent) -> Iterator[Finding]:
    proxy = client.get(PROXY, "cluster") or {}
    # status.noProxy has the cluster's own networks, and `.svc`, in addition to spec.noProxy.
    merged = {**(proxy.get("spec") or {}), **status_of(proxy)}
    no_proxy = str(merged.get("noProxy") or "")
    if (merged.get("httpsProxy") or merged.get("httpProxy")) and not is_exempt(intent.mirror, no_proxy):
        yield Finding(
            "mirror-behind-proxy",
            "Proxy cluster",
            "nodes would pull from the mirror through the cluster's proxy",
            (f"noProxy: {no_proxy or '(empty)'}",),
            f"Unless that works, add {split_host(intent.mirror)[0]} to spec.noProxy (this rolls nodes).",
            severity=Severity.WARNING,
        )


def _unsupported(_client: ClusterClient, intent: Intent) -> Iterator[Finding]:
    """Yield a warning that lists the operators that are not for the cluster's release, or its Kubernetes."""
    release = (intent.release.major, intent.release.minor) if intent.release is not None else None
    version = ".".join(map(str, intent.kubernetes))
    if found := [f"{name}: {message}" for name, message in unsupported(intent.packages, release, intent.kubernetes)]:
        yield Finding(
            "release-unsupported",
            f"OpenShift {intent.release}" if intent.release is not None else f"Kubernetes {version}".rstrip(),
            f"{counted(len(found), 'operator of the archive is', 'operators of the archive are')} not meant for this release",
            tuple(shortened(found, _NAMED)),
            "Do not install these, or update the cluster first where it is too old; other versions need another archive.",
            severity=Severity.WARNING,
        )


def _nodes(client: ClusterClient, intent: Intent) -> Iterator[Finding]:
    yield from lacking(client, intent.images)
    if not intent.node_rules:
        return
    if intent.release is None or not configures_nodes(intent.release):
        yield unseen_rules(intent.release)
        return
    objects = mirror_objects(client, intent.release)
    yield from not_led(intent.release, intent.node_rules, [each for body in objects for each in listed(body)])


def _defaults(client: ClusterClient, intent: Intent) -> Iterator[Finding]:
    """Yield a warning for default sources that are enabled, and without a connection; the import leaves them as they are."""
    if not intent.catalogs_only or not configures_nodes(intent.release):
        return
    sources = [each for each in client.list(CATALOG_SOURCE, MARKETPLACE) or [] if is_default(each)]
    states = {each["metadata"]["name"]: connection_state(each) for each in sources}
    if down := [f"{name}: {state}" for name, state in sorted(states.items()) if state != READY]:
        yield Finding(
            "default-sources-enabled",
            "OperatorHub cluster",
            "default sources are enabled and cannot be reached: no Subscription of the cluster is resolved meanwhile",
            tuple(down),
            "--catalogs-only leaves them as they are: set spec.disableAllDefaultSources of OperatorHub cluster to true.",
            severity=Severity.WARNING,
        )


def _unresolvable(_client: ClusterClient, intent: Intent) -> Iterator[Finding]:
    """Yield a warning for a name that this machine resolves and nodes may not."""
    if why := why_nodes_may_not_resolve(intent.mirror, _HOSTS):
        yield Finding(
            "mirror-unknown-to-nodes",
            f"registry {intent.mirror}",
            f"nodes may not resolve the mirror's name: {why}",
            (),
            "Use a name in --registry that the cluster's DNS resolves.",
            severity=Severity.WARNING,
        )


def why_nodes_may_not_resolve(mirror: str, hosts: Path) -> str:
    """Return why nodes may not resolve a registry's host (with its port); empty without a sign of it."""
    name = mirror.rpartition(":")[0] or mirror
    try:
        return "it is the loopback address" if ipaddress.ip_address(name.strip("[]")).is_loopback else ""
    except ValueError:
        pass
    # RFC 6761, 6.3: resolvers answer localhost and all names below it with the loopback address.
    if name == "localhost" or name.endswith(".localhost"):
        return "it means each node itself"
    if "." not in name:
        return "it is a name without a domain"
    return f"this machine has it from {hosts}" if name in _names_in(hosts) else ""


def _names_in(hosts: Path) -> set[str]:
    try:
        lines = hosts.read_text(errors="replace").splitlines()
    except OSError:
        return set()
    # hosts(5): an address, then its names; # starts a comment.
    return {name for line in lines for name in line.partition("#")[0].split()[1:]}


def _announced(release: Release, changed: Collection[str]) -> Iterator[Finding]:
    """Yield the effects on the nodes, for a person who chooses the time."""
    found = [f"{cause}: {effect}" for cause, effect in effects(release, changed)]
    if found:
        yield Finding(
            "nodes-roll",
            f"OpenShift {release}",
            "nodes take over a new configuration",
            tuple(found),
            "Nothing, if this is a suitable time for it.",
            severity=Severity.WARNING,
        )


def _pool(client: ClusterClient, pool: Body, *, rolls: bool) -> Iterator[Finding]:
    """Yield the condition of a pool that blocks a rollout; a warning where nothing is rolled out."""
    subject, severity = f"MachineConfigPool {pool['metadata']['name']}", Severity.ERROR if rolls else Severity.WARNING
    if message := complaint(pool):
        cause = "the pool is degraded: it would not get the mirror rules"
        fix = "Repair it first: oc describe machineconfigpool."
        yield Finding("pool-degraded", subject, cause, (message,), fix, severity=severity)
    elif is_paused(pool):
        cause = f"the pool is paused: its nodes would not get the {'mirror rules' if rolls else 'changed pull secret'}"
        fix = unpause(pool["metadata"]["name"], held_back(client, pool))
        yield Finding("pool-paused", subject, cause, (how_far(pool), "spec.paused: true"), fix, severity=severity)
    elif not is_rolled_out(pool):
        cause = "another rollout of the pool is in progress; that of this import comes after it"
        yield Finding("pool-busy", subject, cause, (how_far(pool),), "Nothing.", severity=Severity.WARNING)
