"""Progress of a call as calls of the user's function."""

from __future__ import annotations

import threading
from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called with the current step, the number of tiles that are done, and their total (0 while it is unknown).

Calls come from several threads, one at a time. An error that it raises ends the call that reports.
"""


class Reporter:
    """Progress of one call: steps and tiles, reported to the user's function if there is one."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._lock = threading.Lock()
        self._step, self._done, self._total = "", 0, 0

    def begin(self, step: str, total: int) -> None:
        """Begin a step of `total` tiles."""
        with self._lock:
            self._done, self._total = 0, total
        self.say(step)

    def say(self, step: str) -> None:
        """Report a step."""
        with self._lock:
            self._step = step
            self._report()

    def on_tile(self, count: int) -> None:
        """Report that `count` tiles are done since the last call."""
        with self._lock:
            self._done += count
            self._report()

    def _report(self) -> None:
        if self._progress is not None:
            self._progress(self._step, self._done, self._total)
