"""What refers to an image: the referrers API, and the tag `sha256-<hex>` where a registry has none.

Distribution specification 1.1, *Listing referrers* and *Pushing manifests with subject*.
"""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import msgspec

from common.errors import (
    PASSING,
    AuthenticationError,
    ContentError,
    HubError,
    NotFoundError,
    RegistryError,
    RegistryRefusedError,
)
from common.files import size_text
from common.oci import media_types
from common.oci.image import (
    MAX_CHILDREN,
    MAX_MANIFEST_SIZE,
    Descriptor,
    Digest,
    Document,
    Index,
    described,
    digest_of,
    hex_of,
    parse_descriptor,
)
from common.oci.reference import Reference
from common.registry.http.exchange import Call, Exchange
from common.serialization import UNDECODABLE, decode_bounded

_NO_API = frozenset({400, 404, 405, 406, 501})
_ABSENT = frozenset({"NAME_UNKNOWN", "MANIFEST_UNKNOWN"})  # the registry knows the question, not the image
MAX_LISTED = 32 * 1024 * 1024  # bytes of all pages of one list, which stay in memory; an entry has some hundred
_MAX_PAGES = 100
_WARNED = 5  # entries of one list that cannot be read
_TRIES = 3
_LOG = logging.getLogger(__name__)


class _List(msgspec.Struct, rename="camel"):
    """A list of referrers; its entries are decoded one by one, so that a bad one costs itself alone."""

    media_type: str | None = None
    manifests: list[msgspec.Raw] | msgspec.UnsetType | None = msgspec.UNSET


_LIST = msgspec.json.Decoder(_List)
_WHOLE = msgspec.json.Decoder(dict[str, Any])
_RESERVED = "The tag is reserved for the list of referrers: remove it."

# Writes a manifest; gives the digest that the registry took for its subject, empty where it did not say.
Put = Callable[..., str]
Get = Callable[[Reference], Document]


def fallback_tag(subject: Digest) -> str:
    """Return the tag under which the referrers of `subject` are listed where the API is missing."""
    return f"sha256-{hex_of(subject)}"


class Referrers:
    """Lists and registers referrers; remembers which registries lack the API. Shared by threads."""

    def __init__(self, exchange: Exchange, get: Get, put: Put, lacks: Callable[[Reference], bool]) -> None:
        self._exchange = exchange
        self._get = get
        self._put = put
        self._lacks = lacks  # whether a tag is known not to be there
        self._without_api: set[str] = set()
        self._with_api: set[str] = set()
        self._writing: defaultdict[Reference, threading.Lock] = defaultdict(threading.Lock)

    def of(self, subject: Reference) -> tuple[Descriptor, ...]:
        """Return what refers to `subject` (a digest), at most 10,000. Raises RegistryError, ContentError."""
        assert subject.digest is not None
        if subject.registry not in self._without_api:
            found = self._asked(subject)
            if found is not None:
                return found
        return self._under_tag(subject, subject.digest) or ()

    def has_api(self, subject: Reference) -> bool:
        """Say whether the registry has the referrers API; `subject` is an image that it has. Raises RegistryError."""
        self._asked(subject)
        return subject.registry not in self._without_api

    def register(self, repository: Reference, document: Document, on_missing: Callable[[], None] | None = None) -> None:
        """Write a manifest that has a subject; list it under the fallback tag where the registry does not do that itself.

        `on_missing`: see `ManifestWriter.put`.
        """
        assert document.subject is not None
        subject = document.subject.digest
        taken = self._put(repository.pinned(document.digest), document.raw, document.media_type, on_missing)
        # OCI-Subject: the registry maintains the list (distribution specification 1.1). Not where it has none to show: ECR sent
        # the header before it had the API (sigstore/sigstore-js#1183).
        if taken == subject and self._has_list(repository.pinned(subject)):
            return
        tag = _tagged(repository, subject)
        with self._writing[tag]:  # read, change, write: two threads would lose one of their entries
            self._list_under(tag, document)

    def _has_list(self, subject: Reference) -> bool:
        """Say whether a registry that sends OCI-Subject has the API: asked once for each host; the header counts in doubt."""
        if subject.registry not in self._with_api | self._without_api:
            with suppress(HubError):
                self._asked(subject)
            if subject.registry not in self._without_api:
                self._with_api.add(subject.registry)
        return subject.registry not in self._without_api

    def _asked(self, subject: Reference) -> tuple[Descriptor, ...] | None:
        """Ask the API, page by page; None where there is none."""
        call = Call("GET", subject, f"/v2/{subject.repository}/referrers/{subject.digest}", "referrers", str(subject))
        pages = self._exchange.pages(call, MAX_MANIFEST_SIZE, _MAX_PAGES)
        try:
            answer = next(pages)
        except RegistryError as error:
            return self._without_answer(subject, error)
        entries = _page(answer.plain(call, MAX_MANIFEST_SIZE), subject)
        if entries is None:
            self._note_without_api(subject, f"HTTP {answer.status} without a list of referrers")
            return None
        _require_bounded(entries, subject)
        for answer in pages:
            page = _page(answer.plain(call, MAX_MANIFEST_SIZE), subject)
            if page is None:
                raise ContentError(f"{subject}: {subject.registry}: a further page of its referrers is no list")
            entries += page
            _require_bounded(entries, subject)
        return _readable(entries, subject)

    def _without_answer(self, subject: Reference, error: RegistryError) -> tuple[Descriptor, ...] | None:
        """Return what to take for the answer of a registry that refuses the question; None: there is no API. Raises `error`."""
        if isinstance(error, AuthenticationError):
            # Gateways that forbid every path that they do not know hide that there is no API. Without a list under the tag it
            # stays an error: there may be signatures that this account may not see.
            assert subject.digest is not None
            with suppress(HubError):
                if (listed := self._under_tag(subject, subject.digest)) is not None:
                    self._note_without_api(subject, error.message)
                    return listed
            raise error
        if not _is_no_api(error):
            raise error
        if error.code not in _ABSENT:
            self._note_without_api(subject, error.message)
        return None

    def _note_without_api(self, subject: Reference, why: str) -> None:
        _LOG.info("%s: has no referrers API: %s", subject.registry, why)
        self._without_api.add(subject.registry)

    def _under_tag(self, subject: Reference, digest: Digest) -> tuple[Descriptor, ...] | None:
        """Return the list under the fallback tag; None where there is no list."""
        tag = _tagged(subject, digest)
        if self._lacks(tag):
            return None
        try:
            document = self._get(tag)
        except NotFoundError:
            return None
        # GitLab takes the tag for the digest, and gives the subject itself (oras-project/oras-go#1396).
        is_list = isinstance(document, Index) and document.digest != digest
        return document.manifests if is_list and isinstance(document, Index) else None

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
            raise ContentError(f"{tag}: not an index", hint=_RESERVED)
        try:
            # As it is written, with the fields that `parse` passes over and does not bound.
            found: list[dict[str, Any]] = decode_bounded(document.raw, _WHOLE)["manifests"]
        except UNDECODABLE as error:
            raise ContentError(f"{tag}: not a list of referrers: {error}", hint=_RESERVED) from error
        return found


