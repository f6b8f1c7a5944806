"""Pages are self-contained, escape all texts, and allow only their own style and script."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

import jinja2
import pytest

from common.pages.page import render
from common.text import sanitize


def page(directory: Path, body: str, **context: object) -> str:
    (directory / "a.html.jinja").write_text('{% extends "base.html.jinja" %}{% block page %}' + body + "{% endblock %}")
    return render(directory, "a.html.jinja", printed="archive", **context).decode()


def test_texts_are_escaped(tmp_path: Path) -> None:
    made = page(tmp_path, '<p title="{{ text }}">{{ text }}</p>', text='"><script>x</script>')
    assert made.count("<script>") == 1, "our own"
    assert "&#34;&gt;&lt;script&gt;x&lt;/script&gt;" in made


def test_an_undefined_name_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(jinja2.UndefinedError):
        page(tmp_path, "{{ missing }}")


def test_the_policy_names_style_and_script_by_digest(tmp_path: Path) -> None:
    made = page(tmp_path, "")
    for kind in ("style", "script"):
        content = re.search(f"<{kind}>(.*?)</{kind}>", made, re.DOTALL)
        assert content is not None
        digest = base64.b64encode(hashlib.sha256(content[1].encode()).digest()).decode()
        assert f"{kind}-src &#39;sha256-{digest}&#39;" in made
    assert "default-src &#39;none&#39;" in made
    assert not re.search(r"https?://", made), "nothing outside is named"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("two\n lines\tand  blanks", "two lines and blanks"),
        ("turned \u202eround\u200b", "turned round"),
        ("bell \x07 and null \x00", "bell and null"),
        ("0123456789abc", "012345678…"),
        (None, ""),
        (7, ""),
        ("", ""),
    ],
)
def test_foreign_texts_are_sanitized(text: object, shown: str) -> None:
    assert sanitize(text, 10 if isinstance(text, str) and text.startswith("0") else 100) == shown


def test_invisible_characters_are_removed(tmp_path: Path) -> None:
    text = "turned \u202eround\udcff\x1b, on\n\ttwo lines"
    made = page(tmp_path, "<pre>{{ text }}</pre>{% macro bold(it) %}<b>{{ it }}</b>{% endmacro %}{{ bold(text) }}", text=text)
    assert "<pre>turned round, on\n\ttwo lines</pre><b>turned round, on\n\ttwo lines</b>" in made
