"""The shape of answers of an API server: every field that is read has the type that its API documents.

An API server checks what clients write, but a proxy in front of one, or a server that only resembles one, may answer anything.
Checked once where answers arrive; code behind it reads fields without asking for their type. Unknown fields are not looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

# A type; a dict of fields; a list with the shape of its items; a tuple of alternatives. None, and a missing field, fit each:
# clients in Go write `null` for an empty list or map.
Shape = Any


class Each:
    """A map of any keys, whose values have a shape."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape


class Tree:
    """Maps inside of maps, to any depth that a parser reads: FieldsV1 of meta/v1."""


_ANY = object
_NAMED = {"name": str}
_IMAGE = {"image": {"ref": str}}
_EXTENSION = {"packageName": str, "version": str, "channels": [str], "selector": {"matchLabels": Each(str)}}
_SOURCE = {**_IMAGE, "catalog": _EXTENSION}
_CAUSE = {"reason": str, "message": str, "exitCode": int}
_STATE = {"waiting": _CAUSE, "terminated": _CAUSE}
_CONTAINER_STATUS = [{"name": str, "image": str, "imageID": str, "state": _STATE, "lastState": _STATE}]
_CONTAINERS = [{"name": str, "image": str, "resources": {"limits": Each(_ANY)}}]
_RULES = [{"source": str, "mirrors": [str], "mirrorSourcePolicy": str}]
_CONDITION = {"type": str, "status": str, "reason": str, "message": str, "lastTransitionTime": str}

_METADATA = {
    "name": str,
    "namespace": str,
    "uid": str,
    "resourceVersion": str,
    "generation": int,
    "creationTimestamp": str,
    "deletionTimestamp": str,
    "labels": Each(str),
    "annotations": Each(str),
    "managedFields": [{"manager": str, "subresource": str, "fieldsV1": Tree()}],
    "ownerReferences": [{"kind": str, "name": str, "uid": str}],
}
_SPEC = {
    **dict.fromkeys(("image", "address", "displayName", "sourceNamespace", "name", "managementState", "osImageURL"), str),
    **dict.fromkeys(("noProxy", "httpsProxy", "httpProxy", "kernelType", "channel", "startingCSV", "nodeName"), str),
    **dict.fromkeys(("installPlanApproval", "version", "namespace", "availabilityMode", "approval"), str),
    "clusterServiceVersionNames": [str],
    "targetNamespaces": [str],
    "selector": {"matchLabels": Each(str), "matchExpressions": [Each(_ANY)]},
    "staticProvidedAPIs": bool,
    "serviceAccountName": str,
    "serviceAccount": (str, _NAMED),  # of a pod, in old clients; of a ClusterExtension
    "versions": [{"name": str, "schema": {"openAPIV3Schema": {"properties": {"spec": {"required": [str]}}}}}],
    "install": {"spec": {"deployments": [_NAMED]}},
    **dict.fromkeys(("initContainers", "containers", "ephemeralContainers"), _CONTAINERS),
    **dict.fromkeys(("repositoryDigestMirrors", "imageDigestMirrors", "imageTagMirrors"), _RULES),
    "paused": bool,
    "disableAllDefaultSources": bool,
    "source": (str, _SOURCE),  # of a Subscription; of a ClusterCatalog or ClusterExtension
    "template": {"spec": {"securityContext": Each(_ANY), "initContainers": _CONTAINERS, "containers": _CONTAINERS}},
    "configuration": _NAMED,
    "additionalTrustedCA": _NAMED,
    "registrySources": {"blockedRegistries": [str], "allowedRegistries": [str], "insecureRegistries": [str]},
    "scopes": [str],
    "storage": Each(_ANY),
    "config": {"storage": {"files": [{"path": str, "contents": Each(_ANY)}]}},
}
_STATUS = {
    **dict.fromkeys(("message", "defaultChannel", "packageName", "phase", "controlPlaneTopology", "installedCSV"), str),
    "currentCSV": str,
    "installPlanRef": _NAMED,
    "install": {"bundle": {"name": str, "version": str}},
    **dict.fromkeys(("noProxy", "httpsProxy", "httpProxy", "state", "reason", "evaluationError"), str),
    **dict.fromkeys(("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses"), _CONTAINER_STATUS),
    **dict.fromkeys(("observedGeneration", "updatedMachineCount", "machineCount", "failed", "succeeded"), int),
    "conditions": [_CONDITION],
    "namespaces": [str],
    "featureGates": [{"enabled": [_NAMED]}],
    "bundleLookups": [{"identifier": str, "conditions": [_CONDITION]}],
    "requirementStatus": [dict.fromkeys(("group", "version", "kind", "name", "status", "message"), str)],
    **dict.fromkeys(("lastTransitionTime", "startTime"), str),
    "connectionState": {"lastObservedState": str, "lastConnect": str},
    "history": [{"state": str, "version": str}],
    "desired": {"version": str},
    "channels": [{"name": str, "currentCSV": str, "entries": [{"name": str}]}],
    "configuration": _NAMED,
    "resolvedSource": _IMAGE,
    "allowed": bool,
}
_OBJECT = {
    "metadata": _METADATA,
    "spec": _SPEC,
    "status": _STATUS,
    "data": Each(str),
    "binaryData": Each(str),
    "subjects": [dict.fromkeys(("kind", "name", "namespace"), str)],
    "involvedObject": {"name": str, "namespace": str, "kind": str},
    **dict.fromkeys(("apiVersion", "kind", "type", "reason", "message", "lastTimestamp", "eventTime"), str),
}


