"""Descriptions of operators: Markdown of strangers as a few harmless tags."""

from __future__ import annotations

import re
import time

import pytest

from exporter.catalog.presentation import MAX_SUMMARY
from exporter.report.markdown import MAX_SHOWN, plain, rendered

HARMLESS = re.compile(
    r"</?(p|ul|ol|li|em|strong|code|a)>|<a href=\"(https?|mailto):[^\"<>]*\" title=\"[^\"<>]*\" rel=\"noopener noreferrer nofollow\">"
)
HOSTILE = [
    "<script>alert(1)</script>",
    '<img src=x onerror="alert(1)">',
    "[x](javascript:alert(1)) [y](JAVASCRIPT:alert(1)) [z](java&#115;cript:alert(1)) [d](data:text/html,x)",
    "[x](vbscript:x) <javascript:alert(1)> [f](file:///etc/passwd) [r](//evil.example) [h](#operators)",
    '[x](https://a.example/"onclick="alert(1)) ![<b>](https://a.example/x.png)',
    "`<script>` \n\n    <script>\n\n```html\n<script>\n```",
    "[x]: javascript:alert(1)\n\n[x]",
    "&lt;script&gt; &#x202e;reversed \u202e &#0;",
    "<!-- --><style>*{display:none}</style>",
    "[a](https://[::1) **unclosed _x [b](http://ok",
]


@pytest.mark.parametrize(
    ("source", "html"),
    [
        ("Deploys *a* **database**.", "<p>Deploys <em>a</em> <strong>database</strong>.</p>"),
        ("## What it does", "<p>What it does</p>"),
        ("* one\n* `two`", "<ul><li>one </li><li><code>two</code> </li></ul>"),
        ("1. one", "<ol><li>one </li></ol>"),
        ("a & b < c", "<p>a &amp; b &lt; c</p>"),
        ("![logo](https://a.example/x.png)", "<p>logo</p>"),
        ("", ""),
        ("\u200b\n", ""),
    ],
)
def test_what_is_written(source: str, html: str) -> None:
    assert re.sub(r"\n", "", str(rendered(source))) == html


def test_links_keep_their_addresses() -> None:
    assert 'href="https://cert-manager.io/docs?a=1&amp;b=2"' in rendered("[cert-manager](https://cert-manager.io/docs?a=1&b=2)")


@pytest.mark.parametrize("source", HOSTILE)
def test_nothing_else_comes_through(source: str) -> None:
    found = str(rendered(source))
    rest = HARMLESS.sub("", found)
    assert "<" not in rest
    assert ">" not in rest
    assert "\u202e" not in found
    assert "\0" not in found


def test_it_is_cut_between_tags_not_within() -> None:
    """A link that crosses the limit is whole: `[cert-manager v1.20.3](https://…` was shown as source."""
    found = str(rendered("x" * (MAX_SHOWN - 5) + " **[long text of a link](https://a.example/path)** and more"))
    assert found.endswith("…</a></strong></p>")
    assert found.count("<a ") == 1
    assert len(re.sub("<[^>]*>", "", found)) <= MAX_SHOWN + 1


@pytest.mark.parametrize("sign", ["[", "![", "*a ", "_*", "> ", "- ", "<", "`", "&#", "[a](", "\\"])
def test_time_is_bounded(sign: str) -> None:
    began = time.process_time()
    rendered(sign * 100_000)
    assert time.process_time() - began < 1, "quadratic in MAX_SUMMARY at most"
    assert len(sign * 100_000) > MAX_SUMMARY
    began = time.process_time()
    plain(sign * 100_000, MAX_SHOWN)
    assert time.process_time() - began < 1


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("Deploys *a* **database**,\n_fast_.", "Deploys a database, fast."),
        ("# Title #\n\ntext\n***\n> quoted", "Title text quoted"),
        ("1. `one`\n2. two", "- one - two"),
        ("```sh\noc get\n```", "oc get"),
        ("[docs](https://a.example/x?a=1&b=2)", "docs (https://a.example/x?a=1&b=2)"),
        ("[docs][1]\n\n[1]: https://a.example/x", "docs (https://a.example/x)"),
        ("<https://a.example> [b.example](https://b.example/) <c@d.example>", "https://a.example b.example c@d.example"),
        ("[https://a.example](https://b.example)", "https://a.example (https://b.example)"),
        ("[![build](https://a.example/x.png)](https://a.example)", "build (https://a.example)"),
        ("[x](javascript:alert(1)) [y](//a.example)", "[x](javascript:alert(1)) y"),
        ("<p align='center'>a &amp; b</p>\n\none<br/>two <b>three</b>", "a & b one two three"),
        ("<!-- hidden -->\n\na < b > c 1<2", "a < b > c 1<2"),
        ("&#x202e;\u202ered\x1b[31m", "red[31m"),
        ("\u200b\n", ""),
        ("x" * 99, "x" * 19 + "…"),
    ],
)
def test_text_of_a_terminal(source: str, text: str) -> None:
    assert plain(source, 20 if "xx" in source else MAX_SHOWN) == text


@pytest.mark.parametrize("source", HOSTILE)
def test_text_of_a_terminal_is_visible(source: str) -> None:
    found = plain(source, MAX_SHOWN)
    assert found.isprintable()
    assert len(found) <= MAX_SHOWN
