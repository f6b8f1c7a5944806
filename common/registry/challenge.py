"""Challenges: what a registry asks for when it answers 401 (RFC 9110, section 11; token authentication of distribution)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

MAX_HEADER = 16 * 1024
_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER = re.compile(rf'\s*({_WORD})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))\s*(?:,|$)')
_SCHEME = re.compile(rf"\s*,?\s*({_WORD})(?:\s+|\s*(?:,|$))(?!=)")


@dataclass(frozen=True, slots=True)
class Challenge:
    """One challenge. `scheme` in lower case; the rest is empty where it was not given."""

    scheme: str
    realm: str = ""
    service: str = ""
    scope: str = ""


def parse_challenges(headers: Iterable[str]) -> list[Challenge]:
    """Read `WWW-Authenticate` headers; each may hold several challenges. What cannot be read is left out."""
    return [challenge for header in headers for challenge in _parse(header[:MAX_HEADER])]


def _parse(text: str) -> Iterator[Challenge]:
    position = 0
    while match := _SCHEME.match(text, position):
        parameters, position = _parameters(text, match.end())
        yield Challenge(
            match[1].lower(), parameters.get("realm", ""), parameters.get("service", ""), parameters.get("scope", "")
        )


def _parameters(text: str, position: int) -> tuple[dict[str, str], int]:
    found: dict[str, str] = {}
    while match := _PARAMETER.match(text, position):
        quoted = match[2]
        found[match[1].lower()] = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else match[3]
        position = match.end()
    return found, position
