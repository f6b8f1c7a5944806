"""Markdown of operators as HTML of a page, and as text of a terminal. Descriptions are hostile input.

The HTML has paragraphs, lists, emphasis, code and links alone.
Source: CommonMark 0.31. HTML in it is text (rule `html` is off), images are their alternative texts, and a link leads to
http, https or mailto. Each text and each address is escaped here, once.
"""

from __future__ import annotations

import html
import re
from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from markupsafe import Markup, escape

from common.text import is_visible, sanitize
from exporter.catalog.presentation import MAX_SUMMARY

if TYPE_CHECKING:
    from collections.abc import Iterable

    from markdown_it import MarkdownIt
    from markdown_it.token import Token


MAX_SHOWN = 320  # visible characters: three lines of a card
_MAX_NESTING = 8
_TAGS = {"p": "p", "ul": "ul", "ol": "ol", "li": "li", "em": "em", "strong": "strong", "s": "s"}
_SCHEMES = frozenset(("http", "https", "mailto"))
_TAG = re.compile(r"<[!/?]?[A-Za-z-][^<>]*>")


def rendered(source: str) -> Markup:
    """Return the beginning of a text as HTML, closed properly; empty for a text without visible characters."""
    page = _Page(MAX_SHOWN)
    page.add(_parser().parse(source[:MAX_SUMMARY]))
    return page.html


def plain(source: str, limit: int) -> str:
    """Return the beginning of a text as one line without marks and tags, of at most `limit` visible characters."""
    written: list[str] = []
    _write(_parser_of_text().parse(source[:MAX_SUMMARY]), written)
    return sanitize("".join(written), limit)


def _write(tokens: Iterable[Token], written: list[str]) -> None:
    begun, address = 0, ""
    for token in tokens:
        match token.type:
            case "inline":
                _write(token.children or (), written)
            case "link_open":
                begun, address = len(written), str(token.attrGet("href") or "")
            case "link_close":
                written.append(_in_parentheses(address, "".join(written[begun:])))
            case "list_item_open":
                written.append("- ")
            case "html_inline" | "html_block":
                written.append(html.unescape(_TAG.sub(" ", token.content)))
            case _:  # the end of a block and of a line is a blank; an image has its alternative text as content
                is_end = token.block or token.type in {"softbreak", "hardbreak"}
                written.append(f"{token.content} " if is_end else token.content)


def _in_parentheses(address: str, text: str) -> str:
    """Return the address of a link behind its text; empty where the text is the address."""
    said = {address, address.removeprefix("https://"), address.removeprefix("mailto:")}
    return "" if text.strip().rstrip("/") in {each.rstrip("/") for each in said} or not _is_safe(address) else f" ({address})"


@cache
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt  # noqa: PLC0415 - takes 0.1 s of CPU, which only a page should cost

    made = MarkdownIt("commonmark", {"html": False, "maxNesting": _MAX_NESTING})
    return made.disable(["hr", "reference", "blockquote"])


@cache
def _parser_of_text() -> MarkdownIt:
    from markdown_it import MarkdownIt  # noqa: PLC0415 - as above

    return MarkdownIt("commonmark", {"html": True, "maxNesting": _MAX_NESTING})  # tags have to be known, to be left out


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
    if not _is_safe(address):
        return "<a>"
    # The address as a tooltip: a text can be the address of another host.
    return f'<a href="{escape(address)}" title="{escape(address)}" rel="noopener noreferrer nofollow">'


def _is_safe(address: str) -> bool:
    try:
        scheme = urlsplit(address).scheme
    except ValueError:  # an invalid IPv6 address
        return False
    return scheme in _SCHEMES and all(map(is_visible, address))
