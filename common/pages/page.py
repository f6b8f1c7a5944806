"""Self-contained HTML pages from Jinja templates (ADR 0017): no request to any host, no script but the one in this folder.

Texts of catalogs are hostile: all are escaped. The content security policy names style and script by digest, so an injected
script would not run. This is the only module that imports Jinja.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
from datetime import datetime
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from common.files import size_text
from common.log import SECRETS
from common.text import counted, is_visible

_HERE = Path(__file__).parent
_PIECES = 1000  # texts of a template that are encoded at once
_PRINTED = 140  # characters of the foot of a printed page; a digest has 71
_MONTHS = (  # not by strftime, whose names are those of the locale
    *("January", "February", "March", "April", "May", "June", "July"),
    *("August", "September", "October", "November", "December"),
)


def render(directory: Path, name: str, *, printed: str, **context: Any) -> bytes:
    """Return the page made from a template in `directory`, UTF-8; the same context gives the same bytes.

    `printed`: the text at the foot of each printed page, before its number.
    """
    pieces = _environment(directory).get_template(name).generate(context | _resources(_paper(printed)))
    page = io.BytesIO()
    # Some at a time: a row of a table is made of dozens of texts, which take several times its bytes.
    while some := list(islice(pieces, _PIECES)):
        page.write("".join(some).encode())
    return page.getvalue()


def _paper(printed: str) -> str:
    """Return the style that prints a text and the page number on each page, so that no page can be taken for another's."""
    # CSS Paged Media Level 3, margin boxes: Chromium has them since 131. Firefox and Safari print the title instead.
    # Letters and digits alone are written as they are: the text could otherwise end the string, or the style element.
    text = "".join(sign if sign.isascii() and sign.isalnum() else f"\\{ord(sign):X} " for sign in _shown(printed)[:_PRINTED])
    font = "font: 6.5pt ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace; color: #1a1d21"
    return (
        "@media print { @page {\n"
        f'@bottom-left {{ content: "{text}"; white-space: nowrap; {font} }}\n'
        f'@bottom-right {{ content: "page " counter(page) " of " counter(pages); white-space: nowrap; {font} }}\n'
        "} }"
    )


def moment(text: str) -> str:
    """Return a time of RFC 3339 in UTC for people; another text as it is."""
    try:
        found = datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ")  # noqa: DTZ007 - the Z is part of the pattern
    except ValueError:
        return text
    return f"{found.day} {_MONTHS[found.month - 1]} {found.year}, {found:%H:%M:%S} UTC"


def short_moment(text: str) -> str:
    """Return a time like `moment`, as short as in RFC 3339: the foot of a page has a digest and a name on the same line."""
    shown = moment(text)
    return shown if shown == text else f"{text[8:10]} {_MONTHS[int(text[5:7]) - 1][:3]} {text[:4]} {text[11:16]} UTC"


def _shown(value: Any) -> Any:
    """Return a value of a template without invisible characters, except line breaks and tabs."""
    if isinstance(value, Markup):
        return value
    # Objects have untrusted names in their texts, too: the context of a kubeconfig, for example.
    value = value if isinstance(value, str) else str(value)
    if value.isprintable():
        return value
    # Among them characters that reverse the direction of text, and lone surrogates, which UTF-8 cannot encode.
    return "".join(sign for sign in value if sign in "\n\t" or is_visible(sign))


def _breakable(text: str) -> Markup:
    """Return a name with places for line breaks; between any two letters it would be hard to read."""
    parts = (escape(_shown(part)) for part in re.split(r"(?<=[./:@-])", text))
    return Markup("<wbr>").join(parts)


@cache
def _environment(directory: Path) -> Environment:
    made = Environment(
        loader=FileSystemLoader([directory, _HERE]),
        autoescape=True,
        finalize=_shown,
        undefined=StrictUndefined,  # a misspelt name is an error, not an empty text
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters["size"] = size_text
    made.filters["masked"] = SECRETS.mask  # for what servers said: some repeat the credentials that they were sent
    made.filters["moment"] = moment
    made.filters["breakable"] = _breakable
    made.globals["counted"] = counted
    return made


def _resources(paper: str) -> dict[str, Any]:
    """Return styles and script, and the policy that allows these alone."""
    style, script = _files()
    styles = f"{_source(style)} {_source(paper)}"
    return {
        "style": Markup(style),  # noqa: S704 - our own files, which no input reaches
        "paper": Markup(paper),  # noqa: S704 - its text is escaped
        "script": Markup(script),  # noqa: S704
        "policy": f"default-src 'none'; img-src data:; style-src {styles}; script-src {_source(script)}",
    }


@cache
def _files() -> tuple[str, str]:
    style, script = ((_HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    return style, script


def _source(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
