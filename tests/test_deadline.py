"""Time limits for attempts, pauses and parts together."""

import threading
import time

import pytest

from pipeline.deadline import Deadline, DeadlinePassedError


def test_results_and_errors_of_work_come_through():
    deadline = Deadline(10)
    assert deadline.wait_for(lambda _: 5, "work") == 5
    with pytest.raises(ZeroDivisionError):
        deadline.wait_for(lambda _: 1 / 0, "work")


def test_work_that_does_not_end_is_given_up_and_knows_it():
    noticed = threading.Event()

    def work(abandoned):
        if abandoned.wait(10):
            noticed.set()

    begun = time.monotonic()
    with pytest.raises(DeadlinePassedError, match=r"work: nothing within 0\.1 s"):
        Deadline(0.1).wait_for(work, "work")
    assert time.monotonic() - begun < 5
    assert noticed.wait(5)


def test_pauses_end_before_the_deadline():
    deadline = Deadline(5)
    assert deadline.pause(0)
    begun = time.monotonic()
    assert not deadline.pause(60)
    assert time.monotonic() - begun < 1
    assert not Deadline(0).pause(0)
    assert Deadline(0).has_passed


def test_progress_extends_to_the_limit_at_most():
    deadline = Deadline(0.0)
    deadline.limit_s = 100
    deadline.extend(50)
    assert 49 < deadline.left_s <= 50
    deadline.extend(1e9)
    assert 99 < deadline.left_s <= 100
