"""TLS contexts for clients by the rules of Go's crypto/x509, the same on every Python; refused certificates, explained.

Nodes, podman, skopeo and oc are written in Go; what they trust is trusted here too. Every context that the program
or a library of it uses to connect is made, or changed, here, but that of botocore, which has no public way in (ADR 0035).
"""

from __future__ import annotations

import logging
import socket
import ssl
import threading
import warnings
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import urllib3
from urllib3.connection import HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from common.text import enumeration, sanitize

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from cryptography import x509


def client_context() -> ssl.SSLContext:
    """Return a context that verifies servers by name and by the authorities of the system, or of SSL_CERT_FILE."""
    return trusting(ssl.create_default_context())


def trusting(context: ssl.SSLContext) -> ssl.SSLContext:
    """Return `context`, which then verifies as Go does; authorities, names and the mode of verification stay as they are.

    Python 3.13 made `ssl.create_default_context` set VERIFY_X509_STRICT (RFC 5280 to the letter: key usage and key identifiers
    are required) and VERIFY_X509_PARTIAL_CHAIN. An authority by `openssl req -x509` has no key usage, which Go does not require
    (crypto/x509, `isValid`: "KeyUsage status flags are ignored"). In Go every certificate of the pool ends a chain, an
    intermediate one or the server's own included: that is the partial chain. Names are those of the subjectAltName alone: Go
    has not read the common name since 1.15, and OpenSSL does where there is no subjectAltName.
    """
    # A check of RFC 5280 to the letter refuses what every node of the cluster accepts.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.hostname_checks_common_name = False
    return context


# Refused certificates, explained. OpenSSL says why it refuses a certificate and names none, and Python has no public access to
# the certificates of a failed handshake (`SSLSocket.get_unverified_chain` is new in 3.13). So `presented` makes one more
# connection, without verification. It ends with the handshake: no request is sent, and the certificate serves for nothing but
# the message.

_LOG = logging.getLogger(__name__)
# OpenSSL's X509_V_ERR_… (x509_vfy.h)
_NOT_YET_VALID, _EXPIRED = 9, 10
_WRONG_NAMES = (62, 64)  # a host name, an address
# No certificate of the issuer, or one that is not trusted: here, and not for a broken authority, another file helps.
_NO_ISSUER = frozenset({2, 7, 18, 19, 20, 21})
_MAX_NAME = 200  # characters of a name, which is foreign text
_MAX_FILES = 3
_TIMEOUT_S = 10.0  # of one step
WITHIN_S = 15.0  # for all: a proxy and a handshake take a second
_WHAT = "that, or the server's own,"  # every certificate that is given ends a chain


class Certificate(NamedTuple):
    """Names in a certificate that a server presented; `has_names`: it has a subjectAltName."""

    subject: str
    issuer: str
    has_names: bool
    parsed: x509.Certificate


class Explanation(NamedTuple):
    """Why a certificate was refused, and the next step."""

    why: str
    hint: str


class Server(NamedTuple):
    """A server, for messages about its certificate.

    `whose`: the certificate in a sentence; `at`: HOST:PORT; `add`: where a CA is added ("with --ca FILE"); `given`: the files
    with authorities that were named for it; `name`: the hint for a wrong name;
    `what` is added where the issuer is missing.
    """

    whose: str
    at: str
    add: str
    given: Sequence[Path] = ()
    name: str = "Use the name in the certificate."
    what: str = _WHAT


class Proxy(NamedTuple):
    """The way to a server: a proxy's URL without user and password, its headers, and the context for an https:// one."""

    url: str
    headers: Mapping[str, str]
    context: ssl.SSLContext | None


class _SeenError(Exception):
    """Carries the certificate out of urllib3, in DER."""

    def __init__(self, der: bytes) -> None:
        super().__init__()
        self.der = der


class _Handshake(HTTPSConnection):
    """A connection that ends with its handshake, so that nothing is sent to a server that is not verified."""

    made: list[_Handshake]

    def connect(self) -> None:
        self.made.append(self)
        super().connect()
        sock: Any = self.sock
        raise _SeenError(sock.getpeercert(binary_form=True) or b"")


def presented(url: str, proxy: Proxy | None = None, within_s: float = WITHIN_S) -> Certificate | None:
    """Return the names in the certificate of the server of `url` (https); None where it does not come in time."""
    found: list[bytes] = []
    made: list[_Handshake] = []
    # In a thread: the timeout of a socket bounds silence alone, and a proxy that answers CONNECT a byte at a time, a resolver,
    # or a name with many addresses takes as long as it likes.
    thread = threading.Thread(target=lambda: found.extend(_handshake(url, proxy, made)), name="certificate", daemon=True)
    thread.start()
    thread.join(within_s)
    for connection in made if thread.is_alive() else ():
        with suppress(OSError, AttributeError):  # not connected yet, or closed meanwhile
            connection.sock.shutdown(socket.SHUT_RDWR)
    return _read(found[0]) if found else None


