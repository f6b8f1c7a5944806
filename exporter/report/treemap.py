"""Sizes as areas: rectangles with a colour and a label, for a picture that needs no script. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import squarify

from common.files import size_text

MOST = 60  # boxes of one picture; what is smaller is drawn together
_LEAST = 0.2  # area of a box
_MOST_WITHIN = 12  # boxes of one volume
_CELL = 180  # width of a volume, where there are not too many
_MANY = 60  # volumes; more are drawn half as wide
_SIGN = 7.2  # width of a sign of a label, in units of the picture
_LINE = 16
_PAD = 5
_GREY = "hsl(210 14% 85%)"
_FEWEST = 4  # signs of a label that was cut; two letters and dots are no name


@dataclass(frozen=True, slots=True)
class Weight:
    """Something with a size in bytes; `href` leads to it on the page, or is empty."""

    label: str
    size: int
    href: str = ""


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle of the picture, for a weight that is `share` (of 1) of the whole."""

    weight: Weight
    share: float
    x: float
    y: float
    width: float
    height: float

    @property
    def title(self) -> str:
        """Everything that there is to say."""
        return f"{self.weight.label}: {size_text(self.weight.size)}, {100 * self.share:.1f} %"

    @property
    def label(self) -> str:
        """As much of the name as fits; nothing where that says nothing."""
        signs = int((self.width - 2 * _PAD) / _SIGN) if self.height >= _LINE + _PAD else 0
        if signs >= len(self.weight.label):
            return self.weight.label
        return f"{self.weight.label[: signs - 1]}…" if signs >= _FEWEST else ""

    @property
    def note(self) -> str:
        """The size, where there is room for a second line."""
        text = size_text(self.weight.size)
        fits = self.height >= 2 * _LINE + _PAD and len(text) * _SIGN <= self.width - 2 * _PAD
        return text if self.label and fits else ""

    @property
    def colour(self) -> str:
        """The colour of the name: the same in every picture, and light enough for dark text on it; grey for no operator."""
        if not self.weight.href:
            return _GREY
        seed = hashlib.sha256(self.weight.label.encode()).digest()
        return f"hsl({int.from_bytes(seed[:2], 'big') % 360} {45 + seed[2] % 25}% {78 + seed[3] % 8}%)"


@dataclass(frozen=True, slots=True)
class Frame:
    """A volume as a rectangle, with what lies in it."""

    outline: Box
    boxes: tuple[Box, ...]


def treemap(
    weights: Sequence[Weight], width: float, height: float, at: tuple[float, float] = (0, 0), most: int = MOST
) -> tuple[Box, ...]:
    """Return boxes that fill a rectangle, the largest first; areas are as the sizes. Nothing for no bytes.

    What nobody could see is not drawn.
    """
    total = sum(weight.size for weight in weights)
    if not total or width <= 0 or height <= 0:
        return ()
    least = total * _LEAST / (width * height)
    shown = [weight for weight in _largest(weights, most) if weight.size >= least]
    total = sum(weight.size for weight in shown)
    areas = [weight.size * width * height / total for weight in shown]
    places = squarify.squarify(areas, *at, width, height)
    return tuple(
        Box(weight, weight.size / total, *(round(place[key], 1) for key in ("x", "y", "dx", "dy")))
        for weight, place in zip(shown, places, strict=True)
    )


def framed(volumes: Mapping[str, Sequence[Weight]], width: float, height: float) -> tuple[Frame, ...]:
    """Return a rectangle for each volume, by name, in their order, row by row, filled with what lies in it."""
    columns = max(1, min(len(volumes), round(width / _CELL) * (1 if len(volumes) <= _MANY else 2)))
    wide, tall = width / columns, height / max(1, -(-len(volumes) // columns))
    total = sum(weight.size for within in volumes.values() for weight in within) or 1
    frames = []
    for number, (name, within) in enumerate(volumes.items()):
        size = sum(weight.size for weight in within)
        x, y = round(number % columns * wide, 1), round(number // columns * tall, 1)
        frames.append(_frame(Box(Weight(name, size), size / total, x, y, round(wide, 1), round(tall, 1)), within))
    return tuple(frames)


def _frame(outline: Box, within: Sequence[Weight]) -> Frame:
    head = _LINE + _PAD if outline.label else 0
    at = (outline.x, outline.y + head)
    return Frame(outline, treemap(within, outline.width, outline.height - head, at, _MOST_WITHIN))


def _largest(weights: Sequence[Weight], most: int) -> list[Weight]:
    """Return at most `most` weights, the largest first; what is left over is one more."""
    ordered = sorted((weight for weight in weights if weight.size > 0), key=lambda weight: (-weight.size, weight.label))
    if len(ordered) <= most:
        return ordered
    rest = ordered[most - 1 :]
    others = Weight(f"{len(rest)} others", sum(weight.size for weight in rest))
    return sorted((*ordered[: most - 1], others), key=lambda weight: -weight.size)
