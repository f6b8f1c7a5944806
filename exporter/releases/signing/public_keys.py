"""OpenPGP public keys: files, armored or binary, and those that come with the product.

The content of a key is vouched for by its fingerprint, its restrictions (expiry, revocation, flags) are read from the file.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import time
from dataclasses import dataclass, field, replace
from importlib.resources import files
from itertools import takewhile
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from common.errors import ContentError, SignatureError, UsageError
from common.files import read_limited
from common.openshift import openpgp
from common.text import counted, enumeration, sanitize

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path


MAX_FILE = 1024 * 1024  # bytes; a published key has 2 KB, one that many people signed some hundred
MAX_PACKETS = 5_000  # of a file: each may be a signature, whose verification takes up to 0.3 ms
_MAX_USER = 8192  # bytes of a user ID whose signatures are read; GnuPG writes at most 2,048
_MIN_BITS, _MAX_BITS, _MAX_EXPONENT = 2048, 8192, 1 << 31  # of RSA; Go's openpgp has the last limit too
_VERSION = 4
_HASHES: dict[int, hashes.HashAlgorithm] = {8: hashes.SHA256(), 9: hashes.SHA384(), 10: hashes.SHA512()}  # RFC 4880, 9.4
_HASH_NAMES = {1: "MD5", 2: "SHA-1", 3: "RIPEMD-160", 11: "SHA-224"}
_SHA1 = 2
# Types of signatures over keys (5.2.1).
_CERTIFICATION, _DIRECT, _REVOCATION = range(0x10, 0x14), 0x1F, 0x20
_BINDING, _BY_SUBKEY, _SUBKEY_REVOCATION = 0x18, 0x19, 0x28
_BEGIN, _DASHES = b"-----BEGIN PGP ", b"-----"  # of an armored block
_USER = 120  # characters of a user ID that are shown

# In the package, and by fingerprint: a file that was exchanged is refused (openshift/cluster-update-keys, keys/).
_RELEASE = {
    "redhat-release.asc": "567E347AD0044ADE55BA8A5F199E2F91FD431D51",
    "redhat-beta-2.asc": "B08B659EE86AF623BC90E8DB938A80CAF21541EB",
}
_CI = {
    "openshift-ci.asc": "D04761B116203B0C0859B61628B76E05B923888E",
    "openshift-ci-2.asc": "20CCC7AD272DCD3AA169F12A65C28371F55D29A9",
    "openshift-ci-3.asc": "FE526D8F6FEDC123BE219E45CF4B45E2071F0337",
    "openshift-ci-4.asc": "6A9588F07F2D3AE7973AD2A9193E53CCD2E2F7A4",
}


@dataclass(frozen=True, slots=True)
class PublicKey:
    """An RSA key that may sign, by its fingerprint in upper-case hex. `expires`: seconds since 1970; 0 for never.

    `primary`: the fingerprint of the key that a subkey belongs to, else empty.
    """

    fingerprint: str
    user: str = ""
    created: int = 0
    expires: int = 0
    revoked: bool = False
    signs: bool = True
    primary: str = ""
    subkeys: frozenset[str] = frozenset()  # their key IDs, also of those that may not sign
    rsa_key: rsa.RSAPublicKey | None = field(default=None, compare=False, repr=False)

    @property
    def key_id(self) -> str:
        """The last 16 digits of the fingerprint, by which signatures name the key."""
        return self.fingerprint[-16:]

    @property
    def expiry(self) -> str:
        """The day of the expiry, such as 2027-03-31, or the empty string."""
        return time.strftime("%Y-%m-%d", time.gmtime(self.expires)) if self.expires else ""

    def __str__(self) -> str:
        name = f"{self.fingerprint} ({self.user})" if self.user else self.fingerprint
        return f"{name}, a subkey of {self.primary}" if self.primary else name

    def verify(self, content: bytes, signature: openpgp.SignaturePacket) -> None:
        """Raise SignatureError unless the signature is one over the content, by this key and with SHA-2."""
        algorithm = _HASHES.get(signature.hash_algorithm)
        if algorithm is None:
            name = _HASH_NAMES.get(signature.hash_algorithm, f"algorithm {signature.hash_algorithm}")
            raise SignatureError(f"its digest is made with {name}; SHA-256, SHA-384 and SHA-512 are accepted")
        signed = content + signature.hashed
        # Nothing rests on these two bytes, but the cluster compares them (golang.org/x/crypto, openpgp/packet/public_key.go).
        if hashlib.new(algorithm.name, signed).digest()[:2] != signature.start:
            raise SignatureError("the signature does not belong to the content")
        assert self.rsa_key is not None  # of every key that is read
        size = (self.rsa_key.key_size + 7) // 8
        try:
            # Without leading zeros in a packet (RFC 4880, 3.2), as long as the key in PKCS #1.
            self.rsa_key.verify(signature.number.rjust(size, b"\0"), signed, padding.PKCS1v15(), algorithm)
        except InvalidSignature as error:
            raise SignatureError("the signature does not belong to the content") from error


def shipped(*, okd: bool) -> tuple[PublicKey, ...]:
    """Return the keys of the product: those of Red Hat, or with `okd` those of OpenShift CI. Raises ContentError."""
    folder = files("exporter.releases").joinpath("keys")
    found = []
    for name, fingerprint in (_CI if okd else _RELEASE).items():
        keys = {key.fingerprint: key for key in read_keys(folder.joinpath(name).read_bytes(), name)}
        if set(keys) != {fingerprint}:
            raise ContentError(f"{name} of this installation is not the key {fingerprint}", hint="Install hub-airgap again.")
        found.append(keys[fingerprint])
    return tuple(found)


def load(path: Path) -> tuple[PublicKey, ...]:
    """Read the file of `--release-key`. Raises UsageError."""
    return read_keys(read_limited(path, MAX_FILE, "Name a file that has public keys only."), str(path))


def read_keys(raw: bytes, where: str) -> tuple[PublicKey, ...]:
    """Return the RSA keys, each once, of a binary file, or of all armored blocks of a text such as a ConfigMap.

    Raises UsageError where there is none that can be used, or something that is no public key.
    """
    found: list[PublicKey] = []
    others: list[str] = []
    try:
        for block in _blocks(raw):
            for packets in _transferable_keys(block):
                try:
                    key = _key(packets)
                except SignatureError as error:
                    others.append(str(error))
                else:
                    found += [key, *_signing_subkeys(key, packets)]
    except SignatureError as error:
        raise _unusable(where, str(error)) from error
    if not found:
        raise _unusable(where, enumeration(others, 3) or "there is no key in it")
    return united(found)


def united(keys: Iterable[PublicKey]) -> tuple[PublicKey, ...]:
    """Return each key once, such as one that is there before and after its revocation or its renewal."""
    found: dict[str, PublicKey] = {}
    for key in keys:
        known = found.get(key.fingerprint, key)
        latest = key if not key.expires or (known.expires and key.expires > known.expires) else known
        found[key.fingerprint] = replace(latest, revoked=known.revoked or key.revoked)
    revoked = {key.fingerprint for key in found.values() if key.revoked}
    return tuple(replace(key, revoked=True) if key.primary in revoked else key for key in found.values())


def _unusable(where: str, why: str) -> UsageError:
    return UsageError(
        f"{where}: no OpenPGP public key that can be used: {why}",
        hint="Wanted: a file of RSA keys, as gpg --export or gpg --armor --export writes it.",
    )


def _blocks(raw: bytes) -> Iterator[bytes]:
    """Yield binary content: all of it, or each armored block (RFC 4880, 6.2)."""
    if openpgp.is_message(raw):
        yield raw
        return
    end = 0
    while (begin := raw.find(_BEGIN, end)) >= 0:
        kind, dashes, _ = raw[begin + len(_BEGIN) : begin + len(_BEGIN) + 40].partition(_DASHES)
        if not dashes or kind != b"PUBLIC KEY BLOCK":
            raise SignatureError(f"it has a block of the kind PGP {sanitize(kind.decode('ascii', 'replace'), 40)}")
        end = raw.find(b"-----END PGP PUBLIC KEY BLOCK-----", begin)
        if end < 0:
            raise SignatureError("an armored block without an end")
        yield _decoded(raw[begin + len(_BEGIN) + len(kind + dashes) : end])


def _decoded(text: bytes) -> bytes:
    # In a ConfigMap lines are indented. Headers end with an empty line.
    lines = [line.strip() for line in text.splitlines()][1:]  # the first is the end of the line of BEGIN
    body = lines[lines.index(b"") + 1 :] if b"" in lines else lines
    # The checksum after `=` is not compared: RFC 9580, 6.1, forbids to refuse a key for it.
    encoded = b"".join(line for line in body if not line.startswith(b"="))
    try:
        return base64.b64decode(encoded, validate=True)
    except binascii.Error as error:
        raise SignatureError(f"not base64: {error}") from error


def _transferable_keys(raw: bytes) -> Iterator[list[openpgp.Packet]]:
    """Yield the packets of each key, the key itself first (RFC 4880, 11.1)."""
    current: list[openpgp.Packet] = []
    for number, packet in enumerate(openpgp.packets(raw, MAX_FILE)):
        if packet.tag == openpgp.SECRET_KEY:
            raise SignatureError("it has a private key, which must not be given away; gpg --export writes the public one")
        if number >= MAX_PACKETS:
            raise SignatureError(f"more than {MAX_PACKETS} packets")
        if packet.tag == openpgp.PUBLIC_KEY and current:
            yield current
            current = []
        if not current and packet.tag != openpgp.PUBLIC_KEY:
            raise SignatureError(f"a packet of type {packet.tag} where a public key was expected")
        current.append(packet)
    if current:
        yield current


def _key(packets: list[openpgp.Packet]) -> PublicKey:
    """Return a key with the restrictions of its own signatures. Raises SignatureError for one that cannot be used."""
    body = packets[0].body
    key = _bare(body)
    users = [packet.body for packet in packets if packet.tag == openpgp.USER_ID]
    user = sanitize(users[0].decode("utf-8", "replace"), _USER) if users else ""
    subkeys = frozenset(_fingerprint(packet.body)[-16:] for packet in packets if packet.tag == openpgp.PUBLIC_SUBKEY)
    key = replace(key, user=user, subkeys=subkeys)
    own = list(_own_signatures(key, body, packets))
    # Not verified: who adds a revocation to a file only takes something away.
    revoked = any(signature.kind == _REVOCATION for signature in own)
    states = [each for each in own if each.kind in _CERTIFICATION or each.kind == _DIRECT]
    # With SHA-1 there is nothing to verify: such a one counts where no other does, as in the older form of Red Hat's key.
    states = [each for each in states if each.hash_algorithm != _SHA1] or states
    if not states:
        return replace(key, revoked=revoked)
    latest = max(states, key=lambda each: each.created)
    expires = key.created + latest.key_lifetime if latest.key_lifetime else 0
    return replace(key, revoked=revoked, expires=expires, signs=latest.flags is None or bool(latest.flags & openpgp.MAY_SIGN))


def _signing_subkeys(primary: PublicKey, packets: list[openpgp.Packet]) -> Iterator[PublicKey]:
    """Yield the subkeys that may sign, with the restrictions of both keys."""
    for number, packet in enumerate(packets):
        if packet.tag != openpgp.PUBLIC_SUBKEY:
            continue
        about = _hashed_key(packets[0].body) + _hashed_key(packet.body)
        try:
            subkey = _bare(packet.body)
        except SignatureError:
            continue
        following = takewhile(lambda each: each.tag != openpgp.PUBLIC_SUBKEY, packets[number + 1 :])
        bindings, revoked = _bindings(primary, subkey, about, following)
        latest = max(bindings, key=lambda each: each.created, default=None)
        if latest is None or not (latest.flags or 0) & openpgp.MAY_SIGN:
            continue
        ends = [subkey.created + latest.key_lifetime] if latest.key_lifetime else []
        expires = min([*ends, *([primary.expires] if primary.expires else [])], default=0)
        yield replace(
            subkey, user=primary.user, primary=primary.fingerprint, expires=expires, revoked=primary.revoked or revoked
        )


def _bindings(
    primary: PublicKey, subkey: PublicKey, about: bytes, packets: Iterable[openpgp.Packet]
) -> tuple[list[openpgp.SignaturePacket], bool]:
    """Return what binds a subkey to its key, with SHA-2, and whether it is revoked."""
    found: list[openpgp.SignaturePacket] = []
    revoked = False
    for packet in packets:
        try:
            signature = openpgp.read_signature(packet.body)
            if packet.tag != openpgp.SIGNATURE or signature.issuer not in (primary.key_id, ""):
                continue
            revoked = revoked or signature.kind == _SUBKEY_REVOCATION
            if signature.kind != _BINDING:
                continue
            primary.verify(about, signature)
            if (signature.flags or 0) & openpgp.MAY_SIGN:
                # Else anyone could bind the signing key of another person to a key of their own (5.2.1, 0x19).
                back = openpgp.read_signature(signature.embedded)
                subkey.verify(about if back.kind == _BY_SUBKEY else b"", back)
        except SignatureError:
            continue
        found.append(signature)
    return found, revoked


def _bare(body: bytes) -> PublicKey:
    """Return a key of its packet alone (5.5.2). Raises SignatureError."""
    if body[:1] != bytes((_VERSION,)):
        raise SignatureError(f"a key of version {body[0] if body else 0}, not {_VERSION}")
    if len(body) < 6 or body[5] not in openpgp.RSA:  # noqa: PLR2004
        raise SignatureError(f"a key of algorithm {body[5] if body[5:] else 0}, not RSA")
    modulus, exponent = openpgp.integers(body[6:], 2)
    if not _MIN_BITS <= modulus.bit_length() <= _MAX_BITS or exponent >= _MAX_EXPONENT:
        raise SignatureError(f"an RSA key of {modulus.bit_length()} bits; {_MIN_BITS} to {_MAX_BITS} are accepted")
    try:
        key = rsa.RSAPublicNumbers(exponent, modulus).public_key()
    except ValueError as error:
        raise SignatureError(f"not an RSA key: {error}") from error
    return PublicKey(_fingerprint(body), created=int.from_bytes(body[1:5], "big"), rsa_key=key)


def _fingerprint(body: bytes) -> str:
    # SHA-1 by definition (12.2). A second key with a given fingerprint would be a second preimage, which is out of reach.
    return hashlib.sha1(_hashed_key(body), usedforsecurity=False).hexdigest().upper()


def _hashed_key(body: bytes) -> bytes:
    return b"\x99" + len(body).to_bytes(2, "big")[-2:] + body


def _own_signatures(key: PublicKey, body: bytes, packets: Iterable[openpgp.Packet]) -> Iterator[openpgp.SignaturePacket]:
    """Yield the signatures of a key over itself and its users: revocations, and those that are verified or made with SHA-1."""
    subject = _hashed_key(body)
    about = subject
    for packet in packets:
        if packet.tag == openpgp.PUBLIC_SUBKEY:
            return
        if packet.tag in (openpgp.USER_ID, openpgp.USER_ATTRIBUTE):
            # Pictures are passed over: the key states the same next to a name.
            named = packet.tag == openpgp.USER_ID and len(packet.body) <= _MAX_USER
            about = subject + b"\xb4" + len(packet.body).to_bytes(4, "big") + packet.body if named else b""
        if packet.tag != openpgp.SIGNATURE or not about:
            continue
        try:
            signature = openpgp.read_signature(packet.body)
            if signature.issuer not in (key.key_id, ""):
                continue  # of another person
            if signature.kind != _REVOCATION and signature.hash_algorithm != _SHA1:
                key.verify(about if signature.kind in _CERTIFICATION else subject, signature)
        except SignatureError:
            continue
        yield signature


def described(keys: Iterable[PublicKey]) -> str:
    """Return keys for a message: `2 keys: 567E… (Red Hat, …), …`."""
    known = [str(key) for key in keys]
    return f"{counted(len(known), 'key')}: {enumeration(known, 6)}"
