"""The objects of OpenShift releases: signatures and the update service (docs/reference/openshift-releases.md). Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from common.archive.inventory import ImageKind, Inventory, Problem, ProblemCode, lacking_images
from common.mapping import PAYLOADS
from common.oci.image import Digest, hex_of
from importer.cluster.kinds import CONFIG_MAP, MANAGED_NAMESPACE, OWN_LABELS, UPDATE_SERVICE, Resource, has_own_label

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from importer.cluster.api.client import Body
    from importer.cluster.release import Release
    from importer.mapping import MappedImage, Mirror


RULES = "openshift-release"  # the object of mirror rules that no catalog owns
# openshift/library-go, pkg/verify/store/configmap: the label by which the cluster version operator finds signatures.
SIGNATURE_LABEL = "release.openshift.io/verification-signatures"
UPDATE_NAMESPACE = "openshift-update-service"
UPDATE_NAME = "hub"
GRAPH_PATH = "/api/upgrades_info/v1/graph"
# Characters of the signatures in a ConfigMap, in base64, with their keys; Kubernetes limits its data to 1 MiB. It has room for
# those of one release (`inventory.MAX_RELEASE_SIGNATURES`), and the cluster needs a single valid one.
MAX_SIGNATURES = 900_000
_DIGITS = 16  # of a digest, in the name of a ConfigMap
_LABEL = 63  # characters of a label of DNS
# openshift/cincinnati-operator, controllers/names.go: the route has the name of the UpdateService with this at its end, and the
# router joins it with the namespace by `-` to one label of the host.
_ROUTE = "-route-"


@dataclass(frozen=True, slots=True)
class UpdatePlace:
    """Where the UpdateService of an import is, or goes. `replicas` count for a new one.

    `releases`: the repository that it serves; empty for that of the archive.
    """

    namespace: str = UPDATE_NAMESPACE
    name: str = UPDATE_NAME
    replicas: int = 1
    releases: str = ""


def key_prefix(digest: Digest | str) -> str:
    """Return how the keys of a payload's signatures begin: `sha256-<hex>`."""
    return f"sha256-{hex_of(Digest(digest))}"


def signature_name(digest: Digest) -> str:
    """Return the name of the ConfigMap with the signatures of one payload."""
    # oc names its own by the whole digest, oc-mirror `mirrored-release-signatures` for all: neither can meet this name.
    return key_prefix(digest)[: len("sha256-") + _DIGITS]


def foreign_name(name: str) -> str:
    """Return the name of a ConfigMap of signatures where a foreign or a full one has the usual name."""
    return f"hub-{name}"


def signatures(inventory: Inventory) -> list[Resource]:
    """Return a ConfigMap for each complete payload that has signatures, as openshift/library-go reads them."""
    # An update service sees every payload on the mirror. Without a signature the cluster refuses it before anything changes;
    # with one, the update to a release that lacks an image stops half way.
    lacking = lacking_images(inventory)
    found: dict[Digest, dict[str, None]] = {}
    for release in inventory.carried_releases:
        if release.source in lacking:
            continue
        found.setdefault(release.digest, {}).update(dict.fromkeys(each.content for each in release.signatures))
    return [_config_map(digest, list(contents)) for digest, contents in found.items() if contents]


def _config_map(digest: Digest, contents: Sequence[str]) -> Resource:
    metadata = {
        "name": signature_name(digest),
        "namespace": MANAGED_NAMESPACE,
        "labels": {**OWN_LABELS, SIGNATURE_LABEL: ""},
    }
    # `binaryData`: the cluster version operator does not read `data`, and a signature is no text.
    data = {f"{key_prefix(digest)}-{number}": content for number, content in enumerate(contents, 1)}
    body = {"apiVersion": "v1", "kind": CONFIG_MAP.name, "metadata": metadata, "binaryData": fitting({}, data)}
    return Resource.of(body)


