"""Reads the snapshot of a cluster for a diagnosis. Changes nothing; reads that are not allowed are listed and left out."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from importer.cluster.kinds import (
    CLUSTER_CATALOG,
    CONFIG_MAP,
    CONFIG_NAMESPACE,
    DEPLOYMENT,
    EVENT,
    ICSP,
    IDMS,
    IMAGE_CONFIG,
    IMAGE_REGISTRY,
    JOB,
    MACHINE_CONFIG_POOL,
    NETWORK_POLICY,
    OLM_NAMESPACE,
    POD,
    SUBSCRIPTION,
    condition,
    short,
    status_of,
)
from importer.cluster.nodes import configures_nodes
from importer.cluster.readiness import readiness
from importer.cluster.readiness.readiness import held_back, is_paused, rules_lacking
from importer.cluster.resources.catalog_source import service_name
from importer.cluster.resources.mirror_rules import Listed, listed
from importer.cluster.updates.outlook import updates
from importer.cluster.updates.reading import read_updates
from importer.diagnose.olm_objects import plans, versions, with_unpacking
from importer.diagnose.reading import Reader
from importer.diagnose.snapshot import PodState, Snapshot, SourceState
from importer.diagnose.workloads import waiting_images
from importer.operators.reading import sources_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from importer.cluster.api.client import Body, ClusterClient
    from importer.cluster.readiness.readiness import ExpectedCatalog
    from importer.cluster.release import Release
    from importer.cluster.updates.expected import ExpectedRelease
    from importer.cluster.updates.outlook import Update
    from importer.cluster.updates.reading import UpdateState


T = TypeVar("T")


_EVENTS = 20  # of one object; a pod that is restarted for days has hundreds
_LONGEST = 400  # from 4.8 on a termination message has the tail of the log (FallbackToLogsOnError)


def collect(
    client: ClusterClient,
    namespace: str,
    expectations: Sequence[ExpectedCatalog],
    release: Release | None,
    *,
    workloads: bool = True,
    releases: Sequence[ExpectedRelease] = (),
) -> Snapshot:
    """Return the snapshot of a cluster. `namespace`: that of the catalogs. Raises UnavailableError.

    `workloads`: also what runs in all other namespaces. `releases`: those that imports have brought.
    """
    reader = Reader(client)
    events = _events(reader.list(EVENT, namespace))
    # Without OpenShift there are no pools, and no such kind to ask for.
    pools = reader.list(MACHINE_CONFIG_POOL) if release is not None else []
    state, targets = _updates(reader, releases, release)
    rules = {rule for each in expectations for rule in each.rules} | {rule for each in targets for rule in each.release.rules}
    found = reader.read(lambda: sources_of(client, namespace), None)
    subscriptions = _subscriptions(reader, namespace)
    mirror_rules = _mirror_rules(reader, release)
    catalogs = [body for key, body in sorted(found.bodies.items()) if key[0] == namespace] if found else []
    return Snapshot(
        release=release,
        sources=tuple(_source(reader, body, expectations, events, release) for body in catalogs),
        all_sources=found,
        pools=tuple(pools),
        held_back=_of_pools(reader, filter(is_paused, pools), partial(held_back, client), ""),
        missing_rules=_of_pools(reader, pools, lambda pool: rules_lacking(client, pool, rules), []),
        ca_keys=_ca_keys(reader) if release is not None else frozenset(),
        registry_state=_registry_state(reader, release),
        subscriptions=tuple(subscriptions),
        jobs=tuple(reader.list(JOB, namespace)),
        cluster_catalogs=tuple(reader.list(CLUSTER_CATALOG)) if release and release.has_cluster_catalog else (),
        package_log=_package_log(reader) if release is not None else "",
        rule_kinds=frozenset(each.kind for each in mirror_rules or () if each.kind in (ICSP.name, IDMS.name)),
        expected=tuple(expectations),
        mirror_rules=mirror_rules,
        **(_workloads(reader, subscriptions) if workloads else {}),
        updates=state,
        targets=targets,
        unreadable=tuple(reader.unreadable),
    )


def _workloads(reader: Reader, subscriptions: Sequence[Body]) -> dict[str, Any]:
    """Return the fields of a snapshot for what runs outside of the catalogs' namespace."""
    found = plans(reader, subscriptions)
    waiting = with_unpacking(waiting_images(reader), subscriptions, found)
    return {"waiting": waiting, "versions": versions(reader), "plans": found}


