"""Uploads of blobs: mounted from another repository, or sent (distribution specification, *Pushing blobs*).

One PUT with Content-Length is what most registries take best. A host that finds it too large, or breaks it, gets chunks; so
does one that would store a broken PUT (Pulp).
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx

from common.content import Chunk, Chunks, Written
from common.errors import (
    AuthenticationError,
    NotFoundError,
    NotWritableError,
    RegistryError,
    RegistryRefusedError,
    RegistryUnreachableError,
)
from common.oci.reference import Reference, is_host
from common.registry.http.exchange import Answer, Call, Exchange
from common.registry.http.urls import joined, with_parameter
from common.retry import RetryableError

if TYPE_CHECKING:
    from common.oci.image import Descriptor


# An upload session: the place that a registry opened for a blob, and that it may move with every answer.
#
# The newest Location counts; it may be relative and may hold a query (distribution specification, *Pushing blobs*).

MAX_LEAST = 1 << 30  # a bound on a number from the registry
_RECEIVED = re.compile(r"(?:bytes=)?0-(\d{1,19})")


@dataclass(frozen=True, slots=True)
class Session:
    """Where the rest of a blob goes. `least`: the smallest chunk that the registry takes, in bytes."""

    repository: Reference
    blob: Descriptor
    url: httpx.URL
    least: int = 0

    @classmethod
    def opened(cls, repository: Reference, blob: Descriptor, answer: Answer) -> Session:
        """Read what a POST answered. Raises RegistryRefusedError for a Location that leads nowhere."""
        return cls(repository, blob, _location(repository, blob, answer), _least(answer.headers))

    def moved(self, answer: Answer) -> Session:
        """Return the session after a further answer; one that names no Location leaves it where it is."""
        if "Location" not in answer.headers:
            return self  # optional for the answer to a status request
        return Session(self.repository, self.blob, _location(self.repository, self.blob, answer), self.least)

    @property
    def closing_url(self) -> str:
        """Where the closing PUT goes."""
        return str(with_parameter(self.url, "digest", self.blob.digest))

    @property
    def name(self) -> str:
        """The blob, for messages."""
        return _name(self.repository, self.blob)


def received(answer: Answer) -> int | None:
    """Return how many bytes a status says that the registry has; None when it does not say.

    `0-0` is said of an empty upload as well as of one byte: it is taken for empty, and the registry refuses if it is not.
    """
    match = _RECEIVED.fullmatch(answer.headers.get("Range", ""))
    if match is None:
        return None
    return int(match[1]) + 1 if int(match[1]) else 0


def _least(headers: httpx.Headers) -> int:
    text = headers.get("OCI-Chunk-Min-Length", "")
    return min(int(text[:12]), MAX_LEAST) if text.isascii() and text.isdigit() else 0


def _location(repository: Reference, blob: Descriptor, answer: Answer) -> httpx.URL:
    location = answer.headers.get("Location", "")
    url = joined(answer.url, location)
    if not location or url.scheme not in ("http", "https") or not is_host(url.netloc.decode()):
        raise RegistryRefusedError(
            f"{_name(repository, blob)}: {repository.registry} opened an upload, but its Location {location[:200]!r} is no URL",
            hint="Look at the registry's log; a proxy before it may change its answers.",
        )
    if url.scheme == "http" and answer.url.scheme == "https" and url.host == answer.url.host:
        url = url.copy_with(scheme="https", port=answer.url.port)  # a registry that does not know of the TLS before it
    return url


# A blob in several PATCH requests, for hosts that limit the size of one or that break long ones.
#
# The alternative to a single PUT (distribution specification, *Pushing a blob in chunks*). Chunks start at
# CHUNK bytes and halve for a host that finds them too large; after a break the registry is asked how far it got.

CHUNK = 16 * 1024 * 1024
LEAST_CHUNK = 512 * 1024  # half of what the strictest of common proxies takes
TOO_LARGE = 413

_FAILURES = 7  # in a row, at one place: room to halve from CHUNK to what a proxy of 1 MiB takes
_HEADERS = {"Content-Type": "application/octet-stream"}


class ChunkedSender:
    """Sends blobs chunk by chunk; remembers how large a chunk each host takes. Shared by threads."""

    def __init__(self, exchange: Exchange, closing_put_s: float) -> None:
        self._exchange = exchange
        self._closing_put_s = closing_put_s
        self._lock = threading.Lock()
        self._sizes: dict[str, int] = {}

    def send(self, session: Session, read: Read) -> None:
        """Send the whole blob and close the session. Raises RetryableError where beginning again may help, else RegistryError.

        The turn at the registry's limiter is held from the first chunk to the closing PUT. Otherwise a thread that has the
        source open and waits for the registry would deadlock with one that has the registry and waits for the source.
        """
        content = _Content(read)  # opened once: a source in an archive seeks and decompresses to get back
        with self._exchange.limiter(session.repository.registry).turn():
            try:
                session = self._patches(session, content)
                self._exchange.ask_once(self._call("PUT", session, session.closing_url, read_s=self._closing_put_s))
            finally:
                content.close()

    def _patches(self, session: Session, content: _Content) -> Session:
        """Send all chunks; return where the session is then."""
        position = failures = 0
        while position < session.blob.size:
            try:
                session, position = self._patch(session, content, position)
                failures = 0
            except RetryableError as failure:
                failures += 1
                if failures >= _FAILURES:
                    raise
                if failures > 1 and isinstance(
                    failure.error, RegistryUnreachableError
                ):  # a proxy may close the connection on a large request
                    self._halve(session, min(self._size(session), session.blob.size - position))
                _LOG.info("%s: asking how far it got: %s", session.name, failure)
                session, position = self._status(session, position)
        return session

    def _patch(self, session: Session, content: _Content, position: int) -> tuple[Session, int]:
        """Send one chunk; return where the next goes. A chunk that is too large is halved."""
        size = min(self._size(session), session.blob.size - position)
        call = self._call(
            "PATCH",
            session,
            str(session.url),
            headers={"Content-Range": f"{position}-{position + size - 1}"},
            body=lambda: content.take(position, size),
            length=size,
        )
        try:
            answer = self._exchange.ask_once(call)
        except RegistryError as error:
            if error.status == _OFFSET_WRONG:  # the registry has more or less of it; its status says how much
                raise RetryableError(error) from error
            if error.status != TOO_LARGE or not self._halve(session, size):
                raise
            return session, position
        return session.moved(answer), position + size

    def _status(self, session: Session, sent: int) -> tuple[Session, int]:
        """Ask how much of the blob the registry has; `sent` where it names no position, or one beyond the blob."""
        answer = self._exchange.ask_once(self._call("GET", session, str(session.url)))
        have = received(answer)
        return session.moved(answer), sent if have is None or have > session.blob.size else have

    def _size(self, session: Session) -> int:
        with self._lock:
            return max(self._sizes.get(session.repository.registry, CHUNK), session.least)

    def _halve(self, session: Session, refused: int) -> bool:
        """Remember that `refused` bytes are too many; say whether less may be tried."""
        smaller = refused // 2
        if smaller < max(LEAST_CHUNK, session.least):
            return False
        with self._lock:
            known = self._sizes.get(session.repository.registry, CHUNK)
            self._sizes[session.repository.registry] = min(known, smaller)
        _LOG.info("%s: chunks of %d bytes are too large", session.repository.registry, refused)
        return True

    def _call(
        self,
        method: str,
        session: Session,
        url: str,
        *,
        headers: dict[str, str] | None = None,
        body: Callable[[], Chunks] | None = None,
        length: int = 0,
        read_s: float | None = None,
    ) -> Call:
        return Call(
            method,
            session.repository,
            url,
            "upload" if method == "GET" else "blob",
            session.name,
            headers={**({} if method == "GET" else _HEADERS), **(headers or {})},
            body=body,
            length=length,
            writes=True,
            read_s=read_s,
        )


class _Content:
    """One blob, read once from start to end while chunk after chunk is cut from it; opened again only to go back."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._stream: Chunks | None = None
        self._rest: Chunk = b""
        self._position = 0

    def take(self, start: int, size: int) -> Chunks:
        """Give `size` bytes from `start` on."""
        if self._stream is None or start != self._position:
            self.close()
            self._stream, self._rest, self._position = self._read(start), b"", start
        while size:
            piece = self._rest or next(self._stream, b"")
            if not piece:
                return  # the source ended early: its own error said so, or the registry will
            given, self._rest = piece[:size], piece[size:]
            size -= len(given)
            self._position += len(given)
            yield given

    def close(self) -> None:
        """Let go of the source."""
        if isinstance(self._stream, Generator):
            self._stream.close()
        self._stream = None


