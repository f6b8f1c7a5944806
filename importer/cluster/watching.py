"""What a wait shows: every thing that is waited for, since when it is as it is, and what was found to be wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from importer.cluster.finding import Finding
from importer.cluster.looks import Look

REMIND_S = 60.0


@dataclass(frozen=True, slots=True)
class Row:
    """One thing. `since_s` counts from the beginning of the wait; `before` is what it was until then, since `before_s`."""

    look: Look
    since_s: float
    before: Look | None = None
    before_s: float = 0.0


class Display(Protocol):
    """Where a wait is shown."""

    def rows(self, rows: Sequence[Row], now_s: float) -> None:
        """Show how everything is, `now_s` after the beginning."""
        ...

    def finding(self, finding: Finding) -> None:
        """Show a cause that was found."""
        ...

    def end(self) -> None:
        """Show nothing more."""
        ...


class Lines:
    """The wait as plain lines, for a log: one for each change, and a reminder now and then while nothing changes."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._last_s = 0.0

    def rows(self, rows: Sequence[Row], now_s: float) -> None:
        """Tell what has changed."""
        fresh = [row for row in rows if row.since_s == now_s]
        for row in fresh:
            was = f" (before, for {clock_text(now_s - row.before_s)}: {row.before.told})" if row.before else ""
            self._tell(f"{clock_text(now_s)} {row.look.thing}: {row.look.told}{was}")
        if fresh:
            self._last_s = now_s
        elif now_s - self._last_s >= REMIND_S:
            self._last_s = now_s
            for row in (row for row in rows if not row.look.ok):
                then = f"; {row.look.then}" if row.look.then else ""
                since = clock_text(now_s - row.since_s)
                self._tell(f"{clock_text(now_s)} still {row.look.thing}, for {since}: {row.look.state}{then}")

    def finding(self, finding: Finding) -> None:
        """Tell a cause, its evidence and its fix."""
        self._tell(finding.told)

    def end(self) -> None:
        """Nothing is left on the screen that would have to go."""


def clock_text(seconds: float) -> str:
    """Return m:ss."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"
