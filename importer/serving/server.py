"""The HTTP server: address, TLS, limits, and a self-signed certificate. The only module that imports uvicorn."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import re
import resource
import signal
import socket
import ssl
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import h11
import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from starlette.concurrency import run_in_threadpool
from uvicorn.protocols.http.h11_impl import H11Protocol

from common import interruption
from common.errors import UsageError
from common.files import write_together, writing
from importer.serving.app import STRANGER, TruncatedError
from importer.serving.sendfile import SEND_FILE, FileSender, Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from starlette.types import ASGIApp, Receive, Scope, Send

    from importer.serving.sendfile import Span


# Bounds memory: each connection holds one chunk of at most 1 MiB. uvicorn answers further ones with 503.
_CONNECTIONS = 256
# From here on the oldest connection without a request of an account is closed for each new one, so that clients who only hold
# connections never make the server refuse others.
_HELD = _CONNECTIONS - 16
_STALL_TIMEOUT_S = 120.0  # a client that reads nothing for so long is gone
# For the whole head of a request. A client that sends one byte a minute (slowloris) would hold a connection for hours else.
_HEAD_TIMEOUT_S = 10.0
MAX_HEAD = 64 * 1024  # bytes of the head of a request; the default of h11 is 16 KiB, which proxies' cookies can fill
_HANDSHAKE_TIMEOUT_S = 10.0  # of TLS; asyncio waits for a minute, and such a connection is not among the counted ones yet
_FILES = 4096  # open files, where the system allows it: connections that are being accepted, and volumes
_GRACE_S = 3  # for running transfers after a signal; clients resume with ranges, so there is no need to wait longer
_KEEP_ALIVE_S = 60
_REPEATED_AFTER_S = 60.0  # for the same warning
_BACKLOG = 128


@dataclass(frozen=True, slots=True)
class Address:
    """An address to listen on; port 0 is any free one."""

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
        """Whether only this host can connect."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def listen(address: Address) -> socket.socket:
    """Return a listening socket. Raises UsageError."""
    # Opened here and not by uvicorn, which ends the process when it cannot bind, and does not say which port 0 became.
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        return socket.create_server(found[0][4][:2], family=found[0][0], backlog=_BACKLOG)
    except (OSError, UnicodeError) as error:  # UnicodeError: a name that IDNA cannot encode
        hint = "Choose another with --listen; port 0 is any that is free."
        raise UsageError(f"cannot listen at {address}: {getattr(error, 'strerror', None) or error}", hint=hint) from error


def configuration(app: ASGIApp, certificate: ServerCertificate | None = None) -> uvicorn.Config:
    """Return the settings of the server."""
    return uvicorn.Config(
        app,
        loop="asyncio",  # and h11 below: uvloop and httptools are compiled, and have no wheels for ppc64le and s390x
        http=TimeoutProtocol,
        ws="none",
        lifespan="off",  # RegistryApp has no start-up of its own, and answers HTTP scopes alone
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=_CONNECTIONS,
        h11_max_incomplete_event_size=MAX_HEAD,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_GRACE_S,
        ssl_certfile=certificate.certificate if certificate else None,
        ssl_keyfile=certificate.key if certificate else None,
    )


def serve(app: ASGIApp, listener: socket.socket, certificate: ServerCertificate | None, ready: Callable[[], None]) -> None:
    """Serve until SIGINT (Ctrl-C), SIGTERM or SIGHUP, and return. `ready` is called before the first request."""
    config = configuration(app, certificate)
    logging.getLogger("uvicorn.error").addFilter(ServerLogFilter())
    raise_file_limit()
    server = uvicorn.Server(config)

    def end(_number: int, _frame: object) -> None:
        # uvicorn installs its own handlers while it runs, and raises the signal again at its end: into this handler, so that
        # Ctrl-C is exit status 0 and not 130. Before it runs, this handler alone makes it end.
        server.should_exit = True

    before = {number: signal.signal(number, end) for number in interruption.stop_signals()}
    ready()
    try:
        with asyncio.Runner(loop_factory=ImpatientLoop) as runner:
            runner.run(server.serve(sockets=[listener]))
    finally:
        interruption.stop()  # ends threads that wait for object storage; the process would wait for them at its exit
        for number, handler in before.items():
            signal.signal(number, handler)


class ImpatientLoop(asyncio.SelectorEventLoop):
    """An event loop that ends TLS handshakes early. uvicorn has no option for it."""

    handshake_timeout_s = _HANDSHAKE_TIMEOUT_S

    async def create_server(self, *arguments: Any, **options: Any) -> asyncio.Server:
        """Listen as asyncio does, with a limit for handshakes."""
        if options.get("ssl") is not None:
            options["ssl_handshake_timeout"] = options["ssl_shutdown_timeout"] = self.handshake_timeout_s
        return await super().create_server(*arguments, **options)


