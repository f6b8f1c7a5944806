"""Readiness checks: what a cluster is expected to serve, and whether it does. Reads only.

Each check reads the state of one thing, a CatalogSource, its pod, its packages, a ClusterCatalog, or a pool of nodes. `wait.py`
repeats them until all are ready; `status` and `doctor` report them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from common.errors import ClusterError
from common.text import enumeration
from importer.cluster.kinds import (
    CATALOG_SOURCE,
    CLUSTER_CATALOG,
    DEPLOYMENT,
    MACHINE_CONFIG,
    MACHINE_CONFIG_POOL,
    OLM_LABEL,
    PACKAGE_MANIFEST,
    POD,
    condition,
    short,
    source_image,
    status_of,
)
from importer.cluster.resources.catalog_source import service_name, serving_labels
from importer.cluster.resources.mirror_rules import Pair
from importer.cluster.resources.node_configuration import mirrors_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from common.archive.inventory import PackageRecord
    from importer.cluster.api.client import Body, ClusterClient


_SHOWN = 5


class Offer(msgspec.Struct, frozen=True, rename="camel"):
    """A package as OLM offers it: its default channel, and the head of each channel."""

    default_channel: str
    heads: dict[str, str]


class ExpectedCatalog(msgspec.Struct, frozen=True, rename="camel"):
    """A catalog that the cluster has to serve: its CatalogSource, the image on the mirror by digest, and the packages.

    `rules`: the mirror rules that nodes need for its operators. `mirror`: `HOST[/PREFIX]`; `catalog`: its repository and tag,
    by which the next import finds its name (ADR 0051). Both are empty in older records.
    """

    name: str
    namespace: str
    image: str
    packages: dict[str, Offer]
    rules: tuple[Pair, ...] = ()
    mirror: str = ""
    catalog: str = ""


def offers(packages: Iterable[PackageRecord]) -> dict[str, Offer]:
    """Return the packages of an inventory as OLM has to list them."""
    return {one.name: Offer(one.default_channel, {channel.name: channel.head for channel in one.channels}) for one in packages}


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one readiness check.

    `state` is a few words for people; `evidence` quotes the cluster, `next_step` describes what happens without action.
    """

    subject: str
    ok: bool
    state: str
    evidence: str = ""
    next_step: str = ""

    @property
    def text(self) -> str:
        """State and evidence on one line."""
        return f"{self.state}: {self.evidence}" if self.evidence else self.state


def catalog(client: ClusterClient, expected: ExpectedCatalog) -> list[Check]:
    """Check OLM's connection to the catalog, and that a ready pod serves it from the expected image."""
    found = client.get(CATALOG_SOURCE, expected.name, expected.namespace)
    if found is None:
        return [Check(f"CatalogSource {expected.name}", ok=False, state="does not exist")]
    # The connection alone does not do: READY is event-driven, and may still be that of the former pod.
    pods = client.list(POD, expected.namespace, pod_labels(found)) or []
    if not pods and (refused := _refused(client, found, expected)):
        return [_connection(found, expected), refused]
    return [_connection(found, expected), _pod(pods, expected)]


READY = "READY"


def connection_state(source: Body) -> str:
    """Return the last observed state of OLM's connection to a CatalogSource."""
    return str((status_of(source).get("connectionState") or {}).get("lastObservedState") or "no connection yet")


def _connection(found: Body, expected: ExpectedCatalog) -> Check:
    subject, spec = f"CatalogSource {expected.name}", found.get("spec") or {}
    # A CatalogSource with an address names no image; its pod is checked instead.
    if spec.get("image") != expected.image and not spec.get("address"):
        return Check(subject, ok=False, state=f"serves another image: {spec.get('image')}")
    status, state = found.get("status") or {}, connection_state(found)
    if state == READY:
        return Check(subject, ok=True, state=state)
    return Check(subject, ok=False, state=state, evidence=short(status.get("message")), next_step="OLM tries again on its own")


