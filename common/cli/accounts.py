"""Accounts in front of a host on a command line, as git and curl take them: `ACCOUNT:PASSWORD@HOST`. No message repeats one."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# What may be a host after the sign, and neither a digest (`@sha256:`) nor a version (`PACKAGE:CHANNEL@1.2.3`).
_AT = re.compile(
    r"@(?!sha\d+:[0-9a-f]{32})(?:(?!v\d)[A-Za-z][A-Za-z0-9.-]*|\d+(?:\.\d+){3}|\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+(?=[:/]))(?=[:/=]|\Z)"
)
# Words in front of a colon that are no accounts, and values of options and of `SOURCE=TARGET`.
_BEGIN = re.compile(
    r"(?:\A|=)(?:[A-Za-z][A-Za-z0-9+.-]*://)?(?!(?:file|dir|oci|oci-archive|docker-archive|s3|https?|docker):)[^\s/@:=]*:"
)
_BLANK = re.compile(r"\s")  # a text such as `Anna: anna@example.com`
_MOST = 16  # signs of one word that are looked at
_LONGEST = 8192  # characters of one word; a token of a cloud has some thousand
_ACCOUNT = re.compile(r"(?P<scheme>\A[A-Za-z][A-Za-z0-9+.-]*://)?(?P<rest>.*)", re.DOTALL)


def passwords(words: Iterable[str]) -> Iterator[str]:
    """Give the passwords of accounts in words of a command line."""
    for word in words:
        if "@" not in word:
            continue
        text = word[:_LONGEST]
        ends = [found.start() for found in _AT.finditer(text)][-_MOST:]
        for begin in [found.end() for found in _BEGIN.finditer(text)][:_MOST]:
            # Each end: a password may have the sign too.
            yield from (text[begin:end] for end in ends if end > begin and not _BLANK.search(text, begin, end))


def public(text: str) -> str:
    """Return a registry or an image without an account in front of its host."""
    found = _ACCOUNT.match(text)
    scheme, rest = (found["scheme"] or "", found["rest"]) if found else ("", text)
    ends = [each.start() for each in _AT.finditer(rest)]
    # A slash belongs to a password only after a colon: `host/repository:tag@…` has no account.
    named = [end for end in ends if re.match(r"[^/@:]*(?::|@|\Z)", rest[: end + 1])]
    return f"{scheme}{rest[named[-1] + 1 :]}" if named else text
