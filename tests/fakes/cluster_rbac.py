"""Authorization of the fake cluster by roles, as Kubernetes decides it (Kubernetes documentation, *Using RBAC Authorization*)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Body = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Asked:
    """The attributes of one request. `resource` with its subresource; `name` empty for a list, and for a created object."""

    verb: str
    group: str
    resource: str
    namespace: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Granted:
    """One verb of one rule; `namespace` empty for a ClusterRole, `name` for every name."""

    verb: str
    group: str
    resource: str
    namespace: str = ""
    name: str = ""

    def allows(self, asked: Asked) -> bool:
        # A ClusterRole, bound by a ClusterRoleBinding, counts in every namespace; a Role in its own.
        return (
            (self.verb, self.group, self.resource) == (asked.verb, asked.group, asked.resource)
            and self.namespace in ("", asked.namespace)
            and self.name in ("", asked.name)
        )


class Roles:
    """All that is allowed; what was asked and which grants allowed it is kept for tests."""

    def __init__(self, roles: Iterable[Body]) -> None:
        self.granted = frozenset(grant for role in roles for grant in _grants(role))
        self.used: set[Granted] = set()
        self.denied: list[Asked] = []

    def allows(self, asked: Asked) -> bool:
        """Decide on a request, and remember it."""
        found = self.matching(asked)
        self.used |= found
        if not found:
            self.denied.append(asked)
        return bool(found)

    def allows_quietly(self, asked: Asked) -> bool:
        """Decide on something that is no request of its own: what allows it counts as used, and its lack is no denied request."""
        found = self.matching(asked)
        self.used |= found
        return bool(found)

    def matching(self, asked: Asked) -> set[Granted]:
        """Return the grants that allow a request."""
        return {grant for grant in self.granted if grant.allows(asked)}


def escalates(roles: Roles, kind: str, namespace: str, body: Body, referred: Body | None) -> bool:
    """Return whether a role or binding gives what its writer does not have, and may not give by `escalate` or `bind`.

    `referred`: the Role of a RoleBinding. Kubernetes, pkg/registry/rbac/{role,rolebinding,clusterrolebinding}/policybased/storage.go.
    """
    group = "rbac.authorization.k8s.io"
    if kind == "Role":
        return not (
            roles.allows_quietly(Asked("escalate", group, "roles", namespace, body["metadata"]["name"]))
            or _held(roles, namespace, body)
        )
    if kind in ("RoleBinding", "ClusterRoleBinding"):
        role = body["roleRef"]
        plural = f"{role['kind'].lower()}s"
        bound = Asked("bind", group, plural, namespace if plural == "roles" else "", role["name"])
        return not (roles.allows_quietly(bound) or (referred is not None and _held(roles, namespace, referred)))
    return False


def _held(roles: Roles, namespace: str, role: Body) -> bool:
    return all(
        roles.allows_quietly(Asked(each.verb, each.group, each.resource, namespace, each.name))
        for each in _grants({"kind": "Role", "metadata": {"namespace": namespace}, "rules": role.get("rules") or []})
    )


def _grants(role: Body) -> Iterator[Granted]:
    namespace = role["metadata"].get("namespace", "") if role["kind"] == "Role" else ""
    for rule in role["rules"]:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                for verb in rule["verbs"]:
                    for name in rule.get("resourceNames") or [""]:
                        yield Granted(verb, group, resource, namespace, name)
