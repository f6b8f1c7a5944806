"""How long terabytes take: processes that share a site, simulated with the rates that were measured on this machine.

A fluid model: at every moment each running process gets its own line and cores, and a fair share of what all use together; when
one is done, the others get more. Volumes are dealt out as `--shards` does it. What one process does in turns (reading, hashing,
writing) is added up. No time is measured here; what sites have is assumed, and shown.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from common.cli import options

GB = 1e9
VOLUME = 50 * GB
_SENDERS = 4  # threads that send parts of a volume
NEARLY = 1.1  # a limit that is no higher than this times the lowest is named with it
GIGABIT = 1e9 / 8 * 0.94  # what TCP leaves of a line
_CELL = re.compile(r"^\| `(create|push)` \| ([\d.]+) s \| ([\d.]+) s \| ([\d.]+) s \|", re.MULTILINE)
_CORES = 2  # of the machine that it was measured on, the registry's too
_SIZE = re.compile(r"blobs: ([\d.]+) GB")
_STORAGE = re.compile(r"object storage \(rclone\).*?\| ([\d.]+) s \|\n\| reading it there.*?\| ([\d.]+) s \|")
_HASHING = re.compile(r"SHA-256, one thread \| ([\d.]+) GB/s")


@dataclass(frozen=True)
class Run:
    """What was measured of a command: seconds of the clock and of CPU, ours and the registry's, and the bytes."""

    wall_s: float
    ours_s: float
    registry_s: float
    size: float

    @property
    def bound_s(self) -> float:
        """The seconds that the model gives: CPU, on cores that share all of it."""
        return (self.ours_s + self.registry_s) / _CORES


@dataclass(frozen=True)
class Rates:
    """CPU seconds: of ours and of the mirror for a GB; for a GB that is only read and hashed.

    And of ours for a GB that is sent to object storage, and for one that is read there.
    """

    create: Run
    push: Run
    hash_s: float
    send_s: float
    fetch_s: float

    @property
    def create_s(self) -> float:
        """Ours for a GB that is fetched, written and read back."""
        return self.create.ours_s / self.create.size * GB

    @property
    def push_s(self) -> float:
        """Ours for a GB that is pushed."""
        return self.push.ours_s / self.push.size * GB

    @property
    def mirror_s(self) -> float:
        """The mirror's for a GB that it takes."""
        return self.push.registry_s / self.push.size * GB


@dataclass(frozen=True)
class Site:
    """Machines with `cores` and a line each (bytes a second); `uplink`: what all lines share; `disk`: what one disk moves.

    `mirror`: the cores of the registry on the other side, `door` its line, `store`: what its disks take; `shared`: all machines
    use one disk. `objects`: what the object storage moves in which volumes lie, if they do; disks are then for scratch.
    """

    name: str
    machines: int
    cores: int
    line: float
    uplink: float
    disk: float
    mirror: int
    store: float
    door: float
    shared: bool = False
    objects: float = 0


