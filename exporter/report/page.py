"""The report as a page: rendered when the checksums of the archive are known, with the sizes as treemaps."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import squarify

from common.archive import inventory_file, location, naming
from common.archive.inventory import ATTACHED, ImageKind, Inventory
from common.files import size_text
from common.pages.page import render, short_moment
from common.serialization import dump_yaml, pretty_json
from exporter.plan import diff
from exporter.report import contents
from exporter.report.contents import OperatorSizes, Purpose, sizes_by_operator
from exporter.report.facts import facts_of
from exporter.report.markdown import rendered
from exporter.report.software import ShownSoftware, shown_software

if TYPE_CHECKING:
    from common.archive.location import Place
    from exporter.plan.planning import Planned
    from exporter.report.facts import Facts
    from exporter.settings import ExportSettings, Making


# Treemaps as SVG rectangles with a colour and a label. No script draws them: the content security policy of the page allows
# none but the page's own. No I/O.

MOST = 60  # boxes of one picture: smaller items are drawn as one
_LEAST = 0.2  # area of a box, in square units; a smaller one is not visible
_MOST_WITHIN = 12  # boxes of one volume
_CELL = 180  # width of a volume, up to _MANY of them
_MANY = 60  # volumes; more are drawn half as wide, or the picture would be a column of tens of screens
_CHARACTER = 7.2  # width of a character of a label, in units of the picture: for the 13 px of page.css
_LINE = 16
_PAD = 5
_GREY = "hsl(210 14% 85%)"
_FEWEST = 4  # characters of a label that was cut; two letters and an ellipsis are no name


@dataclass(frozen=True, slots=True)
class Item:
    """An item of a treemap. `size` in bytes; `href`: its anchor on the page, or empty."""

    label: str
    size: int
    href: str = ""


@dataclass(frozen=True, slots=True)
class Box:
    """The rectangle of an item, which has `share` (of 1) of all bytes."""

    item: Item
    share: float
    x: float
    y: float
    width: float
    height: float

    @property
    def title(self) -> str:
        """Name, size and share, for the tooltip and for screen readers."""
        return f"{self.item.label}: {size_text(self.item.size)}, {100 * self.share:.1f} %"

    @property
    def label(self) -> str:
        """As much of the name as fits, empty where fewer than `_FEWEST` characters do."""
        fitting = int((self.width - 2 * _PAD) / _CHARACTER) if self.height >= _LINE + _PAD else 0
        if fitting >= len(self.item.label):
            return self.item.label
        return f"{self.item.label[: fitting - 1]}…" if fitting >= _FEWEST else ""

    @property
    def note(self) -> str:
        """The size, empty where a second line does not fit."""
        text = size_text(self.item.size)
        fits = self.height >= 2 * _LINE + _PAD and len(text) * _CHARACTER <= self.width - 2 * _PAD
        return text if self.label and fits else ""

    @property
    def colour(self) -> str:
        """The colour of the operator: a function of its name, so that it is the same in every picture; grey for other items."""
        if not self.item.href:
            return _GREY
        seed = hashlib.sha256(self.item.label.encode()).digest()
        # Lightness of at least 78 %: dark text on it needs a contrast of 4.5 : 1 (WCAG 2.1, 1.4.3), with any hue.
        return f"hsl({int.from_bytes(seed[:2], 'big') % 360} {45 + seed[2] % 25}% {78 + seed[3] % 8}%)"


@dataclass(frozen=True, slots=True)
class Frame:
    """The rectangle of a volume, with the boxes of its contents."""

    outline: Box
    boxes: tuple[Box, ...]


def treemap(
    items: Sequence[Item], width: float, height: float, at: tuple[float, float] = (0, 0), most: int = MOST
) -> tuple[Box, ...]:
    """Return boxes that fill a rectangle, the largest first, with areas in proportion to the sizes. Empty for no bytes.

    Items below `_LEAST` are left out.
    """
    total = sum(item.size for item in items)
    if not total or width <= 0 or height <= 0:
        return ()
    least = total * _LEAST / (width * height)
    shown = [item for item in _largest(items, most) if item.size >= least]
    # Scaled again without the items that were left out: squarify expects areas that fill the rectangle exactly.
    total = sum(item.size for item in shown)
    areas = [item.size * width * height / total for item in shown]
    places = squarify.squarify(areas, *at, width, height)
    return tuple(
        Box(item, item.size / total, *(round(place[key], 1) for key in ("x", "y", "dx", "dy")))
        for item, place in zip(shown, places, strict=True)
    )


def framed(volumes: Mapping[str, Sequence[Item]], width: float, height: float) -> tuple[Frame, ...]:
    """Return a rectangle for each volume, row by row in their order, filled with the boxes of its contents."""
    columns = max(1, min(len(volumes), round(width / _CELL) * (1 if len(volumes) <= _MANY else 2)))
    wide, tall = width / columns, height / max(1, -(-len(volumes) // columns))
    total = sum(item.size for within in volumes.values() for item in within) or 1
    frames = []
    for number, (name, within) in enumerate(volumes.items()):
        size = sum(item.size for item in within)
        x, y = round(number % columns * wide, 1), round(number // columns * tall, 1)
        frames.append(_frame(Box(Item(name, size), size / total, x, y, round(wide, 1), round(tall, 1)), within))
    return tuple(frames)


def _frame(outline: Box, within: Sequence[Item]) -> Frame:
    head = _LINE + _PAD if outline.label else 0
    at = (outline.x, outline.y + head)
    return Frame(outline, treemap(within, outline.width, outline.height - head, at, _MOST_WITHIN))


def _largest(items: Sequence[Item], most: int) -> list[Item]:
    """Return at most `most` items, the largest first; the last of them can stand for all smaller ones."""
    ordered = sorted((item for item in items if item.size > 0), key=lambda item: (-item.size, item.label))
    if len(ordered) <= most:
        return ordered
    rest = ordered[most - 1 :]
    others = Item(f"{len(rest)} others", sum(item.size for item in rest))
    return sorted((*ordered[: most - 1], others), key=lambda item: -item.size)


_TEMPLATE = "report.html.jinja"
_PER_VOLUME = 32  # units of height
_MAX_YAML = 64 * 1024  # characters of JSON
_TALLEST = 2400  # some screens; a terabyte on FAT32 has hundreds of volumes
Places = Mapping[Purpose, str]


@dataclass(frozen=True, slots=True)
class Shape:
    """A size of pictures, in their own units. The style sheet shows the one that fits the window."""

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
    """The report of one archive: facts of its plan, and the location of its files; `render` adds the result."""

    def __init__(self, facts: Facts, making: Making, place: Place | None = None) -> None:
        self._facts = facts
        self._making = making
        self._place = place or making.output

    @classmethod
    def of(cls, planned: Planned, settings: ExportSettings) -> Report:
        """Return the report of a plan."""
        return cls(facts_of(planned), settings.making)

    @property
    def room(self) -> int:
        """An estimate of the size of the page in bytes, rather too large than too small."""
        return self._facts.room

    def render(self, inventory: Inventory, checksums: Mapping[str, str]) -> bytes:
        """Return the page. `checksums`: those of the archive's files, in `place` or in the output directory."""
        files = [File(name, location.size_of(self._place / name), checksums[name]) for name in sorted(checksums)]
        # The digest of the inventory on the medium: with it a page and an archive can be matched.
        identity = inventory_file.identity(inventory)
        return self._page(inventory, files, identity, shown_software(self._place, inventory, identity))

    def planned(self, inventory: Inventory) -> bytes:
        """Return the page of an archive that does not exist yet: without checksums, and without an identity."""
        return self._page(inventory, [], "")

    def _page(self, inventory: Inventory, files: Sequence[File], identity: str, software: ShownSoftware | None = None) -> bytes:
        last = self._facts.last
        news = diff.between(last, inventory) if last else None
        sizes = sizes_by_operator(inventory)
        parts = contents.catalogs(inventory, sizes, self._facts.background(news))
        released = contents.releases(inventory, sizes)
        places = contents.anchors(parts, released)
        rows = contents.image_rows(inventory, places)
        return render(
            Path(__file__).parent,
            _TEMPLATE,
            printed=naming.printed(identity or "plan, no archive yet", inventory.name or "", short_moment(inventory.created)),
            markdown=rendered,
            inventory=inventory,
            identity=identity,
            bases=naming.titled(naming.needed(inventory), inventory.known_bases),
            software=software,
            signer=self._making.signer.fingerprint if self._making.signer else "",
            parts=parts,
            releases=released,
            paths=[path for path in (inventory.update_graph.paths if inventory.update_graph else ()) if path.steps],
            added=[operator for part in parts for operator in part.operators if operator.because],
            rows=rows,
            attached=sum(1 for image in inventory.images if image.kind in ATTACHED),
            kinds=[kind.value for kind in ImageKind if any(row.record.kind is kind for row in rows)],
            origins=contents.origins(inventory, rows),
            size=sum(sizes.total.values()),
            left_out=sum(record.size for record in inventory.blobs.values() if record.in_ is not None),
            last=last,
            news=news,
            pictures=[_picture(shape, inventory, sizes, places) for shape in _SHAPES],
            files=files,
            image_set=_asked(inventory.image_set),
        )


def _asked(image_set: dict[str, Any]) -> str:
    """Return the image set as it is usually written, in YAML; a long one as JSON, which takes a hundredth of the time."""
    # Sorted, as in the inventory: the page that is made of a plan in a file has the same bytes.
    text = pretty_json(image_set)
    return text.decode() if len(text) > _MAX_YAML else dump_yaml(msgspec.json.decode(text))


def _picture(shape: Shape, inventory: Inventory, sizes: OperatorSizes, places: Places) -> Picture:
    tall = min(max(shape.height, _PER_VOLUME * len(inventory.volumes)), _TALLEST)
    names = [volume.name.removesuffix(".tar.zst") for volume in inventory.volumes]
    volumes = {name: _items(within, places) for name, within in zip(names, sizes.by_volume, strict=True)}
    boxes = treemap(_items(sizes.total, places), shape.width, shape.height)
    return Picture(shape, boxes, tall, framed(volumes, shape.width, tall))


def _items(sizes: Mapping[Purpose, int], places: Places) -> list[Item]:
    return [Item(purpose.package or purpose.group, size, places.get(purpose, "")) for purpose, size in sizes.items()]
