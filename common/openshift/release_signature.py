"""Content of a release signature: a JSON document that names a digest, as containers/image signs images.

https://github.com/containers/image/blob/main/docs/containers-signature.5.md
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import msgspec

from common.errors import ContentError, SignatureError, boundary
from common.oci.image import parse_digest
from common.openshift.openpgp import read_message
from common.text import sanitize

if TYPE_CHECKING:
    from collections.abc import Iterable

    from common.oci.image import Digest


_TYPE = "atomic container signature"
_SHOWN = 200  # characters of a reason


@dataclass(frozen=True, slots=True)
class SignedPayload:
    """Content of a signature: the digest of a manifest, and the reference that the signer gave to the image."""

    digest: Digest
    reference: str


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    """Base of the parts. The cluster refuses unknown fields too (openshift/library-go, pkg/verify/verify.go)."""


class _Image(_Strict, frozen=True):
    docker_manifest_digest: str


class _Identity(_Strict, frozen=True):
    docker_reference: str


class _Critical(_Strict, frozen=True):
    type: str
    image: _Image
    identity: _Identity


class _Optional(_Strict, frozen=True):
    creator: str | None = None
    timestamp: Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)] | None = None


class _Document(_Strict, frozen=True):
    critical: _Critical
    optional: _Optional | None = None


# Made at import: msgspec inspects a type at its first use, and crashes where two threads do so together.
_INSPECTED = msgspec.json.Decoder(_Document)


def parse_signed(content: bytes) -> SignedPayload:
    """Return the content of an OpenPGP message, without a check of the signature. Raises SignatureError."""
    return read_payload(read_message(content).content)


def read_payload(raw: bytes) -> SignedPayload:
    """Read the signed document. Raises SignatureError for anything that the cluster would refuse."""
    with boundary(_unreadable):
        # msgspec takes the last of two equal names; containers/image refuses them.
        found = json.loads(raw.decode(), object_pairs_hook=_unique, parse_float=_refused, parse_constant=_refused)
        document = msgspec.convert(found, _Document)
    critical = document.critical
    if critical.type != _TYPE:
        raise SignatureError(f"the signed document is of type {sanitize(critical.type, _SHOWN)!r}, not {_TYPE!r}")
    reference = critical.identity.docker_reference
    if not reference or not reference.isascii() or not reference.isprintable():
        raise SignatureError("the signed document names no image")
    try:
        return SignedPayload(parse_digest(critical.image.docker_manifest_digest), reference)
    except ContentError as error:
        raise SignatureError(f"the signed document: {error.message}") from error


def _unreadable(error: Exception) -> SignatureError:
    return SignatureError(f"the signed document is not that of a container signature: {sanitize(str(error), _SHOWN)}")


def _refused(number: str) -> NoReturn:
    # The cluster decodes the only number, the timestamp, as int64.
    raise ValueError(f"{number[:20]} is not an integer")


def _unique(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"the name {name!r} is there twice")
        found[name] = value
    return found