def _updates(
    reader: Reader, releases: Sequence[ExpectedRelease], release: Release | None
) -> tuple[UpdateState | None, tuple[Update, ...]]:
    """Return what decides on updates, where imports brought releases, and those that the cluster can go to."""
    state = reader.read(lambda: read_updates(reader, release), None) if releases and configures_nodes(release) else None
    # Of releases that the cluster has, or has passed, rules and signatures may have been removed.
    return state, updates(state, releases) if state is not None else ()


def _subscriptions(reader: Reader, namespace: str) -> list[Body]:
    """Return the Subscriptions; their namespaces, and that of the catalogs, are read where namespaces may not be listed."""
    found = reader.list(SUBSCRIPTION)
    reader.known = sorted({namespace, *(str(each["metadata"].get("namespace")) for each in found)})
    return found


def _of_pools(reader: Reader, pools: Iterable[Body], read: Callable[[Body], T], otherwise: T) -> dict[str, T]:
    """Return what `read` makes of each MachineConfigPool, by its name; `otherwise` where that may not be read."""
    return {each["metadata"]["name"]: reader.read(partial(read, each), otherwise) for each in pools}


def _source(
    reader: Reader,
    body: Body,
    expectations: Sequence[ExpectedCatalog],
    events: Mapping[str, Sequence[str]],
    release: Release | None,
) -> SourceState:
    metadata, image = body["metadata"], str((body.get("spec") or {}).get("image") or "")
    name, namespace = str(metadata["name"]), str(metadata.get("namespace", ""))
    expected = next((each for each in expectations if each.name == name), None)
    expected_image = expected.image if expected else image
    # Also pods of a former spec have these labels: OLM keeps one until the next is ready.
    found = reader.list(POD, namespace, readiness.pod_labels(body))
    pods = tuple(_pod(reader, pod, expected_image, events) for pod in found)
    listed = reader.read(lambda: readiness.package_manifests(reader.client, name, namespace), None)
    source = replace(_served(reader, SourceState(body, pods, expected), events, release), connected_s=_connected_s(body, found))
    if listed is None:
        return source
    offers = readiness.offered(listed)
    source = replace(source, offers=offers, versions=readiness.entries(listed))
    if expected is None:
        return source
    missing = tuple(sorted(expected.packages.keys() - offers.keys()))
    return replace(source, packages=readiness.compared(expected, offers), missing=missing)


def _served(reader: Reader, source: SourceState, events: Mapping[str, Sequence[str]], release: Release | None) -> SourceState:
    """Add the state of a catalog in its own Deployment: its replicas, and the NetworkPolicy that lets OLM in."""
    if not source.serves_itself:
        return source
    name = service_name(source.name)
    deployment = reader.get(DEPLOYMENT, name, source.namespace)
    failure = condition(deployment, "ReplicaFailure")
    refusals = (
        [f"{failure.get('reason')}: {short(failure.get('message'), _LONGEST)}"] if failure.get("status") == "True" else []
    )
    failed = [line for about, lines in events.items() if about.startswith(f"{name}-") for line in lines]
    # A quota or an admission webhook refuses pods to the ReplicaSet, which reports it as an event.
    refusals += [line for line in failed if line.startswith("FailedCreate")] if not source.pods else []
    pod = ((deployment.get("spec") or {}).get("template") or {}).get("spec") or {}
    unknown: Body | None = {"metadata": {}}  # stands for an object that may not be read, which is not the same as a missing one
    denies = release is not None and release.denies_network
    policy = reader.read(lambda: reader.client.get(NETWORK_POLICY, name, source.namespace), unknown) if denies else unknown
    return replace(
        source,
        refusals=tuple(dict.fromkeys(refusals)),
        restricted="seccompProfile" in (pod.get("securityContext") or {}),
        lacks_policy=policy is None,
    )


def _connected_s(source: Body, pods: Sequence[Body]) -> float | None:
    """Return the seconds since OLM's connection, or the readiness of a pod, changed last; None: unknown."""
    texts = [str((status_of(source).get("connectionState") or {}).get("lastConnect") or "")]
    texts += [str(condition(pod, "Ready").get("lastTransitionTime") or "") for pod in pods]
    # Fields of a custom kind, so any text is possible.
    times = [moment for moment in map(_moment, texts) if moment is not None]
    return (datetime.now(UTC) - max(times)).total_seconds() if times else None


