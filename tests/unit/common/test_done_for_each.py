"""Work for each of many items by a few threads."""

from __future__ import annotations

import threading
import time

import pytest

from common.interruption import done_for_each


def test_results_are_in_the_order_of_the_items():
    slow = threading.Event()

    def work(item):
        if item == 0:
            assert slow.wait(10), "another thread does all the others meanwhile"
        if item == 999:
            slow.set()
        return item * 2

    assert done_for_each(work, range(1000), 2, "test") == [item * 2 for item in range(1000)]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_fewer_items_than_threads(count):
    names = set()

    def work(item):
        names.add(threading.current_thread().name)
        return item

    assert done_for_each(work, range(count), 8, "test") == list(range(count))
    assert all(name.startswith("test") for name in names)


@pytest.mark.parametrize("error", [ValueError("item 5"), KeyboardInterrupt()])
def test_after_an_error_no_thread_takes_another_item(error):
    done = []

    def work(item):
        if item == 5:
            raise error
        time.sleep(0.001)
        done.append(item)

    with pytest.raises(type(error)):
        done_for_each(work, range(10_000), 3, "test")
    assert len(done) < 5_000, "the other threads end with the items that they have"
