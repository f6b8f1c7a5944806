"""Progress: what long work tells, and the ways of showing it. Silent unless a command says otherwise.

Workers call `Progress`; what a person sees of it on stderr is made here (docs/cli.md, *Progress*). Nothing else knows tqdm.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from enum import StrEnum
from typing import TYPE_CHECKING, Never, Protocol, TextIO

import tqdm

from common.files import size_text

if TYPE_CHECKING:
    from collections.abc import Callable

# Progress as lines: for logs, and for programs. What stands still is told too.

PLAIN_INTERVAL_S = 10.0
BYTES = "bytes"


class Pulse:
    """Calls something again and again while a step runs: what stands still has to be shown too."""

    def __init__(self, interval_s: float, beat: Callable[[], None]) -> None:
        self._interval = interval_s
        self._beat = beat
        self._stopped: threading.Event | None = None

    def start(self) -> None:
        """Begin, and end what was begun before."""
        self.stop()
        self._stopped = threading.Event()
        threading.Thread(target=self._run, args=(self._stopped,), name="progress", daemon=True).start()

    def stop(self) -> None:
        """End; a beat that has begun may still come to its end."""
        if self._stopped is not None:
            self._stopped.set()

    def _run(self, stopped: threading.Event) -> None:
        while not stopped.wait(self._interval):
            self._beat()


class _Counted:
    """Counts a step and reports it every so often; the base of the two line formats."""

    def __init__(self, file: TextIO, interval_s: float, clock: Callable[[], float]) -> None:
        self._file = file
        self._interval = interval_s
        self._clock = clock
        self._lock = threading.Lock()
        self._what, self._total, self._done, self._unit = "", 0, 0, BYTES
        self._began = self._told = self._moved = 0.0
        self._pulse = Pulse(interval_s, self._beat)

    def begin(self, what: str, total: int, unit: str = BYTES) -> None:
        """See `Progress.begin`."""
        with self._lock:
            self._what, self._total, self._done, self._unit = what, total, 0, unit
            self._began = self._told = self._moved = self._clock()
            self._tell("begin", "")
        self._pulse.start()

    def item(self, name: str, size: int) -> None:
        """See `Progress.item`."""

    def advance(self, size: int, item: str = "") -> None:  # noqa: ARG002 - lines show the step as a whole
        """See `Progress.advance`."""
        with self._lock:
            self._done += size
            self._moved = self._clock()
            self._tell_if_due(self._moved)

    def item_end(self, name: str) -> None:
        """See `Progress.item_end`."""

    def waiting(self, what: str) -> None:
        """See `Progress.waiting`."""
        if what:
            with self._lock:
                self._tell("waiting", what)

    def end(self) -> None:
        """See `Progress.end`."""
        self._pulse.stop()
        with self._lock:
            self._tell("end", "")
            self._what = ""

    def _beat(self) -> None:
        with self._lock:
            if self._what:
                self._tell_if_due(self._clock())

    def _tell_if_due(self, now: float) -> None:
        if now - self._told >= self._interval:
            self._told = now
            self._tell("progress", "")

    def _amount(self, number: float) -> str:
        if self._unit == BYTES:
            return size_text(int(number))
        return f"{number:.0f} {self._unit if round(number) != 1 else self._unit.removesuffix('s')}"

    def _rate(self) -> float:
        return self._done / max(self._clock() - self._began, 1e-3)

    def _tell(self, event: str, text: str) -> None:
        raise NotImplementedError


class Plain(_Counted):
    """One line every ten seconds, for logs."""

    def __init__(self, file: TextIO, interval_s: float = PLAIN_INTERVAL_S, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(file, interval_s, clock)

    def _tell(self, event: str, text: str) -> None:
        print(self._line(event, text), file=self._file, flush=True)

    def _line(self, event: str, text: str) -> str:
        if event == "begin":
            return f"{self._what}: {size_text(self._total)}" if self._total and self._unit == BYTES else self._what
        if event == "waiting":
            return f"waiting: {text}"
        if event == "end":
            return f"{self._what}: done, {self._amount(self._done)} in {duration(self._clock() - self._began)}"
        rate, still = self._rate(), self._clock() - self._moved
        left = f", {duration(max(self._total - self._done, 0) / rate)} left" if self._total and rate else ""
        if still >= self._interval:
            left = f", nothing for {duration(still)}"
        done = f"{self._amount(self._done)} of {self._amount(self._total)}" if self._total else self._amount(self._done)
        return f"{self._what}: {done}, {self._amount(rate)}/s{left}"


class JsonLines(_Counted):
    """One JSON object a line, for programs."""

    def __init__(self, file: TextIO, interval_s: float = 1.0, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(file, interval_s, clock)

    def _tell(self, event: str, text: str) -> None:
        line = {
            "event": event,
            "step": self._what,
            "done": self._done,
            "total": self._total,
            "unit": self._unit,
            "perSecond": self._rate(),
        }
        print(json.dumps(line | ({"waitingFor": text} if text else {})), file=self._file, flush=True)


def duration(seconds: float) -> str:
    """Return a time for people: `40 s`, `12 min`, `3 h 05 min`."""
    minutes = round(seconds / 60)
    if seconds < 100:  # noqa: PLR2004 - more says nothing more
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02} min"  # noqa: PLR2004


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
