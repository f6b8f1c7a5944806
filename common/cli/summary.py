"""The end of a command for people: how much was done, in which time, and the next command."""

from __future__ import annotations

import shlex
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from common.files import size_text
from common.interruption import is_stopped
from common.log import SECRETS
from common.progress import BYTES, Failed, duration, of, per_second
from common.table import CommandLine

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from common.progress import Progress


_CONFIDENTIAL = "--auth-token"  # the only option whose value is a secret
_MASKED = "***"


@dataclass(slots=True)
class Step:
    """A step of a command, as `Progress.begin` describes it, and how much of it is done. `moved` was not there before."""

    what: str
    total: int
    unit: str
    kept: bool
    began: float
    done: int = 0
    moved: int = 0
    failed: Failed = field(default_factory=Failed)
    ended: float | None = None

    @property
    def seconds(self) -> float:
        """How long it took."""
        return (time.monotonic() if self.ended is None else self.ended) - self.began


class Measured:
    """A progress display that keeps what its steps amounted to. Shared by threads."""

    def __init__(self, shown: Progress) -> None:
        self._shown = shown
        self._lock = threading.Lock()
        self._began = time.monotonic()
        self.steps: list[Step] = []

    def begin(self, what: str, total: int, unit: str = BYTES, *, kept: bool = False) -> None:
        """Begin a step."""
        self.steps.append(Step(what, total, unit, kept, time.monotonic()))
        self._shown.begin(what, total, unit, kept=kept)

    def item(self, name: str, size: int, label: str = "") -> None:
        """Begin an item."""
        self._shown.item(name, size, label)

    def advance(self, size: int, item: str = "", *, moved: bool = True) -> None:
        """Count, and show."""
        with self._lock:
            # Threads advance the step; one that has none, such as a lookup before the first step, is not counted.
            if self.steps:
                self.steps[-1].done += size
                self.steps[-1].moved += size if moved else 0
        self._shown.advance(size, item, moved=moved)

    def item_end(self, name: str) -> None:
        """End an item."""
        self._shown.item_end(name)

    def failed(self, size: int) -> None:
        """Note a failure, and show it."""
        if is_stopped():  # its connection was shut down (ADR 0090): the step was stopped, and did not come to its end
            return
        with self._lock:
            if self.steps:
                self.steps[-1].failed.add(size)
        self._shown.failed(size)

    def waiting(self, what: str) -> None:
        """Show the reason of a pause."""
        self._shown.waiting(what)

    def end(self) -> None:
        """End the step."""
        if self.steps:
            # Also after a failure or Ctrl-C: `left` compares the amounts, not whether a step has ended.
            self.steps[-1].ended = time.monotonic()
        self._shown.end()

    @property
    def seconds(self) -> float:
        """How long the command has run."""
        return time.monotonic() - self._began

    def taken(self) -> str:
        """Return how long the command took: `took 12 min`."""
        return f"took {duration(self.seconds)}"

    def amount(self, begin: str, verb: str, size: int | None = None) -> str:
        """Return what the steps that begin so have moved, with the mean rate: `fetched 243.5 MiB at 5.6 MiB/s`; or nothing.

        `size`: the bytes of it that arrived, where items may have failed after some of theirs had moved.
        """
        found = [step for step in self.steps if step.what.startswith(begin) and step.unit == BYTES and step.moved]
        # Several steps may have the same work, such as one for each volume in object storage: pauses between them do not count.
        size = sum(step.moved for step in found) if size is None else size
        seconds = sum(step.seconds for step in found)
        return f"{verb} {size_text(size)} at {per_second(size / max(seconds, 1e-3), BYTES)}" if found and size else ""

    def left(self) -> str:
        """Return how far the last step came, where it did not come to its end; empty where it did."""
        step = self.steps[-1] if self.steps else None
        # Without a total, as in a wait for the cluster, nothing says how far a step came.
        if step is None or not step.total or step.done >= step.total:
            return ""
        if step.done + step.failed.size < step.total:
            stopped = "stopped at "
        elif step.unit == BYTES:
            stopped = ""
        else:
            return ""  # what failed of it is what the error is about
        failed = f", {step.failed.count} failed" if step.failed.count else ""
        return f"{step.what}: {stopped}{of(step.done, step.total, step.unit)}{failed}"

    def kept(self) -> str:
        """Return what an interrupted command keeps, and the advice; empty where no step of it says so."""
        if any(step.kept for step in self.steps):
            return "Completed work is kept; run the same command again to continue."
        return "Nothing was changed by this step; run the same command again." if self.left() else ""


def lasted(taken: Measured | None, begin: str, verb: str, size: int | None = None) -> list[str]:
    """Return the line about the time of a command, and what its steps have moved (`Measured.amount`)."""
    return ["; ".join(filter(None, (taken.amount(begin, verb, size), taken.taken())))] if taken is not None else []


def next_command(says: str, *words: str) -> CommandLine:
    """Return a line with a command for copying: `says` and the words, quoted for a shell."""
    return CommandLine(f"{says}: {SECRETS.mask(shlex.join(words))}")


def indented_command(words: Sequence[str]) -> CommandLine:
    """Return a line with nothing but a command, quoted for a shell."""
    return CommandLine(f"  {SECRETS.mask(shlex.join(words))}")


def same_command(*, without: Collection[str] = (), more: Sequence[str] = ()) -> list[str]:
    """Return the words of the running command as typed, `without` some flags and with `more`; no secret is in them."""
    program, *typed = sys.argv
    words = [Path(program).name, *(word for word in typed if word.partition("=")[0] not in without), *more]
    for number, word in enumerate(words):
        option, equals, _ = word.partition("=")
        if option == _CONFIDENTIAL:
            # The next word where the value is none of this one.
            words[number : number + 2 - bool(equals)] = [f"{option}={_MASKED}"]
    return words
