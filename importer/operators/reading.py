"""Reads the operators of a cluster with a handful of lists. Changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from importer.cluster.api.client import Body, ClusterClient, ForbiddenError
from importer.cluster.api.namespaces import names_of, one_by_one
from importer.cluster.kinds import (
    CATALOG_SOURCE,
    CLUSTER_CATALOG,
    CLUSTER_EXTENSION,
    CLUSTER_SERVICE_VERSION,
    COPIED_LABEL,
    SUBSCRIPTION,
)
from importer.cluster.resources.catalog_source import namespace_for
from importer.operators.installed import Csv, CsvKey, Extension, Installed, SourceKey, Sources, Subscribed

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from importer.cluster.release import Release


def read(client: ClusterClient, namespace: str, release: Release | None) -> Installed:
    """Return the operators of all namespaces that may be read. `namespace`: that of the catalogs. Raises ClusterError."""
    bodies, refused, hidden = _subscriptions(client)
    subscribed = [Subscribed.of(each) for each in bodies]
    extensions: Sequence[Extension] = ()
    unseen = ""
    catalogs: Mapping[str, int] | None = {}
    if release is not None and release.has_cluster_catalog:
        extensions, unseen = _extensions(client)
        # Asked for only where something depends on them.
        catalogs = _cluster_catalogs(client) if extensions else {}
    return Installed(
        subscribed, sources_of(client, namespace), _csvs(client, subscribed), extensions, catalogs, refused, hidden, unseen
    )


def read_operators(client: ClusterClient, release: Release | None) -> Installed:
    """Return the operators of a cluster; none where not even its catalogs may be read. Raises ClusterError."""
    namespace = namespace_for(release)
    try:
        return read(client, namespace, release)
    except ForbiddenError as error:  # preflight lists the missing permissions
        return Installed((), Sources({}, namespace, everywhere=False), refused=error.message)


def sources_of(client: ClusterClient, namespace: str) -> Sources:
    """Return all CatalogSources, or only those of `namespace` where others may not be read. Raises ClusterError."""
    try:
        bodies = client.list(CATALOG_SOURCE)
        return Sources(_by_key(bodies), namespace, classic=bodies is not None)
    except ForbiddenError:
        return Sources(_by_key(client.list(CATALOG_SOURCE, namespace)), namespace, everywhere=False)


def _by_key(bodies: Iterable[Body] | None) -> dict[SourceKey, Body]:
    # One that is being deleted no longer serves anything.
    found = (each for each in bodies or () if not each["metadata"].get("deletionTimestamp"))
    return {(str(each["metadata"].get("namespace") or ""), str(each["metadata"]["name"])): each for each in found}


def _subscriptions(client: ClusterClient) -> tuple[list[Body], str, str]:
    """Return the Subscriptions of all readable namespaces, and where there are others, why and where."""
    try:
        return client.list(SUBSCRIPTION) or [], "", ""
    except ForbiddenError as error:
        refused = error.message
    namespaces = names_of(client)
    found, hidden = one_by_one(namespaces, lambda namespace: client.list(SUBSCRIPTION, namespace) or [])
    if namespaces and not hidden:
        return found, "", ""
    return found, refused, f"{hidden} of {len(namespaces)} namespaces" if namespaces else ""


def _csvs(client: ClusterClient, subscribed: Sequence[Subscribed]) -> dict[CsvKey, Csv]:
    """Return the installed ClusterServiceVersions, as far as they may be read."""
    wanted = {(one.namespace, one.installed) for one in subscribed if one.installed}
    if not wanted:
        return {}
    try:
        bodies = client.list(CLUSTER_SERVICE_VERSION, absent=COPIED_LABEL) or []
    except ForbiddenError:
        return _csvs_by_name(client, wanted)
    found = {(str(each["metadata"].get("namespace") or ""), str(each["metadata"]["name"])): each for each in bodies}
    return {key: Csv.of(found[key]) for key in wanted & found.keys()}


def _csvs_by_name(client: ClusterClient, wanted: Collection[CsvKey]) -> dict[CsvKey, Csv]:
    found = {}
    for namespace, name in sorted(wanted):
        try:
            body = client.get(CLUSTER_SERVICE_VERSION, name, namespace)
        except ForbiddenError:
            continue  # the table shows the name without a version
        if body is not None:
            found[namespace, name] = Csv.of(body)
    return found


def _extensions(client: ClusterClient) -> tuple[list[Extension], str]:
    """Return the ClusterExtensions, and why they may not be listed."""
    try:
        return [Extension.of(each) for each in client.list(CLUSTER_EXTENSION) or []], ""
    except ForbiddenError as error:
        return [], error.message


def _cluster_catalogs(client: ClusterClient) -> dict[str, int] | None:
    """Return the priorities of the ClusterCatalogs that OLM v1 uses; None where they may not be listed."""
    try:
        return available_catalogs(client) or {}
    except ForbiddenError:
        return None


def available_catalogs(client: ClusterClient) -> dict[str, int] | None:
    """Return the ClusterCatalogs that OLM v1 uses, with their priorities; None without OLM v1. Raises ClusterError."""
    bodies = client.list(CLUSTER_CATALOG)
    if bodies is None:
        return None
    specs = {str(each["metadata"]["name"]): each.get("spec") or {} for each in bodies}
    return {
        name: spec["priority"] if isinstance(spec.get("priority"), int) else 0
        for name, spec in specs.items()
        if spec.get("availabilityMode") != "Unavailable"
    }
