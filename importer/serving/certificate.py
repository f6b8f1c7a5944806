"""A CA and a server certificate of one's own, for a site that has nobody who would sign one."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from common.errors import UsageError

_DAYS = 825  # what clients take at most
_DNS_NAME = re.compile(r"(?=.{1,253}\Z)(?:\*\.)?[a-zA-Z0-9_](?:[a-zA-Z0-9_.-]*[a-zA-Z0-9_])?", re.ASCII)
_BEFORE = timedelta(days=1)  # clocks behind a gap are seldom right


@dataclass(frozen=True, slots=True)
class Identity:
    """Files, PEM: the certificate of the server (with its CA behind it), its key, and the CA to give to clients."""

    certificate: Path
    key: Path
    ca: Path


def self_signed(directory: Path, names: Sequence[str]) -> Identity:
    """Return the identity in a directory; made there for `names` (hosts, addresses) the first time. Raises UsageError.

    The key of the CA is thrown away as soon as it has signed: nobody can sign another with it.
    """
    found = Identity(directory / "server.crt", directory / "server.key", directory / "ca.crt")
    if found.certificate.exists():
        _require_names(found.certificate, names)
        return found
    subjects = [_general(name) for name in names]
    now = datetime.now(UTC)
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"hub-airgap {names[0]} {now:%Y-%m-%d}"[:64])])
    ca = (
        _begun(ca_name, ca_name, ca_key.public_key(), now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    server = (
        _begun(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])]), ca_name, key.public_key(), now)
        .add_extension(x509.SubjectAlternativeName(subjects), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    try:
        directory.mkdir(parents=True, exist_ok=True)
        _new(found.ca, ca.public_bytes(pem), 0o644)
        _new(found.key, private, 0o600)
        _new(found.certificate, server.public_bytes(pem) + ca.public_bytes(pem), 0o644)
    except OSError as error:
        raise UsageError(f"{directory}: cannot be written: {error.strerror}", hint="Choose another --self-signed.") from error
    return found


def _begun(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BEFORE)
        .not_valid_after(now + timedelta(days=_DAYS))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general(name: str) -> x509.GeneralName:
    """Return a name as certificates have it. Raises UsageError for what no client would ever compare with."""
    try:
        return x509.IPAddress(ipaddress.ip_address(name.strip("[]")))
    except ValueError:
        if _DNS_NAME.fullmatch(name):
            return x509.DNSName(name)
    raise UsageError(f"not the name of a host: {name[:80]!r}", hint="Wanted: a DNS name or an address, without port or path.")


def _require_names(path: Path, names: Sequence[str]) -> None:
    """Refuse a certificate that is not for all of `names`, or has run out."""
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        has = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, x509.ExtensionNotFound) as error:
        raise UsageError(f"{path}: not a certificate that can be used: {error}", hint="Choose another directory.") from error
    hint = "Name another directory for a new one; clients have to be given its CA."
    missing = [name for name in names if _general(name) not in has]
    if missing:
        raise UsageError(f"{path}: is not for {', '.join(missing)}", hint=hint)
    if certificate.not_valid_after_utc < datetime.now(UTC):
        raise UsageError(f"{path}: ran out on {certificate.not_valid_after_utc:%Y-%m-%d}", hint=hint)


def _new(path: Path, content: bytes, mode: int) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode), "wb") as file:
        file.write(content)
