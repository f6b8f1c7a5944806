"""Private certificate authorities as sites make them: with and without the extensions that RFC 5280 asks for.

`openssl req -x509` writes no key usage, and `openssl x509 -req` no authority key identifier, unless a configuration file asks
for them (openssl-req(1), openssl-x509(1)). An authority stands where a `trustme.CA` does.
"""

from __future__ import annotations

import ipaddress
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tests.fakes.servers import require


class PrivateAuthority:
    """An authority whose certificates have a `key_usage`, `key_identifiers`, both or neither.

    `names` False: its servers' certificates have a common name and no subjectAltName.
    """

    def __init__(
        self, *, key_usage: bool = False, key_identifiers: bool = False, names: bool = True, name: str = "Site CA"
    ) -> None:
        self._key_identifiers, self._names = key_identifiers, names
        self._key = ec.generate_private_key(ec.SECP256R1())
        subject = _name(name)
        builder = _begun(subject, subject, self._key).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        if key_usage:
            builder = builder.add_extension(_signing(), critical=True)
        if key_identifiers:
            builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
        self.certificate = builder.sign(self._key, hashes.SHA256())
        self.cert_pem = trustme.Blob(self.certificate.public_bytes(Encoding.PEM))

    def issue_cert(
        self, *names: str, not_before: datetime | None = None, not_after: datetime | None = None
    ) -> trustme.LeafCert:
        """Return a server certificate with `names` in its subjectAltName, where it has one, and, as its authority, key identifiers or none."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _begun(_name(names[0]), self.certificate.subject, key, not_before, not_after)
        if self._names:
            builder = builder.add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
        if self._key_identifiers:
            identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
            builder = builder.add_extension(identifier, critical=False)
        pem = builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)
        return trustme.LeafCert(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), pem, [])


class OpensslAuthority:
    """An authority as `openssl req -x509` makes it; it signs with `openssl x509 -req` and a subjectAltName."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._run("req", "-x509", *_NEW_KEY, "-keyout", "ca.key", "-out", "ca.pem", "-days", "30", "-subj", "/CN=Site CA")
        self.cert_pem = trustme.Blob((folder / "ca.pem").read_bytes())

    def issue_cert(
        self, *names: str, not_before: datetime | None = None, not_after: datetime | None = None
    ) -> trustme.LeafCert:
        """Return a server certificate with `names` in its subjectAltName. The times are not read."""
        kinds = ["IP" if isinstance(_general(name), x509.IPAddress) else "DNS" for name in names]
        alternatives = ",".join(f"{kind}:{name}" for kind, name in zip(kinds, names, strict=True))
        (self._folder / "san").write_text(f"subjectAltName={alternatives}\n")
        self._run("req", *_NEW_KEY, "-keyout", "leaf.key", "-out", "leaf.csr", "-subj", f"/CN={names[0]}")
        signing = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "san", "-days", "30")
        self._run("x509", "-req", "-in", "leaf.csr", "-out", "leaf.pem", *signing)
        return trustme.LeafCert((self._folder / "leaf.key").read_bytes(), (self._folder / "leaf.pem").read_bytes(), [])

    def _run(self, *arguments: str) -> None:
        subprocess.run([require("openssl"), *arguments], cwd=self._folder, check=True, capture_output=True)


_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


def _begun(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    not_before: datetime | None = None,
    not_after: datetime | None = None,
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before or now - timedelta(days=1))
        .not_valid_after(not_after or now + timedelta(days=30))
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _signing() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
