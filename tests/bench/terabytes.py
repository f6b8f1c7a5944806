"""How long terabytes take: processes that share a site, simulated with the rates that were measured on this machine.

A fluid model: at every moment each running process gets its own line and cores, and a fair share of what all use together; when
one is done, the others get more. Volumes are dealt out as `--shards` does it. No time is measured here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from common import shards

GB = 1e9
VOLUME = 50 * GB
IMAGE = 300e6  # unique bytes of an image of a full index
GIGABIT = 1e9 / 8 * 0.94  # what TCP leaves of a line
_CELL = re.compile(r"^\| `(create|push)` \| [\d.]+ s \| ([\d.]+) s \| ([\d.]+) s \|", re.MULTILINE)
_SIZE = re.compile(r"blobs: ([\d.]+) GB")
_IMAGE_CPU = re.compile(r"^\| \d+ \| .*?\| [\d.]+ ms \| ([\d.]+) ms \|.*?\| [\d.]+ ms \| ([\d.]+) ms \|", re.MULTILINE)
_STORAGE = re.compile(r"object storage \(rclone\).*?\| ([\d.]+) s \|\n\| reading it there.*?\| ([\d.]+) s \|")
_HASHING = re.compile(r"SHA-256, one thread \| ([\d.]+) GB/s")


@dataclass(frozen=True)
class Rates:
    """CPU seconds: of ours and of the mirror for a GB, of ours for an image; for a GB that is only read and hashed.

    And of ours for a GB that is sent to object storage, and for one that is read there.
    """

    create_s: float
    push_s: float
    mirror_s: float
    create_image_s: float
    push_image_s: float
    hash_s: float
    send_s: float
    fetch_s: float


@dataclass(frozen=True)
class Site:
    """Machines with `cores` and a line each (bytes a second); `uplink`: what all lines share; `disk`: what one disk moves.

    `mirror`: the cores of the registry on the other side, `store`: what its disks take; `shared`: all machines use one disk.
    `objects`: what the object storage moves in which volumes lie, if they do; disks are then for scratch.
    """

    name: str
    machines: int
    cores: int
    line: float
    uplink: float
    disk: float
    mirror: int
    store: float
    shared: bool = False
    objects: float = 0


SITES = (
    Site("one machine, 1 Gbit/s", 1, 4, line=GIGABIT, uplink=GIGABIT, disk=0.5 * GB, mirror=4, store=0.5 * GB),
    Site("one machine, 10 Gbit/s", 1, 8, line=10 * GIGABIT, uplink=10 * GIGABIT, disk=GB, mirror=8, store=GB),
    Site(
        "8 machines, 10 Gbit/s together, shared storage",
        8,
        4,
        line=10 * GIGABIT,
        uplink=10 * GIGABIT,
        disk=2 * GB,
        mirror=16,
        store=2 * GB,
        shared=True,
    ),
    Site(
        "8 machines, 10 Gbit/s each, a disk each",
        8,
        4,
        line=10 * GIGABIT,
        uplink=80 * GIGABIT,
        disk=GB,
        mirror=16,
        store=4 * GB,
    ),
    Site(
        "the same with object storage of 4 GB/s",
        8,
        4,
        line=10 * GIGABIT,
        uplink=80 * GIGABIT,
        disk=GB,
        mirror=16,
        store=4 * GB,
        objects=4 * GB,
    ),
)
SIZES = (100 * GB, 1000 * GB, 10_000 * GB)


@dataclass(frozen=True)
class Took:
    """How long a step takes, in seconds, and what it waits for."""

    seconds: float
    bottleneck: str


def measured(document: str) -> Rates:
    """Read the rates out of the tables of docs/benchmarks.md."""
    large = document.partition("<!-- bench: large -->")[2].partition("<!-- /bench -->")[0]
    size = _SIZE.search(large)
    images = (_IMAGE_CPU.findall(document) or [None])[-1]
    hashing, storage = _HASHING.search(document), _STORAGE.search(document)
    for found in (size, images, hashing, storage):
        assert found, "a table is missing: make bench"
    cpu = {
        name: (float(ours) / float(size[1]), float(registry) / float(size[1])) for name, ours, registry in _CELL.findall(large)
    }
    return Rates(
        create_s=cpu["create"][0],
        push_s=cpu["push"][0],
        mirror_s=cpu["push"][1],
        create_image_s=float(images[0]) / 1000,
        push_image_s=float(images[1]) / 1000,
        hash_s=1 / float(hashing[1]),
        send_s=float(storage[1]),
        fetch_s=float(storage[2]),
    )


def create(site: Site, size: float, rates: Rates) -> Took:
    """Simulate the making of all parts: what arrives is hashed, written, read back and hashed again.

    With object storage each volume is sent there afterwards, and nothing is fetched meanwhile.
    """
    cpu = rates.create_s / GB + rates.create_image_s / IMAGE
    alone = {"its line": site.line, "cores": site.cores / cpu}
    together = {"the uplink": site.uplink}
    (together if site.shared else alone)["the disk, writing and reading back"] = site.disk / 2
    made = _run(site, size, alone, together)
    if not site.objects:
        return made
    lines = {"its line, sending": site.line, "cores": site.cores / (rates.send_s / GB), "the disk": site.disk}
    sent = _run(site, size, lines, {"object storage": site.objects})
    return Took(made.seconds + sent.seconds, max(made, sent, key=lambda each: each.seconds).bottleneck)


def again(site: Site, size: float, rates: Rates) -> Took:
    """Return what one killed part costs that had filled all of its volumes: it reads them twice, and fetches nothing.

    With object storage the scratch disk goes with a pod, and one volume is made again.
    """
    if site.objects:
        return create(site, VOLUME, rates)  # the volumes before it are there already
    part = max(_parts(site, size))
    disk = site.disk / (site.machines if site.shared else 1)
    each = {"the disk": disk / 2, "hashing": site.cores / (2 * rates.hash_s / GB)}
    slowest = min(each, key=lambda name: each[name])
    return Took(part / each[slowest], slowest)


def push(site: Site, size: float, rates: Rates) -> Took:
    """Simulate the push of all shards into one registry."""
    cpu = (rates.push_s + (rates.fetch_s if site.objects else 0)) / GB + rates.push_image_s / IMAGE
    alone = {"its line": site.line, "cores": site.cores / cpu}
    together = {"the registry's cores": site.mirror / (rates.mirror_s / GB), "the registry's disks": site.store}
    if site.objects:
        together["object storage"] = site.objects
    else:
        (together if site.shared else alone)["the disk"] = site.disk
    return _run(site, size, alone, together)


def _parts(site: Site, size: float) -> list[float]:
    """Return the bytes of each shard."""
    count = -(-int(size) // int(VOLUME))
    return [len(shards.shard(index, site.machines, count)) * size / count for index in range(site.machines)]


def _run(site: Site, size: float, alone: dict[str, float], together: dict[str, float]) -> Took:
    """Let all parts run until the last one is done; the bottleneck is what the longest time was waited for."""
    left, now = [part for part in _parts(site, size) if part], 0.0
    waited: dict[str, float] = {}
    while left:
        limits = alone | {name: rate / len(left) for name, rate in together.items()}
        slowest = min(limits, key=lambda name: limits[name])
        step = min(left) / limits[slowest]
        now += step
        waited[slowest] = waited.get(slowest, 0) + step
        left = [part - step * limits[slowest] for part in left]
        left = [part for part in left if part > 1]
    return Took(now, max(waited, key=lambda name: waited[name]))


def section(document: str) -> str:
    """Return the table, from the measured rates in the document."""
    rates = measured(document)
    rows = [
        "| site | bytes | `create`, all parts | waits for | one part again | `push`, all shards | waits for |",
        "|---|---|---|---|---|---|---|",
    ]
    for site in SITES:
        for size in SIZES:
            made, redone, pushed = create(site, size, rates), again(site, size, rates), push(site, size, rates)
            amount = f"{size / GB:g} GB" if size < 1000 * GB else f"{size / GB / 1000:g} TB"
            rows.append(
                f"| {site.name} | {amount} | {_time(made.seconds)} | {made.bottleneck} | {_time(redone.seconds)} "
                f"| {_time(pushed.seconds)} | {pushed.bottleneck} |"
            )
    said = (
        f"CPU for a GB: {rates.create_s:.2f} s to make it, {rates.push_s:.2f} s to push it and {rates.mirror_s:.2f} s of the "
        f"registry; for an image {1000 * rates.create_image_s:.1f} and {1000 * rates.push_image_s:.1f} ms."
    )
    return f"{said}\n\n" + "\n".join(rows)


def _time(seconds: float) -> str:
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
