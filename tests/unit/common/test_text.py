"""Shortened lists and enumerations: exactly the limit is shown in full, one more is counted."""

from __future__ import annotations

import pytest

from common.text import enumeration, shortened


@pytest.mark.parametrize(
    ("texts", "lines", "line"),
    [
        ([], [], ""),
        (["a"], ["a"], "a"),
        (["a", "b"], ["a", "b"], "a, b"),
        (["a", "b", "c"], ["a", "b", "and 1 more"], "a, b and 1 more"),
        (["a", "b", "c", "d"], ["a", "b", "and 2 more"], "a, b and 2 more"),
    ],
)
def test_texts_past_the_limit_are_counted(texts, lines, line):
    assert shortened(texts, 2) == lines
    assert enumeration(texts, 2) == line


def test_the_last_line_may_continue():
    assert shortened(["a", "b"], 1, " images (--format json lists all)") == ["a", "and 1 more images (--format json lists all)"]
