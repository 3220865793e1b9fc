"""Measure lower bounds of the engine's time: decoding alone, and the networks alone, on all cores.

`python -m benchmarks.floor decode SCENE` and `... networks SCENE TILES` print one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Empty, SimpleQueue
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import rasterio
import torch
from rasterio.windows import Window

from pipeline.inference import engine
from pipeline.inference.machine import half_precision
from pipeline.inference.networks import Networks
from pipeline.run import Job, Request, prepare

CORES = os.cpu_count() or 1


def decode(job: Job) -> dict[str, Any]:
    """Decode each block of each band of a job once, with rasterio alone, in one thread per core."""
    sources = [job.scene.bands[band] for band in job.models.bands_of(job.scene)]
    sources += [job.scene.scl] if job.scene.scl else []
    blocks: list[tuple[str, int, Window]] = []
    for source in sources:
        with rasterio.open(source.href) as dataset:
            blocks += [
                (source.href, source.index, window) for _, window in dataset.block_windows(source.index)
            ]

    def read(part: list[tuple[str, int, Window]]) -> int:
        opened, count = {}, 0
        for href, index, window in part:
            if href not in opened:
                opened[href] = rasterio.open(href)
            count += opened[href].read(index, window=window).size
        for dataset in opened.values():
            dataset.close()
        return count

    # Neighbours in a list go to different threads, so that all end at the same time.
    parts = [blocks[core::CORES] for core in range(CORES)]
    with rasterio.Env(GDAL_NUM_THREADS="1", GDAL_CACHEMAX=256), ThreadPoolExecutor(CORES) as threads:
        start, cpu = time.perf_counter(), time.process_time()
        pixels = sum(threads.map(read, parts))
        taken = {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - cpu}
    return {**taken, "megapixels": pixels / 1e6, "bands": len(sources), "blocks": len(blocks)}


def networks(job: Job, count: int) -> dict[str, Any]:
    """Run both networks on `count` tiles in memory, spread over the scene, in the faster of two ways.

    The tiles are the engine's own, with its halo and its mask (cloud, nodata). The ways are all cores on one
    tile after the other, and one tile per core with one thread each.
    """
    tiles = [tile for part in job.shards for tile in part]
    chosen = [tiles[i] for i in np.unique(np.linspace(0, len(tiles) - 1, count).round().astype(int))]
    half = half_precision(job.request.config.engine)
    ready = [engine._prepare(job.scene, tile, job.models, engine.Search(), half) for tile in chosen]
    ways = {"all cores on each tile": [CORES], "one tile a core": [1] * CORES}
    taken = {way: _predicted(job, ready, threads) for way, threads in ways.items()}
    fastest = min(taken, key=lambda way: taken[way]["seconds"])
    area = sum(tile.height * tile.width for tile in chosen)
    return {
        **taken[fastest],
        "way": fastest,
        "seconds_of_ways": {way: found["seconds"] for way, found in taken.items()},
        "tiles": len(chosen),
        "of": len(tiles),
        "core_px": max(tile.height for tile in chosen),
        "share_of_area": area / (job.scene.shape[0] * job.scene.shape[1]),
    }


def _predicted(job: Job, ready: list[engine._Ready], threads: list[int]) -> dict[str, float]:
    """Return the seconds of the tiles in parallel lanes, one for each number of threads."""
    torch.set_num_threads(threads[0])
    lanes = [Networks(job.models, job.request.config.engine, number) for number in threads]
    waiting = SimpleQueue[engine._Ready]()

    def work(lane: Networks) -> None:
        while not waiting.empty():
            try:
                tile = waiting.get_nowait()
            except Empty:  # another lane was faster
                return
            _predict(tile, job, lane)

    for lane in lanes:
        _predict(ready[0], job, lane)  # the first time costs more
    for tile in ready:
        waiting.put(tile)
    with ThreadPoolExecutor(len(lanes)) as pool:
        start, cpu = time.perf_counter(), time.process_time()
        list(pool.map(work, lanes))
        return {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - cpu}


def _predict(tile: engine._Ready, job: Job, lane: Networks) -> None:
    """Run both networks on a tile, and the detector's second stage."""
    candidates = engine._predict(tile, job.models, lane, engine.Search(), probabilities=False).candidates
    for boxes in candidates.found if candidates else ():
        boxes.result()


def main() -> None:
    """Measure one of the two lower bounds."""
    parser = argparse.ArgumentParser()
    parser.add_argument("part", choices=("decode", "networks"))
    parser.add_argument("scene", type=Path)
    parser.add_argument("tiles", type=int, nargs="?", default=24)
    given = parser.parse_args()
    with TemporaryDirectory() as folder:
        job = prepare(Request(str(given.scene), Path(folder)))
        found = decode(job) if given.part == "decode" else networks(job, given.tiles)
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
