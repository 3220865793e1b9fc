"""How good a land-cover network is on labelled scenes, as plain numbers with their uncertainty."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pipeline.evaluation.bootstrap import block_bootstrap
from pipeline.evaluation.landcover.accuracy import LandcoverEvaluation
from pipeline.evaluation.landcover.blocks import accuracy_and_iou, confusion_by_block
from pipeline.evaluation.landcover.labels import UNLABELLED
from pipeline.models.bundle import Card
from pipeline.models.normalise import normalise
from pipeline.tiling import plan, round_up
from pipeline.training.segmenter.scenes import LabelledScene

BOOTSTRAP_PX = 64
"""Side of the blocks that intervals are drawn from: larger than nearly every field."""
_PIXEL_M2 = 100.0


@torch.inference_mode()
def segment(
    network: nn.Module, scene: LabelledScene, card: Card, tile_px: int = 512, without: Sequence[str] = ()
) -> NDArray[np.uint8]:
    """(H, W) class indices of a scene, tile by tile; `UNLABELLED` where there is no data.

    The bands `without` are treated as if the scene lacked them.
    """
    classes = np.full(scene.shape, UNLABELLED, np.uint8)
    bands = [band for band in card.bands if band not in without]
    index = [card.bands.index(band) for band in bands]
    for tile in plan(scene.shape, tile_px, card.halo, card.stride):
        rows, cols = tile.window.toslices()
        image = normalise(scene.reflectance[index, rows, cols], scene.valid[rows, cols], card, bands)
        height, width = image.shape[1:]
        below, right = round_up(height, card.stride) - height, round_up(width, card.stride) - width
        image = nn.functional.pad(image, (0, right, 0, below))
        logits = network(image[None].contiguous(memory_format=torch.channels_last))[0]
        classes[tile.core.toslices()] = logits.argmax(0)[tile.core_in_window].numpy().astype(np.uint8)
    return np.where(scene.valid, classes, np.uint8(UNLABELLED))


def figures(
    truth: NDArray[np.uint8], found: NDArray[np.uint8], where: NDArray[np.bool_], card: Card
) -> dict[str, Any]:
    """Accuracy and IoU of class indices (H, W) against true ones, where both have one and `where` is True.

    `accuracy_95` is the accuracy's interval by a bootstrap of blocks of `BOOTSTRAP_PX`.
    """
    blocks = confusion_by_block(
        np.where(where, truth, np.uint8(UNLABELLED)), found, np.arange(len(card.classes)), BOOTSTRAP_PX
    )
    result = LandcoverEvaluation(card.classes, blocks.sum(axis=0), _PIXEL_M2)
    interval = block_bootstrap(blocks, lambda sums: accuracy_and_iou(sums)[..., 0])
    return {
        "pixels": result.pixels,
        "accuracy": _rounded(result.accuracy),
        "accuracy_95": [_rounded(bound) for bound in interval],
        "iou": {
            item.name: _rounded(result.iou[i]) for i, item in enumerate(card.classes) if result.labelled[i]
        },
        "confusions": _confusions(result),
    }


def agreement(truth: NDArray[np.uint8], found: NDArray[np.uint8], card: Card) -> LandcoverEvaluation:
    """Comparison of class indices (H, W) with true ones, where both have a class."""
    blocks = confusion_by_block(truth, found, np.arange(len(card.classes)), BOOTSTRAP_PX)
    return LandcoverEvaluation(card.classes, blocks.sum(axis=0), _PIXEL_M2)


def _confusions(result: LandcoverEvaluation, count: int = 4) -> dict[str, float | None]:
    """What is taken for what most often, as a share of all pixels."""
    wrong = np.where(np.eye(len(result.legend), dtype=bool), 0, result.matrix)
    most = [np.unravel_index(index, wrong.shape) for index in np.argsort(-wrong, axis=None)[:count]]
    return {
        f"{result.legend[i].name} as {result.legend[j].name}": _rounded(float(wrong[i, j]) / result.pixels)
        for i, j in most
        if wrong[i, j]
    }


def land_use_figures(
    scene: LabelledScene, found: NDArray[np.uint8], where: NDArray[np.bool_], card: Card
) -> dict[str, Any]:
    """`figures` on the land use of a scene, beside those of its pseudo-label on the same pixels.

    `advantage` is by how much the accuracy is above the pseudo-label's, with its bootstrap interval.
    """
    if scene.land_use is None:
        return {}
    count = len(card.classes)
    both = where & (scene.land_use < count) & (scene.pseudo < count) & (found < count)
    right, pseudo_right = found == scene.land_use, scene.pseudo == scene.land_use
    row, col = np.nonzero(both)
    across = -(-scene.shape[1] // BOOTSTRAP_PX)
    _, block = np.unique(row // BOOTSTRAP_PX * across + col // BOOTSTRAP_PX, return_inverse=True)
    gained = right[both].astype(float) - pseudo_right[both]
    counts = np.stack([np.bincount(block, gained), np.bincount(block)], axis=1)
    interval = block_bootstrap(counts, lambda sums: sums[..., 0] / np.maximum(sums[..., 1], 1))
    return figures(scene.land_use, found, both, card) | {
        "pseudo_label_accuracy": _rounded(pseudo_right[both].mean()) if both.any() else None,
        "advantage": _rounded(gained.mean()) if both.any() else None,
        "advantage_95": [_rounded(bound) for bound in interval],
    }


def measure(network: nn.Module, scenes: Sequence[LabelledScene], card: Card) -> dict[str, Any]:
    """How well a network does on what was held out of each scene, as plain numbers for its card.

    `held_out`: agreement with the pseudo-label (or with the simulator) in the held-out blocks, also as if
    the optional bands were not there. Where there is land use: accuracy on its polygons, in held-out blocks
    and overall, beside the pseudo-label's own.
    """
    quality: dict[str, Any] = {}
    for scene in scenes:
        if not scene.held_out:
            continue
        found, where = segment(network, scene, card), scene.held_out_mask
        quality[scene.name] = {"held_out": figures(scene.pseudo, found, where, card)}
        if card.optional_bands:
            blind = segment(network, scene, card, without=card.optional_bands)
            quality[scene.name]["held_out_without_optional_bands"] = figures(scene.pseudo, blind, where, card)
        if scene.land_use is not None:
            quality[scene.name] |= {
                "land_use_held_out": land_use_figures(scene, found, where, card),
                "land_use_everywhere": land_use_figures(scene, found, scene.valid, card),
            }
    return quality


def _rounded(share: float) -> float | None:
    return round(float(share), 3) if np.isfinite(share) else None
