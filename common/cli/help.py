"""`--help` in panels: usage, what the command does, arguments, options by their panels, commands, and the exit status.

typer draws the same with rich, which it loads with a Markdown parser, a highlighter and a printer of tracebacks: 0.1 s of CPU
for each `--help`. Here nothing is loaded, and an option is never cut: where its name is long, its help begins on the next line.
"""

from __future__ import annotations

import inspect
import os
import re
import shutil
import sys
import textwrap
from typing import TYPE_CHECKING, Any

from typer.core import TyperGroup

from common.cli import terminal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_NARROWEST = 40  # columns; below them the terminal wraps
_LEFT_SHARE = 0.45  # of a panel's columns for names, at most
# `-a, --authfile FILE`: the names, as get_help_record joins them, and what the option takes.
_NAMES = re.compile(r"(?P<names>-[^\s,;]+(?:(?:, | / |; )-[^\s,;]+)*)(?: (?P<takes>.+))?", re.DOTALL)
_CORNERS, _ASCII_CORNERS = ("╭─", "╮", "│", "╰", "╯", "─"), ("+-", "+", "|", "+", "+", "-")
_BOLD, _DIM, _NAME, _TAKES, _REQUIRED = "1", "2", "1;36", "1;33", "31"  # SGR (ECMA-48, 8.3.117)


def print_help(command: Any, ctx: Any) -> None:
    """Print the help of a command or a program. typer, too, prints when it is asked to format."""
    terminal.show_help(_Page(command, ctx).text())


def as_flag(option: Any) -> Any:
    """Return a flag for which help shows no value (typer writes `<bool>`), and which is False where it is not given."""
    if option is not None:
        option.metavar = ""
        # `--help` and the options for completion have None, which is no bool: to convert it, typer loads pydantic, 0.06 s.
        option.default = option.default or False
    return option


