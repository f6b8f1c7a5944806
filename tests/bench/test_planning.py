"""The planning figures of the how-to are those of the benchmarks, and keep to what lines and disks allow."""

from __future__ import annotations

import dataclasses

import pytest

from exporter.archive.archive_spec import ArchiveSpec
from exporter.settings import ArchiveTerms
from tests.bench import planning, terabytes, whole_index
from tests.bench.__main__ import DOCUMENT, HOW_TO
from tests.bench.many_blobs import Source, plan_of
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


def test_all_requests_wait_for_the_source():
    """A source that answers 5 requests a second answers 18,000 of them in an hour."""
    rows = [line.split(" | ") for line in planning.section(TEXT).splitlines()]
    at = next(n for n, row in enumerate(rows) if row[0].startswith("| by requests"))
    asked = rows[at + 3]
    assert (rows[at][2], asked[0]) == ("5 a second", "| `plan` of 25,000 images")
    assert float(asked[2].removesuffix(" h")) == pytest.approx(int(asked[1].replace(",", "")) / 18_000, rel=0.06)


def test_an_archive_of_many_small_images_has_rows_of_its_own():
    """80 GB may be 270 images or 25,000: requests, memory and the CPU of a plan are those of images."""
    tables = planning.section(TEXT).split("\n\n")
    by_bytes = [table for table in tables if "| 80 GB |" in table]
    assert all(word not in table for table in by_bytes for word in ("requests", "images", "memory"))
    (by_images,) = (table for table in tables if table.startswith("| images, blobs"))
    assert "| 25,000, " in by_images


def test_no_step_of_the_whole_index_took_more_memory_than_the_planning_says():
    each, lines = planning.costs(TEXT), whole_index.parsed(TEXT)
    assert [line for line in lines if line.peak > 1.01 * planning.memory(line.blobs, each)] == []


def test_the_room_for_lists_in_a_volume_is_that_of_an_archive():
    plan = plan_of(300, Source())
    layout = ArchiveSpec(plan, ArchiveTerms("2026-11-30T00:00:00Z", {})).layout
    assert planning.room(300) == pytest.approx(layout.reserve, rel=0.02)


def test_one_reading_takes_no_longer_than_the_disk_and_one_core_for_a_hash():
    rows = planning.section(TEXT).splitlines()
    at = next(n for n, row in enumerate(rows) if row.startswith("| one reading"))
    took = [terabytes.duration(1000 * GB / min(disk, GB / terabytes.measured(TEXT).hash_s)) for disk in planning.DISKS.values()]
    assert rows[at + 3] == f"| 1 TB | {' | '.join(took)} |"
