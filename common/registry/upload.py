"""Blobs into a registry: mounted from a neighbour, or sent (distribution specification, *Pushing blobs*).

One PUT with Content-Length is what every registry takes best. A host that finds it too large, or breaks it, gets chunks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import httpx

from common.content import Chunks, Written
from common.errors import AuthenticationError, NotFoundError, NotWritableError, RegistryError, RegistryRefusedError
from common.log import logger
from common.oci.descriptor import Descriptor
from common.reference import Reference
from common.registry.chunked_upload import TOO_LARGE, ChunkedSender
from common.registry.exchange import Answer, Call, Exchange
from common.registry.refusal import Trouble
from common.registry.traffic import patiently
from common.registry.upload_session import Session

_OFFSET_WRONG = 416
_WANTS_CHUNKS = frozenset({405, 411, TOO_LARGE})
_BROKEN_SESSION = frozenset({"BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID"})
_LOG = logger(__name__)
Read = Callable[[int], Chunks]


class Uploader:
    """Writes blobs. Remembers hosts where mounting fails, and hosts that want chunks. Shared by threads."""

    def __init__(self, exchange: Exchange, closing_put_s: float) -> None:
        self._exchange = exchange
        self._closing_put_s = closing_put_s
        self._chunks = ChunkedSender(exchange, closing_put_s)
        self._mountless: set[str] = set()
        self._chunked: set[str] = set()

    def has(self, repository: Reference, blob: Descriptor) -> bool:
        """Say whether the registry has the blob in this repository.

        A repository that will be written to has not got it either where it may not be read, for it may not exist yet: Quay, for
        one, creates it when a token to push is asked for (quay/quay, endpoints/v2/v2auth.py). The POST decides.
        """
        call = Call(
            "HEAD", repository, _path(repository, blob.digest), "blob", _name(repository, blob), accept=frozenset({404})
        )
        try:
            return self._exchange.ask(call).status == httpx.codes.OK
        except AuthenticationError as error:
            if not self._exchange.pushes(repository):
                raise
            _LOG.info("%s: taken for not there: %s", _name(repository, blob), error.message)
            return False

    def upload(self, repository: Reference, blob: Descriptor, read: Read, mount_from: Sequence[Reference]) -> Written:
        """Mount or send. After trouble the whole step begins again, unless the blob turns out to be there."""
        answer = self._mounted(repository, blob, mount_from)
        if answer is Written.MOUNTED:
            return Written.MOUNTED
        first = [answer] if isinstance(answer, Answer) else []
        broken = False

        def step() -> None:
            nonlocal broken
            session = Session.opened(repository, blob, first.pop() if first else self._begin(repository, blob))
            try:
                self._send(session, read, in_chunks=broken)
            except Trouble as trouble:
                if self.has(repository, blob):  # the answer was lost, not the blob
                    return
                broken = not broken and not trouble.error.status  # no answer at all: smaller requests may get through
                raise

        patiently(step)
        return Written.COPIED

    def _mounted(self, repository: Reference, blob: Descriptor, mount_from: Sequence[Reference]) -> Answer | Written | None:
        """Try to mount: MOUNTED, or the session the registry opened instead, or None."""
        neighbours = [r for r in mount_from if r.registry == repository.registry and r.repository != repository.repository]
        if repository.registry in self._mountless:
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
        """Send the blob and close the session. What another way or another session may mend becomes Trouble."""
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
                raise Trouble(error) from error
            if error.code in _BROKEN_SESSION or error.status == _OFFSET_WRONG:
                raise Trouble(error, 3) from error
            raise

    def _whole(self, session: Session, read: Read) -> Call:
        return Call(
            "PUT",
            session.repository,
            session.closing_url,
            "blob",
            session.name,
            headers={"Content-Type": "application/octet-stream"},
            body=lambda: read(0),
            length=session.blob.size,
            writes=True,
            read_s=self._closing_put_s,
        )


def _path(repository: Reference, digest: str) -> str:
    return f"/v2/{repository.repository}/blobs/{digest}"


def _name(repository: Reference, blob: Descriptor) -> str:
    return f"{repository.name}@{blob.digest}"
