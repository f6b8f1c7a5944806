"""The page itself: gathers what it says, and renders it once the archive's checksums are known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from common.archive import inventory_file, media
from common.archive.inventory import ATTACHED, ImageKind, Inventory
from common.archive.media import Place
from common.digest import digest_of
from common.pages.page import render
from common.serialization import pretty_json
from exporter import differences
from exporter.report import contents
from exporter.report.facts import Facts
from exporter.report.treemap import Box, Frame, Weight, framed, treemap
from exporter.report.weights import Purpose, Weights, weigh
from exporter.settings import Making

_TEMPLATE = "report.html.jinja"
_PER_VOLUME = 32  # of height
_TALLEST = 2400
Places = Mapping[Purpose, str]


@dataclass(frozen=True, slots=True)
class Shape:
    """A size of pictures, in their own units; the style shows the one that fits."""

    name: str
    width: int
    height: int


_SHAPES = (Shape("broad", 960, 420), Shape("narrow", 360, 520))  # for a desk and for a phone


@dataclass(frozen=True, slots=True)
class Picture:
    """The sizes by operator and by volume, in one shape."""

    shape: Shape
    operators: tuple[Box, ...]
    volumes_height: int
    volumes: tuple[Frame, ...]


@dataclass(frozen=True, slots=True)
class File:
    """A file of the archive."""

    name: str
    size: int
    checksum: str


class Report:
    """The report of one archive: what only its planning knew, and where its files lie; `render` adds what became of it."""

    def __init__(self, facts: Facts, making: Making, place: Place | None = None) -> None:
        self._facts = facts
        self._making = making
        self._place = place or making.output

    @property
    def room(self) -> int:
        """Bytes that the page needs on disk, at most or nearly so."""
        return self._facts.room

    def render(self, inventory: Inventory, checksums: Mapping[str, str]) -> bytes:
        """Return the page. `checksums`: those of the archive's files, which lie in `place`, or else in the output directory."""
        last = self._facts.last
        news = differences.between(last, inventory) if last else None
        weights = weigh(inventory)
        parts = contents.catalogs(inventory, weights, self._facts.background(news))
        places = contents.anchors(parts)
        rows = contents.image_rows(inventory, places)
        return render(
            Path(__file__).parent,
            _TEMPLATE,
            inventory=inventory,
            identity=digest_of(inventory_file.encode(inventory)),
            signer=self._making.signer.fingerprint if self._making.signer else "",
            parts=parts,
            added=[operator for part in parts for operator in part.operators if operator.because],
            rows=rows,
            attached=sum(1 for image in inventory.images if image.kind in ATTACHED),
            kinds=[kind.value for kind in ImageKind if any(row.record.kind is kind for row in rows)],
            origins=contents.origins(inventory, rows),
            size=sum(weights.whole.values()),
            left_out=sum(record.size for record in inventory.blobs.values() if record.in_ is not None),
            last=last,
            news=news,
            pictures=[_picture(shape, inventory, weights, places) for shape in _SHAPES],
            files=[File(name, media.size_of(self._place / name), checksums[name]) for name in sorted(checksums)],
            image_set=pretty_json(inventory.image_set).decode(),
        )


def _picture(shape: Shape, inventory: Inventory, weights: Weights, places: Places) -> Picture:
    tall = min(max(shape.height, _PER_VOLUME * len(inventory.volumes)), _TALLEST)
    names = [volume.name.removesuffix(".tar.zst") for volume in inventory.volumes]
    volumes = {name: _weights(within, places) for name, within in zip(names, weights.volumes, strict=True)}
    boxes = treemap(_weights(weights.whole, places), shape.width, shape.height)
    return Picture(shape, boxes, tall, framed(volumes, shape.width, tall))


def _weights(sizes: Mapping[Purpose, int], places: Places) -> list[Weight]:
    return [Weight(purpose.package or purpose.group, size, places.get(purpose, "")) for purpose, size in sizes.items()]