def fitting(present: Mapping[str, str], further: Mapping[str, str]) -> dict[str, str]:
    """Return the first ones of `further` signatures that a ConfigMap with those of `present` has room for."""
    found: dict[str, str] = {}
    size = sum(len(key) + len(content) for key, content in present.items())
    for key, content in further.items():
        size += len(key) + len(content)
        if size > MAX_SIGNATURES:
            break
        found[key] = content
    return found


def has_space(live: Body, resource: Resource) -> bool:
    """Return whether a ConfigMap of signatures has room for all that it lacks."""
    present = live.get("binaryData") or {}
    added = merged(present, resource.body["binaryData"])
    return fitting(present, added) == added


def lacks(live: Body, resource: Resource) -> list[str]:
    """Return the signatures of a ConfigMap that another one does not give to the cluster version operator."""
    labels = (live.get("metadata") or {}).get("labels") or {}
    present = set((live.get("binaryData") or {}).values()) if SIGNATURE_LABEL in labels else set()
    return [content for content in resource.body["binaryData"].values() if content not in present]


def with_signatures(resource: Resource) -> Callable[[Body | None], Mapping[str, Any]]:
    """Return the wish for a ConfigMap of signatures: those that it lacks, under free keys, after those that it has."""

    def wish(live: Body | None) -> Mapping[str, Any]:
        metadata = {"labels": resource.body["metadata"]["labels"]}
        if live is None:
            return {"metadata": metadata, "binaryData": resource.body["binaryData"]}
        return {"metadata": metadata, "binaryData": merged(live.get("binaryData") or {}, resource.body["binaryData"])}

    return wish


def merged(present: Mapping[str, str], wanted: Mapping[str, str]) -> dict[str, str]:
    """Return the signatures of `wanted` that `present` lacks, each under a key that is free there."""
    added: dict[str, str] = {}
    for key, content in wanted.items():
        if content in present.values():
            continue
        prefix, _, last = key.rpartition("-")
        numbers = (f"{prefix}-{number}" for number in range(int(last), len(present) + len(wanted) + int(last) + 1))
        added[next(each for each in numbers if each not in present and each not in added)] = content
    return added


def has_signature(config_maps: Iterable[Body], digest: Digest | str) -> bool:
    """Return whether one of the ConfigMaps has a signature of a payload, as the cluster version operator looks for it."""
    prefix = key_prefix(digest)
    return any(key.startswith(prefix) for body in config_maps for key in body.get("binaryData") or {})


def refused(inventory: Inventory) -> Iterator[Problem]:
    """Yield an error for each release that lacks images, and a warning for one without verified signatures.

    A disconnected cluster refuses to update to a release without a signature.
    """
    lacking = lacking_images(inventory)
    for release in inventory.carried_releases:
        subject = f"OpenShift {release.version} ({release.architecture})"
        if count := lacking.get(release.source):
            message = f"{count} of its images are not in the archive: it gets no signature, so that no cluster goes to it"
            yield Problem("error", ProblemCode.RELEASE_INCOMPLETE, subject, message)
        elif not release.signatures:
            why = "it was exported unverified" if release.unverified else "the archive has none"
            message = f"gets no signature ConfigMap, because {why}; a cluster refuses the update to it without a signature"
            yield Problem("warning", ProblemCode.SIGNATURE_MISSING, subject, message)
        elif release.unverified:
            # The cluster verifies them again, and may know their key (ADR 0068).
            message = "was exported unverified; whether the cluster accepts its signatures is decided there"
            yield Problem("warning", ProblemCode.SIGNATURE_MISSING, subject, message)


def payload_repository(images: Iterable[MappedImage], mirror: Mirror, services: Iterable[Body] = ()) -> str:
    """Return the repository of the payloads on the mirror, without a tag; empty where it is not known.

    `services`: the UpdateServices of the cluster. That of hub-import keeps its repository where the archive has no release.
    """
    if carried := next((each for each in images if each.record.kind is ImageKind.RELEASE), None):
        return str(carried.repository)
    if own := next((each for each in services if has_own_label(each)), None):
        return str((own.get("spec") or {}).get("releases") or "")
    # By source, only a payload says where payloads are.
    return "" if mirror.releases_by_source else str(mirror.at(PAYLOADS))


