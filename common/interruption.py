"""Handling of SIGINT, SIGTERM and SIGHUP: a stop that reaches all threads.

Python runs signal handlers in the main thread only. Workers wait with `pause`, which a stop ends, or for the network: their
connections are shut down while they are waited for (`end`, ADR 0090). This module is imported before all others, so it
imports little.
"""

from __future__ import annotations

import atexit
import os
import signal
import threading
from collections import deque
from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, NoReturn, TypeVar

from common.errors import ExitCode, InterruptedByUserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from concurrent.futures import Future, ThreadPoolExecutor
    from types import FrameType


T = TypeVar("T")
R = TypeVar("R")
_AHEAD = 256  # items given to a pool whose results were not taken yet
_STOPPED = threading.Event()
_STEP_S = 0.1  # a worker may open a connection after the others were shut down
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
    if is_stopped():  # the interpreter waits for threads that were not ended, as after a second signal; nothing else connects
        _disconnect_until(threading.Event())


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
        pool.shutdown(wait=True)
    except BaseException:
        end(pool)
        raise


def in_order(pool: ThreadPoolExecutor, work: Callable[[T], R], items: Iterable[T]) -> Iterator[tuple[T, R]]:
    """Yield each item with its result, in their order; a pool gets some hundred at a time, for a future takes a KiB."""
    begun: deque[tuple[T, Future[R]]] = deque()
    for item in items:
        begun.append((item, pool.submit(work, item)))
        if len(begun) >= _AHEAD:
            first, future = begun.popleft()
            yield first, future.result()
    for one, future in begun:
        yield one, future.result()


def done_for_each(work: Callable[[T], R], items: Sequence[T], jobs: int, name: str) -> list[R]:
    """Return the result of `work` for each item, in their order; `jobs` threads do it.

    Each thread takes the next item when it is free: there is no future for each item, which takes a KiB, and no item waits for
    a slow one before it. After an error no thread takes another item; the error is raised.
    """
    results: dict[int, R] = {}
    positions, lock, over = iter(range(len(items))), threading.Lock(), threading.Event()

    def taken() -> int | None:
        with lock:
            return None if over.is_set() else next(positions, None)

    def take_all() -> None:
        try:
            while (position := taken()) is not None:
                results[position] = work(items[position])
        except BaseException:
            over.set()
            raise

    with workers(min(jobs, len(items)) or 1, name) as pool:
        try:
            for future in [pool.submit(take_all) for _ in range(min(jobs, len(items)))]:
                future.result()
        except BaseException:
            over.set()  # KeyboardInterrupt is raised here, not in the threads
            raise
    return [results[position] for position in range(len(items))]


def end(pool: ThreadPoolExecutor) -> None:
    """Cancel the pending tasks of a pool and wait for the running ones; once the program is stopped, for no network."""
    try:
        with _disconnecting() if is_stopped() else nullcontext():
            pool.shutdown(wait=True, cancel_futures=True)
    except KeyboardInterrupt:
        # Before Python 3.13 the threads count as ended then (bpo-45274), and nothing waits for them, also not the interpreter.
        with _disconnecting():
            pool.shutdown(wait=True, cancel_futures=True)
        raise


@contextmanager
def _disconnecting() -> Iterator[None]:
    """Shut down the connections of this process again and again during the block; afterwards, clean-up may connect again."""
    over = threading.Event()
    thread: threading.Thread | None = None
    try:
        thread = _disconnect_until(over)  # within: after a second signal in this call it would cut what is cleaned up, too
        yield
    finally:
        over.set()
        if thread is not None:
            thread.join()


def _disconnect_until(over: threading.Event) -> threading.Thread:
    def run() -> None:
        while True:
            _disconnect()
            if over.wait(_STEP_S):
                return

    thread = threading.Thread(target=run, name="disconnect", daemon=True)
    thread.start()
    return thread


def _disconnect() -> None:
    """Shut down the TCP connections of this process, whichever library made them; threads that wait for them are woken."""
    import socket  # noqa: PLC0415 - takes 3 ms; only a stop needs it

    numbers = list[str]()
    with suppress(OSError):  # without /dev, connections end by their timeouts
        numbers = os.listdir("/dev/fd")  # noqa: PTH208 - this module imports little
    for number in map(int, numbers):
        with suppress(OSError):  # it is no socket, or closed meanwhile
            # Python makes sockets with close-on-exec (PEP 446); one without it was given by the caller of the program.
            if os.get_inheritable(number):
                continue
            found = socket.socket(fileno=number)
            try:
                # No datagrams: the resolver of glibc reads on from one that was shut down, in a busy loop, until its timeout.
                if found.family in (socket.AF_INET, socket.AF_INET6) and found.type == socket.SOCK_STREAM:
                    found.shutdown(socket.SHUT_RDWR)
            finally:
                found.detach()  # its owner closes it
