"""Markdown of operators as HTML: paragraphs, lists, emphasis, code and links alone. Descriptions are hostile input.

Source: CommonMark 0.31. HTML in it is text (rule `html` is off), images are their alternative texts, and a link leads to
http, https or mailto. Each text and each address is escaped here, once.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from markupsafe import Markup, escape

from common.text import is_visible
from exporter.catalog.presentation import MAX_SUMMARY

if TYPE_CHECKING:
    from collections.abc import Iterable

    from markdown_it import MarkdownIt
    from markdown_it.token import Token


MAX_SHOWN = 320  # visible characters: three lines of a card
_MAX_NESTING = 8
_TAGS = {"p": "p", "ul": "ul", "ol": "ol", "li": "li", "em": "em", "strong": "strong", "s": "s"}
_SCHEMES = frozenset(("http", "https", "mailto"))


def rendered(source: str) -> Markup:
    """Return the beginning of a text as HTML, closed properly; empty for a text without visible characters."""
    page = _Page(MAX_SHOWN)
    page.add(_parser().parse(source[:MAX_SUMMARY]))
    return page.html


@cache
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt  # noqa: PLC0415 - takes 0.1 s of CPU, which only a page should cost

    made = MarkdownIt("commonmark", {"html": False, "maxNesting": _MAX_NESTING})
    return made.disable(["hr", "reference", "blockquote"])


class _Page:
    """HTML of tokens up to a number of visible characters. Only tags that this class knows are ever written."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._written: list[str] = []
        self._open: list[str] = []

    @property
    def html(self) -> Markup:
        """The written HTML, with an end for each open tag; empty without text."""
        if self._room == MAX_SHOWN:
            return Markup("")
        ends = "".join(f"</{tag}>" for tag in reversed(self._open))
        return Markup("".join(self._written) + ends)  # noqa: S704 - texts were escaped, and tags are those of `_TAGS`

    def add(self, tokens: Iterable[Token]) -> None:
        for token in tokens:
            if self._room <= 0:
                return
            if token.type == "inline":
                self.add(token.children or ())
            elif token.nesting:
                self._tag(token)
            else:
                self._leaf(token)

    def _tag(self, token: Token) -> None:
        if token.hidden:  # paragraphs of a tight list
            if token.nesting < 0:
                self._written.append(" ")
            return
        if token.tag == "a":
            tag, opened = "a", _link(str(token.attrGet("href") or ""))
        elif token.tag == "ol":
            # A list that a block of code interrupts continues with its number.
            first = token.attrGet("start")
            tag, opened = "ol", f'<ol start="{first}">' if isinstance(first, int) else "<ol>"
        else:
            # A heading of a description is no heading of this page.
            tag = "p" if token.type.startswith("heading") else _TAGS.get(token.tag, "")
            opened = f"<{tag}>"
        if not tag:
            return
        if token.nesting > 0:
            self._open.append(tag)
            self._written.append(opened)
        elif self._open and self._open[-1] == tag:
            self._written.append(f"</{self._open.pop()}>")

    def _leaf(self, token: Token) -> None:
        if token.type in {"softbreak", "hardbreak"}:
            self._written.append(" ")
        elif token.type in {"code_inline", "code_block", "fence"}:
            self._written.append("<code>")
            self._text(token.content)
            self._written.append("</code>")
        else:  # an image has its alternative text as content
            self._text(token.content)

    def _text(self, text: str) -> None:
        # Entities are decoded by now, among them those of characters that turn text around.
        seen = "".join(" " if sign.isspace() else sign for sign in text if sign.isspace() or is_visible(sign))
        cut = seen if len(seen) <= self._room else f"{seen[: self._room].rstrip()}…"
        if cut.strip():
            self._room -= len(seen)
        self._written.append(str(escape(cut)))


def _link(address: str) -> str:
    """Return the tag of a link; one without an address where that is not for a browser of people."""
    try:
        parts = urlsplit(address)
    except ValueError:  # an invalid IPv6 address
        return "<a>"
    if parts.scheme not in _SCHEMES or not all(map(is_visible, address)):
        return "<a>"
    # The address as a tooltip: a text can be the address of another host.
    return f'<a href="{escape(address)}" title="{escape(address)}" rel="noopener noreferrer nofollow">'
