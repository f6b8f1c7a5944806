from __future__ import annotations

import threading

import pytest

from common.registry.http.host_limiter import HostLimiter
from common.registry.settings import RegistrySettings


def _limiter(clock, jobs=8):
    return HostLimiter("r.example", RegistrySettings(jobs=jobs), clock.clock, lambda _what: None)


def test_trouble_halves_and_calm_gives_back(clock):
    limiter = _limiter(clock)
    for _ in range(5):
        limiter.slow_down(0)
    assert limiter.allowed == 1
    counts = []
    while limiter.allowed < 8:
        limiter.went_well()
        counts.append(limiter.allowed)
    assert len(counts) == 20 * (1 + 2 + 3 + 4 + 5 + 6 + 7)
    for _ in range(1000):
        limiter.went_well()
    assert limiter.allowed == 8


def test_pause_holds_every_thread(clock):
    limiter = _limiter(clock)
    limiter.slow_down(30)
    limiter.slow_down(10)
    with limiter.turn():
        assert sum(clock.slept) == 30


def test_limiter_lets_a_thread_in_again_and_another_wait(clock):
    limiter = _limiter(clock, jobs=1)
    entered = threading.Event()

    def other():
        with limiter.turn():
            entered.set()

    with limiter.turn():
        with limiter.turn():
            thread = threading.Thread(target=other)
            thread.start()
        assert not entered.is_set()
    thread.join(10)
    assert entered.is_set()


def test_place_is_given_back_after_an_error(clock):
    limiter = _limiter(clock, jobs=1)
    with pytest.raises(ValueError, match="x"), limiter.turn():
        raise ValueError("x")
    thread = threading.Thread(target=lambda: limiter.turn().__enter__())
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
