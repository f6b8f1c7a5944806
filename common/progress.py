"""Progress of long operations: the interface for workers, and its displays on stderr (docs/reference/cli.md, *Progress*).

This is the only module that imports tqdm.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING, Any, Never, Protocol, TextIO

from common.files import size_text
from common.table import WIDTH, cells, cut
from common.text import enumeration, visible, visible_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import tqdm


PLAIN_INTERVAL_S = 10.0
FIRST_S = 2.0  # after which a step is reported for the first time: by then its rate says how long it will take
BYTES = "bytes"  # the unit that is shown as KiB, MiB and GiB


@dataclass(slots=True)
class Failed:
    """The items of a step that failed: how many, and what they were to add to the step."""

    count: int = 0
    size: int = 0

    def add(self, size: int) -> None:
        """Count one."""
        self.count += 1
        self.size += size


class ShownWaits:
    """The reasons of pauses that were shown of late: a host may ask for a second's pause a thousand times in a row."""

    def __init__(self, interval_s: float = PLAIN_INTERVAL_S) -> None:
        self._interval = interval_s
        self._shown: dict[str, float] = {}

    def is_due(self, what: str, now: float) -> bool:
        """Return whether a reason is to be shown: it was not during the last interval."""
        self._shown = {text: at for text, at in self._shown.items() if now - at < self._interval}
        if what in self._shown:
            return False
        self._shown[what] = now
        return True


class Heartbeat:
    """Periodic call during a step, so that a stalled step is reported too."""

    def __init__(self, interval_s: float, beat: Callable[[], None]) -> None:
        self._interval = interval_s
        self._beat = beat
        self._stopped: threading.Event | None = None

    def start(self) -> None:
        """Start; a running heartbeat is stopped."""
        self.stop()
        # An event for each run: the thread of the last one may not have looked at its event yet.
        self._stopped = threading.Event()
        # A daemon: an exception in the main thread must not wait for the next beat.
        threading.Thread(target=self._run, args=(self._stopped,), name="progress", daemon=True).start()

    def stop(self) -> None:
        """Stop. A call that has begun may still be running."""
        if self._stopped is not None:
            self._stopped.set()

    def _run(self, stopped: threading.Event) -> None:
        while not stopped.wait(self._interval):
            self._beat()


class _Lines:
    """Periodic report of a step, one line each; the base of the two line formats."""

    def __init__(self, file: TextIO, interval_s: float, clock: Callable[[], float]) -> None:
        self._file = file
        self._interval = interval_s
        self._clock = clock
        self._lock = threading.Lock()
        self._what, self._total, self._done, self._unit = "", 0, 0, BYTES
        self._known = 0  # the part of it from before this step, which says nothing about the rate
        self._failed = Failed()
        self._running: dict[str, str] = {}
        self._began = self._reported = self._moved = 0.0
        self._due_s = interval_s
        self._heartbeat = Heartbeat(interval_s, self._beat)

    def begin(self, what: str, total: int, unit: str = BYTES, *, kept: bool = False) -> None:  # noqa: ARG002 - it looks the same
        """Report the begin of a step."""
        with self._lock:
            self._what, self._total, self._done, self._unit = what, total, 0, unit
            self._known, self._failed = 0, Failed()
            self._running.clear()
            self._began = self._reported = self._moved = self._clock()
            self._due_s = min(FIRST_S, self._interval)
            self._report("begin", "")
        self._heartbeat.start()

    def item(self, name: str, size: int, label: str = "") -> None:  # noqa: ARG002 - lines show the size of the step
        """Note a running item, which lines name."""
        with self._lock:
            self._running[name] = label or name

    def advance(self, size: int, item: str = "", *, moved: bool = True) -> None:  # noqa: ARG002 - as above
        """Count, and report the step when a report is due."""
        with self._lock:
            self._done += size
            self._known += 0 if moved else size
            self._moved = self._clock()
            self._report_if_due(self._moved)

    def item_end(self, name: str) -> None:
        """Forget a running item."""
        with self._lock:
            self._running.pop(name, None)

    def failed(self, size: int) -> None:
        """Note that an item failed."""
        with self._lock:
            self._failed.add(size)

    def waiting(self, what: str) -> None:
        """Report a wait at once: it may last minutes."""
        if what:
            with self._lock:
                self._report("waiting", what)

    def end(self) -> None:
        """Report the end of the step, or where it stopped: `end` also follows a failure and Ctrl-C."""
        self._heartbeat.stop()
        with self._lock:
            if self._what:  # a signal may come before the begin of the step
                self._report("end" if self._done + self._failed.size >= self._total else "stopped", "")
            self._what = ""

    def _beat(self) -> None:
        with self._lock:
            if self._what:  # a heartbeat may arrive after the end of the step
                self._report_if_due(self._clock())

    def _report_if_due(self, now: float) -> None:
        if now - self._reported >= self._due_s:
            self._reported, self._due_s = now, self._interval
            self._report("progress", "")

    def _rate(self) -> float:
        return (self._done - self._known) / max(self._clock() - self._began, 1e-3)  # never by zero

    def _report(self, event: str, text: str) -> None:
        raise NotImplementedError


