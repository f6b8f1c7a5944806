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

    def matching(self, asked: Asked) -> set[Granted]:
        """Return the grants that allow a request."""
        return {grant for grant in self.granted if grant.allows(asked)}


def _grants(role: Body) -> Iterator[Granted]:
    namespace = role["metadata"].get("namespace", "") if role["kind"] == "Role" else ""
    for rule in role["rules"]:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                for verb in rule["verbs"]:
                    for name in rule.get("resourceNames") or [""]:
                        yield Granted(verb, group, resource, namespace, name)
