"""Prefect's task runners by the settings, and the errors by which a lost worker shows in each."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from prefect.client.orchestration import get_client
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED,
    temporary_settings,
)
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner, ThreadPoolTaskRunner

from pipeline.config import Runner
from pipeline.errors import MissingExtraError, WorkerLostError

T = TypeVar("T")

_FRESH_STARTS = 2
"""Number of times that a run gets new workers. A process pool ends when it loses one process."""
_LOST = {"BrokenProcessPool", "KilledWorker", "NodeDiedError", "OutOfMemoryError", "WorkerCrashedError"}
"""Errors of concurrent.futures, Dask and Ray when a worker ended; by name, since two of them are extras."""


def task_runner(settings: Runner) -> TaskRunner[Any]:
    """Return the Prefect task runner of the settings.

    Without an address, Dask and Ray start on this machine and end with the run.

    Raises
    ------
    MissingExtraError
        If it needs a package that is not installed.
    """
    if settings.kind == "threads":
        return ThreadPoolTaskRunner(max_workers=settings.workers)
    if settings.kind == "processes":
        return ProcessPoolTaskRunner(max_workers=settings.workers)
    try:
        return _dask(settings) if settings.kind == "dask" else _ray(settings)
    except ImportError as error:
        raise MissingExtraError(
            f"runner.kind={settings.kind} needs the extra: pip install 'truckscape[{settings.kind}]'."
        ) from error


@contextmanager
def one_server_for_all(settings: Runner) -> Iterator[None]:
    """Give workers the address of this process's Prefect server; otherwise each would start its own.

    They also skip the check of its version, which this process has made: after the loss of the server, a pool
    of processes would never end (Prefect 3.8: its worker exits unnoticed).
    """
    if settings.kind == "threads":
        yield
        return
    with (
        get_client(sync_client=True) as client,
        temporary_settings(
            {
                PREFECT_API_URL: str(client.api_url).rstrip("/"),
                PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED: False,
            }
        ),
    ):
        yield


def on_fresh_workers(run: Callable[[], T], say: Callable[[str], None]) -> T:
    """Return the result of a run; where a worker is lost, run again, a few times."""
    for _ in range(_FRESH_STARTS):
        try:
            return run()
        except WorkerLostError as error:
            say(f"{error} Going on with fresh workers.")
    return run()


def is_lost_worker(error: BaseException) -> bool:
    """Return whether a task failed because its worker ended, after the retries of its runner."""
    return any(kind.__name__ in _LOST for kind in type(error).__mro__)


def _dask(settings: Runner) -> TaskRunner[Any]:
    from prefect_dask import DaskTaskRunner  # type: ignore[attr-defined]

    if settings.address:
        return DaskTaskRunner(address=settings.address)
    # Its scheduler closes after its own logger is restored, and would log tracebacks.
    logging.getLogger("distributed").setLevel(logging.WARNING)
    cluster = {
        "n_workers": settings.workers,
        "threads_per_worker": 1,
        "memory_limit": 0,  # engine.memory_mb is the limit; Dask's would pause workers, and end them
        "scheduler_kwargs": {"dashboard": False},
    }
    return DaskTaskRunner(cluster_kwargs=cluster)


def _ray(settings: Runner) -> TaskRunner[Any]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # else it sends usage statistics
    from prefect_ray import RayTaskRunner

    if settings.address:
        return RayTaskRunner(address=settings.address)
    return RayTaskRunner(init_kwargs={"num_cpus": settings.workers, "include_dashboard": False})
