"""What a mirror takes, found out by trying: a tiny image in a repository of our own, written and taken away again."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field

from common.digest import digest_of
from common.errors import HubError, RegistryError
from common.log import logger
from common.oci import media_types
from common.oci.descriptor import Descriptor
from common.reference import Reference
from common.registry.client import RegistryClient
from importer.unseen import Unseen

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


def ask(client: RegistryClient, repository: Reference, unseen: Unseen) -> Accepts:
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
