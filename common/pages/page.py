"""Pages for people: one HTML file each, from Jinja templates, that fetches nothing and runs nothing but our own script.

What comes from catalogs is hostile: everything is escaped, and the content security policy in the page names the one style
and the one script by their digest, so that whatever slipped through would still not run. Nothing else knows Jinja (ADR 0017).
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from common.files import size_text
from common.text import counted, is_visible

_HERE = Path(__file__).parent


def render(directory: Path, name: str, **context: Any) -> bytes:
    """Return the page that a template of `directory` makes of `context`, UTF-8. Same context, same bytes."""
    text = _environment(directory).get_template(name).render(context | _resources())
    return text.encode()


def _shown(value: Any) -> Any:
    """Return what a template writes without the signs that nobody sees; lines stay. Lone surrogates would not even be UTF-8."""
    if not isinstance(value, str) or isinstance(value, Markup) or value.isprintable():
        return value
    return "".join(sign for sign in value if sign in "\n\t" or is_visible(sign))


@cache
def _environment(directory: Path) -> Environment:
    made = Environment(
        loader=FileSystemLoader([directory, _HERE]),
        autoescape=True,
        finalize=_shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters["size"] = size_text
    made.globals["counted"] = counted
    return made


@cache
def _resources() -> dict[str, Any]:
    """Return style and script, and the policy that allows just these."""
    style, script = ((_HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    return {
        "style": Markup(style),  # noqa: S704 - our own files, which no input reaches
        "script": Markup(script),  # noqa: S704
        "policy": f"default-src 'none'; img-src data:; style-src {_source(style)}; script-src {_source(script)}",
    }


def _source(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
