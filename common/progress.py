"""Progress: what long work tells, and the ways of showing it. Silent unless a command says otherwise.

Workers call `Progress`; what a person sees of it on stderr is made here (docs/cli.md, *Progress*). Nothing else knows tqdm.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from enum import StrEnum
from typing import Never, Protocol, TextIO

import tqdm

from common.progress_lines import BYTES, JsonLines, Plain, Pulse, duration

STILL_S = 5.0  # after which a step that stands still is said to do so
MAX_LINES = 6  # running items shown below the overall bar


class Progress(Protocol):
    """What long work tells. Every method may be called from any thread."""

    def begin(self, what: str, total: int, unit: str = BYTES) -> None:
        """Begin a step: `what` for people ("fetching 12 blobs"), `total` of `unit` (0: not known)."""
        ...

    def item(self, name: str, size: int) -> None:
        """Begin one of the things that the step works on at the same time; `size` in bytes."""
        ...

    def advance(self, size: int, item: str = "") -> None:
        """Count `size` more of the current step's unit as done, by `item` where one is running."""
        ...

    def item_end(self, name: str) -> None:
        """Take an item off the screen, done or failed."""
        ...

    def waiting(self, what: str) -> None:
        """Nothing moves now, and this is why ("quay.io asked to wait 30 s"). Empty: it moves again."""
        ...

    def end(self) -> None:
        """End the current step."""
        ...


class Silent:
    """The progress of a program that nobody watches."""

    def begin(self, what: str, total: int, unit: str = BYTES) -> None:
        """Say nothing."""

    def item(self, name: str, size: int) -> None:
        """Say nothing."""

    def advance(self, size: int, item: str = "") -> None:
        """Say nothing."""

    def item_end(self, name: str) -> None:
        """Say nothing."""

    def waiting(self, what: str) -> None:
        """Say nothing."""

    def end(self) -> None:
        """Say nothing."""


class Bars:
    """tqdm bars for a terminal: the step as a whole, and a line for each running item."""

    def __init__(self, file: TextIO, still_s: float = STILL_S) -> None:
        self._file = file
        self._still_s = still_s
        self._lock = threading.Lock()
        self._overall: tqdm.tqdm[Never] | None = None
        self._items: dict[str, tqdm.tqdm[Never]] = {}
        self._moved = time.monotonic()
        self._pulse = Pulse(still_s, self._refresh)

    def begin(self, what: str, total: int, unit: str = BYTES) -> None:
        """See `Progress.begin`."""
        with self._lock:
            self._overall = self._bar(what, total, 0, unit)
            self._moved = time.monotonic()
        self._pulse.start()

    def item(self, name: str, size: int) -> None:
        """See `Progress.item`."""
        with self._lock:
            taken = {-bar.pos for bar in self._items.values()}
            free = next((line for line in range(1, MAX_LINES + 1) if line not in taken), None)
            if free is not None:
                self._items[name] = self._bar(f"  {name}", size, free)

    def advance(self, size: int, item: str = "") -> None:
        """See `Progress.advance`."""
        with self._lock:
            self._moved = time.monotonic()
            for bar in (self._items.get(item), self._overall):
                if bar is not None:
                    bar.update(size)

    def item_end(self, name: str) -> None:
        """See `Progress.item_end`."""
        with self._lock:
            bar = self._items.pop(name, None)
            if bar is not None:
                bar.close()

    def waiting(self, what: str) -> None:
        """See `Progress.waiting`."""
        with self._lock:
            if what:  # a line of its own: beside a bar it would not fit into 80 columns
                tqdm.tqdm.write(f"waiting: {what}", file=self._file)

    def end(self) -> None:
        """See `Progress.end`."""
        self._pulse.stop()
        with self._lock:
            for bar in (*self._items.values(), self._overall):
                if bar is not None:
                    bar.close()
            self._items.clear()
            self._overall = None

    def _refresh(self) -> None:
        """Let the clock of a step that stands still go on, and say so."""
        with self._lock:
            still = time.monotonic() - self._moved
            if self._overall is not None and still >= self._still_s:
                self._overall.set_postfix_str(f"nothing for {duration(still)}")
                self._overall.set_postfix_str("", refresh=False)  # gone with the next byte

    def _bar(self, what: str, total: int, line: int, unit: str = BYTES) -> tqdm.tqdm[Never]:
        bar: tqdm.tqdm[Never] = tqdm.tqdm(
            desc=what,
            total=total or None,
            position=line,
            leave=line == 0,
            file=self._file,
            unit="B" if unit == BYTES else f" {unit}",
            unit_scale=unit == BYTES,
            unit_divisor=1024,
            mininterval=0.2,
            dynamic_ncols=True,
        )
        return bar


class BesideBars:
    """A file that lines are written to while bars are drawn on it: they go above."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str, /) -> None:
        """Write whole lines."""
        tqdm.tqdm.write(text, file=self._file, end="")


class Style(StrEnum):
    """How progress is shown; `auto` is bars on a terminal and plain lines elsewhere."""

    AUTO = "auto"
    BAR = "bar"
    PLAIN = "plain"
    JSON = "json"
    NONE = "none"


def progress_for(style: Style, file: TextIO | None = None) -> Progress:
    """Return the progress of a style, on stderr unless another file is given."""
    file = file or sys.stderr
    if style is Style.AUTO:
        style = Style.BAR if file.isatty() else Style.PLAIN
    kinds: dict[Style, Callable[[], Progress]] = {
        Style.BAR: lambda: Bars(file),
        Style.PLAIN: lambda: Plain(file),
        Style.JSON: lambda: JsonLines(file),
        Style.NONE: Silent,
    }
    return kinds[style]()
