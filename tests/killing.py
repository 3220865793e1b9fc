"""Runs in processes of their own that SIGKILL ends at a given moment.

They are forked from a server that has imported everything already, so that moments fall into the work and not
into imports.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess

PATIENCE_S = 240
_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["pipeline.run"])


def begin(work: Callable[..., object], *arguments: object) -> BaseProcess:
    """Start a function of a module in a process of its own."""
    process = _SERVER.Process(target=work, args=arguments)
    process.start()
    return process


def kill_when(process: BaseProcess, is_time: Callable[[], bool]) -> None:
    """Wait for the moment, or for the end of the process, and kill it."""
    deadline = time.monotonic() + PATIENCE_S
    while not is_time() and process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.001)
    process.kill()
    process.join()
