"""TLS contexts for clients: the same certificates are trusted on every supported Python, and by the rules of Go's crypto/x509.

Nodes, podman, skopeo and oc are written in Go; what they trust is trusted here too. Every context that the program
or a library of it uses to connect is made, or changed, here, but that of botocore, which has no public way in (ADR 0035).
"""

from __future__ import annotations

import ssl


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
