"""The page itself: gathers what it says, and renders it once the archive's checksums are known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.archive import inventory_file
from common.archive.inventory import ATTACHED, ImageKind, Inventory
from common.digest import digest_of
from common.pages.page import render
from common.serialization import pretty_json
from exporter import differences
from exporter.planning import Planned
from exporter.report import contents
from exporter.report.contents import Background
from exporter.report.presentation import Presentation, presentation_of
from exporter.report.treemap import Box, Frame, Weight, framed, treemap
from exporter.report.weights import Purpose, Weights, weigh
from exporter.settings import ExportSettings

_TEMPLATE = "report.html.jinja"
_PER_VOLUME = 32  # of height
_TALLEST = 2400
_ROOM_OF_ALL = 256 * 1024
_ROOM_OF_ONE = 3 * 1024  # for an image, or for a bundle
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
    """The report of one export. Holds what only the planning knew; `render` adds what became of it."""

    def __init__(self, planned: Planned, settings: ExportSettings) -> None:
        earlier = [differences.load(path) for path in settings.since]
        self._settings = settings
        self._last = max(earlier, key=lambda inventory: inventory.created, default=None)
        self._presentations = dict(_presented(planned))
        self._chosen = planned.chosen
        bundles = sum(1 for one in planned.chosen for _ in one.selection.catalog.bundles)
        icons = sum(len(one.icon) for one in self._presentations.values())
        self.room = _ROOM_OF_ALL + icons + _ROOM_OF_ONE * (len(planned.plan.images) + bundles)
        """Bytes that the page needs on disk, at most or nearly so."""

    def render(self, inventory: Inventory, checksums: Mapping[str, str]) -> bytes:
        """Return the page. `checksums`: those of the archive's files, which lie in the output directory."""
        news = differences.between(self._last, inventory) if self._last else None
        weights = weigh(inventory)
        parts = contents.catalogs(inventory, weights, self._background(news))
        places = contents.anchors(parts)
        rows = contents.image_rows(inventory, places)
        return render(
            Path(__file__).parent,
            _TEMPLATE,
            inventory=inventory,
            identity=digest_of(inventory_file.encode(inventory)),
            signer=self._settings.signer.fingerprint if self._settings.signer else "",
            parts=parts,
            added=[operator for part in parts for operator in part.operators if operator.because],
            rows=rows,
            attached=sum(1 for image in inventory.images if image.kind in ATTACHED),
            kinds=[kind.value for kind in ImageKind if any(row.record.kind is kind for row in rows)],
            origins=contents.origins(inventory, rows),
            size=sum(weights.whole.values()),
            left_out=sum(record.size for record in inventory.blobs.values() if record.in_ is not None),
            last=self._last,
            news=news,
            pictures=[_picture(shape, inventory, weights, places) for shape in _SHAPES],
            files=[File(name, _size(self._settings.output / name), checksums[name]) for name in sorted(checksums)],
            image_set=pretty_json(inventory.image_set).decode(),
        )

    def _background(self, news: Mapping[str, Any] | None) -> Background:
        return Background(
            presentations=self._presentations,
            reasons={
                (one.name, reason.package, reason.bundle): reason.reason
                for one in self._chosen
                for reason in one.selection.reasons
                if reason.kept
            },
            asked={one.name: frozenset(package.name for package in one.request.packages) for one in self._chosen},
            changes=contents.changes_of(news) if news else {},
        )


def _presented(planned: Planned) -> Iterator[tuple[Purpose, Presentation]]:
    """Give how each operator is presented, by the head of its default channel."""
    for record, one in zip(planned.plan.catalogs, planned.chosen, strict=bool(planned.chosen)):
        for package in record.packages:
            head = next((channel.head for channel in package.channels if channel.name == package.default_channel), "")
            found = one.selection.catalog.packages.get(package.name)
            if found is not None:
                yield Purpose(record.name, package.name), presentation_of(found, head)


def _picture(shape: Shape, inventory: Inventory, weights: Weights, places: Places) -> Picture:
    tall = min(max(shape.height, _PER_VOLUME * len(inventory.volumes)), _TALLEST)
    names = [volume.name.removesuffix(".tar.zst") for volume in inventory.volumes]
    volumes = {name: _weights(within, places) for name, within in zip(names, weights.volumes, strict=True)}
    boxes = treemap(_weights(weights.whole, places), shape.width, shape.height)
    return Picture(shape, boxes, tall, framed(volumes, shape.width, tall))


def _weights(sizes: Mapping[Purpose, int], places: Places) -> list[Weight]:
    return [Weight(purpose.package or purpose.group, size, places.get(purpose, "")) for purpose, size in sizes.items()]


def _size(path: Path) -> int:
    return path.stat().st_size
