"""Text for people: foreign text made safe to print, shortened lists, aligned columns and counted nouns."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


# Control, format, private-use characters and surrogates: some reverse the direction of text, or move the cursor of a terminal.
_HIDDEN = frozenset(("Cc", "Cf", "Co", "Cs"))


def sanitize(text: object, limit: int) -> str:
    """Return foreign text as one line of at most `limit` visible characters; the empty string for anything but a string."""
    if not isinstance(text, str):
        return ""
    # Bounded before it is cleaned: a text of a catalog may have megabytes.
    kept = "".join(" " if sign.isspace() else sign for sign in text[: limit * 8] if sign.isspace() or is_visible(sign))
    line = " ".join(kept.split())
    return line if len(line) <= limit else f"{line[: limit - 1].rstrip()}…"


def is_visible(sign: str) -> bool:
    """Return whether a character is visible and does not change how others are shown."""
    return unicodedata.category(sign) not in _HIDDEN


def shortened(texts: Sequence[str], limit: int, rest: str = "") -> list[str]:
    """Return the first `limit` texts, and where there are more, a last one that counts them: `and 3 more` + `rest`."""
    left_out = len(texts) - limit
    return [*texts[:limit], f"and {left_out} more{rest}"] if left_out > 0 else list(texts)


def enumeration(names: Sequence[str], limit: int) -> str:
    """Return `a, b, c`, or `a, b and 3 more` where there are more than `limit` names."""
    left_out = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {left_out} more" if left_out > 0 else "")


def columns(rows: Sequence[tuple[str, ...]]) -> str:
    """Return rows, all of one length, as aligned columns without trailing blanks."""
    # Characters, not columns of the terminal: names of the field are ASCII.
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return `1 image`, `2 images`."""
    return f"{number} {noun}" if number == 1 else f"{number} {plural or noun + 's'}"
