"""Waiting for object storage: a call whose trouble may pass is tried again, with growing pauses.

A service that answered before comes back: an update or a failover takes minutes, and a night's work is not lost over it. One
that never answered is more likely named wrongly, and that has to be said within seconds.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from common.errors import StorageError
from common.interruption import pause
from common.log import logger

T = TypeVar("T")
_LOG = logger(__name__)
_LONG_S = 10.0  # a person who waits as long wants to know why


class Trouble(Exception):  # noqa: N818 - an error is what a person sees; this is one that may pass
    """Something that may go away. `error` is what to raise when it does not."""

    def __init__(self, error: StorageError) -> None:
        super().__init__(error.message)
        self.error = error


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a call is tried: `known_s` in all with a service that answered before, else `tries` times within `unknown_s`."""

    known_s: float = 600.0
    unknown_s: float = 15.0
    tries: int = 5
    first_s: float = 0.25
    most_s: float = 20.0
    clock: Callable[[], float] = time.monotonic
    pause: Callable[[float], None] = pause

    def tried(self, action: Callable[[], T], is_known: Callable[[], bool]) -> T:
        """Run `action` until it raises no Trouble. Raises the trouble's error when patience ends, InterruptedByUserError."""
        began, tries = self.clock(), 0
        while True:
            self.pause(0)  # whoever was told to stop begins nothing
            tries += 1
            try:
                return action()
            except Trouble as trouble:
                wait = self._wait(tries)
                spent = self.clock() - began + wait
                if spent > self.known_s if is_known() else tries >= self.tries or (tries > 1 and spent > self.unknown_s):
                    raise trouble.error from trouble.__cause__
                log = _LOG.warning if wait >= _LONG_S else _LOG.info
                log("trying again in %.1f s: %s", wait, trouble)
            self.pause(wait)

    def _wait(self, tries: int) -> float:
        """Return the pause after so many tries; half of it is chance, so that threads do not come back all at once."""
        longest = min(self.most_s, self.first_s * 2.0 ** min(tries - 1, 30))
        return random.uniform(longest / 2, longest)  # noqa: S311 - no secret
