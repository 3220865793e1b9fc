"""Processes that tests start, and end by their own ids."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

PATIENCE_S = 240
PATIENT = {"PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180"}
PYTHON = sys.executable
TRUCKSCAPE = [PYTHON, "-m", "pipeline.cli"]


def environment(home: Path, **more: str) -> dict[str, str]:
    """A fresh Prefect home, no way to any network but loopback, and one thread a network."""
    return {
        **os.environ,
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "OMP_NUM_THREADS": "1",
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "NO_PROXY": "127.0.0.1,localhost",
        **more,
    }


@contextmanager
def started(command: Sequence[str], env: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process for as long as the block; what it says goes into the log."""
    with log.open("wb") as said:
        process = subprocess.Popen(command, env=env, stdout=said, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until(
    is_so: Callable[[], object], process: subprocess.Popen[bytes], log: Path, every_s: float = 0.05
) -> None:
    """Wait for something that a process is to do. Raises RuntimeError if it ends, or takes too long."""
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(
                f"{process.args!r}: {log.read_text(encoding='utf-8', errors='replace')[-4000:]}"
            )
        time.sleep(every_s)


@contextmanager
def prefect_server(port: int, env: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A Prefect server at a port of loopback, for as long as the block, unless it is killed before."""
    command = [PYTHON, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with started(command, env, log) as process:
        wait_until(lambda: is_listening(port), process, log)
        yield process


def free_port() -> int:
    """A port of loopback that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_listening(port: int) -> bool:
    """Whether somebody does."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def children(parent: int, word: str) -> list[int]:
    """Processes that a process has started, and that were given a word."""
    reported = [path.read_text() for path in Path(f"/proc/{parent}/task").glob("*/children")]
    found = [int(child) for text in reported for child in text.split()]
    return [child for child in found if word.encode() in Path(f"/proc/{child}/cmdline").read_bytes()]


def kept_by_prefect(home: Path, expression: str) -> str:
    """An expression of the `runs`, `tasks` and `artifacts` that a Prefect home has on record, as JSON."""
    script = f"""
import asyncio, json
from prefect import get_client
async def main():
    async with get_client() as client:
        runs = await client.read_flow_runs()
        tasks = await client.read_task_runs()
        artifacts = await client.read_artifacts()
        print(json.dumps({expression}))
asyncio.run(main())
"""
    done = subprocess.run(
        [PYTHON, "-c", script],
        env={**os.environ, "PREFECT_HOME": str(home), "PREFECT_LOGGING_LEVEL": "CRITICAL", **PATIENT},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout
