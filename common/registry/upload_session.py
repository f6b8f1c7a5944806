"""An upload session: the place that a registry opened for a blob, and that it may move with every answer.

The newest Location counts; it may be relative and may hold a query (distribution specification, *Pushing blobs*).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import httpx

from common.errors import RegistryRefusedError
from common.oci.descriptor import Descriptor
from common.reference import Reference, is_host
from common.registry.exchange import Answer
from common.registry.urls import joined, with_parameter

MAX_LEAST = 1 << 30  # no sane registry wants larger chunks
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
            return self
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
            f"{repository.name}@{blob.digest}: {repository.registry} opened an upload, "
            f"but its Location {location[:200]!r} is no URL",
            hint="Look at the registry's log; a proxy before it may change its answers.",
        )
    if url.scheme == "http" and answer.url.scheme == "https" and url.host == answer.url.host:
        url = url.copy_with(scheme="https", port=answer.url.port)  # a registry that does not know of the TLS before it
    return url
