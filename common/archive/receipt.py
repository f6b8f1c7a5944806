"""The receipt: a list of the content of a mirror, which the next archive leaves out.

Specification: docs/reference/archive-format.md, *Receipts*.

It leaves a closed network, so its repositories are those of the sources, and the name of the mirror can be left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from common.archive import inventory_file
from common.archive.inventory import BaseRecord
from common.archive.signature import MAX_SIGNATURE, Verifier
from common.errors import ArchiveError, ArchiveUntrustedError, ContentError, UsageError
from common.files import read_limited
from common.oci.image import Digest, digest_of, parse_digest
from common.serialization import UNDECODABLE, bounded_json, decode_bounded

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


MEDIA_TYPE = "application/vnd.hub-airgap.receipt.v1+json"
MAX_SIZE = 512 * 1024 * 1024  # as of an inventory: two million blobs, and each by repository
SIGNATURE_SUFFIX = ".sig"


class Receipt(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """The content of a mirror. `inventories`: archives that it has completely; `blobs`: all of `repositories`, each once.

    `repositories`: blobs by the repository of the source, or by the target repository chosen for it. A registry finds a blob
    only in its repository, so the digest of a blob alone does not say what can be left out (ADR 0011). `registry` is left
    out of a redacted receipt. `archives` describes the `inventories` (ADR 0076).
    """

    media_type: str
    inventories: tuple[Digest, ...]
    blobs: tuple[Digest, ...]
    repositories: dict[str, tuple[Digest, ...]]
    registry: str | None = None
    archives: dict[Digest, BaseRecord] = {}


_DECODER = msgspec.json.Decoder(Receipt)
_WANTED = "hub-import receipt makes one."


def make(
    inventories: tuple[Digest, ...],
    repositories: Mapping[str, frozenset[Digest]],
    registry: str | None,
    archives: Mapping[Digest, BaseRecord] | None = None,
) -> Receipt:
    """Return a receipt. `archives` describes those of `inventories` whose date or name is known."""
    # Sorted, so that the same content gives the same bytes and digest: archives refer to a receipt by its digest.
    blobs = sorted({digest for found in repositories.values() for digest in found})
    by_name = {name: tuple(sorted(repositories[name])) for name in sorted(repositories)}  # JSON keeps this order
    described = {digest: archives[digest] for digest in sorted(inventories) if archives and digest in archives}
    return Receipt(MEDIA_TYPE, inventories, tuple(blobs), by_name, registry, described)


def encode(receipt: Receipt) -> bytes:
    """Return the bytes of a receipt. Raises ContentError for one that is too large to be read."""
    return bounded_json(receipt, MAX_SIZE, "receipt", "Name archives: each receipt then has fewer blobs.")


def load(path: Path, key: Verifier | None = None) -> tuple[Digest, Receipt]:
    """Read a receipt and its digest. With `key`, the file with the suffix `.sig` next to it has to be its signature.

    Raises UsageError for any other file, ArchiveError for a later version, ArchiveUntrustedError.
    """
    raw = read_limited(path, MAX_SIZE, _WANTED)
    # Before parsing. A forged receipt would make the exporter leave out what the mirror does not have.
    if key is not None:
        _require_signature(path, raw, key)
    try:
        receipt = decode_bounded(raw, _DECODER)
        _check(receipt, path)
    except (*UNDECODABLE, ContentError) as error:
        raise UsageError(f"{path}: not a receipt: {error}", hint=_WANTED) from error
    return digest_of(raw), receipt


def _check(receipt: Receipt, path: Path) -> None:
    if receipt.media_type != MEDIA_TYPE:
        # Another version of the right kind is reported as such: the remedy is a newer program, not another file.
        if receipt.media_type.startswith(MEDIA_TYPE.partition(".v1")[0]):
            raise ArchiveError(
                f"{path}: a receipt of another version, {receipt.media_type[:80]}", hint="Use a newer hub-airgap."
            )
        raise ContentError(f"its media type is {receipt.media_type[:80]!r}, wanted {MEDIA_TYPE!r}")
    for digests in (receipt.inventories, receipt.blobs, *receipt.repositories.values()):
        for digest in digests:
            parse_digest(digest)
    inventory_file.check_names([], receipt.archives)


def _require_signature(path: Path, raw: bytes, key: Verifier) -> None:
    signature = path.with_name(path.name + SIGNATURE_SUFFIX)
    if not signature.is_file():
        why = f"it is not signed: there is no {signature.name} next to it"
    elif key.accepts(raw, read_limited(signature, MAX_SIGNATURE, _WANTED)):
        return
    else:
        why = f"its signature is not that of the key {key.fingerprint}"
    raise ArchiveUntrustedError(f"{path}: not trusted: {why}", hint="Ask the other side for the right key or receipt.")
