"""A blob in several PATCH requests, for hosts that limit the size of one or that break long ones.

The second way beside the one PUT of `upload.py` (distribution specification, *Pushing a blob in chunks*). Chunks start at
CHUNK bytes and halve for a host that finds them too large; after a break the registry is asked how far it got.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator

from common.content import Chunk, Chunks
from common.errors import RegistryError
from common.log import logger
from common.registry.exchange import Call, Exchange
from common.registry.refusal import Trouble
from common.registry.upload_session import Session, received

CHUNK = 16 * 1024 * 1024
LEAST_CHUNK = 512 * 1024  # half of what the strictest of common proxies takes
TOO_LARGE = 413
_OFFSET_WRONG = 416
_FAILURES = 7  # in a row, at one place: room to halve from CHUNK to what a proxy of 1 MiB takes
_HEADERS = {"Content-Type": "application/octet-stream"}
_LOG = logger(__name__)
Read = Callable[[int], Chunks]


class ChunkedSender:
    """Sends blobs chunk by chunk; remembers how large a chunk each host takes. Shared by threads."""

    def __init__(self, exchange: Exchange, closing_put_s: float, chunk: int = CHUNK) -> None:
        self._exchange = exchange
        self._closing_put_s = closing_put_s
        self._chunk = chunk
        self._lock = threading.Lock()
        self._sizes: dict[str, int] = {}

    def send(self, session: Session, read: Read) -> None:
        """Send the whole blob and close the session. Raises Trouble where beginning again may help, else RegistryError.

        The place in the registry's lane is held from the first chunk to the closing PUT: whoever has the source open and waits
        for the registry, while another has the registry and waits for the source, would wait for ever.
        """
        content = _Content(read)
        with self._exchange.lane(session.repository.registry).turn():
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
            except Trouble as trouble:
                failures += 1
                if failures >= _FAILURES:
                    raise
                if failures > 1 and not trouble.error.status:  # a proxy may break what is too large without a word
                    self._halve(session, min(self._size(session), session.blob.size - position))
                _LOG.info("%s: asking how far it got: %s", session.name, trouble)
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
            if error.status == _OFFSET_WRONG:
                raise Trouble(error) from error
            if error.status != TOO_LARGE or not self._halve(session, size):
                raise
            return session, position
        return session.moved(answer), position + size

    def _status(self, session: Session, sent: int) -> tuple[Session, int]:
        """Ask how much of the blob the registry has, at most one chunk past `sent`."""
        answer = self._exchange.ask_once(self._call("GET", session, str(session.url)))
        have = received(answer)
        return session.moved(answer), sent if have is None or have > session.blob.size else have

    def _size(self, session: Session) -> int:
        with self._lock:
            return max(self._sizes.get(session.repository.registry, self._chunk), session.least)

    def _halve(self, session: Session, refused: int) -> bool:
        """Remember that `refused` bytes are too many; say whether less may be tried."""
        smaller = refused // 2
        if smaller < max(LEAST_CHUNK, session.least):
            return False
        with self._lock:
            known = self._sizes.get(session.repository.registry, self._chunk)
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
