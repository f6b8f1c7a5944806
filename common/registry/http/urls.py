"""URLs from responses and documents: their targets, and whether two have the same origin (RFC 6454).

A registry or a manifest may contain text that is not a URL. It is parsed here, and an empty URL stands for an invalid one:
callers check scheme and host, and name the source of the URL.
"""

from __future__ import annotations

import re
from typing import Any

import httpx

from common.errors import RegistryRefusedError

NOWHERE = httpx.URL("")
# A path of which nothing is to be encoded or removed (RFC 3986, sections 3.3 and 5.2.4), as those of manifests and blobs.
_AS_IT_IS = re.compile(r"(?:/[A-Za-z0-9_:-][A-Za-z0-9._~:-]*)+")
_LINK = re.compile(r'[\s,]*+<([^<>]*+)>((?:"(?:[^"\\]|\\.)*"|[^",])*)')  # one of a Link header, with its parameters (RFC 8288)
_IS_NEXT = re.compile(r';\s*+rel\s*+=\s*+"?next\b', re.IGNORECASE)
_MAX_LINK = 64 * 1024  # characters: the longest line that http.client takes
# InvalidURL is no ValueError. urllib.parse.urljoin, beneath `join`, raises that for brackets and for names under NFKC.
_INVALID = (httpx.InvalidURL, ValueError)


class PathURL(httpx.URL):
    """A path at an origin, as it is. httpx parses a URL character by character: a quarter of the calls of a small request.

    httpx copies a URL that it is given, without the path of this class: `httpx.Request` has to get it as its attribute `url`.
    """

    def __init__(self, origin: httpx.URL, path: str) -> None:
        super().__init__(origin)
        self._text = path

    def __str__(self) -> str:
        return f"{self.scheme}://{self.netloc.decode()}{self._text}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, httpx.URL) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    @property
    def path(self) -> str:
        """The path."""
        return self._text

    @property
    def raw_path(self) -> bytes:
        """The path as it is sent."""
        return self._text.encode()

    def copy_with(self, **changes: Any) -> httpx.URL:
        """Return a URL that is parsed; see `httpx.URL.copy_with`."""
        return httpx.URL(str(self)).copy_with(**changes)


def parsed(text: str) -> httpx.URL:
    """Return a URL; NOWHERE for an invalid one."""
    try:
        return httpx.URL(text)
    except _INVALID:
        return NOWHERE


def joined(url: httpx.URL, location: str) -> httpx.URL:
    """Return the target of a Location; NOWHERE for an invalid one."""
    try:
        return url.join(location)
    except _INVALID:
        return NOWHERE


def target(origin: httpx.URL, url: str) -> httpx.URL:
    """Return the URL of a request: a path is requested from `origin` as it is written; NOWHERE for an invalid URL."""
    if not url.startswith("/"):
        return joined(origin, url)
    if _AS_IT_IS.fullmatch(url):
        return PathURL(origin, url)
    try:
        return origin.copy_with(raw_path=url.encode())
    except _INVALID:
        return NOWHERE


def with_parameter(url: httpx.URL, name: str, value: str) -> httpx.URL:
    """Return `url` with a parameter more in its query; NOWHERE where it becomes too long."""
    try:
        return url.copy_add_param(name, value)
    except _INVALID:
        return NOWHERE


def next_page(url: httpx.URL, headers: httpx.Headers, subject: str) -> str | None:
    """Return the path of the page after the answer that came from `url` (RFC 8288); None after the last one.

    Only path and query count: a list continues at the registry where it began. Raises RegistryRefusedError for no URL, and for
    that of the same page, which would be asked for without end.
    """
    named = _next_link(headers.get("Link", "")[:_MAX_LINK])
    if named is None:
        return None
    found = joined(url, named)
    fault = ""
    if not found.raw_path.startswith(b"/"):  # NOWHERE, or of another scheme, such as mailto
        fault = "which is no URL"
    elif found.raw_path == url.raw_path:
        fault = "which is the page itself"
    if fault:
        raise RegistryRefusedError(
            f"{subject}: {url.netloc.decode()} names {named[:200]!r} as the next page, {fault}",
            hint="Look at the registry's log; a proxy before it may change its answers.",
        )
    return found.raw_path.decode()


def _next_link(header: str) -> str | None:
    """Return the target of the link to the next page; None where a Link header has none."""
    position = 0
    while match := _LINK.match(header, position):
        if _IS_NEXT.search(match[2]):
            return match[1]
        position = match.end()
    return None


def same_origin(url: httpx.URL, other: httpx.URL) -> bool:
    """Say whether two URLs are of one scheme, host and port."""
    return (url.scheme, url.host, _port(url)) == (other.scheme, other.host, _port(other))


def _port(url: httpx.URL) -> int:
    return url.port or (443 if url.scheme == "https" else 80)
