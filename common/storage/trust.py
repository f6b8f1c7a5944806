"""The certificate of a storage service: the checks and messages for which botocore has no setting (ADR 0035)."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from common.errors import StorageUnreachableError
from common.tls import Certificate, Server, explained, nameless, presented

if TYPE_CHECKING:
    import ssl
    from pathlib import Path


class Identity:
    """The certificate that the service of `endpoint` presents; `bundle` is the file of AWS_CA_BUNDLE."""

    def __init__(self, endpoint: str, bundle: Path | None) -> None:
        self._endpoint = endpoint
        parts = urlsplit(endpoint)
        self._is_secure, self._host = parts.scheme == "https", parts.netloc
        self._server = Server(
            f"the certificate of {parts.netloc}",
            parts.netloc if parts.port else f"{parts.netloc}:443",
            "to a PEM file, and name that in AWS_CA_BUNDLE",
            (bundle,) if bundle else (),
            "Name the service in AWS_ENDPOINT_URL as in its certificate.",
            "the root CA of the service",
        )

    def require_names(self, subject: str) -> None:
        """Raise StorageUnreachableError where the certificate has no subjectAltName.

        botocore leaves the default of OpenSSL, which takes the common name then; Go and the other connections here do not.
        """
        if self._seen is not None and not self._seen.has_names:
            why, hint = nameless(self._seen, self._server)
            raise StorageUnreachableError(f"{subject}: {why}", hint=hint)

    def untrusted(self, subject: str, error: ssl.SSLCertVerificationError) -> StorageUnreachableError:
        """Return the error for a certificate that was refused."""
        why, hint = explained(error, self._seen, self._server)
        return StorageUnreachableError(f"{subject}: {why}", hint=hint)

    @cached_property
    def _seen(self) -> Certificate | None:
        # Behind a proxy botocore's way is not known here, and a firewall may stop every other one.
        is_proxied = "https" in getproxies() and not proxy_bypass(self._host)
        return presented(self._endpoint) if self._is_secure and not is_proxied else None
