"""Queue of the scenes of a batch, some of them due later."""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Iterable
from threading import Condition


class Queue:
    """Names in order. It ends when no name is left and no thread works on one."""

    def __init__(self, names: Iterable[str]) -> None:
        self._order = itertools.count()
        self._waiting: list[tuple[float, int, str]] = [(0.0, next(self._order), name) for name in names]
        self._taken = 0
        self._stopped = False
        self._changed = Condition()

    def take(self) -> str | None:
        """Return the next name once one is due; None at the end. Each needs `finish` or `put_back`."""
        with self._changed:
            while not self._stopped and (self._waiting or self._taken):
                pause = self._waiting[0][0] - time.monotonic() if self._waiting else None
                if pause is not None and pause <= 0:
                    self._taken += 1
                    return heapq.heappop(self._waiting)[2]
                self._changed.wait(pause)
            return None

    def finish(self) -> None:
        """Count a name that was taken as finished."""
        with self._changed:
            self._taken -= 1
            self._changed.notify_all()

    def put_back(self, name: str, pause_s: float) -> None:
        """Make a name that was taken due again after a pause."""
        with self._changed:
            self._taken -= 1
            heapq.heappush(self._waiting, (time.monotonic() + pause_s, next(self._order), name))
            self._changed.notify_all()

    def stop(self) -> None:
        """Give out no further name."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
