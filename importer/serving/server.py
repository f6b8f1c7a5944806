"""Where and how it is served: address, TLS, limits. The only home of uvicorn."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import re
import signal
import socket
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from uvicorn.protocols.http.h11_impl import H11Protocol

from common import interruption
from common.errors import UsageError
from importer.serving.app import CutError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from starlette.types import ASGIApp

# A CA and a server certificate of one's own, for a site that has nobody who would sign one.

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


_CONNECTIONS = 256
_STALL_S = 120.0  # a client that takes nothing for so long is gone
_HEAD_S = 10.0  # for all of a request's head; who is silent, or sends a letter a minute, holds a connection no longer
_GRACE_S = 3  # for running transfers, when the server is told to end
_KEEP_ALIVE_S = 60
_BACKLOG = 128


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen; port 0 is any that is free."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read `HOST:PORT`, `[IPV6]:PORT`. Raises UsageError."""
        host, colon, port = text.rpartition(":")
        host = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
        if not colon or not host or not port.isdecimal() or len(port) > 5 or int(port) > 65535:  # noqa: PLR2004 - the largest port
            raise UsageError(f"not an address: {text[:80]!r}", hint="Wanted: HOST:PORT, for example 127.0.0.1:5000.")
        return cls(host, int(port))

    @property
    def is_loopback(self) -> bool:
        """Whether nobody but this host gets there."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def listening(address: Address) -> socket.socket:
    """Return a socket that listens. Raises UsageError."""
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        return socket.create_server(found[0][4][:2], family=found[0][0], backlog=_BACKLOG)
    except (OSError, UnicodeError) as error:  # the latter: a name that no DNS could have
        hint = "Choose another with --listen; port 0 is any that is free."
        raise UsageError(f"cannot listen at {address}: {getattr(error, 'strerror', None) or error}", hint=hint) from error


def check_identity(certificate: Path, key: Path) -> None:
    """Raise UsageError when certificate and key cannot be used."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        why = error.strerror if not isinstance(error, ssl.SSLError) and error.strerror else str(error)
        raise UsageError(f"{certificate} and {key}: cannot be used for TLS: {why}", hint="Wanted: PEM files.") from error


class PatientProtocol(H11Protocol):
    """A connection that is ended when its client does not finish a request, or takes nothing of an answer, for too long.

    It is aborted: closing would wait for the client to take what was written already.
    """

    head_s, stall_s = _HEAD_S, _STALL_S
    _silent: asyncio.TimerHandle | None = None
    _stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._silent = self.loop.call_later(self.head_s, transport.abort)

    def data_received(self, data: bytes) -> None:
        """Wait on where a request is not whole yet; more bytes of it are no more time."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:  # type: ignore[redundant-expr] # None at first
            self._silent = _stopped(self._silent)
        elif self._silent is None:
            self._silent = self.loop.call_later(self.head_s, self.transport.abort)

    def pause_writing(self) -> None:
        """Begin to wait for a client that has not taken what was written."""
        super().pause_writing()
        self._stalled = self._stalled or self.loop.call_later(self.stall_s, self.transport.abort)

    def resume_writing(self) -> None:
        """See `pause_writing`."""
        self._stalled = _stopped(self._stalled)
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._silent, self._stalled = _stopped(self._silent), _stopped(self._stalled)
        super().connection_lost(exc)


def _stopped(timer: asyncio.TimerHandle | None) -> asyncio.TimerHandle | None:
    """Cancel a timer; there is none then."""
    if timer is not None:
        timer.cancel()
    return None


def serve(app: ASGIApp, place: socket.socket, identity: Identity | None, ready: Callable[[], None]) -> None:
    """Serve until a signal, which is a good end: SIGINT (Ctrl-C), SIGTERM, SIGHUP. `ready` is called before."""
    config = uvicorn.Config(
        app,
        loop="asyncio",
        http=PatientProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=_CONNECTIONS,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_GRACE_S,
        ssl_certfile=identity.certificate if identity else None,
        ssl_keyfile=identity.key if identity else None,
    )
    logging.getLogger("uvicorn.error").addFilter(_is_news)
    server = uvicorn.Server(config)

    def end(_number: int, _frame: object) -> None:
        server.should_exit = True  # it hears signals itself once it runs, and passes them on when it has ended

    before = {number: signal.signal(number, end) for number in interruption.heard()}
    ready()
    try:
        server.run(sockets=[place])
    finally:
        interruption.stop()  # a thread that waits for object storage ends too
        for number, handler in before.items():
            signal.signal(number, handler)


def _is_news(record: logging.LogRecord) -> bool:
    """Say whether a record is worth a stack: answers that were cut, and those that nobody took, are not."""
    kind = record.exc_info[0] if record.exc_info else None
    return kind is None or not issubclass(kind, (CutError, asyncio.CancelledError))
