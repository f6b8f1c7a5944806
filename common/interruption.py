"""Handling of SIGINT, SIGTERM and SIGHUP: a stop that reaches all threads.

Python runs signal handlers in the main thread only. Workers wait with `pause`, which a stop ends. This module
is imported before all others, so it imports little.
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
    from collections.abc import Iterator
    from concurrent.futures import ThreadPoolExecutor
    from types import FrameType


_STOPPED = threading.Event()
_NOTHING_DONE = "error: interrupted\n  Nothing was done yet; run the same command again.\n"
# Exit status and message while no command runs. Then there is nothing to clean up, and the process ends at once: an exception
# in the middle of an import or of the interpreter's shutdown would be printed as a traceback, or lost.
_idle: tuple[int, str] | None = None


def listen() -> None:
    """Install the handler: the signals end every pause and raise KeyboardInterrupt in the main thread."""
    for number in stop_signals():
        signal.signal(number, _stop)
    atexit.register(_ignore)  # before all others, so that it runs after them


def _ignore() -> None:
    """Ignore the signals until the process has ended."""
    # During its shutdown the interpreter restores the default action of handled signals, and the exit status would be that of
    # a killed process.
    for number in stop_signals():
        signal.signal(number, signal.SIG_IGN)


def stop_signals() -> list[signal.Signals]:
    """Return the signals that stop the program; without SIGHUP where the caller ignores it, as nohup does."""
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
    """Wait. Raises InterruptedByUserError as soon as the program is stopped."""
    if _STOPPED.wait(seconds):
        raise InterruptedByUserError("stopped")


def stop() -> None:
    """End every pause."""
    _STOPPED.set()


def is_stopped() -> bool:
    """Return whether a signal has come while a command ran."""
    return _STOPPED.is_set()


def _stop(number: int, _frame: FrameType | None) -> None:
    if _idle is not None:
        _end(*_idle)
    # A closed terminal comes as two signals, of kernel and shell (bash(1), SIGNALS): the second one must not end the
    # cleaning up after the first.
    if number == signal.SIGHUP and _STOPPED.is_set():
        return
    stop()
    raise KeyboardInterrupt


def _end(status: int, message: str) -> NoReturn:
    try:
        os.write(2, message.encode())
    except OSError:
        pass  # standard error is closed
    finally:
        os._exit(status)  # not sys.exit: no exception through an import, no joining of threads


@contextmanager
def workers(jobs: int, name: str) -> Iterator[ThreadPoolExecutor]:
    """Provide a pool of `jobs` threads. On an exception, also KeyboardInterrupt, pending tasks are cancelled."""
    # This module is loaded before signals are handled, and concurrent.futures takes 8 ms.
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415

    pool = ThreadPoolExecutor(jobs, thread_name_prefix=name)
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=True, cancel_futures=True)
        raise
    pool.shutdown(wait=True)
