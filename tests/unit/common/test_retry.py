"""How often, for how long and with which pauses a call is retried, on a clock that only its own pauses move."""

from __future__ import annotations

import email.utils
import logging
import re
import subprocess
import sys
from dataclasses import dataclass, field

import pytest

from common.errors import ClusterError, StorageError
from common.retry import MAX_RETRY_AFTER_S, Retries, RetryableError, RetryPolicy, retry, retry_after_s

STEADY = RetryPolicy(tries=6, jitter=0.0)


@dataclass
class Outage:
    """A call that takes `each_s` and fails until `until_s` of its own clock, with `failure`."""

    each_s: float = 0.0
    first_s: float = 0.0  # of the first try, where it takes longer
    until_s: float = 1e9
    failure: Exception = field(default_factory=lambda: RetryableError(StorageError("out")))
    now_s: float = 0.0
    tries: int = 0
    pauses: list[float] = field(default_factory=list)

    def sleep(self, seconds):
        self.now_s += seconds
        self.pauses.append(seconds)

    def call(self):
        self.tries += 1
        self.now_s += self.each_s if self.tries > 1 else self.first_s or self.each_s
        if self.now_s < self.until_s:
            raise self.failure
        return "well"

    def retried(self, policy, **options):
        return retry(self.call, policy, sleep=self.sleep, clock=lambda: self.now_s, **options)


@pytest.mark.parametrize("tries", [1, 3, 6])
def test_bound_by_tries(tries):
    outage = Outage()
    with pytest.raises(StorageError, match="out"):
        outage.retried(RetryPolicy(tries=tries))
    assert outage.tries == tries
    assert len(outage.pauses) == tries - 1


def test_pauses_double_up_to_the_longest():
    outage = Outage()
    with pytest.raises(StorageError):
        outage.retried(RetryPolicy(tries=8, first_s=0.5, longest_s=10.0, jitter=0.0))
    assert outage.pauses == [0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0]


def test_jitter_shortens_pauses_by_its_share_at_most():
    policy = RetryPolicy(first_s=8.0, jitter=0.25)
    waits = {policy.wait_s(1) for _ in range(200)}
    assert 6.0 <= min(waits) < max(waits) <= 8.0
    assert policy.wait_s(10_000) <= policy.longest_s


def test_an_outage_within_the_bound_is_waited_for():
    outage = Outage(until_s=300.0)
    assert outage.retried(RetryPolicy(within_s=600.0)) == "well"
    assert outage.now_s < 330
    assert outage.tries < 50


@pytest.mark.parametrize("each_s", [0.0, 1.0, 60.0])
def test_bound_by_elapsed_time(each_s):
    outage = Outage(each_s=each_s)
    with pytest.raises(StorageError):
        outage.retried(RetryPolicy(within_s=600.0))
    assert 500 < outage.now_s <= 600 + each_s


def test_a_first_failure_longer_than_the_bound_is_retried_once():
    outage = Outage(each_s=60.0)
    with pytest.raises(StorageError):
        outage.retried(RetryPolicy(within_s=15.0))
    assert outage.tries == 2


def test_a_failure_brings_bounds_of_its_own():
    outage = Outage(failure=RetryableError(StorageError("out"), 3, within_s=15.0))
    with pytest.raises(StorageError):
        outage.retried(RetryPolicy(within_s=600.0))
    assert outage.tries == 3
    slow = Outage(each_s=10.0, failure=RetryableError(StorageError("out"), 5, within_s=15.0))
    with pytest.raises(StorageError):
        slow.retried(RetryPolicy(within_s=600.0))
    assert slow.tries == 2


def test_a_failure_brings_its_pause():
    outage = Outage(until_s=60.0, failure=RetryableError(StorageError("out"), wait_s=30.0))
    outage.retried(STEADY)
    assert outage.pauses == [30.0, 30.0]


def test_other_types_are_retried_where_named_and_raised_as_they_are():
    error = ClusterError("busy", hint="Wait.")
    outage = Outage(failure=error)
    with pytest.raises(ClusterError) as caught:
        outage.retried(STEADY, on=ClusterError)
    assert caught.value is error
    assert outage.tries == 6


def test_other_errors_are_final():
    outage = Outage(failure=KeyError("x"))
    with pytest.raises(KeyError):
        outage.retried(STEADY)
    assert outage.tries == 1


def test_the_cause_is_kept():
    def action():
        raise RetryableError(StorageError("out")) from ConnectionResetError("reset")

    with pytest.raises(StorageError) as caught:
        retry(action, RetryPolicy(tries=2))
    assert isinstance(caught.value.__cause__, ConnectionResetError)


def test_reset_after_progress():
    outage, moved = Outage(until_s=1e9), []
    retries = Retries(RetryPolicy(tries=3), sleep=outage.sleep, clock=lambda: outage.now_s)
    with pytest.raises(StorageError):
        for attempt in retries:
            with attempt:
                if len(moved) < 5:
                    moved.append(True)
                    retries.reset()
                outage.call()
    assert outage.tries == 5 + 2


