"""Processor time of a bundle's network."""

from __future__ import annotations

import platform
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.config import Config, Engine
from pipeline.inference.machine import backend, half_precision
from pipeline.inference.networks import Image, Networks
from pipeline.inference.run_models import Models, thread_count
from pipeline.models.bundle import Bundle
from pipeline.models.family import dense
from pipeline.models.registry import build_network
from pipeline.tiling import Tile

CORE_PX = Config().tiling.tile_px


@torch.inference_mode()
def network_seconds(bundle: Bundle, images: Tensor, half: bool, runs: int = 3) -> list[float]:
    """Return the seconds of each run of a network on normalised images (N, C, H, W), with one thread.

    Boxes are included, decoding is not. Processor time does not depend on what else the machine does.
    """
    network = bundle.load_into(build_network(bundle.card)).to(memory_format=torch.channels_last)
    images = images.contiguous(memory_format=torch.channels_last)
    threads, seconds = torch.get_num_threads(), []
    torch.set_num_threads(1)
    try:
        for _ in range(runs):
            start = time.thread_time()
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                maps = dense(network, images)
            if bundle.card.task == "detection":
                network.detections(*maps)  # type: ignore[operator]
            seconds.append(time.thread_time() - start)
    finally:
        torch.set_num_threads(threads)
    return seconds


def compared_speed(bundle: Bundle, previous: Bundle | None, engine: Engine) -> dict[str, Any]:
    """Return the seconds for a million pixels of a segmenter in the engine's runtime, on this processor.

    From the normalised image of a tile with its halo to its classes; decoding is not included. `cpu` adds up
    the seconds of all threads, `wall` passes on the clock. With another bundle its figures too, measured in
    turns with these, and the quotient of the CPU seconds.
    """
    bundles = [bundle, *([previous] if previous else [])]
    (cpu, wall), *others = segmenter_seconds(bundles, engine, CORE_PX)
    found: dict[str, Any] = {
        "cpu_seconds_per_mpx": round(cpu, 3),
        "wall_seconds_per_mpx": round(wall, 3),
        "threads": thread_count(engine),
        "runtime": backend(engine),
        "precision": "bfloat16" if half_precision(engine) else "float32",
        "processor": processor(),
    }
    if previous:
        ((cpu_before, _),) = others
        found["previous"] = f"{previous.card.id}-{previous.card.version}"
        found["previous_cpu_seconds_per_mpx"] = round(cpu_before, 3)
        found["of_previous"] = round(cpu / cpu_before, 3)
    return found


def segmenter_seconds(
    bundles: Sequence[Bundle], engine: Engine, core_px: int, runs: int = 3
) -> list[tuple[float, float]]:
    """Return CPU and wall seconds for a million pixels of each segmenter: the best of `runs`, in turns.

    One tile of the engine's default size amid a scene, with the halo that the network needs.
    """
    threads, half, rng = thread_count(engine), half_precision(engine), np.random.default_rng(0)
    side = 3 * core_px
    tries = []
    for bundle in bundles:
        tile = Tile(core_px, core_px, core_px, core_px, bundle.card.halo, side, side)
        image = Image.empty(tile, bundle.card, half)
        image.bands.copy_(torch.from_numpy(rng.standard_normal(image.bands.shape, np.float32)))
        tries.append((Networks(Models(None, bundle), engine, threads), image, tile))
    spent: list[list[tuple[float, float]]] = [[] for _ in bundles]
    for _ in range(runs + 1):
        for (networks, image, tile), seconds in zip(tries, spent, strict=True):
            cpu, wall = time.process_time(), time.perf_counter()
            networks.segment(image, tile)
            seconds.append((time.process_time() - cpu, time.perf_counter() - wall))
    mpx = core_px**2 / 1e6
    return [
        (min(cpu for cpu, _ in seconds[1:]) / mpx, min(wall for _, wall in seconds[1:]) / mpx)
        for seconds in spent
    ]


def processor() -> str:
    """Return the name of this processor."""
    try:
        named = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text("utf-8"), re.MULTILINE)
    except OSError:  # no Linux
        named = None
    return named[1] if named else platform.processor() or platform.machine()
