"""Blobs into a registry: mounted from a neighbour, or sent in one PUT (distribution specification, *Pushing blobs*).

One PUT with Content-Length is what every registry takes best. Sending in several PATCH requests, for hosts that limit the size
of one, would be a second way beside `_send`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import httpx

from common.content import Chunks, Written
from common.errors import AuthenticationError, NotFoundError, RegistryError, RegistryRefusedError
from common.log import logger
from common.oci.descriptor import Descriptor
from common.reference import Reference, is_host
from common.registry.exchange import Answer, Call, Exchange, joined
from common.registry.refusal import Trouble
from common.registry.traffic import patiently

_OFFSET_WRONG = 416
_LOG = logger(__name__)
Read = Callable[[int], Chunks]


class Uploader:
    """Writes blobs. Remembers hosts where mounting fails. Shared by threads."""

    def __init__(self, exchange: Exchange, closing_put_s: float) -> None:
        self._exchange = exchange
        self._closing_put_s = closing_put_s
        self._mountless: set[str] = set()

    def has(self, repository: Reference, blob: Descriptor) -> bool:
        """Say whether the registry has the blob in this repository."""
        call = Call(
            "HEAD", repository, _path(repository, blob.digest), "blob", _name(repository, blob), accept=frozenset({404})
        )
        return self._exchange.ask(call).status == httpx.codes.OK

    def upload(self, repository: Reference, blob: Descriptor, read: Read, mount_from: Sequence[Reference]) -> Written:
        """Mount or send. After trouble the whole step begins again, unless the blob turns out to be there."""
        session = self._mounted(repository, blob, mount_from)
        if session is Written.MOUNTED:
            return Written.MOUNTED
        first: list[Answer | None] = [session if isinstance(session, Answer) else None]

        def step() -> None:
            begun = first.pop() if first else None
            if begun is None:
                begun = self._begin(repository, blob)
            try:
                self._send(repository, blob, read, begun)
            except Trouble:
                if self.has(repository, blob):  # the answer was lost, not the blob
                    return
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
        return self._exchange.ask_once(Call("POST", repository, url, "upload", _name(repository, blob), writes=True))

    def _send(self, repository: Reference, blob: Descriptor, read: Read, begun: Answer) -> None:
        """Close the session with the whole blob. A session that the registry has forgotten is trouble that may pass."""
        call = Call(
            "PUT",
            repository,
            _closing_url(repository, blob, begun),
            "blob",
            _name(repository, blob),
            headers={"Content-Type": "application/octet-stream"},
            body=lambda: read(0),
            length=blob.size,
            writes=True,
            read_s=self._closing_put_s,
        )
        try:
            self._exchange.ask_once(call)
        except RegistryError as error:
            if error.code in ("BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID") or error.status == _OFFSET_WRONG:
                raise Trouble(error, 3) from error
            raise


def _closing_url(repository: Reference, blob: Descriptor, begun: Answer) -> str:
    """Return the newest Location, which may be relative and may hold a query, with the digest added."""
    location = begun.headers.get("Location", "")
    url = joined(begun.url, location)
    if not location or url.scheme not in ("http", "https") or not is_host(url.netloc.decode()):
        raise RegistryRefusedError(
            f"{_name(repository, blob)}: {repository.registry} opened an upload, but its Location {location[:200]!r} is no URL",
            hint="Look at the registry's log; a proxy before it may change its answers.",
        )
    if url.scheme == "http" and begun.url.scheme == "https" and url.host == begun.url.host:
        url = url.copy_with(scheme="https", port=begun.url.port)  # a registry that does not know of the TLS before it
    return str(url.copy_add_param("digest", blob.digest))


def _path(repository: Reference, digest: str) -> str:
    return f"/v2/{repository.repository}/blobs/{digest}"


def _name(repository: Reference, blob: Descriptor) -> str:
    return f"{repository.name}@{blob.digest}"