class _Page:
    """The help of one command, for the terminal that it is printed on."""

    def __init__(self, command: Any, ctx: Any) -> None:
        self._command, self._ctx = command, ctx
        self._width = max(shutil.get_terminal_size().columns, _NARROWEST)
        self._corners = _CORNERS if terminal.has_unicode() else _ASCII_CORNERS
        # no-color.org; a terminal that says that it is dumb has no colours (terminfo(5)).
        plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") in ("dumb", "unknown")
        self._colours = not plain and sys.stdout is not None and sys.stdout.isatty()

    def text(self) -> str:
        """Return all of it."""
        lines = ["", *(f" {self._styled(line, _BOLD)}" for line in self._wrapped_usage()), ""]
        for paragraph in _paragraphs(self._command.help):
            lines += [*self._wrapped(paragraph), ""]
        from common.cli.examples import EXAMPLES

        if examples := EXAMPLES.get(self._ctx.command_path, ()):
            lines += [f" Example{'s' * (len(examples) > 1)}:", *map(self._example, examples), ""]
        for title, rows in self._panels().items():
            lines += self._panel(title, rows)
        lines.append("")
        for paragraph in _paragraphs(self._command.epilog):
            lines += [*self._wrapped(paragraph), ""]
        return "\n".join(lines).rstrip("\n") + "\n"

    def _panels(self) -> dict[str, list[tuple[str, str, str, bool]]]:
        """Return the rows of each panel, (name, what it takes, help, required): arguments and options before all others."""
        found: dict[str, list[tuple[str, str, str, bool]]] = {"Arguments": [], "Options": []}
        for parameter in self._command.get_params(self._ctx):
            record = parameter.get_help_record(self._ctx)
            if record is not None:
                own = "Arguments" if parameter.param_type_name == "argument" else "Options"
                panel = found.setdefault(getattr(parameter, "rich_help_panel", None) or own, [])
                # The star says that it is required.
                about = record[1].replace("\n", " ").removesuffix("[required]").rstrip()
                names = _split(record[0]) if own == "Options" else (str(parameter.metavar), "")
                panel.append((*names, about, parameter.required))
        if isinstance(self._command, TyperGroup):
            for name in self._command.list_commands(self._ctx):
                command = self._command.get_command(self._ctx, name)
                if command is not None and not command.hidden:
                    panel = found.setdefault(getattr(command, "rich_help_panel", None) or "Commands", [])
                    panel.append((name, "", command.short_help or next(iter(_paragraphs(command.help)), ""), False))
        for title in found.keys() - {"Arguments", "Commands"}:
            found[title].sort(key=lambda row: not row[3])  # what a command cannot do without is first
        return {title: rows for title, rows in found.items() if rows}

    def _panel(self, title: str, rows: list[tuple[str, str, str, bool]]) -> Iterator[str]:
        begin, top, side, bottom, end, line = self._corners
        inner = self._width - 4
        left = min(max(len(f"{name} {takes}".rstrip()) for name, takes, _, _ in rows), int(inner * _LEFT_SHARE))
        mark = any(required for *_, required in rows)
        yield self._styled(f"{begin} {title} ".ljust(self._width - 1, line) + top, _DIM)
        border = self._styled(side, _DIM)
        for plain, shown in self._rows(rows, left, inner, mark=mark):
            yield f"{border} {shown}{' ' * (inner - len(plain))} {border}"
        yield self._styled(f"{bottom}{line * (self._width - 2)}{end}", _DIM)

    def _rows(
        self, rows: Iterable[tuple[str, str, str, bool]], left: int, inner: int, *, mark: bool
    ) -> Iterator[tuple[str, str]]:
        """Give the lines of a panel between its borders, as they count and as they are shown."""
        for name, takes, about, required in rows:
            star = ("* " if required else "  ") if mark else ""
            column = len(star) + left + 2
            helped = textwrap.wrap(about, inner - column, break_on_hyphens=False) or [""]
            plain = f"{star}{name} {takes}".rstrip()
            shown = f"{self._styled(star, _REQUIRED)}{self._styled(name, _NAME)} {self._styled(takes, _TAKES)}"
            shown = shown if takes else shown.removesuffix(" ")
            if len(plain) > column - 2:
                yield plain, shown
            else:
                first = helped.pop(0)
                yield plain.ljust(column) + first, shown + " " * (column - len(plain)) + first
            yield from ((" " * column + each,) * 2 for each in helped)

    def _wrapped(self, paragraph: str) -> list[str]:
        if paragraph.startswith("\b"):  # click's mark of lines that stay as they are
            return [f" {line}" for line in paragraph.lstrip("\b\n").splitlines()]
        return [f" {line}" for line in textwrap.wrap(paragraph, self._width - 2, break_on_hyphens=False)]

    def _example(self, text: str) -> str:
        """Return a command that can be copied, also where it is longer than a line."""
        lines = textwrap.wrap(text, self._width - 11, break_on_hyphens=False, break_long_words=False)
        return "   " + " \\\n       ".join(lines)

    def _wrapped_usage(self) -> list[str]:
        return textwrap.wrap(f"Usage: {usage(self._command, self._ctx)}", self._width - 2, subsequent_indent="    ")

    def _styled(self, text: str, style: str) -> str:
        return f"\033[{style}m{text}\033[0m" if self._colours and text.strip() else text


def usage(command: Any, ctx: Any) -> str:
    """Return how a command is called: its name, options, and arguments, in brackets where they may be left out."""
    words = [ctx.command_path, "[OPTIONS]"]
    arguments = [each for each in command.get_params(ctx) if each.param_type_name == "argument"]
    words += [str(each.metavar) if each.required else f"[{each.metavar}]" for each in arguments]
    return " ".join([*words, *(["COMMAND …"] if isinstance(command, TyperGroup) else [])])


def _split(record: str) -> tuple[str, str]:
    """Return the names of an option, the long ones first, and what it takes; an argument has a name alone."""
    match = _NAMES.fullmatch(record.strip())
    if match is None:
        return record, ""
    names = sorted(match["names"].split(", "), key=lambda name: not name.startswith("--"))
    return ", ".join(names), match["takes"] or ""


def _paragraphs(text: str | None) -> list[str]:
    return [each.strip(" \n") for each in inspect.cleandoc(text or "").split("\n\n") if each.strip(" \n")]