def _handshake(url: str, proxy: Proxy | None, made: list[_Handshake]) -> Iterator[bytes]:
    """Give the certificate of a server in DER, if the server sends one; its connections go into `made`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    options: dict[str, Any] = {"ssl_context": context, "cert_reqs": "CERT_NONE", "timeout": _TIMEOUT_S, "retries": False}
    pool = type("Handshakes", (HTTPSConnectionPool,), {"ConnectionCls": type("Handshake", (_Handshake,), {"made": made})})
    try:
        if proxy is None:
            manager = urllib3.PoolManager(**options)
        else:
            headers = dict(proxy.headers)
            manager = urllib3.ProxyManager(proxy.url, proxy_headers=headers, proxy_ssl_context=proxy.context, **options)
        manager.pool_classes_by_scheme = {"http": HTTPConnectionPool, "https": pool}
        with manager:
            manager.urlopen("HEAD", url, redirect=False)
    except _SeenError as seen:
        yield seen.der
    except Exception as error:  # noqa: BLE001 - of a thread, whose trace would reach the terminal; there is no certificate then
        _LOG.debug("no look at the certificate of %s: %s", sanitize(url, _MAX_NAME), type(error).__name__)


def _read(der: bytes) -> Certificate | None:
    from cryptography import x509  # noqa: PLC0415 - takes 0.1 s, which only a failure should cost

    try:
        with warnings.catch_warnings(action="ignore"):  # of serial numbers that are not positive
            certificate = x509.load_der_x509_certificate(der)
        subject, issuer = (_shown(name) for name in (certificate.subject, certificate.issuer))
    except Exception:  # noqa: BLE001 - for malformed ones ValueError, InvalidVersion and others: it has no list of them
        return None
    try:
        certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return Certificate(subject, issuer, has_names=False, parsed=certificate)
    except Exception:  # noqa: BLE001, S110 - extensions are parsed when they are asked for
        pass
    return Certificate(subject, issuer, has_names=True, parsed=certificate)


def _shown(name: Any) -> str:
    return sanitize(name.rfc4514_string(), _MAX_NAME) or "an empty name"


def explained(error: ssl.SSLCertVerificationError, seen: Certificate | None, server: Server) -> Explanation:
    """Explain the refusal of a certificate; `seen` is what the server presents."""
    code, message, whose = error.verify_code, sanitize(error.verify_message, _MAX_NAME), server.whose
    if code in _WRONG_NAMES:
        if seen is None or seen.has_names:
            return Explanation(f"{whose} is for another name: {message}", server.name)
        return nameless(seen, server)
    if code in (_EXPIRED, _NOT_YET_VALID):
        clock = datetime.now(UTC).date()  # of the machine, which verification goes by
        state = "has expired" if code == _EXPIRED else f"is not valid yet: this machine's clock says {clock}"
        return Explanation(f"{whose} {state}", "Renew it, or set this machine's clock.")
    issuer = seen.issuer if seen else ""
    why = f"{whose} is not trusted: {message}" + (f" (issued by {issuer})" if issuer else "")
    if not server.given or code not in _NO_ISSUER:
        return Explanation(why, f"Add the CA {server.add}." if server.what == _WHAT else f"Add {server.what} {server.add}.")
    return Explanation(why, f"{_lacking(seen, server.given)} Add {server.what} {server.add}.")


def nameless(seen: Certificate, server: Server) -> Explanation:
    """Explain the refusal of a certificate without a subjectAltName."""
    return Explanation(
        f"{server.whose} has no subjectAltName, only the subject {seen.subject}",
        "Nodes, podman and oc (Go) refuse it as well. Issue it with its host names as subjectAltName; to look at them: "
        f"openssl s_client -connect {server.at} </dev/null | openssl x509 -noout -ext subjectAltName",
    )


def _lacking(seen: Certificate | None, given: Sequence[Path]) -> str:
    """Say what the files that were given do not have."""
    files = enumeration([str(path) for path in given], _MAX_FILES)
    read = f"{files} {'was' if len(given) == 1 else 'were'} read"
    if seen is None:
        return f"{read}, without the certificate of the issuer."
    if namesakes := [one for path in given for one in _certificates(path) if one.subject == seen.parsed.issuer]:
        if any(_signed(seen.parsed, one) for one in namesakes):
            return f"{read}: the issuer is in it, and the root CA above it is not."
        return f"{read}: a certificate of that name is in it, and the key of the issuer is another."
    return f"{read}, without the certificate of the issuer {seen.issuer}."


def _certificates(path: Path) -> list[x509.Certificate]:
    from cryptography import x509  # noqa: PLC0415

    # It warns of old authorities whose serial number is 0, which are in use.
    with warnings.catch_warnings(action="ignore"), suppress(Exception):
        return x509.load_pem_x509_certificates(path.read_bytes())
    return []


def _signed(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except Exception:  # noqa: BLE001 - InvalidSignature; TypeError for a kind of key that signs nothing; others of malformed ones
        return False
    return True
