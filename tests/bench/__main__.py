"""All benchmarks: `python -m tests.bench`. `--help` says how to run one of them, or a larger one."""

from __future__ import annotations

import argparse
import tempfile
from contextlib import ExitStack
from pathlib import Path

from tests.bench import catalogs, moving, scaling
from tests.bench.goods import Shape
from tests.bench.rows import Row, table


def main() -> None:
    """Measure, print the tables."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=4.0, help="unique bytes of the data set (4)")
    parser.add_argument("--images", type=int, default=300, help="images of the data set (300)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured; the median counts (3)")
    parser.add_argument("--only", choices=("moving", "scaling", "catalogs"), help="one part alone")
    parser.add_argument("--no-peers", action="store_true", help="without skopeo")
    given = parser.parse_args()
    if given.only in (None, "catalogs"):
        with tempfile.TemporaryDirectory(prefix="hub-bench-") as name:
            _tell("Catalogs", catalogs.rows(Path(name)))
    if given.only in (None, "moving"):
        with tempfile.TemporaryDirectory(prefix="hub-bench-") as name, ExitStack() as stack:
            bench = moving.Bench(Path(name), Shape(given.images, int(given.gigabytes * 1e9)), stack)
            print(bench.goods)
            found = bench.run(given.rounds, peers=not given.no_peers)
            bench.resume(found)
            _tell("Moving", moving.rows(bench, found))
    if given.only in (None, "scaling"):
        steps = scaling.steps()
        print(scaling.table(steps))
        _tell("Growth", scaling.rows(steps))


def _tell(title: str, rows: list[Row]) -> None:
    print(f"\n## {title}\n\n{table(rows)}", flush=True)


if __name__ == "__main__":
    main()
