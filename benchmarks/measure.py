"""Measure a command: seconds, CPU seconds and peak memory, children included (Linux)."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_EVERY_S = 0.05
_TICKS, _PAGE = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Line:
    """Line of stderr, and the cost of the command until then."""

    text: str
    seconds: float
    cpu_seconds: float
    peak_mb: float
    """Since the line before."""


@dataclass(frozen=True)
class Measured:
    """Cost of a command."""

    seconds: float
    cpu_seconds: float
    peak_mb: float
    """Highest sum of the resident memory of all its processes, seen every 50 ms; never below the system's
    own mark of the largest one."""
    lines: tuple[Line, ...]
    """In order of output; the last has no text and marks the end."""
    output: str


def run_python(*arguments: str) -> Measured:
    """Measure this Python with `arguments`, in the project's folder; a failure is raised."""
    start = time.monotonic()
    with tempfile.TemporaryFile("w+", encoding="utf-8") as output:
        process = subprocess.Popen(
            [sys.executable, *arguments], cwd=ROOT, stdout=output, stderr=subprocess.PIPE, text=True
        )
        watch = _Watch(process, start)
        listener = threading.Thread(target=watch.listen)
        listener.start()
        while True:
            watch.sample()
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            time.sleep(_EVERY_S)
        seconds = time.monotonic() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        listener.join()
        output.seek(0)
        said = output.read()
    if process.returncode:
        text = "\n".join(line.text for line in watch.lines)
        raise SystemExit(f"{' '.join(arguments)} failed with status {process.returncode}:\n{text}")
    cpu = usage.ru_utime + usage.ru_stime
    peak = max(watch.peak_mb, usage.ru_maxrss / 1024)
    end = Line("", seconds, cpu, watch.peak_since_line_mb)
    return Measured(seconds, cpu, peak, (*watch.lines, end), said)


def truckscape(*arguments: str) -> Measured:
    """Measure a command of truckscape."""
    return run_python("-m", "pipeline.cli", *arguments)


class _Watch:
    """Monitor of the memory of a tree of processes, and of the time of each line of its stderr."""

    def __init__(self, process: subprocess.Popen[str], start: float) -> None:
        self.process, self.start = process, start
        self.lines: list[Line] = []
        self.memory_mb = self.peak_mb = self.peak_since_line_mb = self.cpu_seconds = 0.0

    def sample(self) -> None:
        """Take a sample."""
        ticks = pages = 0
        for fields in _tree(self.process.pid):
            ticks += sum(map(int, fields[11:15]))  # utime, stime, cutime, cstime of proc(5)
            pages += int(fields[21])
        self.memory_mb = pages * _PAGE / 2**20
        self.cpu_seconds = max(self.cpu_seconds, ticks / _TICKS)
        self.peak_mb = max(self.peak_mb, self.memory_mb)
        self.peak_since_line_mb = max(self.peak_since_line_mb, self.memory_mb)

    def listen(self) -> None:
        """Read lines until the command closes its stderr."""
        for text in self.process.stderr or ():
            now = time.monotonic() - self.start
            self.lines.append(Line(text.rstrip(), now, self.cpu_seconds, self.peak_since_line_mb))
            self.peak_since_line_mb = self.memory_mb


def _tree(pid: int) -> Iterator[list[str]]:
    """Return the fields of proc(5)'s `stat`, from the state on, of a process and its descendants."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
        threads = [task / "children" for task in Path(f"/proc/{pid}/task").iterdir()]
        children = [int(child) for file in threads for child in file.read_text().split()]
    except OSError:  # it has ended meanwhile
        return
    yield stat.rpartition(")")[2].split()
    for child in children:
        yield from _tree(child)
