"""Whether an UpdateService serves the graph data of the archive (openshift/cincinnati-operator). Reads only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from importer.cluster.api.client import ForbiddenError
from importer.cluster.kinds import DEPLOYMENT, POD, UPDATE_SERVICE, condition, short, status_of
from importer.cluster.readiness.readiness import Check

if TYPE_CHECKING:
    from importer.cluster.api.client import Body, ClusterClient
    from importer.cluster.resources.openshift_release import UpdatePlace

_COMPLETED, _CA_FOUND = "ReconcileCompleted", "RegistryCACertFound"


def update_service(client: ClusterClient, place: UpdatePlace, image: str) -> list[Check]:
    """Check that pods of the service run with the graph data `image`, and that it has an address. Raises ClusterError."""
    subject = f"UpdateService {place.namespace}/{place.name}"
    found = client.get(UPDATE_SERVICE, place.name, place.namespace)
    if found is None:
        return [Check(subject, ok=False, state="does not exist")]
    done = condition(found, _COMPLETED)
    if done.get("status") != "True":
        waits = "the operator creates its objects" if not done else "the operator repeats it"
        return [Check(subject, ok=False, state=_state(found), evidence=short(done.get("message")), next_step=waits)]
    checks = [_pods(client, subject, place, image)]
    uri = str(status_of(found).get("policyEngineURI") or "")
    state = f"serves {uri}" if uri else "has no address yet"
    return [*checks, Check(subject, ok=bool(uri), state=state, next_step="the router admits its route")]


def _state(found: Body) -> str:
    done = condition(found, _COMPLETED)
    if not done:
        return "not seen by its operator yet"
    return f"{_COMPLETED}={done.get('status')} ({done.get('reason')})"


def _pods(client: ClusterClient, subject: str, place: UpdatePlace, image: str) -> Check:
    """Check the Deployment: `ReconcileCompleted` says that it was written, not that its pods run."""
    name = f"pods of {subject}"
    # controllers/names.go, nameDeployment: the name of the UpdateService.
    deployment = client.get(DEPLOYMENT, place.name, place.namespace) or {}
    spec, status = deployment.get("spec") or {}, status_of(deployment)
    wanted = int(spec.get("replicas") or 1)
    pod = (spec.get("template") or {}).get("spec") or {}
    if image not in {str(each.get("image")) for each in pod.get("initContainers") or []}:
        return Check(name, ok=False, state="not of this graph data yet", next_step="the operator changes the Deployment")
    fresh = status.get("observedGeneration", 0) >= (deployment.get("metadata") or {}).get("generation", 0)
    updated, available = int(status.get("updatedReplicas") or 0), int(status.get("availableReplicas") or 0)
    if fresh and updated >= wanted and available >= wanted:
        return Check(name, ok=True, state=f"{available} of {wanted} run")
    said = _waiting(client, place) or short(condition(deployment, "Progressing").get("message"))
    return Check(name, ok=False, state=f"{min(updated, available)} of {wanted} run", evidence=said)


def _waiting(client: ClusterClient, place: UpdatePlace) -> str:
    """Return why a container of the update service waits; empty where none does, or where pods may not be read."""
    try:
        pods = client.list(POD, place.namespace) or []
    except ForbiddenError:
        return ""
    for pod in (each for each in pods if str(each["metadata"]["name"]).startswith(f"{place.name}-")):
        status = status_of(pod)
        for each in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
            waiting = (each.get("state") or {}).get("waiting") or {}
            if waiting.get("message"):  # one that is only being created has none
                return f"pod {pod['metadata']['name']}: {waiting.get('reason')}: {short(waiting['message'])}"
    return ""


def untrusted(service: Body) -> str:
    """Return why an UpdateService has no CA of its registry, in the words of its operator; empty where it has one."""
    found = condition(service, _CA_FOUND)
    return f"{found.get('reason')}: {short(found.get('message'))}" if found.get("status") == "False" else ""


def failing(service: Body) -> str:
    """Return why an UpdateService is not reconciled, in the words of its operator; empty where it is, or was not yet."""
    done = condition(service, _COMPLETED)
    return f"{done.get('reason')}: {short(done.get('message'))}" if done.get("status") == "False" else ""
