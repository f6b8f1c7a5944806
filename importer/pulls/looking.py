"""What the kubelet says about the pod of a pull test, by its status and events. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from importer.cluster.kinds import condition, short, status_of
from importer.diagnose.workloads import IMAGE_REASONS, gives_reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from importer.cluster.api.client import Body

_LONGEST = 1_500
# kubernetes, pkg/kubelet/kuberuntime/kuberuntime_container.go, startContainer: the image is pulled first, and these come after.
_AFTER_PULL = frozenset(
    (
        "CrashLoopBackOff",
        "CreateContainerConfigError",
        "CreateContainerError",
        "PostStartHookError",
        "PreCreateHookError",
        "PreStartHookError",
        "RunContainerError",
    )
)
# pkg/kubelet/images/image_manager.go: `in 1.2s` since 1.19, then `(1.3s including waiting)`, and the size since 1.30.
_PULLED_IN = re.compile(r"Successfully pulled image .* in (\S+)")
_PRESENT = re.compile(r"already present on machine")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


class State(StrEnum):
    """How far a pod is."""

    PULLED = "pulled"
    FAILING = "failing"  # the kubelet tries again
    UNSCHEDULED = "unscheduled"
    ENDED = "ended"  # without a pull: evicted, or refused by the kubelet
    UNREADY = "unready"  # its node has stopped: the kubelet says nothing more
    PENDING = "pending"


@dataclass(frozen=True, slots=True)
class Look:
    """A pod at one moment. `message`: the words of the kubelet or the scheduler; `seconds`: how long the pull took.

    `pulling`: the kubelet has begun to pull; `asked`: the node asked a registry.
    """

    state: State
    node: str = ""
    message: str = ""
    reason: str = ""
    seconds: float | None = None
    pulling: bool = False
    asked: bool = True
    image: str = ""


def look(pod: Body) -> Look:
    """Return what the status of a pod says."""
    spec, status = pod.get("spec") or {}, status_of(pod)
    containers: Sequence[Mapping[str, Any]] = status.get("containerStatuses") or [{}]
    waiting = (containers[0].get("state") or {}).get("waiting") or {}
    reason = str(waiting.get("reason") or "")
    found = Look(
        State.PENDING,
        str(spec.get("nodeName") or ""),
        short(waiting.get("message"), _LONGEST),
        reason,
        image=str((spec.get("containers") or [{}])[0].get("image") or ""),
    )
    # The kubelet sets imageID when the runtime has the container; before, the order of its steps says that the pull is done.
    if containers[0].get("imageID") or reason in _AFTER_PULL:
        return replace(found, state=State.PULLED)
    if reason in IMAGE_REASONS:
        return replace(found, state=State.FAILING)
    if status.get("phase") == "Failed":
        text = ": ".join(filter(None, (str(status.get("reason") or ""), str(status.get("message") or ""))))
        return replace(
            found, state=State.ENDED, message=short(text, _LONGEST) or "the pod failed, and its status says no reason"
        )
    scheduled = condition(pod, "PodScheduled")
    if scheduled.get("status") == "False":
        return replace(found, state=State.UNSCHEDULED, message=short(scheduled.get("message"), _LONGEST))
    return found


def with_events(found: Look, events: Iterable[Body]) -> Look:
    """Return it with what the events of the pod say beyond its status."""
    ordered = sorted(events, key=_time)
    pulled = [text for text in map(_text, ordered) if _PULLED_IN.search(text)]
    present = any(_PRESENT.search(_text(each)) for each in ordered)
    pulling = any(each.get("reason") == "Pulling" for each in ordered)
    message = found.message
    # ImagePullBackOff has the error itself since Kubernetes 1.32; before, it is in the event alone.
    if found.state is State.FAILING and not gives_reason(message):
        said = [_text(each) for each in ordered if each.get("type") != "Normal" and "ull" in _text(each)]
        message = next((each for each in reversed(said) if gives_reason(each) and not each.startswith("Error: ")), message)
    if found.state is State.PENDING:
        warned = [_text(each) for each in ordered if each.get("type") == "Warning"]
        message = warned[-1] if warned else message
    asked = bool(pulled) or not present or found.state is not State.PULLED
    return replace(found, message=message, seconds=_seconds(pulled, ordered), pulling=pulling, asked=asked)


def _seconds(pulled: Sequence[str], events: Sequence[Body]) -> float | None:
    found = _PULLED_IN.search(pulled[-1]) if pulled else None
    if found and (parts := _DURATION.findall(found[1])):
        return sum(float(number) * _UNITS[unit] for number, unit in parts)
    # Before 1.19 the event says no duration; the times of events have whole seconds.
    times = {str(each.get("reason")): _time(each) for each in events}
    try:
        began, ended = datetime.fromisoformat(times["Pulling"]), datetime.fromisoformat(times["Pulled"])
    except (KeyError, ValueError):
        return None
    return max((ended - began).total_seconds(), 0.0)


def _time(event: Body) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or "")


def _text(event: Body) -> str:
    return short(event.get("message"), _LONGEST)
