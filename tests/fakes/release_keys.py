"""An OpenPGP key of the tests, and release signatures made with it, in the form that signature stores have.

A release signature is a signed message (RFC 4880, 11.3): one-pass signature, literal, signature; the literal is the JSON of
containers/image, docs/containers-signature.5.md. gpgv of GnuPG verifies what is made here.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import struct
import time
import zlib
from dataclasses import dataclass

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

_RSA, _SHA256 = 1, 8
_OF_BINARY, _OF_USER = 0x00, 0x13
# Packet tags (RFC 4880, 4.3).
_SIGNATURE, _ONE_PASS, _PUBLIC_KEY, _COMPRESSED, _LITERAL, _USER = 2, 4, 6, 8, 11, 13
BEGIN = 1_600_000_000  # when the keys of the tests were made: September 2020


@dataclass(frozen=True)
class Signer:
    """A key. `lives_s`: seconds after `created` at which it expires; 0: never."""

    private: rsa.RSAPrivateKey
    user: str = "release of the tests <release@tests.example>"
    created: int = BEGIN
    lives_s: int = 0

    @property
    def _packet(self) -> bytes:
        numbers = self.private.public_key().public_numbers()
        return struct.pack(">BIB", 4, self.created, _RSA) + _mpi(numbers.n) + _mpi(numbers.e)

    @property
    def fingerprint(self) -> str:
        """The fingerprint, in upper case."""
        body = self._packet
        return hashlib.sha1(b"\x99" + struct.pack(">H", len(body)) + body).hexdigest().upper()

    @property
    def public(self) -> bytes:
        """The public key as packets: the key, its user, its signature of itself."""
        body, user = self._packet, self.user.encode()
        subject = b"\x99" + struct.pack(">H", len(body)) + body + b"\xb4" + struct.pack(">I", len(user)) + user
        more = _subpacket(27, b"\x03") + (_subpacket(9, struct.pack(">I", self.lives_s)) if self.lives_s else b"")
        made = self._signature(_OF_USER, subject, self.created, more)
        return _packet(_PUBLIC_KEY, body) + _packet(_USER, user) + _packet(_SIGNATURE, made)

    @property
    def armored(self) -> str:
        """The public key as text (RFC 4880, 6.2)."""
        text = base64.encodebytes(self.public).decode()
        return f"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n{text}-----END PGP PUBLIC KEY BLOCK-----\n"

    def message(self, literal: bytes, *, at: int = 0, compressed: bool = False) -> bytes:
        """Return a signed message of any content, signed at a time (0: now)."""
        at = at or int(time.time())
        one_pass = struct.pack(">BBBB", 3, _OF_BINARY, _SHA256, _RSA) + bytes.fromhex(self.fingerprint[-16:]) + b"\x01"
        held = b"b\x00" + struct.pack(">I", at) + literal
        signature = self._signature(_OF_BINARY, literal, at)
        parts = _packet(_ONE_PASS, one_pass) + _packet(_LITERAL, held) + _packet(_SIGNATURE, signature)
        return _packet(_COMPRESSED, b"\x02" + zlib.compress(parts)) if compressed else parts

    def release(
        self, digest: str, reference: str = "quay.io/openshift-release-dev/ocp-release:4.0.0-x86_64", **how: int
    ) -> bytes:
        """Return the signature of a payload; `how`: see `message`."""
        return self.message(signed_json(digest, reference), **how)

    def _signature(self, kind: int, subject: bytes, at: int, more: bytes = b"") -> bytes:
        fingerprint = bytes.fromhex(self.fingerprint)
        hashed = _subpacket(33, b"\x04" + fingerprint) + _subpacket(2, struct.pack(">I", at)) + more
        head = struct.pack(">BBBBH", 4, kind, _RSA, _SHA256, len(hashed)) + hashed
        whole = subject + head + struct.pack(">BBI", 4, 0xFF, len(head))
        unhashed = _subpacket(16, fingerprint[-8:])
        made = self.private.sign(whole, padding.PKCS1v15(), hashes.SHA256())
        begin = hashlib.sha256(whole).digest()[:2]
        return head + struct.pack(">H", len(unhashed)) + unhashed + begin + _mpi(int.from_bytes(made, "big"))


def signed_json(digest: str, reference: str) -> bytes:
    """Return what a release signature signs."""
    image = {"docker-manifest-digest": digest}
    critical = {"image": image, "type": "atomic container signature", "identity": {"docker-reference": reference}}
    optional = {"creator": "tests", "timestamp": BEGIN}
    return json.dumps({"critical": critical, "optional": optional}).encode()


@functools.cache
def signer(user: str = "release of the tests <release@tests.example>", lives_s: int = 0) -> Signer:
    """Return a key, the same in each call of one process; another `user` has another key."""
    return Signer(rsa.generate_private_key(public_exponent=65537, key_size=2048), user, lives_s=lives_s)


def _mpi(number: int) -> bytes:
    return struct.pack(">H", number.bit_length()) + number.to_bytes((number.bit_length() + 7) // 8, "big")


def _packet(tag: int, body: bytes) -> bytes:
    """Return a packet with a new header, and a length of five octets (RFC 4880, 4.2.2.3)."""
    return bytes((0xC0 | tag, 0xFF)) + struct.pack(">I", len(body)) + body


def _subpacket(kind: int, body: bytes) -> bytes:
    return bytes((len(body) + 1, kind)) + body
