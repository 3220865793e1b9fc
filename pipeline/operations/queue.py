"""What is still to be done by the threads of a batch, and when."""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Iterable
from threading import Condition


class Queue:
    """Names in order, some of them only due later. It ends when none is left and none is being worked at."""

    def __init__(self, names: Iterable[str]) -> None:
        self._order = itertools.count()
        self._waiting: list[tuple[float, int, str]] = [(0.0, next(self._order), name) for name in names]
        self._taken = 0
        self._stopped = False
        self._changed = Condition()

    def take(self) -> str | None:
        """The next name, once one is due; None at the end. Each is to be given to `settle` or `put_back`."""
        with self._changed:
            while not self._stopped and (self._waiting or self._taken):
                pause = self._waiting[0][0] - time.monotonic() if self._waiting else None
                if pause is not None and pause <= 0:
                    self._taken += 1
                    return heapq.heappop(self._waiting)[2]
                self._changed.wait(pause)
            return None

    def settle(self) -> None:
        """What was taken is over."""
        with self._changed:
            self._taken -= 1
            self._changed.notify_all()

    def put_back(self, name: str, pause_s: float) -> None:
        """What was taken is due again after a pause."""
        with self._changed:
            self._taken -= 1
            heapq.heappush(self._waiting, (time.monotonic() + pause_s, next(self._order), name))
            self._changed.notify_all()

    def stop(self) -> None:
        """Nothing more is given out."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
