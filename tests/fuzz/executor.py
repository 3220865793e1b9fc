"""Runs commands in children of a warm process, with limits of time and memory."""

from __future__ import annotations

import json
import math
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[2]
MEMORY_LIMIT_MB = 4096
TIME_LIMIT_S = 120
_LOOK_EVERY_S = 0.05
_LEFT_BEHIND_S = 10


@dataclass(frozen=True)
class Ending:
    """How a command ended."""

    status: int
    """Exit status; negative for a signal."""
    seconds: float
    cpu_s: float
    memory_mb: float
    """Peak of the process that was started."""
    killed_for: str | None
    """The limit that was passed, or None."""
    left_behind: tuple[str, ...]
    """Processes of the command that were still there after its end."""


class Executor:
    """Server process and its children, one at a time. Starting it takes some 5 s."""

    def __init__(self, memory_mb: float = MEMORY_LIMIT_MB, seconds: float = TIME_LIMIT_S) -> None:
        self._memory_mb, self._seconds = memory_mb, seconds
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz.server"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
        self._answer()

    def __enter__(self) -> Executor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.kill()
        self._server.communicate()

    def run(
        self,
        argv: Sequence[str],
        cwd: Path,
        env: Mapping[str, str],
        stdout: Path,
        stderr: Path,
        stop_after_s: float = math.inf,
    ) -> Ending:
        """Run one command to its end, or to a limit; send it SIGTERM after a while."""
        request = {"argv": [*argv], "cwd": str(cwd), "env": dict(env)}
        files = {"stdout": str(stdout), "stderr": str(stderr)}
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps({**request, **files}).encode() + b"\n")
        self._server.stdin.flush()
        process, begun = int(self._answer()["process"]), time.monotonic()
        killed_for, family = None, set()
        while not self._has_answer(min(_LOOK_EVERY_S, stop_after_s)):
            seconds = time.monotonic() - begun
            if seconds >= stop_after_s:
                family, stop_after_s = _family(process), math.inf
                _signal(process, signal.SIGTERM)
            killed_for = self._passed_limit(process, seconds)
            if killed_for:
                family |= _family(process)
                _signal(process, signal.SIGKILL)
                break
        ended = self._answer()
        seconds = time.monotonic() - begun
        left = _clear(process, family, _LEFT_BEHIND_S if not killed_for else 0)
        return Ending(ended["status"], seconds, ended["cpu_s"], ended["memory_mb"], killed_for, left)

    def _passed_limit(self, process: int, seconds: float) -> str | None:
        if seconds > self._seconds:
            return f"{self._seconds:.0f} s"
        memory = _memory_mb(process)
        return f"{self._memory_mb:.0f} MB" if memory > self._memory_mb else None

    def _has_answer(self, seconds: float) -> bool:
        return bool(select.select([self._server.stdout], [], [], seconds)[0])

    def _answer(self) -> dict[str, Any]:
        assert self._server.stdout is not None
        line = self._server.stdout.readline()
        if not line:
            raise RuntimeError("the server of the harness has ended; its message is above")
        return json.loads(line)


def _memory_mb(process: int) -> float:
    """Return the largest resident memory of a process or one of its children, in MiB."""
    found = 0.0
    with suppress(psutil.Error):
        parent = psutil.Process(process)
        for member in (parent, *parent.children(recursive=True)):
            with suppress(psutil.Error):
                found = max(found, member.memory_info().rss / 2**20)
    return found


def _signal(process: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(process, number)


def _family(process: int) -> set[psutil.Process]:
    with suppress(psutil.Error):
        return {*psutil.Process(process).children(recursive=True)}
    return set()


def _clear(group: int, family: set[psutil.Process], patience_s: float) -> tuple[str, ...]:
    """Return what is still running of a group and of other processes after a while, and kill it."""
    deadline = time.monotonic() + patience_s
    while (left := _alive(group, family)) and time.monotonic() < deadline:
        time.sleep(_LOOK_EVERY_S)
    names = []
    for process in left:
        with suppress(psutil.Error):
            names.append(" ".join(process.cmdline()[:6]))
            process.kill()
    return tuple(names) if patience_s else ()


def _alive(group: int, family: set[psutil.Process]) -> list[psutil.Process]:
    found = {process for process in family if process.is_running()}
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, 0)  # most often there is none, and asking about all processes takes long
        for process in psutil.process_iter():
            with suppress(ProcessLookupError):
                if os.getpgid(process.pid) == group:
                    found.add(process)
    return [process for process in found if not _has_ended(process)]


def _has_ended(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.Error:
        return True
