"""The permissions of the importer on a cluster: exactly the verbs and names that it uses, for preflight and `render --rbac`.

An import fails without those of `needed`; those of `helpful` let preflight and `doctor` see operators and causes; those of
`fixing` are for `doctor --fix` alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from importer.cluster import microshift
from importer.cluster.kinds import (
    ACCESS_REVIEW,
    CATALOG_SOURCE,
    CLUSTER_CATALOG,
    CLUSTER_EXTENSION,
    CLUSTER_ROLE,
    CLUSTER_ROLE_BINDING,
    CLUSTER_SERVICE_VERSION,
    CLUSTER_VERSION,
    CONFIG_MAP,
    CONFIG_NAMESPACE,
    CUSTOM_RESOURCE_DEFINITION,
    DEPLOYMENT,
    EVENT,
    EXTENSIONS,
    FEATURE_GATE,
    IMAGE_CONFIG,
    IMAGE_POLICY,
    IMAGE_REGISTRY,
    IMAGE_USERS,
    INFRASTRUCTURE,
    INSTALL_PLAN,
    JOB,
    MACHINE_CONFIG,
    MACHINE_CONFIG_POOL,
    MANAGED_NAMESPACE,
    MARKETPLACE,
    NAMESPACE,
    NETWORK_POLICY,
    NODE,
    OLD_CRON_JOB,
    OLM_NAMESPACE,
    OPERATOR_GROUP,
    OPERATOR_HUB,
    PACKAGE_MANIFEST,
    PLAIN_OLM,
    POD,
    PROXY,
    ROLE,
    SECRET,
    SERVICE,
    SUBSCRIPTION,
    UPDATE_SERVICE,
    Kind,
    Resource,
    kind_of,
)
from importer.cluster.record import NAME as RECORD
from importer.cluster.resources.build import NAME as CA_NAME
from importer.cluster.resources.catalog_source import service_name
from importer.cluster.resources.mirror_rules import series_names
from importer.cluster.resources.openshift_release import foreign_name, is_signatures
from importer.cluster.trust import PULL_SECRET
from importer.cluster.updates.reading import ACKS, GATES

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from importer.cluster.api.client import ClusterClient
    from importer.cluster.release import Release

    _Names = tuple[str, ...] | None
    _Subject = tuple[str, str, tuple[str, ...]]  # API group, resource, names


NAME = "hub-import"
FIX_NAME = "hub-import-doctor-fix"
INSTALL_NAME = "hub-import-install"
PRUNE_NAME = "hub-import-prune"
PULL_NAME = "hub-import-pull-test"
PULL_NAMESPACE = PULL_NAME  # fixed, so that a Role can allow pods in it alone
LOG = "log"
_CLUSTER = "cluster"  # the name of the singletons of config.openshift.io
# Verbs that RBAC can restrict to names: a list has no name, and the name of a new object is not in the path of its request
# (Kubernetes documentation, *Using RBAC Authorization*, "Referring to resources").
_NAMED = frozenset(("delete", "get", "patch"))
_CHANGE = ("get", "patch")
# `delete` is for undo.
_OWN = ("create", "delete", "get", "patch")


@dataclass(frozen=True, slots=True)
class Permission:
    """One verb on one kind; `namespace` is empty for all of the cluster, `names` for objects of every name."""

    kind: Kind
    verb: str
    namespace: str = ""
    subresource: str = ""
    names: tuple[str, ...] = ()

    @property
    def resource(self) -> str:
        """The kind as a rule of RBAC names it."""
        return f"{self.kind.plural}/{self.subresource}" if self.subresource else self.kind.plural

    def __str__(self) -> str:
        group = f".{self.kind.group}" if self.kind.group else ""
        named = f" {', '.join(self.names)}" if self.names else ""
        where = f" in {self.namespace}" if self.namespace else ""
        return f"{self.verb} {self.resource}{group}{named}{where}"


def needed(release: Release | None, resources: Sequence[Resource] = (), further: Collection[str] = ()) -> list[Permission]:
    """Return every permission that apply, the wait and undo use on a release; None is a Kubernetes with OLM.

    `resources`: the objects of an archive, for the names of those that are written with any option of apply; without them,
    the permissions are for objects of every name. `further`: other names that its catalogs may have on a cluster.
    """
    names = _OwnNames.of(release, resources, further)
    namespace = MARKETPLACE if release is not None else PLAIN_OLM
    found = [
        *_each(CLUSTER_VERSION, ("get",), names=("version",)),
        *_each(CATALOG_SOURCE, (*_OWN, "list"), namespace, names.sources),
        *(_each(PACKAGE_MANIFEST, ("list",), namespace) if release is None or release.lists_packages else ()),
        # For the readiness of catalog pods; deleting a stale one is a fix of `doctor`.
        *_each(POD, ("list",), namespace),
        *_each(SERVICE, _OWN, namespace, names.served),
        *_each(DEPLOYMENT, _OWN, namespace, names.served),
    ]
    for each in resources:
        if each.kind == SUBSCRIPTION.name:
            found += _each(SUBSCRIPTION, _CHANGE, each.namespace, (each.name,))
    if release is None or release.denies_network:
        found += _each(NETWORK_POLICY, _OWN, namespace, names.served)
    if release is None or release.microshift:
        # The record of undo; on OpenShift it is in openshift-config.
        return found + _each(SECRET, _OWN, namespace, (RECORD,))
    # An archive without catalogs switches no default off.
    off = not resources or any(each.kind == OPERATOR_HUB.name for each in resources)
    return [*found, *_on_openshift(release, names, off=off), *_for_updates(release, resources)]


def _on_openshift(release: Release, names: _OwnNames, *, off: bool) -> list[Permission]:
    found = [
        *(_each(OPERATOR_HUB, _CHANGE, names=(_CLUSTER,)) if off else ()),
        *_each(IMAGE_CONFIG, _CHANGE, names=(_CLUSTER,)),
        *_each(INFRASTRUCTURE, ("get",), names=(_CLUSTER,)),
        *_each(PROXY, ("get",), names=(_CLUSTER,)),
        *_each(MACHINE_CONFIG_POOL, ("list",)),
        # Their names contain hashes of their contents.
        *_each(MACHINE_CONFIG, ("get",)),
        *_each(CONFIG_MAP, _OWN, CONFIG_NAMESPACE, (CA_NAME,)),
        *_each(SECRET, _OWN, CONFIG_NAMESPACE, (RECORD,)),
        *_each(SECRET, _CHANGE, CONFIG_NAMESPACE, (PULL_SECRET,)),
    ]
    for kind in release.rule_kinds:
        found += _each(kind, (*_OWN, "list"), names=names.rules)
    if release.has_capabilities:
        found += _each(NAMESPACE, ("get",), names=(MARKETPLACE,))
    if release.has_cluster_catalog:
        found += _each(CLUSTER_CATALOG, (*_OWN, "list"), names=names.sources)
        # Switched off; a default one is never deleted.
        found += _each(CLUSTER_CATALOG, _CHANGE, names=tuple(release.default_cluster_catalogs) if off else ())
    if release.has_image_policies:
        found += _each(IMAGE_POLICY, ("list",))
    if not release.trusts_without_registry:
        found += _each(IMAGE_REGISTRY, _CHANGE, names=(_CLUSTER,))
    return found


def _for_updates(release: Release, resources: Sequence[Resource]) -> list[Permission]:
    """Return the permissions for releases, where the objects are those of an archive with releases or graph data."""
    signed = tuple(sorted(each.name for each in resources if is_signatures(each)))
    services = [each for each in resources if each.kind == UPDATE_SERVICE.name]
    upstream = [each for each in resources if each.kind == CLUSTER_VERSION.name]
    acknowledged = [each for each in resources if (each.namespace, each.name) == (CONFIG_NAMESPACE, ACKS)]
    if not (signed or services or upstream or acknowledged):
        return []
    found = [
        *_each(CONFIG_MAP, (*_OWN, "list"), MANAGED_NAMESPACE, (*signed, *map(foreign_name, signed))),
        *_each(CONFIG_MAP, ("get",), MANAGED_NAMESPACE, (GATES,)),
        *_each(CONFIG_MAP, _OWN if acknowledged else ("get",), CONFIG_NAMESPACE, (ACKS,)),
        # Others have UpdateServices too, in any namespace; nodes have the architecture.
        *_each(UPDATE_SERVICE, ("list",)),
        *_each(NODE, ("list",)),
        *(_each(CLUSTER_VERSION, ("patch",), names=("version",)) if upstream else ()),
    ]
    for each in services:
        found += _each(UPDATE_SERVICE, _OWN, each.namespace, (each.name,))
        found += [*_each(DEPLOYMENT, ("get",), each.namespace, (each.name,))]
        found += _each(NAMESPACE, ("get",), names=(each.namespace,)) if release.has_capabilities else []
    return found


def updating() -> list[Permission]:
    """Return what `--update-service` and `--acknowledge` use beyond the others."""
    acks = _each(CONFIG_MAP, _OWN, CONFIG_NAMESPACE, (ACKS,))
    return [*_each(CLUSTER_VERSION, ("patch",), names=("version",)), *acks]


@dataclass(frozen=True, slots=True)
class _OwnNames:
    """The names of the objects that an import writes; None where they are not known, empty where there are none.

    `sources`: of CatalogSources and ClusterCatalogs; `served`: of what serves a catalog by address; `rules`: of mirror rules.
    """

    sources: _Names = None
    served: _Names = None
    rules: _Names = None

    @classmethod
    def of(cls, release: Release | None, resources: Sequence[Resource], further: Collection[str]) -> _OwnNames:
        if not resources:
            return cls()
        made = {each.name for each in resources if each.kind == CATALOG_SOURCE.name}
        sources = tuple(sorted(made.union(further if made else ())))
        kinds = {kind.name for kind in release.rule_kinds} if release is not None else set()
        rules = series_names([each for each in resources if each.kind in kinds])
        return cls(sources, tuple(map(service_name, sources)), rules)


def for_installation(release: Release | None, resources: Sequence[Resource], *, olm_v1: bool = False) -> list[Permission]:
    """Return what the installation of operators uses, and its undo: `resources` are the objects that it writes.

    `olm_v1`: also what is read for OLM v1 before these are known.
    """
    namespace = MARKETPLACE if release is not None else PLAIN_OLM
    recorded = CONFIG_NAMESPACE if release is not None and not release.microshift else namespace
    found = [
        *_each(CLUSTER_VERSION, ("get",), names=("version",)),
        *_each(SECRET, _OWN, recorded, (RECORD,)),
        *_each(CATALOG_SOURCE, ("list",), namespace),
        *(_each(PACKAGE_MANIFEST, ("list",), namespace) if release is None or release.lists_packages else ()),
        *_each(OPERATOR_GROUP, ("list",)),
        *(_each(INFRASTRUCTURE, ("get",), names=(_CLUSTER,)) if release is not None and not release.microshift else ()),
    ]
    spaces: set[str] = set()
    for each in resources:
        kind = kind_of(each.api_version, each.kind)
        found += _each(kind, _OWN, each.namespace, (each.name,))
        found += [*_granted(each), *_looked_at(each)]
        if kind is SUBSCRIPTION:
            spaces.add(each.namespace)
    for where in sorted(spaces):
        found += _each(SUBSCRIPTION, ("list",), where)
        # Their names are those of versions that OLM installs later, which `undo` deletes with the Subscription.
        found += [*_each(CLUSTER_SERVICE_VERSION, ("get", "delete"), where), *_each(INSTALL_PLAN, ("get",), where)]
    extends = olm_v1 and release is not None and release.has_cluster_catalog
    if extends or any(each.kind == CLUSTER_EXTENSION.name for each in resources):
        found += [*_each(CLUSTER_CATALOG, ("list",)), *_each(CLUSTER_EXTENSION, ("list",))]
        found += [*_each(FEATURE_GATE, ("get",), names=(_CLUSTER,))]
        found += [*_each(CUSTOM_RESOURCE_DEFINITION, ("get",), names=(EXTENSIONS,))]
    return found


def _granted(resource: Resource) -> list[Permission]:
    """Return what an account needs to give the rights of a role or binding, beyond writing that."""
    # It has to have them itself, or may bind them (kubernetes, pkg/registry/rbac/clusterrolebinding/policybased/storage.go).
    if resource.kind == CLUSTER_ROLE_BINDING.name:
        return [Permission(CLUSTER_ROLE, "bind", names=(resource.body["roleRef"]["name"],))]
    rules = resource.body["rules"] if resource.kind == ROLE.name else ()
    kinds = [(Kind("", "v1", "", plural, namespaced=True), rule["verbs"]) for rule in rules for plural in rule["resources"]]
    return [one for kind, verbs in kinds for one in _each(kind, verbs, resource.namespace)]


def _looked_at(resource: Resource) -> list[Permission]:
    """Return the permissions to see whether the namespaces exist that an operator is to watch."""
    spec = resource.body.get("spec") or {}
    names = [*(spec.get("targetNamespaces") or ()), (spec.get("config") or {}).get("inline", {}).get("watchNamespace")]
    return _each(NAMESPACE, ("get",), names=tuple(sorted({each for each in names if each and each != resource.namespace})))


def helpful(release: Release | None) -> list[Permission]:
    """Return the permissions of preflight on operators, and of `doctor` and the wait for causes."""
    namespace = MARKETPLACE if release is not None else PLAIN_OLM
    found = [*_each(EVENT, ("list",), namespace), *_each(JOB, ("list",), namespace)]
    found += [Permission(POD, "get", namespace, LOG), *_each(SUBSCRIPTION, ("list",)), *_each(CATALOG_SOURCE, ("list",))]
    found += _each(CLUSTER_SERVICE_VERSION, ("list",))
    if release is not None and release.has_cluster_catalog:
        found += _each(CLUSTER_EXTENSION, ("list",))
    # What operators run is in any namespace.
    found += [*_each(POD, ("list",)), *_each(EVENT, ("list",)), *_each(INSTALL_PLAN, ("get",))]
    if release is None or release.microshift:
        found.append(Permission(CONFIG_MAP, "get", microshift.NAMESPACE, names=(microshift.NAME,)))
    else:
        found += [*_each(NAMESPACE, ("create",)), *_each(POD, ("list",), OLM_NAMESPACE)]
        found.append(Permission(POD, "get", OLM_NAMESPACE, LOG))
    return found


def repointing() -> list[Permission]:
    """Return what `--repoint` uses beyond the others; the Subscriptions are those of the cluster, which are not known here."""
    return _each(SUBSCRIPTION, _CHANGE)


def reading_images() -> list[Permission]:
    """Return what `prune` uses: it lists everything that names an image, in all namespaces, and changes nothing."""
    return [permission for kind in (*IMAGE_USERS, OLD_CRON_JOB) for permission in _each(kind, ("list",))]


def pulling(*, prepared: bool = False) -> list[Permission]:
    """Return what the pull test uses: pods in a namespace of its own. `prepared`: an administrator has created that."""
    verbs = () if prepared else ("create", "delete")
    found = [*_each(NODE, ("get", "list")), *_each(NAMESPACE, ("get", *verbs), names=(PULL_NAMESPACE,))]
    pods = _each(POD, ("create", "delete", "get", "list"), PULL_NAMESPACE)
    return [*found, *pods, *_each(EVENT, ("list",), PULL_NAMESPACE)]


def fixing(release: Release | None) -> list[Permission]:
    """Return what `doctor --fix` uses beyond the others: it deletes pods, jobs and ConfigMaps whose names OLM generates."""
    namespace = MARKETPLACE if release is not None else PLAIN_OLM
    return [permission for kind in (POD, JOB, CONFIG_MAP) for permission in _each(kind, ("delete",), namespace)]


def _each(kind: Kind, verbs: Iterable[str], namespace: str = "", names: _Names = None) -> list[Permission]:
    # A rule with an empty list of names allows every name (kubernetes/api, rbac/v1, PolicyRule).
    used = verbs if names is None or names else [verb for verb in verbs if verb == "list"]
    return [Permission(kind, verb, namespace, names=names or () if verb in _NAMED else ()) for verb in used]


def missing(client: ClusterClient, wanted: Iterable[Permission]) -> list[Permission]:
    """Return the permissions that the cluster does not give to this account. Changes nothing. Raises ClusterError."""
    # SelfSubjectAccessReview is allowed for every authenticated account (ClusterRole system:basic-user).
    return [lacking for one in wanted if (lacking := _lacking(client, one)) is not None]


def _lacking(client: ClusterClient, permission: Permission) -> Permission | None:
    """Return a permission, or what is missing of it; None when nothing is."""
    # Without a name first: administrators have the permission for every name, which one request shows.
    if _is_allowed(client, permission, ""):
        return None
    names = tuple(name for name in permission.names if not _is_allowed(client, permission, name))
    return replace(permission, names=names) if names or not permission.names else None


def _is_allowed(client: ClusterClient, permission: Permission, name: str) -> bool:
    about = {
        "group": permission.kind.group,
        "resource": permission.kind.plural,
        "subresource": permission.subresource,
        "verb": permission.verb,
        "namespace": permission.namespace,
        "name": name,
    }
    body = {
        "apiVersion": ACCESS_REVIEW.api_version,
        "kind": ACCESS_REVIEW.name,
        "metadata": {},
        # An empty namespace or name means all of them (api/authorization/v1, ResourceAttributes): empty fields are left out.
        "spec": {"resourceAttributes": {field: value for field, value in about.items() if value}},
    }
    answer = client.review(ACCESS_REVIEW, body)
    return (answer.get("status") or {}).get("allowed") is True


def roles(permissions: Iterable[Permission], name: str = NAME) -> list[dict[str, Any]]:
    """Return a ClusterRole, and a Role for each namespace, with exactly these permissions."""
    verbs: dict[str, dict[_Subject, set[str]]] = {}
    for one in permissions:
        subject = (one.kind.group, one.resource, one.names)
        verbs.setdefault(one.namespace, {}).setdefault(subject, set()).add(one.verb)
    return [_role(name, namespace, allowed) for namespace, allowed in sorted(verbs.items())]


def _role(name: str, namespace: str, allowed: Mapping[_Subject, set[str]]) -> dict[str, Any]:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role" if namespace else "ClusterRole",
        "metadata": {"name": name, **({"namespace": namespace} if namespace else {})},
        "rules": [
            {
                "apiGroups": [group],
                "resources": [resource],
                **({"resourceNames": list(names)} if names else {}),
                "verbs": sorted(found),
            }
            for (group, resource, names), found in sorted(allowed.items())
        ],
    }