def raise_file_limit() -> None:
    """Raise the limit of open files, where the system allows it."""
    # Many systems allow a process 1,024 files at first. Without any left, no connection is accepted.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class ServerLogFilter(logging.Filter):
    """A filter for the log of uvicorn: unexpected errors, and of what any client can cause one record a minute."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._logged: dict[object, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Say whether a record is logged."""
        # TruncatedError was logged with its cause; CancelledError is a client that went away. Both would print a stack trace.
        kind = record.exc_info[0] if record.exc_info else None
        if kind is not None and issubclass(kind, TruncatedError | asyncio.CancelledError):
            return False
        if record.levelno != logging.WARNING:
            return True
        # "Invalid HTTP request received.", "Exceeded concurrency limit." and others without content of the request: a client
        # without an account could fill a disk with them.
        now, last = self._clock(), self._logged.get(record.msg)
        if last is not None and now - last < _REPEATED_AFTER_S:
            return False
        self._logged[record.msg] = now
        return True


class TimeoutProtocol(H11Protocol):
    """A connection with timeouts for the head of a request (slowloris) and for a client that does not read the response.

    uvicorn has a timeout between requests only. This class uses its internals (`loop`, `transport`, `cycle`), so pyproject.toml
    pins the minor version, and tests/unit/importer/serving/test_uvicorn_internals.py fails when they move.
    """

    head_timeout_s, stall_timeout_s = _HEAD_TIMEOUT_S, _STALL_TIMEOUT_S
    _head_timer: asyncio.TimerHandle | None = None
    _stall_timer: asyncio.TimerHandle | None = None
    held = _HELD
    since = 0.0  # by the clock of the loop

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the timer of the first request, and make room where many connections are held."""
        super().connection_made(transport)
        # With TLS the bytes are encrypted in this process. Kernel TLS is not for asyncio, whose TLS has no socket of its own.
        if transport.get_extra_info("sslcontext") is None and hasattr(os, "sendfile"):
            self.app = self._with_sendfile
        self.since = self.loop.time()
        self._make_room()
        # Abort, not close: closing waits until the client has read the bytes that are written already.
        self._head_timer = self.loop.call_later(self.head_timeout_s, transport.abort)

    def _make_room(self) -> None:
        """Close the connection that others need least; none while each has the request of a client that may send it."""
        others = [one for one in self.connections if isinstance(one, TimeoutProtocol) and one is not self]
        if len(others) < self.held:
            return
        idle = [one for one in others if not one.is_busy]
        if idle:
            # Those of clients that have shown an account come last; of equals the oldest goes.
            least = min(idle, key=lambda one: (one.is_known, one.since))
            least.transport.abort()
            # asyncio calls `connection_lost` in the next turn of the loop; until then many more connections may be made.
            self.connections.discard(least)

    @property
    def is_known(self) -> bool:
        """Whether the last request was of a client that may send it."""
        return self.cycle is not None and STRANGER not in self.cycle.scope  # type: ignore[redundant-expr] # None at first

    @property
    def is_busy(self) -> bool:
        """Whether such a request is being answered."""
        return self.is_known and not self.cycle.response_complete

    def data_received(self, data: bytes) -> None:
        """Stop the timer when the head of a request is complete; further bytes of an incomplete head do not restart it."""
        super().data_received(data)
        # `cycle` is the request that is being answered; while there is one, the client may wait as long as the answer takes.
        if self.cycle is not None and not self.cycle.response_complete:  # type: ignore[redundant-expr] # None at first
            self._head_timer = _cancelled(self._head_timer)
        elif self._head_timer is None:
            self._head_timer = self.loop.call_later(self.head_timeout_s, self.transport.abort)

    def pause_writing(self) -> None:
        """Start the stall timer: asyncio's write buffer is full, because the client does not read."""
        super().pause_writing()
        self._stall_timer = self._stall_timer or self.loop.call_later(self.stall_timeout_s, self.transport.abort)

    def resume_writing(self) -> None:
        """Stop the stall timer."""
        self._stall_timer = _cancelled(self._stall_timer)
        super().resume_writing()

    async def _with_sendfile(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[SEND_FILE] = self.send_file  # in the scope of the cycle, where STRANGER is looked for
        await self.config.loaded_app(scope, receive, send)

    async def send_file(self, spans: Iterator[Span], size: int) -> None:
        """Send `size` bytes of the body from files, after the head; nothing where the client is gone. Raises as `turn` does."""
        if self.transport.is_closing():
            return
        # For h11 a body is what has a length (its documentation, *Support for sendfile()*).
        self.conn.send_with_data_passthrough(h11.Data(data=range(size)))  # type: ignore[arg-type]
        # The head has to be on its way before: with limits of 0, asyncio resumes writing when its buffer is empty.
        self.transport.set_write_buffer_limits(0)
        await self.flow.drain()
        self.transport.set_write_buffer_limits()
        if self.transport.is_closing():
            return
        # A duplicate: asyncio closes its own when the connection is lost, and another connection would get its number.
        line = os.dup(self.transport.get_extra_info("socket").fileno())
        try:
            await self._send_turns(FileSender(line, spans), line)
        finally:
            os.close(line)

    async def _send_turns(self, sender: FileSender, line: int) -> None:
        while not self.transport.is_closing():
            progress = await run_in_threadpool(sender.turn)  # which waits for the thread also when it is cancelled
            if progress is Progress.DONE:
                return
            if progress is Progress.GONE:
                self.transport.abort()
                return
            if progress is Progress.BLOCKED:
                self.pause_writing()  # as asyncio does when its own buffer is full
                self.loop.add_writer(line, self.resume_writing)
                try:
                    await self.flow.drain()  # also when the connection is lost
                finally:
                    self.loop.remove_writer(line)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop both timers, which would hold the connection in memory."""
        self._head_timer, self._stall_timer = _cancelled(self._head_timer), _cancelled(self._stall_timer)
        super().connection_lost(exc)


def _cancelled(timer: asyncio.TimerHandle | None) -> asyncio.TimerHandle | None:
    """Cancel a timer; return None, its new value."""
    if timer is not None:
        timer.cancel()
    return None


# A self-signed CA and its server certificate, for sites without a certificate authority.

_DAYS = 825  # Apple's clients refuse server certificates that are valid for longer (support.apple.com/HT210176)
_DNS_NAME = re.compile(r"(?=.{1,253}\Z)(?:\*\.)?[a-zA-Z0-9_](?:[a-zA-Z0-9_.-]*[a-zA-Z0-9_])?", re.ASCII)
_BEFORE = timedelta(days=1)  # clocks of disconnected hosts are seldom right: without NTP a node may be hours behind


@dataclass(frozen=True, slots=True)
class ServerCertificate:
    """PEM files: the certificate chain of the server, its key, and the CA that clients have to trust."""

    certificate: Path
    key: Path
    ca: Path


def self_signed(directory: Path, names: Sequence[str]) -> ServerCertificate:
    """Return the certificate in a directory; made there for `names` (hosts, addresses) the first time. Raises UsageError."""
    found = ServerCertificate(directory / "server.crt", directory / "server.key", directory / "ca.crt")
    if found.certificate.exists():
        _require_names(found.certificate, names)
        return found
    ca, server, key = _sign(names)
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    chain = server.public_bytes(pem) + ca.public_bytes(pem)
    with writing(directory, "Choose another --self-signed."):
        directory.mkdir(parents=True, exist_ok=True)
        # The certificate last: the next start takes the directory as complete when this file exists.
        write_together(
            {found.ca: (ca.public_bytes(pem), 0o644), found.key: (private, 0o600), found.certificate: (chain, 0o644)}
        )
    return found


def _sign(names: Sequence[str]) -> tuple[x509.Certificate, x509.Certificate, ec.EllipticCurvePrivateKey]:
    """Return a new CA, a certificate of a server signed with it, and the server's key. Raises UsageError."""
    subjects = [_general(name) for name in names]
    now = datetime.now(UTC)
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    # With the date: clients that trust an older CA of the same name would report a bad signature instead of an unknown CA.
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"hub-airgap {names[0]} {now:%Y-%m-%d}"[:64])])
    ca = (
        _builder(ca_name, ca_name, ca_key.public_key(), now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    server = (
        _builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])]), ca_name, key.public_key(), now)
        .add_extension(x509.SubjectAlternativeName(subjects), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    # The key of the CA ends here: nothing else can be signed with a CA that nodes trust.
    return ca, server, key


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime) -> x509.CertificateBuilder:
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
    """Return a host as a subject alternative name. Raises UsageError for a text that no client would compare with."""
    # An address as DNSName would be refused: clients compare addresses with iPAddress entries alone (RFC 2818, 3.1).
    try:
        return x509.IPAddress(ipaddress.ip_address(name.strip("[]")))
    except ValueError:
        if _DNS_NAME.fullmatch(name):
            return x509.DNSName(name)
    raise UsageError(f"not the name of a host: {name[:80]!r}", hint="Wanted: a DNS name or an address, without port or path.")


def _require_names(path: Path, names: Sequence[str]) -> None:
    """Raise UsageError for a certificate that lacks one of `names`, or has expired."""
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
        raise UsageError(f"{path}: expired on {certificate.not_valid_after_utc:%Y-%m-%d}", hint=hint)


def check_certificate(certificate: Path, key: Path) -> None:
    """Raise UsageError when certificate and key cannot be used."""
    # Before the socket is opened: uvicorn would end with a stack trace.
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        why = error.strerror if not isinstance(error, ssl.SSLError) and error.strerror else str(error)
        raise UsageError(f"{certificate} and {key}: cannot be used for TLS: {why}", hint="Wanted: PEM files.") from error
