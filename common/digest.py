"""Content addresses: `sha256:<64 hex digits>`. Only SHA-256 exists here; the archive format knows no other (ADR 0004)."""

from __future__ import annotations

import hashlib
import re
from typing import NewType

from common.errors import ContentError

Digest = NewType("Digest", str)

_PATTERN = re.compile(r"sha256:[0-9a-f]{64}")
PREFIX = "sha256:"


def parse_digest(text: str) -> Digest:
    """Return `text` as a digest. Raises ContentError for any other algorithm or spelling."""
    if _PATTERN.fullmatch(text):
        return Digest(text)
    algorithm = text.partition(":")[0]
    if algorithm != "sha256" and re.fullmatch(r"[a-z0-9]+", algorithm) and ":" in text:
        raise ContentError(f"digest algorithm {algorithm!r} is not supported, only sha256 is: {text[:80]!r}")
    raise ContentError(f"not a digest: {text[:80]!r}, wanted sha256: and 64 lower-case hex digits")


def digest_of(content: bytes | memoryview) -> Digest:
    """Return the digest of bytes."""
    return Digest(PREFIX + hashlib.sha256(content).hexdigest())


def hex_of(digest: Digest) -> str:
    """Return the 64 hex digits of a digest."""
    return digest.removeprefix(PREFIX)


class Hasher:
    """A digest in the making."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def update(self, chunk: bytes | memoryview) -> None:
        """Take in the next bytes."""
        self._hash.update(chunk)

    def digest(self) -> Digest:
        """Return the digest of everything so far."""
        return Digest(PREFIX + self._hash.hexdigest())
