"""Texts of others, for people: as what they show, and no more of them than a line holds."""

from __future__ import annotations

import unicodedata

_HIDDEN = frozenset(("Cc", "Cf", "Co", "Cs"))  # control and format characters, among them those that turn text around


def plain(text: object, limit: int) -> str:
    """Return a text of others as one line of at most `limit` characters that says what it shows; nothing for no text."""
    if not isinstance(text, str):
        return ""
    kept = "".join(" " if sign.isspace() else sign for sign in text[: limit * 8] if sign.isspace() or is_seen(sign))
    line = " ".join(kept.split())
    return line if len(line) <= limit else f"{line[: limit - 1].rstrip()}…"


def is_seen(sign: str) -> bool:
    """Say whether a character shows itself, and changes nothing about others."""
    return unicodedata.category(sign) not in _HIDDEN
