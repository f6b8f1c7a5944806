"""Tables for people: aligned columns in a pipe, and laid out for the width of a terminal (docs/reference/cli.md, *Tables*).

A result is a list of lines. A line of a table remembers its table, so that `fitted` can lay it out again for a
terminal. In a pipe the line has every column, whole, for grep and awk.
"""

from __future__ import annotations

import os
import re
import shutil
import unicodedata
from itertools import zip_longest
from typing import TYPE_CHECKING, TextIO

from common.text import visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence


WIDTH = 80  # columns of a terminal that does not say
_GAP = 2  # blanks between two columns, and before the rows below a heading
_NARROW = 14  # cells; columns of a table that would be narrower are shown as a line for each field
_MOVED = 2  # columns with cells that are wider; a table with more of them is shown as a line for each field too
_WIDEST = 200  # cells that a column of a pipe is padded to: one long name would otherwise be as many blanks in each row
_LEAST = 20  # cells of a terminal: a narrower one is written as if it had so many
# A word as shlex.quote writes it; a quote that nothing closes is a character of its word.
_SHELL_WORD = re.compile(r"""(?:'[^']*'|"[^"]*"|\S)+""")
_PIECE = re.compile(r"[^\s,]*,|[^\s,]+")  # words, and the parts of a list without blanks


def cells(text: str) -> int:
    """Return how many columns of a terminal a text takes: two for a wide character, none for one that combines (UAX #11)."""
    if text.isascii():
        return len(text)
    # Names and descriptions of catalogs are in any script: len() counts characters, not columns.
    return sum(_cell(sign) for sign in text)


def _cell(sign: str) -> int:
    if unicodedata.category(sign) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(sign) in "WF" else 1


def width_of(stream: TextIO | None) -> int:
    """Return how many columns the terminal has on which a stream is shown; 0 for a file or a pipe."""
    if stream is None or stream.closed or not stream.isatty():
        return 0
    if os.environ.get("COLUMNS", "").isdecimal():  # as `--help` does, and curses(3)
        return shutil.get_terminal_size().columns
    try:
        return os.get_terminal_size(stream.fileno()).columns or WIDTH
    except OSError:  # no file descriptor, or no size
        return WIDTH


def padded(text: str, width: int) -> str:
    """Return a text with blanks up to a width."""
    return text + " " * (width - cells(text))


def cut(text: str, width: int) -> str:
    """Return a text, or as much of its begin as takes `width` cells with an ellipsis."""
    if cells(text) <= width:
        return text
    end, taken = 0, 1  # of the ellipsis
    while taken + _cell(text[end]) <= width:
        taken += _cell(text[end])
        end += 1
    return f"{text[:end]}…"


class Line(str):
    """A line of a table as a pipe gets it."""

    __slots__ = ("number", "table")
    table: Table
    number: int


class CommandLine(str):
    """A command for copying: a long one continues with a backslash."""

    __slots__ = ()


class Verbatim(str):
    """A line of a file, such as a diff: its blanks mean something, so it is never folded."""

    __slots__ = ()


