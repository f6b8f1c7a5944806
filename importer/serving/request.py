"""What a request asks for: paths, ranges and pages of the distribution specification. Pure.

No path of a request ever becomes a path of the file system: names are looked up in what is offered.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

# Greedy, so that names may contain words like `blobs`: what counts is at the end.
_PATH = re.compile(r"/v2/(?P<name>.+)/(?P<what>manifests|blobs|referrers)/(?P<which>[^/]+)")
_TAGS = re.compile(r"/v2/(?P<name>.+)/tags/list")
_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})", re.ASCII)


class What(StrEnum):
    """The resources of a registry."""

    BASE = "base"
    CATALOG = "_catalog"
    TAGS = "tags"
    MANIFESTS = "manifests"
    BLOBS = "blobs"
    REFERRERS = "referrers"


@dataclass(frozen=True, slots=True)
class Asked:
    """A resource; `which` is a tag or a digest as written."""

    what: What
    name: str = ""
    which: str = ""


def asked(path: str) -> Asked | None:
    """Return what a path (percent-decoded) asks for; None for what no registry has."""
    if path in ("/v2", "/v2/"):
        return Asked(What.BASE)
    if path in ("/v2/_catalog", "/v2/_catalog/"):
        return Asked(What.CATALOG)
    if match := _PATH.fullmatch(path):
        return Asked(What(match["what"]), match["name"], match["which"])
    if match := _TAGS.fullmatch(path):
        return Asked(What.TAGS, match["name"])
    return None


class UnsatisfiableError(Exception):
    """A range that lies outside of what there is."""


def part_of(header: str, size: int) -> tuple[int, int] | None:
    """Return the first byte that is asked for and the one behind the last; None for all of `size` bytes.

    What is no range of bytes, or several at once, is answered by everything, as RFC 9110 allows. Raises UnsatisfiableError.
    """
    match = _RANGE.fullmatch(header.strip())
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:
        length = int(match[2])
        if not length or not size:
            raise UnsatisfiableError
        return max(size - length, 0), size
    first, end = int(match[1]), min(int(match[2]) + 1, size) if match[2] else size
    if first >= size or end <= first:
        raise UnsatisfiableError
    return first, end


@dataclass(frozen=True, slots=True)
class Page:
    """Some of a list; `last` is what the next page comes after, None where there is no next one."""

    entries: tuple[str, ...]
    last: str | None = None


def page_of(entries: Sequence[str], number: str | None, last: str | None, most: int) -> Page:
    """Return the page after `last` (which need not exist) of at most `number` entries. Raises ValueError for a bad number.

    `entries` in ASCII order; `most` is the limit of a page for those who name none, or a larger one.
    """
    count = most if number is None else int(number)
    if count < 0:
        raise ValueError(f"a page of {count} entries")
    count = min(count, most)
    rest = [entry for entry in entries if last is None or entry > last]
    more = 0 < count < len(rest)
    return Page(tuple(rest[:count]), rest[count - 1] if more else None)
