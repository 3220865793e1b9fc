"""Runs in processes of their own that are killed at a given moment."""

from __future__ import annotations

import multiprocessing
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess

PATIENCE_S = 240
KILLED = -getattr(signal, "SIGKILL", signal.SIGTERM)
"""Exit code of a process that is killed."""


def process_server(*modules: str) -> BaseContext:
    """Return a way to start processes that have imported these modules.

    So moments fall into the work and not into imports, but on Windows, where nothing can be forked.
    """
    if sys.platform == "win32":
        return multiprocessing.get_context("spawn")
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(list(modules))
    return server


_SERVER = process_server("pipeline.run")


def begin(work: Callable[..., object], *arguments: object) -> BaseProcess:
    """Start a function of a module in a process of its own."""
    process: BaseProcess = _SERVER.Process(target=work, args=arguments)  # type: ignore[attr-defined]
    process.start()
    return process


def kill_when(process: BaseProcess, is_time: Callable[[], bool]) -> None:
    """Wait for the moment, or for the end of the process, and kill it."""
    deadline = time.monotonic() + PATIENCE_S
    while not is_time() and process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.001)
    process.kill()
    process.join()
