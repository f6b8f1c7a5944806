"""Where answers of a registry lead: joined URLs, and whether two have one origin (RFC 6454)."""

from __future__ import annotations

import httpx


def joined(url: httpx.URL, location: str) -> httpx.URL:
    """Return where a Location leads; an empty URL where it leads nowhere."""
    try:
        return url.join(location)
    except httpx.InvalidURL:
        return httpx.URL("")


def same_origin(url: httpx.URL, other: httpx.URL) -> bool:
    """Say whether two URLs are of one scheme, host and port."""
    return (url.scheme, url.host, _port(url)) == (other.scheme, other.host, _port(other))


def _port(url: httpx.URL) -> int:
    return url.port or (443 if url.scheme == "https" else 80)
