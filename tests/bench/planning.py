"""The planning figures of docs/how-to/whole-index.md, from the rates in docs/benchmarks.md: no time is measured here.

What a site has is assumed, and shown: one machine with four cores on each side. What is measured: CPU for a GB and for an image, requests for an image, memory for a blob.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from tests.bench import terabytes, whole_index
from tests.bench.terabytes import GB, GIGABIT, Rates, Site

SIZES = (80 * GB, 1000 * GB, 10_000 * GB)
LINES = (0.01, 0.1, 1, 10)  # Gbit/s
DISKS = {"hard disk, 0.15 GB/s": 0.15 * GB, "SSD, 0.5 GB/s": 0.5 * GB, "NVMe, 2 GB/s": 2 * GB}
CORES = (2, 4, 16)
# Bytes of a volume, and bytes a second that its medium takes: DVD at 8× (1.385 MB/s each), Blu-ray at 6× (4.496 MB/s each).
MEDIA = {
    "`fat32`, stick of 0.1 GB/s": (4 * 1024**3 - 1, 0.1 * GB),
    "`dvd` at 8×": (4.7 * GB, 8 * 1.385e6),
    "`bd25` at 6×": (25 * GB, 6 * 4.496e6),
    "`50GB`, hard disk of 0.15 GB/s": (50 * GB, 0.15 * GB),
}
ASKED = (5, 20, 100)  # requests a second that a source answers
_IMAGE = 0.3 * GB  # unique bytes of an image of the payload: a guess, as in *Terabytes*
_DELAY_S, _IN_FLIGHT = 0.05, 6
_BASE_MIB = 100  # a process without blobs, rounded up
_MEMORY = re.compile(r"^\| `(create|push)`, memory for each further blob \| [^|]+ \| ([\d.]+) KiB", re.MULTILINE)


@dataclass(frozen=True)
class Costs:
    """What a further image costs: CPU seconds of `plan`, of a second push and of one a week later, requests of `plan` and `create`; its blobs, and KiB of memory for each."""

    plan_s: float
    requests: float
    again_s: float
    week_s: float
    created: float
    blobs: float
    memory: float


def costs(document: str) -> Costs:
    """Read the tables: the largest size of the whole index that was measured."""
    lines = whole_index.parsed(document)
    steps = ("`plan`", "`create`", "`push` again", "`push`, a week later")
    plan, create, again, week = (max((x for x in lines if x.step == step), key=lambda x: x.images) for step in steps)
    whole = document.partition("<!-- bench: whole-index -->")[2].partition("<!-- /bench -->")[0]
    memory = [float(figure) for _, figure in _MEMORY.findall(whole) or _MEMORY.findall(document)]
    return Costs(
        plan.cpu / plan.images,
        plan.requests / plan.images,
        again.cpu / again.images,
        week.cpu / week.images,
        create.requests / create.images,
        plan.blobs / plan.images,
        max(memory),
    )


def site(line: float, *, disk: float = 0.5 * GB, cores: int = 4) -> Site:
    """Return one machine with four cores on each side; `cores`: of the registry, whose disks are no limit."""
    rate = line * GIGABIT
    return Site("", 1, 4, line=rate, uplink=rate, disk=disk, mirror=cores, store=10 * GB, door=rate)


def section(document: str) -> str:
    """Return the tables."""
    rates, each = terabytes.measured(document), costs(document)
    parts = (_lines(rates), _disks(rates), _reading(rates), _registries(rates), _requests(each), _media(), _images(each))
    return "\n\n".join("\n".join(part) for part in parts)


def _lines(rates: Rates) -> Iterator[str]:
    yield _row("`create` or `push`, by the line", *(f"{x * 1000:g} Mbit/s" if x < 1 else f"{x:g} Gbit/s" for x in LINES))
    yield _rule(len(LINES))
    for size in SIZES:
        yield _row(_bytes(size), *(terabytes.duration(_slower(site(line), size, rates)) for line in LINES))


def _slower(at: Site, size: float, rates: Rates) -> float:
    return max(terabytes.create(at, size, rates).seconds, terabytes.push(at, size, rates).seconds)


def _disks(rates: Rates) -> Iterator[str]:
    yield _row("`create`, by the disk (10 Gbit/s)", *DISKS)
    yield _rule(len(DISKS))
    for size in SIZES:
        took = (terabytes.create(site(10, disk=disk), size, rates).seconds for disk in DISKS.values())
        yield _row(_bytes(size), *map(terabytes.duration, took))


def _reading(rates: Rates) -> Iterator[str]:
    """Yield the times of one reading; both hashes are taken side by side, on two cores."""
    yield _row("one reading: `verify`, or `create` after a kill", *DISKS)
    yield _rule(len(DISKS))
    for size in SIZES:
        took = (size / min(disk, GB / rates.hash_s) for disk in DISKS.values())
        yield _row(_bytes(size), *map(terabytes.duration, took))


def _requests(each: Costs) -> Iterator[str]:
    yield _row("`create`, by requests a second of the source", "requests", *(f"{rate} a second" for rate in ASKED))
    yield _rule(len(ASKED) + 1)
    for size in SIZES:
        count = size / _IMAGE * each.created
        yield _row(_bytes(size), f"{_round(count):,}", *(terabytes.duration(count / rate) for rate in ASKED))


def _registries(rates: Rates) -> Iterator[str]:
    yield _row("`push`, by the registry (10 Gbit/s, NVMe)", *(f"{count} cores" for count in CORES))
    yield _rule(len(CORES))
    fast = site(10, disk=2 * GB)
    for size in SIZES:
        took = (terabytes.push(replace(fast, mirror=count), size, rates).seconds for count in CORES)
        yield _row(_bytes(size), *map(terabytes.duration, took))


def _media() -> Iterator[str]:
    yield _row("volumes, by `--volume-size`; to write them one by one", *MEDIA)
    yield _rule(len(MEDIA))
    for size in SIZES:
        cells = (f"{math.ceil(size / volume):,}; {terabytes.duration(size / rate)}" for volume, rate in MEDIA.values())
        yield _row(_bytes(size), *cells)


def _images(each: Costs) -> Iterator[str]:
    yield _row(
        "archive",
        "images, blobs",
        "`plan`",
        "`plan`, 50 ms of delay",
        "`push` again",
        "`push` of a week",
        "memory of a process",
    )
    yield _rule(6)
    for size in SIZES:
        images = size / _IMAGE
        blobs = images * each.blobs
        delayed = max(images * each.plan_s, images * each.requests * _DELAY_S / _IN_FLIGHT)
        yield _row(
            _bytes(size),
            f"{_round(images):,}, {_round(blobs):,}",
            *map(terabytes.duration, (images * each.plan_s, delayed, images * each.again_s, images * each.week_s)),
            f"{_round(_BASE_MIB + blobs * each.memory / 1024):,} MiB",
        )


def _round(count: float) -> int:
    """Return two digits of a number: more would say that it is known."""
    step = 10 ** max(0, math.floor(math.log10(count)) - 1)
    return round(count / step) * step


def _bytes(size: float) -> str:
    return f"{size / GB:g} GB" if size < 1000 * GB else f"{size / GB / 1000:g} TB"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _rule(columns: int) -> str:
    return "|---" * (columns + 1) + "|"
