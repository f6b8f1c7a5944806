"""The objects of an installation, in the order in which a cluster needs them, and how they are written. Idempotent."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from common.errors import ClusterError
from importer.cluster.kinds import NAMESPACE, SERVICE_ACCOUNT, has_own_label
from importer.install import objects
from importer.install.wanted import object_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from importer.cluster.api.client import Body
    from importer.cluster.kinds import Resource
    from importer.cluster.writing import Writer
    from importer.install.offers import Chosen
    from importer.install.olm_v1 import Extended
    from importer.install.placing import Placement


@dataclass(frozen=True, slots=True)
class Installation:
    """The operators of one run, by OLM or by OLM v1. `foreign`: the namespaces that exist, and that no run created."""

    placements: Sequence[Placement] = ()
    extended: Sequence[Extended] = ()
    foreign: frozenset[str] = frozenset()

    @property
    def fresh(self) -> list[Placement]:
        """The operators whose Subscription is to be written."""
        # The others are waited for, and none of their objects is touched.
        return [each for each in self.placements if not each.present]

    @property
    def places(self) -> set[str]:
        """The namespaces of all operators."""
        return {each.namespace for each in self.placements} | {each.namespace for each in self.extended}

    @property
    def packages(self) -> set[str]:
        """The packages of all operators."""
        return {each.chosen.package for each in self.placements} | {each.chosen.package for each in self.extended}

    @property
    def members(self) -> dict[str, list[Chosen]]:
        """The new operators by namespace."""
        found: dict[str, list[Chosen]] = {}
        placed = [(each.namespace, each.chosen) for each in self.fresh]
        placed += [(each.namespace, each.chosen) for each in self.extended if not each.present]
        for where, one in placed:
            found.setdefault(where, []).append(one)
        return found

    @property
    def namespaces(self) -> list[Resource]:
        """The namespaces, as they are created where they do not exist."""
        return [objects.namespace(name, members) for name, members in self.members.items()]

    @property
    def resources(self) -> list[Resource]:
        """All other objects: what a namespace needs before what OLM acts on."""
        # By namespace: a second OperatorGroup would stop all operators there (TooManyOperatorGroups).
        groups = {each.namespace: objects.operator_group(each) for each in self.fresh if each.fresh}
        fresh = [each for each in self.extended if not each.present]
        return [
            # A foreign namespace is left as it is, so that it gets no rights for a label that it lacks either.
            *(each for name in self.members if name not in self.foreign for each in self._monitored(name)),
            *groups.values(),
            # Before the ClusterExtension: OLM v1 reports an account that does not exist, and tries again only later.
            *(resource for each in fresh for resource in objects.account(each)),
            *map(objects.subscription, self.fresh),
            *map(objects.cluster_extension, fresh),
        ]

    def _monitored(self, name: str) -> list[Resource]:
        return objects.monitoring(name) if objects.is_monitored(name, self.members[name]) else []


def write(writer: Writer, installation: Installation) -> None:
    """Write the objects of an installation; those that are there stay. Raises ClusterError."""
    for resource in installation.namespaces:
        _namespace(writer, resource)
    for resource in installation.resources:
        if resource.kind == SERVICE_ACCOUNT.name:
            _require_own(writer, resource)
        writer.own(resource)
    for each in installation.placements:
        if each.present:
            writer.leave("Subscription", object_name(each.chosen.package), each.namespace, "it is there already")
    for one in installation.extended:
        if one.present:
            writer.leave("ClusterExtension", object_name(one.chosen.package), "", "it is there already")


def _require_own(writer: Writer, account: Resource) -> None:
    """Raise ClusterError for a ServiceAccount that no earlier run created: it would get cluster-admin."""
    # An apply would take it over without a conflict, since labels are all that it sets.
    live = writer.client.get(SERVICE_ACCOUNT, account.name, account.namespace)
    if live is not None and not has_own_label(live):
        raise ClusterError(
            f"ServiceAccount {account.namespace}/{account.name}: exists and is not from hub-import; it would get cluster-admin",
            hint="Name an account for the operator, --service-account NAME, or choose another namespace: --namespace.",
        )


def _namespace(writer: Writer, resource: Resource) -> None:
    live = writer.client.get(NAMESPACE, resource.name)
    # What is created there now would be deleted with it, or be refused in the middle of the writes.
    if live is not None and live["metadata"].get("deletionTimestamp"):
        raise ClusterError(
            f"namespace {resource.name} is being deleted", hint="Wait until it is gone, or choose another: --namespace."
        )
    if live is None:
        writer.own(resource)
        if writer.dry_run:
            # The server refuses a dry run in a namespace that does not exist.
            writer.unmade.add(resource.name)
    elif has_own_label(live):
        # One of an earlier run gets the labels of a further operator. An apply would take away those of the first one.
        writer.shared(NAMESPACE, resource.name, "", partial(_further, resource))
    else:
        writer.leave(NAMESPACE.name, resource.name, "", "it exists")


def _further(resource: Resource, live: Body | None) -> Body | None:
    """Return the labels and annotations that a namespace lacks: other values of them are those of a person, and stay."""
    if live is None:
        return None  # deleted meanwhile: what follows is refused by the server
    wanted, has = resource.body["metadata"], live["metadata"]
    lacking = {
        field: {key: value for key, value in wanted.get(field, {}).items() if key not in (has.get(field) or {})}
        for field in ("labels", "annotations")
    }
    found = {field: values for field, values in lacking.items() if values}
    return {"metadata": found} if found else None
