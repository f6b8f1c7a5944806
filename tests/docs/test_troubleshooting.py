"""The messages of docs/troubleshooting.md are those of the programs, and every problem code is on the page."""

from __future__ import annotations

import re
from functools import cache

from tests.docs.reading import ROOT

PAGE = ROOT / "docs/troubleshooting.md"
_CLUSTER = {"x509: certificate signed by unknown authority", "manifest unknown"}  # texts of nodes
# What the programs put together of two texts.
_COMPOSED = {
    "… has no package …": ('f"… has no … …"',),
    "… has no channel …": ('f"… has no … …"',),
    "the archive is NOT whole": ("the archive is …", "NOT whole"),
    ": no command of …": (": no … of …",),
    "… permissions are missing": ('f"… missing"',),
}
# A string literal that goes on in the next line; a replacement field, without quotes of its own.
_NEXT_LITERAL = re.compile(r"\"\n\s*f?\"")
_FIELD = re.compile(r"\{[^{}\n]*\}")


@cache
def source():
    """Return the text of the programs with joined literals; `…` in place of each replacement field."""
    texts = [path.read_text() for package in ("common", "exporter", "importer") for path in (ROOT / package).rglob("*.py")]
    return _FIELD.sub("…", _NEXT_LITERAL.sub("", "\n".join(texts)))


def messages():
    """Give the code spans in the first cells of the tables: what a terminal shows."""
    for row in re.findall(r"^\| (.*?) \| .* \|$", PAGE.read_text(), re.MULTILINE):
        yield from re.findall(r"`([^`]+)`", row)


def exists(message):
    """Say whether one line of the source has the fixed parts of a message, in their order."""
    parts = [part.strip(" ()") for part in message.split("…")]
    pattern = r"[^\n]*?".join(re.escape(part) for part in parts if part)
    return re.search(pattern, source()) is not None


def test_each_quoted_message_is_one_of_the_programs():
    found = list(messages())
    assert len(found) > 100
    assert [each for each in found if each not in _CLUSTER and not all(map(exists, _COMPOSED.get(each, (each,))))] == []


def test_each_message_is_there_once():
    found = list(messages())
    assert sorted({each for each in found if found.count(each) > 1}) == []


def test_a_message_that_no_program_prints_is_found():
    assert not exists("… needs the moon in …")
    assert exists("… needs … in …, and … are free")


def test_every_problem_code_is_covered():
    page = PAGE.read_text()
    codes = re.findall(r"^\| `([a-z-]+)`", (ROOT / "docs/reference/problems.md").read_text(), re.MULTILINE)
    assert len(codes) > 30
    assert [code for code in codes if f"`{code}`" not in page] == []