def is_signatures(resource: Resource) -> bool:
    """Return whether an object is a ConfigMap with signatures of a release."""
    return resource.namespace == MANAGED_NAMESPACE


def carries_updates(images: Iterable[MappedImage]) -> bool:
    """Return whether an archive carries releases or graph data."""
    return any(each.record.kind in (ImageKind.RELEASE, ImageKind.GRAPH_DATA) for each in images)


def has_graph(images: Iterable[MappedImage]) -> bool:
    """Return whether an archive carries graph data."""
    return any(each.record.kind is ImageKind.GRAPH_DATA for each in images)


def update_service(images: Sequence[MappedImage], mirror: Mirror, place: UpdatePlace | None) -> tuple[Resource, ...]:
    """Return the UpdateService for the graph data of an archive; none where it carries none, or without a place."""
    graph = next((each for each in images if each.record.kind is ImageKind.GRAPH_DATA), None)
    if graph is None or place is None:
        return ()
    releases = place.releases or payload_repository(images, mirror)
    if not releases:
        return ()
    spec = {
        "replicas": place.replicas,
        "releases": releases,
        # By digest: with a tag the operator runs a pod of its own to see whether it has moved
        # (openshift/cincinnati-operator, controllers/updateservice_controller.go).
        "graphDataImage": str(graph.pinned),
    }
    metadata = {"name": place.name, "namespace": place.namespace, "labels": OWN_LABELS}
    body = {"apiVersion": UPDATE_SERVICE.api_version, "kind": UPDATE_SERVICE.name, "metadata": metadata, "spec": spec}
    return (Resource.of(body, shared=True),)


def with_graph(resource: Resource) -> Callable[[Body | None], Mapping[str, Any]]:
    """Return the wish for an UpdateService: a new one whole; of one that exists, what it serves, and not how."""

    def wish(live: Body | None) -> Mapping[str, Any]:
        if live is None:
            return {"metadata": {"labels": OWN_LABELS}, "spec": resource.body["spec"]}
        # `replicas` is the administrator's from then on.
        return {"spec": {name: resource.body["spec"][name] for name in ("releases", "graphDataImage")}}

    return wish


def has_room(place: UpdatePlace) -> bool:
    """Return whether the host of the route of an UpdateService has a label that DNS allows."""
    # openshift-docs, updating-troubleshooting OSUS, `CreateRouteFailed`.
    return len(f"{place.name}{_ROUTE}{place.namespace}") <= _LABEL


_OWN_FIELD = "a hosted cluster is updated by spec.release of its HostedCluster, on the cluster that hosts it; set it to "


def notes(inventory: Inventory, images: Sequence[MappedImage], release: Release | None) -> tuple[str, ...]:
    """Return why nothing is written for the releases of an archive, on clusters without a ClusterVersion of their own."""
    if not carries_updates(images):
        return ()
    if release is None or release.microshift:
        what = "another Kubernetes" if release is None else "MicroShift"
        update = "is updated by its packages" if release is not None else "is updated by its own means"
        none = f"releases: {what} has no ClusterVersion and {update}: no signature, update service or upstream is written"
        return (f"{none}; the releases of the archive are on the mirror for other clusters",)
    if release.hosted:
        lacking = lacking_images(inventory)
        carried = (each for each in images if each.record.kind is ImageKind.RELEASE)
        pinned = {each.name: f"{each.name.partition('@')[0]}@{each.digest}" for each in carried}
        return tuple(
            f"release {each.version} ({each.architecture}): {_OWN_FIELD}{pinned[each.source]}"
            for each in inventory.carried_releases
            if each.source in pinned and each.source not in lacking
        )
    return ()
