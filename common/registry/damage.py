"""Content that arrives damaged: how often it is asked for again, with which pauses, and from where it came each time.

A line that flips bytes gives other ones the next time, and a cache that holds a bad copy is passed by `Cache-Control: no-cache`
(RFC 9111, 5.2.1.4). What stays damaged at one place is asked of the next.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from common.content import REPEATS, repeat_pause_s
from common.digest import Digest
from common.errors import ContentError, DamagedError
from common.log import logger

FRESH = {"Cache-Control": "no-cache"}
_HINT = (
    "A proxy, a cache or the line changes the bytes on their way: take another way (another mirror in registries.conf, "
    "no proxy), then run it again."
)
_LOG = logger(__name__)
T = TypeVar("T")


class Damages:
    """Counts by blob and place. Shared by threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[Digest, dict[str, int]] = {}

    def is_known(self, digest: Digest) -> bool:
        """Say whether a blob arrived damaged before."""
        return digest in self._counts

    def left(self, digest: Digest, places: Sequence[str]) -> list[str]:
        """Return the places that have not yet sent a blob damaged as often as it makes sense."""
        with self._lock:
            counts = self._counts.get(digest, {})
            return [place for place in places if counts.get(place, 0) < REPEATS]

    def noted(self, digest: Digest, sent: Iterable[str], places: Sequence[str], error: ContentError) -> DamagedError:
        """Count one more, from the places that `sent` the bytes; return the error, which says whether a place is left."""
        with self._lock:
            counts = self._counts.setdefault(digest, {})
            for place in sent:
                counts[place] = counts.get(place, 0) + 1
        return self.error(digest, places, error.message)

    def error(self, digest: Digest, places: Sequence[str], why: str) -> DamagedError:
        """Return the error for a blob that arrived damaged: how often, from where, and `why` the last time."""
        with self._lock:
            counts = dict(self._counts.get(digest, {}))
        told = ", ".join(f"{_times(count)} from {place}" for place, count in counts.items())
        why = why.removeprefix(f"{digest}: ")
        return DamagedError(f"{digest}: arrived damaged {told}: {why}", hint=_HINT, more=bool(self.left(digest, places)))


def repeated(action: Callable[[int], T], sleep: Callable[[float], None]) -> T:
    """Run `action`, which is given the number of the try, until its content is right; DamagedError says whether to go on.

    Other content errors may come from a bad copy, too: then it is tried once more, at once.
    """
    tries = 1
    while True:
        try:
            return action(tries)
        except ContentError as error:
            if not error_allows(error, tries):
                raise
            _LOG.info("once more: %s", error.message)
            if isinstance(error, DamagedError):
                sleep(repeat_pause_s(tries))
        tries += 1


def error_allows(error: ContentError, tries: int) -> bool:
    """Say whether another try makes sense after so many."""
    return error.more if isinstance(error, DamagedError) else tries == 1


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
