"""`hub-import probe`: what the other side has to know of this one. A part that cannot be seen does not stop the rest."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from common.errors import ClusterError, HubError, RegistryError
from common.log import logger
from common.oci import media_types
from common.oci.image import Descriptor, digest_of
from common.oci.reference import Reference
from common.registry.client import RegistryClient
from common.target_profile import MEDIA_TYPE, InstalledOperator, TargetProfile, TargetRegistry
from importer.cluster.client import Body, ClusterClient, ForbiddenError, UnavailableError, connect
from importer.cluster.discovery import running_version
from importer.cluster.kinds import CLUSTER_SERVICE_VERSION, NODE, SUBSCRIPTION, Kind, status_of
from importer.cluster.resources.permissions import Permission

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from importer.settings import ClusterSettings, ImportSettings

# What could not be seen, in words that may leave the site: what was tried, and never what the other end said to it.
#
# An API server names the user in its refusals, and errors name its address; neither is anybody's business on the other side.

T = TypeVar("T")


@dataclass(slots=True)
class Unseen:
    """Collects notes. `server` is the address of the cluster, which no note shows."""

    server: str = ""
    notes: list[str] = field(default_factory=list)
    errors: list[HubError] = field(default_factory=list)

    def seen(self, what: str, look: Callable[[], T]) -> T | None:
        """Return what `look` finds; None, and a note, when it may not or cannot."""
        try:
            return look()
        except HubError as error:
            self.note(what, error)
            return None

    def note(self, what: str, error: HubError) -> None:
        """Note why something is not known."""
        self.errors.append(error)
        self.notes.append(f"{what}: {self._why(error)}")

    def _why(self, error: HubError) -> str:
        """Return our own words of a message: of the cluster's its first clause, of a registry's what is outside of brackets."""
        message = error.message.replace(self.server, "the cluster") if self.server else error.message
        return message.partition(": " if isinstance(error, ClusterError) else " (")[0]


# What a mirror takes, found out by trying: a tiny image in a repository of our own, written and taken away again.

REPOSITORY = "hub-import-probe"
_NESTED = "a/b/c"
_NOTHING = b"{}"
_CANNOT = frozenset({400, 404, 405, 415, 422, 501})
_ABSENT = digest_of(b"a manifest that was never written")
_LOG = logger(__name__)


@dataclass(frozen=True, slots=True)
class Accepts:
    """What a registry takes; None: it could not be told."""

    nested_paths: bool | None = None
    sparse_indexes: bool | None = None
    referrers: bool | None = None


def probe_registry(client: RegistryClient, repository: Reference, unseen: Unseen) -> Accepts:
    """Try all three in `repository`, and delete what was written where the registry lets us.

    `unseen` gets why something could not be told; the log says what could not be deleted.
    """
    trial = _Trial(client, repository, unseen)
    try:
        return trial.answers()
    finally:
        trial.tidy()


@dataclass(slots=True)
class _Trial:
    client: RegistryClient
    repository: Reference
    unseen: Unseen
    manifests: list[Reference] = field(default_factory=list)
    blobs: list[Reference] = field(default_factory=list)

    def answers(self) -> Accepts:
        image, place = _image(), self.repository
        if self.unseen.seen("writing to the mirror", lambda: self._push(place, image)) is None:
            return Accepts()
        deep = Reference(place.registry, f"{place.repository}/{_NESTED}")
        return Accepts(
            nested_paths=self._taken("nested paths", lambda: self._push(deep, image)),
            sparse_indexes=self._taken("sparse indexes", lambda: self._put(place, _sparse_index(image), media_types.OCI_INDEX)),
            referrers=self.unseen.seen("referrers", lambda: self.client.has_referrers_api(place.pinned(digest_of(image)))),
        )

    def tidy(self) -> None:
        """Delete what was written, the newest first. Blobs that stay are for the registry's own garbage collection."""
        left: HubError | None = None
        for reference in reversed(self.manifests):
            left = self._deleted(self.client.delete, reference) or left
        for reference in self.blobs:
            self._deleted(self.client.delete_blob, reference)
        if left is not None:
            _LOG.warning("a few hundred bytes stay in %s: %s", self.repository.name, left.message)

    def _taken(self, what: str, attempt: Callable[[], bool]) -> bool | None:
        """Tell a registry that cannot from one that would not let us: only the first is an answer."""
        try:
            return attempt()
        except HubError as error:
            if isinstance(error, RegistryError) and error.status in _CANNOT:
                return False
            self.unseen.note(what, error)
            return None

    def _push(self, repository: Reference, image: bytes) -> bool:
        blob = Descriptor(media_types.OCI_EMPTY, digest_of(_NOTHING), len(_NOTHING))
        if not self.client.has_blob(repository, blob.digest, blob.size):
            self.blobs.append(repository.pinned(blob.digest))
            self.client.upload(repository, blob, lambda start: iter([memoryview(_NOTHING)[start:]]))
        return self._put(repository, image, media_types.OCI_MANIFEST)

    def _put(self, repository: Reference, raw: bytes, media_type: str) -> bool:
        reference = repository.pinned(digest_of(raw))
        self.client.put_manifest(reference, raw, media_type)
        self.manifests.append(reference)
        return True

    def _deleted(self, delete: Callable[[Reference], None], reference: Reference) -> HubError | None:
        try:
            delete(reference)
        except HubError as error:
            return error
        return None


