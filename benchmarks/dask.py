"""Measure a scene on Dask clusters of one and two workers, each a process with one core.

python -m benchmarks.dask [--size 4096] [--all-cores]
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import truckscape
from benchmarks.products import say
from benchmarks.results import bar, save, table
from pipeline.simulation.simulate import SimulatedProduct, simulate

SHARDS, TILE_PX = 8, 512
SMALL = 2048  # with two shards for each worker to warm up with
BAR = 1.7
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class OnCluster:
    """Cost of the shards of a scene."""

    seconds: float
    """From the submission of the first shard to the end of the last."""
    cpu_seconds: float
    """Of the workers."""
    folder: Path


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and write the section of RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--all-cores", action="store_true", help="workers may take all cores")
    given = parser.parse_args(arguments)
    cores = None if given.all_cores else 1
    with tempfile.TemporaryDirectory() as folder:
        scene = simulate(Path(folder) / "scene", size=given.size, seed=5)
        small = simulate(Path(folder) / "small", size=SMALL, seed=6)
        runs = {workers: run(workers, scene, small, Path(folder), cores) for workers in (1, 2)}
        same = all(
            (runs[1].folder / name).read_bytes() == (runs[2].folder / name).read_bytes()
            for name in ("trucks.geojson", "landcover.tif")
        )
    if not same:
        raise SystemExit("two workers gave other bytes than one")
    gain = runs[1].seconds / runs[2].seconds
    rows = [
        {"workers": workers, "seconds": f"{done.seconds:.1f}", "CPU seconds": f"{done.cpu_seconds:.1f}"}
        for workers, done in runs.items()
    ]
    keep_to = "may use all cores" if given.all_cores else "use one core each, as in containers with one core"
    note = (
        f"A simulated scene of {given.size} x {given.size} px in {SHARDS} shards, `engine.threads=1`, on "
        f"workers that {keep_to}. They have processed a scene of {SMALL} px before. Seconds are from the "
        "submission of the first shard to the end of the last, CPU seconds those of the workers meanwhile. "
        "Trucks and land cover have the same bytes. With `--all-cores`, one worker decodes and prepares "
        "tiles on the second core during its networks, so two workers gain less."
    )
    figures = {"gain": gain} | {str(n): [done.seconds, done.cpu_seconds] for n, done in runs.items()}
    bars = [bar("Dask: speed of two workers / one", gain, BAR, False, " x")]
    save("dask", "Dask: one and two workers", [note, "", *table(rows)], figures, bars)


def run(
    workers: int,
    scene: SimulatedProduct,
    small: SimulatedProduct,
    folder: Path,
    cores: int | None,
) -> OnCluster:
    """Run the scene on a new cluster, after a small scene; each worker has `cores`."""
    with cluster(workers, folder, cores) as (address, processes):
        settings = [f"runner.workers={workers}", f"runner.address={address}", f"tiling.shards={SHARDS}"]
        settings += ["runner.kind=dask", "engine.threads=1", f"tiling.tile_px={TILE_PX}"]
        flat = [text for setting in settings for text in ("--set", setting)]
        out = folder / f"out-{workers}"
        truckscape("run", str(small.safe), "--out", str(out), *flat)
        before = sum(map(cpu_seconds, processes))
        measured = truckscape("run", str(scene.safe), "--out", str(out), *flat)
        spent = sum(map(cpu_seconds, processes)) - before
    (begun,) = (line.seconds for line in measured.lines if "shards to compute" in line.text)
    (ended,) = (line.seconds for line in measured.lines if line.text.strip() == "merging")
    say(f"{workers} workers: {ended - begun:.1f} s, {spent:.1f} s of CPU")
    return OnCluster(ended - begun, spent, out / scene.safe.stem)


@contextmanager
def cluster(workers: int, folder: Path, cores: int | None) -> Iterator[tuple[str, list[int]]]:
    """Start a scheduler on loopback and workers; yield its address and their process ids."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address, dask = f"tcp://127.0.0.1:{port}", [sys.executable, "-m"]
    scheduler = [
        "distributed.cli.dask_scheduler",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--no-dashboard",
    ]
    worker = ["distributed.cli.dask_worker", address, "--no-nanny", "--nthreads", "1", "--no-dashboard"]
    with ExitStack() as stack:
        stack.enter_context(process([*dask, *scheduler]))
        time.sleep(5)  # workers that connect earlier retry
        started = [
            stack.enter_context(process([*dask, *worker, "--local-directory", str(folder)]))
            for _ in range(workers)
        ]
        if cores:
            every = sorted(os.sched_getaffinity(0))
            for number, each in enumerate(started):
                os.sched_setaffinity(each.pid, every[number * cores : (number + 1) * cores])
        yield address, [each.pid for each in started]


@contextmanager
def process(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process during the block."""
    started = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield started
    finally:
        started.terminate()
        started.wait()


def cpu_seconds(pid: int) -> float:
    """Return the CPU seconds of a process so far (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


if __name__ == "__main__":
    main()
