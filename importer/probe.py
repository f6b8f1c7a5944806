"""`hub-import probe`: the target profile of a cluster and a mirror, for the online side.

A part that cannot be read does not stop the others. It is null in the profile, and has a note (ADR 0016).
"""

from __future__ import annotations

import gzip
import json
import logging
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from common.content import in_memory
from common.errors import ClusterError, HubError, RegistryError
from common.oci import media_types
from common.oci.image import Descriptor, digest_of
from common.oci.reference import Reference
from common.registry.client import RegistryClient
from common.target_profile import MEDIA_TYPE, InstalledOperator, TargetProfile, TargetRegistry
from importer.cluster.api.client import Body, ClusterClient, ForbiddenError, UnavailableError, connect
from importer.cluster.api.discovery import running_version
from importer.cluster.kinds import CLUSTER_SERVICE_VERSION, NODE, SUBSCRIPTION, Kind, status_of
from importer.cluster.resources.permissions import Permission

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from importer.settings import ClusterSettings, ImportSettings


T = TypeVar("T")

REPOSITORY = "hub-import-probe"  # one that nothing else uses: what cannot be deleted stays apart from images
_NESTED = "a/b/c"  # registries without nesting take two components at most, such as ORGANIZATION/REPOSITORY
_TAR = bytes(1024)  # no files
_LAYER = gzip.compress(_TAR, mtime=0)
_CONFIG = json.dumps(
    {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": [digest_of(_TAR)]}}
).encode()
# The answers of registries to what they do not support. 401 and 403 are not among them: a missing right says nothing about the
# registry.
_UNSUPPORTED = frozenset({400, 404, 405, 415, 422, 501})
_ABSENT = digest_of(b"a manifest that was never written")
_LOG = logging.getLogger(__name__)

READS = (Permission(NODE, "list"), Permission(SUBSCRIPTION, "list"), Permission(CLUSTER_SERVICE_VERSION, "get"))
"""The permissions that this module uses, for `render --rbac`; without them, `probe` has notes instead of values."""

_Site = tuple[str | None, tuple[str, ...] | None, tuple[InstalledOperator, ...] | None]


_CLUSTER_PARTS = ("release", "nodes", "installed operators")
_NOT_ASKED = "no cluster was asked (--no-cluster)"


def probe(settings: ImportSettings, cluster: ClusterSettings | None) -> TargetProfile:
    """Return the profile of the cluster and the mirror. Writes a few hundred bytes to the mirror, and deletes them again.

    Without a cluster its values are null, with notes.
    Raises ClusterError when the cluster does not answer or refuses the credentials, UsageError for a wrong kubeconfig;
    without a cluster also the errors of the mirror, where nothing is known of it either.
    """
    if cluster is None:
        redaction = Redaction(notes=[f"{part}: {_NOT_ASKED}" for part in _CLUSTER_PARTS])
        registry = _registry(settings, redaction)
        if redaction.errors and (registry.nested_paths, registry.sparse_indexes, registry.referrers) == (None, None, None):
            raise redaction.errors[0]
        return TargetProfile(MEDIA_TYPE, None, None, None, registry, tuple(redaction.notes))
    with connect(cluster.kubeconfig, cluster.context) as client:
        redaction = Redaction(client.server)
        release, platforms, operators = _site(client, redaction)
    registry = _registry(settings, redaction)
    return TargetProfile(MEDIA_TYPE, release, platforms, operators, registry, tuple(redaction.notes))


def _site(client: ClusterClient, redaction: Redaction) -> _Site:
    """Return release, platforms and operators. Raises ClusterError when all three fail for other reasons than permissions."""
    of_release, of_nodes, of_operators = _CLUSTER_PARTS
    release = redaction.attempt(of_release, lambda: running_version(client))
    failed = redaction.errors[0] if redaction.errors else None
    # A profile of an API server that does not answer would only have notes, and each further request would take its timeout.
    if isinstance(failed, UnavailableError):
        raise failed
    platforms = redaction.attempt(of_nodes, lambda: node_platforms(client))
    operators = redaction.attempt(of_operators, lambda: installed_operators(client, redaction))
    if failed and platforms is None and operators is None and not isinstance(failed, ForbiddenError):
        raise failed
    return release, platforms, operators


def _registry(settings: ImportSettings, redaction: Redaction) -> TargetRegistry:
    mirror = settings.mirror

    def ask() -> Abilities:
        # `pushes_to`: a token with `push` from the first question on, as in `push` (ADR 0031).
        with RegistryClient(settings.registry, pushes_to=frozenset({str(mirror)})) as client:
            client.ping(str(mirror))
            return probe_registry(client, mirror.at(REPOSITORY), redaction)

    found = redaction.attempt("mirror", ask) or Abilities()
    return TargetRegistry(str(mirror), found.nested_paths, found.sparse_indexes, found.referrers)


@dataclass(slots=True)
class Redaction:
    """Notes about values that are not known, without text of the site. `server`: the address of the cluster.

    The profile leaves a closed network. An API server names the user in its refusals, and errors name its address; a note names
    the failed step, without words of the other end (ADR 0016).
    """

    server: str = ""
    notes: list[str] = field(default_factory=list)
    errors: list[HubError] = field(default_factory=list)

    def attempt(self, what: str, read: Callable[[], T]) -> T | None:
        """Return the result of `read`; None, and a note, when it raises HubError."""
        try:
            return read()
        except HubError as error:
            self.note(what, error)
            return None

    def note(self, what: str, error: HubError) -> None:
        """Add a note about a value that is not known."""
        self.errors.append(error)
        self.notes.append(f"{what}: {self._why(error)}")

    def _why(self, error: HubError) -> str:
        """Return the part of a message that this program wrote."""
        # The cluster's words follow the first colon, a registry's are in brackets (common/registry/http/errors.py).
        message = error.message.replace(self.server, "the cluster") if self.server else error.message
        return message.partition(": " if isinstance(error, ClusterError) else " (")[0]


# The cluster: platforms of its nodes, and operators that Subscriptions keep up to date. Reads only.


def node_platforms(client: ClusterClient) -> tuple[str, ...]:
    """Return the platforms of the nodes (`linux/amd64`), sorted. Raises ClusterError, also when no node has one."""
    found = {platform for node in _listed(client, NODE) for platform in _platform(node)}
    if not found:
        raise ClusterError("no node says its architecture")
    return tuple(sorted(found))


def installed_operators(client: ClusterClient, redaction: Redaction) -> tuple[InstalledOperator, ...]:
    """Return the operators that Subscriptions have installed, sorted; unreadable versions are noted in `redaction`.

    Raises ClusterError when the Subscriptions cannot be listed.
    """
    found = []
    for subscription in _listed(client, SUBSCRIPTION):
        spec, csv = subscription.get("spec") or {}, str(status_of(subscription).get("installedCSV") or "")
        if not csv:
            continue  # nothing is installed yet, so nothing can be stranded
        namespace = str(subscription["metadata"].get("namespace", ""))
        version = redaction.attempt(f"version of {csv}", partial(_version, client, csv, namespace))
        package, channel, catalog = (str(spec.get(key) or "") for key in ("name", "channel", "source"))
        found.append(InstalledOperator(package, channel, csv, version, catalog, namespace))
    return tuple(sorted(found, key=lambda one: (one.package, one.namespace, one.csv)))


def _listed(client: ClusterClient, kind: Kind) -> list[Body]:
    """Return the objects of a kind. Raises ClusterError when the cluster does not have the kind."""
    # Not an empty list: without OLM, "no operators" would be a wrong answer.
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
    # `operatingSystem` is `linux` unless a Windows node says otherwise; the architecture has no such default.
    system, architecture = info.get("operatingSystem") or "linux", info.get("architecture")
    if architecture:
        yield f"{system}/{architecture}"


# The mirror: its abilities, found out with a tiny image in a repository of its own, which is deleted again.


@dataclass(frozen=True, slots=True)
class Abilities:
    """The abilities of a registry; None: not known."""

    nested_paths: bool | None = None
    sparse_indexes: bool | None = None
    referrers: bool | None = None


def probe_registry(client: RegistryClient, repository: Reference, redaction: Redaction) -> Abilities:
    """Try all three in `repository`, and delete the written content where the registry allows it.

    `redaction` gets the reasons for unknown abilities; the log says what could not be deleted.
    """
    trial = _RegistryTrial(client, repository, redaction)
    try:
        return trial.run()
    finally:
        trial.clean_up()


@dataclass(slots=True)
class _RegistryTrial:
    client: RegistryClient
    repository: Reference
    redaction: Redaction
    manifests: list[Reference] = field(default_factory=list)
    blobs: list[Reference] = field(default_factory=list)

    def run(self) -> Abilities:
        image, place = _image(), self.repository
        # An account that may not write at all would make every ability look unsupported.
        if self.redaction.attempt("writing to the mirror", lambda: self._push(place, image)) is None:
            return Abilities()
        # Not below `place`: Pulp takes deep paths, but no repository below another (NAME_INVALID, "Repository is read-only").
        deep = Reference(place.registry, f"{place.repository}-nested/{_NESTED}")
        return Abilities(
            nested_paths=self._is_supported("nested paths", lambda: self._push(deep, image)),
            sparse_indexes=self._is_supported(
                "sparse indexes", lambda: self._put(place, _sparse_index(image), media_types.OCI_INDEX)
            ),
            referrers=self.redaction.attempt(
                "referrers", lambda: self.client.has_referrers_api(place.pinned(digest_of(image)))
            ),
        )

    def clean_up(self) -> None:
        """Delete the written content, the newest first."""
        # The newest first: some registries refuse to delete a manifest that an index names. Many do not delete blobs at all;
        # their garbage collection does.
        left: HubError | None = None
        for reference in reversed(self.manifests):
            left = self._delete(self.client.delete, reference) or left
        for reference in self.blobs:
            self._delete(self.client.delete_blob, reference)
        if left is not None:
            _LOG.warning("a few hundred bytes stay in %s: %s", self.repository.name, left.message)

    def _is_supported(self, what: str, attempt: Callable[[], bool]) -> bool | None:
        """Return whether an attempt was accepted; None, and a note, for errors that say nothing about the ability."""
        try:
            return attempt()
        except HubError as error:
            if isinstance(error, RegistryError) and error.status in _UNSUPPORTED:
                return False
            self.redaction.note(what, error)
            return None

    def _push(self, repository: Reference, image: bytes) -> bool:
        for media_type, content in ((media_types.OCI_CONFIG, _CONFIG), (media_types.OCI_LAYER_GZIP, _LAYER)):
            blob = Descriptor(media_type, digest_of(content), len(content))
            if not self.client.has_blob(repository, blob.digest, blob.size):
                self.blobs.append(repository.pinned(blob.digest))
                self.client.upload(repository, blob, partial(in_memory, content))
        return self._put(repository, image, media_types.OCI_MANIFEST)

    def _put(self, repository: Reference, raw: bytes, media_type: str) -> bool:
        reference = repository.pinned(digest_of(raw))
        # A manifest is missing from the index on purpose, so it is no use to wait for it.
        self.client.put_manifest(reference, raw, media_type, waits=media_type == media_types.OCI_MANIFEST)
        self.manifests.append(reference)
        return True

    def _delete(self, delete: Callable[[Reference], None], reference: Reference) -> HubError | None:
        try:
            delete(reference)
        except HubError as error:
            return error
        return None


def _image() -> bytes:
    # The plainest image. GitLab, for one, takes artifacts by a list of their types (ocx-sh/ocx#480).
    config = {"mediaType": media_types.OCI_CONFIG, "digest": digest_of(_CONFIG), "size": len(_CONFIG)}
    layer = {"mediaType": media_types.OCI_LAYER_GZIP, "digest": digest_of(_LAYER), "size": len(_LAYER)}
    return _encoded({"mediaType": media_types.OCI_MANIFEST, "config": config, "layers": [layer]})


def _sparse_index(image: bytes) -> bytes:
    # Two platforms, of which one manifest is missing: the result of an export with --platform.
    there = {"digest": digest_of(image), "size": len(image), "platform": {"os": "linux", "architecture": "amd64"}}
    absent = {"digest": _ABSENT, "size": 500, "platform": {"os": "linux", "architecture": "arm64"}}
    children = [{"mediaType": media_types.OCI_MANIFEST, **child} for child in (there, absent)]
    return _encoded({"mediaType": media_types.OCI_INDEX, "manifests": children})


def _encoded(document: dict[str, object]) -> bytes:
    return json.dumps({"schemaVersion": 2, **document}).encode()
