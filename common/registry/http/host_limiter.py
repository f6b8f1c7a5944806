"""How fast a host is asked: requests at a time, pauses that it asked for, and tries after trouble.

A host that says "later" (Retry-After) stops every thread, not only the one that heard it. The number of requests at a time
halves on trouble and grows back slowly.
"""

from __future__ import annotations

import email.utils
import threading
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import stamina
from stamina.instrumentation import RetryDetails, set_on_retry_hooks

from common.log import logger
from common.registry.http.errors import TRIES, Trouble
from common.registry.settings import MAX_RETRY_AFTER_S, Clock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import httpx

T = TypeVar("T")
_LOG = logger(__name__)
_CALM = 20  # answers without trouble, per request allowed, before one more is


def _told(details: RetryDetails) -> None:
    _LOG.info("trying again in %.1f s: %s", details.wait_for, details.caused_by)


# stamina's own hook writes to stderr, past our redaction. Hooks are the process's, so this holds wherever stamina is used.
set_on_retry_hooks([_told])


def patiently(action: Callable[[], T]) -> T:
    """Run `action` until it raises no Trouble, with growing pauses. Raises the trouble's error when tries run out."""
    try:
        return action()
    except Trouble as trouble:
        first = [trouble]
    done = 0

    def once_more() -> T:
        if first:  # the counting begins with the try that is over: most need no other
            raise first.pop()
        return action()

    def again(error: Exception) -> bool:
        nonlocal done
        done += 1
        return isinstance(error, Trouble) and done < error.tries

    try:
        for attempt in stamina.retry_context(
            on=again, attempts=TRIES, timeout=None, wait_initial=0.5, wait_max=20.0, wait_jitter=1.0
        ):
            with attempt:
                return once_more()
    except Trouble as trouble:
        raise trouble.error from trouble.__cause__
    raise AssertionError("the last attempt returns or raises")


def retry_after_s(response: httpx.Response, now_s: float) -> float:
    """Return the pause that a response asks for: seconds or a date (RFC 9110, 10.2.3), 0 without one, bounded."""
    text = response.headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), MAX_RETRY_AFTER_S)
    try:
        until = email.utils.parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):
        return 0.0
    return min(max(until - now_s, 0.0), MAX_RETRY_AFTER_S)


class Lane:
    """The way to one host. A thread on it may ask more: reading a blob while writing it must not wait for itself."""

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
        """Wait until a request may be sent, and hold the place until its response is done with."""
        thread = threading.get_ident()
        self._wait_for_host()
        ticket = object()
        with self._free:
            self._queue.append(ticket)
            try:
                self._free.wait_for(lambda: thread in self._inside or self._is_next(ticket))
                self._inside[thread] = self._inside.get(thread, 0) + 1
            finally:
                self._queue.remove(ticket)
                self._tell()
        try:
            yield
        finally:
            with self._free:
                self._inside[thread] -= 1
                if not self._inside[thread]:
                    del self._inside[thread]
                self._tell()

    def _tell(self) -> None:
        """Wake those who wait, where anybody does."""
        if self._queue:
            self._free.notify_all()

    def _is_next(self, ticket: object) -> bool:
        """First come, first served: whoever has just been served would else be the quickest to come again."""
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
            self._allowed = max(1, self._allowed // 2)
            self._open_at = max(self._open_at, self._clock.monotonic_s() + pause_s)

    @property
    def allowed(self) -> int:
        """Requests at a time, now."""
        with self._free:
            return self._allowed

    def _wait_for_host(self) -> None:
        waited = False
        while (left := self._open_at - self._clock.monotonic_s()) > 0:
            self._notify(f"{self._host} asked to wait {left:.0f} s")
            waited = True
            self._clock.sleep(left)
        if waited:
            self._notify("")
