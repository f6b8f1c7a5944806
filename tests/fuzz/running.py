"""Runs targets: inputs from seeds, the limits of one input, and what is reported."""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from common.errors import HubError

SLOWEST_S = 10.0  # of CPU, for one input
HANG_S = 20.0  # by the wall clock: something waits
# Read when this is imported: a test has an environment without variables of the programs (tests/conftest.py).
SECONDS = float(os.environ.get("HUB_FUZZ_SECONDS", "0"))
SEED = os.environ.get("HUB_FUZZ_SEED", "")


def fuzz(name: str, inputs: int, check: Callable[[random.Random], object]) -> None:
    """Call `check` with a source of randomness for each input; anything raised but a HubError is a defect."""
    for seed in seeds(inputs):
        once(name, seed, check)


def once(name: str, seed: int, check: Callable[[random.Random], object]) -> bool:
    """Check one input; return whether it was let through. Raises AssertionError with the seed that repeats it."""
    began = time.process_time()
    try:
        check(random.Random(seed))
        taken = True
    except HubError:
        taken = False
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        raise AssertionError(f"{name}: HUB_FUZZ_SEED={seed}: {type(error).__name__}: {error}"[:2000]) from error
    took = time.process_time() - began
    assert took < SLOWEST_S, f"{name}: HUB_FUZZ_SEED={seed} took {took:.0f} s of CPU"
    return taken


def seeds(inputs: int) -> Iterator[int]:
    """Yield the seeds of one target's inputs, as the environment asks for."""
    if SEED:
        yield int(SEED)
        return
    yield from range(0 if SECONDS else inputs)
    ends = time.monotonic() + SECONDS
    while time.monotonic() < ends:
        yield secrets.randbits(48)


@contextlib.contextmanager
def no_hang() -> Iterator[Callable[[], None]]:
    """Give what has to be called for each input; HANG_S after a call the input is a defect. For the main thread."""

    def hangs(_signal: int, _frame: FrameType | None) -> None:
        raise AssertionError(f"no end after {HANG_S:.0f} s")

    before = signal.signal(signal.SIGALRM, hangs)
    try:
        yield lambda: signal.setitimer(signal.ITIMER_REAL, HANG_S) and None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def scratch() -> Path | None:
    """Return a folder in memory for files of readers, where there is one."""
    memory = Path("/dev/shm")
    return memory if memory.is_dir() and os.access(memory, os.W_OK) else None
