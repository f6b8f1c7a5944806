"""A clock that a test moves; sleeping takes no time and is written down."""

from __future__ import annotations

import threading
from collections.abc import Callable

from common.registry.settings import Clock


class FakeClock:
    """`clock` is what the client takes; `slept` what it waited, in seconds."""

    def __init__(self, now_s: float = 1_700_000_000.0) -> None:
        self._lock = threading.Lock()
        self._passed_s = 0.0
        self._now_s = now_s
        self.slept: list[float] = []
        self.on_sleep: Callable[[float], None] = lambda _seconds: None
        self.clock = Clock(lambda: 1000.0 + self._passed_s, lambda: self._now_s + self._passed_s, self._sleep)

    def advance(self, seconds: float) -> None:
        with self._lock:
            self._passed_s += seconds

    def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.advance(seconds)
        self.on_sleep(seconds)
