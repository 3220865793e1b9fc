"""Checks of the machine: disk, memory and cores for the settings."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import psutil

from pipeline.config import Config
from pipeline.operations.checks.finding import Finding, fails, ok, warning

GRANULE_MB = 1000
"""Disk space of a granule. Shards and layers of a simulated one with 19,067 trucks took 342 MB, and a
replaced file exists twice for a moment."""
_LEAST_MB = 200
_MB = 1_000_000


def disk(out: Path) -> list[Finding]:
    """Room in the output folder and in the temporary one, and whether both can be written."""
    return [_folder("output", out, "choose another --out"), _folder("temporary", _temporary(), "set TMPDIR")]


def _temporary() -> Path:
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError:  # none of the usual ones can be written
        return Path(os.environ.get("TMPDIR", "/tmp"))  # noqa: S108 (checked, not used)


def _folder(what: str, folder: Path, fix: str) -> Finding:
    there = next((part for part in (folder, *folder.absolute().parents) if part.exists()), folder)
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"0")
            file.flush()
        free_mb = shutil.disk_usage(there).free // _MB
    except OSError as error:
        return fails("disk", f"{what} folder {folder} can't be written ({error.strerror})", fix)
    found = f"{what} folder {folder}: {free_mb / 1000:.1f} GB free"
    if free_mb < _LEAST_MB:
        return fails("disk", found, f"clear space, or {fix}")
    if free_mb < GRANULE_MB:
        return warning("disk", f"{found}, a granule may take {GRANULE_MB / 1000:g}", f"clear space, or {fix}")
    return ok("disk", found)


def memory(config: Config) -> list[Finding]:
    """Compare the available memory with the limit of the settings."""
    runner = config.runner
    local = runner.kind == "processes" or (runner.kind in ("dask", "ray") and not runner.address)
    processes = runner.workers if local else 1
    wanted = config.engine.memory_mb * config.batch.concurrency * processes
    limit, available = _memory_mb()
    if available is None:
        return [ok("memory", f"{wanted} MB wanted; this system does not tell how much there is")]
    found = f"{available} MB available, engine.memory_mb and the workers of the settings make {wanted}"
    fix = "lower engine.memory_mb, runner.workers or batch.concurrency"
    if limit is not None and wanted > limit:
        return [fails("memory", f"{found}; there are {limit} in all", fix)]
    return [warning("memory", found, fix) if wanted > available else ok("memory", found)]


def processor(config: Config) -> list[Finding]:
    """Cores, and whether networks compute in half precision here."""
    from pipeline.config import Engine
    from pipeline.inference.machine import half_precision

    cores = _cores()
    natively = half_precision(Engine())
    precision = "bfloat16 natively" if natively else "no bfloat16, so float32"
    found = f"{cores:g} cores, {precision}"
    if config.engine.precision == "bfloat16" and not natively:
        return [
            warning("processor", f"{found}: engine.precision=bfloat16 is slow", "set engine.precision=auto")
        ]
    if config.engine.threads and config.engine.threads > cores:
        fix = "lower engine.threads, or leave it null"
        return [warning("processor", f"{found}, engine.threads is {config.engine.threads}", fix)]
    return [ok("processor", found)]


def _memory_mb() -> tuple[int | None, int | None]:
    """Return the total and the available memory (MB) of the machine or the container; None where unknown."""
    try:
        memory = psutil.virtual_memory()
    except (OSError, psutil.Error):
        return None, None
    limit, available = memory.total // _MB, memory.available // _MB
    group = Path("/sys/fs/cgroup")  # of Linux's containers
    ceiling, used = _number(group / "memory.max"), _number(group / "memory.current")
    if ceiling is not None and used is not None:
        limit, available = min(limit, ceiling // _MB), min(available, (ceiling - used) // _MB)
    return limit, available


def _cores() -> float:
    """Return the cores that this process may use, by its affinity and by its container's share of time."""
    process = psutil.Process()
    cores = float(len(process.cpu_affinity()) if hasattr(process, "cpu_affinity") else os.cpu_count() or 1)
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        return min(cores, int(quota) / int(period))
    except (OSError, ValueError):  # `max`: no limit
        return cores


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