class Plain(_Lines):
    """Progress as text, one line after two seconds and then every ten, for logs."""

    def __init__(self, file: TextIO, interval_s: float = PLAIN_INTERVAL_S, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(file, interval_s, clock)
        self._waits = ShownWaits(interval_s)

    def _report(self, event: str, text: str) -> None:
        is_due = self._waits.is_due(text, self._clock()) if event == "waiting" else not is_nothing(self._what, self._total)
        if is_due:
            print(visible(self._line(event, text)), file=self._file, flush=True)

    def _line(self, event: str, text: str) -> str:
        if event == "begin":
            return f"{self._what}: {size_text(self._total)}" if self._total and self._unit == BYTES else self._what
        if event == "waiting":
            return f"waiting: {text}"
        if event in ("end", "stopped"):
            return f"{self._what}: {ended(self._done, self._total, self._unit, self._clock() - self._began, self._failed)}"
        # No time left while it is stalled: the mean rate would promise an end that does not come nearer.
        rate, stalled = self._rate(), self._clock() - self._moved
        left = f", {duration(max(self._total - self._done, 0) / rate)} left" if self._total and rate else ""
        if stalled >= self._interval:
            left = f", nothing for {duration(stalled)}"
        running = enumeration(list(dict.fromkeys(self._running.values())), 1)
        return f"{self._what}: {of(self._done, self._total, self._unit)}, {per_second(rate, self._unit)}{left}" + (
            f"; {running}" if running else ""
        )


class JsonLines(_Lines):
    """Progress as JSON, one object on each line, for programs."""

    def __init__(self, file: TextIO, interval_s: float = 1.0, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(file, interval_s, clock)

    def _report(self, event: str, text: str) -> None:
        line = {
            "event": event,
            "step": self._what,
            "done": self._done,
            "total": self._total,
            "unit": self._unit,
            "perSecond": self._rate(),
            "failed": self._failed.count,
        }
        # Flushed at once: a program that reads a pipe would get the lines of minutes together.
        print(visible_json(json.dumps(line | ({"waitingFor": text} if text else {}))), file=self._file, flush=True)


def amount(number: float, unit: str) -> str:
    """Return an amount for people: `61.1 MiB`, `1 image`."""
    if unit == BYTES:
        return size_text(int(number))
    return f"{number:.0f} {unit if round(number) != 1 else unit.removesuffix('s')}"


def of(done: float, total: float, unit: str) -> str:
    """Return how much is done: `61.1 MiB of 243.5 MiB`, `20 of 40 images`; without a total the amount alone."""
    if not total:
        return amount(done, unit)
    return f"{amount(done, unit) if unit == BYTES else f'{done:.0f}'} of {amount(total, unit)}"


def per_second(rate: float, unit: str) -> str:
    """Return a rate: `5.6 MiB/s`, `0.5 images/s`."""
    return f"{size_text(int(rate)) if unit == BYTES else f'{rate:.{0 if rate >= 10 else 1}f} {unit}'}/s"  # noqa: PLR2004 - digits


def ended(done: float, total: float, unit: str, seconds: float, failed: Failed | None = None) -> str:
    """Return how a step ended: done, with items that failed, or stopped before it came to its end."""
    failed = failed or Failed()
    if done + failed.size < total:
        but = f", {failed.count} failed" if failed.count else ""
        return f"stopped at {of(done, total, unit)} after {duration(seconds)}{but}"
    if failed.count:
        return f"{failed.count} failed, {of(done, total, unit)} done in {duration(seconds)}"
    return f"done, {amount(done, unit)} in {duration(seconds)}" if done else f"done in {duration(seconds)}"


def is_nothing(what: str, total: int) -> bool:
    """Return whether a step has nothing to do, as "pushing 0 blobs" has: a person is not shown a bar for it."""
    return not total and " 0 " in what


def duration(seconds: float) -> str:
    """Return a time for people: `40 s`, `12 min`, `3 h 05 min`."""
    minutes = round(seconds / 60)
    if seconds < 100:  # noqa: PLR2004 - up to two digits of one unit
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02} min"  # noqa: PLR2004


STALL_S = 5.0  # without progress, after which a step is shown as stalled
MAX_LINES = 6  # running items shown below the overall bar; tqdm draws below the screen where a terminal has fewer lines


class Progress(Protocol):
    """Interface for long operations to report progress. Its methods may be called from any thread."""

    def begin(self, what: str, total: int, unit: str = BYTES, *, kept: bool = False) -> None:
        """Begin a step: `what` is its name ("fetching 12 blobs"), `total` its amount in `unit` (0: unknown).

        `kept`: the same command, run again, continues with what was done. See `step`, which also ends it.
        """
        ...

    def item(self, name: str, size: int, label: str = "") -> None:
        """Begin one of the parallel items of the step; `size` in bytes. It is shown as `label`, or as its name."""
        ...

    def advance(self, size: int, item: str = "", *, moved: bool = True) -> None:
        """Add `size` units to the current step, and to `item` where it is shown. `moved` False: they were there before."""
        ...

    def item_end(self, name: str) -> None:
        """End an item, done or failed."""
        ...

    def failed(self, size: int) -> None:
        """Note that an item failed; `size` is what of it was not counted with `advance`."""
        ...

    def waiting(self, what: str) -> None:
        """Report the reason of a pause ("quay.io asked to wait 30 s"); the empty string ends it."""
        ...

    def end(self) -> None:
        """End the current step."""
        ...


@contextmanager
def step(progress: Progress, what: str, total: int, unit: str = BYTES, *, kept: bool = False) -> Iterator[None]:
    """Show a step to its end, to a failure, or to Ctrl-C; see `Progress.begin`."""
    try:
        # Inside, so that a signal right after it ends the step.
        progress.begin(what, total, unit, kept=kept)
        yield
    finally:
        progress.end()


class Silent:
    """Progress that is not shown."""

    def begin(self, what: str, total: int, unit: str = BYTES, *, kept: bool = False) -> None:
        """Say nothing."""

    def item(self, name: str, size: int, label: str = "") -> None:
        """Say nothing."""

    def advance(self, size: int, item: str = "", *, moved: bool = True) -> None:
        """Say nothing."""

    def item_end(self, name: str) -> None:
        """Say nothing."""

    def failed(self, size: int) -> None:
        """Say nothing."""

    def waiting(self, what: str) -> None:
        """Say nothing."""

    def end(self) -> None:
        """Say nothing."""


class Bars:
    """Progress as bars on a terminal: one for the step, and a line for each running item."""

    def __init__(self, file: TextIO, stall_s: float = STALL_S) -> None:
        self._file = file
        self._stall_s = stall_s
        self._lock = threading.Lock()
        self._overall: tqdm.tqdm[Never] | None = None
        self._items: dict[str, tqdm.tqdm[Never]] = {}
        self._failed = Failed()
        self._moved = time.monotonic()
        self._waits = ShownWaits()
        self._heartbeat = Heartbeat(stall_s, self._refresh)

    def begin(self, what: str, total: int, unit: str = BYTES, *, kept: bool = False) -> None:  # noqa: ARG002 - it looks the same
        """Show the bar of a step."""
        with self._lock:
            self._failed = Failed()
            self._overall = None if is_nothing(what, total) else self._bar(what, total, 0, unit)
            self._moved = time.monotonic()
        self._heartbeat.start()

    def item(self, name: str, size: int, label: str = "") -> None:
        """Show the bar of an item, where one of the lines is free."""
        with self._lock:
            # tqdm stores positions as negative numbers; without one of its own a bar would overwrite another.
            taken = {-bar.pos for bar in self._items.values()}
            free = next((line for line in range(1, MAX_LINES + 1) if line not in taken), None)
            if free is not None:
                self._items[name] = self._bar(f"  {label or name}", size, free)

    def advance(self, size: int, item: str = "", *, moved: bool = True) -> None:
        """Advance the bars of the step and of the item."""
        with self._lock:
            self._moved = time.monotonic()
            for bar in (self._items.get(item), self._overall):
                if bar is None:
                    continue
                if not moved:  # tqdm computes its rate from these
                    bar.initial += size
                    bar.last_print_n += size
                bar.update(size)

    def item_end(self, name: str) -> None:
        """Remove the bar of an item."""
        with self._lock:
            bar = self._items.pop(name, None)
            if bar is not None:
                bar.close()

    def failed(self, size: int) -> None:
        """Note that an item failed."""
        with self._lock:
            self._failed.add(size)

    def waiting(self, what: str) -> None:
        """Write the reason of a pause above the bars."""
        with self._lock:
            # On a line of its own: next to a bar it would not fit into 80 columns.
            if what and self._waits.is_due(what, time.monotonic()):
                _bars().write(f"waiting: {visible(what)}", file=self._file)

    def end(self) -> None:
        """Close all bars."""
        self._heartbeat.stop()
        with self._lock:
            for bar in (*self._items.values(), self._overall):
                if bar is not None:
                    bar.postfix = ENDED
                    bar.close()
            self._items.clear()
            self._overall = None

    def _refresh(self) -> None:
        """Redraw the bar of a stalled step, with the time without progress: tqdm redraws only when there is progress."""
        with self._lock:
            stalled = time.monotonic() - self._moved
            if self._overall is not None and stalled >= self._stall_s:
                self._overall.set_postfix_str(f"nothing for {duration(stalled)}")
                self._overall.set_postfix_str("", refresh=False)  # not shown any more after the next byte

    def _bar(self, what: str, total: int, line: int, unit: str = BYTES) -> tqdm.tqdm[Never]:
        bar: tqdm.tqdm[Never] = _bars()(
            failed=self._failed,
            desc=visible(what),
            total=total or None,
            position=line,
            leave=line == 0,  # the step stays on the terminal, items disappear
            file=self._file,
            unit=unit,
            mininterval=0.2,  # seconds between two redraws; each is a write to a terminal, maybe over ssh
            dynamic_ncols=True,
        )
        return bar


ENDED = "ended"
_LEAST_BAR = 6  # cells; a shorter one shows nothing


def meter(values: Mapping[str, Any]) -> str:
    """Return the line of a bar from the values of tqdm. It is shorter than the terminal is wide, so that it is not wrapped."""
    done, total, unit, what = values["n"], values["total"] or 0, values["unit"], values["prefix"]
    width = (values["ncols"] or WIDTH) - 1
    if values["postfix"] == ENDED and not what.startswith(" "):
        return cut(f"{what}: {ended(done, total, unit, values['elapsed'], values.get('failed'))}", width)
    rate = values["rate"] or (done - values["initial"]) / max(values["elapsed"], 1e-3)
    parts = [of(done, total, unit), *([per_second(rate, unit)] if rate else [])] if done or total else []
    if values["postfix"]:
        parts.append(values["postfix"])
    elif total and rate and not what.startswith(" "):
        parts.append(f"{duration(max(total - done, 0) / rate)} left")
    share = f" {100 * min(done / total, 1):3.0f}%" if total else ""
    numbers = f"{share} {', '.join(parts)}" if parts else ""
    room = width - cells(what) - cells(numbers) - 1
    if total and room >= _LEAST_BAR:
        full = int(room * min(done / total, 1))
        return f"{what}{share} {'#' * full}{'.' * (room - full)}{numbers.removeprefix(share)}"
    return cut(cut(what, max(width - cells(numbers), _LEAST_BAR)) + numbers, width)


@cache
def _bars() -> type[tqdm.tqdm[Never]]:
    """Return the class of bars, which loads when the first is drawn."""
    import tqdm  # noqa: PLC0415 - 5 ms that neither `--help` nor a log in a file needs

    class Bar(tqdm.tqdm):  # type: ignore[type-arg]
        """A bar whose line has units, and fits the terminal: that of tqdm has neither (`M` for MiB)."""

        def __init__(self, failed: Failed, **settings: Any) -> None:
            self._failed = failed  # first: tqdm draws the bar when it is made
            super().__init__(**settings)

        def __str__(self) -> str:
            return meter({**self.format_dict, "failed": self._failed})

    return Bar


class AboveBars:
    """A text file on which bars are drawn: lines are written above them."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str, /) -> None:
        """Write whole lines."""
        _bars().write(text, file=self._file, end="")


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
        # In a file or a CI log the control characters of bars are unreadable.
        style = Style.BAR if file.isatty() else Style.PLAIN
    kinds: dict[Style, Callable[[], Progress]] = {
        Style.BAR: lambda: Bars(file),
        Style.PLAIN: lambda: Plain(file),
        Style.JSON: lambda: JsonLines(file),
        Style.NONE: Silent,
    }
    return kinds[style]()
