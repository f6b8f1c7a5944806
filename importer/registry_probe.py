"""What a mirror takes, found out by trying: a tiny image in a repository of our own, written and taken away again."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from common.digest import digest_of
from common.errors import HubError, RegistryError
from common.oci import media_types
from common.oci.descriptor import Descriptor
from common.reference import Reference
from common.registry.client import RegistryClient

REPOSITORY = "hub-import-probe"
_NESTED = "a/b/c"
_NOTHING = b"{}"
_CANNOT = frozenset({400, 404, 405, 415, 422, 501})
_ABSENT = digest_of(b"a manifest that was never written")


@dataclass(frozen=True, slots=True)
class Accepts:
    """What a registry takes; None: it could not be told, and `notes` say why."""

    nested_paths: bool | None = None
    sparse_indexes: bool | None = None
    referrers: bool | None = None
    notes: tuple[str, ...] = ()


def ask(client: RegistryClient, repository: Reference) -> Accepts:
    """Try all three in `repository`, and delete what was written where the registry lets us."""
    notes: list[str] = []
    nested = Reference(repository.registry, f"{repository.repository}/{_NESTED}")
    written: list[Reference] = []

    def tried(what: str, attempt: Callable[[], None]) -> bool | None:
        try:
            attempt()
        except RegistryError as error:
            return _refused(what, error, notes)
        except HubError as error:
            notes.append(f"{what}: {error.message}")
            return None
        return True

    image = _image()
    if tried("writing to the mirror", lambda: _push(client, repository, image, written)) is not True:
        return Accepts(notes=tuple(notes))
    deep = tried("nested paths", lambda: _push(client, nested, image, written))
    sparse = tried("sparse indexes", lambda: _put(client, repository, _sparse_index(image), media_types.OCI_INDEX, written))
    referrers = _referrers(client, repository.pinned(digest_of(image)), notes)
    for reference in reversed(written):
        with suppress(HubError):
            client.delete(reference)
    return Accepts(deep, sparse, referrers, tuple(notes))


def _refused(what: str, error: RegistryError, notes: list[str]) -> bool | None:
    """Tell a registry that cannot from one that would not let us: only the first is an answer."""
    if error.status in _CANNOT:
        return False
    notes.append(f"{what}: {error.message}")
    return None


def _referrers(client: RegistryClient, subject: Reference, notes: list[str]) -> bool | None:
    try:
        return client.has_referrers_api(subject)
    except HubError as error:
        notes.append(f"referrers: {error.message}")
        return None


def _push(client: RegistryClient, repository: Reference, image: bytes, written: list[Reference]) -> None:
    blob = Descriptor(media_types.OCI_EMPTY, digest_of(_NOTHING), len(_NOTHING))
    if not client.has_blob(repository, blob.digest):
        client.upload(repository, blob, lambda start: iter([memoryview(_NOTHING)[start:]]))
    _put(client, repository, image, media_types.OCI_MANIFEST, written)


def _put(client: RegistryClient, repository: Reference, raw: bytes, media_type: str, written: list[Reference]) -> None:
    reference = repository.pinned(digest_of(raw))
    client.put_manifest(reference, raw, media_type)
    written.append(reference)


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
