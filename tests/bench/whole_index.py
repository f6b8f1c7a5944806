"""The largest real catalog with all of its images as one job, and parts of it: what each step costs for an image.

The source is nginx (`published`), the mirror Debian's docker-registry. Requests are counted in the logs of both.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from tests.bench import published
from tests.bench.meter import BIN, Measured, Watched, measure
from tests.bench.moving import MIB
from tests.bench.rows import Row
from tests.fakes.servers import Server, docker_registry, in_memory, require

SIZES = (Fraction(1, 16), Fraction(1, 4), Fraction(1))
STEPS = (
    "`plan`",
    "`create`",
    "`verify`",
    "`push`",
    "`push` again",
    "`render`",
    "`inspect`",
    "`create`, a week later",
    "`push`, a week later",
)
HEAD = (
    "| step | size | images | blobs | wall | CPU | CPU for an image | peak memory | requests | for an image | measured |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|"
)
_LINE = re.compile(
    r"\| (?P<step>[^|]+) \| (?P<size>[\d/]+|all) \| (?P<images>\d+) \| (?P<blobs>\d+) \| (?P<wall>[\d.]+) s \| (?P<cpu>[\d.]+) s "
    r"\| [\d.]+ ms \| (?P<peak>[\d.]+) MiB \| (?P<requests>\d+) \| [\d.]+ \| (?P<day>[\d-]+) \|"
)


@dataclass(frozen=True)
class Line:
    """What one step took at one size. `wall` and `cpu` in seconds, `peak` in MiB."""

    step: str
    size: str
    images: int
    blobs: int
    wall: float
    cpu: float
    peak: float
    requests: int
    day: str

    def markdown(self) -> str:
        """Return the row of the table, from which `parsed` makes the same line again."""
        return (
            f"| {self.step} | {self.size} | {self.images} | {self.blobs} | {self.wall:.1f} s | {self.cpu:.2f} s "
            f"| {1000 * self.cpu / self.images:.2f} ms | {self.peak:.1f} MiB | {self.requests} "
            f"| {self.requests / self.images:.2f} | {self.day} |"
        )


def parsed(text: str) -> list[Line]:
    """Return the lines of a table that was written before: those of other sizes stay."""
    found = (match.groupdict() for match in map(_LINE.fullmatch, text.splitlines()) if match)
    return [
        Line(
            each["step"],
            each["size"],
            int(each["images"]),
            int(each["blobs"]),
            float(each["wall"]),
            float(each["cpu"]),
            float(each["peak"]),
            int(each["requests"]),
            each["day"],
        )
        for each in found
    ]


def named(size: Fraction) -> str:
    """Return a size as the tables name it."""
    return "all" if size == 1 else str(size)


_STATUSES = (0, 3)  # 3: it is done, and has problems: publishers named images without a reference


class Job:
    """The commands of both sides, in a folder of their own."""

    def __init__(self, home: Path, size: Fraction, stack: ExitStack) -> None:
        require("nginx")
        self._home = home
        stack.enter_context(in_memory(home / "source"))  # a hundred thousand small files
        (home / "source").mkdir(exist_ok=True)
        (home / "tmp").mkdir()
        self.index = published.fill(home / "source", size)
        self.index.publish(home / "source", 0)
        self._source = stack.enter_context(published.served(home / "source"))
        self._mirror = stack.enter_context(docker_registry(home, name="mirror"))
        (home / "registries.conf").write_text(self.index.registries_conf(self._source.host))
        self._wanted = ["--catalog", published.CATALOG, "--full", "--progress", "none"]

    def run(self) -> dict[str, Measured]:
        """Do everything once, in the order of a first import, and that of a week later."""
        out, more = self._home / "out", self._home / "more"
        place = ("--registry", self._mirror.host)
        found = {"`plan`": self._export("plan"), "`create`": self._export("create", "--output", out)}
        found["`verify`"] = self._import(None, "verify", out)
        found["`push`"] = self._push(out)
        found["`push` again"] = self._push(out)
        rendered = ("--output", self._home / "manifests", "--openshift-release", "4.18")
        found["`render`"] = self._import(None, "render", out, *place, *rendered)
        found["`inspect`"] = self._import(None, "inspect", out, "--format", "json")
        self.index.publish(self._home / "source", 1)
        found["`create`, a week later"] = self._export("create", "--since", out, "--output", more)
        found["`push`, a week later"] = self._push(more)
        return found

    def _export(self, command: str, *options: str | Path) -> Measured:
        env = self._env() | {"HUB_EXPORT_REGISTRIES_CONF": str(self._home / "registries.conf")}
        words = [BIN / "hub-export", command, *self._wanted, *options]
        return measure(words, env=env, watched=Watched(self._source.pid, self._source.log), statuses=_STATUSES)

    def _push(self, archive: Path) -> Measured:
        host = self._mirror.host
        return self._import(self._mirror, "push", archive, "--registry", host, "--insecure", host, "--progress", "none")

    def _import(self, registry: Server | None, command: str, *options: str | Path) -> Measured:
        watched = Watched(registry.pid, registry.log) if registry else None
        return measure([BIN / "hub-import", command, *options], env=self._env(), watched=watched, statuses=_STATUSES)

    def _env(self) -> Mapping[str, str]:
        return {"TMPDIR": str(self._home / "tmp")}


def lines(home: Path, size: Fraction) -> list[Line]:
    """Measure one size."""
    with ExitStack() as stack:
        job = Job(home, size, stack)
        found = job.run()
    index, day = job.index, dt.datetime.now(dt.UTC).date().isoformat()
    return [
        Line(
            step,
            named(size),
            index.images,
            index.blobs,
            took.wall,
            took.cpu,
            took.peak / MIB,
            sum(took.requests.values()),
            day,
        )
        for step, took in found.items()
    ]


def table(found: Sequence[Line]) -> str:
    """Return what was measured, each step with its sizes below each other."""
    return "\n".join([HEAD, *(line.markdown() for step in STEPS for line in _of(step, found))])


def _of(step: str, found: Sequence[Line]) -> list[Line]:
    sizes = [named(size) for size in SIZES]
    return sorted((line for line in found if line.step == step), key=lambda line: sizes.index(line.size))


def rows(found: Sequence[Line]) -> list[Row]:
    """Return the figures that have bars: of the largest size, and beside the smallest."""
    planned = _of("`plan`", found)[-1]
    detail = f"{planned.images} images, signatures looked for"
    made = [Row("`plan`, CPU for an image", 1000 * planned.cpu / planned.images, 4, "ms", detail)]
    for step in ("`plan`", "`create`", "`push`"):
        sizes = _of(step, found)
        small, large = sizes[0], sizes[-1]
        made.append(Row(f"{step}, peak memory", large.peak, 400, "MiB", f"{large.images} images"))
        if large is small:
            continue
        each = [1000 * line.cpu / line.images for line in (small, large)]
        made.append(
            Row(
                f"{step}, CPU for an image",
                each[1] / each[0],
                1.2,
                f"× that of {small.size}",
                f"{each[1]:.2f} ms for each of {large.images} images, {each[0]:.2f} ms for each of {small.images}",
            )
        )
        made.append(_memory(step, small, large))
    return made


def _memory(step: str, small: Line, large: Line) -> Row:
    """Return what a further image takes of memory where nothing is carried, and else a further blob."""
    if step == "`plan`":
        each = (large.peak - small.peak) * 1024 / (large.images - small.images)
        return Row(f"{step}, memory for each further image", each, 8, "KiB", f"{small.images} and {large.images} images")
    each = (large.peak - small.peak) * 1024 / (large.blobs - small.blobs)
    return Row(f"{step}, memory for each further blob", each, 2, "KiB", f"{small.blobs} and {large.blobs} blobs")
