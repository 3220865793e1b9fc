"""Check the networks on a GPU against the processor, and measure those of a granule: at most 8 minutes.

python -m benchmarks.gpu [--device cpu] [--size 1024] [--tiles 121]

It needs the installed packages only; its scene is simulated. Without a GPU, or with `--device cpu`, the same
steps run on the processor, on a small scene, and the page says so instead of a time.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.measure import ROOT
from benchmarks.products import GRANULE_PX, say
from benchmarks.results import bar, save
from pipeline.config import load_config
from pipeline.inference.engine import Search, predict_shards
from pipeline.inference.networks import Networks, TileInput, read_tile
from pipeline.inference.run_models import thread_count
from pipeline.run import Job, Request, prepare
from pipeline.scenes.raster.cache import BlockCache
from pipeline.simulation.simulate import simulate
from pipeline.tiling import Tile

SIZE_PX, SMALL_PX = 1024, 256
TILES = 121
"""Tiles of a granule."""
MOST_S = 240
"""Time for the tiles; a granule is computed from those that were done by then."""
SURE = 0.7
NEAR_PX = 0.5


def main(given: Sequence[str] | None = None) -> None:
    """Predict with both, compare, and write the section of RESULTS.md."""
    arguments = _arguments(given)
    device = arguments.device or _device()
    size = arguments.size or (SIZE_PX if device == "cuda" else SMALL_PX)
    tiles = (arguments.tiles or TILES) if device == "cuda" else 0
    with TemporaryDirectory() as folder:
        say(f"simulating {size} x {size} px")
        scene = simulate(Path(folder) / "product", size, seed=0).safe
        ways = {"reference": ("cpu", "float32", 0), "device": (device, "bfloat16", tiles)}
        found = {}
        for name, (where, precision, count) in ways.items():
            say(f"networks on {where} in {precision}")
            found[name] = _in_process(scene, Path(folder) / f"{name}.npz", where, precision, count)
    _save(device, size, found["reference"], found["device"])


def _save(device: str, size: int, reference: dict[str, Any], found: dict[str, Any]) -> None:
    """Write the section; the time of a granule only where a GPU computed it."""
    same = float((reference["landcover"] == found["landcover"]).mean())
    sure, near = _compared(reference, found), str(found["name"])
    difference = abs(int((found["scores"] > SURE).sum()) - int((reference["scores"] > SURE).sum()))
    figures: dict[str, Any] = {"same": same, "sure": sure, "device": near}
    lines = [
        f"PyTorch in bfloat16 on {near}, against PyTorch in float32 on the processor, on a simulated scene "
        f"of {size} x {size} px: {same:.2%} of the pixels have the same land cover. Of {sure[1]} boxes with "
        f"a score above {SURE:g} on the processor, {sure[0]} are within {NEAR_PX:g} px of one on the device; "
        f"their scores differ by at most {sure[2]:.1g}.",
    ]
    bars: list[dict[str, Any]] = []
    if device == "cuda":
        seconds = float(found["seconds"]) / float(found["pixels"]) * GRANULE_PX**2
        figures["granule_s"] = seconds
        lines.append(
            f"{int(found['pixels']) / 1e6:.0f} Mpx through both networks, from images in memory to classes "
            f"and boxes, took {float(found['seconds']):.1f} s after a warm-up: {seconds:.0f} s for a granule."
        )
        bars = [
            bar("same land cover on the GPU", 100 * same, 98, False, " %"),
            bar("more or fewer sure boxes on the GPU", difference, 1, True),
        ]
    else:
        lines.insert(0, "No GPU was at hand: the same steps ran on the processor. A GPU is unmeasured.")
    save("gpu", "Networks on a GPU", [" ".join(lines)], figures, bars)


def _compared(reference: dict[str, Any], found: dict[str, Any]) -> tuple[int, int, float]:
    """Return the sure boxes that are found again, all sure boxes, and the largest difference of scores."""
    sure = np.flatnonzero(reference["scores"] > SURE)
    if not len(sure) or not len(found["scores"]):
        return 0, len(sure), 0.0
    apart = np.abs(reference["boxes"][sure][:, None] - found["boxes"][None]).max(axis=2)
    nearest = apart.argmin(axis=1)
    again = apart.min(axis=1) <= NEAR_PX
    scores = np.abs(reference["scores"][sure] - found["scores"][nearest])[again]
    return int(again.sum()), len(sure), float(scores.max(initial=0))


def _in_process(scene: Path, out: Path, device: str, precision: str, tiles: int) -> dict[str, Any]:
    """Return what a process finds that sees the GPU, or sees none."""
    hidden = {} if device == "cuda" else {"CUDA_VISIBLE_DEVICES": "", "HIP_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.gpu", "predict"]
    subprocess.run(
        [*command, str(scene), str(out), precision, str(tiles)],
        cwd=ROOT,
        env={**os.environ, **hidden},
        check=True,
    )
    with np.load(out) as arrays:
        return dict(arrays)


def predict(scene: Path, out: Path, precision: str, tiles: int) -> None:
    """Write the predictions for a scene, and the seconds of both networks for some tiles."""
    import torch

    config = load_config(None, ["engine.backend=torch", f"engine.precision={precision}"])
    with TemporaryDirectory() as folder:
        job = prepare(Request(str(scene), Path(folder), config))
    search = Search(min_scores=job.min_network_scores)
    with BlockCache():
        shards = list(predict_shards(job.scene, job.shards, job.models, search, config.engine))
        seconds, pixels = _timed(job, precision == "bfloat16", tiles) if tiles else (0.0, 0)
    np.savez(
        out,
        landcover=np.concatenate([shard.landcover for shard in shards if shard.landcover is not None]),
        boxes=np.concatenate([shard.detections.boxes for shard in shards]),
        scores=np.concatenate([shard.detections.scores for shard in shards]),
        seconds=seconds,
        pixels=pixels,
        name=torch.cuda.get_device_name() if torch.cuda.is_available() else "the processor",
    )


def _timed(job: Job, half: bool, tiles: int) -> tuple[float, int]:
    """Return the seconds of both networks for the first tile, again and again, and their pixels."""
    engine = job.request.config.engine
    networks = Networks(job.models, engine, thread_count(engine))
    tile = job.shards[0][0]
    seen = read_tile(job.models, job.scene, tile, half)
    _compute(networks, seen, tile)
    begun, done = time.monotonic(), 0
    while done < tiles and time.monotonic() - begun < MOST_S:
        _compute(networks, seen, tile)
        done += 1
    return time.monotonic() - begun, done * tile.height * tile.width


def _compute(networks: Networks, seen: TileInput, tile: Tile) -> None:
    boxes = networks.detect(seen.images["detection"], [tile])
    networks.segment(seen.images["segmentation"], tile)
    for found in boxes:
        found.result()


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cuda", "cpu"), help="Default: the GPU if there is one.")
    parser.add_argument("--size", type=int, help="Side of the simulated scene, in pixels.")
    parser.add_argument("--tiles", type=int, help="Tiles to measure on a GPU; the default is a granule's.")
    return parser.parse_args(given)


if __name__ == "__main__":
    if sys.argv[1:2] == ["predict"]:
        predict(Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4], int(sys.argv[5]))
    else:
        main()
