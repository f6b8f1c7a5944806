"""CPU seconds and memory of one call, measured by `resource` in a child process."""

from __future__ import annotations

import os
import pickle
import resource
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Spent:
    """What a call took. `memory`: growth of the peak, in bytes; `error`: the text of what it raised, with its class."""

    cpu: float
    memory: int
    error: str


def spent(call: Callable[[], object]) -> Spent:
    """Run a call in a forked child, so that neither the memory of the caller nor of other calls counts."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 on fork() of a process with threads
        pid = os.fork()
    if pid == 0:
        os.close(reading)
        try:
            with os.fdopen(writing, "wb") as pipe:
                pickle.dump(_measured(call), pipe)
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        content = pipe.read()
    os.waitpid(pid, 0)
    assert content, "the child ended without a result"
    measured: Spent = pickle.loads(content)
    return measured


def _measured(call: Callable[[], object]) -> Spent:
    # The high-water mark of a new process is its size at that time (Linux, kernel/fork.c, dup_mm).
    before, began, error = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time(), ""
    try:
        call()
    except BaseException as raised:
        error = f"{type(raised).__name__}: {raised}"
        if not error.strip():
            traceback.print_exc()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return Spent(time.process_time() - began, (peak - before) * 1024, error)
