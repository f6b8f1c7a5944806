"""The objects of the pull test: its namespace, and the pod of a group. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from importer.cluster.kinds import NAMESPACE, OWN_LABELS, POD
from importer.cluster.resources.permissions import PULL_NAMESPACE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from importer.pulls.groups import Group

NAME = PULL_NAMESPACE
RUN_LABEL = "hub-airgap/pull-test"  # on pods: the run that they belong to
TEMPORARY_LABEL = "hub-airgap/temporary"  # on a namespace that a run created, and the last one deletes
_OWNER, _PROCESS, _UNTIL = "hub-airgap/host", "hub-airgap.io/process", "hub-airgap.io/until"
_SECURITY = "pod-security.kubernetes.io/"
_CONTAINER = "pull"
_DEADLINE_S = 900  # a pod whose run was killed does not outlive it for long
# No file of an image has this name. The verdict is about the pull, and nothing of the image is to run.
_COMMAND = "/hub-import-pull-test"


@dataclass(frozen=True, slots=True)
class Owner:
    """The process that runs a test. `is_alive` says whether a process of the same host runs."""

    run: str
    host: str
    process: int
    now: Callable[[], datetime]
    is_alive: Callable[[int], bool]


def namespace(*, temporary: bool = True) -> dict[str, Any]:
    """Return the namespace, which admits restricted pods alone. `temporary`: the last test deletes it."""
    levels = {f"{_SECURITY}{mode}": "restricted" for mode in ("enforce", "audit", "warn")}
    return {
        "apiVersion": NAMESPACE.api_version,
        "kind": NAMESPACE.name,
        # Without the first label, OpenShift sets the levels of a namespace by what its accounts may do.
        "metadata": {
            "name": NAME,
            "labels": {
                **OWN_LABELS,
                **({TEMPORARY_LABEL: "true"} if temporary else {}),
                "security.openshift.io/scc.podSecurityLabelSync": "false",
                **levels,
            },
        },
    }


def pod_name(group: Group, owner: Owner) -> str:
    """Return the name of the pod of a group."""
    return f"pull-{owner.run}-{re.sub('[^a-z0-9-]', '-', group.name.lower())[:40].strip('-')}"


def pod(group: Group, image: str, owner: Owner) -> dict[str, Any]:
    """Return the pod of a group: it runs on one of its nodes, and pulls the image by its name."""
    until = owner.now().astimezone(UTC) + timedelta(seconds=_DEADLINE_S)
    notes = {_OWNER: owner.host, _PROCESS: str(owner.process), _UNTIL: until.strftime("%Y-%m-%dT%H:%M:%SZ")}
    return {
        "apiVersion": POD.api_version,
        "kind": POD.name,
        "metadata": {
            "name": pod_name(group, owner),
            "namespace": NAME,
            "labels": {**OWN_LABELS, RUN_LABEL: owner.run},
            "annotations": notes,
        },
        "spec": {
            "activeDeadlineSeconds": _DEADLINE_S,
            "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": _on(group)}},
            "automountServiceAccountToken": False,
            "containers": [_container(image)],
            "enableServiceLinks": False,
            "restartPolicy": "Never",
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "terminationGracePeriodSeconds": 1,
            "tolerations": [_toleration(*each) for each in group.taints],
        },
    }


def _container(image: str) -> dict[str, Any]:
    amounts = {"cpu": "10m", "memory": "16Mi"}
    return {
        "name": _CONTAINER,
        "image": image,
        "imagePullPolicy": "Always",  # a node that has the image asks the registry all the same
        "command": [_COMMAND],
        # Limits too: a ResourceQuota on them refuses pods without.
        "resources": {"requests": amounts, "limits": amounts},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
    }


def _on(group: Group) -> dict[str, Any]:
    # A field of a node, because its labels may be edited; one name for each term, which is all that a field may have
    # (kubernetes, pkg/apis/core/validation, ValidateNodeFieldSelectorRequirement).
    terms = [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [each]}]} for each in group.ready]
    return {"nodeSelectorTerms": terms}


def _toleration(key: str, value: str, effect: str) -> dict[str, str]:
    found = {"key": key, "operator": "Equal" if value else "Exists", "value": value, "effect": effect}
    return {name: each for name, each in found.items() if each}


def is_left_over(body: Mapping[str, Any], owner: Owner) -> bool:
    """Return whether a pod is one of a run that has ended without deleting it."""
    metadata = body["metadata"]
    if not (OWN_LABELS.items() <= (metadata.get("labels") or {}).items()) or RUN_LABEL not in metadata["labels"]:
        return False
    notes = metadata.get("annotations") or {}
    # A process of this host can be asked for; one of another host has ended by the time that the pod states.
    if notes.get(_OWNER) == owner.host:
        process = str(notes.get(_PROCESS) or "")
        return metadata["labels"][RUN_LABEL] != owner.run and not (process.isdecimal() and owner.is_alive(int(process)))
    try:
        return datetime.fromisoformat(str(notes.get(_UNTIL))) < owner.now()
    except (ValueError, TypeError):  # edited: nobody can tell when it ends
        return True
