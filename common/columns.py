"""Aligned columns and counted words, for people."""

from __future__ import annotations

from collections.abc import Sequence


def columns(rows: Sequence[tuple[str, ...]]) -> str:
    """Return rows, all of one length, as aligned columns without trailing blanks."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return `1 image`, `2 images`."""
    return f"{number} {noun}" if number == 1 else f"{number} {plural or noun + 's'}"
