"""`.indexignore` reads as gitignore does."""

from __future__ import annotations

import pytest

from common.errors import CatalogError
from exporter.catalog.readers.file_based import MAX_PATTERN, MAX_RULES, IgnoreRules

FILES = [
    "a.md",
    "a.json",
    "x/a.md",
    "x/a.json",
    "x/y/a.json",
    "x/y/b.json",
    "build/a.json",
    "x/build/a.json",
    "#a",
    "!a",
    "a b",
    "[a]",
]

TABLE = [
    ("*.md", ["a.md", "x/a.md"]),
    ("/*.md", ["a.md"]),
    ("x/*.json", ["x/a.json"]),
    ("x/**", ["x/a.md", "x/a.json", "x/y/a.json", "x/y/b.json", "x/build/a.json"]),
    ("x/**/a.json", ["x/a.json", "x/y/a.json", "x/build/a.json"]),
    ("**/y", ["x/y/a.json", "x/y/b.json"]),
    ("build/", ["build/a.json", "x/build/a.json"]),
    ("/build", ["build/a.json"]),
    ("a.json/", []),
    ("x\n!x/a.json", ["x/a.md", "x/a.json", "x/y/a.json", "x/y/b.json", "x/build/a.json"]),
    ("*.json\n!b.json", ["a.json", "x/a.json", "x/y/a.json", "build/a.json", "x/build/a.json"]),
    ("# words\n\n\\#a", ["#a"]),
    ("\\!a", ["!a"]),
    ("a b  ", ["a b"]),
    ("\\[a\\]", ["[a]"]),
    ("[ab].json", ["a.json", "x/a.json", "x/y/a.json", "x/y/b.json", "build/a.json", "x/build/a.json"]),
    ("[^a].json", ["x/y/b.json"]),
    ("?.md", ["a.md", "x/a.md"]),
    ("**", FILES),
    ("**/**/a.md", ["a.md", "x/a.md"]),
    ("x/**/**/b.json", ["x/y/b.json"]),
    ("x/**/**", [path for path in FILES if path.startswith("x/")]),
    ("nothing/at/all", []),
]


@pytest.mark.parametrize(("rules", "ignored"), TABLE)
def test_patterns(rules: str, ignored: list[str]) -> None:
    matcher = IgnoreRules({".indexignore": rules.encode()})
    assert [path for path in FILES if matcher.ignores(path)] == ignored


def test_rules_of_a_directory_hold_below_it_and_have_the_last_word() -> None:
    matcher = IgnoreRules({".indexignore": b"*.md\n", "x/.indexignore": b"!a.md\n/a.json\n"})
    assert [path for path in FILES if matcher.ignores(path)] == ["a.md", "x/a.json"]


def test_no_rules_ignore_nothing() -> None:
    assert not any(IgnoreRules({}).ignores(path) for path in FILES)


def test_limits() -> None:
    IgnoreRules({".indexignore": b"a" * MAX_PATTERN + b"\n" + b"x\n" * (MAX_RULES - 1)})
    with pytest.raises(CatalogError, match=r"\.indexignore:2: a pattern of 1025"):
        IgnoreRules({".indexignore": b"x\n" + b"a" * (MAX_PATTERN + 1)})
    with pytest.raises(CatalogError, match="more than 10000 lines"):
        IgnoreRules({".indexignore": b"x\n" * (MAX_RULES + 1)})


def test_no_pattern_takes_for_ever() -> None:
    matcher = IgnoreRules({".indexignore": b"*a" * 500 + b"b\n" + b"**/" * 300 + b"*a*a*a*a*a*ab\n"})
    assert not matcher.ignores("/".join(["a" * 200] * 50))