class Table:
    """Rows of equal length; the first is the heading.

    `levels`: columns that repeat from row to row, from the outer to the inner ones; where the table is wider than the terminal,
    each level is a line above its rows. `notes`: columns of the innermost level that are shown there as far as there is room.
    """

    def __init__(
        self, rows: Sequence[tuple[str, ...]], levels: Sequence[Sequence[int]] = (), notes: Sequence[int] = ()
    ) -> None:
        self.rows = [
            tuple(map(visible, row)) for row in rows
        ]  # before they are measured: an escape is longer than its character
        self._levels = levels
        self._notes = notes
        repeated = {column for level in levels for column in level} | set(notes)
        self._rest = [column for column in range(len(rows[0])) if column not in repeated]
        self._laid: tuple[int, list[list[str]]] = (0, [])

    def lines(self) -> list[str]:
        """Return the lines of a pipe, without trailing blanks."""
        widths = [min(max(map(cells, column)), _WIDEST) for column in zip(*self.rows, strict=True)]
        return [self._line(number, _joined(row, widths)) for number, row in enumerate(self.rows)]

    def _line(self, number: int, text: str) -> Line:
        line = Line(text)
        line.table, line.number = self, number
        return line

    def laid(self, number: int, width: int) -> list[str]:
        """Return a row in lines of at most `width` cells."""
        # Kept for one width: each line of a table asks for its own row.
        if self._laid[0] != width:
            self._laid = width, self.layout(width)
        return self._laid[1][number]

    def layout(self, width: int) -> list[list[str]]:
        """Return all rows, each in lines of at most `width` cells."""
        every = [max(map(cells, column)) for column in zip(*self.rows, strict=True)]
        if sum(every) + _GAP * (len(every) - 1) <= width:
            return list(self._in_a_line(every))
        # Too wide: columns without a value go first, before anything is folded.
        filled = [column for column in range(len(every)) if any(row[column] for row in self.rows[1:])]
        if filled and len(filled) < len(every):
            return self._of(filled).layout(width)
        return list(self._in_lines(width))

    def _of(self, columns: Sequence[int]) -> Table:
        """Return the table of some columns."""
        places = {column: place for place, column in enumerate(columns)}
        rows = [tuple(row[column] for column in columns) for row in self.rows]
        levels = [[places[column] for column in level if column in places] for level in self._levels]
        return Table(rows, [level for level in levels if level], [places[note] for note in self._notes if note in places])

    def _in_a_line(self, widths: Sequence[int]) -> Iterator[list[str]]:
        """Yield rows of one line, in which what repeats is left out."""
        for row, same in zip(self.rows, self._repeats(), strict=True):
            empty = {column for level in self._levels[:same] for column in level}
            empty |= set(self._notes) if same == len(self._levels) else set()
            yield [_joined([" " if column in empty else cell for column, cell in enumerate(row)], widths)]

    def _in_lines(self, width: int) -> Iterator[list[str]]:
        indent = _GAP * len(self._levels)
        rest = [tuple(row[column] for column in self._rest) for row in self.rows]
        widths = _widths(rest, width - indent)
        for number, (row, below, same) in enumerate(zip(self.rows, rest, self._repeats(), strict=True)):
            lines = [line for depth in range(same, len(self._levels)) for line in self._heading(row, depth, width)]
            if widths:
                lines += _placed(below, widths, width, indent)
            elif number:
                lines += _fields(rest[0], below, width, indent)
            yield lines

    def _repeats(self) -> Iterator[int]:
        """Yield for each row how many of the levels are those of the row before."""
        last: list[list[str]] = []
        for row in self.rows:
            now = [[row[column] for column in level] for level in self._levels]
            yield next((depth for depth, one in enumerate(now) if one != last[depth : depth + 1][0]), len(now)) if last else 0
            last = now

    def _heading(self, row: Sequence[str], depth: int, width: int) -> list[str]:
        indent, between = " " * (_GAP * depth), " " * _GAP
        line = indent + between.join(row[column] for column in self._levels[depth] if row[column])
        more = between.join(row[column] for column in self._notes if row[column])
        if more and depth == len(self._levels) - 1 and cells(line) + _NARROW <= width:
            return [cut(line + between + more, width)]
        return [_outdented(each, width) for each in folded(line, width)]


def columns(rows: Sequence[tuple[str, ...]], levels: Sequence[Sequence[int]] = (), notes: Sequence[int] = ()) -> list[str]:
    """Return rows, all of one length, as lines of aligned columns; a terminal shows them in its width, as `Table` does."""
    return Table(rows, levels, notes).lines()


def fitted(lines: Iterable[str], width: int) -> list[str]:
    """Return lines as a terminal of `width` cells shows them: no word is broken, and only cells of tables are cut."""
    width = max(width, _LEAST)
    shown: list[str] = []
    for line in lines:
        if isinstance(line, Line):
            shown += line.table.laid(line.number, width)
        elif isinstance(line, CommandLine):
            shown += _continued(visible(line), width)
        elif isinstance(line, Verbatim):
            shown.append(visible(line))
        else:
            shown += folded(visible(line), width)
    return shown


