"""A real Dask cluster: a scheduler and two workers, each a process."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.flows.processes import PYTHON, environment, free_port, is_listening, started, wait_until


@contextmanager
def dask_cluster(folder: Path) -> Iterator[tuple[str, tuple[subprocess.Popen[bytes], ...]]]:
    """Address of a scheduler, and its workers, each with a folder of its own and a log beside it."""
    port, env = free_port(), environment(folder / "prefect")
    address, log = f"tcp://127.0.0.1:{port}", folder / "scheduler.log"
    scheduler = [PYTHON, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", str(port)]
    with started([*scheduler, "--no-dashboard"], env, log) as process:
        wait_until(lambda: is_listening(port), process, log)
        with (
            started(_worker(address, folder / "worker-0"), env, folder / "worker-0.log") as first,
            started(_worker(address, folder / "worker-1"), env, folder / "worker-1.log") as second,
        ):
            yield address, (first, second)


def _worker(address: str, folder: Path) -> list[str]:
    worker = [PYTHON, "-m", "distributed.cli.dask_worker", address, "--no-nanny", "--nthreads", "1"]
    return [*worker, "--local-directory", str(folder), "--no-dashboard"]
