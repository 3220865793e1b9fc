"""Cache of decoded blocks: budget, order of eviction, threads that wait, errors."""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

import numpy as np
import pytest

from pipeline.errors import CorruptImageError
from pipeline.scenes.raster.cache import Block, BlockCache, current_cache
from tests.conftest import only_on


def named(col: int) -> Block:
    return Block("file", None, (1,), 0, col)


def pixels_of(size: int) -> np.ndarray:
    return np.zeros((1, 1, size), np.uint8)


def test_the_least_recently_used_goes_first_and_bytes_stay_within_the_budget():
    cache = BlockCache(budget=10)
    for col in (0, 1):
        cache.get(named(col), lambda: pixels_of(4))
    cache.get(named(0), lambda: pytest.fail("is kept"))
    cache.get(named(2), lambda: pixels_of(4))
    assert [named(col) in cache for col in range(3)] == [True, False, True]
    assert (cache.held, cache.decoded) == (8, 3)
    cache.budget = 4
    assert [named(col) in cache for col in range(3)] == [False, False, True]
    cache.clear()
    assert cache.held == 0


def test_what_is_needed_last_goes_first_and_what_nobody_needs_before_that():
    cache = BlockCache(budget=12)
    cache.announce({named(0): 5, named(1): 9, named(7): 1})
    for col in (0, 1, 2):
        cache.get(named(col), lambda: pixels_of(4))
    cache.get(named(3), lambda: pixels_of(4))
    assert [named(col) in cache for col in range(4)] == [True, True, False, True]
    cache.announce({named(3): 10})
    cache.get(named(4), lambda: pixels_of(4))
    assert [named(col) in cache for col in range(5)] == [True, True, False, False, True]
    cache.announce({named(0): None})
    cache.get(named(5), lambda: pixels_of(4))
    assert [named(col) in cache for col in range(6)] == [False, True, False, False, True, True]


def test_what_is_still_needed_comes_back_from_the_disk_without_decoding():
    cache = BlockCache(budget=4)
    cache.announce({named(0): 5, named(1): 1})
    cache.get(named(0), lambda: np.full((1, 1, 4), 7, np.uint8))
    cache.get(named(1), lambda: pixels_of(4))
    cache.get(named(2), lambda: pixels_of(4))
    back = cache.get(named(0), lambda: pytest.fail("is put aside"))
    assert back.tolist() == [[[7, 7, 7, 7]]]
    assert not back.flags.writeable
    assert (cache.held, cache.decoded) == (4, 3)
    cache.announce({named(0): None})
    cache.get(named(3), lambda: pixels_of(4))
    cache.get(named(0), lambda: pixels_of(4))
    assert cache.decoded == 5


def test_the_last_block_is_kept_even_if_it_exceeds_the_budget():
    cache = BlockCache(budget=1)
    cache.get(named(0), lambda: pixels_of(4))
    cache.get(named(0), lambda: pytest.fail("is kept"))
    cache.get(named(1), lambda: pixels_of(2))
    assert cache.held == 2


def test_a_block_that_is_being_decoded_is_waited_for():
    cache, started, proceed = BlockCache(), threading.Event(), threading.Event()

    def slow() -> np.ndarray:
        started.set()
        assert proceed.wait(10)
        return pixels_of(3)

    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(cache.get, named(0), slow)
        assert started.wait(10)
        others = [pool.submit(cache.get, named(0), lambda: pytest.fail("decoded twice")) for _ in range(3)]
        proceed.set()
        assert all(other.result(10) is first.result(10) for other in others)
    assert cache.decoded == 1


def test_an_error_reaches_all_who_wait_and_is_not_kept():
    cache, started, proceed = BlockCache(), threading.Event(), threading.Event()

    def broken() -> np.ndarray:
        started.set()
        assert proceed.wait(10)
        raise CorruptImageError("no such luck")

    def wait() -> np.ndarray:
        waiting.release()
        return cache.get(named(0), lambda: pixels_of(1))

    waiting = threading.Semaphore(0)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(cache.get, named(0), broken)
        assert started.wait(10)
        second = pool.submit(wait)
        assert waiting.acquire(timeout=10)
        while not cache._pending[named(0)]._condition._waiters:  # until it does wait
            time.sleep(0.001)
        proceed.set()
        for future in (first, second):
            with pytest.raises(CorruptImageError, match="no such luck"):
                future.result(10)
    assert cache.get(named(0), lambda: pixels_of(1)).shape == (1, 1, 1)


def test_an_interrupt_of_one_thread_does_not_fail_another():
    cache, started, proceed = BlockCache(), threading.Event(), threading.Event()

    def interrupted() -> np.ndarray:
        started.set()
        assert proceed.wait(10)
        raise KeyboardInterrupt

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(cache.get, named(0), interrupted)
        assert started.wait(10)
        second = pool.submit(cache.get, named(0), lambda: pixels_of(2))
        proceed.set()
        with pytest.raises(KeyboardInterrupt):
            first.result(10)
        assert second.result(10).shape == (1, 1, 2)


@only_on("linux", "darwin", why="fork")
def test_a_forked_process_does_not_wait_for_its_parents_threads():
    def decode() -> None:
        current_cache().get(named(0), lambda: pixels_of(1))

    with BlockCache() as cache, cache._lock:  # as another thread may at the moment of the fork
        child = os.fork()
        if child == 0:
            thread = threading.Thread(target=copy_context().run, args=(decode,), daemon=True)
            thread.start()
            thread.join(10)
            os._exit(int(named(0) not in cache._kept))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_each_context_has_the_cache_it_entered_and_loses_it_at_the_end():
    outside = current_cache()
    with BlockCache() as first:
        first.get(named(0), lambda: pixels_of(4))
        with BlockCache() as second:
            assert current_cache() is second
            second.clear()
        assert current_cache() is first
        assert first.held == 4
        assert copy_context().run(current_cache) is first
    assert current_cache() is outside
    assert first.held == 0
