"""Manifests on a registry: which one a tag or digest has, and the tags of a repository.

Distribution specification, *Checking if content exists*, *Listing Tags*.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

import httpx
import msgspec

from common.errors import (
    PASSING,
    AuthenticationError,
    ContentError,
    CredentialsRefusedError,
    CredentialsWithheldError,
    RegistryError,
    RegistryRefusedError,
)
from common.oci.image import Descriptor, Document, parse_digest
from common.oci.media_types import ACCEPT
from common.oci.reference import Reference, is_tag
from common.registry.http.errors import NAME_INVALID
from common.registry.http.exchange import Call, Exchange
from common.serialization import UNDECODABLE, decode_bounded
from common.text import sanitize

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from common.registry.upload.presence import Presence


MAX_TAGS = 1_000_000
_MAX_PAGE = 16 * 1024 * 1024
_MAX_PAGES = 10_000
_MAX_SIZE = _MAX_PAGE * _MAX_PAGES
_ACCEPT = ", ".join(ACCEPT)
_USELESS = 3  # HEADs in a row that said nothing, after which a host is asked with GET
_LOG = logging.getLogger(__name__)


class _Tags(msgspec.Struct):
    tags: list[str] | None = None


_TAGS = msgspec.json.Decoder(_Tags)


def manifest_call(method: str, reference: Reference, **options: Any) -> Call:
    """Return a request for the manifest under a digest, else a tag."""
    name = reference.digest or reference.tag or "latest"
    return Call(
        method,
        reference,
        f"/v2/{reference.repository}/manifests/{name}",
        "manifest",
        str(reference),
        headers={"Accept": _ACCEPT},
        **options,
    )


class Manifests:
    """Asks for manifests and tags. `get` fetches a manifest. Shared by threads."""

    def __init__(self, exchange: Exchange, presence: Presence, get: Callable[[Reference], Document]) -> None:
        self._exchange = exchange
        self._presence = presence
        self._get = get
        self._lock = threading.Lock()
        self._useless_heads: Counter[str] = Counter()  # in a row, by registry
        self._useless_gets: Counter[str] = Counter()  # after a refused HEAD, in a row, by registry
        self._refusals: dict[Reference, RegistryError] = {}  # by repository

    def head(self, reference: Reference) -> Descriptor | None:
        """Return what the registry has; None when there is nothing, or in a repository to write to that may not be read."""
        try:
            found = self._head(reference)
        except RegistryError as error:
            # A name that the registry does not take is not there either: the POST says so, once for each repository.
            is_open = isinstance(error, AuthenticationError) or error.code == NAME_INVALID
            if not is_open or not self._exchange.pushes(reference):
                raise
            _LOG.info("%s: taken for not there: %s", reference, error.message)
            self._refusals[_repository(reference)] = error
            return None
        self._refusals.pop(_repository(reference), None)
        return found

    def refusal(self, repository: Reference) -> RegistryError | None:
        """Return the refusal of the last question about a repository; None where it was answered."""
        return self._refusals.get(_repository(repository))

    def tags(
        self, repository: Reference, pages: int = _MAX_PAGES, size: int = _MAX_SIZE, within_s: float | None = None
    ) -> Iterator[str]:
        """Give the tags of a repository, page by page, at most so many pages and bytes; see `Exchange.pages`."""
        call = Call("GET", repository, f"/v2/{repository.repository}/tags/list", "tags", repository.name)
        count = 0
        for answer in self._exchange.pages(call, min(_MAX_PAGE, size), min(_MAX_PAGES, pages), within_s):
            body = answer.plain(call, min(_MAX_PAGE, size))  # which may be a thousand times what was received
            size -= len(body)
            if size < 0:
                raise ContentError(f"{repository.name}: its list of tags is too long")
            for tag in _tags(body, repository):
                count += 1
                if count > MAX_TAGS:
                    raise ContentError(f"{repository.name}: more than {MAX_TAGS} tags")
                yield tag

    def _head(self, reference: Reference) -> Descriptor | None:
        registry = reference.registry
        if self._useless_heads[registry] >= _USELESS:
            return self._described_by_get(reference)
        try:
            answer = self._exchange.ask(manifest_call("HEAD", reference, accept=frozenset({403, 404, 405})))
        except RegistryRefusedError as error:
            if error.status in PASSING:
                raise  # a host in trouble is not asked twice as much
            return self._described_by_get(reference, counts=True)
        except AuthenticationError as error:
            return self._after_refusal(reference, error)
        if answer.status == httpx.codes.NOT_FOUND:
            return None
        described = _described(answer.headers, reference) if answer.status == httpx.codes.OK else None
        if described is None:
            return self._described_by_get(reference, counts=True)
        with self._lock:
            self._useless_heads[registry] = 0
        return described

    def _after_refusal(self, reference: Reference, error: AuthenticationError) -> Descriptor | None:
        """Ask with GET after a HEAD that was answered with 401: some registries refuse that method alone.

        Known of blobs (aws/containers-roadmap#2671). Quay says 401 to both for a repository that does not exist, so a host
        where GET did not help is soon asked with HEAD alone.
        """
        registry = reference.registry
        if isinstance(error, CredentialsRefusedError | CredentialsWithheldError) or self._useless_gets[registry] >= _USELESS:
            raise error
        try:
            found = self._described_by_get(reference, counts=True)
        except RegistryError as other:
            _LOG.info("%s: GET says no more than HEAD: %s", reference, other.message)
            with self._lock:
                self._useless_gets[registry] += 1
            raise error from other
        with self._lock:
            self._useless_gets[registry] = 0
        return found

    def _described_by_get(self, reference: Reference, *, counts: bool = False) -> Descriptor | None:
        """Ask with GET where HEAD says too little (or is forbidden, as behind some proxies)."""
        found: Descriptor | None = None
        try:
            found = self._get(reference).descriptor
        except RegistryError as error:
            if error.status != httpx.codes.NOT_FOUND:
                raise
        with self._lock:
            self._useless_heads[reference.registry] += counts
        return found


def _tags(body: bytes, repository: Reference) -> list[str]:
    try:
        found = decode_bounded(body, _TAGS).tags or []
    except UNDECODABLE as error:
        raise ContentError(f"{repository.name}: not a list of tags: {error}") from error
    return [tag for tag in found if is_tag(tag)]  # anything else could not be requested


def _repository(reference: Reference) -> Reference:
    return Reference(reference.registry, reference.repository)


def _described(headers: httpx.Headers, reference: Reference) -> Descriptor | None:
    """Read a descriptor from the headers of a HEAD; None when one is missing or says nothing of the document."""
    digest, size = headers.get("Docker-Content-Digest") or reference.digest or "", headers.get("Content-Length", "")
    kind = headers.get("Content-Type", "").partition(";")[0].strip()
    if not digest or not kind or not (size.isascii() and size.isdigit()) or len(size) > 12:  # noqa: PLR2004 - far past 16 MiB
        return None
    if reference.digest and digest != reference.digest:
        raise ContentError(f"{reference}: {reference.registry} says that it has {sanitize(digest, 80)}")
    if not int(size) or headers.get("Content-Encoding", "identity") != "identity":
        return None  # not the size of the document
    return Descriptor(kind, parse_digest(digest), int(size))