def _moment(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else None


def _pod(reader: Reader, pod: Body, image: str, events: Mapping[str, Sequence[str]]) -> PodState:
    name, namespace = str(pod["metadata"]["name"]), str(pod["metadata"].get("namespace", ""))
    spec, status = pod.get("spec") or {}, status_of(pod)
    containers = spec.get("containers") or [{}]
    statuses = [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
    limits = (containers[0].get("resources") or {}).get("limits") or {}
    return PodState(
        name=name,
        images=frozenset(readiness.images_of(pod)),
        ready=condition(pod, "Ready").get("status") == "True",
        runs_image=readiness.runs(pod, image),
        states=tuple(text for each in statuses for text in _states(each)) or _unstarted(pod),
        reasons=frozenset(cause.get("reason", "") for each in statuses for cause in _causes(each)),
        memory_limit=str(limits.get("memory") or ""),
        events=tuple(events.get(name, ())),
        # A pod whose containers were never created has no log, and the API server answers 400.
        log=reader.log(name, namespace, str(containers[0].get("name") or "")) if statuses else "",
        created=str(pod["metadata"].get("creationTimestamp") or ""),
    )


def _causes(container: Mapping[str, Mapping[str, Body]]) -> list[Body]:
    """Return why a container waits, or has ended, and how it ended before that."""
    state, last = container.get("state") or {}, container.get("lastState") or {}
    return [cause for cause in (state.get("waiting"), state.get("terminated"), last.get("terminated")) if cause]


def _states(container: Mapping[str, Mapping[str, Body]]) -> list[str]:
    texts = []
    for cause in _causes(container):
        code = f", exit code {cause['exitCode']}" if "exitCode" in cause else ""
        message = f": {short(cause.get('message'), _LONGEST)}" if cause.get("message") else ""
        texts.append(f"{cause.get('reason', 'unknown')}{code}{message}")
    return texts


def _unstarted(pod: Body) -> tuple[str, ...]:
    scheduled = condition(pod, "PodScheduled")
    why = (
        f"{scheduled.get('reason')}: {short(scheduled.get('message'), _LONGEST)}" if scheduled.get("status") == "False" else ""
    )
    return (why or str(status_of(pod).get("phase") or "no status yet"),)


def _events(events: Iterable[Body]) -> dict[str, list[str]]:
    """Return the warnings about each object, by its name, the newest first."""
    found: dict[str, list[str]] = {}
    # Series of events.k8s.io/v1 have eventTime only; kubelet and OLM write lastTimestamp.
    for event in sorted(events, key=lambda each: str(each.get("lastTimestamp") or each.get("eventTime") or ""), reverse=True):
        lines = found.setdefault(str((event.get("involvedObject") or {}).get("name")), [])
        if event.get("type") != "Normal" and len(lines) < _EVENTS:
            lines.append(f"{event.get('reason')}: {short(event.get('message'), _LONGEST)}")
    return found


def _mirror_rules(reader: Reader, release: Release | None) -> tuple[Listed, ...] | None:
    """Return the mirror rules of the cluster; None where its nodes have others, or where they may not be read."""
    if release is None or not release.rule_kinds:
        return None  # container runtimes of other clusters, and of MicroShift, have files of their own
    before = len(reader.unreadable)
    bodies = [
        {**each, "apiVersion": kind.api_version, "kind": kind.name} for kind in release.rule_kinds for each in reader.list(kind)
    ]
    if len(reader.unreadable) > before:
        return None
    return tuple(each for body in bodies for each in listed(body))


def _ca_keys(reader: Reader) -> frozenset[str]:
    """Return the keys of the ConfigMap in use: the hosts that nodes have a CA for, as `host..port`."""
    named = ((reader.get(IMAGE_CONFIG, "cluster").get("spec") or {}).get("additionalTrustedCA") or {}).get("name")
    return frozenset((reader.get(CONFIG_MAP, named, CONFIG_NAMESPACE).get("data") or {}) if named else ())


def _registry_state(reader: Reader, release: Release | None) -> str:
    # Later releases do not need the kind, and `permissions.py` does not ask for it there.
    if release is None or release.trusts_without_registry:
        return ""
    return str((reader.get(IMAGE_REGISTRY, "cluster").get("spec") or {}).get("managementState") or "")


def _package_log(reader: Reader) -> str:
    pods = reader.list(POD, OLM_NAMESPACE, {"app": "packageserver"})
    return "\n".join(reader.log(str(pod["metadata"]["name"]), OLM_NAMESPACE, "packageserver") for pod in pods)
