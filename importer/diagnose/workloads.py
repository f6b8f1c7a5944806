"""Reads what the operators of a cluster run: the containers that wait for images, with the kubelet's words. Changes nothing.

A cluster has thousands of pods, so that they are read in pages, and only what waits is kept (docs/reference/limits.md).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from importer.cluster.api.client import Body, Query
from importer.cluster.kinds import EVENT, POD, short, status_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from importer.diagnose.reading import Reader

PODS = 5_000  # that run, and that do not run, each
WAITING = 1_000  # containers that are kept
_ASKED = 20  # images whose events are read, one request each
_EVENTS = 100  # of one pod
_LONGEST = 1_500  # an error of a pull lists every mirror that was tried
# kubernetes, pkg/kubelet/images/types.go, and k8s.io/cri-api, pkg/errors.
IMAGE_REASONS = frozenset(
    (
        "ErrImageNeverPull",
        "ErrImagePull",
        "ImageInspectError",
        "ImagePullBackOff",
        "InvalidImageName",
        "RegistryUnavailable",
        "SignatureValidationFailed",
    )
)
_BACK_OFF = re.compile(r'Back-off pulling image "[^"]*"')
_STATUSES = {
    "initContainerStatuses": "initContainers",
    "containerStatuses": "containers",
    "ephemeralContainerStatuses": "ephemeralContainers",
}
# Controllers of Kubernetes itself; any other owner is a custom resource, whose operator has made the pod.
_CORE_OWNERS = frozenset(
    ("CronJob", "DaemonSet", "Deployment", "Job", "Node", "Pod", "ReplicaSet", "ReplicationController", "StatefulSet")
)
_MANAGED_BY = "app.kubernetes.io/managed-by"


@dataclass(frozen=True, slots=True)
class WaitingImage:
    """A container that waits for its image. `message`: the kubelet's words, from its state or the newest event.

    `of_operator`: the pod's owner or labels say that an operator has made it. `catalog`: the CatalogSource that it serves.
    """

    namespace: str
    pod: str
    container: str
    image: str
    reason: str
    message: str
    node: str = ""
    of_operator: bool = False
    catalog: str = ""

    @property
    def where(self) -> str:
        """The container, its pod and its node."""
        node = f", node {self.node}" if self.node else ""
        return f"pod {self.namespace}/{self.pod} (container {self.container}{node}: {self.reason})"


def waiting_images(reader: Reader) -> tuple[WaitingImage, ...]:
    """Return the containers that wait for images, in all namespaces that may be read. Raises UnavailableError."""
    # A pod that has never run is Pending. One whose container was restarted, or that was given an ephemeral container, runs.
    found: list[WaitingImage] = []
    for query in (
        Query(PODS, unlike=(("status.phase", ("Running", "Succeeded")),)),
        Query(PODS, fields=(("status.phase", "Running"),)),
    ):
        for each in reader.everywhere(POD, _waiting, query):
            found += each
    if len(found) > WAITING:
        reader.note(f"only {WAITING} of {len(found)} containers that wait for images were diagnosed")
    return tuple(_with_events(reader, found[:WAITING]))


def _waiting(pod: Body) -> list[WaitingImage] | None:
    metadata, spec, status = pod["metadata"], pod.get("spec") or {}, status_of(pod)
    found: list[WaitingImage] = []
    if metadata.get("deletionTimestamp"):
        return None
    for statuses, containers in _STATUSES.items():
        for each in status.get(statuses) or []:
            waiting = (each.get("state") or {}).get("waiting") or {}
            if waiting.get("reason") not in IMAGE_REASONS:
                continue
            name = str(each.get("name") or "")
            found.append(
                WaitingImage(
                    str(metadata.get("namespace") or ""),
                    str(metadata["name"]),
                    name,
                    _image(spec.get(containers) or [], name) or str(each.get("image") or ""),
                    str(waiting["reason"]),
                    short(waiting.get("message"), _LONGEST),
                    str(spec.get("nodeName") or ""),
                    _is_of_operator(metadata),
                    str((metadata.get("labels") or {}).get("olm.catalogSource") or ""),
                )
            )
    return found or None


def _image(containers: Sequence[Mapping[str, str]], name: str) -> str:
    return next((str(each.get("image") or "") for each in containers if each.get("name") == name), "")


def _is_of_operator(metadata: Body) -> bool:
    labels = metadata.get("labels") or {}
    owners = {str(each.get("kind")) for each in metadata.get("ownerReferences") or []}
    named = "operator" in labels.get(_MANAGED_BY, "") or any(
        name.startswith(("olm.", "operators.coreos.com/")) for name in labels
    )
    return named or bool(owners - _CORE_OWNERS)


def _with_events(reader: Reader, found: Sequence[WaitingImage]) -> Iterator[WaitingImage]:
    """Add the newest event about the pull, where the state has only that the kubelet waits for the next try."""
    # ImagePullBackOff has the error itself since Kubernetes 1.31; before, it is in events, which are kept for some hours.
    said: dict[str, str] = {each.image: each.message for each in found if gives_reason(each.message)}
    asked = 0
    for each in found:
        if each.image not in said and asked < _ASKED:
            asked += 1
            query = Query(_EVENTS, each.namespace, (("involvedObject.name", each.pod),))
            events = [event for event in reader.some(EVENT, _failure, query) if each.image in event[1]]
            said[each.image] = max(events)[1] if events else ""
        yield each if gives_reason(each.message) else replace(each, message=said.get(each.image) or each.message)


def _failure(event: Body) -> tuple[str, str] | None:
    """Return the time and the text of a warning about an image; None for any other event."""
    text = short(event.get("message"), _LONGEST)
    if event.get("type") == "Normal" or not gives_reason(text):
        return None
    return str(event.get("lastTimestamp") or event.get("eventTime") or ""), text


def gives_reason(message: str) -> bool:
    """Return whether the kubelet gives a reason, and not only that it waits for the next try."""
    return bool(message) and _BACK_OFF.fullmatch(message) is None
