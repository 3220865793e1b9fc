"""Measure what a megapixel costs the engine, beside decoding alone: `python -m benchmarks.megapixel`."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.floor import decode
from benchmarks.measure import run_python
from benchmarks.products import Product, product, say
from benchmarks.results import save, table
from pipeline.config import load_config
from pipeline.inference.engine import Search, predict_shards
from pipeline.run import Job, Request, prepare
from pipeline.scenes.raster.cache import BlockCache

SIDE_PX = 2048
REPEATS = 2
WAYS = {
    "decode": "decoding alone",
    "everywhere": "engine, trucks searched everywhere",
    "near": "engine, trucks searched near roads",
}


def main(side: int = SIDE_PX) -> None:
    """Measure all ways in turns, and write the section of RESULTS.md."""
    load, made = os.getloadavg()[0], product(side)
    runs: dict[str, list[float]] = {way: [] for way in WAYS}
    for repeat in range(REPEATS):
        for way, taken in runs.items():
            say(f"{WAYS[way]}: {repeat + 1} of {REPEATS}")
            taken.append(_measured(way, made) / (side**2 / 1e6))
    least = {way: min(taken) for way, taken in runs.items()}
    rows = [
        {
            "what": what,
            "CPU seconds per Mpx": f"{least[way]:.2f}",
            "ratio to decoding": f"{least[way] / least['decode']:.1f}",
        }
        for way, what in WAYS.items()
    ]
    note = (
        f"A simulated L2A product of {side} x {side} px, both networks on one thread, without start, merging "
        f"and layers. Each is the cheaper of {REPEATS} in turns, after a warm-up. The load average was "
        f"{load:.1f}: beside other work, which also takes the processor's caches, only the ratios count."
    )
    save("megapixel", "What a megapixel costs", [note, "", *table(rows)], {"cpu_seconds_per_mpx": runs})


def _measured(way: str, made: Product) -> float:
    """Return the CPU seconds of a way, in a process of its own."""
    said = run_python("-W", "ignore", "-m", "benchmarks.megapixel", way, str(made.safe), str(made.roads))
    return float(json.loads(said.output))


def cpu_seconds(way: str, scene: Path, roads: Path) -> float:
    """Return the CPU seconds of a way for a scene."""
    config = load_config(None, ["engine.threads=1"])
    with TemporaryDirectory() as folder:
        request = Request(str(scene), Path(folder), config, roads=roads if way == "near" else None)
        job = prepare(request)
    if way == "decode":
        return float(decode(job)["cpu_seconds"])
    _run(replace(job, shards=job.shards[:1]))  # the first time costs more
    start = time.process_time()
    _run(job)
    return time.process_time() - start


def _run(job: Job) -> None:
    config = job.request.config
    search = Search(job.roads_in_view, config.trucks.road_buffer_m, job.min_network_scores)
    with BlockCache():
        for _ in predict_shards(job.scene, job.shards, job.models, search, config.engine):
            pass


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    else:
        parser = argparse.ArgumentParser()
        parser.add_argument("way", choices=tuple(WAYS))
        parser.add_argument("scene", type=Path)
        parser.add_argument("roads", type=Path)
        given = parser.parse_args()
        sys.stdout.write(json.dumps(cpu_seconds(given.way, given.scene, given.roads)) + "\n")
