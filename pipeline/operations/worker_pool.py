"""Work that some threads submit, and that others do: one that would only wait, and helpers beside it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import Context, copy_context
from queue import SimpleQueue
from typing import Any, TypeVar

from pipeline.run import Result

RunInPool = Callable[[Callable[[], Result]], Result]
"""Runs the work of a scene when it is its turn. What an orchestrator does before and after that takes no
other scene's time."""
_T = TypeVar("_T")


class WorkerPool:
    """Does as many pieces of work at a time as there are threads in `work`, in order of submission.

    Where the main thread is one of them, Ctrl-C reaches the work itself, and not only those who wait for it.
    """

    def __init__(self) -> None:
        self._submitted: SimpleQueue[tuple[Context, Callable[[], Any], Future[Any]] | None] = SimpleQueue()
        self._waiting: set[Future[Any]] = set()
        self._stopped = False
        self._lock = threading.Lock()

    def run(self, work: Callable[[], _T]) -> _T:
        """Have work done by a worker, within the caller's context; return and raise what it does.

        Raises
        ------
        concurrent.futures.CancelledError
            If the pool stops before it has begun.
        """
        future: Future[_T] = Future()
        with self._lock:
            if self._stopped:
                future.cancel()
            else:
                self._waiting.add(future)
                self._submitted.put((copy_context(), work, future))
        return future.result()

    def work(self) -> None:
        """Be a worker until `stop`. What ends a thread (Ctrl-C, say) ends this, too."""
        while submitted := self._submitted.get():
            context, work, future = submitted
            with self._lock:
                self._waiting.discard(future)
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(context.run(work))
            except Exception as error:  # noqa: BLE001 the submitter handles it
                future.set_exception(error)
            except BaseException as error:
                future.set_exception(error)
                raise
        self._submitted.put(None)  # for the next worker

    def stop(self) -> None:
        """Begin no further work."""
        with self._lock:
            self._stopped = True
            for future in self._waiting:
                future.cancel()
            self._waiting.clear()
        self._submitted.put(None)


class Countdown:
    """Calls a function when a number of threads have ended."""

    def __init__(self, count: int, call: Callable[[], None]) -> None:
        self._left, self._call = count, call
        self._lock = threading.Lock()

    def count_down(self) -> None:
        """Count one thread that has ended."""
        with self._lock:
            self._left -= 1
            is_over = self._left == 0
        if is_over:
            self._call()
