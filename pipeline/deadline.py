"""Time limits that hold for all attempts, pauses and parts of something together."""

from __future__ import annotations

import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import TypeVar

T = TypeVar("T")


class DeadlinePassedError(Exception):
    """Time is up: what was waited for has not come."""


class Deadline:
    """Time that is left, by the monotonic clock; progress may extend it.

    Timeouts of sockets hold for one packet each, so a server that sends a byte now and then never reaches
    them; `wait_for` ends that, too.
    """

    def __init__(self, limit_s: float) -> None:
        """Begin now; `limit_s` is the longest time without progress."""
        self.limit_s = limit_s
        self._end = time.monotonic() + limit_s

    @property
    def left_s(self) -> float:
        """Seconds that are left, at least 0."""
        return max(0.0, self._end - time.monotonic())

    @property
    def has_passed(self) -> bool:
        """Return True when no time is left."""
        return self.left_s == 0

    def extend(self, by_s: float) -> None:
        """Grant more time for progress; never more than the limit from now on."""
        self._end = min(self._end + by_s, time.monotonic() + self.limit_s)

    def pause(self, seconds: float) -> bool:
        """Sleep and return True; return False at once if the time that is left is not longer."""
        if seconds >= self.left_s:
            return False
        time.sleep(seconds)
        return True

    def wait_for(self, work: Callable[[Event], T], name: str) -> T:
        """Return the result of `work`, or raise its error.

        A thread does it, which can't be stopped: its argument is set when nobody waits any more, and `work`
        should then end. `name` is the thread's.

        Raises
        ------
        DeadlinePassedError
            If time is up.
        """
        done: SimpleQueue[tuple[T | None, BaseException | None]] = SimpleQueue()
        abandoned = Event()

        def run() -> None:
            try:
                done.put((work(abandoned), None))
            except BaseException as error:  # noqa: BLE001 raised by the thread that waits
                done.put((None, error))

        Thread(target=run, daemon=True, name=name).start()
        try:
            result, error = done.get(timeout=self.left_s)
        except Empty:
            raise DeadlinePassedError(f"{name}: nothing within {self.limit_s:g} s") from None
        finally:
            abandoned.set()
        if error is not None:
            raise error
        return result  # type: ignore[return-value] # None only where T may be None