SITES = (
    Site("one machine, 1 Gbit/s", 1, 4, line=GIGABIT, uplink=GIGABIT, disk=0.5 * GB, mirror=4, store=0.5 * GB, door=GIGABIT),
    Site(
        "one machine, 10 Gbit/s", 1, 8, line=10 * GIGABIT, uplink=10 * GIGABIT, disk=GB, mirror=8, store=GB, door=10 * GIGABIT
    ),
    Site(
        "8 machines, 10 Gbit/s together, shared storage",
        8,
        4,
        line=10 * GIGABIT,
        uplink=10 * GIGABIT,
        disk=2 * GB,
        mirror=16,
        store=2 * GB,
        door=10 * GIGABIT,
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
        door=25 * GIGABIT,
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
        door=25 * GIGABIT,
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
    size, hashing, storage = _SIZE.search(large), _HASHING.search(document), _STORAGE.search(document)
    for found in (size, hashing, storage):
        assert found, "a table is missing: make bench"
    runs = {name: Run(*map(float, cells), float(size[1]) * GB) for name, *cells in _CELL.findall(large)}
    return Rates(
        create=runs["create"],
        push=runs["push"],
        hash_s=1 / float(hashing[1]),
        send_s=float(storage[1]),
        fetch_s=float(storage[2]),
    )


def create(site: Site, size: float, rates: Rates) -> Took:
    """Simulate the making of all parts: what arrives is hashed, written, read back and hashed again.

    With object storage each volume is sent there afterwards, and its machine fetches nothing meanwhile.
    """
    alone = {"its line": site.line, "cores": site.cores / (rates.create_s / GB)}
    together = {"the uplink": site.uplink}
    (together if site.shared else alone)["the disk, writing and reading back"] = site.disk / 2
    if site.objects:
        lines = {"its line": site.line, "cores": site.cores / (rates.send_s / GB), "the disk": site.disk}
        made, sent = min(alone.values()), min(lines.values())
        alone = {f"{_slowest(alone)}; then, sending, {_slowest(lines)}": 1 / (1 / made + 1 / sent)}
        together["object storage"] = site.objects
    return _run(site, size, alone, together)


def again(site: Site, size: float, rates: Rates) -> Took:
    """Return what one killed part costs that had filled all of its volumes, when the others are done.

    It reads them once, with both hashes on two cores, and fetches nothing. With object storage the scratch disk goes with a pod,
    and one volume is made again.
    """
    if site.objects:
        return create(dataclasses.replace(site, machines=1), VOLUME, rates)  # the volumes before it are there already
    each = {"the disk": site.disk, "hashing": GB / rates.hash_s}
    return Took(max(_parts(site, size)) / min(each.values()), _slowest(each))


def finish(site: Site, size: float, rates: Rates, *, lost: bool = False) -> Took:
    """Return what one process needs for the archive of all parts: what it does in turns is added up.

    Volumes on one disk, and in object storage, stay where they are; from disks of others they are read, hashed and written.
    With a blob `lost`, every volume is read and hashed once more; in object storage it is fetched before, and sent again.
    """
    hashed, read, written = rates.hash_s / GB, 1 / site.disk, 1 / site.disk
    far = 0.0 if site.shared or site.machines == 1 else 1 / min(site.line, site.disk) + hashed + written
    closing = read + hashed
    if site.objects:
        fetched = max(rates.fetch_s / GB, 1 / min(site.line, site.objects)) + hashed + written
        sent = max(rates.send_s / GB / _SENDERS, 1 / min(site.line, site.objects, site.disk))
        far, closing = 0.0, fetched + closing + sent
    return Took(size * (far + (closing if lost else 0.0)), "one process, in turns")


def push(site: Site, size: float, rates: Rates) -> Took:
    """Simulate the push of all shards into one registry."""
    cpu = (rates.push_s + (rates.fetch_s if site.objects else 0)) / GB
    alone = {"its line": site.line, "cores": site.cores / cpu}
    together = {
        "the registry's cores": site.mirror / (rates.mirror_s / GB),
        "the registry's disks": site.store,
        "the registry's line": min(site.door, site.uplink),
    }
    if site.objects:
        together["object storage"] = site.objects
    else:
        (together if site.shared else alone)["the disk"] = site.disk
    return _run(site, size, alone, together)


def _slowest(limits: Mapping[str, float]) -> str:
    """Return what limits; all of it, where several nearly do."""
    most = min(limits.values()) * NEARLY
    return " and ".join(name for name in limits if limits[name] <= most)


def _parts(site: Site, size: float) -> list[float]:
    """Return the bytes of each shard."""
    count = -(-int(size) // int(VOLUME))
    return [len(options.volumes_of_shard(index, site.machines, count)) * size / count for index in range(site.machines)]


def _run(site: Site, size: float, alone: dict[str, float], together: dict[str, float]) -> Took:
    """Let all parts run until the last one is done; the bottleneck is what the longest time was waited for."""
    left, now = [part for part in _parts(site, size) if part], 0.0
    waited: dict[str, float] = {}
    while left:
        limits = alone | {name: rate / len(left) for name, rate in together.items()}
        slowest, rate = _slowest(limits), min(limits.values())
        step = min(left) / rate
        now += step
        waited[slowest] = waited.get(slowest, 0) + step
        left = [part - step * rate for part in left]
        left = [part for part in left if part > 1]
    return Took(now, max(waited, key=lambda name: waited[name]))


def section(document: str) -> str:
    """Return the tables, from the measured rates in the document."""
    rates = measured(document)
    said = (
        f"CPU for a GB: {rates.create_s:.2f} s to make it, {rates.push_s:.2f} s to push it and {rates.mirror_s:.2f} s of the "
        f"registry. For the run above the model gives {rates.create.bound_s:.0f} s to make and {rates.push.bound_s:.0f} s to push, "
        f"where the clock said {rates.create.wall_s:.0f} and {rates.push.wall_s:.0f} "
        f"({rates.create.wall_s / rates.create.bound_s:.1f} and {rates.push.wall_s / rates.push.bound_s:.1f} times as long): "
        "where cores are the limit, expect that factor."
    )
    return "\n\n".join([said, "\n".join(_sites()), "\n".join(_times(rates))])


def _sites() -> Iterator[str]:
    yield "| site | machines | cores of each | disk | registry: line, cores, disks |"
    yield "|---|---|---|---|---|"
    for site in SITES:
        disk = f"{site.disk / GB:g} GB/s{', all together' if site.shared else ''}"
        line = f"{site.door / GIGABIT:g} Gbit/s"
        yield f"| {site.name} | {site.machines} | {site.cores} | {disk} | {line}, {site.mirror}, {site.store / GB:g} GB/s |"


def _times(rates: Rates) -> Iterator[str]:
    yield (
        "| site | bytes | `create`, all parts | waits for | one part again | `finish` | …, a blob lost | `push`, all shards "
        "| waits for |"
    )
    yield "|---|---|---|---|---|---|---|---|---|"
    for site in SITES:
        for size in SIZES:
            made, redone, pushed = create(site, size, rates), again(site, size, rates), push(site, size, rates)
            joined, closed = finish(site, size, rates), finish(site, size, rates, lost=True)
            amount = f"{size / GB:g} GB" if size < 1000 * GB else f"{size / GB / 1000:g} TB"
            yield (
                f"| {site.name} | {amount} | {duration(made.seconds)} | {made.bottleneck} | {duration(redone.seconds)} "
                f"| {duration(joined.seconds)} | {duration(closed.seconds)} | {duration(pushed.seconds)} | {pushed.bottleneck} |"
            )


def duration(seconds: float) -> str:
    """Return seconds as people say them."""
    if seconds < 60:
        return "moments" if seconds < 1 else f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min" if seconds >= 600 else f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 3 * 86400 else f"{seconds / 86400:.0f} days"
