"""TLS contexts per host (`certs.d`, `--ca`, `--insecure`), and proxies.

containers-certs.d(5) for the directories; the usual environment variables for proxies.
"""

from __future__ import annotations

import ipaddress
import ssl
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

from urllib3.util import parse_url

from common.errors import UsageError
from common.registry.registries_conf import split_host
from common.tls import client_context

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from common.registry.settings import RegistrySettings


@dataclass(frozen=True, slots=True)
class Trust:
    """What TLS to one host needs. Hosts that need the same share connections' settings."""

    verify: bool = True
    authorities: tuple[Path, ...] = ()
    client: tuple[Path, Path] | None = None  # certificate, key


def trust_for(settings: RegistrySettings, host: str, *, insecure: bool) -> Trust:
    """Collect the files for `host[:port]`. Raises UsageError for a client certificate or key without the other."""
    authorities = [settings.ca] if settings.ca else []
    client = None
    for directory in _directories(settings, host):
        # Sorted, as c/image does, so that the choice among several client certificates is the same on each run.
        authorities.extend(sorted(directory.glob("*.crt")))
        for certificate in sorted(directory.glob("*.cert")):
            key = certificate.with_suffix(".key")
            if not key.is_file():
                raise UsageError(f"{certificate}: there is no {key.name} beside it", hint="Put the client's key there.")
            client = client or (certificate, key)  # TLS sends one; the first directory is the most specific
        for key in sorted(directory.glob("*.key")):
            if not key.with_suffix(".cert").is_file():
                raise UsageError(f"{key}: there is no {key.stem}.cert beside it", hint="Put the client's certificate there.")
    return Trust(not insecure, tuple(authorities), client)


def _directories(settings: RegistrySettings, host: str) -> Iterator[Path]:
    home = settings.environ.get("HOME")
    roots = [Path(home) / ".config/containers/certs.d"] if home else []
    roots += [settings.system_root / "etc/containers/certs.d", settings.system_root / "etc/docker/certs.d"]
    yield from (directory for root in roots if (directory := root / host).is_dir())


def tls_context(trust: Trust) -> ssl.SSLContext:
    """Build the context. The system's authorities stay trusted. Raises UsageError that names the file that is wrong."""
    context = client_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not trust.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    for path in trust.authorities:
        try:
            context.load_verify_locations(cafile=path)
        except (OSError, ssl.SSLError) as error:
            raise UsageError(
                f"{path}: not a certificate authority: {_reason(error)}", hint="Wanted: certificates in PEM."
            ) from error
    if trust.client:
        certificate, key = trust.client
        try:
            # An encrypted key would make OpenSSL ask on the terminal; an empty password makes it fail instead.
            context.load_cert_chain(certificate, key, password="")
        except (OSError, ssl.SSLError) as error:
            raise UsageError(
                f"{certificate}, {key}: not a client certificate and its key: {_reason(error)}",
                hint="Wanted: PEM, the key without a password.",
            ) from error
    return context


def _reason(error: OSError) -> str:
    return (error.reason if isinstance(error, ssl.SSLError) else error.strerror) or type(error).__name__


def proxy_for(environ: Mapping[str, str], scheme: str, host: str) -> str | None:
    """Return the URL of the proxy to use for `scheme://host`, None for a direct way."""
    proxy = _variable(environ, f"{scheme}_proxy")
    if not proxy or any(_exempt(entry.strip(), host) for entry in _variable(environ, "no_proxy").split(",")):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def proxy_parts(proxy: str) -> SplitResult:
    """Return the parts of a proxy's URL. Raises UsageError for one that is no URL of a proxy for HTTP."""
    with suppress(ValueError):  # a port that is no number, brackets that do not match
        parse_url(proxy)
        parts = urlsplit(proxy)
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            return parts
    raise UsageError(
        "the proxy is not usable (its value may hold a password and is not shown)",
        hint="Wanted: http://host:port in HTTPS_PROXY or HTTP_PROXY; characters like / and @ of a password as %2F and %40.",
    )


def _variable(environ: Mapping[str, str], name: str) -> str:
    return environ.get(name) or environ.get(name.upper()) or ""


def _exempt(entry: str, host: str) -> bool:
    """Say whether an entry of NO_PROXY names `host`: `*`, a domain and all below, an address, a network; port or not."""
    if entry in ("", "*"):
        return entry == "*"
    name, port = split_host(host)
    if "/" in entry:  # a network, as Go accepts it in NO_PROXY
        return _inside(name, entry)
    wanted, wanted_port = split_host(entry)
    if wanted_port is not None and wanted_port != port:
        return False
    domain = wanted.lower().removeprefix("*").lstrip(".")
    return name.lower() == domain or name.lower().endswith(f".{domain}")


def _inside(name: str, network: str) -> bool:
    try:
        return ipaddress.ip_address(name) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False
