"""Placeholders of templates in an image set: a file that was not rendered has faults that say nothing about their cause.

Such files come from Ansible and Jinja (`{{ x }}`, `{% if x %}`), Go templates, envsubst and scripts (`${X}`, `$X`), and from
documentation (`<version>`, the callout `<1>`). None of these is part of a reference, a version or the name of a channel.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

HINT = "Render the file first (with Ansible or envsubst, for example), or fill it in."
MAX_LINES = 20
# The beginning alone, and no pattern that is tried again from every character: lines may have megabytes.
_BEGIN = re.compile(r"\{\{|\{%|\$\{|\$\(|\$(?=[A-Za-z_])|(?<![<?P])<(?=[\w.][^<>]{0,80}>)")
_WHOLE = re.compile(r"\{\{.{0,60}?\}\}|\{%.{0,60}?%\}|\$\{.{0,60}?\}|\$\(.{0,60}?\)|\$\w{1,60}|<[^<>]{0,80}>")
_COMMENT = re.compile(r"(?:^|\s)#")
_SHOWN = 20


def found_in(value: str) -> bool:
    """Return whether a value has a placeholder."""
    return _BEGIN.search(value) is not None


def lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield number and placeholder of each line of a file that has one, without comments; at most MAX_LINES."""
    left = MAX_LINES
    for number, line in enumerate(text.split("\n"), 1):
        begin = _BEGIN.search(line)
        comment = _COMMENT.search(line) if begin else None
        if begin is None or (comment and comment.start() < begin.start()):
            continue
        whole = _WHOLE.match(line, begin.start())
        yield number, whole[0] if whole else line[begin.start() :][:_SHOWN]
        left -= 1
        if not left:
            return
