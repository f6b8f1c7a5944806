"""The receipt: what the disconnected side really has, carried back so that the next archive leaves it out.

Section: docs/archive-format.md, *Increments and receipts*. It leaves a closed network, so it can be written without any name
of that network; the repositories in it are those of the sources.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from common.archive.signature import MAX_SIGNATURE, Verifier
from common.errors import ArchiveError, ArchiveUntrustedError, ContentError, UsageError
from common.files import read_limited
from common.oci.image import Digest, digest_of, parse_digest
from common.serialization import UNDECODABLE, decode_bounded, pretty_json

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MEDIA_TYPE = "application/vnd.hub-airgap.receipt.v1+json"
MAX_SIZE = 512 * 1024 * 1024
SIGNATURE_SUFFIX = ".sig"


class Receipt(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """What a mirror has. `inventories`: archives of which it has everything; `blobs`: all of `repositories`, each once.

    `repositories`: by the repository of the source, or the one chosen for it, the blobs that its place on the mirror has.
    `registry` is left out of a redacted receipt.
    """

    media_type: str
    inventories: tuple[Digest, ...]
    blobs: tuple[Digest, ...]
    repositories: dict[str, tuple[Digest, ...]]
    registry: str | None = None


_DECODER = msgspec.json.Decoder(Receipt)


def make(inventories: tuple[Digest, ...], repositories: Mapping[str, frozenset[Digest]], registry: str | None) -> Receipt:
    """Return a receipt; its order depends on nothing but its content."""
    blobs = sorted({digest for found in repositories.values() for digest in found})
    by_name = {name: tuple(sorted(repositories[name])) for name in sorted(repositories)}
    return Receipt(MEDIA_TYPE, inventories, tuple(blobs), by_name, registry)


def encode(receipt: Receipt) -> bytes:
    """Return the bytes of a receipt."""
    return pretty_json(receipt)


def load(path: Path, key: Verifier | None = None) -> tuple[Digest, Receipt]:
    """Read a receipt and its digest. With `key`, only under its signature, the file beside it that ends in `.sig`.

    Raises UsageError for a file that is no receipt, ArchiveError for a later version, ArchiveUntrustedError.
    """
    raw = read_limited(path, MAX_SIZE)
    if key is not None:
        _require_signature(path, raw, key)
    try:
        receipt = decode_bounded(raw, _DECODER)
        _check(receipt, path)
    except (*UNDECODABLE, ContentError) as error:
        raise UsageError(f"{path}: not a receipt: {error}", hint="hub-import receipt makes one.") from error
    return digest_of(raw), receipt


def _check(receipt: Receipt, path: Path) -> None:
    if receipt.media_type != MEDIA_TYPE:
        if receipt.media_type.startswith(MEDIA_TYPE.partition(".v1")[0]):
            raise ArchiveError(
                f"{path}: a receipt of another version, {receipt.media_type[:80]}", hint="Use a newer hub-airgap."
            )
        raise ContentError(f"its media type is {receipt.media_type[:80]!r}, wanted {MEDIA_TYPE!r}")
    for digests in (receipt.inventories, receipt.blobs, *receipt.repositories.values()):
        for digest in digests:
            parse_digest(digest)


def _require_signature(path: Path, raw: bytes, key: Verifier) -> None:
    beside = path.with_name(path.name + SIGNATURE_SUFFIX)
    if not beside.is_file():
        why = f"it is not signed: there is no {beside.name} beside it"
    elif key.accepts(raw, read_limited(beside, MAX_SIGNATURE)):
        return
    else:
        why = f"its signature is not that of the key {key.fingerprint}"
    raise ArchiveUntrustedError(f"{path}: not trusted: {why}", hint="Ask the other side for the right key or receipt.")
