"""What no engine can be faster than: decoding alone, and the networks alone, each core used once.

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
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import rasterio
import torch
from rasterio.windows import Window

from pipeline.inference import engine
from pipeline.inference.predictions import CLOUD, NODATA, SEEN
from pipeline.job import Job, Request, prepare
from pipeline.scenes.scene import Pixels
from pipeline.tiling import Tile

CORES = os.cpu_count() or 1


def decode(job: Job) -> dict[str, Any]:
    """Every block of every band that the job needs, once, by rasterio alone: a thread for each core."""
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

    # Neighbours in a list to different threads, so that all end at the same time.
    parts = [blocks[core::CORES] for core in range(CORES)]
    with rasterio.Env(GDAL_NUM_THREADS="1", GDAL_CACHEMAX=256), ThreadPoolExecutor(CORES) as threads:
        start, cpu = time.perf_counter(), time.process_time()
        pixels = sum(threads.map(read, parts))
        taken = {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - cpu}
    return {**taken, "megapixels": pixels / 1e6, "bands": len(sources), "blocks": len(blocks)}


def networks(job: Job, count: int) -> dict[str, Any]:
    """Both networks on `count` tiles that lie in memory, spread over the scene: a thread for each core.

    The tiles are the engine's own, with its halo, and the networks run as the engine runs them, one torch
    thread a core. Where a tile is cloud or nodata nothing is asked of them, as in the engine.
    """
    tiles = [tile for part in job.shards for tile in part]
    chosen = [tiles[i] for i in np.unique(np.linspace(0, len(tiles) - 1, count).round().astype(int))]
    bands = job.models.bands_of(job.scene)
    half = engine.half_precision(job.request.config.engine)
    loaded = [(tile, engine._read(job.scene, tile.window, job.models)) for tile in chosen]
    statuses = [engine._status(job.scene, tile, pixels, engine.Search()) for tile, pixels in loaded]

    def work(item: tuple[tuple[Tile, Pixels], np.ndarray]) -> None:
        (tile, pixels), status = item
        if job.models.segmenter and not np.isin(status, (NODATA, CLOUD)).all():
            engine._segment(tile, pixels, job.models.segmenter, bands, half)
        engine._search(tile, pixels, status == SEEN, job.models.detector, bands, half)

    torch.set_num_threads(1)
    items = list(zip(loaded, statuses, strict=True))
    with ThreadPoolExecutor(CORES) as threads:
        list(threads.map(work, items[:CORES]))  # the first time costs more
        start, cpu = time.perf_counter(), time.process_time()
        list(threads.map(work, items))
        taken = {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - cpu}
    area = sum(tile.height * tile.width for tile in chosen)
    return {
        **taken,
        "tiles": len(chosen),
        "of": len(tiles),
        "core_px": max(tile.height for tile in chosen),
        "share_of_area": area / (job.scene.shape[0] * job.scene.shape[1]),
    }


def main() -> None:
    """Measure one part of the floor."""
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
