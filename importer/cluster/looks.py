"""Single looks at the cluster: each says of one thing whether it is as it shall be, and what it is doing. Reads only.

`wait.py` looks until all is well; a look that fails because the API server is away is a state like any other there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from common.archive.inventory import PackageRecord
from common.errors import ClusterError
from importer.cluster.client import Body, ClusterClient
from importer.cluster.kinds import CATALOG_SOURCE, CLUSTER_CATALOG, MACHINE_CONFIG_POOL, PACKAGE_MANIFEST, POD

_SHOWN = 5
_LONGEST = 200


@dataclass(frozen=True, slots=True)
class ExpectedCatalog:
    """A catalog that shall be served: its CatalogSource, what OLM shall list from it, and the image, pinned, on the mirror."""

    name: str
    namespace: str
    packages: tuple[PackageRecord, ...]
    image: str


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen of one thing. `state` is for people, in a few words."""

    thing: str
    ok: bool
    state: str


def pools(client: ClusterClient) -> list[Look]:
    """Look at the rollout of every MachineConfigPool; none where the cluster has no such kind (facts: openshift §5.3).

    Raises ClusterError for a paused pool: it would never end.
    """
    return [_pool(each) for each in client.list(MACHINE_CONFIG_POOL) or []]


def catalog_source(client: ClusterClient, expected: ExpectedCatalog) -> Look:
    """Look at the connection that OLM has to the catalog's pod."""
    thing = f"CatalogSource {expected.name}"
    found = client.get(CATALOG_SOURCE, expected.name, expected.namespace)
    if found is None:
        return Look(thing, ok=False, state="does not exist")
    if (image := (found.get("spec") or {}).get("image")) != expected.image:
        return Look(thing, ok=False, state=f"serves another image: {image}")
    status = found.get("status") or {}
    state = (status.get("connectionState") or {}).get("lastObservedState") or "no connection yet"
    said = _short(status.get("message"))
    return Look(thing, ok=state == "READY", state=f"{state}: {said}" if said and state != "READY" else state)


def catalog_pod(client: ClusterClient, expected: ExpectedCatalog) -> Look:
    """Look for a ready pod that serves the catalog from the image pushed: READY alone may be the former pod's."""
    thing = f"pod of {expected.name}"
    found = client.list(POD, expected.namespace, {"olm.catalogSource": expected.name}) or []
    ours = [pod for pod in found if expected.image in _images(pod)]
    if not ours:
        return Look(thing, ok=False, state=f"none with the image {expected.image}" if found else "not created yet")
    if any(_condition(pod, "Ready").get("status") == "True" for pod in ours):
        return Look(thing, ok=True, state="ready")
    return Look(thing, ok=False, state=_trouble(ours[0]))


def packages(client: ClusterClient, expected: ExpectedCatalog) -> Look:
    """Compare what OLM lists from the catalog with what the archive carries: packages, default channels, channels, heads."""
    thing = f"packages of {expected.name}"
    listed = client.list(PACKAGE_MANIFEST, expected.namespace, {"catalog": expected.name})
    if listed is None:
        return Look(thing, ok=False, state="the cluster serves no PackageManifests")
    there = {str(_status(each).get("packageName") or each["metadata"]["name"]): _offered(each) for each in listed}
    wanted = {package.name: _wanted(package) for package in expected.packages}
    differences = [*_absent(wanted, there), *_surplus(wanted, there), *_different(wanted, there)]
    state = f"{len(wanted.keys() & there.keys())} of {len(wanted)} listed"
    return Look(thing, ok=not differences, state="; ".join([state, *differences]))


def cluster_catalogs(client: ClusterClient, expected: ExpectedCatalog) -> list[Look]:
    """Look at the ClusterCatalogs with the image: serving, and serving just that."""
    found = client.list(CLUSTER_CATALOG) or []
    return [_cluster_catalog(each, expected.image) for each in found if _source_image(each) == expected.image]


@dataclass(frozen=True, slots=True)
class _Offer:
    """What matters of a package: its default channel, and the head of each channel."""

    default_channel: str
    heads: Mapping[str, str]


def _wanted(package: PackageRecord) -> _Offer:
    return _Offer(package.default_channel, {channel.name: channel.head for channel in package.channels})


def _offered(package_manifest: Body) -> _Offer:
    status = _status(package_manifest)
    channels = status.get("channels") or []
    return _Offer(str(status.get("defaultChannel")), {str(each.get("name")): str(each.get("currentCSV")) for each in channels})


