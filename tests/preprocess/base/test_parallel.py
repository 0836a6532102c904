from __future__ import annotations

import threading
import time

import pytest

from preprocess.base.parallel import map_in_order


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_values_come_in_the_order_of_the_items(threads):
    def slow_first(item):
        time.sleep(0.002 * (item % 3))
        return item * item

    assert list(map_in_order(slow_first, range(30), threads)) == [i * i for i in range(30)]
    assert list(map_in_order(slow_first, [], threads)) == []


def test_the_threads_work_at_the_same_time():
    meeting = threading.Barrier(3, timeout=10)
    assert len(list(map_in_order(lambda _: meeting.wait(), range(3), threads=3))) == 3


def test_they_do_not_run_far_ahead():
    begun = []
    values = map_in_order(lambda item: begun.append(item) or item, range(1000), threads=2)
    for _ in range(5):
        next(values)
    time.sleep(0.05)
    assert len(begun) <= 5 + 2 * 2
    values.close()


def test_an_error_ends_it_with_no_thread_left():
    done = []

    def fail_at_five(item):
        if item == 5:
            raise ValueError("five")
        time.sleep(0.01)
        done.append(item)

    before = threading.active_count()
    with pytest.raises(ValueError, match="five"):
        list(map_in_order(fail_at_five, range(100), threads=3))
    assert threading.active_count() == before
    assert len(done) < 15