def _refused(client: ClusterClient, source: Body, expected: ExpectedCatalog) -> Check | None:
    """Return the error that keeps a catalog's own Deployment from creating pods; None without one, or for OLM's pods."""
    # OLM reports such errors in the status of the CatalogSource itself.
    if not (source.get("spec") or {}).get("address"):
        return None
    deployment = client.get(DEPLOYMENT, service_name(expected.name), expected.namespace) or {}
    failure = condition(deployment, "ReplicaFailure")
    if failure.get("status") != "True":
        return None
    state, message = f"not created: {failure.get('reason')}", short(failure.get("message"))
    return Check(
        f"pod of {expected.name}", ok=False, state=state, evidence=message, next_step="its ReplicaSet tries again on its own"
    )


def _pod(found: Sequence[Body], expected: ExpectedCatalog) -> Check:
    subject = f"pod of {expected.name}"
    # During an update OLM runs the former pod until the new one is ready.
    candidates = [pod for pod in found if expected.image in images_of(pod)]
    if not candidates:
        state = f"none with the image {expected.image}" if found else "not created yet"
        return Check(subject, ok=False, state=state, next_step="OLM creates it")
    ready = [pod for pod in candidates if condition(pod, "Ready").get("status") == "True"]
    if not ready:
        state, evidence = _failure(candidates[0])
        next_step = "the node keeps trying to pull and start it; it need not be deleted"
        return Check(subject, ok=False, state=state, evidence=evidence, next_step=next_step)
    # spec.image is the requested reference; status.imageID is the digest that runs.
    if not any(runs(pod, expected.image) for pod in ready):
        return Check(subject, ok=False, state="ready, with another image than the one pushed", next_step="OLM replaces the pod")
    return Check(subject, ok=True, state="ready")


def pod_labels(source: Body) -> dict[str, str]:
    """Return the labels of the pods that serve a CatalogSource: OLM's, or those of its own Deployment."""
    name, spec = str(source["metadata"]["name"]), source.get("spec") or {}
    return serving_labels(name) if spec.get("address") and not spec.get("image") else {OLM_LABEL: name}


def packages(client: ClusterClient, expected: ExpectedCatalog) -> list[Check]:
    """Check that OLM lists exactly the expected packages, default channels, channels and heads."""
    listed = listed_packages(client, expected.name, expected.namespace)
    if listed is None:
        return [Check(f"packages of {expected.name}", ok=False, state="the cluster serves no PackageManifests")]
    return [compared(expected, listed)]


def listed_packages(client: ClusterClient, name: str, namespace: str) -> dict[str, Offer] | None:
    """Return the packages that OLM lists from a CatalogSource; None without PackageManifests. Raises ClusterError."""
    listed = package_manifests(client, name, namespace)
    return None if listed is None else offered(listed)


class Manifest(NamedTuple):
    """The fields of a PackageManifest that are read; the descriptions of its heads are left out.

    `entries`: the names of all versions by channel; empty where package-server lists heads alone.
    """

    package: str
    offer: Offer
    entries: dict[str, tuple[str, ...]]


def package_manifests(client: ClusterClient, name: str, namespace: str) -> list[Manifest] | None:
    """Return the PackageManifests of a CatalogSource; None where the cluster has no such kind. Raises ClusterError."""
    # By label: two catalogs with one package give two PackageManifests of one name.
    return client.reduce(PACKAGE_MANIFEST, _manifest, namespace, {"catalog": name})


def _manifest(body: Body) -> Manifest:
    status = status_of(body)
    channels = status.get("channels") or []
    # Older releases of OLM do not have `entries` in a channel.
    entries = {
        str(each.get("name")): tuple(str(entry.get("name")) for entry in each["entries"])
        for each in channels
        if each.get("entries")
    }
    heads = {str(each.get("name")): str(each.get("currentCSV")) for each in channels}
    package = str(status.get("packageName") or body["metadata"]["name"])
    return Manifest(package, Offer(str(status.get("defaultChannel")), heads), entries)


def offered(listed: Iterable[Manifest]) -> dict[str, Offer]:
    """Return the packages that PackageManifests list."""
    return {each.package: each.offer for each in listed}