def _absent(wanted: Mapping[str, _Offer], there: Mapping[str, _Offer]) -> list[str]:
    names = sorted(wanted.keys() - there.keys())
    return [f"missing {_some(names)}"] if names else []


def _surplus(wanted: Mapping[str, _Offer], there: Mapping[str, _Offer]) -> list[str]:
    names = sorted(there.keys() - wanted.keys())
    return [f"not in the archive: {_some(names)}"] if names else []


def _different(wanted: Mapping[str, _Offer], there: Mapping[str, _Offer]) -> list[str]:
    names = sorted(name for name in wanted.keys() & there.keys() if wanted[name] != there[name])
    shown = [f"{name} has {_difference(wanted[name], there[name])}" for name in names[:_SHOWN]]
    return [*shown, f"{len(names) - _SHOWN} more differ"] if len(names) > _SHOWN else shown


def _difference(wanted: _Offer, there: _Offer) -> str:
    if wanted.default_channel != there.default_channel:
        return f"default channel {there.default_channel}, wanted {wanted.default_channel}"
    if wanted.heads.keys() != there.heads.keys():
        return f"channels {_some(sorted(there.heads))}, wanted {_some(sorted(wanted.heads))}"
    name = min(each for each in wanted.heads if wanted.heads[each] != there.heads[each])
    return f"{there.heads[name]} as head of {name}, wanted {wanted.heads[name]}"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _pool(pool: Body) -> Look:
    name = pool["metadata"]["name"]
    spec, status = pool.get("spec") or {}, _status(pool)
    updated, machines = status.get("updatedMachineCount", 0), status.get("machineCount", 0)
    degraded = _condition(pool, "Degraded")
    done = (
        _condition(pool, "Updated").get("status") == "True"
        and degraded.get("status") != "True"
        and status.get("observedGeneration") == pool["metadata"].get("generation")
        and (spec.get("configuration") or {}).get("name") == (status.get("configuration") or {}).get("name")
        and updated == machines
    )
    if not done and spec.get("paused"):
        raise ClusterError(
            f"MachineConfigPool {name} is paused, with {updated} of {machines} nodes up to date: its nodes get no mirror rules",
            hint=f'oc patch machineconfigpool {name} --type merge -p \'{{"spec":{{"paused":false}}}}\' and run this again.',
        )
    trouble = f", degraded: {_short(degraded.get('message'))}" if degraded.get("status") == "True" else ""
    return Look(f"MachineConfigPool {name}", ok=done, state=f"{updated} of {machines} nodes updated{trouble}")


def _images(pod: Body) -> set[str]:
    """Return the images of all containers; with extractContent the catalog is an init container's."""
    spec = pod.get("spec") or {}
    return {str(each.get("image")) for each in [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]}


def _trouble(pod: Body) -> str:
    """Say why a pod is not ready: the first container that waits or has ended, else the pod's phase."""
    status = _status(pod)
    for each in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        state = each.get("state") or {}
        cause = state.get("waiting") or (each.get("lastState") or {}).get("terminated")
        if cause and cause.get("reason") not in {None, "PodInitializing", "Completed"}:
            message = _short(cause.get("message"))
            return f"{cause['reason']}: {message}" if message else str(cause["reason"])
    return str(status.get("phase") or "unknown")


def _cluster_catalog(catalog: Body, image: str) -> Look:
    thing = f"ClusterCatalog {catalog['metadata']['name']}"
    resolved = str(((_status(catalog).get("resolvedSource") or {}).get("image") or {}).get("ref"))
    serving, progressing = _condition(catalog, "Serving"), _condition(catalog, "Progressing")
    if serving.get("status") == "True":
        same = resolved.partition("@")[2] == image.partition("@")[2]
        return Look(thing, ok=same, state="serving" if same else f"still serving {resolved}")
    said = _short(progressing.get("message") or serving.get("message"))
    return Look(thing, ok=False, state=f"{progressing.get('reason') or 'not serving yet'}{': ' + said if said else ''}")


def _source_image(catalog: Body) -> Any:
    return (((catalog.get("spec") or {}).get("source") or {}).get("image") or {}).get("ref")


def _condition(body: Body, kind: str) -> Mapping[str, Any]:
    conditions: Iterable[Mapping[str, Any]] = _status(body).get("conditions") or []
    return next((each for each in conditions if each.get("type") == kind), {})


def _status(body: Body) -> Mapping[str, Any]:
    return body.get("status") or {}


def _short(text: Any) -> str:
    """Return the first words of what the cluster says, on one line."""
    line = " ".join(str(text or "").split())
    return line if len(line) <= _LONGEST else line[:_LONGEST] + "…"
