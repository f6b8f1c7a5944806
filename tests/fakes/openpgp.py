"""OpenPGP keys and messages made for tests (RFC 4880), the published ones, and gpgv of Debian as a witness."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

DATA = Path(__file__).parents[1] / "data" / "releases"
SHIPPED = Path(__file__).parents[2] / "exporter" / "releases" / "keys"
SAMPLES = sorted((DATA / "signatures").iterdir())
HASHES = {
    "sha1": (2, hashes.SHA1()),
    "sha256": (8, hashes.SHA256()),
    "sha384": (9, hashes.SHA384()),
    "sha512": (10, hashes.SHA512()),
}
BORN = 1_600_000_000  # when keys of tests were made
DAY = 86_400


def sample(name: str) -> bytes:
    """Return a published signature by the beginning of its name."""
    return next(path for path in SAMPLES if path.name.startswith(name)).read_bytes()


def digest_in(name: str) -> str:
    """Return the digest in the name of a published signature."""
    return next(path for path in SAMPLES if path.name.startswith(name)).name.split(".sha256-")[1].partition(".")[0]


def payload(digest: str, reference: str = "quay.io/openshift-release-dev/ocp-release:4.0.1-x86_64", **changes) -> bytes:
    """Return the document that is signed for a digest."""
    critical = {
        "type": "atomic container signature",
        "image": {"docker-manifest-digest": digest},
        "identity": {"docker-reference": reference},
    }
    return json.dumps({"critical": critical, "optional": {"creator": "tests", "timestamp": BORN}, **changes}).encode()


# Packets.


def packet(tag: int, body: bytes) -> bytes:
    """Return a packet of the new format."""
    return bytes((0xC0 | tag,)) + length(len(body)) + body


def length(size: int) -> bytes:
    if size < 192:
        return bytes((size,))
    if size < 8384:
        return bytes((192 + (size - 192 >> 8), (size - 192) & 0xFF))
    return b"\xff" + size.to_bytes(4, "big")


def partial(tag: int, body: bytes, power: int = 0) -> bytes:
    """Return a packet in parts of 2**power bytes, the last of which may be empty."""
    size, done = 1 << power, bytes((0xC0 | tag,))
    while len(body) >= size:
        done += bytes((224 + power,)) + body[:size]
        body = body[size:]
    return done + length(len(body)) + body


def old(tag: int, body: bytes, kind: int = 1) -> bytes:
    """Return a packet of the old format; `kind` 3 has no length."""
    size = b"" if kind == 3 else len(body).to_bytes(1 << kind, "big")
    return bytes((0x80 | tag << 2 | kind,)) + size + body


def mpi(number: int) -> bytes:
    return number.bit_length().to_bytes(2, "big") + number.to_bytes((number.bit_length() + 7) // 8, "big")


def statement(kind: int, body: bytes, *, critical: bool = False) -> bytes:
    """Return a subpacket of a signature."""
    return length(len(body) + 1) + bytes((kind | 0x80 * critical,)) + body


def literal(content: bytes, mode: bytes = b"b", name: bytes = b"") -> bytes:
    return mode + bytes((len(name),)) + name + bytes(4) + content


# Keys and what they sign.


@dataclass(frozen=True)
class Signer:
    """A private key that was made for tests."""

    private: rsa.RSAPrivateKey
    algorithm: int = 1

    @property
    def body(self) -> bytes:
        numbers = self.private.public_key().public_numbers()
        return b"\x04" + BORN.to_bytes(4, "big") + bytes((self.algorithm,)) + mpi(numbers.n) + mpi(numbers.e)

    @property
    def fingerprint(self) -> str:
        return hashlib.sha1(hashed_key(self.body)).hexdigest().upper()

    @property
    def key_id(self) -> bytes:
        return bytes.fromhex(self.fingerprint)[-8:]

    def signature(
        self, content: bytes, *, kind=0x00, digest="sha256", made=BORN + DAY, version=4, more=b"", loose=None, issuer=None
    ) -> bytes:
        """Return the body of a signature packet over `content`."""
        number, algorithm = HASHES[digest]
        issuer = self.key_id if issuer is None else issuer
        created = made.to_bytes(4, "big")
        if version == 3:
            signed = bytes((kind,)) + created
            head = b"\x03\x05" + signed + issuer + bytes((self.algorithm, number))
        else:
            stated = statement(2, created) + more
            loose = statement(16, issuer) if loose is None else loose
            start = bytes((4, kind, self.algorithm, number)) + len(stated).to_bytes(2, "big") + stated
            signed = start + b"\x04\xff" + len(start).to_bytes(4, "big")
            head = start + len(loose).to_bytes(2, "big") + loose
        raw = self.private.sign(content + signed, padding.PKCS1v15(), algorithm)
        first = hashlib.new(digest, content + signed).digest()[:2]
        return head + first + mpi(int.from_bytes(raw, "big"))

    def one_pass(self, kind=0x00, digest="sha256", issuer=None) -> bytes:
        return bytes((3, kind, HASHES[digest][0], self.algorithm)) + (issuer or self.key_id) + b"\x01"

    def message(self, content: bytes, *, parts=packet, **options) -> bytes:
        """Return a signed message that is not compressed; `parts` writes the literal."""
        chosen = {key: value for key, value in options.items() if key in ("kind", "digest")}
        return packet(4, self.one_pass(**chosen)) + parts(11, literal(content)) + packet(2, self.signature(content, **options))

    def key(
        self, user=b"tests <tests@example.test>", *, lifetime=0, flags=3, digest="sha256", revoked=False, made=BORN, extra=b""
    ) -> bytes:
        """Return the public key as `gpg --export` writes it."""
        more = statement(27, bytes((flags,))) + (statement(9, lifetime.to_bytes(4, "big")) if lifetime else b"")
        about = hashed_key(self.body)
        certified = about + b"\xb4" + len(user).to_bytes(4, "big") + user
        done = packet(6, self.body)
        if revoked:
            done += packet(2, self.signature(about, kind=0x20))
        done += packet(13, user) + packet(2, self.signature(certified, kind=0x13, digest=digest, made=made, more=more))
        return done + extra


def subkey(key: Signer, sub: Signer, *, flags=2, digest="sha256", made=BORN, back=None, more=b"", revoked=False) -> bytes:
    """Return a subkey with what binds it to its key; `back`: who signs that in its name."""
    about = hashed_key(key.body) + hashed_key(sub.body)
    own = (back or sub).signature(about, kind=0x19)
    stated = statement(27, bytes((flags,))) + more
    loose = statement(16, key.key_id) + statement(32, own)
    done = packet(14, sub.body)
    if revoked:
        done += packet(2, key.signature(about, kind=0x28))
    return done + packet(2, key.signature(about, kind=0x18, digest=digest, made=made, more=stated, loose=loose))


def hashed_key(body: bytes) -> bytes:
    return b"\x99" + len(body).to_bytes(2, "big") + body


@cache
def signer(name: str = "") -> Signer:
    """Return a key, for each name another one."""
    return Signer(rsa.generate_private_key(65537, 2048))


def compressed(message: bytes, algorithm: int = 1, write=lambda tag, body: old(tag, body, 3)) -> bytes:
    """Return a message compressed with ZIP (1) or ZLIB (2)."""
    stream = zlib.compressobj(9, wbits=-15 if algorithm == 1 else 15)
    return write(8, bytes((algorithm,)) + stream.compress(message) + stream.flush())


def plain(message: bytes) -> bytes:
    """Return the packets inside of a compressed message."""
    return zlib.decompressobj(wbits=-15).decompress(message[2:]) if message[:2] == b"\xa3\x01" else message


def armored(raw: bytes, headers: str = "") -> bytes:
    text = base64.encodebytes(raw).decode()
    return f"-----BEGIN PGP PUBLIC KEY BLOCK-----\n{headers}\n{text}=AAAA\n-----END PGP PUBLIC KEY BLOCK-----\n".encode()


def dearmored(text: bytes) -> bytes:
    """Return one armored key as binary, for gpgv."""
    body = text.partition(b"-----BEGIN PGP PUBLIC KEY BLOCK-----")[2].partition(b"-----END")[0].partition(b"\n\n")[2]
    return base64.b64decode(b"".join(line for line in body.split(b"\n") if not line.startswith(b"=")))


class Gpgv:
    """`gpgv` with a ring of keys in a folder of its own."""

    def __init__(self, folder: Path, *keys: bytes) -> None:
        self._ring, self._message = folder / "ring.gpg", folder / "message"
        self._folder = folder
        self._ring.write_bytes(b"".join(keys))

    def content(self, message: bytes) -> bytes | None:
        """Return what a message says where gpgv calls its signature good, else None."""
        self._message.write_bytes(message)
        command = ["gpgv", "--homedir", self._folder, "--keyring", self._ring, "--output", "-", self._message]
        done = subprocess.run(command, capture_output=True, check=False)
        return done.stdout if done.returncode == 0 else None


def published_keys() -> list[bytes]:
    """Return every published key, as binary."""
    paths = [*sorted(SHIPPED.glob("*.asc")), DATA / "keys" / "oc-mirror-test-release-pk.asc"]
    return [dearmored(path.read_bytes()) for path in paths]
