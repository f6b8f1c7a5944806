"""Retries with exponential backoff, on stamina: how often, for how long, and with which pauses.

A failure that may pass is raised as a `RetryableError`, which carries the error to raise when the retries end. Pauses end at
SIGINT and SIGTERM in every thread, and are skipped in stamina's testing mode.
"""

from __future__ import annotations

import email.utils
import logging
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import stamina
from stamina.instrumentation import set_on_retry_hooks

from common.interruption import pause

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from types import TracebackType

    from common.errors import HubError


T = TypeVar("T")
MAX_RETRY_AFTER_S = 900.0  # a server that asks for more is treated as one that fails
_MAX_DATE = 64  # characters of a Retry-After; a date has 29
_REPORTED_S = 10.0  # pauses from this length on are shown: shorter ones end before a person reads of them
_LOG = logging.getLogger(__name__)

# stamina's default hooks write to a logger of their own, past the redaction of secrets. `Retries` logs instead.
set_on_retry_hooks([])


class RetryableError(Exception):
    """A failure that may pass; `error` is raised in its place when the retries end.

    `policy` replaces that of the call for this failure, `tries` and `within_s` its bounds. `wait_s` replaces its pause: what a
    server asked for with Retry-After, or 0. `until_s`: no try begins later, by the clock of the `Retries`. `is_untried`: no try
    was made; where one was before, its error is raised in the end.
    """

    def __init__(
        self,
        error: HubError,
        tries: int | None = None,
        *,
        within_s: float | None = None,
        wait_s: float | None = None,
        policy: RetryPolicy | None = None,
    ) -> None:
        super().__init__(error.message)
        self.error = error
        self.tries = tries
        self.within_s = within_s
        self.wait_s = wait_s
        self.policy = policy
        self.until_s: float | None = None
        self.is_untried = False


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Bounds and pauses of one kind of call; None is no bound.

    `tries` counts the first one too, and only failures with such a bound. `within_s` is elapsed time to the start of the next
    try, from the start of the first one, or with `from_failure` from its failure; `least` tries are made in any case.
    Pauses double from `first_s` up to `longest_s`; `jitter` is the share of each that is random.
    """

    tries: int | None = None
    within_s: float | None = None
    from_failure: bool = False
    least: int = 2
    first_s: float = 0.5
    longest_s: float = 20.0
    jitter: float = 0.5

    def wait_s(self, failures: int) -> float:
        """Return the pause after so many failures."""
        longest = min(self.longest_s, self.first_s * 2.0 ** min(failures - 1, 30))  # 2.0 ** 1024 would raise OverflowError
        # Threads that failed together, at a host that restarts, do not return to it together.
        return longest * (1.0 - self.jitter * random.random())  # noqa: S311 - no secret


class _First:
    """The first try. It runs without stamina, which took a tenth of the CPU of a request: most calls need no other."""

    def __init__(self, on: tuple[type[Exception], ...]) -> None:
        self._on = on
        self.failure: Exception | None = None

    def take(self) -> Exception | None:
        """Return the failure, once."""
        failure, self.failure = self.failure, None
        return failure

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool:
        if isinstance(error, self._on):
            self.failure = error
            return True
        return False


class Retries:
    """The tries of one call, as an iterator of context managers; the block in them runs until it raises nothing.

        for attempt in Retries(policy):
            with attempt:
                return call()

    `on`: further types of error that are retried, and raised as they are in the end. `notify` receives the reason for a long
    pause, and an empty text after it. `sleep` and `clock` (seconds, monotonic) are replaced in tests. Raises
    InterruptedByUserError as soon as the process is stopped.

    `failures` counts since the start, or since `reset`. `is_out_of_time`: the retries ended by `within_s`.
    """

    def __init__(
        self,
        policy: RetryPolicy,
        *,
        on: type[Exception] | tuple[type[Exception], ...] = (),
        notify: Callable[[str], None] | None = None,
        sleep: Callable[[float], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._policy = policy
        self._on: tuple[type[Exception], ...] = (RetryableError, *(on if isinstance(on, tuple) else (on,)))
        self._notify = notify
        self._sleep = sleep
        self._clock = clock
        self._began = 0.0
        self._failed_first = 0.0
        self._skipped_s = 0.0
        self._counted = 0  # failures that are bounded by tries
        self.failures = 0
        self.is_out_of_time = False
        self._tried: RetryableError | None = None

    def __iter__(self) -> Iterator[AbstractContextManager[object]]:
        self.reset()
        first = _First(self._on)
        yield first
        if first.failure is None:
            return
        try:
            # The bounds are checked in the hook: they may be the failure's own, and stamina's cannot be reset.
            for attempt in stamina.retry_context(on=self._after, attempts=None, timeout=None):
                failed = first.take()
                if failed is None:
                    yield attempt
                    continue
                with attempt:
                    raise failed
        except RetryableError as failure:
            last = self._tried if failure.is_untried and self._tried else failure
            raise last.error from last.__cause__

    def reset(self) -> None:
        """Count from the start again, after progress: a transfer that moves may break any number of times."""
        self._began = self._now_s()
        self.failures = self._counted = 0

    def _after(self, failure: Exception) -> float | bool:
        """Wait after a failure, or return False for one that is final (a backoff hook of stamina)."""
        if not isinstance(failure, self._on):
            return False
        self.failures += 1
        if self.failures == 1:
            self._failed_first = self._now_s()
        own = failure if isinstance(failure, RetryableError) else None
        self._tried = own if own and not own.is_untried else self._tried
        policy = own.policy if own and own.policy is not None else self._policy
        wait_s = own.wait_s if own and own.wait_s is not None else policy.wait_s(self.failures)
        within_s = own.within_s if own and own.within_s is not None else policy.within_s
        # An upload of half an hour that breaks at its end is to be retried as long as a HEAD.
        began = self._failed_first if policy.from_failure else self._began
        deadline_s = by_s = began + within_s if within_s is not None else None
        if own and own.until_s is not None:
            deadline_s = own.until_s if by_s is None else min(own.until_s, by_s)
            wait_s = min(wait_s, max(0.0, own.until_s - self._now_s()))  # the last try is at the end of the time, not before
        if self._is_over(own, policy, wait_s, by_s):
            return False
        self._pause(wait_s, str(failure).partition("\n")[0], deadline_s)  # without the hint, which is for the end
        return 0.0  # stamina sleeps in time.sleep, which no signal ends in a worker thread: all of the pause was here

    def _is_over(self, own: RetryableError | None, policy: RetryPolicy, wait_s: float, by_s: float | None) -> bool:
        """Say whether there is no further try; `by_s`: when the time of the policy, or of the failure, ends."""
        tries = own.tries if own and own.tries is not None else policy.tries
        if tries is not None:
            self._counted += 1  # an outage that was survived before is no reason to give up after a single 500
            if self._counted >= tries:
                return True
        now_s = self._now_s()
        if own and own.until_s is not None and now_s >= own.until_s:
            return True
        # One timeout of the network may be longer than the bound, and is no reason to give up.
        self.is_out_of_time = by_s is not None and self.failures >= policy.least and now_s + wait_s > by_s
        return self.is_out_of_time

    def _now_s(self) -> float:
        return self._clock() + self._skipped_s

    def _pause(self, wait_s: float, why: str, deadline_s: float | None) -> None:
        pause(0)  # a stop breaks connections: that is neither reported nor tried again
        if not wait_s:
            _LOG.info("trying again: %s", why)
            return
        if self._sleep in (None, pause) and stamina.is_testing():
            self._skipped_s += wait_s  # the time of a test does not pass; bounds by time hold all the same
            return
        lasts_s = self._now_s() - self._failed_first if deadline_s is not None else 0.0
        is_long = wait_s + lasts_s >= _REPORTED_S
        until = f", until {_time_of_day(deadline_s - self._now_s())}" if deadline_s is not None else ""
        # The one that is notified shows it; a warning as well would be a second line on the same terminal.
        (_LOG.warning if is_long and not self._notify else _LOG.info)("trying again in %.1f s%s: %s", wait_s, until, why)
        if is_long and self._notify:
            self._notify(f"trying again in {wait_s:.0f} s{until}: {why}")
        try:
            (self._sleep or pause)(wait_s)
        finally:
            if is_long and self._notify:
                self._notify("")


def _time_of_day(ahead_s: float) -> str:
    """Return the local time so many seconds from now, and how far that is."""
    at = time.strftime("%H:%M:%S", time.localtime(time.time() + ahead_s))
    return f"{at} ({ahead_s:.0f} s)"


def retry(
    action: Callable[[], T],
    policy: RetryPolicy,
    *,
    on: type[Exception] | tuple[type[Exception], ...] = (),
    notify: Callable[[str], None] | None = None,
    sleep: Callable[[float], None] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> T:
    """Return the result of `action`, called until it raises nothing that is retried; see `Retries`."""
    for attempt in Retries(policy, on=on, notify=notify, sleep=sleep, clock=clock):
        with attempt:
            return action()
    raise AssertionError("the last attempt returns or raises")


def retry_after_s(text: str, now_s: float) -> float:
    """Return the pause of a Retry-After header, seconds or a date (RFC 9110, 10.2.3): bounded, 0 where it is neither."""
    text = text[:_MAX_DATE].strip()
    if text.isascii() and text.isdigit():  # isdigit alone is true for "²", which int() refuses
        return min(float(text[:9]), MAX_RETRY_AFTER_S)
    try:
        until = email.utils.parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):
        return 0.0
    return min(max(until - now_s, 0.0), MAX_RETRY_AFTER_S)
