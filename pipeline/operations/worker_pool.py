"""Work that some threads bring, and that others do: one who waits anyway, and helpers beside it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import Context, copy_context
from queue import SimpleQueue
from typing import Any, TypeVar

_T = TypeVar("_T")


class Hands:
    """As many pieces of work at a time as there are threads in `work`, in the order they are brought in.

    Where the main thread is one of them, Ctrl-C reaches the work itself, and not only those who wait for it.
    """

    def __init__(self) -> None:
        self._brought: SimpleQueue[tuple[Context, Callable[[], Any], Future[Any]] | None] = SimpleQueue()
        self._waiting: set[Future[Any]] = set()
        self._rest = False
        self._lock = threading.Lock()

    def bring(self, work: Callable[[], _T]) -> _T:
        """Have something done, within the caller's context; returns and raises what it does.

        Raises
        ------
        concurrent.futures.CancelledError
            If the hands rest before it has begun.
        """
        future: Future[_T] = Future()
        with self._lock:
            if self._rest:
                future.cancel()
            else:
                self._waiting.add(future)
                self._brought.put((copy_context(), work, future))
        return future.result()

    def work(self) -> None:
        """Do what is brought until `rest`; what ends a thread (Ctrl-C, say) ends this, too."""
        while brought := self._brought.get():
            context, work, future = brought
            with self._lock:
                self._waiting.discard(future)
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(context.run(work))
            except Exception as error:  # noqa: BLE001 it is for who brought the work
                future.set_exception(error)
            except BaseException as error:
                future.set_exception(error)
                raise
        self._brought.put(None)  # for the next one

    def rest(self) -> None:
        """Begin nothing any more."""
        with self._lock:
            self._rest = True
            for future in self._waiting:
                future.cancel()
            self._waiting.clear()
        self._brought.put(None)


class Countdown:
    """Calls something when so many others have ended."""

    def __init__(self, count: int, call: Callable[[], None]) -> None:
        self._left, self._call = count, call
        self._lock = threading.Lock()

    def less(self) -> None:
        """One has ended."""
        with self._lock:
            self._left -= 1
            is_over = self._left == 0
        if is_over:
            self._call()
