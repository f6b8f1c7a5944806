"""Shortened lists and enumerations: exactly the limit is shown in full, one more is counted."""

from __future__ import annotations

import pytest

from common.text import enumeration, numbered, shortened


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


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        ([f"volume-{n:04}.tar" for n in range(1, 17)], "volume-0001.tar to volume-0016.tar (16)"),
        (["volume-0001.tar", "volume-0002.tar"], "volume-0001.tar, volume-0002.tar"),
        (
            [f"v-{n}.tar" for n in (1, *range(3, 9), 12, 13)],
            "v-1.tar, v-3.tar to v-8.tar (6), v-12.tar, v-13.tar",
        ),
        (["a", "b", "c", "d", "e", "f"], "a, b, c, d, e, f"),
        ([], ""),
    ],
)
def test_a_run_of_numbered_names_is_shown_by_its_ends(names, shown):
    assert numbered(names) == shown
