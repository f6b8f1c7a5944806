"""The way of all text to the terminal: one line for each line that the program wrote, with every other character visible.

Archives, catalogs, registries and clusters are untrusted. Their texts may have characters that move the cursor, or
newlines that imitate a line of this program; `common.text.visible` escapes both.
"""

from __future__ import annotations

import io
import json
import os
import shlex
import sys
import traceback
from typing import TYPE_CHECKING, Any

import msgspec

from common.log import SECRETS
from common.table import CommandLine, Line, fitted, width_of
from common.text import escaped_json, visible, visible_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from common.errors import HubError


def show(lines: Iterable[str]) -> None:
    """Print the lines of a result on stdout: laid out for the width of a terminal, whole in a pipe."""
    width = width_of(sys.stdout)
    _print("\n".join(fitted(lines, width) if width else map(visible, lines)))


def show_json(document: Any) -> None:
    """Print a result on stdout as JSON, in the order of its fields."""
    try:
        # msgspec encodes the Structs of inventories, which json.dumps does not know; field names are those of
        # docs/reference/cli.md.
        text = msgspec.json.format(msgspec.json.encode(document)).decode()
    except UnicodeEncodeError:  # a lone surrogate: Python's form of bytes of a path that are not UTF-8 (PEP 383)
        text = json.dumps(msgspec.to_builtins(document), indent=2)
    text = visible_json(text)
    # Where the terminal has no Unicode, the escapes of JSON and not those of Python.
    _print(text if has_unicode() else escaped_json(text))


def show_help(text: str) -> None:
    """Print help, which is text of the program itself and may have colours."""
    _print(text)
    if sys.stdout is not None:
        sys.stdout.flush()


def _print(text: str) -> None:
    if isinstance(sys.stdout, io.TextIOWrapper) and not has_unicode():
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr has it: a locale such as ISO-8859-1 lacks most names
    print(text)


def has_unicode() -> bool:
    """Return whether stdout takes any character."""
    # sys.stdout is None where the caller has closed it: print then does nothing.
    return (getattr(sys.stdout, "encoding", None) or "utf-8").lower().startswith("utf")


def tell(line: str) -> None:
    """Print a line on stderr, without secrets."""
    width, safe = width_of(sys.stderr), shown(line)
    if width:
        # A secret is replaced before it could be cut; a cell of a table is never a secret, but its text comes from elsewhere.
        kept = isinstance(line, (Line, CommandLine)) and safe == visible(line)
        safe = "\n".join(fitted([line if kept else safe], width))
    print(safe, file=sys.stderr, flush=True)


def tell_error(error: HubError, left: str = "", again: Sequence[str] = ()) -> None:
    """Print an error on stderr: its message after `error:`, and indented its details and the advice.

    `left`: how far the command came; `again`: the words of the command that continues.
    """
    first, *details = error.lines
    try:
        for line in (f"error: {first}", *details, *([f"  {left}"] if left else []), f"  {error.advice}"):
            tell(line)
        if again:
            tell(CommandLine(f"  {shlex.join(again)}"))
    except OSError:
        without_stderr()  # a terminal that was closed, a full disk: only the exit status remains


def without_stderr() -> None:
    """Discard all further output on stderr."""
    # Not None, with which print writes on stdout. Never closed: the streams of the process last as long as it does.
    sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115


def tell_trace() -> None:
    """Print the traceback of the handled exception, indented, so that no line of its message looks like one of this program."""
    for line in traceback.format_exc().splitlines():
        tell(f"  {line}")


def shown(line: str) -> str:
    """Return a line as it may be shown outside of a result: without secrets and without hidden characters."""
    return visible(SECRETS.mask(line))