def folded(line: str, width: int) -> list[str]:
    """Return a line of prose, folded at its blanks. A longer word, such as a path, stays whole, so that it can be copied."""
    if cells(line) <= width:
        return [line]
    # Continuation lines are indented further than the first, so that the next entry of a list can be seen.
    begin = min(len(line) - len(line.lstrip()), width // 2)
    parts = _wrapped(line, width - begin - _GAP)
    return [" " * (begin + (_GAP if number else 0)) + part for number, part in enumerate(parts)]


def _continued(line: str, width: int) -> list[str]:
    if cells(line) <= width:
        return [line]
    begin = len(line) - len(line.lstrip())
    # A backslash inside of quotes is a part of the text, and a blank after the comma of a list ends the word.
    parts = _filled_lines(_SHELL_WORD.findall(line), width - begin - 4)  # of the further indentation, and of the backslash
    last = len(parts) - 1
    return [
        " " * (begin + (2 if number else 0)) + part + ("" if number == last else " \\") for number, part in enumerate(parts)
    ]


def _wrapped(text: str, width: int) -> list[str]:
    """Return lines of words; a word that is longer than the width, and no list, has a line of its own."""
    # Lists without blanks, such as `amd64,arm64,s390x`, may break after a comma; paths and digests have no such place.
    return _filled_lines(
        (piece for word in text.split() for piece in (_PIECE.findall(word) if cells(word) > width else [word])), width
    )


def _filled_lines(pieces: Iterable[str], width: int) -> list[str]:
    lines: list[str] = []
    taken = width + 1  # the first piece begins a line
    for piece in pieces:
        size = cells(piece)
        if lines and taken + 1 + size <= width:
            lines[-1] += f" {piece}"
            taken += 1 + size
        else:
            lines.append(piece)
            taken = size
    return lines or [""]


def _joined(row: Sequence[str], widths: Sequence[int]) -> str:
    return (" " * _GAP).join(padded(cell, width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _widths(rows: Sequence[Sequence[str]], width: int) -> list[int]:
    """Return the widths of columns that fit; empty where they would be too narrow to be read."""
    natural = [max(map(cells, column)) for column in zip(*rows, strict=True)]
    room = width - _GAP * (len(natural) - 1)
    if sum(natural) <= room:
        return natural
    longest = [max(1, *map(_longest, column)) for column in zip(*rows, strict=True)]
    if sum(longest) <= room:  # folded at words
        return _filled(longest, natural, room)
    # Cells that are longer than their column are placed over the columns to the right of it.
    found = _filled([min(each, _NARROW) for each in longest], longest, room)
    wider = sum(most > wide for most, wide in zip(longest, found, strict=True))
    return found if sum(found) <= room and wider <= _MOVED else []


def _longest(cell: str) -> int:
    """Return the length of what stays in one line: a word, or all of a short cell such as `1.4 MiB`."""
    return cells(cell) if cells(cell) <= _NARROW else max((cells(piece) for piece in _PIECE.findall(cell)), default=0)


def _filled(low: Sequence[int], high: Sequence[int], room: int) -> list[int]:
    """Return widths between `low` and `high` that fill the room as evenly as can be."""
    # A common cap for all columns: narrow ones keep their width, and the widest share the rest.
    for cap in range(min(max(high), room), 0, -1):  # a wider one has no room
        found = [max(least, min(most, cap)) for least, most in zip(low, high, strict=True)]
        if sum(found) <= room:
            return found
    return list(low)


def _placed(row: Sequence[str], widths: Sequence[int], width: int, indent: int) -> list[str]:
    """Return a row in columns. A cell that is wider than its column moves the next ones to the right, or to the next line."""
    lines: list[str] = []
    block: list[tuple[int, list[str]]] = []  # cells next to each other: where each begins, and its lines
    column = end = indent
    for cell, wide in zip(row, widths, strict=True):
        parts = _wrapped(cell, wide)
        longest, start = max(map(cells, parts)), max(column, end)
        if start + longest > width:
            lines += _side_by_side(block)
            block, start = [], column if column + longest <= width else min(column, indent + 2 * _GAP)
        if longest > wide:
            parts = _wrapped(cell, width - start)
        # Only here is a cell cut, alone on its lines: a single word longer than the terminal. One that fits without its
        # indentation stays whole, for the end of a name is often a version.
        if start + longest > width:
            parts, start = [_outdented(" " * start + part, width) for part in parts], 0
        block.append((start, parts))
        end = start + max(map(cells, parts)) + _GAP
        column += wide + _GAP
    return [*lines, *_side_by_side(block)] or [""]


def _side_by_side(block: Sequence[tuple[int, list[str]]]) -> list[str]:
    """Return cells next to each other."""
    lines = []
    for parts in zip_longest(*(parts for _, parts in block), fillvalue=""):
        line = ""
        for (offset, _), part in zip(block, parts, strict=True):
            line = padded(line, offset) + part if part else line
        lines.append(line)
    return [line for line in lines if line]


def _fields(names: Sequence[str], row: Sequence[str], width: int, indent: int) -> list[str]:
    """Return a row with a line for each of its fields."""
    lines: list[str] = []
    for name, cell in zip(names, row, strict=True):
        if cell:
            begin = " " * (indent + (_GAP if lines else 0))
            lines += (_outdented(each, width) for each in folded(f"{begin}{name}: {cell}" if name else f"{begin}{cell}", width))
    return lines


def _outdented(line: str, width: int) -> str:
    """Return a line with less indentation where it is too long, and cut where that is not enough."""
    text = line.lstrip()
    blanks = min(len(line) - len(text), width - cells(text))
    return " " * blanks + text if blanks >= 0 else cut(line, width)
