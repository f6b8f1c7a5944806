"""Discovery of a cluster: its identity and release, and the mirror rules and catalogs that it has."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from common.errors import ClusterError
from common.openshift.supported_releases import kubernetes_of, version_of
from importer.cluster.api.client import Body, ClusterClient, ForbiddenError, UnavailableError
from importer.cluster.kinds import (
    CATALOG_SOURCE,
    CLUSTER_CATALOG,
    CLUSTER_VERSION,
    ICSP,
    IDMS,
    INFRASTRUCTURE,
    ITMS,
    has_own_label,
    source_image,
    status_of,
)
from importer.cluster.microshift import microshift_version
from importer.cluster.record import expected_catalogs
from importer.cluster.release import Release
from importer.cluster.resources.catalog_source import address
from importer.cluster.resources.mirror_rules import MirrorRule, listed
from importer.cluster.resources.names import ServedCatalog

if TYPE_CHECKING:
    from collections.abc import Iterable

    from common.openshift.supported_releases import Kubernetes

_LONGEST = 80
_MINOR = re.compile(r"\d{1,3}\.\d{1,3}")
# Nightly builds and release candidates have a suffix: 4.18.0-0.nightly-2025-01-01-000000.
_VERSION = re.compile(r"\d{1,3}\.\d{1,3}\.\d{1,5}")


def release_of(version: str | None) -> Release | None:
    """Return the release of a whole version, such as 4.18.7; None without one."""
    # A release alone, such as 4.18, comes from --openshift-release.
    known = _VERSION.match(version or "") or _MINOR.fullmatch(version or "")
    return Release.parse(known[0]) if known else None


def running_version(client: ClusterClient) -> str | None:
    """Return the whole version of OpenShift or MicroShift that runs, such as 4.18.7; None without. Raises ClusterError."""
    return _running_version(client)[0]


def _running_version(client: ClusterClient) -> tuple[str | None, bool]:
    """Return the version, and whether it is that of MicroShift."""
    found = client.get(CLUSTER_VERSION, "version")
    version = microshift_version(client) if found is None else _running(found.get("status") or {})
    if version is None:
        return None, False
    if _VERSION.match(version) is None:
        where = "ClusterVersion" if found is not None else "ConfigMap kube-public/microshift-version"
        raise ClusterError(
            f"{where} of {client.server} names no release: {version[:_LONGEST]!r}",
            hint="Name it with --openshift-release 4.N.",
        )
    return version[:_LONGEST], found is None


def has_icsp(client: ClusterClient) -> bool:
    """Return whether an ImageContentSourcePolicy exists: 4.13 and 4.14 cannot combine it with an ImageDigestMirrorSet."""
    return bool(client.list(ICSP))


def mirror_objects(client: ClusterClient, release: Release | None) -> list[Body]:
    """Return all objects with mirror rules, each with its kind. Raises ClusterError."""
    kinds = release.rule_kinds if release is not None else (ICSP, IDMS, ITMS)
    # Items of a list have no `kind` of their own.
    return [{**each, "apiVersion": kind.api_version, "kind": kind.name} for kind in kinds for each in client.list(kind) or []]


def mirror_rules(client: ClusterClient, release: Release | None) -> frozenset[MirrorRule]:
    """Return the mirror rules that nodes follow now. Raises ClusterError."""
    found = (each for body in mirror_objects(client, release) for each in listed(body))
    return frozenset(
        MirrorRule(each.rule.source, mirror, not each.by_tag)
        for each in found
        for mirror in each.rule.mirrors
        # A source may list itself as a mirror, to set its place in the order of attempts.
        if mirror != each.rule.source
    )


def served_by_us(client: ClusterClient, names: Iterable[str], namespace: str) -> list[str]:
    """Return those of the CatalogSources `names` whose catalog runs in a Deployment of hub-import."""
    specs = {name: (client.get(CATALOG_SOURCE, name, namespace) or {}).get("spec") or {} for name in names}
    return [name for name, spec in specs.items() if spec.get("address") == address(name, namespace)]


def own_sources(client: ClusterClient, record: str, namespace: str) -> list[ServedCatalog]:
    """Return the CatalogSources of hub-import, with the catalogs that the record in namespace `record` has for them.

    None where they may not be read: preflight lists the missing permissions.
    """
    try:
        known = {each.name: each for each in expected_catalogs(client, record) if each.namespace == namespace}
        bodies = client.list(CATALOG_SOURCE, namespace)
        if bodies is None:  # no OLM (Classic): OLM v1 has each catalog under the same name
            bodies = client.list(CLUSTER_CATALOG) or []
    except ForbiddenError:
        return []
    found = []
    for body in bodies:
        metadata, spec = body["metadata"], body.get("spec") or {}
        if metadata.get("deletionTimestamp") or not has_own_label(body):
            continue
        expected = known.get(str(metadata["name"]))
        # One by address has no image; one whose image another account has changed is not what the record says.
        image = str(spec.get("image") or source_image(body) or (expected.image if expected and spec.get("address") else ""))
        if expected is not None and expected.image == image:
            found.append(ServedCatalog(expected.name, expected.catalog, image, frozenset(expected.packages)))
        else:
            found.append(ServedCatalog(str(metadata["name"]), "", image))
    return found


def _running(status: dict[str, Any]) -> str:
    """Return the newest version whose rollout was completed; during the installation the desired one."""
    for entry in status.get("history") or []:
        # The newest entry is first (openshift/api, config/v1: ClusterVersionStatus.History); one in progress is
        # Partial.
        if entry.get("state") == "Completed":
            return str(entry.get("version"))
    return str((status.get("desired") or {}).get("version"))


# The identity of a cluster: shown before a question, in results, on the page of a deploy.


@dataclass(frozen=True, slots=True)
class ClusterIdentity:
    """The address of the API, the context of the kubeconfig (None in a pod, by its service account), and the version.

    `version` is OpenShift's, such as 4.18.7, or that of MicroShift; None where it is missing, or cannot be read. `treated_as`:
    another release, given by an option. `hosted`: it is the guest of a hosted control plane. It has no user and no credential.
    """

    server: str
    context: str | None
    version: str | None
    treated_as: Release | None = None
    microshift: bool = False
    hosted: bool = False

    def __str__(self) -> str:
        where = f"context {self.context}" if self.context is not None else "service account of this pod"
        version = (
            f"{'MicroShift' if self.microshift else 'OpenShift'} {self.version}" if self.version else "no OpenShift version"
        )
        return f"Cluster {self.server} ({where}, {version}{f', treated as {self.treated_as}' if self.treated_as else ''})"

    @property
    def release(self) -> Release | None:
        """The release of the version, or the one that was given."""
        found = self.treated_as or release_of(self.version)
        return replace(found, microshift=self.microshift, hosted=self.hosted) if found is not None else None


def identify(client: ClusterClient, given: Release | None = None) -> ClusterIdentity:
    """Return the identity of a cluster; `given` is its release where it does not report one. Raises ClusterError."""
    microshift = False
    try:
        version, microshift = _running_version(client)
    except UnavailableError:
        raise
    except ClusterError:
        # An account without permission for ClusterVersion can still import with --openshift-release.
        if given is None:
            raise
        version = str(given)
    # The effects on nodes in the same line are those of the release that was given.
    other = given if given is not None and given != release_of(version) else None
    hosted = version is not None and not microshift and is_hosted(client)
    return ClusterIdentity(client.server, client.context, version, other, microshift, hosted)


def kubernetes_version(client: ClusterClient, release: Release | None) -> Kubernetes:
    """Return the version of Kubernetes, which OLM compares; that of the release where the server says none."""
    in_release = kubernetes_of((release.major, release.minor)) if release is not None else None
    return version_of(client.version()) or in_release or ()


def is_hosted(client: ClusterClient) -> bool:
    """Return whether the cluster is the guest of a hosted control plane (HyperShift). Raises ClusterError."""
    try:
        found = client.get(INFRASTRUCTURE, "cluster")
    except ForbiddenError:  # preflight lists the missing permission
        return False
    return found is not None and status_of(found).get("controlPlaneTopology") == "External"
