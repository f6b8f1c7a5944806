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
_DAMAGED_ON_THE_WAY = "DIGEST_INVALID"  # what was sent is verified as it is read
_BROKEN_SESSION = frozenset({"BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID"})
DAMAGED = (
    "Restore the file in the registry's storage, or remove it there (docker-registry: blobs/sha256/…/data; neither an upload "
    "nor a DELETE replaces it). Then push again with --heal, which asks for every blob."
)
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

        After a power cut or on a full disk a registry may keep a file that is empty or short, and go on answering 200 with
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

    def require_whole(self, repository: Reference, blob: Descriptor) -> None:
        """Look at what was sent. Raises RegistryRefusedError where the registry keeps another length than it was given.

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
            if error.code == _DAMAGED_ON_THE_WAY:
                _LOG.warning("%s: sending it again: %s", session.name, error.message)
                raise Trouble(error) from error
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
