"""Signatures over files of an archive: raw Ed25519, or ECDSA P-256 with SHA-256 for hosts in FIPS mode.

`openssl pkeyutl` verifies both (docs/reference/archive-format.md).
"""

from __future__ import annotations

import hashlib
from enum import StrEnum
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from common.errors import UsageError
from common.files import read_limited, write_together, writing

if TYPE_CHECKING:
    from pathlib import Path


MAX_KEY = 64 * 1024  # bytes of a PEM file; a P-256 key has about 240
MAX_SIGNATURE = 512  # bytes; Ed25519 has 64, P-256 at most 72
# Deterministic (RFC 6979): the same content and key give the same archive. Ed25519 always is.
_ECDSA = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)
PrivateKey = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey
PublicKey = ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey


class Algorithm(StrEnum):
    """Algorithm of a key."""

    ED25519 = "ed25519"
    ECDSA_P256 = "ecdsa-p256"


class SignatureState(StrEnum):
    """The result of looking for a signature over an inventory, and of checking it where a key was given."""

    VALID = "valid"
    ABSENT = "absent"
    INVALID = "invalid"
    UNCHECKED = "unchecked"  # there is one, and no key was given


class Signer:
    """A private key."""

    def __init__(self, key: PrivateKey) -> None:
        self._key = key

    @classmethod
    def load(cls, path: Path) -> Signer:
        """Read a private key, PEM without a password. Raises UsageError."""
        try:
            key = serialization.load_pem_private_key(_read(path), password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise _no_key(path, "private", error) from error
        if isinstance(key, ed25519.Ed25519PrivateKey) or (
            isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1)
        ):
            return cls(key)
        raise _no_key(path, "private")

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the public key; see `Verifier.fingerprint`."""
        return Verifier(self._key.public_key()).fingerprint

    def sign(self, content: bytes) -> bytes:
        """Return the signature; always the same for the same content."""
        if isinstance(self._key, ed25519.Ed25519PrivateKey):
            return self._key.sign(content)
        return self._key.sign(content, _ECDSA)


class Verifier:
    """A public key."""

    def __init__(self, key: PublicKey) -> None:
        self._key = key

    @classmethod
    def load(cls, path: Path) -> Verifier:
        """Read a public key, PEM. Raises UsageError, also for a private key."""
        # A private key would contain the public one, but it must not leave the connected side.
        try:
            key = serialization.load_pem_public_key(_read(path))
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise _no_key(path, "public", error) from error
        if isinstance(key, ed25519.Ed25519PublicKey) or (
            isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1)
        ):
            return cls(key)
        raise _no_key(path, "public")

    @property
    def fingerprint(self) -> str:
        """`SHA256:` and the digest of the key (SubjectPublicKeyInfo, DER), for comparison by people."""
        # Of the DER form: the same key in another PEM layout has the same fingerprint.
        raw = self._key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        return f"SHA256:{hashlib.sha256(raw).hexdigest()}"

    def accepts(self, content: bytes, signature: bytes) -> bool:
        """Return whether `signature` over `content` was made with this key."""
        try:
            if isinstance(self._key, ed25519.Ed25519PublicKey):
                self._key.verify(signature, content)
            else:
                self._key.verify(signature, content, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            return False
        return True


def make_keys(private: Path, public: Path, algorithm: Algorithm) -> Verifier:
    """Make a key pair: two new PEM files, the private one with mode 0600. Raises UsageError where a file exists, OSError."""
    made: PrivateKey = (
        ed25519.Ed25519PrivateKey.generate() if algorithm is Algorithm.ED25519 else ec.generate_private_key(ec.SECP256R1())
    )
    # Never replaced: archives that were signed with an older key need it. A dangling link would be written through.
    for path in (private, public):
        if path.exists() or path.is_symlink():
            raise UsageError(f"{path} is there already, and keys are never replaced", hint="Choose another name.")
    shared = made.public_key()
    pem = serialization.Encoding.PEM
    secret = made.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    known = shared.public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    # Both or none: a private key alone would be in the way of the next try. Durable: an archive is signed with it at once.
    with writing(f"{private} and {public.name}", "Choose another name."):
        write_together({private: (secret, 0o600), public: (known, 0o644)})
    return Verifier(shared)


def _read(path: Path) -> bytes:
    return read_limited(path, MAX_KEY, "Name the file of the key; hub-export keygen makes a pair.")


def _no_key(path: Path, kind: str, error: Exception | None = None) -> UsageError:
    # cryptography adds an address on the internet, "See https://…", which is no help behind the gap.
    why = f": {str(error).partition('. See http')[0][:200]}" if error else ""
    return UsageError(
        f"{path}: not a {kind} key that can be used{why}",
        hint="Wanted: PEM, Ed25519 or ECDSA P-256, without a password; hub-export keygen makes a pair.",
    )