def _is_no_api(error: RegistryError) -> bool:
    """Say whether an error means that the registry lacks the API."""
    # registry.k8s.io redirects to a login page (oras-project/oras-go#633): one that refuses us, redirects for ever, or is not
    # safe to ask, means as little as one that answers. A 401 or 403 of the registry itself is an AuthenticationError.
    elsewhere = isinstance(error, RegistryRefusedError) and (not error.status or 300 <= error.status < 500)  # noqa: PLR2004
    return error.status in _NO_API or (elsewhere and error.status not in PASSING)


def _page(raw: bytes, subject: Reference) -> list[bytes] | None:
    """Return the entries of a list of referrers; None for anything but an OCI index.

    Some registries answer 200 for a path that they do not know: with a page, with nothing, or with the manifest itself
    (oras-project/oras-go#633, sigstore/sigstore-js#1187).
    """
    try:
        wire = decode_bounded(raw, _LIST)
    except UNDECODABLE:
        return None
    if (wire.media_type or media_types.OCI_INDEX) != media_types.OCI_INDEX or digest_of(raw) == subject.digest:
        return None
    if wire.manifests is msgspec.UNSET:
        return None
    return [bytes(entry) for entry in wire.manifests or ()]  # null is how Go writes an empty list


def _require_bounded(entries: Sequence[bytes], subject: Reference) -> None:
    """Raise ContentError for more referrers than are taken, readable or not."""
    if len(entries) > MAX_CHILDREN:
        raise ContentError(f"{subject}: more than {MAX_CHILDREN} referrers")
    if sum(map(len, entries)) > MAX_LISTED:
        raise ContentError(f"{subject}: its list of referrers has more than {size_text(MAX_LISTED)}")


def _readable(entries: Sequence[bytes], subject: Reference) -> tuple[Descriptor, ...]:
    """Return the entries that can be read, with a warning of the others."""
    found, bad = [], []
    for entry in entries:
        try:
            found.append(parse_descriptor(entry))
        except ContentError as error:
            bad.append(error.message)
    for message in bad[:_WARNED]:
        _LOG.warning("%s: %s lists a referrer that cannot be read: %s", subject, subject.registry, message)
    if len(bad) > _WARNED:
        _LOG.warning("%s: %s lists %d more referrers that cannot be read", subject, subject.registry, len(bad) - _WARNED)
    return tuple(found)


def _tagged(repository: Reference, subject: Digest) -> Reference:
    return Reference(repository.registry, repository.repository, fallback_tag(subject))
