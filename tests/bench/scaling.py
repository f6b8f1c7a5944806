"""What each further image costs: the same export and push with 1, 4 and 16 times as many images."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.bench.goods import Shape
from tests.bench.meter import Measured
from tests.bench.moving import Bench
from tests.bench.rows import Row

IMAGES = 150
FACTORS = (1, 4, 16)
_IMAGE = 400_000  # bytes that an image has for itself, about


@dataclass(frozen=True)
class Step:
    """One size: how many images and blobs, and what exporting and pushing them took."""

    images: int
    blobs: int
    create: Measured
    push: Measured


def steps() -> list[Step]:
    """Measure every size once."""
    return [_step(IMAGES * factor) for factor in FACTORS]


def _step(images: int) -> Step:
    with tempfile.TemporaryDirectory(prefix="hub-bench-") as name, ExitStack() as stack:
        bench = Bench(Path(name), Shape(images, images * _IMAGE), stack)
        found = bench.run(1, peers=False)
        return Step(len(bench.goods.images), bench.goods.blobs, found.create[0], found.push[0])


def table(found: list[Step]) -> str:
    """Return the sizes as a Markdown table."""
    head = (
        "| images | blobs | `create` per image | CPU | peak | requests | `push` per image | CPU | peak | requests |\n"
        "|---|---|---|---|---|---|---|---|---|---|"
    )
    return "\n".join(
        [head, *(f"| {one.images} | {one.blobs} | {_cost(one, one.create)} | {_cost(one, one.push)} |" for one in found)]
    )


def _cost(step: Step, measured: Measured) -> str:
    each = 1000 / step.images
    requests = sum(measured.requests.values()) / step.images
    peak = measured.peak / 1024**2
    return f"{measured.wall * each:.1f} ms | {measured.cpu * each:.1f} ms | {peak:.0f} MiB | {requests:.1f}"


def rows(found: list[Step]) -> list[Row]:
    """Return growth beside its bars: what a further image costs among many, for what it costs among few (start-up apart)."""
    small, middle, large = found
    made = []
    for what in ("create", "push"):
        first, then, last = (getattr(step, what) for step in found)
        few = (then.cpu - first.cpu) / (middle.images - small.images)
        many = (last.cpu - then.cpu) / (large.images - middle.images)
        memory = (last.peak - first.peak) / (large.blobs - small.blobs) / 1024
        made += [
            Row(
                f"`{what}`, CPU of a further image",
                many / few,
                1.2,
                "× that among few",
                f"{1000 * many:.1f} ms up to {large.images}, {1000 * few:.1f} ms up to {middle.images}",
            ),
            Row(f"`{what}`, memory for each further blob", memory, 1.0, "KiB", f"{small.blobs} and {large.blobs} blobs"),
        ]
    return made
