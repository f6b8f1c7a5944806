"""Ctrl-C, heard by every thread.

The signal reaches the main thread alone; a worker in a pause of fifteen minutes would go on sleeping, and the process would
wait for it. So pauses are taken here, and a stop ends them all; who waits otherwise says with `on_stop` how to end that.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType

from common.errors import InterruptedByUserError

_STOPPED = threading.Event()
_ENDINGS: list[Callable[[], None]] = []


def listen() -> None:
    """Let SIGINT and SIGTERM end every pause and raise KeyboardInterrupt in the main thread."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)


def pause(seconds: float) -> None:
    """Wait. Raises InterruptedByUserError as soon as the process is told to stop."""
    if _STOPPED.wait(seconds):
        raise InterruptedByUserError("stopped")


def on_stop(ending: Callable[[], None]) -> None:
    """Have `ending` called in the main thread, at any moment, when the process is told to stop; it must not wait or raise."""
    _ENDINGS.append(ending)


def _stop(_number: int, _frame: FrameType | None) -> None:
    _STOPPED.set()
    for ending in tuple(_ENDINGS):
        ending()
    raise KeyboardInterrupt
