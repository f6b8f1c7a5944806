"""What OLM brought for a Subscription or ClusterExtension that `undo` takes back (ADR 0079).

A Subscription that is deleted leaves its ClusterServiceVersion, and the operator runs on. OLM's documentation uninstalls an
operator by deleting both (olm.operatorframework.io, *Uninstall your operator*): CustomResourceDefinitions and custom resources
stay. OLM v1 deletes CustomResourceDefinitions, and with them all custom resources, with the ClusterExtension
(operator-controller, *Uninstall an extension*), so `undo` deletes none that has installed something.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from importer.cluster.api.client import ForbiddenError
from importer.cluster.kinds import (
    CLUSTER_EXTENSION,
    CLUSTER_ROLE_BINDING,
    CLUSTER_SERVICE_VERSION,
    COPIED_LABEL,
    SERVICE_ACCOUNT,
    SUBSCRIPTION,
    condition,
    status_of,
)
from importer.cluster.record import Entry, FieldChange

if TYPE_CHECKING:
    from collections.abc import Collection

    from importer.cluster.api.client import Body, ClusterClient

_UID = ("metadata", "uid")


def brought(client: ClusterClient, entry: Entry, live: Body) -> Entry | None:
    """Return an entry for the ClusterServiceVersion that a Subscription installed; None without one. Raises ClusterError."""
    if entry.kind != SUBSCRIPTION.name or not entry.created:
        return None
    status = status_of(live)
    name = str(status.get("installedCSV") or status.get("currentCSV") or "")
    body = client.get(CLUSTER_SERVICE_VERSION, name, entry.namespace) if name else None
    if body is None:
        return None
    kind = CLUSTER_SERVICE_VERSION
    # Before the OperatorGroup that was written first, and after the Subscription, for which OLM would install it again.
    uid = FieldChange(_UID, existed=False, before=None, after=str(body["metadata"].get("uid") or ""))
    return Entry(kind.api_version, kind.name, name, entry.namespace, entry.order - 1, created=True, fields=(uid,))


def why_csv_stays(client: ClusterClient, entry: Entry, live: Body, gone: Collection[str]) -> str:
    """Return why a ClusterServiceVersion is not deleted; empty where it is. Raises ClusterError.

    `gone`: the Subscriptions that are deleted before it.
    """
    if str(live["metadata"].get("uid") or "") != entry.fields[0].after:
        return "it was installed again since"
    # Another Subscription may have taken it over meanwhile.
    others = client.list(SUBSCRIPTION, entry.namespace) or []
    named = [each["metadata"]["name"] for each in others if status_of(each).get("installedCSV") == entry.name]
    named = [name for name in named if name not in gone]
    return f"Subscription {named[0]} has it installed" if named else ""


def why_group_stays(client: ClusterClient, entry: Entry, going: Collection[tuple[str, str]]) -> str:
    """Return why an OperatorGroup is not deleted; empty where it is. Raises ClusterError.

    `going`: kind and name of what is deleted before it. Without the group, OLM fails every operator of its namespace with
    NoOperatorGroup (operator-lifecycle-manager, pkg/controller/operators/olm/operator.go, operatorGroupForCSV).
    """
    bodies = [(SUBSCRIPTION.name, each) for each in client.list(SUBSCRIPTION, entry.namespace) or []]
    # Those that may not be listed have a Subscription in most cases.
    with suppress(ForbiddenError):
        versions = client.list(CLUSTER_SERVICE_VERSION, entry.namespace, absent=COPIED_LABEL) or []
        bodies += [(CLUSTER_SERVICE_VERSION.name, each) for each in versions]
    for kind, each in bodies:
        name = str(each["metadata"]["name"])
        if (kind, name) not in going and not each["metadata"].get("deletionTimestamp"):
            return f"{kind} {name} needs it"
    return ""


def why_extension_stays(live: Body) -> str:
    """Return why a ClusterExtension is not deleted; empty for one that has installed nothing."""
    installed = (status_of(live).get("install") or {}).get("bundle") or condition(live, "Installed").get("status") == "True"
    if not installed:
        return ""
    name = live["metadata"]["name"]
    return f"OLM v1 would delete its CustomResourceDefinitions and all custom resources: oc delete clusterextension {name}"


def why_account_stays(client: ClusterClient, entry: Entry, live: Body) -> str:
    """Return why the account of OLM v1, or its rights, stay; empty where they go. Raises ClusterError."""
    names = {(entry.namespace, entry.name)} if entry.kind == SERVICE_ACCOUNT.name else _subjects(entry, live)
    for body in client.list(CLUSTER_EXTENSION) or []:
        spec = body.get("spec") or {}
        if (spec.get("namespace"), (spec.get("serviceAccount") or {}).get("name")) in names and why_extension_stays(body):
            return f"ClusterExtension {body['metadata']['name']} is managed with it"
    return ""


def _subjects(entry: Entry, live: Body) -> set[tuple[str, str]]:
    subjects = live.get("subjects") or entry.written.get("subjects") or []
    return {(str(each.get("namespace")), str(each.get("name"))) for each in subjects if entry.kind == CLUSTER_ROLE_BINDING.name}
