"""Updates of the cluster in an import: the place of the update service, acknowledgements, the address of the graph."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from common.errors import UsageError
from common.text import enumeration
from importer.cluster.api.client import ForbiddenError
from importer.cluster.apply import ApplyResult, apply
from importer.cluster.finding import Finding, Severity
from importer.cluster.kinds import (
    CLUSTER_VERSION,
    CONFIG_MAP,
    CONFIG_NAMESPACE,
    INFRASTRUCTURE,
    NAMESPACE,
    SUBSCRIPTION,
    UPDATE_SERVICE,
    Resource,
    has_own_label,
    status_of,
)
from importer.cluster.nodes import configures_nodes
from importer.cluster.resources.openshift_release import (
    UPDATE_NAMESPACE,
    UpdatePlace,
    has_graph,
    has_room,
    payload_repository,
)
from importer.cluster.updates.expected import ExpectedRelease, releases_of
from importer.cluster.updates.outlook import Update, unfit, updates
from importer.cluster.updates.reading import ACKS, UpdateState, graph_address, read_updates
from importer.cluster.writing import Action, Change

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from common.archive.inventory import Inventory
    from importer.cluster.api.client import Body, ClusterClient
    from importer.cluster.record import Recorder
    from importer.cluster.release import Release
    from importer.mapping import MappedImage, Mirror
    from importer.settings import ClusterSettings

OPERATOR = "cincinnati-operator"  # the package of the OpenShift Update Service
_SHOWN = 10  # names of acknowledgements in a message


@dataclass(frozen=True, slots=True)
class ReleasePlan:
    """What an import does for updates. `state` None: it carries nothing for them, and nothing was read.

    `place`: of the UpdateService; None where there is none. `resources`: beyond those of every cluster. `follows`: the cluster
    is to ask that UpdateService, whose address is not known before it runs.
    """

    state: UpdateState | None = None
    place: UpdatePlace | None = None
    expected: tuple[ExpectedRelease, ...] = ()
    resources: tuple[Resource, ...] = ()
    follows: bool = False
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def promised(self) -> tuple[Change, ...]:
        """The change that a dry run cannot try: its value does not exist yet."""
        detail = "spec.upstream, the address that the UpdateService will report"
        return (Change(Action.CHANGED, CLUSTER_VERSION.name, "version", "", detail),) if self.follows else ()

    @property
    def later(self) -> tuple[Resource, ...]:
        """The object of that change, for the permissions that it needs."""
        return (upstream(""),) if self.follows else ()

    @property
    def foreseen(self) -> tuple[Update, ...]:
        """The carried releases that the cluster could go to as it was before the change."""
        return updates(self.state, self.expected) if self.state is not None else ()

    def follow(
        self, client: ClusterClient, release: Release | None, recorder: Recorder, tell: Callable[[str], None]
    ) -> ApplyResult:
        """Let the cluster ask its UpdateService for updates, where that had to be waited for. Raises ClusterError."""
        place = self.place if self.follows else None
        address = graph_address(client.get(UPDATE_SERVICE, place.name, place.namespace) or {}) if place is not None else ""
        if not address:
            return ApplyResult(())
        return apply(client, [upstream(address)], release=release, dry_run=False, tell=tell, recorder=recorder)

    def possible(self, client: ClusterClient, release: Release | None) -> tuple[Update, ...]:
        """Return the carried releases that the cluster can go to, as it is now. Raises ClusterError."""
        if self.state is None or not self.expected:
            return ()
        return updates(read_updates(client, release), self.expected)


NOTHING = ReleasePlan()


def plan_releases(
    client: ClusterClient,
    inventory: Inventory,
    images: Sequence[MappedImage],
    mirror: Mirror,
    *,
    release: Release | None,
    cluster: ClusterSettings,
) -> ReleasePlan:
    """Return what an import does for updates of a cluster. Changes nothing. Raises ClusterError, UsageError."""
    with_graph = has_graph(images)
    asked = cluster.update_service or cluster.acknowledged
    usable = configures_nodes(release) and release is not None and not release.hosted and not cluster.resources.catalogs_only
    if asked and not usable:
        option = "--update-service" if cluster.update_service else "--acknowledge"
        raise UsageError(f"{option}: this cluster is not updated by its own ClusterVersion", hint="Leave the option out.")
    if not usable or not (inventory.carried_releases or with_graph or asked):
        return NOTHING
    try:
        state = read_updates(client, release)
    except ForbiddenError as error:  # preflight lists the missing permissions
        if asked:
            raise
        return ReleasePlan(notes=(f"updates of the cluster were not looked at: {error.message}",))
    expected = releases_of(inventory, images)
    acknowledged = _acknowledged(state, cluster.acknowledged)
    plan = ReleasePlan(state, expected=expected, resources=acknowledged, notes=unfit(state, expected))
    repository = payload_repository(images, mirror, state.services or ())
    plan = _placed(client, plan, repository, with_graph=with_graph)
    return _following(plan, repository, with_graph=with_graph) if cluster.update_service else plan


def _acknowledged(state: UpdateState, names: Sequence[str]) -> tuple[Resource, ...]:
    """Return the ConfigMap with what the administrator acknowledges. Raises UsageError for a name that is no gate."""
    if not names:
        return ()
    if unknown := [name for name in names if name not in state.gates]:
        raise UsageError(
            f"--acknowledge {unknown[0][:80]!r}: the cluster asks for no such acknowledgement",
            hint=f"It asks for {enumeration(sorted(state.gates), _SHOWN)}."
            if state.gates
            else "Leave the option out: it asks for none.",
        )
    metadata = {"name": ACKS, "namespace": CONFIG_NAMESPACE}
    body = {"apiVersion": "v1", "kind": CONFIG_MAP.name, "metadata": metadata, "data": dict.fromkeys(sorted(names), "true")}
    return (Resource.of(body, shared=True),)


def _placed(client: ClusterClient, plan: ReleasePlan, repository: str, *, with_graph: bool) -> ReleasePlan:
    """Return the plan with the place of the UpdateService, or the reason why there is none."""
    assert plan.state is not None
    if not with_graph:
        return plan
    if plan.state.services is None:
        why = f"the cluster has no UpdateService: install the operator {OPERATOR}, and run the same command again"
        return replace(plan, notes=(*plan.notes, f"graph data: {why}"))
    present = serving(plan.state, repository)
    if present is not None:
        metadata = present["metadata"]
        return replace(plan, place=UpdatePlace(str(metadata["namespace"]), str(metadata["name"]), releases=repository))
    others = [f"{each['metadata']['namespace']}/{each['metadata']['name']}" for each in plan.state.services]
    left = [f"UpdateService {name} serves other releases, and stays as it is" for name in others]
    place = UpdatePlace(_operator_namespace(client), replicas=_replicas(client), releases=repository)
    if why := _no_place(client, place, repository):
        return replace(plan, notes=(*plan.notes, *left, f"graph data: no UpdateService is written, because {why}"))
    return replace(plan, place=place, notes=(*plan.notes, *left))


def _no_place(client: ClusterClient, place: UpdatePlace, repository: str) -> str:
    """Return why no UpdateService can be written there; empty where one can."""
    if not repository:
        return "the archive has no release, whose source says where payloads are on the mirror"
    if not has_room(place):
        return f"the name of its route would have more than 63 characters in namespace {place.namespace}"
    if not _exists(client, place.namespace):
        return f"namespace {place.namespace} does not exist, and no Subscription of {OPERATOR} says where its operator is"
    return ""


def _exists(client: ClusterClient, namespace: str) -> bool:
    try:
        return client.get(NAMESPACE, namespace) is not None
    except ForbiddenError:  # a dry run on the server finds out
        return True


def serving(state: UpdateState, repository: str) -> Body | None:
    """Return the UpdateService for a repository of payloads, that of hub-import for another one, or None."""
    services = sorted(state.services or (), key=lambda each: not has_own_label(each))
    same = (each for each in services if (each.get("spec") or {}).get("releases") == repository)
    return next(same, None) or next((each for each in services if has_own_label(each)), None)


def _operator_namespace(client: ClusterClient) -> str:
    """Return the namespace that the operator of update services watches: its own."""
    # Its bundle has the install modes OwnNamespace and SingleNamespace (cincinnati-operator, bundle/manifests).
    try:
        found = [each for each in client.list(SUBSCRIPTION) or [] if (each.get("spec") or {}).get("name") == OPERATOR]
    except ForbiddenError:
        found = []
    return str(found[0]["metadata"]["namespace"]) if found else UPDATE_NAMESPACE


def _replicas(client: ClusterClient) -> int:
    """Return two, as the documentation of OpenShift has it, or one where a single node runs all pods."""
    # With two or more, a PodDisruptionBudget keeps one available, and the only node could not be drained
    # (cincinnati-operator, controllers/names.go, getMinAvailablePBD).
    topology = status_of(client.get(INFRASTRUCTURE, "cluster") or {}).get("infrastructureTopology")
    return 2 if topology == "HighlyAvailable" else 1


def _following(plan: ReleasePlan, repository: str, *, with_graph: bool) -> ReleasePlan:
    """Return the plan with the address of the graph, or the promise of one."""
    assert plan.state is not None
    service = serving(plan.state, repository)
    if service is None and plan.place is None:
        why = "there is no UpdateService" if with_graph else "the archive has no graph data, and there is no UpdateService"
        finding = Finding(
            "update-service-absent",
            "ClusterVersion version",
            f"--update-service lets the cluster ask its UpdateService for updates, and {why}",
            plan.notes,
            f"Install the operator {OPERATOR} from a catalog of the mirror, and export with graph data (--graph).",
            severity=Severity.ERROR,
        )
        return replace(plan, findings=(*plan.findings, finding))
    address = graph_address(service) if service is not None else ""
    if not address:
        metadata = service["metadata"] if service is not None else {}
        known = UpdatePlace(str(metadata["namespace"]), str(metadata["name"])) if metadata else None
        return replace(plan, follows=True, place=plan.place or known)
    return replace(plan, resources=(*plan.resources, upstream(address)))


def upstream(address: str) -> Resource:
    """Return the address of the update graph, as a field of ClusterVersion."""
    body = {"apiVersion": CLUSTER_VERSION.api_version, "kind": CLUSTER_VERSION.name, "metadata": {"name": "version"}}
    return Resource.of({**body, "spec": {"upstream": address}}, shared=True)
