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
from urllib.parse import SplitResult, unquote, urlsplit

from urllib3.util import make_headers, parse_url

from common.errors import UsageError
from common.log import SECRETS
from common.oci.reference import split_host
from common.tls import Proxy, client_context

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
    if not proxy or is_exempt(host, _variable(environ, "no_proxy")):
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


def proxy_way(proxy: str, settings: RegistrySettings) -> tuple[Proxy, Trust]:
    """Return how to speak to a proxy, and what it is verified with. Raises UsageError as `proxy_parts` and `tls_context` do."""
    parts = proxy_parts(proxy)
    host = parts.netloc.rpartition("@")[2]
    headers: dict[str, str] = {}
    if parts.username:
        SECRETS.add(parts.password or "")
        headers = make_headers(proxy_basic_auth=f"{unquote(parts.username)}:{unquote(parts.password or '')}")
    url = f"{parts.scheme}://{host}"
    if parts.scheme == "http":
        return Proxy(url, headers, None), Trust()
    trust = trust_for(settings, host, insecure=False)  # --insecure names the registry, not the proxy before it
    return Proxy(url, headers, tls_context(trust)), trust


def _variable(environ: Mapping[str, str], name: str) -> str:
    return environ.get(name) or environ.get(name.upper()) or ""


def is_exempt(host: str, no_proxy: str) -> bool:
    """Say whether a NO_PROXY list names `host[:port]`, by the rules of Go (golang.org/x/net/http/httpproxy)."""
    return any(_exempt(entry.strip(), host) for entry in no_proxy.split(","))


def _exempt(entry: str, host: str) -> bool:
    """Say whether an entry names `host`: `*`, a domain and all below, an address, a network; port or not."""
    if entry in ("", "*"):
        return entry == "*"
    name, port = split_host(host)
    address = _address(name)
    if "/" in entry:  # a network, as Go accepts it in NO_PROXY
        return address is not None and _inside(address, entry)
    wanted, wanted_port = split_host(entry)
    if wanted_port is not None and wanted_port != port:
        return False
    if address is not None:
        return address == _address(wanted)
    domain = wanted.lower().removeprefix("*").lstrip(".")
    return name.lower() == domain or name.lower().endswith(f".{domain}")


_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _address(name: str) -> _Address | None:
    """Return an address in any spelling (RFC 4291, 2.2); an IPv4-mapped one as IPv4, as Go compares them. None for a name."""
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _inside(address: _Address, network: str) -> bool:
    try:
        return address in ipaddress.ip_network(network.strip().replace("[", "").replace("]", ""), strict=False)
    except ValueError:
        return False
