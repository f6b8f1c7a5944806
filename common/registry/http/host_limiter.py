"""Per-host concurrency limiter: requests at a time, and the pauses that the host asks for (Retry-After).

Such a pause holds every thread, not only the one that received the answer. The number of requests at a time halves when a
request fails (429, 5xx), and grows back slowly.
"""

from __future__ import annotations

import threading
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from common.registry.settings import Clock


_CALM = 20  # answers without trouble, per request allowed, before one more is


class HostLimiter:
    """Limits the requests to one host.

    A thread inside may send more: one that reads a blob while it writes it must not wait for itself.
    """

    def __init__(self, host: str, jobs: int, clock: Clock, notify: Callable[[str], None]) -> None:
        self._host = host
        self._jobs = self._allowed = jobs
        self._clock = clock
        self._notify = notify
        self._free = threading.Condition()
        self._inside: dict[int, int] = {}
        self._queue: deque[object] = deque()
        self._open_at = 0.0
        self._calm = 0

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait until a request may be sent, and count it until its response is closed."""
        thread = threading.get_ident()
        self.wait_for_host()
        ticket = object()
        with self._free:
            self._queue.append(ticket)
            try:
                self._free.wait_for(lambda: thread in self._inside or self._is_next(ticket))
                self._inside[thread] = self._inside.get(thread, 0) + 1
            finally:
                self._queue.remove(ticket)
                self._wake()
        try:
            yield
        finally:
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

    def slow_down(self, pause_s: float) -> None:
        """Halve the requests at a time, and send none for `pause_s` seconds."""
        with self._free:
            self._calm = 0
            self._allowed = max(1, self._allowed // 2)  # as TCP does; six threads that all retry would prolong an overload
            # A later answer may ask for less, and must not shorten the pause of an earlier one.
            self._open_at = max(self._open_at, self._clock.monotonic_s() + pause_s)

    @property
    def allowed(self) -> int:
        """Requests at a time, now."""
        with self._free:
            return self._allowed

    def wait_for_host(self) -> None:
        """Wait until the pause that the host asked for is over; `turn` does so, too."""
        waited = False
        while (left := self._open_at - self._clock.monotonic_s()) > 0:
            self._notify(f"{self._host} asked to wait {left:.0f} s")
            waited = True
            self._clock.sleep(left)
        if waited:
            self._notify("")