_OFFSET_WRONG = 416
_WANTS_CHUNKS = frozenset({405, 411, TOO_LARGE})
# Pulp (pulp_container 2.30, app/registry_api.py, BlobUploads.put) stores what arrives in one PUT without comparing its digest:
# where the connection breaks, a short blob stays under that digest, and neither another upload nor a DELETE replaces it. After
# a PATCH it does compare. Satellite passes the header on with underscores (Katello/katello, registry_proxies_controller.rb).
# OpenShift's own registry sends it, too, and takes chunks as well.
_UNVERIFIED_PUT = ("X-Registry-Supports-Signatures", "x_registry_supports_signatures")
_DAMAGED_ON_THE_WAY = "DIGEST_INVALID"  # the digest was verified while reading, so the bytes changed on their way
_BROKEN_SESSION = frozenset({"BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID"})
DAMAGED = (
    "Restore the file in the registry's storage, or remove it there (docker-registry: blobs/sha256/…/data; neither an upload "
    "nor a DELETE replaces it). Then push again with --heal, which asks for every blob."
)
_LOG = logging.getLogger(__name__)
Read = Callable[[int], Chunks]


class Uploader:
    """Writes blobs. Remembers hosts where mounting fails, and hosts that want chunks. Shared by threads."""

    def __init__(self, exchange: Exchange, closing_put_s: float) -> None:
        self._exchange = exchange
        self._closing_put_s = closing_put_s
        self._chunks = ChunkedSender(exchange, closing_put_s)
        self._mountless: set[str] = set()
        self._chunked: set[str] = set()

    def stored_size(self, repository: Reference, blob: Descriptor) -> int | None:
        """Return the bytes that the registry has of a blob, `blob.size` where it does not say; None when it has none.

        A repository that will be written to has not got it either where it may not be read, for it may not exist yet: Quay, for
        one, creates it when a token to push is asked for (quay/quay, endpoints/v2/v2auth.py). The POST decides.
        """
        call = Call(
            "HEAD", repository, _path(repository, blob.digest), "blob", _name(repository, blob), accept=frozenset({404})
        )
        try:
            answer = self._exchange.ask(call)
        except AuthenticationError as error:
            if not self._exchange.pushes(repository):
                raise
            _LOG.info("%s: taken for not there: %s", _name(repository, blob), error.message)
            return None
        if answer.status != httpx.codes.OK:
            return None
        size = answer.headers.get("Content-Length", "")
        says = size.isascii() and size.isdigit() and answer.headers.get("Content-Encoding", "identity") == "identity"
        return int(size[:19]) if says else blob.size

    def has(self, repository: Reference, blob: Descriptor) -> bool:
        """Say whether the registry has all of the blob in this repository.

        After a power cut or on a full disk a registry may keep a file that is empty or short, and still answer 200 with
        the length of that file (distribution/distribution#2788, moby/moby#21290).
        """
        return self.stored_size(repository, blob) == blob.size

    def upload(self, repository: Reference, blob: Descriptor, read: Read, mount_from: Sequence[Reference]) -> Written:
        """Mount or send. After trouble the whole step begins again, unless the blob turns out to be there."""
        answer = self._mounted(repository, blob, mount_from)
        if answer is Written.MOUNTED:
            return Written.MOUNTED
        first = [answer] if isinstance(answer, Answer) else []
        broken = False

        def step() -> None:
            nonlocal broken
            opened = first.pop() if first else self._begin(repository, blob)
            session = Session.opened(repository, blob, opened)
            if any(name in opened.headers for name in _UNVERIFIED_PUT):
                self._chunked.add(repository.registry)
            try:
                self._send(session, read, in_chunks=broken)
            except RetryableError as failure:
                if self.has(repository, blob):  # the answer was lost, not the blob
                    return
                broken = not broken and isinstance(failure.error, RegistryUnreachableError)  # smaller requests may get through
                raise

        self._exchange.retried(step)
        return Written.COPIED

    def require_whole(self, repository: Reference, blob: Descriptor) -> None:
        """Check an uploaded blob. Raises RegistryRefusedError where the registry keeps another length than it was given.

        docker-registry (2.8.2) answers 201 to the upload of a blob whose file it has already, and leaves that file as it is.
        Where the registry does not show the blob yet, or does not answer, its 201 to the upload counts.
        """
        try:
            stored = self.stored_size(repository, blob)
        except RegistryError as error:
            _LOG.info("%s: not looked at after its upload: %s", _name(repository, blob), error.message)
            return
        if stored is not None and stored != blob.size:
            raise RegistryRefusedError(
                f"{_name(repository, blob)}: the storage of {repository.registry} is damaged: it took the blob in repository "
                f"{repository.repository} and has {stored} of its {blob.size} bytes",
                hint=DAMAGED,
            )

    def _mounted(self, repository: Reference, blob: Descriptor, mount_from: Sequence[Reference]) -> Answer | Written | None:
        """Try to mount: MOUNTED, or the session the registry opened instead, or None."""
        neighbours = [r for r in mount_from if r.registry == repository.registry and r.repository != repository.repository]
        if repository.registry in self._mountless:  # one refusal is enough: each attempt costs a round trip
            return None
        for neighbour in neighbours:
            try:
                answer = self._exchange.ask(self._mount(repository, blob, neighbour))
            except (AuthenticationError, NotFoundError) as error:
                _LOG.debug("%s: not mounted from %s: %s", blob.digest, neighbour.name, error.message)
            except RegistryRefusedError as error:
                _LOG.info("%s: does not mount: %s", repository.registry, error.message)
                self._mountless.add(repository.registry)
                return None
            else:
                return Written.MOUNTED if answer.status == httpx.codes.CREATED else answer
        return None

    def _mount(self, repository: Reference, blob: Descriptor, neighbour: Reference) -> Call:
        query = httpx.QueryParams({"mount": blob.digest, "from": neighbour.repository})
        return Call(
            "POST",
            repository,
            f"/v2/{repository.repository}/blobs/uploads/?{query}",
            "mount",
            _name(repository, blob),
            writes=True,
            also_from=neighbour.repository,
        )

    def _begin(self, repository: Reference, blob: Descriptor) -> Answer:
        url = f"/v2/{repository.repository}/blobs/uploads/"
        try:
            return self._exchange.ask_once(Call("POST", repository, url, "upload", _name(repository, blob), writes=True))
        except AuthenticationError as error:
            raise NotWritableError(error.message, hint=error.hint, status=error.status, code=error.code) from error

    def _send(self, session: Session, read: Read, *, in_chunks: bool) -> None:
        """Send the blob and close the session. What another way or another session may repair becomes a RetryableError."""
        registry = session.repository.registry
        chunked = in_chunks or registry in self._chunked
        try:
            if chunked:
                self._chunks.send(session, read)
            else:
                self._exchange.ask_once(self._whole(session, read))
        except RegistryError as error:
            if error.status in _WANTS_CHUNKS and not chunked:
                _LOG.info("%s: wants chunks: %s", registry, error.message)
                self._chunked.add(registry)
                raise RetryableError(error) from error
            if error.code in _BROKEN_SESSION or error.status == _OFFSET_WRONG:
                raise RetryableError(error, 3) from error
            if error.code == _DAMAGED_ON_THE_WAY:
                _LOG.warning("%s: sending it again: %s", session.name, error.message)
                raise RetryableError(error) from error
            raise

    def _whole(self, session: Session, read: Read) -> Call:
        return Call(
            "PUT",
            session.repository,
            session.closing_url,
            "blob",
            session.name,
            headers=_HEADERS,
            body=lambda: read(0),
            length=session.blob.size,
            writes=True,
            read_s=self._closing_put_s,
        )


def _path(repository: Reference, digest: str) -> str:
    return f"/v2/{repository.repository}/blobs/{digest}"


def _name(repository: Reference, blob: Descriptor) -> str:
    return f"{repository.name}@{blob.digest}"
