"""The rules of a diagnosis: each looks for one cause in a snapshot and gives findings. No I/O.

Texts of pods are matched by the tables of `symptoms.py`. To add a rule, write a function `Snapshot -> Iterator[Finding]`, such
as `_stale_pods`, and put it into `RULES` where its cause has to be fixed: before those that follow from it.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from importer.cluster.finding import UNKNOWN, Finding, Severity
from importer.cluster.kinds import ICSP, IDMS, condition, short, source_image, status_of
from importer.cluster.nodes import RULES_MISSING, refused_rules
from importer.cluster.readiness.readiness import complaint, how_far, is_paused, is_rolled_out, unpause
from importer.cluster.release import Release
from importer.cluster.resources.catalog_source import service_name
from importer.cluster.resources.node_configuration import LARGE
from importer.diagnose.installing import FAILED, UNPACK, current_plans, operators
from importer.diagnose.pulls import merged, waiting_pods
from importer.diagnose.resolution import foreign_sources, orphaned, resolution, with_condition
from importer.diagnose.symptoms import POD_SECURITY, PULLS, RUNS, Symptom, match
from importer.diagnose.updates import updates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from importer.cluster.api.client import Body
    from importer.diagnose.snapshot import PodState, Snapshot, SourceState


Rule: TypeAlias = "Callable[[Snapshot], Iterator[Finding]]"
_SHOWN = 5
_STATES_SHOWN = 3
_ASK = "See the evidence; `oc describe` and the log of the component that reports it say more."
_ASK_POD = "See the evidence: it is the cluster's own output. Do not delete the pod: the kubelet restarts its containers."
_OOM = "OOMKilled"

# Controller of machine-config-operator (pkg/controller/container-runtime-config), before it could merge both kinds.
_COEXIST = re.compile(r"both \w*imagecontentsourcepolic\w+ and \w*imagedigestmirrorset\w* exist", re.IGNORECASE)
# etcd, an API server before it (staging/src/k8s.io/apiserver, MaxRequestBodyBytes), and the limit of gRPC between them.
_TOO_LARGE = re.compile(r"request is too large|request entity too large|trying to send message larger than max", re.IGNORECASE)
_DRAIN = re.compile(r"failed to drain|disruption budget|cannot evict", re.IGNORECASE)


def diagnose(snapshot: Snapshot) -> list[Finding]:
    """Return the findings, in the order in which they have to be fixed; none for a healthy cluster.

    A catalog that is not served and shows no known symptom is reported as unknown, with its evidence, and never guessed at.
    """
    found = merged(list(dict.fromkeys(finding for rule in RULES for finding in rule(snapshot))), snapshot)
    explained = {finding.subject for finding in found}
    return [*found, *(finding for finding in _unexplained(snapshot) if finding.subject not in explained)]


# Nodes: pools that do not get the mirror rules.


def _pools(snapshot: Snapshot) -> Iterator[Finding]:
    for pool in snapshot.pools:
        found = _pool(pool, snapshot)
        if found is not None:
            yield found


def _refused_rules(snapshot: Snapshot) -> Iterator[Finding]:
    yield from refused_rules(snapshot.mirror_rules or (), Severity.ERROR)


def _pool(pool: Body, snapshot: Snapshot) -> Finding | None:
    name, missing = pool["metadata"]["name"], snapshot.missing_rules.get(pool["metadata"]["name"]) or ()
    subject, message = f"MachineConfigPool {name}", complaint(pool)
    if message:
        return _degraded(subject, message, snapshot)
    rolled = is_rolled_out(pool)
    if is_paused(pool) and (missing or not rolled):
        return _paused(pool, len(missing), snapshot.held_back.get(name) or "changes that cannot be read")
    if rolled and missing:
        return Finding(
            RULES_MISSING,
            subject,
            "the configuration of its nodes lacks mirror rules, so they would pull from the internet",
            tuple(f"{source} → {mirror}" for source, mirror in missing[:_SHOWN]),
            "Wait a minute or two after an apply; if the rules were removed, run hub-import apply again.",
        )
    return None


def _paused(pool: Body, missing: int, held_back: str) -> Finding:
    """Return the finding about a paused pool: a warning while its nodes have the rules."""
    name, shown = pool["metadata"]["name"], (how_far(pool), "spec.paused: true", f"held back: {held_back}")
    subject = f"MachineConfigPool {name}"
    if not missing:  # pools are paused on purpose during a Control Plane Only (EUS to EUS) update
        cause = "the pool is paused, and none of the known mirror rules is missing on its nodes"
        fix = "Nothing for the catalogs: it may stay paused for as long as it was meant to."
        return Finding("pool-paused", subject, cause, shown, fix, severity=Severity.WARNING)
    cause = f"the pool is paused, and its nodes lack {missing} of the mirror rules"
    return Finding("pool-paused", subject, cause, shown, unpause(name, held_back))


def _degraded(subject: str, message: str, snapshot: Snapshot) -> Finding:
    # From 4.15 on (and in late 4.13.z and 4.14.z) the machine config operator merges the two kinds.
    coexist = {ICSP.name, IDMS.name} <= snapshot.rule_kinds and (snapshot.release or Release(4, 15)) < Release(4, 15)
    if _COEXIST.search(message) or (coexist and "registries" in message):
        return Finding(
            "rules-coexist",
            subject,
            "the cluster has ImageContentSourcePolicies and ImageDigestMirrorSets, which this release cannot combine",
            (message,),
            "Bring all rules into one kind (oc adm migrate icsp), and delete the others; or update to 4.15.",
        )
    if _TOO_LARGE.search(message):
        return Finding(
            LARGE,
            subject,
            "the MachineConfig with all mirror rules is larger than etcd takes, so that no node gets a further one",
            (message,),
            "Remove mirror rules that nothing needs: hub-import undo removes those of hub-import; then apply again with "
            "--mirror-scope namespace or registry, which combine many rules into few.",
        )
    if _DRAIN.search(message):
        return Finding(
            "node-not-drained",
            subject,
            "a node cannot be drained, so the rollout does not progress",
            (message,),
            "Let the named pods move (PodDisruptionBudget, replicas); the rollout then continues on its own.",
        )
    return Finding(
        "pool-degraded",
        subject,
        "the machine config operator cannot bring the pool to its configuration",
        (message,),
        "oc describe machineconfigpool, and the log of machine-config-controller, name the rule or the node in question.",
    )


# Other catalogs: OLM resolves no Subscription while any catalog of the cluster cannot be reached.


def _default_sources(snapshot: Snapshot) -> Iterator[Finding]:
    down = [source for source in snapshot.sources if source.is_default and source.state != "READY"]
    if down:
        # Where no catalog was imported, an import had none to put in their place.
        replaced = snapshot.expected or any(source.is_managed for source in snapshot.sources)
        shown = [f"{one.name}: {one.state}{_first_event(one)}" for one in down]
        yield Finding(
            "default-sources-enabled",
            "OperatorHub cluster",
            "default sources are enabled and cannot be reached: no Subscription of the cluster is resolved meanwhile",
            tuple(shown[:_SHOWN]),
            "hub-import doctor --fix, or: set spec.disableAllDefaultSources of OperatorHub cluster to true, and `disabled` of "
            "each of its `sources`, which take precedence over it.",
            fixable=True,
            severity=Severity.ERROR if replaced else Severity.WARNING,
        )


def _returned_defaults(snapshot: Snapshot) -> Iterator[Finding]:
    """Yield an error for each default source that has replaced a catalog of hub-import."""
    # The marketplace operator writes its spec into a CatalogSource with the name of a default that is enabled
    # (operator-marketplace, pkg/defaults/catsrcHelpers.go, ensureCatsrcPresent).
    for source in snapshot.sources:
        if source.expected is not None and source.is_default:
            yield Finding(
                "default-source-returned",
                f"CatalogSource {source.name}",
                "the default source is enabled again, and has replaced the catalog of this name",
                (f"image: {source.image}", f"expected: {source.expected.image}"),
                "hub-import apply again: it disables the default, and writes the catalog as soon as that is deleted.",
            )


def _first_event(source: SourceState) -> str:
    texts = [text for pod in source.pods for text in pod.events]
    return f", {texts[0]}" if texts else ""


# The catalogs of hub-import: served by the wrong pod, empty, or not reachable for OLM.


def _stale_pods(snapshot: Snapshot) -> Iterator[Finding]:
    # The pod of a default that has replaced the catalog is the right one for its image.
    known = ((each, each.expected) for each in snapshot.sources if each.expected is not None and not each.is_default)
    for source, expected in known:
        for pod in source.stale_pods:
            yield Finding(
                "catalog-stale",
                f"CatalogSource {source.name}",
                "the pod that answers runs another image than the one that was pushed",
                (f"pod {pod.name}", f"expected: {expected.image}"),
                f"hub-import doctor --fix, or: oc delete pod {pod.name} -n {source.namespace}",
                fixable=True,
            )


def _packages(snapshot: Snapshot) -> Iterator[Finding]:
    for source in snapshot.sources:
        check = source.packages
        if check is None or check.ok or source.expected is None or source.state != "READY":
            continue
        subject = f"CatalogSource {source.name}"
        # packageserver logs "error unmarshaling csv, eliding channel" and serves the rest of the catalog.
        elided = [line for line in snapshot.package_log.splitlines() if "eliding" in line and _concerns(line, source)]
        if elided:
            yield Finding(
                "package-elided",
                subject,
                "OLM leaves a channel out, since the operator data of its head cannot be read",
                (check.text, *elided[:_SHOWN]),
                "Report the package to the publisher of the catalog; export another version of it meanwhile.",
            )
        elif _is_empty(source):
            logs = [line for pod in source.pods for line in pod.log.splitlines()[-_SHOWN:]]
            yield Finding(
                "catalog-empty",
                subject,
                "the catalog answers and has no packages",
                (check.text, *logs),
                "Verify the archive (hub-import verify) and push it again; if it is intact, the catalog was exported empty.",
            )


def _is_empty(source: SourceState) -> bool:
    settled = bool(source.pods) and all(pod.ready and pod.runs_image for pod in source.pods)
    return settled and not source.listed and not source.connected_lately


def _concerns(line: str, source: SourceState) -> bool:
    """Return whether a log line is about a package of the catalog; one that names no package counts."""
    named = re.search(r"\bpackage=\"?([\w.-]+)", line)
    return named is None or (source.expected is not None and named[1] in source.expected.packages)


def _network_policies(snapshot: Snapshot) -> Iterator[Finding]:
    """Give the catalogs in own Deployments that no NetworkPolicy lets OLM reach, where the namespace denies by default."""
    for source in snapshot.sources:
        if source.state == "READY" or not source.lacks_policy or not any(pod.ready for pod in source.pods):
            continue
        yield Finding(
            "catalog-network-denied",
            f"CatalogSource {source.name}",
            "the namespace denies traffic by default, and no NetworkPolicy lets OLM reach the catalog's pod",
            (f"state: {source.state}", f"NetworkPolicy {service_name(source.name)}: not found"),
            "hub-import doctor --fix, or apply the archive again: either writes it.",
            fixable=True,
        )


def _cluster_catalogs(snapshot: Snapshot) -> Iterator[Finding]:
    images = {source.expected.image for source in snapshot.sources if source.expected is not None}
    if not snapshot.classic:
        images |= {each.image for each in snapshot.expected}
    for catalog in snapshot.cluster_catalogs:
        image = source_image(catalog)
        serving, progressing = condition(catalog, "Serving"), condition(catalog, "Progressing")
        if image not in images or serving.get("status") == "True" or not status_of(catalog):
            continue
        subject = f"ClusterCatalog {catalog['metadata']['name']}"
        message = short(progressing.get("message") or serving.get("message"))
        pull = match(PULLS, (message,))
        if pull:
            yield Finding(pull[0].code, subject, pull[0].cause, (message,), pull[0].fix)
        elif progressing.get("reason") == "Blocked":  # operator-controller, api/v1: Retrying is temporary, Blocked is not
            yield Finding(
                "cluster-catalog-blocked",
                subject,
                "OLM v1 does not take the catalog, and will not try again",
                (message,),
                "OLM v1 reads file-based catalogs alone, with their directory in a label; Subscriptions do not need it.",
            )
        else:
            yield Finding(UNKNOWN, subject, "is not served, for an unknown reason", (message,), _ASK)


# Subscriptions: bundles that cannot be unpacked, CatalogSources that do not exist, dependencies that no catalog has.


def _unpack_jobs(snapshot: Snapshot) -> Iterator[Finding]:
    failed = snapshot.failed_unpacks
    messages = [message for _, _, message in with_condition(snapshot, "BundleUnpackFailed")]
    # Before 4.14 it is the InstallPlan that unpacks, and fails.
    plans = [each for each in current_plans(snapshot) if each.phase == FAILED and UNPACK.search(each.failure)]
    messages += [f"InstallPlan {each.namespace}/{each.name}: {each.failure}" for each in plans]
    if failed or messages:
        jobs = [f"Job {job['metadata']['name']}: {condition(job, 'Failed').get('reason')}" for job in failed]
        shown = [*(short(each) for each in messages), *jobs]
        # Any other reason, such as BackoffLimitExceeded, is about the content of the bundle, or a webhook that refuses pods.
        late = any("DeadlineExceeded" in each or "deadline" in each for each in shown)
        pulled = (
            "bundle images could not be pulled within the time that OLM grants" if late else "bundles could not be unpacked"
        )
        yield Finding(
            "bundle-unpack-failed",
            "bundle unpack jobs",
            f"{pulled}, and it does not try again" if late else f"{pulled}, and OLM does not try again",
            tuple(shown[:_SHOWN]),
            "Once nodes can pull: hub-import doctor --fix deletes the jobs and their ConfigMaps, so that OLM starts again; "
            "an InstallPlan that failed has to be deleted too.",
            fixable=bool(failed),
        )


# Pods of catalogs. The present state of a pod counts before its log, its log before events, and the newest event first: the
# cause of an earlier failure may have been fixed since.


def _pods(snapshot: Snapshot) -> Iterator[Finding]:
    for source in snapshot.sources:
        if source.is_managed:
            yield from _pods_of(source, snapshot)
    for source in snapshot.sources:
        if not source.is_managed and not source.is_default:  # reported, since it blocks resolution; never changed
            yield from (replace(finding, fixable=False) for finding in _pods_of(source, snapshot))


def _pods_of(source: SourceState, snapshot: Snapshot) -> Iterator[Finding]:
    subject = f"CatalogSource {source.name}"
    message = str((source.body.get("status") or {}).get("message") or "")
    refused = match((POD_SECURITY,), (message, *source.refusals))  # OLM, or the ReplicaSet, could not create the pod at all
    if refused:
        yield _of_symptom(refused[0], subject, (refused[1],), source, snapshot)
    for pod in source.pods:
        if not pod.ready:
            yield from _unready(pod, subject, source, snapshot)


def _unready(pod: PodState, subject: str, source: SourceState, snapshot: Snapshot) -> Iterator[Finding]:
    if _OOM in pod.reasons:
        yield _out_of_memory(pod, subject)
        return
    found = match((*PULLS, *RUNS), (*pod.states, *pod.log.splitlines(), *pod.events))
    if found is None:
        return
    symptom, text = found
    shown = tuple(dict.fromkeys((text, *pod.states)))[:_STATES_SHOWN]
    if symptom.code == "registry-untrusted" and _registry_operator_is_off(source, snapshot):
        yield _registry_operator(subject, text, snapshot)
    else:
        yield _of_symptom(symptom, subject, shown, source, snapshot)


def _of_symptom(symptom: Symptom, subject: str, shown: tuple[str, ...], source: SourceState, snapshot: Snapshot) -> Finding:
    return Finding(symptom.code, subject, symptom.cause, shown, symptom.fix, symptom.fixable(source, snapshot))


def _out_of_memory(pod: PodState, subject: str) -> Finding:
    if pod.memory_limit:  # only OLM before BZ#1814777 limits catalog pods, to 100Mi
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


def _registry_operator_is_off(source: SourceState, snapshot: Snapshot) -> bool:
    """Return whether the CA is in the cluster, and node-ca, which copies it to the nodes, is not running (4.2 to 4.4)."""
    host = source.image.partition("/")[0].replace(":", "..")
    return host in snapshot.ca_keys and snapshot.registry_state not in {"", "Managed"}


def _registry_operator(subject: str, text: str, snapshot: Snapshot) -> Finding:
    return Finding(
        "registry-operator-removed",
        subject,
        "the CA is in the cluster, but up to 4.4 nodes get it only while the image registry is Managed",
        (text, f"managementState: {snapshot.registry_state}"),
        "hub-import apply --ca FILE, with --image-registry-emptydir when the image registry has no storage.",
    )


# Catalogs that are not served, whether or not a symptom is known: for those that no rule explained.


def _unexplained(snapshot: Snapshot) -> Iterator[Finding]:
    for source in snapshot.sources:
        unready = [pod for pod in source.pods if not pod.ready]
        if not source.is_managed or (source.state == "READY" and not unready and source.lists_all):
            continue
        if waiting := [pod for pod in unready if any(state.startswith("Unschedulable") for state in pod.states)]:
            yield _unschedulable(source, waiting)
        elif unready and all(pod.is_starting for pod in unready):
            yield _starting(source, unready)
        elif source.connected_lately and source.pods and not unready and not source.stale_pods:
            yield _reconnecting(source)
        else:
            yield _unknown(source, unready)


def _unschedulable(source: SourceState, pods: list[PodState]) -> Finding:
    """Return the finding about a pod that the scheduler has no node for, in its own words (kube-scheduler, PodScheduled)."""
    return Finding(
        "catalog-unschedulable",
        f"CatalogSource {source.name}",
        "no node takes the pod of the catalog",
        tuple(f"pod {pod.name}: {'; '.join(pod.states)}" for pod in pods),
        "Free or add the room that is missing; for other nodes or taints, set nodeSelector and tolerations of grpcPodConfig in "
        "the image set's CatalogSource template, and apply again. From 4.10 on apply places catalogs as OpenShift's defaults.",
    )


def _starting(source: SourceState, pods: list[PodState]) -> Finding:
    return Finding(
        "catalog-starting",
        f"CatalogSource {source.name}",
        "its pod is being created, without an error so far",
        tuple(f"pod {pod.name}: {'; '.join(pod.states)}, created {pod.created}" for pod in pods),
        "Wait some minutes; if the pod is still being created then, see oc describe pod.",
        severity=Severity.WARNING,
    )


def _reconnecting(source: SourceState) -> Finding:
    """Return the finding about a catalog that answers, while package-server has not connected to it again yet."""
    return Finding(
        "catalog-starting",
        f"CatalogSource {source.name}",
        "the catalog answers, and package-server has not queried it again yet",
        (f"state: READY, for {source.connected_s:.0f} s", *([source.packages.text] if source.packages else [])),
        "Wait some minutes: package-server reconnects on its own.",
        severity=Severity.WARNING,
    )


def _unknown(source: SourceState, unready: list[PodState]) -> Finding:
    message = str((source.body.get("status") or {}).get("message") or "")
    shown = [f"state: {source.state}", *([message] if message else []), *source.refusals[:_SHOWN]]
    for pod in unready:
        log = [f"log: {line}" for line in pod.log.splitlines()[-_SHOWN:]]
        shown += [f"pod {pod.name}: {'; '.join(pod.states)}", *pod.events[:_SHOWN], *log]
    if not source.pods:
        shown.append("there is no pod")
    if source.packages is not None and not source.packages.ok:
        shown.append(f"packages: {source.packages.text}")
    cause = "is not served as expected, for an unknown reason"
    return Finding(UNKNOWN, f"CatalogSource {source.name}", cause, tuple(shown), _ASK_POD)


# In the order in which causes have to be fixed: nodes, then catalogs that block all Subscriptions, then single catalogs;
# updates of the cluster last.
RULES: tuple[Rule, ...] = (
    _refused_rules,
    _pools,
    _returned_defaults,
    _default_sources,
    foreign_sources,
    _stale_pods,
    _packages,
    _network_policies,
    _cluster_catalogs,
    _unpack_jobs,
    orphaned,
    resolution,
    _pods,
    waiting_pods,
    operators,
    updates,
)