def _image() -> bytes:
    empty = {"mediaType": media_types.OCI_EMPTY, "digest": digest_of(_NOTHING), "size": len(_NOTHING)}
    kinds = {"mediaType": media_types.OCI_MANIFEST, "artifactType": media_types.OCI_EMPTY}
    return _encoded({**kinds, "config": empty, "layers": [empty]})


def _sparse_index(image: bytes) -> bytes:
    there = {"digest": digest_of(image), "size": len(image), "platform": {"os": "linux", "architecture": "amd64"}}
    absent = {"digest": _ABSENT, "size": 500, "platform": {"os": "linux", "architecture": "arm64"}}
    children = [{"mediaType": media_types.OCI_MANIFEST, **child} for child in (there, absent)]
    return _encoded({"mediaType": media_types.OCI_INDEX, "manifests": children})


def _encoded(document: dict[str, object]) -> bytes:
    return json.dumps({"schemaVersion": 2, **document}).encode()


# What runs on a cluster already: the platforms of its nodes, the operators that Subscriptions keep up to date. Reads only.

READS = (Permission(NODE, "list"), Permission(SUBSCRIPTION, "list"), Permission(CLUSTER_SERVICE_VERSION, "get"))
"""What this module has to be allowed to do, for `render --rbac`; `probe` goes on without."""


def node_platforms(client: ClusterClient) -> tuple[str, ...]:
    """Return the platforms of the nodes (`linux/amd64`), sorted. Raises ClusterError, also when no node says one."""
    found = {platform for node in _listed(client, NODE) for platform in _platform(node)}
    if not found:
        raise ClusterError("no node says its architecture")
    return tuple(sorted(found))


def installed_operators(client: ClusterClient, unseen: Unseen) -> tuple[InstalledOperator, ...]:
    """Return the operators that Subscriptions have installed, sorted; versions that are not to be read are noted in `unseen`.

    Raises ClusterError when the Subscriptions cannot be listed.
    """
    found = []
    for subscription in _listed(client, SUBSCRIPTION):
        spec, csv = subscription.get("spec") or {}, str(status_of(subscription).get("installedCSV") or "")
        if not csv:
            continue
        namespace = str(subscription["metadata"].get("namespace", ""))
        version = unseen.seen(f"version of {csv}", partial(_version, client, csv, namespace))
        package, channel, catalog = (str(spec.get(key) or "") for key in ("name", "channel", "source"))
        found.append(InstalledOperator(package, channel, csv, version, catalog, namespace))
    return tuple(sorted(found, key=lambda one: (one.package, one.namespace, one.csv)))


def _listed(client: ClusterClient, kind: Kind) -> list[Body]:
    """Return the objects of a kind. No such kind is not the same as none of them: it raises ClusterError."""
    found = client.list(kind)
    if found is None:
        raise ClusterError(f"the cluster has no {kind.path}")
    return found


def _version(client: ClusterClient, csv: str, namespace: str) -> str | None:
    found = client.get(CLUSTER_SERVICE_VERSION, csv, namespace)
    if found is None:
        raise ClusterError("the cluster has no such ClusterServiceVersion")
    version = (found.get("spec") or {}).get("version")
    return str(version) if version else None


def _platform(node: Body) -> Iterator[str]:
    info = status_of(node).get("nodeInfo") or {}
    system, architecture = info.get("operatingSystem") or "linux", info.get("architecture")
    if architecture:
        yield f"{system}/{architecture}"


_Site = tuple[str | None, tuple[str, ...] | None, tuple[InstalledOperator, ...] | None]


def probe(settings: ImportSettings, cluster: ClusterSettings) -> TargetProfile:
    """Return the profile of the cluster and of the mirror. Into the mirror it writes a few hundred bytes, and takes them away.

    Raises ClusterError when the cluster does not answer, or not to us, UsageError for a wrong kubeconfig.
    """
    with connect(cluster.kubeconfig, cluster.context) as client:
        unseen = Unseen(client.server)
        release, platforms, operators = _site(client, unseen)
    registry = _registry(settings, unseen)
    return TargetProfile(MEDIA_TYPE, release, platforms, operators, registry, tuple(unseen.notes))


def _site(client: ClusterClient, unseen: Unseen) -> _Site:
    """Look at the cluster. Where everything fails, and not for want of permission, there is no cluster to tell of."""
    release = unseen.seen("release", lambda: running_version(client))
    failed = unseen.errors[0] if unseen.errors else None
    if isinstance(failed, UnavailableError):
        raise failed
    platforms = unseen.seen("nodes", lambda: node_platforms(client))
    operators = unseen.seen("installed operators", lambda: installed_operators(client, unseen))
    if failed and platforms is None and operators is None and not isinstance(failed, ForbiddenError):
        raise failed
    return release, platforms, operators


def _registry(settings: ImportSettings, unseen: Unseen) -> TargetRegistry:
    mirror = settings.mirror

    def ask() -> Accepts:
        with RegistryClient(settings.registry, pushes_to=frozenset({str(mirror)})) as client:
            client.ping(str(mirror))
            return probe_registry(client, mirror.at(REPOSITORY), unseen)

    found = unseen.seen("mirror", ask) or Accepts()
    return TargetRegistry(str(mirror), found.nested_paths, found.sparse_indexes, found.referrers)
