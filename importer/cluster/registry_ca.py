"""The mirror's CA for the nodes: a ConfigMap, and the Image `cluster` that names it (docs/facts/openshift.md §5.4). Pure."""

from __future__ import annotations

import re

from common.errors import UsageError
from importer.cluster.kinds import CONFIG_MAP, CONFIG_NAMESPACE, IMAGE_CONFIG
from importer.cluster.resource import OWN_LABELS, Resource

NAME = "hub-registry-ca"
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----\s[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----")
_LARGEST = 900_000  # bytes; an object ends at 1 MiB with all that others have put into it
_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}")


def trust(host: str, pem: str) -> tuple[Resource, ...]:
    """Return the objects that let nodes trust the registry `host` (with its port). `pem`: one certificate or several.

    Only certificates are taken, so that a private key in the same file does not leave the machine. Raises UsageError.
    """
    config_map = {
        "apiVersion": CONFIG_MAP.api_version,
        "kind": CONFIG_MAP.name,
        "metadata": {"name": NAME, "namespace": CONFIG_NAMESPACE, "labels": OWN_LABELS},
        "data": {_key(host): _certificates(pem)},
    }
    image = {
        "apiVersion": IMAGE_CONFIG.api_version,
        "kind": IMAGE_CONFIG.name,
        "metadata": {"name": "cluster"},
        "spec": {"additionalTrustedCA": {"name": NAME}},
    }
    return Resource.of(config_map), Resource.of(image, shared=True)


def _key(host: str) -> str:
    """Return the key of a host: OpenShift reads `..` as the colon, which no key can hold."""
    key = host.replace(":", "..")
    if not _KEY.fullmatch(key):
        raise UsageError(
            f"--ca: nodes cannot be given a CA for {host}: OpenShift has no way to write such an address",
            hint="Give the registry a host name and use that in --registry.",
        )
    return key


def _certificates(pem: str) -> str:
    found = _CERTIFICATE.findall(pem)
    if not found:
        raise UsageError(
            "--ca: no certificate in it that nodes could trust",
            hint="Wanted: PEM, which begins with -----BEGIN CERTIFICATE-----.",
        )
    certificates = "".join(f"{certificate}\n" for certificate in found)
    if len(certificates) > _LARGEST:
        raise UsageError(
            f"--ca: {len(found)} certificates of {len(certificates)} bytes, more than the {_LARGEST} that a cluster can keep",
            hint="Give the one that signs the mirror's certificate.",
        )
    return certificates