def test_in_a_generator_that_is_closed():
    ended = []

    def stream():
        for attempt in Retries(STEADY):
            with attempt:
                try:
                    yield 1
                    raise RetryableError(StorageError("out"))
                finally:
                    ended.append(True)

    chunks = stream()
    assert [next(chunks), next(chunks)] == [1, 1]
    chunks.close()
    assert len(ended) == 2


def test_long_pauses_are_reported(caplog):
    told, outage = [], Outage(until_s=15.0, failure=RetryableError(StorageError("busy", hint="Wait."), wait_s=15.0))
    with caplog.at_level(logging.INFO):
        outage.retried(STEADY, notify=told.append)
    assert told == ["trying again in 15 s: busy", ""]
    assert [record.levelname for record in caplog.records] == ["INFO"]


def test_long_pauses_are_logged_as_warnings_where_they_are_not_reported(caplog):
    outage = Outage(until_s=15.0, failure=RetryableError(StorageError("busy", hint="Wait."), wait_s=15.0))
    outage.retried(STEADY)
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "trying again in 15.0 s: busy")
    ]


def test_a_report_says_until_when():
    told, outage = [], Outage(until_s=100.0)
    outage.retried(RetryPolicy(within_s=180.0, jitter=0.0), notify=told.append)
    first = next(iter(told))
    assert re.fullmatch(r"trying again in 8 s, until \d\d:\d\d:\d\d \(172 s\): out", first)
    assert told.count("") == len(told) // 2
    assert len(told) < 2 * 10


def test_the_end_of_an_outage_is_a_bound():
    failure = RetryableError(StorageError("out"), policy=RetryPolicy(within_s=600.0))
    failure.until_s = 90.0
    outage = Outage(failure=failure)
    with pytest.raises(StorageError):
        outage.retried(STEADY)
    assert 60 < outage.now_s <= 90


def test_the_error_of_the_last_try_is_raised():
    tried, untried = RetryableError(StorageError("503")), RetryableError(StorageError("not sent"))
    untried.is_untried = True
    failures = [tried, untried]

    def call():
        raise failures.pop(0)

    with pytest.raises(StorageError, match="503"):
        retry(call, RetryPolicy(tries=2), sleep=lambda _seconds: None)


def test_tries_count_failures_that_are_bounded_by_tries():
    """A single 500 after an outage that took twelve tries is not the end."""
    out, once = RetryableError(StorageError("out"), policy=RetryPolicy(within_s=180.0)), RetryableError(StorageError("500"))
    outage, failures = Outage(), [*[out] * 12, once, once]

    def call():
        if failures:
            raise failures.pop(0)
        return "well"

    assert retry(call, RetryPolicy(tries=3), sleep=outage.sleep, clock=lambda: outage.now_s) == "well"


def test_a_long_first_try_is_no_part_of_the_bound():
    """An upload of half an hour that breaks at its end: the registry restarts, and is away for a minute."""
    outage = Outage(each_s=1.0, until_s=1860.0, first_s=1800.0)
    assert outage.retried(RetryPolicy(within_s=180.0, from_failure=True)) == "well"


def test_slow_tries_are_made_as_often_as_the_policy_says():
    outage = Outage(each_s=200.0)
    with pytest.raises(StorageError):
        outage.retried(RetryPolicy(within_s=180.0, least=6))
    assert outage.tries == 6


def test_short_pauses_are_logged_only(caplog):
    told, outage = [], Outage(until_s=1.0)
    with caplog.at_level(logging.INFO):
        outage.retried(STEADY, notify=told.append)
    assert not told
    assert {record.levelname for record in caplog.records} == {"INFO"}


_WORKER = """
import os, signal, threading
from common import interruption
from common.errors import InterruptedByUserError, StorageError
from common.retry import RetryableError, RetryPolicy, retry

failed = threading.Event()

def action():
    failed.set()
    raise RetryableError(StorageError("out"), wait_s=900.0)

def work():
    try:
        retry(action, RetryPolicy(tries=6))
    except InterruptedByUserError:
        print("ended")

interruption.listen()
thread = threading.Thread(target=work)
thread.start()
try:
    failed.wait()
    os.kill(os.getpid(), signal.SIGTERM)
    thread.join()
except KeyboardInterrupt:
    thread.join()
"""


def test_sigterm_ends_the_pause_of_a_worker():
    """A process of its own, for a stop cannot be taken back; the pause would be 15 minutes."""
    done = subprocess.run([sys.executable, "-c", _WORKER], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "ended\n"


@pytest.mark.parametrize(
    ("text", "pause_s"),
    [("30", 30.0), (" 30 ", 30.0), ("99999999999", MAX_RETRY_AFTER_S), ("-5", 0), ("soon", 0), ("²", 0), ("", 0)],
)
def test_retry_after(text, pause_s):
    assert retry_after_s(text, 0.0) == pause_s


@pytest.mark.parametrize(("ahead_s", "pause_s"), [(30, 30.0), (-30, 0.0), (10_000, MAX_RETRY_AFTER_S)])
def test_retry_after_a_date(ahead_s, pause_s):
    now_s = 1_700_000_000.0
    assert retry_after_s(email.utils.formatdate(now_s + ahead_s, usegmt=True), now_s) == pause_s
