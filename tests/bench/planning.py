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
VOLUMES = {"`fat32`": 4 * 1024**3 - 1, "`dvd`": 4.7 * GB, "`bd25`": 25 * GB, "`50GB`": 50 * GB}
_IMAGE = 0.3 * GB  # unique bytes of an image of the payload: a guess, as in *Terabytes*
_DELAY_S, _IN_FLIGHT = 0.05, 6
_BASE_MIB = 100  # a process without blobs, rounded up
_MEMORY = re.compile(r"^\| `(create|push)`, memory for each further blob \| [^|]+ \| ([\d.]+) KiB", re.MULTILINE)


@dataclass(frozen=True)
class Costs:
    """What a further image costs: CPU seconds and requests of `plan`, CPU of a second push; blobs for an image, and KiB of memory for a blob."""

    plan_s: float
    requests: float
    again_s: float
    blobs: float
    memory: float


def costs(document: str) -> Costs:
    """Read the tables: the largest size of the whole index that was measured."""
    lines = whole_index.parsed(document)
    plan, again = (max((x for x in lines if x.step == step), key=lambda x: x.images) for step in ("`plan`", "`push` again"))
    whole = document.partition("<!-- bench: whole-index -->")[2].partition("<!-- /bench -->")[0]
    memory = [float(figure) for _, figure in _MEMORY.findall(whole) or _MEMORY.findall(document)]
    return Costs(
        plan.cpu / plan.images,
        plan.requests / plan.images,
        again.cpu / again.images,
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
    parts = (_lines(rates), _disks(rates), _registries(rates), _media(), _images(each))
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


def _registries(rates: Rates) -> Iterator[str]:
    yield _row("`push`, by the registry (10 Gbit/s, NVMe)", *(f"{count} cores" for count in CORES))
    yield _rule(len(CORES))
    fast = site(10, disk=2 * GB)
    for size in SIZES:
        took = (terabytes.push(replace(fast, mirror=count), size, rates).seconds for count in CORES)
        yield _row(_bytes(size), *map(terabytes.duration, took))


def _media() -> Iterator[str]:
    yield _row("number of volumes, by `--volume-size`", *VOLUMES)
    yield _rule(len(VOLUMES))
    for size in SIZES:
        yield _row(_bytes(size), *(f"{math.ceil(size / volume):,}" for volume in VOLUMES.values()))


def _images(each: Costs) -> Iterator[str]:
    yield _row("archive", "images, blobs", "`plan`", "`plan`, 50 ms of delay", "`push` again", "memory of a process")
    yield _rule(5)
    for size in SIZES:
        images = size / _IMAGE
        blobs = images * each.blobs
        delayed = max(images * each.plan_s, images * each.requests * _DELAY_S / _IN_FLIGHT)
        yield _row(
            _bytes(size),
            f"{_round(images):,}, {_round(blobs):,}",
            *map(terabytes.duration, (images * each.plan_s, delayed, images * each.again_s)),
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
