"""Signatures of release payloads: fetched from their stores and verified, before the payload itself is pulled."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from common.archive.inventory import MAX_RELEASE_SIGNATURES, Problem, ProblemCode, ReleaseSignatureRecord
from common.errors import (
    ContentError,
    HubError,
    NotFoundError,
    RegistryError,
    RegistryRefusedError,
    RegistryUnreachableError,
    ReleaseUnverifiedError,
    SignatureError,
)
from common.oci.image import hex_of
from common.openshift.openpgp import MAX_MESSAGE, is_message
from common.openshift.release_signature import parse_signed, read_payload
from common.text import visible
from exporter.releases import hosts
from exporter.releases.signing import public_keys
from exporter.releases.signing.openpgp import verify

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from common.oci.image import Digest

MAX_FILES = MAX_RELEASE_SIGNATURES  # of a digest in a store; library-go reads as many (pkg/verify/store/sigstore/sigstore.go)
WITHIN_S = 20.0  # for one store among several: each is a copy of the others
# Buckets that may not be listed answer so for a file that is not there (Cloud Storage, *HTTP status and error codes*).
_HIDDEN = frozenset((401, 403, 410))


class Fetcher(Protocol):
    """What fetches files: `common.registry.client.RegistryClient`."""

    def fetch(self, url: str, *, what: str, limit: int, is_right: Callable[[bytes], bool], within_s: float | None) -> bytes:
        """Return a document, without content codings unless it is right with them. Raises RegistryError, ContentError."""
        ...


@dataclass(frozen=True, slots=True)
class _File:
    """A signature file, or why there is none to be read."""

    url: str
    content: bytes = b""
    error: HubError | None = None


@dataclass(frozen=True, slots=True)
class _Answer:
    """A file that was looked at: its record, and the reason where it is not accepted."""

    record: ReleaseSignatureRecord
    reason: str = ""
    note: str = ""


@dataclass(slots=True)
class _Search:
    """What the stores gave for one digest."""

    files: list[_File] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)  # URLs without a signature
    failed: list[_File] = field(default_factory=list)  # stores that were not reached, or refused


class ReleaseSignatures:
    """The signature stores, and the keys that are trusted. `warn` receives the problems of signatures.

    `within_s`: how long a store may take that is one of several. It is asked with all retries only for a payload of which no
    other store has an accepted signature.
    """

    def __init__(
        self,
        client: Fetcher,
        *,
        keys: Iterable[Path] = (),
        warn: Callable[[Problem], None],
        stores: Sequence[str] = hosts.SIGNATURE_STORES,
        okd_stores: Sequence[str] = hosts.OKD_SIGNATURE_STORES,
        within_s: float = WITHIN_S,
    ) -> None:
        """Read the keys: those of the product and of the files `keys`. Raises UsageError, ContentError."""
        self._client = client
        self._warn = warn
        self._stores = {False: tuple(stores), True: tuple(okd_stores)}
        added = [key for path in keys for key in public_keys.load(path)]
        # A file may have a key of the product with its revocation, or renewed.
        self._keys = {okd: public_keys.united((*public_keys.shipped(okd=okd), *added)) for okd in (False, True)}
        self._within_s = within_s
        self._slow: dict[str, RegistryError] = {}  # stores that took longer than that
        self._down: dict[str, RegistryError] = {}

    def find(
        self, digest: Digest, release: str, *, okd: bool = False, unverified: bool = False
    ) -> tuple[ReleaseSignatureRecord, ...]:
        """Return every accepted signature of a payload, in the order of the stores; at least one.

        `release`: its version or reference, for messages. An expired key is accepted for OKD only, with a warning. Raises
        ReleaseUnverifiedError where no signature is accepted, RegistryError where a store that may have one gave no answer.
        With `unverified` neither is raised: the signatures of this digest that were found are returned, with an empty `key`.
        """
        search = self._search(digest, okd=okd)
        answers = [self._answer(file, digest, okd=okd) for file in search.files]
        accepted = [answer for answer in answers if not answer.reason]
        if not accepted:
            error = _nothing(digest, release, search, answers)
            if not unverified:
                raise error
            why = error.details[0] if error.details else error.message
            self._problem(ProblemCode.RELEASE_UNVERIFIED, release, f"{digest} is carried without a verified signature: {why}")
            return self._bounded([answer.record for answer in answers if _names(answer.record, digest)], release)
        for answer in answers:
            if said := f"left out: {answer.reason}" if answer.reason else answer.note:
                self._problem(ProblemCode.RELEASE_SIGNATURE, release, f"{answer.record.url}: {said}")
        return self._bounded([answer.record for answer in accepted], release)

    def _bounded(self, found: Sequence[ReleaseSignatureRecord], release: str) -> tuple[ReleaseSignatureRecord, ...]:
        """Return as many signatures as an inventory holds; several stores may have more."""
        for record in found[MAX_RELEASE_SIGNATURES:]:
            message = f"{record.url}: left out: a release has at most {MAX_RELEASE_SIGNATURES} signatures"
            self._problem(ProblemCode.RELEASE_SIGNATURE, release, message)
        return tuple(found[:MAX_RELEASE_SIGNATURES])

    def _problem(self, code: ProblemCode, release: str, message: str) -> None:
        self._warn(Problem("warning", code, release, message))

    def _search(self, digest: Digest, *, okd: bool) -> _Search:
        found = _Search()
        known: set[bytes] = set()
        for file in self._of_all_stores(digest, okd=okd):
            if file.error is None or isinstance(file.error, ContentError):
                # Stores are copies of each other: the same file counts once.
                if file.error or file.content not in known:
                    found.files.append(file)
                known.add(file.content)
            elif isinstance(file.error, NotFoundError):
                found.empty.append(file.url)
            else:
                found.failed.append(file)
        return found

    def _of_all_stores(self, digest: Digest, *, okd: bool) -> Iterator[_File]:
        """Yield the files of the stores, in their order. A slow one is waited for only where no other has one to accept."""
        within_s = self._within_s if len(self._stores[okd]) > 1 else None
        found = {store: list(self._files(store, digest, within_s)) for store in self._stores[okd]}
        slow = [store for store, files in found.items() if files and _was_cut_short(files[-1])]
        every = [file for files in found.values() for file in files if not file.error]
        if slow and all(self._answer(file, digest, okd=okd).reason for file in every):
            found |= {store: list(self._files(store, digest, None)) for store in slow}
        for files in found.values():
            yield from files

    def _files(self, store: str, digest: Digest, within_s: float | None) -> Iterator[_File]:
        """Yield the files of a store, until there is no next one; where there is none at all, or no answer, the error."""
        # Retries for each of a hundred releases would take hours.
        known = self._down.get(store) or (self._slow.get(store) if within_s else None)
        if known is not None:
            yield _File(store, error=known)
            return
        for number in range(1, MAX_FILES + 1):
            url = f"{store.rstrip('/')}/sha256={hex_of(digest)}/signature-{number}"
            try:
                content = self._client.fetch(url, what="signature", limit=MAX_MESSAGE, is_right=is_message, within_s=within_s)
                yield _File(url, content)
            except RegistryError as error:
                absent = isinstance(error, NotFoundError) or (number > 1 and error.status in _HIDDEN)
                if number == 1 or not absent:
                    yield _File(url, error=error)
                if not absent and error.is_host_failure:
                    (self._slow if error.was_cut_short else self._down)[store] = error
                return
            except ContentError as error:
                yield _File(url, error=error)

    def _answer(self, file: _File, digest: Digest, *, okd: bool) -> _Answer:
        content = base64.b64encode(file.content).decode()
        if file.error:
            return _Answer(ReleaseSignatureRecord("", file.url), _reason(file.error, file.url))
        try:
            # CVO does not look at the expiry of keys, and OKD has been signed with an outdated one (okd-project/okd#1514).
            verified = verify(file.content, self._keys[okd], expired=okd)
            signed = read_payload(verified.content)
        except SignatureError as error:
            return _Answer(ReleaseSignatureRecord(content, file.url), error.message)
        if signed.digest != digest:
            return _Answer(ReleaseSignatureRecord(content, file.url), f"it signs {signed.digest} ({signed.reference})")
        return _Answer(ReleaseSignatureRecord(content, file.url, verified.key.fingerprint), note=verified.note)


def _nothing(digest: Digest, release: str, search: _Search, answers: list[_Answer]) -> HubError:
    """Return the error where no signature is accepted: of a registry where a store gave no answer, and none gave a bad file."""
    name = visible(release)
    refused = [f"{answer.record.url}: {answer.reason}" for answer in answers]
    failed = [f"{file.url}: {_reason(file.error, file.url)}" for file in search.failed if file.error]
    details = [*refused, *failed, *(f"{url}: not there" for url in search.empty)]
    without = f"--unverified-release {digest} carries it without."
    if refused:
        hint = f"--release-key FILE adds the key of a publisher whom you trust; {without}"
        return ReleaseUnverifiedError(f"{name}: no signature of {digest} is accepted:", hint=hint, details=details)
    if failed:
        unreached = any(isinstance(file.error, RegistryError) and file.error.is_host_failure for file in search.failed)
        kind = RegistryUnreachableError if unreached else RegistryRefusedError
        hint = f"Look at the proxy and the way to these hosts, or name another store with --signature-store URL; {without}"
        return kind(f"{name}: a signature of {digest} could not be looked for in every store:", hint=hint, details=details)
    hint = f"Builds of CI and nightly builds have none. Compare the digest with that of the publisher; {without}"
    return ReleaseUnverifiedError(f"{name}: there is no signature of {digest}:", hint=hint, details=details)


def _was_cut_short(file: _File) -> bool:
    return isinstance(file.error, RegistryError) and file.error.was_cut_short


def _reason(error: HubError, url: str) -> str:
    return error.message.removeprefix(f"{url}: ")


def _names(record: ReleaseSignatureRecord, digest: Digest) -> bool:
    """Return whether a signature that was not verified is at least one of this digest: the cluster may have its key."""
    try:
        return parse_signed(base64.b64decode(record.content)).digest == digest
    except SignatureError:
        return False
