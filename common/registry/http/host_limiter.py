"""State of one host: requests at a time, pauses that it asks for (Retry-After), and how long it has been out (ADR 0042).

A pause that a host asks for holds every thread, not only the one that received the answer. The number of requests at a time
halves when a request fails (429, 5xx), and grows back slowly.

An outage begins with the first failure of the host and ends with its first answer that is none. It is waited for during
`Timeouts.outage_s`, by all calls together: a host that stays out longer is asked once in a while, and once for each of a few
other repositories; every other call fails at once. So a run over hundreds of images ends minutes after its registry did.
"""

from __future__ import annotations

import threading
from collections import deque
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from common.progress import duration
from common.registry.http.errors import PATIENT, POLICY, REPOSITORIES, BusyError, OutageError, Question, not_sent
from common.retry import MAX_RETRY_AFTER_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from common.errors import RegistryError
    from common.registry.settings import Clock


_CALM = 20  # answers without trouble, per request allowed, before one more is
_PROBE_S = 10.0  # between two requests to a host that has been out for too long; one that gets no answer takes as long


class HostLimiter:
    """Limits the requests to one host.

    A thread inside may send more: one that reads a blob while it writes it must not wait for itself.
    """

    def __init__(self, host: str, jobs: int, outage_s: float, clock: Clock, notify: Callable[[str], None]) -> None:
        self._host = host
        self._jobs = self._allowed = jobs
        self._outage_s = outage_s
        self._clock = clock
        self._notify = notify
        self._free = threading.Condition()
        self._inside: dict[int, int] = {}
        self._queue: deque[object] = deque()
        self._open_at = 0.0
        self._calm = 0
        self._asked_by = host
        self._asked_s = 0.0  # pauses that the host asked for, since it last answered well
        self._excused_s = 0.0  # all of them
        self._out_since_s: float | None = None
        self._failure: RegistryError | None = None  # the last one of the outage
        self._failed_at_s = 0.0
        self._failing: set[str] = set()  # repositories that were asked in the outage
        self._askable = 0  # how many may be
        self._in_vain = False
        self._reporting = 0

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait until a request may be sent, and count it until its response is closed."""
        thread = threading.get_ident()
        self._wait_for_host()
        self._enter(thread)
        while self._left_s() > 0 and self._inside[thread] == 1:  # asked for while this thread was in the queue
            self._leave(thread)
            self._wait_for_host()
            self._enter(thread)
        try:
            yield
        finally:
            self._leave(thread)

    def _enter(self, thread: int) -> None:
        ticket = object()
        with self._free:
            self._queue.append(ticket)
            try:
                self._free.wait_for(lambda: thread in self._inside or self._is_next(ticket))
                self._inside[thread] = self._inside.get(thread, 0) + 1
            finally:
                self._queue.remove(ticket)
                self._wake()

    def _leave(self, thread: int) -> None:
        with self._free:
            self._inside[thread] -= 1
            if not self._inside[thread]:
                del self._inside[thread]
            self._wake()

    def _wake(self) -> None:
        """Wake the waiting threads."""
        if self._queue:  # mostly nothing waits, and notifying is not free
            self._free.notify_all()

    def _is_next(self, ticket: object) -> bool:
        """Say whether it is this ticket's turn: without a queue, the thread that was just served would win the race again."""
        return self._queue[0] is ticket and len(self._inside) < self._allowed

    def went_well(self) -> None:
        """Count an answer; after enough of them one more request at a time is allowed."""
        with self._free:
            self._calm += 1
            if self._calm >= _CALM * self._allowed and self._allowed < self._jobs:
                self._allowed += 1
                self._calm = 0
                self._free.notify_all()

    def slow_down(self, pause_s: float, by: str = "") -> float:
        """Halve the requests at a time, and send none for `pause_s` seconds; return how much of that is granted.

        `by`: who asked for it, the host itself by default.

        Pauses add up to MAX_RETRY_AFTER_S until the host answers well. What it asks for beyond is not granted.
        """
        with self._free:
            self._calm = 0
            self._allowed = max(1, self._allowed // 2)  # as TCP does; six threads that all retry would prolong an overload
            now_s = self._clock.monotonic_s()
            # A later answer may ask for less, and must not shorten the pause of an earlier one.
            further_s = max(0.0, now_s + pause_s - max(self._open_at, now_s))
            further_s = min(further_s, max(0.0, MAX_RETRY_AFTER_S - self._asked_s))
            self._asked_s += further_s
            self._excused_s += further_s
            self._open_at = max(self._open_at, now_s) + further_s
            self._asked_by = by or self._host
            return self._open_at - now_s

    def patience_s(self) -> float:
        """Return a time that stands still during the pauses that the host asks for: they are no reason to give up."""
        return self._clock.monotonic_s() - self._excused_s + max(0.0, self._left_s())

    def open_s(self) -> float:
        """Return the time at which the next request may be sent: now, or at the end of the pause that the host asked for."""
        return max(self._open_at, self._clock.monotonic_s())

    def check(self, question: Question) -> None:
        """Raise OutageError without a request where the host has been out for too long, and was asked a moment ago."""
        with self._free:
            now_s = self.patience_s()
            if self._failure is None or not self._is_given_up(now_s):
                return
            if now_s - self._failed_at_s >= _PROBE_S:
                self._failed_at_s = now_s  # this thread asks; the others do not until it has an answer
                return
            # One repository may be out alone, behind a proxy that has a server for each path: another one shows it.
            if question.repository not in self._failing and len(self._failing) < self._askable:
                self._failing.add(question.repository)  # this thread asks
                return
            failure, out_s = self._failure, now_s - (self._out_since_s or 0.0)
        refusal = OutageError(not_sent(question, self._host, failure, duration(out_s)))
        refusal.until_s, refusal.is_untried = now_s, True
        raise refusal

    def failed(self, failure: BusyError, repository: str = "") -> None:
        """Note a failure of the host, for a request in a repository, and set how long its call is retried."""
        # Only a host that answers is overloaded. One that does not takes as many requests as before when it is back.
        granted_s = self.slow_down(failure.asked_s, failure.by) if failure.error.status else 0.0
        failure.wait_s = 0.0 if failure.asked_s and granted_s else None  # the turn waits for the rest
        if not isinstance(failure, OutageError):
            return
        with self._free:
            now_s = self.patience_s()
            if self._out_since_s is None:
                self._out_since_s = now_s
            self._failure, self._failed_at_s, self._askable = failure.error, now_s, failure.repositories
            if len(self._failing) < REPOSITORIES:
                self._failing.add(repository)
            failure.until_s = self._out_since_s + self._outage_s
            failure.policy = POLICY if self._in_vain else replace(PATIENT, within_s=self._outage_s)

    def answered(self) -> None:
        """Note an answer that is no failure: an outage has ended."""
        if self._failure is not None or self._asked_s:
            with self._free:
                self._failure = self._out_since_s = None
                self._failing.clear()
                self._asked_s = 0.0

    def waited(self, *, in_vain: bool) -> None:
        """Note whether a call that failed at first came to its end by retries.

        While the rest of the host works, a request may fail for ever, for a blob that its storage has lost: where
        waiting did not help one call, the next ones get fewer tries.
        """
        self._in_vain = in_vain

    def report(self, what: str) -> None:
        """Report the reason of a pause, and an empty text after it; of threads that wait together, the first one."""
        with self._free:
            self._reporting += 1 if what else -1
            shown = self._reporting == (1 if what else 0)
        if shown:
            self._notify(what)

    def _is_given_up(self, now_s: float) -> bool:
        return self._out_since_s is not None and now_s - self._out_since_s >= self._outage_s

    @property
    def allowed(self) -> int:
        """Requests at a time, now."""
        with self._free:
            return self._allowed

    def _wait_for_host(self) -> None:
        while (left := self._left_s()) > 0:
            self.report(f"{self._asked_by} asked to wait {left:.0f} s")
            try:
                self._clock.sleep(left)
            finally:
                self.report("")

    def _left_s(self) -> float:
        """Return the rest of the pause that the host asked for."""
        return self._open_at - self._clock.monotonic_s()