def entries(listed: Iterable[Manifest]) -> dict[tuple[str, str], tuple[str, ...]]:
    """Return the names of all versions by package and channel; empty where package-server lists heads alone."""
    return {(each.package, channel): names for each in listed for channel, names in each.entries.items()}


def compared(expected: ExpectedCatalog, listed: Mapping[str, Offer]) -> Check:
    """Return the check of listed packages against the expected ones."""
    subject, wanted = f"packages of {expected.name}", expected.packages
    # Surplus packages count too: they are those of the former image while package-server has not read the new one.
    differences = [*_absent(wanted, listed), *_surplus(wanted, listed), *_different(wanted, listed)]
    state = f"{len(wanted.keys() & listed.keys())} of {len(wanted)} listed"
    next_step = "packageserver lists them once the catalog answers" if differences else ""
    return Check(subject, ok=not differences, state="; ".join([state, *differences]), next_step=next_step)


def cluster_catalogs(client: ClusterClient, expected: ExpectedCatalog) -> list[Check]:
    """Check that the ClusterCatalogs with the image serve it, by digest."""
    return in_olm_v1(client.list(CLUSTER_CATALOG) or [], expected)


def in_olm_v1(bodies: Iterable[Body], expected: ExpectedCatalog) -> list[Check]:
    """Return the checks of the ClusterCatalogs with the image of a catalog; none where there are none."""
    return [_cluster_catalog(each, expected.image) for each in bodies if source_image(each) == expected.image]


def by_olm_v1_alone(client: ClusterClient, expected: ExpectedCatalog) -> list[Check]:
    """Check the ClusterCatalog of a cluster that has no OLM (Classic): it has to be there."""
    absent = Check(f"ClusterCatalog {expected.name}", ok=False, state="does not exist")
    return cluster_catalogs(client, expected) or [absent]


def _absent(wanted: Mapping[str, Offer], listed: Mapping[str, Offer]) -> list[str]:
    names = sorted(wanted.keys() - listed.keys())
    return [f"missing {enumeration(names, _SHOWN)}"] if names else []


def _surplus(wanted: Mapping[str, Offer], listed: Mapping[str, Offer]) -> list[str]:
    names = sorted(listed.keys() - wanted.keys())
    return [f"not in the archive: {enumeration(names, _SHOWN)}"] if names else []


def _different(wanted: Mapping[str, Offer], listed: Mapping[str, Offer]) -> list[str]:
    names = sorted(name for name in wanted.keys() & listed.keys() if wanted[name] != listed[name])
    shown = [f"{name} has {_difference(wanted[name], listed[name])}" for name in names[:_SHOWN]]
    return [*shown, f"{len(names) - _SHOWN} more differ"] if len(names) > _SHOWN else shown


def _difference(wanted: Offer, listed: Offer) -> str:
    if wanted.default_channel != listed.default_channel:
        return f"default channel {listed.default_channel}, wanted {wanted.default_channel}"
    if wanted.heads.keys() != listed.heads.keys():
        return f"channels {enumeration(sorted(listed.heads), _SHOWN)}, wanted {enumeration(sorted(wanted.heads), _SHOWN)}"
    name = min(each for each in wanted.heads if wanted.heads[each] != listed.heads[each])
    return f"{listed.heads[name]} as head of {name}, wanted {wanted.heads[name]}"


def images_of(pod: Body) -> set[str]:
    """Return the images of all containers; with extractContent the catalog is that of an init container."""
    spec = pod.get("spec") or {}
    return {str(each.get("image")) for each in [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]}


