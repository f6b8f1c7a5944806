"""The kinds a release serves, with their schemas: tests/data/crds for custom ones, a few words for the core's.

Fields that a release does not know yet are cut out of the schema, so that the fake prunes them as that release would. Rules in
CEL (x-kubernetes-validations) are not evaluated.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from tests.fakes.copies import copied

Minor = tuple[int, int]
CRDS = Path(__file__).parents[1] / "data" / "crds"
UPDATE_SERVICES = Path(__file__).parents[1] / "data" / "releases" / "crds" / "updateservice.crd.yaml"


@dataclass(frozen=True)
class Served:
    """A kind as this cluster serves it. `schema` None: anything goes."""

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool
    has_status: bool
    schema: dict[str, Any] | None = field(compare=False)

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def resource(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural


_STRINGS = {"type": "object", "additionalProperties": {"type": "string"}}
_CONFIG_MAP = {
    "type": "object",
    "properties": {"data": {**_STRINGS, "propertyNames": {"pattern": r"^[-._a-zA-Z0-9]+$"}}, "binaryData": _STRINGS},
}
_SECRET = {"type": "object", "properties": {"data": _STRINGS, "stringData": _STRINGS, "type": {"type": "string"}}}
_CORE = (
    Served("", "v1", "Namespace", "namespaces", namespaced=False, has_status=True, schema=None),
    Served("", "v1", "ConfigMap", "configmaps", namespaced=True, has_status=False, schema=_CONFIG_MAP),
    Served("", "v1", "Secret", "secrets", namespaced=True, has_status=False, schema=_SECRET),
    Served("", "v1", "Pod", "pods", namespaced=True, has_status=True, schema=None),
    Served("", "v1", "Event", "events", namespaced=True, has_status=False, schema=None),
    Served("", "v1", "Service", "services", namespaced=True, has_status=True, schema=None),
    Served("apps", "v1", "Deployment", "deployments", namespaced=True, has_status=True, schema=None),
    *(
        Served("apps", "v1", name, f"{name.lower()}s", namespaced=True, has_status=True, schema=None)
        for name in ("DaemonSet", "StatefulSet", "ReplicaSet")
    ),
    Served("", "v1", "ReplicationController", "replicationcontrollers", namespaced=True, has_status=True, schema=None),
    Served("batch", "v1", "CronJob", "cronjobs", namespaced=True, has_status=True, schema=None),
    Served("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies", namespaced=True, has_status=False, schema=None),
    Served("batch", "v1", "Job", "jobs", namespaced=True, has_status=True, schema=None),
    Served("", "v1", "ServiceAccount", "serviceaccounts", namespaced=True, has_status=False, schema=None),
    Served("coordination.k8s.io", "v1", "Lease", "leases", namespaced=True, has_status=False, schema=None),
    Served(
        "rbac.authorization.k8s.io",
        "v1",
        "ClusterRoleBinding",
        "clusterrolebindings",
        namespaced=False,
        has_status=False,
        schema=None,
    ),
    *(
        Served("rbac.authorization.k8s.io", "v1", name, f"{name.lower()}s", namespaced=True, has_status=False, schema=None)
        for name in ("Role", "RoleBinding")
    ),
    Served(
        "apiextensions.k8s.io",
        "v1",
        "CustomResourceDefinition",
        "customresourcedefinitions",
        namespaced=False,
        has_status=True,
        schema=None,
    ),
    Served("", "v1", "Node", "nodes", namespaced=False, has_status=True, schema=None),
)
_OLM = Served(
    "packages.operators.coreos.com", "v1", "PackageManifest", "packagemanifests", namespaced=True, has_status=True, schema=None
)
_CLUSTER_VERSION = Served(
    "config.openshift.io", "v1", "ClusterVersion", "clusterversions", namespaced=False, has_status=True, schema=None
)
_INFRASTRUCTURE = Served(
    "config.openshift.io", "v1", "Infrastructure", "infrastructures", namespaced=False, has_status=True, schema=None
)
_IMAGE_POLICY = Served(
    "config.openshift.io", "v1", "ClusterImagePolicy", "clusterimagepolicies", namespaced=False, has_status=True, schema=None
)
_SUBSCRIPTION = Served(
    "operators.coreos.com", "v1alpha1", "Subscription", "subscriptions", namespaced=True, has_status=True, schema=None
)
_CSV = Served(
    "operators.coreos.com",
    "v1alpha1",
    "ClusterServiceVersion",
    "clusterserviceversions",
    namespaced=True,
    has_status=True,
    schema=None,
)
_INSTALL_PLAN = Served(
    "operators.coreos.com", "v1alpha1", "InstallPlan", "installplans", namespaced=True, has_status=True, schema=None
)
# Since 4.18, with `ClusterCatalog` (operator-framework/operator-controller, api/v1/clusterextension_types.go).
_CLUSTER_EXTENSION = Served(
    "olm.operatorframework.io", "v1", "ClusterExtension", "clusterextensions", namespaced=False, has_status=True, schema=None
)
_OPERATOR_GROUP = Served(
    "operators.coreos.com", "v1", "OperatorGroup", "operatorgroups", namespaced=True, has_status=True, schema=None
)
_FEATURE_GATE = Served(
    "config.openshift.io", "v1", "FeatureGate", "featuregates", namespaced=False, has_status=True, schema=None
)
_OPERATORS = (_SUBSCRIPTION, _CSV, _INSTALL_PLAN, _OPERATOR_GROUP)
_KIND_SINCE: dict[str, Minor] = {
    "ImageDigestMirrorSet": (4, 13),
    "ImageTagMirrorSet": (4, 13),
    "ClusterCatalog": (4, 18),
    "ClusterExtension": (4, 18),
    "ClusterImagePolicy": (4, 20),
}
_ON_KUBERNETES = frozenset(("CatalogSource", "Subscription"))
_FIELD_SINCE: dict[tuple[str, str], Minor] = {
    ("CatalogSource", "spec.updateStrategy"): (4, 4),
    ("CatalogSource", "spec.priority"): (4, 6),
    ("CatalogSource", "spec.grpcPodConfig"): (4, 10),
    ("CatalogSource", "spec.grpcPodConfig.securityContextConfig"): (4, 12),
    ("CatalogSource", "spec.grpcPodConfig.affinity"): (4, 14),
    ("CatalogSource", "spec.grpcPodConfig.memoryTarget"): (4, 14),
    ("CatalogSource", "spec.runAsRoot"): (4, 14),
    ("CatalogSource", "spec.grpcPodConfig.extractContent"): (4, 15),
}


@functools.cache
def kinds_of(release: Minor | None) -> tuple[Served, ...]:
    """Return what an OpenShift release serves; None: a Kubernetes with OLM, where every field is known."""
    custom = [kind for kind in _from_crds() if _serves(kind.kind, release)]
    if release is None:
        return (*_CORE, _OLM, *_OPERATORS, *custom)
    later = [each for each in (_IMAGE_POLICY, _CLUSTER_EXTENSION) if _serves(each.kind, release)]
    return (
        *_CORE,
        _OLM,
        *_OPERATORS,
        _CLUSTER_VERSION,
        _INFRASTRUCTURE,
        _FEATURE_GATE,
        *later,
        *(_as_of(kind, release) for kind in custom),
    )


@functools.cache
def kinds_of_microshift(release: Minor) -> tuple[Served, ...]:
    """Return what MicroShift with its OLM serves: no packageserver, and no kind of OpenShift's configuration.

    openshift/microshift, assets/optional/operator-lifecycle-manager/kustomization.yaml.
    """
    custom = [_as_of(kind, release) for kind in _from_crds() if kind.kind in _ON_KUBERNETES]
    return (*_CORE, *_OPERATORS, *custom)


@functools.cache
def kinds_of_update_service() -> tuple[Served, ...]:
    """Return what the operator of the OpenShift Update Service brings."""
    return tuple(_read(UPDATE_SERVICES))


def _serves(kind: str, release: Minor | None) -> bool:
    return kind in _ON_KUBERNETES if release is None else release >= _KIND_SINCE.get(kind, (4, 2))


@functools.cache
def _from_crds() -> tuple[Served, ...]:
    return tuple(kind for path in sorted(CRDS.glob("*.yaml")) for kind in _read(path))


def _read(path: Path) -> Iterator[Served]:
    spec = yaml.load(path.read_bytes(), yaml.CSafeLoader)["spec"]
    names = spec["names"]
    for version in spec["versions"]:
        if version["served"] and names["kind"] != "ClusterVersion":
            yield Served(
                spec["group"],
                version["name"],
                names["kind"],
                names["plural"],
                spec["scope"] == "Namespaced",
                "status" in (version.get("subresources") or {}),
                version["schema"]["openAPIV3Schema"],
            )


def _as_of(kind: Served, release: Minor) -> Served:
    schema = kind.schema
    for (name, path), since in _FIELD_SINCE.items():
        if name == kind.kind and release < since:
            schema = _without(schema, path)
    return Served(kind.group, kind.version, kind.kind, kind.plural, kind.namespaced, kind.has_status, schema)


def _without(schema: Any, path: str) -> Any:
    schema = copied(schema)
    *parents, last = path.split(".")
    place = schema
    for name in parents:
        place = place["properties"].get(name)
        if place is None:
            return schema
    place["properties"].pop(last, None)
    if last in place.get("required", []):
        place["required"].remove(last)
    return schema


class Shape:
    """What a schema does to an object: fields it does not know go, defaults come, the rest is checked."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self._schema = schema
        self._validator = _validator_of(schema)

    def prune(self, body: dict[str, Any]) -> list[str]:
        """Take unknown fields out of `body`, and return them."""
        return list(_prune(body, self._schema, "", root=True))

    def default(self, body: dict[str, Any]) -> None:
        _default(body, self._schema)

    def errors(self, body: dict[str, Any]) -> list[str]:
        found = self._validator.iter_errors({**body, "metadata": {}})
        return [f"{'.'.join(map(str, error.absolute_path)) or '<root>'}: {error.message[:300]}" for error in found]


