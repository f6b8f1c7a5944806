"""What a benchmark found: a figure beside its bar."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isinf, isnan
from statistics import median

from tests.bench.meter import Measured


@dataclass(frozen=True)
class Row:
    """A figure, NaN where it was not measured; `bar`: what it may be at most. `detail`: what it was made of, or why it is missing."""

    what: str
    figure: float
    bar: float
    unit: str = "×"
    detail: str = ""

    @property
    def met(self) -> bool:
        return self.figure <= self.bar

    def line(self) -> str:
        """Return the row of a Markdown table."""
        if isnan(self.figure):
            return f"| {self.what} | {self.bar:g} {self.unit} | not measured | | {self.detail} |"
        if isinf(self.bar):
            return f"| {self.what} | no bar | {self.figure:.{_digits(self.figure)}f} {self.unit} | | {self.detail} |"
        verdict = "yes" if self.met else "**no**"
        return f"| {self.what} | {self.bar:g} {self.unit} | {self.figure:.{_digits(self.figure)}f} {self.unit} | {verdict} | {self.detail} |"


def _digits(figure: float) -> int:
    return 0 if figure >= 100 else 2 if figure >= 0.01 or not figure else 4


HEAD = "| what | at most | measured | met | from |\n|---|---|---|---|---|"


def table(rows: Iterable[Row]) -> str:
    """Return rows as a Markdown table."""
    return "\n".join([HEAD, *(row.line() for row in rows)])


def typical(measured: Sequence[Measured], what: str) -> float:
    """Return the median of one figure."""
    return median(float(getattr(one, what)) for one in measured)


def ratio(ours: Sequence[Measured], theirs: Sequence[Measured], what: str) -> float:
    """Return ours over theirs, medians."""
    return typical(ours, what) / max(typical(theirs, what), 1e-9)
