"""All benchmarks: `python -m tests.bench`. What they find goes into docs/benchmarks.md, where its sections are marked."""

from __future__ import annotations

import argparse
import datetime as dt
import re
import tempfile
from contextlib import ExitStack
from pathlib import Path

from tests.bench import catalogs, goods, limits, moving, releases, scaling, start_up, terabytes
from tests.bench.goods import Shape
from tests.bench.rows import Row, table

DOCUMENT = Path(__file__).parents[2] / "docs" / "benchmarks.md"
_LARGE = 10.0  # GB from which a run is the large one: without peers, once


def main() -> None:
    """Measure, print the tables, and write them down."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument(
        "--gigabytes", type=float, default=4.0, help="unique bytes of the data set (4); three times that on disk"
    )
    parser.add_argument("--images", type=int, default=300, help="images of the data set (300)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured; the median counts (3)")
    parser.add_argument(
        "--only",
        choices=("limits", "catalogs", "releases", "start-up", "moving", "scaling", "terabytes"),
        help="one part alone",
    )
    parser.add_argument("--no-write", action="store_true", help="leave docs/benchmarks.md as it is")
    given = parser.parse_args()
    parts = {"limits": _limits, "catalogs": _catalogs, "releases": _releases, "moving": lambda: _moving(given)}
    parts["scaling"] = _scaling
    parts["start-up"] = lambda: _dated(start_up.rows())
    parts["terabytes"] = lambda: terabytes.section(DOCUMENT.read_text())
    keep = given.no_write or not goods.is_real()
    if not goods.is_real():
        print(f"{goods.LARGEST.name} is not beside this repository: a small catalog instead, and nothing is written down")
    for name in parts if given.only is None else (given.only,):
        found = parts[name]()
        section = "large" if name == "moving" and given.gigabytes >= _LARGE else name
        print(f"\n## {section}\n\n{found}", flush=True)
        if not keep:
            write(section, found)
            write("terabytes", terabytes.section(DOCUMENT.read_text()))  # which is made of the others


def write(section: str, content: str) -> None:
    """Put what was found between the marks of its section."""
    text = DOCUMENT.read_text()
    marks = re.compile(rf"(<!-- bench: {section} -->\n).*?(<!-- /bench -->)", re.DOTALL)
    assert marks.search(text), f"{DOCUMENT.name} has no section {section}"
    DOCUMENT.write_text(marks.sub(lambda match: f"{match[1]}{content}\n{match[2]}", text))


def _limits() -> str:
    with tempfile.TemporaryDirectory(prefix="hub-bench-") as name:
        found = limits.limits(Path(name))
    return f"{_today()} on {limits.machine()}.\n\n{limits.table(found)}"


def _catalogs() -> str:
    with tempfile.TemporaryDirectory(prefix="hub-bench-") as name:
        return _dated(catalogs.rows(Path(name)))


def _releases() -> str:
    with tempfile.TemporaryDirectory(prefix="hub-bench-") as name:
        return _dated(releases.rows(Path(name)))


def _moving(given: argparse.Namespace) -> str:
    large = given.gigabytes >= _LARGE
    with tempfile.TemporaryDirectory(prefix="hub-bench-") as name, ExitStack() as stack:
        bench = moving.Bench(Path(name), Shape(given.images, int(given.gigabytes * 1e9)), stack)
        found = bench.run(1 if large else given.rounds, peers=not large)
        if large:
            return f"{bench.described()}\n\n{_dated(moving.sizes(bench.goods, found))}\n\n{moving.figures(found)}"
        bench.resume(found)
        return f"{bench.described()}\n\n{_dated(moving.rows(bench, found))}\n\n{moving.figures(found)}"


def _scaling() -> str:
    steps = scaling.steps()
    return f"{scaling.table(steps)}\n\n{_dated(scaling.rows(steps))}"


def _dated(rows: list[Row]) -> str:
    return f"{table(rows)}\n\n({_today()})"


def _today() -> str:
    return dt.datetime.now(dt.UTC).date().isoformat()


if __name__ == "__main__":
    main()
