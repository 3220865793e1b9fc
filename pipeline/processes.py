"""Facts about processes, asked so that any operating system answers."""

from __future__ import annotations

import importlib
import platform
from pathlib import Path

import psutil


def host_name() -> str:
    """Return a name for the machine; on Linux with the namespace of its processes.

    Containers may share the machine's name, and each counts its processes from 1.
    """
    try:
        namespace = Path("/proc/self/ns/pid").readlink().name
    except OSError:
        namespace = ""
    return f"{platform.node()} {namespace}".strip()


def start_of(process: int) -> int | None:
    """Return the start of a process in hundredths of a second, which a reused number does not share.

    None if the process has ended. 0 if the system does not say. On Linux the time counts from the start of
    the machine, so that setting the clock does not move it.
    """
    try:
        found = psutil.Process(process)
        if found.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            return None
        return round((found.create_time() - (psutil.boot_time() if psutil.LINUX else 0)) * 100)
    except psutil.NoSuchProcess:
        return None
    except (psutil.Error, OSError):  # of another user, or hidden
        return 0 if psutil.pid_exists(process) else None


def peak_memory_mb() -> int:
    """Return the largest resident memory (MiB) of this process or of a child that has ended.

    Windows does not report that of children. Where a system reports no peak, the memory of now counts.
    """
    try:
        usage = importlib.import_module("resource")
    except ImportError:
        memory = psutil.Process().memory_info()
        return round(getattr(memory, "peak_wset", memory.rss) / 2**20)
    peak = max(usage.getrusage(who).ru_maxrss for who in (usage.RUSAGE_SELF, usage.RUSAGE_CHILDREN))
    return round(peak / (2**20 if psutil.MACOS else 2**10))
