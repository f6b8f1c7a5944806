"""OpenPGP packets and signed messages (RFC 4880): bytes in, parts out, without keys and without cryptography.

Only what signatures of releases need: one signature over one literal, compressed or not. All else is refused.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from common.errors import SignatureError

if TYPE_CHECKING:
    from collections.abc import Iterator


MAX_MESSAGE = 50 * 1024  # bytes: as many as library-go reads of a signature file (pkg/verify/store/sigstore/sigstore.go)
MAX_BODY = 64 * 1024  # bytes of a packet of a message
MAX_DECOMPRESSED = 1024 * 1024
BINARY = 0x00  # type of a signature over a document as it is (RFC 4880, 5.2.1)
RSA = frozenset((1, 3))  # public-key algorithms: encrypt or sign, sign only (9.1)

# Tags of packets (4.3).
SIGNATURE, ONE_PASS, SECRET_KEY, PUBLIC_KEY, COMPRESSED, LITERAL = 2, 4, 5, 6, 8, 11
USER_ID, PUBLIC_SUBKEY, USER_ATTRIBUTE = 13, 14, 17
_DATA = frozenset((COMPRESSED, LITERAL))  # the tags here that may have partial lengths (4.2.2.4)
_ZIP, _ZLIB = 1, 2
_OLD, _NEW = 3, 4  # versions of signatures

# Subpackets (5.2.3.1).
_CREATED, _EXPIRES, _KEY_EXPIRES, _ISSUER, _FLAGS, _EMBEDDED, _FINGERPRINT = 2, 3, 9, 16, 27, 32, 33
_SIZES = {_CREATED: 4, _EXPIRES: 4, _KEY_EXPIRES: 4, _ISSUER: 8}
# What may be critical: any other critical statement makes a signature invalid (5.2.3.1). Both GnuPG and Go's openpgp, which the
# cluster has, know these; 11, 21, 22, 25 and 30 are preferences and features, which change nothing of the signed content.
_MAY_BE_CRITICAL = frozenset((_CREATED, _EXPIRES, _KEY_EXPIRES, 11, _ISSUER, 21, 22, 25, _FLAGS, 30))
_UNDERSTOOD = frozenset((*_SIZES, _FLAGS, _EMBEDDED, _FINGERPRINT))
MAY_SIGN = 0x02  # bit of the key flags (5.2.3.21)


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet; `body` without its header and its partial lengths."""

    tag: int
    body: bytes


@dataclass(frozen=True, slots=True)
class SignaturePacket:
    """A signature of version 3 or 4. `hashed` follows the content in what is hashed (5.2.4).

    `issuer`: the key ID in upper-case hex, or empty. `created`, in seconds since 1970, is signed too. `lifetime`
    and `key_lifetime`: seconds, 0 for ever. `flags`: those of a key, or None. `start`: the first two bytes of the digest.
    `embedded`: the body of a signature packet by a subkey.
    """

    kind: int
    public_algorithm: int
    hash_algorithm: int
    created: int
    issuer: str
    lifetime: int
    key_lifetime: int
    flags: int | None
    hashed: bytes
    start: bytes
    number: bytes
    embedded: bytes = b""


@dataclass(frozen=True, slots=True)
class SignedMessage:
    """The content of a literal and the signature over it, which is not verified."""

    content: bytes
    signature: SignaturePacket


