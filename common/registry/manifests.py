"""Manifests on a registry: head and put (distribution specification, *Pushing manifests*)."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import httpx

from common.errors import PASSING, AuthenticationError, ContentError, RegistryError, RegistryRefusedError
from common.oci.image import Descriptor, Digest, Document, digest_of, parse_digest
from common.oci.media_types import ACCEPT
from common.registry.http.errors import NAME_INVALID
from common.registry.http.exchange import Answer, Call, Exchange
from common.retry import RetryableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from common.oci.reference import Reference
    from common.registry.upload.presence import Presence


# A registry on plain files may read a manifest that another process is just writing, and find it cut short.
_HALF_WRITTEN = frozenset({"DIGEST_INVALID"})
_ACCEPT = ", ".join(ACCEPT)
_USELESS = 3  # HEADs in a row that said nothing, after which a host is asked with GET
_LOG = logging.getLogger(__name__)


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
    """Asks for manifests and writes them. `get` fetches one. Shared by threads."""

    def __init__(self, exchange: Exchange, presence: Presence, get: Callable[[Reference], Document]) -> None:
        self._exchange = exchange
        self._presence = presence
        self._get = get
        self._lock = threading.Lock()
        self._useless_heads: Counter[str] = Counter()  # in a row, by registry

    def head(self, reference: Reference) -> Descriptor | None:
        """Return what the registry has; None when there is nothing, or in a repository to write to that may not be read."""
        try:
            return self._head(reference)
        except RegistryError as error:
            # A name that the registry does not take is not there either: the POST says so, once for each repository.
            is_open = isinstance(error, AuthenticationError) or error.code == NAME_INVALID
            if not is_open or not self._exchange.pushes(reference):
                raise
            _LOG.info("%s: taken for not there: %s", reference, error.message)
            return None

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
        if answer.status == httpx.codes.NOT_FOUND:
            return None
        described = _described(answer.headers, reference) if answer.status == httpx.codes.OK else None
        if described is None:
            return self._described_by_get(reference, counts=True)
        with self._lock:
            self._useless_heads[registry] = 0
        return described

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

    def put(self, reference: Reference, raw: bytes, media_type: str) -> str:
        """Write a manifest; return the subject that the registry says it has taken note of."""
        name = reference.tag or reference.digest or digest_of(raw)
        call = replace(
            manifest_call("PUT", reference),
            url=f"/v2/{reference.repository}/manifests/{name}",
            headers={"Content-Type": media_type},
            body=lambda: iter([raw]),
            length=len(raw),
            writes=True,
            passing_codes=_HALF_WRITTEN,
        )
        answer = self._written(call, reference, digest_of(raw))
        if answer is None:
            return ""
        # A proxy that reformats JSON changes the digest, and operators pin it.
        stored = answer.headers.get("Docker-Content-Digest", "")
        if stored.startswith("sha256:") and stored != digest_of(raw):
            raise ContentError(f"{reference}: {reference.registry} stored {stored[:80]}, wanted {digest_of(raw)}")
        return str(answer.headers.get("OCI-Subject", ""))

    def _written(self, call: Call, reference: Reference, digest: Digest) -> Answer | None:
        """Send the PUT of a manifest; None when its answer was lost, and the tag is right.

        It is looked for before it is written again: a registry with immutable tags refuses what it has just taken
        (aws/containers-roadmap#2179). Without a tag it can be repeated, and its answer names the subject.
        """
        lost = False

        def is_there() -> bool:
            found = self._exchange.ask_once(manifest_call("HEAD", reference, accept=frozenset({404})))
            return found.status == httpx.codes.OK and found.headers.get("Docker-Content-Digest", "") == digest

        def step() -> Answer | None:
            nonlocal lost
            try:
                return self._exchange.ask_once(call)
            except RetryableError as failure:
                lost = True
                if reference.tag and self._presence.awaited(is_there, failure, None):
                    return None
                raise
            except RegistryError:
                if lost and reference.tag and self._is_there_after_all(is_there):  # written after it was looked for
                    return None
                raise

        return self._exchange.retried(reference.registry, step)

    def _is_there_after_all(self, is_there: Callable[[], bool]) -> bool:
        try:
            return is_there()
        except (RegistryError, RetryableError) as error:
            _LOG.info("not known whether it is there: %s", error)
            return False


def _described(headers: httpx.Headers, reference: Reference) -> Descriptor | None:
    """Read a descriptor from the headers of a HEAD; None when one is missing or says nothing of the document."""
    digest, size = headers.get("Docker-Content-Digest") or reference.digest or "", headers.get("Content-Length", "")
    kind = headers.get("Content-Type", "").partition(";")[0].strip()
    if not digest or not kind or not (size.isascii() and size.isdigit()) or len(size) > 12:  # noqa: PLR2004 - far past 16 MiB
        return None
    if reference.digest and digest != reference.digest:
        raise ContentError(f"{reference}: {reference.registry} says that it has {digest[:80]}")
    if not int(size) or headers.get("Content-Encoding", "identity") != "identity":
        return None  # not the size of the document
    return Descriptor(kind, parse_digest(digest), int(size))
