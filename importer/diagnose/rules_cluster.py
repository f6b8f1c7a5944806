"""What is wrong around the catalogs: pools, default and other sources, Subscriptions, OLM v1 (facts: openshift §6). Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from importer.cluster.finding import UNKNOWN, Finding, Severity
from importer.cluster.kinds import ICSP, IDMS
from importer.cluster.readiness.readiness import (
    complaint,
    condition,
    how_far,
    is_paused,
    is_rolled_out,
    short,
    status_of,
    unpause,
)
from importer.cluster.release import Release
from importer.cluster.resources.catalog_source import service_name
from importer.cluster.subscriptions import ORPHANED, Place, Subscribed, repoint
from importer.diagnose.rules_pod import PULLS, of_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from importer.cluster.client import Body
    from importer.diagnose.snapshot import Evidence, SourceEvidence

# What OLM says of Subscriptions whose CatalogSource does not exist. Pure.

# Messages of operator-lifecycle-manager: pkg/controller/operators/catalog/subscription/state.go (CatalogSourcesUnhealthy),
# pkg/controller/registry/resolver/resolver.go (ResolutionFailed).
_MISSING = re.compile(r"targeted catalogsource ([a-z0-9.-]+)/([a-z0-9.-]+) missing")
_FROM_CATALOG = re.compile(r"no operators found from catalog ([a-z0-9.-]+) in namespace ([a-z0-9.-]+)")


def orphaned(evidence: Evidence) -> Iterator[Finding]:
    """Give an error for each Subscription whose CatalogSource does not exist, unless OLM gives another reason."""
    for body in evidence.subscriptions:
        one = Subscribed.of(body)
        if not _is_orphaned(body, one, evidence):
            continue
        said = (_said(body, kind) for kind in ("CatalogSourcesUnhealthy", "ResolutionFailed"))
        yield Finding(
            ORPHANED,
            f"Subscription {one.namespace}/{one.name}",
            f"it names CatalogSource {'/'.join(one.source)}, which does not exist: {one.package} gets no updates",
            (str(one), *(short(each) for each in said if each)),
            _fix(one, evidence),
        )


def is_explained(said: str, evidence: Evidence) -> bool:
    """Say whether the resolver complains of a CatalogSource that another finding calls missing.

    It then fails for all Subscriptions of the namespace, with the same message.
    """
    named = _named(said)
    subscribed = ((body, Subscribed.of(body)) for body in evidence.subscriptions)
    return named is not None and any(one.source == named and _is_orphaned(body, one, evidence) for body, one in subscribed)


def _is_orphaned(body: Body, one: Subscribed, evidence: Evidence) -> bool:
    sources = evidence.all_sources
    if sources is not None and one.source in sources.bodies:
        return False  # what OLM said of it is older
    match = _MISSING.search(_said(body, "CatalogSourcesUnhealthy"))
    if match and match.groups() == one.source:
        return True
    failed = [said for kind in ("ResolutionFailed", "BundleUnpackFailed") if (said := _said(body, kind))]
    if failed and one.source not in map(_named, failed):
        return False
    return sources is not None and sources.lack(one.source)


def _said(body: Body, kind: str) -> str:
    """Return the message of a condition that is true; empty when it is not."""
    found = condition(body, kind)
    return str(found.get("message") or kind) if found.get("status") == "True" else ""


def _named(said: str) -> Place | None:
    match = _FROM_CATALOG.search(said)
    return (match[2], match[1]) if match else None


def _fix(one: Subscribed, evidence: Evidence) -> str:
    known = [source.expected for source in evidence.sources if source.expected is not None]
    offering = next((each for each in known if one.package in each.packages), None)
    if offering is None:
        return f"Export {one.package} too and apply with --catalog-name {one.source[1]}, or bring that catalog back."
    patch = repoint(one, (offering.namespace, offering.name))
    if one.source[0] != offering.namespace:
        return f"Let it name {offering.name}: {patch}"
    name = one.source[1] if len(known) == 1 else f"CATALOG={one.source[1]}"
    return f"Run hub-import apply again with --catalog-name {name}; or let it name {offering.name}: {patch}"


_SHOWN = 5
_ASK = "Look at the evidence; `oc describe` and the log of the component that says it tell more."
_COEXIST = re.compile(r"both \w*imagecontentsourcepolic\w+ and \w*imagedigestmirrorset\w* exist", re.IGNORECASE)
_DRAIN = re.compile(r"failed to drain|disruption budget|cannot evict", re.IGNORECASE)
_OTHER = re.compile(r"failed to populate resolver cache from source ([a-z0-9.-]+)/([a-z0-9-]+)")
_UNSATISFIABLE = re.compile(r"constraints not satisfiable|requires? an operator|no operators found")


def findings(evidence: Evidence) -> Iterator[Finding]:
    """Give what is wrong, in the order in which it has to be mended."""
    looks = (_pools, _defaults, _others, _stale, _empty, _unreached, _cluster_catalogs, _unpacking, orphaned, _resolution)
    for look in looks:
        yield from look(evidence)


def _pools(evidence: Evidence) -> Iterator[Finding]:
    for pool in evidence.pools:
        found = _pool(pool, evidence)
        if found is not None:
            yield found


def _pool(pool: Body, evidence: Evidence) -> Finding | None:
    name, lacking = pool["metadata"]["name"], evidence.lacking.get(pool["metadata"]["name"]) or ()
    subject, said = f"MachineConfigPool {name}", complaint(pool)
    if said:
        return _degraded(subject, said, evidence)
    rolled = is_rolled_out(pool)
    if is_paused(pool) and (lacking or not rolled):
        return _paused(pool, len(lacking), evidence.held_back.get(name) or "what cannot be read")
    if rolled and lacking:
        return Finding(
            "mirror-rules-missing",
            subject,
            "the configuration of its nodes lacks mirror rules, so they would ask the internet",
            tuple(f"{source} → {mirror}" for source, mirror in lacking[:_SHOWN]),
            "Wait a minute or two after an apply; if they were taken away, run hub-import apply again.",
        )
    return None


def _paused(pool: Body, lacking: int, held_back: str) -> Finding:
    """Return the finding about a paused pool: a note while its nodes have the rules, as during a Control Plane Only update."""
    name, shown = pool["metadata"]["name"], (how_far(pool), "spec.paused: true", f"held back: {held_back}")
    subject = f"MachineConfigPool {name}"
    if not lacking:
        cause = "the pool is paused, and none of the known mirror rules is missing on its nodes"
        fix = "Nothing for the catalogs: it may stay paused for as long as it was meant to."
        return Finding("pool-paused", subject, cause, shown, fix, severity=Severity.WARNING)
    cause = f"the pool is paused, and its nodes lack {lacking} of the mirror rules"
    return Finding("pool-paused", subject, cause, shown, unpause(name, held_back))


def _degraded(subject: str, said: str, evidence: Evidence) -> Finding:
    coexist = {ICSP.name, IDMS.name} <= evidence.rule_kinds and (evidence.release or Release(4, 15)) < Release(4, 15)
    if _COEXIST.search(said) or (coexist and "registries" in said):
        return Finding(
            "rules-coexist",
            subject,
            "ImageContentSourcePolicies and ImageDigestMirrorSets stand side by side, which this release cannot work with",
            (said,),
            "Bring all rules into one kind (oc adm migrate icsp), and delete the others; or update to 4.15.",
        )
    if _DRAIN.search(said):
        return Finding(
            "node-not-drained",
            subject,
            "a node cannot be drained, so the rollout stands still",
            (said,),
            "Let the named pods move (PodDisruptionBudget, replicas); the rollout then goes on by itself.",
        )
    return Finding(
        "pool-degraded",
        subject,
        "the machine config operator cannot bring the pool to its configuration",
        (said,),
        "oc describe machineconfigpool, and the log of machine-config-controller, name the rule or the node in question.",
    )


def _defaults(evidence: Evidence) -> Iterator[Finding]:
    down = [source for source in evidence.sources if source.is_default and source.state != "READY"]
    if down:
        said = [f"{one.name}: {one.state}{_first_event(one)}" for one in down]
        yield Finding(
            "default-sources-enabled",
            "OperatorHub cluster",
            "default sources are on, and cannot be reached: they keep every Subscription of the cluster from being resolved",
            tuple(said[:_SHOWN]),
            "hub-import doctor --fix, or: set spec.disableAllDefaultSources of OperatorHub cluster to true, and `disabled` of "
            "each of its `sources`, which win over it.",
            fixable=True,
        )


def _first_event(source: SourceEvidence) -> str:
    texts = [text for pod in source.pods for text in pod.events]
    return f", {texts[0]}" if texts else ""


def _others(evidence: Evidence) -> Iterator[Finding]:
    """Give the catalogs of others that are down, with the Subscriptions that say that they suffer."""
    for source in evidence.sources:
        if source.is_default or source.is_ours or source.state in {"READY", "IDLE"}:
            continue
        suffering = [
            f"Subscription {namespace}/{name}: {short(said)}"
            for namespace, name, said in _unresolved(evidence)
            if (match := _OTHER.search(said)) and match[1] == source.name
        ]
        yield Finding(
            "other-catalog-down",
            f"CatalogSource {source.name}",
            "another catalog cannot be reached: while it is there, no Subscription of the cluster is resolved",
            (f"state: {source.state}", *suffering[:_SHOWN]),
            f"Mend it, or: oc delete catalogsource {source.name} -n {source.namespace}",
            severity=Severity.ERROR if suffering else Severity.WARNING,
        )


def _stale(evidence: Evidence) -> Iterator[Finding]:
    known = ((source, source.expected) for source in evidence.sources if source.expected is not None)
    for source, expected in known:
        for pod in source.stale_pods:
            yield Finding(
                "catalog-stale",
                f"CatalogSource {source.name}",
                "the pod that answers runs another image than the one that was pushed",
                (f"pod {pod.name}", f"wanted: {expected.image}"),
                f"hub-import doctor --fix, or: oc delete pod {pod.name} -n {source.namespace}",
                fixable=True,
            )


def _empty(evidence: Evidence) -> Iterator[Finding]:
    for source in evidence.sources:
        look = source.packages
        if look is None or look.ok or source.expected is None or source.state != "READY":
            continue
        subject = f"CatalogSource {source.name}"
        elided = [line for line in evidence.package_log.splitlines() if "eliding" in line and _names(line, source)]
        if elided:
            yield Finding(
                "package-elided",
                subject,
                "OLM leaves a channel out, since the operator data of its head cannot be read",
                (look.told, *elided[:_SHOWN]),
                "Report the package to whoever publishes the catalog; export another version of it meanwhile.",
            )
        elif (
            not source.listed
            and not source.connected_lately
            and source.pods
            and all(pod.ready and pod.runs_image for pod in source.pods)
        ):
            logs = [line for pod in source.pods for line in pod.log.splitlines()[-_SHOWN:]]
            yield Finding(
                "catalog-empty",
                subject,
                "the catalog answers and has no packages",
                (look.told, *logs),
                "Verify the archive (hub-import verify) and push it again; if it is whole, the catalog was exported empty.",
            )


def _unreached(evidence: Evidence) -> Iterator[Finding]:
    """Give the catalogs in Deployments of ours that no NetworkPolicy lets OLM reach, where the namespace denies by default."""
    for source in evidence.sources:
        if source.state == "READY" or not source.lacks_policy or not any(pod.ready for pod in source.pods):
            continue
        yield Finding(
            "catalog-network-denied",
            f"CatalogSource {source.name}",
            "the namespace denies traffic by default, and no NetworkPolicy lets OLM reach the catalog's pod",
            (f"state: {source.state}", f"NetworkPolicy {service_name(source.name)}: there is none"),
            "hub-import doctor --fix, or apply the archive again: either writes it.",
            fixable=True,
        )


def _names(line: str, source: SourceEvidence) -> bool:
    """Say whether a line is about a package of the catalog, or about one that it does not name."""
    named = re.search(r"\bpackage=\"?([\w.-]+)", line)
    return named is None or (source.expected is not None and named[1] in source.expected.packages)


def _cluster_catalogs(evidence: Evidence) -> Iterator[Finding]:
    images = {source.expected.image for source in evidence.sources if source.expected is not None}
    for catalog in evidence.cluster_catalogs:
        image = (((catalog.get("spec") or {}).get("source") or {}).get("image") or {}).get("ref")
        serving, progressing = condition(catalog, "Serving"), condition(catalog, "Progressing")
        if image not in images or serving.get("status") == "True" or not status_of(catalog):
            continue
        subject = f"ClusterCatalog {catalog['metadata']['name']}"
        said = short(progressing.get("message") or serving.get("message"))
        pull = of_text(PULLS, (said,))
        if pull:
            yield Finding(pull[0].code, subject, pull[0].cause, (said,), pull[0].fix)
        elif progressing.get("reason") == "Blocked":
            yield Finding(
                "cluster-catalog-blocked",
                subject,
                "OLM v1 does not take the catalog, and will not try again",
                (said,),
                "OLM v1 reads file-based catalogs alone, with their directory in a label; Subscriptions go on without it.",
            )
        else:
            yield Finding(UNKNOWN, subject, "is not served, for a reason that this program does not know", (said,), _ASK)


def _unpacking(evidence: Evidence) -> Iterator[Finding]:
    failed = [job for job in evidence.jobs if is_failed_unpack(job)]
    said = [text for namespace, name, text in _with_condition(evidence, "BundleUnpackFailed")]
    if failed or said:
        jobs = [f"Job {job['metadata']['name']}: {condition(job, 'Failed').get('reason')}" for job in failed]
        yield Finding(
            "bundle-unpack-failed",
            "bundle unpack jobs",
            "bundle images could not be pulled within the time that OLM grants, and it does not try again",
            tuple([*(short(each) for each in said), *jobs][:_SHOWN]),
            "Once nodes can pull: hub-import doctor --fix deletes the jobs and their ConfigMaps, so that OLM begins anew.",
            fixable=bool(failed),
        )


def is_failed_unpack(job: Body) -> bool:
    """Say whether a job that unpacks a bundle has failed: newer releases label such jobs, older ones name them by a hash."""
    if condition(job, "Failed").get("status") != "True":
        return False
    labels = job["metadata"].get("labels") or {}
    name = job["metadata"]["name"]
    return "operatorframework.io/bundle-unpack-ref" in labels or re.fullmatch(r"[0-9a-f]{10,64}", name) is not None


def _resolution(evidence: Evidence) -> Iterator[Finding]:
    known = {source.name for source in evidence.sources}
    for namespace, name, said in _unresolved(evidence):
        subject = f"Subscription {namespace}/{name}"
        match = _OTHER.search(said)
        if match and match[1] in known:
            continue  # that catalog has a finding of its own
        if is_explained(said, evidence):
            continue
        if _UNSATISFIABLE.search(said):
            yield Finding(
                "dependency-missing",
                subject,
                "the operator needs another one that no catalog of this cluster has",
                (short(said),),
                "Export that package too (hub-export create follows dependencies unless --skip-dependencies is said).",
            )
        else:
            cause = "cannot be resolved, for a reason that this program does not know"
            yield Finding(UNKNOWN, subject, cause, (short(said),), _ASK)


def _unresolved(evidence: Evidence) -> list[tuple[str, str, str]]:
    return _with_condition(evidence, "ResolutionFailed")


def _with_condition(evidence: Evidence, kind: str) -> list[tuple[str, str, str]]:
    """Return namespace, name and message of the Subscriptions of which a condition is true."""
    found = []
    for one in evidence.subscriptions:
        metadata, said = one["metadata"], condition(one, kind)
        if said.get("status") == "True":
            found.append((str(metadata.get("namespace", "")), str(metadata["name"]), str(said.get("message") or kind)))
    return found
