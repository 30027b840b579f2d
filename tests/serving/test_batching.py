"""Items of several threads share calls, and a bad one spoils none but itself."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from keras_ctxattr.serving.batching import Batcher, BusyError


class Doubler:
    """Doubles numbers, fails on negative ones, remembers its batches, and waits where asked to."""

    def __init__(self, is_open=True):
        self.batches = []
        self.gate = threading.Event()
        self.entered = threading.Event()
        if is_open:
            self.gate.set()

    def __call__(self, numbers):
        self.entered.set()
        assert self.gate.wait(10)
        self.batches.append(list(numbers))
        bad = [number for number in numbers if number < 0]
        if bad:
            raise ValueError(f"bad {bad[0]}")
        return [2 * number for number in numbers]


def submit_behind(batcher, function, items, **weights):
    """Submits items while the function is busy with another one, so that they all wait."""
    (first,) = batcher.submit([1000])
    assert function.entered.wait(10)
    futures = batcher.submit(items, **weights)
    function.gate.set()
    assert first.result(10) == 2000
    return futures


def test_what_waits_is_one_batch_in_the_order_it_came():
    function = Doubler(is_open=False)
    with Batcher(function, max_batch=4) as batcher:
        futures = submit_behind(batcher, function, list(range(10)))
        assert [future.result(10) for future in futures] == [2 * n for n in range(10)]
    assert function.batches == [[1000], [0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_a_bad_item_fails_alone_with_its_own_error():
    function = Doubler(is_open=False)
    with Batcher(function, max_batch=16) as batcher:
        items = [0, 1, -2, 3, 4, -5, 6, 7]
        futures = submit_behind(batcher, function, items)
        for item, future in zip(items, futures, strict=True):
            if item < 0:
                with pytest.raises(ValueError, match=f"bad {item}"):
                    future.result(10)
            else:
                assert future.result(10) == 2 * item


def test_heavy_items_do_not_share_a_batch():
    function = Doubler(is_open=False)
    with Batcher(function, max_weight=10) as batcher:
        futures = submit_behind(batcher, function, [1, 2, 3, 4], weights=[6, 4, 99, 1])
        assert [future.result(10) for future in futures] == [2, 4, 6, 8]
    assert function.batches[1:] == [[1, 2], [3], [4]]


def test_more_than_may_wait_is_refused_whole_and_nothing_is_lost():
    function = Doubler(is_open=False)
    with Batcher(function, max_batch=1, max_waiting=3) as batcher:
        (first,) = batcher.submit([1])
        assert function.entered.wait(10)
        kept = batcher.submit([2, 3])
        with pytest.raises(BusyError, match="2 images are waiting"):
            batcher.submit([4, 5])
        kept += batcher.submit([6])
        function.gate.set()
        assert [future.result(10) for future in [first, *kept]] == [2, 4, 6, 12]


def test_closing_finishes_what_waits_and_takes_nothing_more():
    function = Doubler(is_open=False)
    batcher = Batcher(function, max_batch=2)
    futures = submit_behind(batcher, function, [1, 2, 3])
    batcher.close()
    assert [future.result(0) for future in futures] == [2, 4, 6]
    with pytest.raises(BusyError, match="stopping"):
        batcher.submit([1])


def test_a_cancelled_item_costs_nothing():
    function = Doubler(is_open=False)
    with Batcher(function, max_batch=8) as batcher:
        (first,) = batcher.submit([1])
        assert function.entered.wait(10)
        cancelled, kept = batcher.submit([2, 3])
        assert cancelled.cancel()
        function.gate.set()
        assert first.result(10) == 2 and kept.result(10) == 6
    assert function.batches == [[1], [3]]


def test_many_threads_lose_nothing():
    with Batcher(Doubler(), max_batch=7, max_waiting=1000) as batcher:

        def call(number):
            (future,) = batcher.submit([number])
            return future.result(10)

        with ThreadPoolExecutor(20) as pool:
            assert list(pool.map(call, range(500))) == [2 * number for number in range(500)]


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match="must be at least 1"):
        Batcher(Doubler(), max_batch=0)
