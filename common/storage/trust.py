"""The certificate of a storage service: the checks and messages for which botocore has no setting (ADR 0035)."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from common.certificates import Certificate, Server, explained, nameless, presented
from common.errors import StorageUnreachableError

if TYPE_CHECKING:
    import ssl
    from pathlib import Path


_ADD = "to a PEM file, and name that in AWS_CA_BUNDLE"
_NAME = "Name the service in AWS_ENDPOINT_URL as in its certificate."


def require_names(subject: str, endpoint: str) -> None:
    """Raise StorageUnreachableError where the service's certificate has no subjectAltName.

    botocore leaves OpenSSL's default, which takes the common name then; Go and all other connections of this program do not.
    """
    seen = _seen(endpoint)
    if seen is not None and not seen.has_names:
        why, hint = nameless(seen, _server(endpoint, None))
        raise StorageUnreachableError(f"{subject}: {why}", hint=hint)


def untrusted(subject: str, error: ssl.SSLCertVerificationError, endpoint: str, bundle: Path | None) -> StorageUnreachableError:
    """Return the error for a certificate that was refused; `bundle` is the file of AWS_CA_BUNDLE."""
    why, hint = explained(error, _seen(endpoint), _server(endpoint, bundle))
    return StorageUnreachableError(f"{subject}: {why}", hint=hint)


def _seen(endpoint: str) -> Certificate | None:
    parts = urlsplit(endpoint)
    # Behind a proxy botocore's way is not known here, and a firewall may stop every other one.
    is_proxied = "https" in getproxies() and not proxy_bypass(parts.netloc)
    return presented(endpoint) if parts.scheme == "https" and not is_proxied else None


def _server(endpoint: str, bundle: Path | None) -> Server:
    parts = urlsplit(endpoint)
    at = parts.netloc if parts.port else f"{parts.netloc}:443"
    given = (bundle,) if bundle else ()
    return Server(f"the certificate of {parts.netloc}", at, _ADD, given, _NAME, "the root CA of the service")
