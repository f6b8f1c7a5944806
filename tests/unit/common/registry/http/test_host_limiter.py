from __future__ import annotations

import threading

import pytest

from common.errors import RegistryUnreachableError
from common.registry.http.errors import Trouble
from common.registry.http.host_limiter import Lane, patiently


def _lane(clock, jobs=8):
    return Lane("r.example", jobs, clock.clock, lambda _what: None)


def test_trouble_halves_and_calm_gives_back(clock):
    lane = _lane(clock)
    for _ in range(5):
        lane.slow_down(0)
    assert lane.allowed == 1
    counts = []
    while lane.allowed < 8:
        lane.went_well()
        counts.append(lane.allowed)
    assert len(counts) == 20 * (1 + 2 + 3 + 4 + 5 + 6 + 7)
    for _ in range(1000):
        lane.went_well()
    assert lane.allowed == 8


def test_pause_holds_every_thread(clock):
    lane = _lane(clock)
    lane.slow_down(30)
    lane.slow_down(10)
    with lane.turn():
        assert sum(clock.slept) == 30


def test_lane_lets_a_thread_in_again_and_another_wait(clock):
    lane = _lane(clock, jobs=1)
    entered = threading.Event()

    def other():
        with lane.turn():
            entered.set()

    with lane.turn():
        with lane.turn():
            thread = threading.Thread(target=other)
            thread.start()
        assert not entered.is_set()
    thread.join(10)
    assert entered.is_set()


def test_place_is_given_back_after_an_error(clock):
    lane = _lane(clock, jobs=1)
    with pytest.raises(ValueError, match="x"), lane.turn():
        raise ValueError("x")
    thread = threading.Thread(target=lambda: lane.turn().__enter__())
    thread.start()
    thread.join(10)
    assert not thread.is_alive()


@pytest.mark.parametrize("tries", [1, 3, 6])
def test_patience_ends(tries):
    done = []

    def action():
        done.append(1)
        raise Trouble(RegistryUnreachableError("gone"), tries)

    with pytest.raises(RegistryUnreachableError, match="gone"):
        patiently(action)
    assert len(done) == tries


def test_other_errors_are_not_tried_again():
    done = []

    def action():
        done.append(1)
        raise KeyError("x")

    with pytest.raises(KeyError):
        patiently(action)
    assert len(done) == 1
