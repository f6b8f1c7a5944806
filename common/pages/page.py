"""Self-contained HTML pages from Jinja templates (ADR 0017): no request to any host, no script but the one in this folder.

Texts of catalogs are hostile: all are escaped. The content security policy names style and script by digest, so an injected
script would not run. This is the only module that imports Jinja.
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
from common.log import SECRETS
from common.text import counted, is_visible

_HERE = Path(__file__).parent


def render(directory: Path, name: str, **context: Any) -> bytes:
    """Return the page made from a template in `directory`, UTF-8; the same context gives the same bytes."""
    text = _environment(directory).get_template(name).render(context | _resources())
    return text.encode()


def _shown(value: Any) -> Any:
    """Return a value of a template without invisible characters, except line breaks and tabs."""
    if isinstance(value, Markup):
        return value
    # Objects have names of strangers in their texts, too: the context of a kubeconfig, for example.
    value = value if isinstance(value, str) else str(value)
    if value.isprintable():
        return value
    # Among them characters that reverse the direction of text, and lone surrogates, which UTF-8 cannot encode.
    return "".join(sign for sign in value if sign in "\n\t" or is_visible(sign))


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
    made.globals["counted"] = counted
    return made


@cache
def _resources() -> dict[str, Any]:
    """Return style and script, and the policy that allows these alone."""
    style, script = ((_HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    return {
        "style": Markup(style),  # noqa: S704 - our own files, which no input reaches
        "script": Markup(script),  # noqa: S704
        "policy": f"default-src 'none'; img-src data:; style-src {_source(style)}; script-src {_source(script)}",
    }


def _source(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
