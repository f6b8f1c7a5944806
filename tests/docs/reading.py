"""A document as what a person does with it: files to write, commands to run, output to expect.

```console      commands after `$ `, continued by `> ` or a backslash; below each what it prints, `…` for what varies
```yaml NAME    a file of that name
```text WHY     what is shown only, and why nobody can run it here

A line `[exit status 3]` ends the output of a command that does not end with 0. In comments stands what the page does not show:
`<!-- site: {…} -->`, its last line, where it happens (stage.py), `<!-- meanwhile: … -->` what others do between two commands.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
# What git knows as documentation, beside the decisions, which are history.
DOCUMENTS = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md")))
_FENCE = re.compile(
    r"^```(?P<info>[^\n`]*)\n(?P<body>.*?)^```$|^<!-- (?P<word>site|meanwhile): (?P<said>.*?) -->$", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True)
class Command:
    """What is typed, and what it should print; `line` is where it stands."""

    line: int
    text: str
    expected: tuple[str, ...] = ()


@dataclass(frozen=True)
class File:
    """A file to write."""

    line: int
    name: str
    content: str


@dataclass(frozen=True)
class Meanwhile:
    """What happens without a command: a word and its arguments."""

    line: int
    words: tuple[str, ...]


@dataclass(frozen=True)
class Shown:
    """A block that nobody runs; `reason` says why."""

    line: int
    word: str
    reason: str


@dataclass(frozen=True)
class Document:
    """`site`: where it happens."""

    site: dict[str, Any] = field(default_factory=dict)
    steps: tuple[Command | File | Meanwhile, ...] = ()
    shown: tuple[Shown, ...] = ()


def read(path: Path) -> Document:
    """Read a document."""
    text = path.read_text(encoding="utf-8")
    site: dict[str, Any] = {}
    steps: list[Command | File | Meanwhile] = []
    shown: list[Shown] = []
    for found in _FENCE.finditer(text):
        line = text.count("\n", 0, found.start()) + 1
        word, name = (*(found["info"] or "").split(maxsplit=1), "", "")[:2]
        if found["word"] == "site":
            site = json.loads(found["said"])
        elif found["word"]:
            steps.append(Meanwhile(line, tuple(found["said"].split())))
        elif word == "console":
            steps.extend(_commands(found["body"], line + 1))
        elif name and word != "text":
            steps.append(File(line, name, found["body"]))
        else:
            shown.append(Shown(line, word, name))
    return Document(site, tuple(steps), tuple(shown))


def _commands(body: str, line: int) -> Iterator[Command]:
    text, output, begun = "", [], line
    for number, row in enumerate(body.splitlines(), line):
        if row.startswith("$ "):
            if text:
                yield Command(begun, text, tuple(output))
            text, output, begun = row[2:], [], number
        elif not output and (row.startswith("> ") or text.endswith("\\")):
            text += "\n" + row.removeprefix("> ")
        else:
            assert text, f"line {number}: output before any command"
            output.append(row)
    if text:
        yield Command(begun, text, tuple(output))


def matches(expected: tuple[str, ...], printed: list[str]) -> bool:
    """Say whether output is as shown: `…` in a line stands for any text, alone in a line for any lines.

    How a command ends is never left open; without any output shown, nothing else counts.
    """
    if _ending(expected) != _ending(printed):
        return False
    if not expected:
        return True
    pattern = "".join(
        r"(?:[^\n]*\n)*?" if row.strip() == "…" else ".*?".join(map(re.escape, row.rstrip().split("…"))) + r"[ ]*\n"
        for row in expected
    )
    return re.fullmatch(pattern, "".join(f"{row}\n" for row in printed)) is not None


def _ending(rows: Sequence[str]) -> str:
    return rows[-1] if rows and rows[-1].startswith(("[exit status", "[still running", "[not run")) else ""
