"""How long a call is tried, on a clock that only its own pauses move."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from common.errors import InterruptedByUserError, StorageError
from common.storage.client import Patience, Trouble


@dataclass
class Time:
    """A clock; each call of what is tried takes `each_s`, and fails until `well_at`."""

    each_s: float = 0.0
    well_at: float = 1e9
    now: float = 0.0
    tries: int = 0
    pauses: list[float] = field(default_factory=list)

    def pause(self, seconds):
        self.now += seconds
        self.pauses.append(seconds)

    def call(self):
        self.tries += 1
        self.now += self.each_s
        if self.now < self.well_at:
            raise Trouble(StorageError("out"))
        return "well"

    def tried(self, *, known):
        patience = Patience(clock=lambda: self.now, pause=self.pause)
        return patience.tried(self.call, lambda: known)


def test_an_outage_of_minutes_is_waited_for():
    time = Time(well_at=300.0)
    assert time.tried(known=True) == "well"
    assert time.now < 330
    assert time.tries < 50, "pauses grow"
    assert max(time.pauses) <= 20


def test_in_the_end_it_is_said():
    time = Time(each_s=60.0)
    with pytest.raises(StorageError, match="out"):
        time.tried(known=True)
    assert 500 < time.now < 661


@pytest.mark.parametrize(("each_s", "tries", "most_s"), [(0.0, 5, 5.0), (10.0, 2, 25.0), (60.0, 2, 125.0)])
def test_a_service_that_never_answered_is_named_wrongly(each_s, tries, most_s):
    time = Time(each_s=each_s)
    with pytest.raises(StorageError, match="out"):
        time.tried(known=False)
    assert time.tries == tries
    assert time.now < most_s


def test_a_stop_ends_the_waiting():
    def stopped(seconds):
        if seconds:
            raise InterruptedByUserError("stopped")

    with pytest.raises(InterruptedByUserError):
        Patience(pause=stopped).tried(Time().call, lambda: True)
