"""Documents of other hosts than registries: update services, signature stores. No credentials are sent to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from common.errors import UsageError
from common.oci.reference import Reference, is_host
from common.registry.http.exchange import Call
from common.registry.http.urls import parsed
from common.text import sanitize

if TYPE_CHECKING:
    from httpx import URL

    from common.registry.registries_conf import Hosts

MAX_URL = 8000  # most servers and proxies take 8 KiB
_SHOWN = 200


def checked_url(url: str, what: str) -> URL:
    """Return a URL of http or https. Raises UsageError for any other text."""
    found = parsed(url) if len(url) <= MAX_URL and url.isprintable() and url.isascii() else parsed("")
    if found.scheme not in ("http", "https") or not is_host(found.netloc.decode()):
        raise UsageError(f"{what}: not a URL: {sanitize(url, _SHOWN)}", hint="Wanted: https://HOST[:PORT]/PATH")
    return found


def fetch_call(url: str, what: str, accept: str, hosts: Hosts) -> Call:
    """Return the call for a document. Raises UsageError for a URL that cannot be requested, or not safely."""
    where, shown = checked_url(url, what), sanitize(url, _SHOWN)
    host = where.netloc.decode()
    if where.userinfo:
        # It would come back in logs and messages of this program, and of proxies.
        raise UsageError(f"{what}: the URL at {host} holds a user or a password", hint="Take it out: no credentials are sent.")
    if where.scheme == "http" and not hosts.may_be_plain(host):
        raise UsageError(f"{what}: {shown} is plain HTTP", hint=f"Write https://, or say --insecure {host}.")
    headers = {"Accept": accept}
    return Call("GET", Reference(host, ""), url, what, shown, headers=headers, anonymous=True, scoped=False, fetched=True)
