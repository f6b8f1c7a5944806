"""Text for people: foreign text made safe to print, shortened lists and counted nouns.

Results are lists of lines. A newline inside a line is foreign text, and `visible` escapes it.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


# Control, format, private-use characters and surrogates, line and paragraph separators: some reverse the direction of text
# (CVE-2021-42574), move the cursor of a terminal (ECMA-48) or begin a line.
_HIDDEN = frozenset(("Cc", "Cf", "Co", "Cs", "Zl", "Zp"))


def sanitize(text: object, limit: int) -> str:
    """Return foreign text as one line of at most `limit` visible characters; the empty string for anything but a string."""
    if not isinstance(text, str):
        return ""
    # The fast way, as most texts are: packages of SBOMs have hundreds of thousands.
    if len(text) <= limit and text.isprintable() and "  " not in text and text == text.strip() and text.isascii():
        return text
    # Bounded before it is cleaned: a text of a catalog may have megabytes.
    kept = "".join(" " if sign.isspace() else sign for sign in text[: limit * 8] if sign.isspace() or is_visible(sign))
    line = " ".join(kept.split())
    return line if len(line) <= limit else f"{line[: limit - 1].rstrip()}…"


def visible(text: str) -> str:
    r"""Return a text as one line, with hidden characters as Python writes them: `\x1b`, `\u202e`, `\n`. Others stay."""
    if text.isprintable():  # the fast way: tables of an index have 100,000 cells
        return text
    return "".join(sign if is_visible(sign) else sign.encode("unicode_escape").decode("ascii") for sign in text)


def visible_json(text: str) -> str:
    """Return JSON with hidden characters inside its strings as escapes of JSON, so that it means the same (RFC 8259, 7)."""
    if text.isascii() and "\x7f" not in text:  # an encoder has escaped all else of ASCII
        return text
    # By lines: an inventory or a plan has megabytes of them, of which few have anything hidden.
    return "\n".join(line if line.isprintable() else _without_hidden(line) for line in text.split("\n"))


def _without_hidden(line: str) -> str:
    return "".join(sign if is_visible(sign) else _json_escape(sign) for sign in line)


def escaped_json(text: str) -> str:
    """Return JSON with all that is not ASCII as escapes."""
    return "".join(sign if sign.isascii() else _json_escape(sign) for sign in text)


def _json_escape(sign: str) -> str:
    units = sign.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


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


_NUMBERED = re.compile(r"(\D*)(\d+)(\D.*|)", re.DOTALL | re.ASCII)
_RUN = 4  # names that are listed one by one


def numbered(names: Sequence[str]) -> str:
    """Return numbered names such as those of volumes, with a run of more than four as its ends and its length."""
    runs: list[list[str]] = []
    last: tuple[str, int, str] | None = None
    for name in names:
        found = _NUMBERED.fullmatch(name)
        here = (found[1], int(found[2]), found[3]) if found else None
        if here is None or last is None or here != (last[0], last[1] + 1, last[2]):
            runs.append([])
        runs[-1].append(name)
        last = here
    shown = (run if len(run) <= _RUN else [f"{run[0]} to {run[-1]} ({len(run)})"] for run in runs)
    return ", ".join(name for run in shown for name in run)


def paragraphs(*parts: Sequence[str]) -> list[str]:
    """Return the lines of all parts that have any, with an empty line between two parts."""
    lines: list[str] = []
    for part in parts:
        lines += ["", *part] if lines and part else part
    return lines


def indented(lines: Sequence[str]) -> list[str]:
    """Return the lines of a list that a line introduces."""
    return [f"  {line}" for line in lines]


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return `1 image`, `2 images`."""
    return f"{number} {noun}" if number == 1 else f"{number} {plural or noun + 's'}"
