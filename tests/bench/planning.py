"""The planning figures of docs/how-to/whole-index.md, from the rates in docs/benchmarks.md: no time is measured here.

What a site has is assumed, and shown: one machine with four cores on each side. What is measured: CPU for a GB and for an image, requests for an image, memory for a blob.
Bytes do not say how many images there are: what depends on their number has rows by images.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

from exporter.archive.archive_spec import ArchiveSpec
from exporter.settings import NAMED_SIZES, ArchiveTerms
from tests.bench import terabytes, whole_index
from tests.bench.many_blobs import Source, plan_of
from tests.bench.terabytes import GB, GIGABIT, Rates, Site
from tests.bench.whole_index import Line

SIZES = (80 * GB, 1000 * GB, 10_000 * GB)
IMAGES = (1_000, 25_000, 100_000)
LINES = (0.01, 0.1, 1, 10)  # Gbit/s
DISKS = {"hard disk, 0.15 GB/s": 0.15 * GB, "SSD, 0.5 GB/s": 0.5 * GB, "NVMe, 2 GB/s": 2 * GB}
CORES = (2, 4, 16)
# Bytes of a volume, and bytes a second that its medium takes: DVD at 8× (1.385 MB/s each), Blu-ray at 6× (4.496 MB/s each).
MEDIA = {
    "`fat32`, stick of 0.1 GB/s": (NAMED_SIZES["fat32"], 0.1 * GB),
    "`dvd` at 8×": (NAMED_SIZES["dvd"], 8 * 1.385e6),
    "`bd25` at 6×": (NAMED_SIZES["bd25"], 6 * 4.496e6),
    "`50GB`, hard disk of 0.15 GB/s": (50 * GB, 0.15 * GB),
}
ASKED = (5, 20, 100)  # requests a second that a source answers
_IMAGE = 0.3 * GB  # unique bytes of an image of the payload: a guess, as in *Terabytes*
_DELAY_S, _IN_FLIGHT = 0.05, 6
_BASE_MIB = 100  # a process without blobs, rounded up
_FEW, _MORE = 100, 500  # images of which the room for their lists is computed


@dataclass(frozen=True)
class Costs:
    """What a further image costs: CPU seconds of each step, requests of `plan` and `create`; its blobs, and KiB of memory for each in the step that takes most."""

    plan_s: float
    create_s: float
    push_s: float
    again_s: float
    week_s: float
    planned: float
    created: float
    blobs: float
    memory: float


def costs(document: str) -> Costs:
    """Read the tables: the largest size of the whole index that was measured."""
    lines = whole_index.parsed(document)
    steps = ("`plan`", "`create`", "`push`", "`push` again", "`push`, a week later")
    largest = [max((x for x in lines if x.step == step), key=lambda x: x.images) for step in steps]
    plan, create, *_ = largest
    return Costs(
        *(line.cpu / line.images for line in largest),
        planned=plan.requests / plan.images,
        created=create.requests / create.images,
        blobs=plan.blobs / plan.images,
        memory=max(_memory([line for line in lines if line.step == step]) for step in whole_index.STEPS),
    )


def _memory(sizes: list[Line]) -> float:
    """Return the KiB that a step takes for a further blob, from its smallest size to its largest."""
    small, large = (pick(sizes, key=lambda line: line.blobs) for pick in (min, max))
    return (large.peak - small.peak) * 1024 / (large.blobs - small.blobs)


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
    yield _row("by requests a second of the source", "requests", *(f"{rate} a second" for rate in ASKED))
    yield _rule(len(ASKED) + 1)
    for what, for_one in (("`plan` of {} images", each.planned), ("`create` of {} images, with its plan", each.created)):
        for images in IMAGES:
            count = images * for_one
            took = (terabytes.duration(count / rate) for rate in ASKED)
            yield _row(what.format(f"{images:,}"), f"{_round(count):,}", *took)


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
        lists = room(size / _IMAGE)
        cells = (
            f"{math.ceil(size / (volume - lists)):,}; {terabytes.duration(size / rate)}" for volume, rate in MEDIA.values()
        )
        yield _row(_bytes(size), *cells)


def room(images: float) -> float:
    """Return the bytes that an archive keeps free in each of its volumes for the lists of all of it."""
    few, more = (_reserve(count) for count in (_FEW, _MORE))
    return few + (more - few) / (_MORE - _FEW) * (images - _FEW)


@cache
def _reserve(images: int) -> int:
    return ArchiveSpec(plan_of(images, Source()), ArchiveTerms("2026-11-30T00:00:00Z", {})).layout.reserve


def _images(each: Costs) -> Iterator[str]:
    yield _row(
        "images, blobs",
        "`plan`",
        "`plan`, 50 ms of delay",
        "`create`, with its plan",
        "`push`",
        "`push` again",
        "`push` of a week",
        "memory of a process",
        "lists in each volume",
    )
    yield _rule(8)
    for images in IMAGES:
        blobs = images * each.blobs
        delayed = max(images * each.plan_s, images * each.planned * _DELAY_S / _IN_FLIGHT)
        took = (each.plan_s * images, delayed, *(s * images for s in (each.create_s, each.push_s, each.again_s, each.week_s)))
        yield _row(
            f"{images:,}, {_round(blobs):,}",
            *map(terabytes.duration, took),
            f"{_round(memory(blobs, each)):,} MiB",
            f"{_round(room(images) / 1e6):,} MB",
        )


def memory(blobs: float, each: Costs) -> float:
    """Return the MiB of a process at the most."""
    return _BASE_MIB + blobs * each.memory / 1024


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
