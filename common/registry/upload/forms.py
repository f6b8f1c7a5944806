"""One upload session, and the forms in which a blob is sent in it.

`WHOLE`, one PUT with Content-Length, takes the fewest requests. `STREAM`, one PATCH without Content-Range and an empty PUT, is
how docker and podman push, so no registry can do without it. `CHUNKS`, PATCH by PATCH, is for proxies that limit or break long
requests.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from common.content import Chunk, Chunks
from common.errors import RegistryError, RegistryRefusedError, RegistryUnreachableError
from common.oci.reference import Reference, is_host
from common.registry.http.exchange import Answer, Call, Exchange
from common.registry.http.urls import joined, with_parameter
from common.retry import RetryableError

if TYPE_CHECKING:
    import httpx

    from common.oci.image import Descriptor


Read = Callable[[int], Chunks]
_LOG = logging.getLogger(__name__)

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
        return f"{self.repository.name}@{self.blob.digest}"


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
            f"{repository.name}@{blob.digest}: {repository.registry} opened an upload, but its Location "
            f"{location[:200]!r} is no URL",
            hint="Look at the registry's log; a proxy before it may change its answers.",
        )
    if url.scheme == "http" and answer.url.scheme == "https" and url.host == answer.url.host:
        url = url.copy_with(scheme="https", port=answer.url.port)  # a registry that does not know of the TLS before it
    return url


CHUNK = 16 * 1024 * 1024
LEAST_CHUNK = 512 * 1024  # half of what the strictest of common proxies takes
TOO_LARGE = 413
OFFSET_WRONG = 416

_NO_STATUS = frozenset({400, 405, 501})  # a registry that does not say how far an upload got
_FAILURES = 7  # in a row, at one place: room to halve from CHUNK to what a proxy of 1 MiB takes
_HEADERS = {"Content-Type": "application/octet-stream"}


class Form(Enum):
    """How the bytes of a blob are sent; the values are for messages."""

    WHOLE = "in one PUT"
    STREAM = "in one PATCH"
    CHUNKS = "in chunks"


class Body:
    """The content of one blob, opened as often as a form needs it. Not shared.

    `sent_at`: when the last byte was handed over, or the closing PUT sent; None while the registry cannot have all of it.
    `failure`: what the source raised, which says nothing about the registry.
    """

    def __init__(self, read: Read, size: int, monotonic_s: Callable[[], float]) -> None:
        self._read = read
        self._size = size
        self._monotonic_s = monotonic_s
        self.sent_at: float | None = None
        self.failure: BaseException | None = None

    def read(self, start: int) -> Chunks:
        """Give the bytes from `start` on."""
        try:
            yield from self._read(start)
        except BaseException as error:
            self.failure = error
            raise

    def whole(self) -> Chunks:
        """Give all bytes, and note when the last one was handed over."""
        position = 0
        for chunk in self.read(0):
            position += len(chunk)
            if position >= self._size:
                self.close()
            yield chunk

    def close(self) -> None:
        """Note that the registry has all bytes, or will have them with this request."""
        self.sent_at = self._monotonic_s()


class Sender:
    """Sends blobs; remembers how large a chunk each host takes. Shared by threads."""

    def __init__(self, exchange: Exchange, closing_put_s: float) -> None:
        self._exchange = exchange
        self._closing_put_s = closing_put_s
        self._lock = threading.Lock()
        self._sizes: dict[str, int] = {}

    def send(self, session: Session, body: Body, form: Form) -> None:
        """Send the blob and close the session. Raises RetryableError where beginning again may help, else RegistryError."""
        body.sent_at = None
        if form is Form.WHOLE:
            if not session.blob.size:
                body.close()
            self._close(session, body.whole, session.blob.size)
            return
        # The turn at the registry's limiter is held from the first PATCH to the closing PUT. Otherwise a thread that has the
        # source open and waits for the registry would deadlock with one that has the registry and waits for the source.
        with self._exchange.limiter(session.repository.registry).turn():
            session = self._stream(session, body) if form is Form.STREAM else self._chunks(session, body)
            body.close()
            self._close(session)

    def _close(self, session: Session, body: Callable[[], Chunks] | None = None, length: int = 0) -> None:
        self._exchange.ask_once(
            self._call("PUT", session, session.closing_url, body=body, length=length, read_s=self._closing_put_s)
        )

    def _stream(self, session: Session, body: Body) -> Session:
        """Send all bytes with one PATCH; return where the session is then."""
        size = session.blob.size
        if not size:
            return session
        call = self._call(
            "PATCH", session, str(session.url), body=lambda: body.read(0), length=size, read_s=self._closing_put_s
        )
        return session.moved(self._exchange.ask_once(call))

    def _chunks(self, session: Session, body: Body) -> Session:
        """Send all bytes chunk by chunk; return where the session is then."""
        content = _Content(body.read)  # opened once: a source in an archive seeks and decompresses to get back
        try:
            return self._patches(session, content)
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
                session, position = self._resumed(session, position, failure)
        return session

    def _resumed(self, session: Session, sent: int, failure: RetryableError) -> tuple[Session, int]:
        """Return where to continue after a failed chunk at `sent`."""
        session, position = self._status(session, sent)
        refused = min(self._size(session), session.blob.size - sent)
        offset_wrong = isinstance(failure.error, RegistryError) and failure.error.status == OFFSET_WRONG
        # GHCR answers 416 to a chunk above 4 MiB, which is no matter of the offset (ocx-sh/ocx#237).
        if offset_wrong and position == sent and not self._halve(session, refused):
            raise failure.error
        return session, position

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
            if error.status == OFFSET_WRONG:  # the registry has more or less of it; its status says how much
                raise RetryableError(error) from error
            if error.status != TOO_LARGE or not self._halve(session, size):
                raise
            return session, position
        return session.moved(answer), position + size

    def _status(self, session: Session, sent: int) -> tuple[Session, int]:
        """Ask how much of the blob the registry has; `sent` where it names no position, or one beyond the blob."""
        try:
            answer = self._exchange.ask_once(self._call("GET", session, str(session.url)))
        except RegistryError as error:
            if error.status not in _NO_STATUS:
                raise
            return session, sent
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
