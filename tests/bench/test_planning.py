"""The planning figures of the how-to are those of the benchmarks, and keep to what lines and disks allow."""

from __future__ import annotations

import dataclasses

import pytest

from tests.bench import planning, terabytes, whole_index
from tests.bench.__main__ import DOCUMENT, HOW_TO
from tests.bench.terabytes import GB, GIGABIT
from tests.bench.whole_index import Line

TEXT = DOCUMENT.read_text()
LINE = Line("`plan`", "1/16", 1000, 4000, 40.0, 12.0, 100.0, 9000, "2026-11-30")


def test_the_how_to_shows_what_is_calculated():
    shown = HOW_TO.read_text().partition("<!-- bench: planning -->\n")[2].partition("\n<!-- /bench -->")[0]
    assert shown == planning.section(TEXT), "python -m tests.bench terabytes"


@pytest.mark.parametrize("line", planning.LINES)
def test_a_line_is_never_faster_than_its_name(line):
    took = terabytes.create(planning.site(line), 1000 * GB, terabytes.measured(TEXT)).seconds
    assert took >= 1000 * GB / (line * GIGABIT) * 0.999


def test_a_line_of_the_table_is_read_as_it_was_written():
    """Sizes that are measured one by one share a table: the lines of the others are read from it."""
    assert whole_index.parsed(whole_index.table([LINE])) == [LINE]


def test_each_step_has_its_sizes_below_each_other():
    whole, quarter = (dataclasses.replace(LINE, size=size, step="`push`") for size in ("all", "1/4"))
    found = whole_index.parsed(whole_index.table([whole, LINE, quarter]))
    assert found == [LINE, quarter, whole]


def test_growth_is_shown_as_soon_as_two_sizes_were_measured():
    small = [dataclasses.replace(LINE, step=step) for step in ("`plan`", "`create`", "`push`")]
    large = [dataclasses.replace(one, size="all", images=16_000, blobs=64_000, cpu=240.0, peak=200.0) for one in small]
    assert not [row for row in whole_index.rows(small) if "further" in row.what]
    figures = {row.what: row.figure for row in whole_index.rows(small + large)}
    assert figures["`create`, CPU for an image"] == pytest.approx(240 / 16_000 / (12 / 1000))
    assert figures["`create`, memory for each further blob"] == pytest.approx(100 * 1024 / 60_000)
    assert figures["`plan`, memory for each further image"] == pytest.approx(100 * 1024 / 15_000)
