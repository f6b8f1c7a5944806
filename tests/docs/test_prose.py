"""Pages for people can be read at the first try by somebody whose second language is English."""

from __future__ import annotations

import re

import pytest

from tests.docs.reading import ROOT

PAGES = [
    *(ROOT / "docs/how-to").glob("*.md"),
    *(
        ROOT / name
        for name in ("README.md", "docs/README.md", "docs/package.md", "docs/troubleshooting.md", "docs/glossary.md")
    ),
    ROOT / "docs/comparison.md",
]
LONGEST = 30  # words of a sentence, a code span and a link counting as one
# Idioms, and words in a sense that a dictionary gives late.
IDIOMS = re.compile(
    r"\b(whoever|nobody|whatever|lies|shall|mends?|goes on|of its own accord|by hand it|anew|hurry|dearest|at hand|for good|"
    r"none the less|malice|tells of|way around|in silence|falls over|does the rest|by eye)\b",
    re.IGNORECASE,
)


def sentences(text):
    """Give the sentences of a page: of paragraphs, list items and cells of tables."""
    text = re.sub(r"^```.*?^```$|<!--.*?-->|<picture>.*?</picture>", "\n\n", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"`[^`\n]*`", "CODE", text)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", "LINK", text)
    for part in re.split(r"\n\s*\n|\n\s*(?:[*-]|\d+\.) |\n#+ |\||\n\|", text):
        yield from (one.strip() for one in re.split(r"(?<=[.!?:])\s+(?=[A-Z*(])|; ", " ".join(part.split())) if one.strip())


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_sentences_are_short_and_plain(path):
    found = list(sentences(path.read_text()))
    assert [one for one in found if len(re.findall(r"[\w'.-]*\w", one)) > LONGEST] == []
    assert [one for one in found if IDIOMS.search(one)] == []
