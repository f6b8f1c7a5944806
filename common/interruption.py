"""SIGINT, SIGTERM and SIGHUP: heard by every thread, from the first line of a program to its last.

A signal reaches the main thread alone; a worker in a pause of fifteen minutes would go on sleeping, and the process would
wait for it. So pauses are taken here, and a stop ends them all; code that waits otherwise registers an ending with `on_stop`.

Before a command runs, and after it, there is nothing to clean up: a signal ends the process at once, for an exception in the
middle of an import or of the interpreter's shutdown would be printed as a trace, or swallowed. This module is imported before
anything else, and imports little.
"""

from __future__ import annotations

import atexit
import os
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

from common.errors import ExitCode, InterruptedByUserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import ThreadPoolExecutor
    from types import FrameType

_STOPPED = threading.Event()
_ENDINGS: list[Callable[[], None]] = []
_NOTHING_DONE = "error: interrupted\n  Nothing was done yet; run the same command again.\n"
_idle: tuple[int, str] | None = None  # the exit status and the message while no command runs


def listen() -> None:
    """Let SIGINT, SIGTERM and SIGHUP end every pause and raise KeyboardInterrupt in the main thread.

    A SIGHUP that the caller ignores stays ignored: that is what nohup is for.
    """
    for number in heard():
        signal.signal(number, _stop)
    atexit.register(_ignore)  # before all others, so that it runs after them


def _ignore() -> None:
    """Ignore the signals until the process is gone: of those that are handled, the interpreter restores the default action."""
    for number in heard():
        signal.signal(number, signal.SIG_IGN)


def heard() -> list[signal.Signals]:
    """Return the signals that end a program."""
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return [signal.SIGINT, signal.SIGTERM, *([] if ignored else [signal.SIGHUP])]


def loading(*, quiet: bool) -> None:
    """Let a signal end the process at once with status 130, until `working`. `quiet`: without a message."""
    global _idle  # noqa: PLW0603 - signals are the process's
    _idle = (int(ExitCode.INTERRUPTED), "" if quiet else _NOTHING_DONE)


def working() -> None:
    """Let a signal raise KeyboardInterrupt, until `finished`: a command runs, and cleans up."""
    global _idle  # noqa: PLW0603
    _idle = None


def finished(status: int) -> None:
    """Let a signal end the process at once, with the status of the command that has ended."""
    global _idle  # noqa: PLW0603
    _idle = (status, "")


def pause(seconds: float) -> None:
    """Wait. Raises InterruptedByUserError as soon as the process is told to stop."""
    if _STOPPED.wait(seconds):
        raise InterruptedByUserError("stopped")


def on_stop(ending: Callable[[], None]) -> None:
    """Have `ending` called in the main thread, at any moment, when the process is told to stop; it must not wait or raise."""
    _ENDINGS.append(ending)


def stop() -> None:
    """End every pause, and all that `on_stop` knows of."""
    _STOPPED.set()
    for ending in tuple(_ENDINGS):
        ending()


def _stop(_number: int, _frame: FrameType | None) -> None:
    if _idle is not None:
        _end(*_idle)
    stop()
    raise KeyboardInterrupt


def _end(status: int, message: str) -> NoReturn:
    try:
        os.write(2, message.encode())
    except OSError:
        pass  # no standard error, nobody to read it
    finally:
        os._exit(status)


# A pool of threads that ends at once when the work is given up.


@contextmanager
def workers(jobs: int, name: str) -> Iterator[ThreadPoolExecutor]:
    """Give a pool of `jobs` threads. On an exception, Ctrl-C among them, what was not begun is never begun."""
    # This module is loaded before signals are handled, and concurrent.futures takes 8 ms.
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415

    pool = ThreadPoolExecutor(jobs, thread_name_prefix=name)
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=True, cancel_futures=True)
        raise
    pool.shutdown(wait=True)
