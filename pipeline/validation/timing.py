"""Processor time of a bundle's network."""

from __future__ import annotations

import time

import torch
from torch import Tensor

from pipeline.models.bundle import Bundle
from pipeline.models.family import dense
from pipeline.models.registry import build_network


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
