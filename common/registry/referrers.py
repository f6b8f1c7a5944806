"""What refers to an image: the referrers API, and the tag `sha256-<hex>` where a registry has none.

Distribution specification 1.1, *Listing referrers* and *Pushing manifests with subject*.
"""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import msgspec

from common.errors import ContentError, NotFoundError, RegistryError
from common.oci import media_types
from common.oci.image import MAX_CHILDREN, MAX_MANIFEST_SIZE, Descriptor, Digest, Document, Index, described, hex_of, parse
from common.oci.reference import Reference
from common.registry.http.exchange import Answer, Call, Exchange

_NO_API = frozenset({400, 404, 405, 406, 501})
_ABSENT = frozenset({"NAME_UNKNOWN", "MANIFEST_UNKNOWN"})  # the registry knows the question, not the image
_MAX_PAGES = 100
_TRIES = 3
_LOG = logging.getLogger(__name__)

# Writes a manifest; gives the digest that the registry took for its subject, empty where it did not say.
Put = Callable[[Reference, bytes, str], str]
Get = Callable[[Reference], Document]


def fallback_tag(subject: Digest) -> str:
    """Return the tag under which the referrers of `subject` are listed where the API is missing."""
    return f"sha256-{hex_of(subject)}"


class Referrers:
    """Lists and registers referrers; remembers which registries lack the API. Shared by threads."""

    def __init__(self, exchange: Exchange, get: Get, put: Put) -> None:
        self._exchange = exchange
        self._get = get
        self._put = put
        self._without_api: set[str] = set()
        self._writing: defaultdict[Reference, threading.Lock] = defaultdict(threading.Lock)

    def of(self, subject: Reference) -> tuple[Descriptor, ...]:
        """Return what refers to `subject` (a digest), at most 10,000. Raises RegistryError, ContentError."""
        assert subject.digest is not None
        if subject.registry not in self._without_api:
            found = self._asked(subject)
            if found is not None:
                return found
        try:
            document = self._get(_tagged(subject, subject.digest))
        except NotFoundError:
            return ()
        return document.manifests if isinstance(document, Index) else ()

    def has_api(self, subject: Reference) -> bool:
        """Say whether the registry has the referrers API; `subject` is an image that it has. Raises RegistryError."""
        self._asked(subject)
        return subject.registry not in self._without_api

    def register(self, repository: Reference, document: Document) -> None:
        """Write a manifest that has a subject; list it under the fallback tag where the registry does not do that itself."""
        assert document.subject is not None
        subject = document.subject.digest
        taken = self._put(repository.pinned(document.digest), document.raw, document.media_type)
        if taken == subject:  # OCI-Subject: the registry maintains the list (distribution specification 1.1)
            return
        tag = _tagged(repository, subject)
        with self._writing[tag]:  # read, change, write: two threads would lose one of their entries
            self._list_under(tag, document)

    def _asked(self, subject: Reference) -> tuple[Descriptor, ...] | None:
        """Ask the API, page by page; None where there is none."""
        call = Call("GET", subject, f"/v2/{subject.repository}/referrers/{subject.digest}", "referrers", str(subject))
        found: list[Descriptor] = []
        try:
            for answer in self._exchange.pages(call, MAX_MANIFEST_SIZE, _MAX_PAGES):
                found += _page(answer, subject)
                if len(found) > MAX_CHILDREN:
                    raise ContentError(f"{subject}: more than {MAX_CHILDREN} referrers")
        except RegistryError as error:
            if error.status not in _NO_API:
                raise
            if error.code not in _ABSENT:
                _LOG.info("%s: has no referrers API: %s", subject.registry, error.message)
                self._without_api.add(subject.registry)
            return None
        return tuple(found)

    def _list_under(self, tag: Reference, document: Document) -> None:
        """Add a descriptor to the index under the fallback tag, and see that it stays: others may write it too."""
        for _ in range(_TRIES):
            listed = self._listed(tag)
            if any(each.get("digest") == document.digest for each in listed):
                return
            index = {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": [*listed, described(document)]}
            self._put(tag, msgspec.json.encode(index), media_types.OCI_INDEX)
        if not any(each.get("digest") == document.digest for each in self._listed(tag)):
            raise ContentError(f"{tag}: does not keep {document.digest}", hint="Does another process write there? Run again.")

    def _listed(self, tag: Reference) -> list[dict[str, Any]]:
        """Return the descriptors under the fallback tag as they are written there."""
        try:
            document = self._get(tag)
        except NotFoundError:
            return []
        if not isinstance(document, Index):
            raise ContentError(f"{tag}: not an index", hint="The tag is reserved for the list of referrers: remove it.")
        found: list[dict[str, Any]] = msgspec.json.decode(document.raw)["manifests"]
        return found


def _page(answer: Answer, subject: Reference) -> tuple[Descriptor, ...]:
    document = parse(answer.body, media_types.OCI_INDEX)
    if not isinstance(document, Index):
        raise ContentError(f"{subject}: {subject.registry} answers with something else than a list of referrers")
    return document.manifests


def _tagged(repository: Reference, subject: Digest) -> Reference:
    return Reference(repository.registry, repository.repository, fallback_tag(subject))
