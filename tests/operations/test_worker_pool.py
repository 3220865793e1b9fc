"""Work done by others than those who bring it."""

import threading
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextvars import ContextVar

import pytest

from pipeline.operations.worker_pool import Hands

WHO = ContextVar("WHO", default="nobody")


@pytest.fixture
def pool():
    with ThreadPoolExecutor(8) as threads:
        yield threads


def test_it_is_done_by_who_works_within_the_context_of_who_brings(pool):
    hands = Hands()

    def bring():
        WHO.set("the bringer")
        try:
            return hands.bring(lambda: (threading.current_thread(), WHO.get()))
        finally:
            hands.rest()

    brought = pool.submit(bring)
    hands.work()
    assert brought.result() == (threading.main_thread(), "the bringer")
    assert WHO.get() == "nobody"


def test_what_fails_is_for_who_brought_it_and_the_next_is_done(pool):
    hands = Hands()

    def bring():
        with pytest.raises(ZeroDivisionError):
            hands.bring(lambda: 1 / 0)
        try:
            return hands.bring(lambda: "next")
        finally:
            hands.rest()

    brought = pool.submit(bring)
    hands.work()
    assert brought.result() == "next"


def test_as_many_at_a_time_as_there_are_hands(pool):
    hands, both, most, now = Hands(), threading.Barrier(2, timeout=60), [], []

    def work():
        now.append(1)
        most.append(len(now))
        both.wait()  # two of them are needed at the same time
        now.pop()

    helper = pool.submit(hands.work)
    brought = [pool.submit(hands.bring, work) for _ in range(6)]
    threading.Thread(target=lambda: ([one.result() for one in brought], hands.rest())).start()
    hands.work()
    helper.result(timeout=60)
    assert max(most) == 2


def test_an_interrupt_ends_the_hand_and_reaches_who_brought_it(pool):
    hands = Hands()

    def interrupted():
        raise KeyboardInterrupt

    brought = pool.submit(hands.bring, interrupted)
    with pytest.raises(KeyboardInterrupt):
        hands.work()
    assert isinstance(brought.exception(), KeyboardInterrupt)


def test_what_has_not_begun_is_cancelled_when_the_hands_rest(pool):
    hands, begun = Hands(), threading.Event()
    brought = pool.submit(lambda: (begun.set(), hands.bring(lambda: "never")))
    begun.wait()
    while not hands._waiting:
        pass
    hands.rest()
    hands.work()
    assert isinstance(brought.exception(), CancelledError)
    with pytest.raises(CancelledError):
        hands.bring(lambda: "never")
