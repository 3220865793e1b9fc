import threading
import time

from pipeline.operations.queue import Queue


def test_names_come_in_order_and_then_it_ends():
    queue = Queue(["b", "a"])
    for name in ("b", "a"):
        assert queue.take() == name
        queue.finish()
    assert queue.take() is None


def test_what_is_put_back_comes_after_its_pause_and_behind_others():
    queue, begun = Queue(["a", "b"]), time.monotonic()
    assert queue.take() == "a"
    queue.put_back("a", 0.05)
    assert queue.take() == "b"
    queue.finish()
    assert queue.take() == "a"
    assert time.monotonic() - begun >= 0.05


def test_a_thread_waits_for_what_others_may_put_back():
    queue, got = Queue(["a"]), []
    queue.take()
    waiting = threading.Thread(target=lambda: got.append(queue.take()))
    waiting.start()
    queue.put_back("a", 0)
    waiting.join(10)
    assert got == ["a"]


def test_it_ends_for_all_when_the_last_is_finishd_or_it_is_stopped():
    for end in (Queue.finish, Queue.stop):
        queue, got = Queue(["a"]), []
        queue.take()
        waiting = threading.Thread(target=lambda queue=queue, got=got: got.append(queue.take()))
        waiting.start()
        end(queue)
        waiting.join(10)
        assert got == [None]