def checked(body: Any, *, named: bool = True, content: bool = True) -> dict[str, Any]:
    """Return an object of an answer. Raises ValueError with the field that has another type, RecursionError.

    `named`: it has to have a name; answers to a review have none. `content`: its fields are read, and not only its metadata and
    its texts. Kinds that are read for their texts have fields of one name and of other types: `data` of a ControllerRevision,
    `spec.config` of a NodePool.
    """
    found = dict(body) if isinstance(body, Mapping) else body
    _check(found, _OBJECT if content else {"metadata": _METADATA}, "the object")
    if not isinstance(found, dict):
        raise ValueError("an object is missing")  # noqa: TRY004 - one error for all that is not as documented
    if named and not (found.get("metadata") or {}).get("name"):
        raise ValueError("metadata.name is missing")
    return found


class UndecodedList(msgspec.Struct):
    """A list of the API, whose objects are not decoded yet."""

    items: list[msgspec.Raw] | None = None
    metadata: dict[str, Any] | None = None


_LIST = msgspec.json.Decoder(UndecodedList)


def undecoded(raw: bytes) -> UndecodedList:
    """Return the list of an answer. Raises ValueError."""
    try:
        return _LIST.decode(raw)
    except msgspec.MsgspecError as error:
        raise ValueError(f"no list: {error}") from error


def _check(value: Any, shape: Shape, where: str) -> None:
    if value is None or shape is _ANY:
        return
    if isinstance(shape, tuple):
        shape = next((one for one in shape if isinstance(value, one if isinstance(one, type) else dict)), shape[0])
    if not isinstance(shape, type):
        _check_inside(value, shape, where)
    # bool is an int in Python, but not in JSON.
    elif not isinstance(value, shape) or (shape is int and isinstance(value, bool)):
        raise ValueError(f"{where} is no {shape.__name__}")


def _check_inside(value: Any, shape: Shape, where: str) -> None:
    if isinstance(shape, list):
        _require(value, list, where)
        for one in value:
            # Go leaves no empty items; `null` in a list would be one that no reader expects.
            _check(_present(one, where), shape[0], where)
        return
    _require(value, dict, where)
    if isinstance(shape, Each | Tree):
        for one in value.values():
            _check(one, shape.shape if isinstance(shape, Each) else shape, where)
        return
    for name, inner in shape.items():
        if name in value:
            _check(value[name], inner, name if where == "the object" else f"{where}.{name}")


def _present(value: Any, where: str) -> Any:
    if value is None:
        raise ValueError(f"an item of {where} is null")
    return value


def _require(value: Any, kind: type, where: str) -> None:
    if not isinstance(value, kind):
        raise ValueError(f"{where} is no {kind.__name__}")  # noqa: TRY004 - as above
