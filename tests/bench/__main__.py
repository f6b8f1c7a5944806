"""All benchmarks: `python -m tests.bench`. What they find goes into docs/benchmarks.md, where its sections are marked."""

from __future__ import annotations

import argparse
import datetime as dt
import re
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path

from tests.bench import catalogs, goods, limits, moving, peers, planning, releases, scaling, start_up, terabytes, whole_index
from tests.bench.goods import Shape
from tests.bench.rows import Row, table
from tests.bench.tools import missing_said

DOCUMENT = Path(__file__).parents[2] / "docs" / "benchmarks.md"
HOW_TO = DOCUMENT.parent / "how-to" / "whole-index.md"
_LARGE = 10.0  # GB from which a run is the large one: without peers, once


def main() -> None:
    """Measure, print the tables, and write them down."""
    given = _arguments()
    keep = given.no_write or not goods.is_real()
    if not goods.is_real():
        print(f"{goods.LARGEST.name} is not beside this repository: a small catalog instead, and nothing is written down")
    parts = _parts(given)
    for name in given.sections or parts:
        section = "large" if name == "moving" and given.gigabytes >= _LARGE else name
        with missing_said(section):
            found = parts[name]()
            print(f"\n## {section}\n\n{found}", flush=True)
            if not keep:
                write(section, found)
                write("terabytes", terabytes.section(DOCUMENT.read_text()))  # which is made of the others
                write("planning", planning.section(DOCUMENT.read_text()), HOW_TO)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"only these: {', '.join(_parts(None))}")
    parser.add_argument(
        "--gigabytes", type=float, default=4.0, help="unique bytes of the data set (4); three times that on disk"
    )
    parser.add_argument("--images", type=int, default=300, help="images of the data set (300)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured; the median counts (3)")
    sizes = [whole_index.named(size) for size in whole_index.SIZES]
    parser.add_argument(
        "--size", action="append", choices=sizes, help=f"parts of the whole index ({sizes[0]}; --whole: each of them)"
    )
    parser.add_argument("--whole", dest="size", action="store_const", const=sizes, help=argparse.SUPPRESS)
    parser.add_argument("--no-write", action="store_true", help="leave docs/benchmarks.md as it is")
    given = parser.parse_args()
    given.size = given.size or sizes[:1]
    for name in set(given.sections) - set(_parts(given)):
        parser.error(f"no section {name!r}")
    return given


def _parts(given: argparse.Namespace | None) -> dict[str, Callable[[], str]]:
    """Return the sections, in the order in which they are measured."""
    asked = given or argparse.Namespace()
    return {
        "limits": _limits,
        "catalogs": _catalogs,
        "releases": _releases,
        "moving": lambda: _moving(asked),
        "peers": lambda: _peers(asked),
        "scaling": _scaling,
        "whole-index": lambda: _whole_index(asked.size),
        "start-up": lambda: _dated(start_up.rows()),
        "terabytes": lambda: terabytes.section(DOCUMENT.read_text()),
    }


def write(section: str, content: str, document: Path = DOCUMENT) -> None:
    """Put what was found between the marks of its section."""
    text = document.read_text()
    marks = re.compile(rf"(<!-- bench: {section} -->\n).*?(<!-- /bench -->)", re.DOTALL)
    assert marks.search(text), f"{document.name} has no section {section}"
    document.write_text(marks.sub(lambda match: f"{match[1]}{content}\n{match[2]}", text))


def _limits() -> str:
    machine = limits.machine()
    with tempfile.TemporaryDirectory(prefix="hub-bench-") as name:
        found = limits.limits(Path(name))
    return f"{_today()} on {machine}.\n\n{limits.table(found)}"


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
            return f"{bench.described()}\n\n{_dated(moving.sizes(bench.goods, found))}\n\n{moving.figures(moving.everything(found))}"
        bench.resume(found.resumed)
        return f"{bench.described()}\n\n{_dated(moving.rows(bench, found))}\n\n{moving.figures(moving.everything(found))}"


def _peers(given: argparse.Namespace) -> str:
    with tempfile.TemporaryDirectory(prefix="hub-bench-") as name, ExitStack() as stack:
        beside = peers.Peers(Path(name), Shape(given.images, int(given.gigabytes * 1e9)), stack)
        found = beside.run(given.rounds)
        figures = moving.figures(found.named())
        return f"{beside.bench.described()}\n\n{_dated(peers.rows(beside, found))}\n\n{figures}"


def _scaling() -> str:
    steps = scaling.steps()
    return f"{scaling.table(steps)}\n\n{_dated(scaling.rows(steps))}"


def _whole_index(sizes: list[str]) -> str:
    found = []
    for size in sizes:
        with tempfile.TemporaryDirectory(prefix="hub-bench-") as name:
            found += whole_index.lines(Path(name), Fraction(size.replace("all", "1")))
    known = found + [line for line in whole_index.parsed(DOCUMENT.read_text()) if line.size not in sizes]
    return f"{whole_index.table(known)}\n\n{table(whole_index.rows(known))}"


def _dated(rows: list[Row]) -> str:
    return f"{table(rows)}\n\n({_today()})"


def _today() -> str:
    return dt.datetime.now(dt.UTC).date().isoformat()


if __name__ == "__main__":
    main()
