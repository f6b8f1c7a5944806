"""Texts of others, for people: as what they show, and no more of them than a line holds."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

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


# Aligned columns and counted words, for people.


def columns(rows: Sequence[tuple[str, ...]]) -> str:
    """Return rows, all of one length, as aligned columns without trailing blanks."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return `1 image`, `2 images`."""
    return f"{number} {noun}" if number == 1 else f"{number} {plural or noun + 's'}"
