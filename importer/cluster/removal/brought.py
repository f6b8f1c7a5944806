"""What OLM brought for a Subscription or ClusterExtension that `undo` takes back (ADR 0079).

A Subscription that is deleted leaves its ClusterServiceVersion, and the operator runs on. OLM's documentation uninstalls an
operator by deleting both (olm.operatorframework.io, *Uninstall your operator*): CustomResourceDefinitions and custom resources
stay. OLM v1 deletes CustomResourceDefinitions, and with them all custom resources, with the ClusterExtension
(operator-controller, *Uninstall an extension*), so `undo` deletes none that has installed something.
"""

from __future__ import annotations

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
    from importer.cluster.kinds import Kind

_UID = ("metadata", "uid")


def brought(client: ClusterClient, entry: Entry, live: Body) -> list[Entry]:
    """Return an entry for each ClusterServiceVersion that a Subscription installed, the newest last. Raises ClusterError."""
    if entry.kind != SUBSCRIPTION.name or not entry.created:
        return []
    found: dict[str, Entry] = {}
    waiting = _versions_of(live)
    while waiting:
        name = waiting.pop(0)
        if name and name not in found and (body := _original(client, name, entry.namespace)) is not None:
            found[name] = _version(body, name, entry)
            # While an update has not succeeded, the version that it replaces is there too, and runs on when the new one is gone
            # (operator-lifecycle-manager, pkg/controller/operators/olm/operator.go, CSVPhaseReplacing).
            waiting.insert(0, str((body.get("spec") or {}).get("replaces") or ""))
    return list(reversed(found.values()))


def _versions_of(subscription: Body) -> list[str]:
    """Return the ClusterServiceVersions of a Subscription: the current one may be there before it counts as installed."""
    return [str(status_of(subscription).get(name) or "") for name in ("currentCSV", "installedCSV")]


def _original(client: ClusterClient, name: str, namespace: str) -> Body | None:
    body = client.get(CLUSTER_SERVICE_VERSION, name, namespace)
    return body if body is not None and COPIED_LABEL not in (body["metadata"].get("labels") or {}) else None


def _version(body: Body, name: str, entry: Entry) -> Entry:
    """Return the entry for a ClusterServiceVersion that came with the Subscription of `entry`."""
    kind, uid = CLUSTER_SERVICE_VERSION, str(body["metadata"].get("uid") or "")
    fields = (FieldChange(_UID, existed=False, before=None, after=uid),)
    # Before the OperatorGroup that was written first, and after the Subscription, for which OLM would install it again.
    return Entry(kind.api_version, kind.name, name, entry.namespace, entry.order - 1, created=True, fields=fields)


def why_csv_stays(client: ClusterClient, entry: Entry, live: Body, gone: Collection[str]) -> str:
    """Return why a ClusterServiceVersion is not deleted; empty where it is. Raises ClusterError.

    `gone`: the Subscriptions that are deleted before it.
    """
    if str(live["metadata"].get("uid") or "") != entry.fields[0].after:
        return "it was installed again since"
    # Another Subscription may have taken it over meanwhile.
    others = _others(client, SUBSCRIPTION, entry.namespace)
    if others is None:
        return _unlisted(SUBSCRIPTION)
    named = [each["metadata"]["name"] for each in others if entry.name in _versions_of(each)]
    named = [name for name in named if name not in gone]
    return f"Subscription {named[0]} has it installed" if named else ""


def why_group_stays(client: ClusterClient, entry: Entry, going: Collection[tuple[str, str]]) -> str:
    """Return why an OperatorGroup is not deleted; empty where it is. Raises ClusterError.

    `going`: kind and name of what is deleted before it. Without the group, OLM fails every operator of its namespace with
    NoOperatorGroup (operator-lifecycle-manager, pkg/controller/operators/olm/operator.go, operatorGroupForCSV).
    """
    # An operator may be there without a Subscription, which somebody deleted: both kinds are looked at.
    for kind in (SUBSCRIPTION, CLUSTER_SERVICE_VERSION):
        bodies = _others(client, kind, entry.namespace)
        if bodies is None:
            return _unlisted(kind)
        for each in bodies:
            name = str(each["metadata"]["name"])
            if (kind.name, name) not in going and not each["metadata"].get("deletionTimestamp"):
                return f"{kind.name} {name} needs it"
    return ""


def _others(client: ClusterClient, kind: Kind, namespace: str = "") -> list[Body] | None:
    """Return the objects of a kind, without copies of OLM; None where they may not be listed. Raises ClusterError."""
    try:
        return client.list(kind, namespace, absent=COPIED_LABEL) or []
    except ForbiddenError:
        return None


def _unlisted(kind: Kind) -> str:
    # What is not seen may depend on the object: it stays, and all else is undone.
    return f"{kind.plural}, which may not be listed"


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
    extensions = _others(client, CLUSTER_EXTENSION)
    if extensions is None:
        return _unlisted(CLUSTER_EXTENSION)
    for body in extensions:
        spec = body.get("spec") or {}
        if (spec.get("namespace"), (spec.get("serviceAccount") or {}).get("name")) in names and why_extension_stays(body):
            return f"ClusterExtension {body['metadata']['name']} is managed with it"
    return ""


def _subjects(entry: Entry, live: Body) -> set[tuple[str, str]]:
    subjects = live.get("subjects") or entry.written.get("subjects") or []
    return {(str(each.get("namespace")), str(each.get("name"))) for each in subjects if entry.kind == CLUSTER_ROLE_BINDING.name}
