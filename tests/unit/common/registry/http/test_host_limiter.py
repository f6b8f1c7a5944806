from __future__ import annotations

import threading

import pytest

from common.registry.http.host_limiter import HostLimiter
from common.retry import MAX_RETRY_AFTER_S


def _limiter(clock, jobs=8):
    return HostLimiter("r.example", jobs, 180.0, clock.clock, lambda _what: None)


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


def test_pauses_have_a_bound_together_until_an_answer(clock):
    limiter = _limiter(clock)
    for asked_s, granted_s in ((600, 600), (200, 600), (600, 600), (1000, 900)):
        assert limiter.slow_down(asked_s) == granted_s
    with limiter.turn():
        assert sum(clock.slept) == MAX_RETRY_AFTER_S
    assert limiter.slow_down(10) == 0
    limiter.answered()
    assert limiter.slow_down(10) == 10


def test_patience_stands_still_during_pauses(clock):
    limiter = _limiter(clock)
    before_s = limiter.patience_s()
    limiter.slow_down(30)
    assert limiter.patience_s() == before_s
    clock.advance(20)
    assert limiter.patience_s() == before_s
    clock.advance(25)
    assert limiter.patience_s() == before_s + 15


def test_a_pause_that_begins_while_a_thread_is_in_the_queue_holds_it_too(clock):
    limiter = _limiter(clock, jobs=1)
    entered = threading.Event()

    def other():
        with limiter.turn():
            entered.set()

    with limiter.turn():
        thread = threading.Thread(target=other)
        thread.start()
        while not limiter._queue:
            pass
        limiter.slow_down(30)
    assert entered.wait(10)
    thread.join(10)
    assert clock.slept == [30]


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
