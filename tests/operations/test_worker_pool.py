"""Work done by other threads than those that submit it."""

import threading
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextvars import ContextVar

import pytest

from pipeline.operations.worker_pool import WorkerPool

WHO = ContextVar("WHO", default="nobody")


@pytest.fixture
def pool():
    with ThreadPoolExecutor(8) as threads:
        yield threads


def test_work_is_done_by_a_worker_within_the_context_of_the_submitter(pool):
    workers = WorkerPool()

    def submit():
        WHO.set("the submitter")
        try:
            return workers.run(lambda: (threading.current_thread(), WHO.get()))
        finally:
            workers.stop()

    submitted = pool.submit(submit)
    workers.work()
    assert submitted.result() == (threading.main_thread(), "the submitter")
    assert WHO.get() == "nobody"


def test_an_error_reaches_the_submitter_and_the_next_work_is_done(pool):
    workers = WorkerPool()

    def submit():
        with pytest.raises(ZeroDivisionError):
            workers.run(lambda: 1 / 0)
        try:
            return workers.run(lambda: "next")
        finally:
            workers.stop()

    submitted = pool.submit(submit)
    workers.work()
    assert submitted.result() == "next"


def test_as_many_at_a_time_as_there_are_workers(pool):
    workers, both, most, now = WorkerPool(), threading.Barrier(2, timeout=60), [], []

    def work():
        now.append(1)
        most.append(len(now))
        both.wait()  # two of them are needed at the same time
        now.pop()

    helper = pool.submit(workers.work)
    submitted = [pool.submit(workers.run, work) for _ in range(6)]
    threading.Thread(target=lambda: ([one.result() for one in submitted], workers.stop())).start()
    workers.work()
    helper.result(timeout=60)
    assert max(most) == 2


def test_an_interrupt_ends_the_worker_and_reaches_the_submitter(pool):
    workers = WorkerPool()

    def interrupted():
        raise KeyboardInterrupt

    submitted = pool.submit(workers.run, interrupted)
    with pytest.raises(KeyboardInterrupt):
        workers.work()
    assert isinstance(submitted.exception(), KeyboardInterrupt)


def test_work_that_has_not_begun_is_cancelled_when_the_pool_stops(pool):
    workers, begun = WorkerPool(), threading.Event()
    submitted = pool.submit(lambda: (begun.set(), workers.run(lambda: "never")))
    begun.wait()
    while not workers._waiting:
        pass
    workers.stop()
    workers.work()
    assert isinstance(submitted.exception(), CancelledError)
    with pytest.raises(CancelledError):
        workers.run(lambda: "never")