class _Reader:
    """Reads bytes in their order. Raises SignatureError at the end of them."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._at = 0

    @property
    def left(self) -> int:
        """Number of bytes that follow."""
        return len(self._raw) - self._at

    def take(self, size: int) -> bytes:
        """Return the next `size` bytes."""
        if size > self.left:
            raise SignatureError("it ends early")
        self._at += size
        return self._raw[self._at - size : self._at]

    def number(self, size: int) -> int:
        """Return a number of `size` bytes."""
        return int.from_bytes(self.take(size), "big")

    def rest(self) -> bytes:
        """Return all that follows."""
        return self.take(self.left)

    def multiprecision(self) -> bytes:
        """Return the bytes of a multiprecision integer (3.2)."""
        return self.take((self.number(2) + 7) // 8)


def packets(raw: bytes, limit: int) -> Iterator[Packet]:
    """Yield the packets, of old and new format. Raises SignatureError, also for a body of more than `limit` bytes."""
    reader = _Reader(raw)
    while reader.left:
        first = reader.number(1)
        if not first & 0x80:
            raise SignatureError("not an OpenPGP packet")
        if first & 0x40:
            tag = first & 0x3F
            body = _new_body(reader, tag, limit)
        else:
            tag = first >> 2 & 0x0F
            body = _old_body(reader, first & 0x03, limit)
        yield Packet(tag, body)


def _old_body(reader: _Reader, kind: int, limit: int) -> bytes:
    # 3: to the end of all bytes, as GnuPG writes compressed packets.
    return _bounded(reader, reader.left if kind == 3 else reader.number(1 << kind), limit)  # noqa: PLR2004 - 4.2.1


def _new_body(reader: _Reader, tag: int, limit: int) -> bytes:
    parts: list[bytes] = []
    partial, room = True, limit
    while partial:
        size, partial = _new_length(reader)
        if partial and tag not in _DATA:
            raise SignatureError(f"a packet of type {tag} with partial lengths")
        parts.append(_bounded(reader, size, room))
        room -= size
    # The first part may be short, against 4.2.2.4: Go's openpgp writes what it has, GnuPG and the cluster read it.
    return b"".join(parts)


def _new_length(reader: _Reader) -> tuple[int, bool]:
    """Return a length, and whether further parts follow (4.2.2)."""
    first = reader.number(1)
    if first < 192:  # noqa: PLR2004 - the numbers of 4.2.2
        return first, False
    if first < 224:  # noqa: PLR2004
        return (first - 192 << 8) + reader.number(1) + 192, False
    return (reader.number(4), False) if first == 255 else (1 << (first & 0x1F), True)  # noqa: PLR2004


def _bounded(reader: _Reader, size: int, limit: int) -> bytes:
    if size > limit:
        raise SignatureError("a packet that is larger than those of any signature")
    return reader.take(size)


def integers(raw: bytes, count: int) -> list[int]:
    """Return multiprecision integers (RFC 4880, 3.2). Raises SignatureError, also for bytes after them."""
    reader = _Reader(raw)
    found = [int.from_bytes(reader.multiprecision(), "big") for _ in range(count)]
    if reader.left:
        raise SignatureError("something follows the numbers of a key")
    return found


def is_message(raw: bytes) -> bool:
    """Return whether bytes begin as a packet does."""
    return raw[:1] >= b"\x80"


def read_message(raw: bytes) -> SignedMessage:
    """Read a signed message: one-pass signature, literal, signature, all of them compressed or not (RFC 4880, 11.3).

    Raises SignatureError for anything else, before or after them too. The signature is of type 0x00, and not verified.
    """
    if len(raw) > MAX_MESSAGE:
        raise SignatureError(f"larger than {MAX_MESSAGE} bytes")
    found = _few(raw)
    if [each.tag for each in found] == [COMPRESSED]:
        found = _few(_decompressed(found[0].body))
    if [each.tag for each in found] != [ONE_PASS, LITERAL, SIGNATURE]:
        raise SignatureError("not one signature over one literal")
    announced, literal, last = found
    signature = read_signature(last.body)
    # The announcement selects key and digest in the cluster (golang.org/x/crypto, openpgp/read.go), so it must be the same.
    if announced.body != _announcement(signature):
        raise SignatureError("the signature is not the one that is announced before its content")
    if signature.kind != BINARY:
        raise SignatureError(f"a signature of type 0x{signature.kind:02x}, not over the content as it is")
    reader = _Reader(literal.body)
    reader.take(1)  # the format; it, name and time of a file are not signed
    reader.take(reader.number(1) + 4)
    return SignedMessage(reader.rest(), signature)


def _few(raw: bytes) -> list[Packet]:
    return list(islice(packets(raw, MAX_BODY), 4))


def _decompressed(body: bytes) -> bytes:
    reader = _Reader(body)
    algorithm = reader.number(1)
    if algorithm not in (_ZIP, _ZLIB):
        raise SignatureError(f"compressed with algorithm {algorithm}; ZIP and ZLIB can be read")
    stream = zlib.decompressobj(wbits=-zlib.MAX_WBITS if algorithm == _ZIP else zlib.MAX_WBITS)
    try:
        content = stream.decompress(reader.rest(), MAX_DECOMPRESSED + 1)
    except zlib.error as error:
        raise SignatureError(f"it cannot be decompressed: {error}") from error
    if len(content) > MAX_DECOMPRESSED:
        raise SignatureError(f"it decompresses to more than {MAX_DECOMPRESSED} bytes")
    if not stream.eof:
        raise SignatureError("its compressed content ends early")
    if stream.unused_data:
        raise SignatureError("something follows its compressed content")
    return content


def _announcement(signature: SignaturePacket) -> bytes:
    """Return the one-pass signature packet that belongs to a signature (5.4)."""
    head = (3, signature.kind, signature.hash_algorithm, signature.public_algorithm)
    return bytes(head) + bytes.fromhex(signature.issuer) + b"\x01"


def read_signature(body: bytes) -> SignaturePacket:
    """Read a signature packet of version 3 or 4, by an RSA key (5.2). Raises SignatureError."""
    reader = _Reader(body)
    version = reader.number(1)
    if version == _OLD:
        found = _version_3(reader)
    elif version == _NEW:
        found = _version_4(reader, body)
    else:
        raise SignatureError(f"a signature of version {version}")
    if found.public_algorithm not in RSA:
        raise SignatureError(f"a signature with public-key algorithm {found.public_algorithm}, not RSA")
    if reader.left:
        raise SignatureError("something follows the signature in its packet")
    return found


def _version_3(reader: _Reader) -> SignaturePacket:
    if reader.number(1) != 5:  # noqa: PLR2004 - 5.2.2
        raise SignatureError("a signature of version 3 whose hashed part has not 5 bytes")
    hashed = reader.take(5)
    issuer = reader.take(8).hex().upper()
    public_algorithm, hash_algorithm = reader.take(2)
    kind, created = hashed[0], int.from_bytes(hashed[1:], "big")
    start, number = reader.take(2), reader.multiprecision()
    return SignaturePacket(kind, public_algorithm, hash_algorithm, created, issuer, 0, 0, None, hashed, start, number)


def _version_4(reader: _Reader, body: bytes) -> SignaturePacket:
    kind, public_algorithm, hash_algorithm = reader.take(3)
    size = reader.number(2)
    signed = _subpackets(reader.take(size))
    loose = _subpackets(reader.take(reader.number(2)))
    if _CREATED not in signed:
        raise SignatureError("a signature that does not say when it was made")
    head = body[: 6 + size]
    flags = signed.get(_FLAGS)
    return SignaturePacket(
        kind,
        public_algorithm,
        hash_algorithm,
        created=int.from_bytes(signed[_CREATED], "big"),
        issuer=_issuer(signed, loose),
        lifetime=int.from_bytes(signed.get(_EXPIRES, b""), "big"),
        key_lifetime=int.from_bytes(signed.get(_KEY_EXPIRES, b""), "big"),
        flags=None if flags is None else int.from_bytes(flags[:1], "big"),
        hashed=head + b"\x04\xff" + len(head).to_bytes(4, "big"),
        start=reader.take(2),
        number=reader.multiprecision(),
        embedded=signed.get(_EMBEDDED) or loose.get(_EMBEDDED, b""),
    )


def _subpackets(raw: bytes) -> dict[int, bytes]:
    """Return the subpackets that are understood, by type. Raises SignatureError for one twice or critical and unknown."""
    reader = _Reader(raw)
    found: dict[int, bytes] = {}
    while reader.left:
        # As lengths of packets, but that there are no partial ones (5.2.3.1).
        first = reader.number(1)
        if first >= 192:  # noqa: PLR2004
            first = reader.number(4) if first == 255 else (first - 192 << 8) + reader.number(1) + 192  # noqa: PLR2004
        content = _Reader(reader.take(first))
        head = content.number(1)
        kind, body = head & 0x7F, content.rest()
        if head & 0x80 and kind not in _MAY_BE_CRITICAL:
            raise SignatureError(f"a signature with a critical statement of type {kind}, which is not understood")
        if kind in _UNDERSTOOD:
            if kind in found or len(body) != _SIZES.get(kind, len(body)):
                raise SignatureError(f"a signature that states something twice, or not in its form (type {kind})")
            found[kind] = body
    return found


def _issuer(signed: dict[int, bytes], loose: dict[int, bytes]) -> str:
    """Return the ID of the key. It only selects one: a wrong one cannot make a signature valid, so it may be unsigned."""
    named = [each[_ISSUER] for each in (signed, loose) if _ISSUER in each]
    # A fingerprint of version 4 ends in the ID of its key (12.2).
    named += [each[_FINGERPRINT][-8:] for each in (signed, loose) if each.get(_FINGERPRINT, b"")[:1] == b"\x04"]
    if len(set(named)) > 1:
        raise SignatureError("a signature that names different keys")
    return named[0].hex().upper() if named else ""
