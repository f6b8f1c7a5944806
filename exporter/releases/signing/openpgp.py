"""Verification of OpenPGP messages: RSA with SHA-2, by keys whose fingerprint is known. Bytes in, content out; no I/O.

It accepts less than GnuPG and the cluster do, and nothing that one of them refuses for its signature.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from common.errors import SignatureError
from common.openshift.openpgp import SignaturePacket, read_message
from exporter.releases.signing.public_keys import described

if TYPE_CHECKING:
    from collections.abc import Collection

    from exporter.releases.signing.public_keys import PublicKey


@dataclass(frozen=True, slots=True)
class Verified:
    """The content of a message with a good signature. `created`: when it was made, in seconds since 1970.

    `note`: that the key has expired, where such a key was allowed; else empty.
    """

    content: bytes
    key: PublicKey
    created: int
    note: str = ""


def verify(message: bytes, keys: Collection[PublicKey], *, expired: bool = False, now: float | None = None) -> Verified:
    """Return what a signed message says, if one of the keys signed it. Raises SignatureError.

    `expired`: accept a key that has expired. A revoked one is never accepted. `now`: seconds since 1970.
    """
    at = time.time() if now is None else now
    signed = read_message(message)
    signature = signed.signature
    key = _signer(signature, keys)
    key.verify(signed.content, signature)
    if key.revoked:
        raise SignatureError(f"signed with the key {key}, which is revoked")
    if not key.signs:
        raise SignatureError(f"signed with the key {key}, which is not for signatures")
    if signature.created < key.created:  # as GnuPG refuses it
        raise SignatureError(f"signed on {_day(signature.created)}, before the key {key} was made")
    # As library-go does, for a signature; the expiry of keys it does not look at (pkg/verify/verify.go).
    if signature.lifetime and signature.created + signature.lifetime < at:
        raise SignatureError(f"the signature expired on {_day(signature.created + signature.lifetime)}")
    note = ""
    if key.expires and key.expires < at:
        note = f"signed on {_day(signature.created)} with the key {key}, which expired on {key.expiry}"
        if not expired:
            raise SignatureError(note)
    return Verified(signed.content, key, signature.created, note)


def _signer(signature: SignaturePacket, keys: Collection[PublicKey]) -> PublicKey:
    for key in keys:
        if key.key_id == signature.issuer:
            return key
    if owner := next((key for key in keys if signature.issuer in key.subkeys), None):
        raise SignatureError(f"signed with a subkey of {owner} that is not bound to it for signatures, with RSA and SHA-2")
    raise SignatureError(
        f"signed with the key {signature.issuer or 'that it does not name'}, which is none of {described(keys)}"
    )


def _day(seconds: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))