# By schema, which lasts as long as the process: every cluster of a release has the same.
_VALIDATORS: dict[int, tuple[dict[str, Any], jsonschema.Draft202012Validator]] = {}


def _validator_of(schema: dict[str, Any]) -> jsonschema.Draft202012Validator:
    if id(schema) not in _VALIDATORS:
        _VALIDATORS[id(schema)] = schema, jsonschema.Draft202012Validator(_nullable(schema))
    return _VALIDATORS[id(schema)][1]


def _prune(value: Any, schema: dict[str, Any], path: str, *, root: bool = False) -> Iterator[str]:
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _prune(item, schema.get("items", {}), f"{path}[{index}]")
        return
    if not isinstance(value, dict) or schema.get("x-kubernetes-preserve-unknown-fields"):
        return
    known = schema.get("properties", {})
    extra = schema.get("additionalProperties")
    for key in list(value):
        here = f"{path}.{key}"
        if root and key in {"apiVersion", "kind", "metadata"}:
            continue
        if key in known:
            yield from _prune(value[key], known[key], here)
        elif isinstance(extra, dict):
            yield from _prune(value[key], extra, here)
        elif known:
            del value[key]
            yield here


def _default(value: Any, schema: dict[str, Any]) -> None:
    if isinstance(value, list):
        for item in value:
            _default(item, schema.get("items", {}))
    elif isinstance(value, dict):
        for key, inner in schema.get("properties", {}).items():
            if key not in value and "default" in inner:
                value[key] = copied(inner["default"])
            if key in value:
                _default(value[key], inner)


def _nullable(schema: Any) -> Any:
    """Return the schema in the words of JSON Schema."""
    if isinstance(schema, list):
        return [_nullable(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: _nullable(value) for key, value in schema.items() if not key.startswith("x-kubernetes-") and key != "default"}
    if schema.get("nullable") is True and "type" in made:
        made["type"] = [made["type"], "null"]
    return made