def runs(pod: Body, image: str) -> bool:
    """Return whether a pod's containers run the image; True for runtimes that report no digest."""
    digest, status = image.partition("@")[2], status_of(pod)
    each = [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
    # With extractContent the containers have different images, and the catalog is that of one of them.
    named = {str(one.get("imageID", "")).partition("@")[2] for one in each} - {""}
    return not named or digest in named


def _failure(pod: Body) -> tuple[str, str]:
    """Return the reason and message of the first container that waits or has ended, else those of the pod."""
    status = status_of(pod)
    for each in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        state = each.get("state") or {}
        cause = state.get("waiting") or (each.get("lastState") or {}).get("terminated")
        # Main containers wait with PodInitializing while an init container, which has the cause, fails.
        if cause and cause.get("reason") not in {None, "PodInitializing", "Completed"}:
            return str(cause["reason"]), short(cause.get("message"))
    return str(status.get("phase") or "unknown"), short(condition(pod, "PodScheduled").get("message"))


def _cluster_catalog(catalog: Body, image: str) -> Check:
    subject = f"ClusterCatalog {catalog['metadata']['name']}"
    resolved = str(((status_of(catalog).get("resolvedSource") or {}).get("image") or {}).get("ref"))
    serving, progressing = condition(catalog, "Serving"), condition(catalog, "Progressing")
    if serving.get("status") == "True":
        # During an update catalogd serves the former content with Serving=True.
        same = resolved.partition("@")[2] == image.partition("@")[2]
        return Check(subject, ok=same, state="serving" if same else f"still serving {resolved}")
    message = short(progressing.get("message") or serving.get("message"))
    state = str(progressing.get("reason") or "not serving yet")
    return Check(subject, ok=False, state=state, evidence=message, next_step="catalogd tries again on its own")


# Pools of nodes: whether each has the mirror rules, in its configuration and on its machines.

# A release update changes dozens of files.
_POOLS_SHOWN = 3
_SETTINGS = {
    "kernelArguments": "other kernel arguments",
    "kernelType": "another kernel type",
    "extensions": "other extensions",
    "fips": "another FIPS mode",
}


Configurations = dict[str, frozenset[Pair] | None]  # the rules of MachineConfigs, by name; None: they cannot be parsed


def pools(client: ClusterClient, rules: Collection[Pair] = (), known: Configurations | None = None) -> list[Check]:
    """Check the rollout of every MachineConfigPool; hosted clusters (HyperShift) have none.

    A pool is ready when the configuration of its nodes has all `rules`; a paused one too. `known`: as for `rules_lacking`.
    Raises ClusterError for a paused pool whose nodes lack rules: its rollout would never end.
    """
    return [_pool(client, each, rules, known) for each in client.list(MACHINE_CONFIG_POOL) or []]


def rules_lacking(
    client: ClusterClient, pool: Body, rules: Collection[Pair], known: Configurations | None = None
) -> list[Pair]:
    """Return the rules that the target configuration of a pool lacks; of a paused pool, those that its current one lacks too.

    A configuration that cannot be parsed counts as complete. `known` gets those that were read: the name of a rendered one has
    the digest of its content (machine-config-operator, pkg/controller/render/hash.go).
    """
    # The nodes of a paused pool stay on the current configuration, so that one has to have the rules too.
    names = {_wanted(pool), *([_current(pool)] if is_paused(pool) else [])} - {""}
    known = {} if known is None else known
    for name in sorted(names - known.keys()) if rules else ():
        if (found := client.get(MACHINE_CONFIG, name)) is not None:
            known[name] = mirrors_of(found)
    each = [mirrors for name in names if (mirrors := known.get(name)) is not None] if rules else []
    return sorted({rule for mirrors in each for rule in set(rules) - mirrors})


def is_paused(pool: Body) -> bool:
    """Return whether the nodes of a pool keep their present configuration."""
    return bool((pool.get("spec") or {}).get("paused"))


def held_back(client: ClusterClient, pool: Body) -> str:
    """Describe what unpausing a pool would roll out to its nodes. Raises ClusterError."""
    current, wanted = _current(pool), _wanted(pool)
    # Nothing is pending yet, but rules that are written now would be held back.
    if current == wanted and is_rolled_out(pool):
        return "nothing that is pending, and the mirror rules that are written later"
    before, after = (client.get(MACHINE_CONFIG, name) if name else None for name in (current, wanted))
    what = ", ".join(_config_changes(before, after)) if before and after else "what differs cannot be read"
    return f"{current or 'an unknown configuration'} → {wanted or 'an unknown one'}: {what}"


def _wanted(pool: Body) -> str:
    return str(((pool.get("spec") or {}).get("configuration") or {}).get("name") or "")


def _current(pool: Body) -> str:
    return str((status_of(pool).get("configuration") or {}).get("name") or "")


def _config_changes(before: Body, after: Body) -> list[str]:
    """Describe the differences of two MachineConfigs, the operating system first: it makes nodes reboot."""
    old, new = before.get("spec") or {}, after.get("spec") or {}
    found = ["another operating system image (its nodes reboot)"] if old.get("osImageURL") != new.get("osImageURL") else []
    found += [text for name, text in _SETTINGS.items() if (old.get(name) or None) != (new.get(name) or None)]
    files = sorted(path for path, _ in _files(old) ^ _files(new))
    names = list(dict.fromkeys(files))
    found += [f"files {enumeration(names, _POOLS_SHOWN)}"] if names else []
    return found or ["the same content under another name"]


def _files(spec: Body) -> set[tuple[str, str]]:
    listed = (((spec.get("config") or {}).get("storage") or {}).get("files")) or []
    return {(str(each.get("path")), str(each.get("contents"))) for each in listed}


def is_rolled_out(pool: Body) -> bool:
    """Return whether all machines of a pool have its target configuration."""
    spec, status = pool.get("spec") or {}, status_of(pool)
    # Updated alone is stale until the operator has observed the new generation and rendered its configuration.
    return (
        condition(pool, "Updated").get("status") == "True"
        and condition(pool, "Degraded").get("status") != "True"
        and status.get("observedGeneration") == pool["metadata"].get("generation")
        and (spec.get("configuration") or {}).get("name") == (status.get("configuration") or {}).get("name")
        and status.get("updatedMachineCount", 0) == status.get("machineCount", 0)
    )


def how_far(pool: Body) -> str:
    """Describe the progress of a pool."""
    status = status_of(pool)
    return f"{status.get('updatedMachineCount', 0)} of {status.get('machineCount', 0)} nodes updated"


def complaint(pool: Body) -> str:
    """Return the message of a degraded pool; empty for any other."""
    if condition(pool, "Degraded").get("status") != "True":
        return ""
    # The message of Degraded is often empty; those of its two causes are not.
    found = (condition(pool, kind).get("message") for kind in ("Degraded", "RenderDegraded", "NodeDegraded"))
    return short(next(filter(None, found), "without a message"))


def unpause(name: str, what: str) -> str:
    """Return the command that unpauses a pool, after a description of what that does to its nodes."""
    command = f'oc patch machineconfigpool {name} --type merge -p \'{{"spec":{{"paused":false}}}}\''
    return f"Unpausing it rolls out {what}. If that is wanted now: {command}"


def _pool(client: ClusterClient, pool: Body, rules: Collection[Pair], known: Configurations | None) -> Check:
    name, done, lacking = pool["metadata"]["name"], is_rolled_out(pool), rules_lacking(client, pool, rules, known)
    # Without known rules (a record of an older version), an unfinished paused pool may lack some.
    if is_paused(pool) and (lacking or not (done or rules)):
        what = f"lack {len(lacking)} of the mirror rules" if lacking else "may lack mirror rules: which they need is not known"
        raise ClusterError(
            f"MachineConfigPool {name} is paused, with {how_far(pool)}: its nodes {what}",
            hint=f"{unpause(name, held_back(client, pool))}; then run this again.",
        )
    subject = f"MachineConfigPool {name}"
    if message := complaint(pool):
        return Check(
            subject, ok=False, state=f"{how_far(pool)}, degraded", evidence=message, next_step="nothing, until that is fixed"
        )
    if is_paused(pool):
        return Check(subject, ok=True, state=f"{how_far(pool)}, paused; no mirror rule is missing")
    if done and lacking:  # Updated, since the rollout of rules that were just written has not started
        state = f"{how_far(pool)}, without {len(lacking)} of the mirror rules"
        return Check(subject, ok=False, state=state, next_step="the machine config operator takes a minute or two to start")
    return Check(subject, ok=done, state=how_far(pool), next_step="" if done else "its nodes follow one after another")
