"""What kind of cluster this is, as far as the resources depend on it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from common.errors import ClusterError
from importer.cluster.client import Body, ClusterClient
from importer.cluster.kinds import CATALOG_SOURCE, CLUSTER_VERSION, ICSP, IDMS, ITMS
from importer.cluster.mirror_precedence import listed
from importer.cluster.mirror_rules import MirrorRule
from importer.cluster.release import Release
from importer.cluster.serving import address

_LONGEST = 80
_MINOR = re.compile(r"\d{1,3}\.\d{1,3}")
_VERSION = re.compile(r"\d{1,3}\.\d{1,3}\.\d{1,5}")


def discover_release(client: ClusterClient) -> Release | None:
    """Return the OpenShift release that runs; None for a Kubernetes without ClusterVersion. Raises ClusterError."""
    return release_of(running_version(client))


def release_of(version: str | None) -> Release | None:
    """Return the release of a whole version, such as 4.18.7; None without one."""
    known = _VERSION.match(version or "") or _MINOR.fullmatch(version or "")
    return Release.parse(known[0]) if known else None


def running_version(client: ClusterClient) -> str | None:
    """Return the whole version of OpenShift that runs, such as 4.18.7; None without OpenShift. Raises ClusterError."""
    found = client.get(CLUSTER_VERSION, "version")
    if found is None:
        return None
    version = _running(found.get("status") or {})
    if _VERSION.match(version) is None:
        raise ClusterError(
            f"ClusterVersion of {client.server} names no release: {version[:_LONGEST]!r}",
            hint="Say which one it is with --openshift-release 4.N.",
        )
    return version[:_LONGEST]


def has_icsp(client: ClusterClient) -> bool:
    """Whether an ImageContentSourcePolicy exists: 4.13 and 4.14 then refuse an ImageDigestMirrorSet beside it."""
    return bool(client.list(ICSP))


def mirror_objects(client: ClusterClient, release: Release | None) -> list[Body]:
    """Return all objects with mirror rules, each with its kind: items of a list may come without. Raises ClusterError."""
    kinds = release.rule_kinds if release is not None else (ICSP, IDMS, ITMS)
    return [{**each, "apiVersion": kind.api_version, "kind": kind.name} for kind in kinds for each in client.list(kind) or []]


def mirror_rules(client: ClusterClient, release: Release | None) -> frozenset[MirrorRule]:
    """Return the mirror rules that nodes follow now. Raises ClusterError."""
    found = (each for body in mirror_objects(client, release) for each in listed(body))
    return frozenset(
        MirrorRule(each.rule.source, mirror, not each.by_tag)
        for each in found
        for mirror in each.rule.mirrors
        if mirror != each.rule.source
    )


def served_by_us(client: ClusterClient, names: Iterable[str], namespace: str) -> list[str]:
    """Return the CatalogSources, of `names`, whose catalog runs in a Deployment of ours."""
    specs = {name: (client.get(CATALOG_SOURCE, name, namespace) or {}).get("spec") or {} for name in names}
    return [name for name, spec in specs.items() if spec.get("address") == address(name, namespace)]


def _running(status: dict[str, Any]) -> str:
    """Return the newest version whose rollout was completed; during the installation the one that is wanted."""
    for entry in status.get("history") or []:
        if entry.get("state") == "Completed":
            return str(entry.get("version"))
    return str((status.get("desired") or {}).get("version"))
