"""Accuracy of a land-cover network on what was held out of labelled scenes, for its card."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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

Classes = NDArray[np.uint8]
"""(H, W) class indices, `UNLABELLED` where there is none."""
Pair = tuple[Classes, Classes]
"""Of a scene: true and found ones."""


@torch.inference_mode()
def segment(
    network: nn.Module, scene: LabelledScene, card: Card, tile_px: int = 512, without: Sequence[str] = ()
) -> Classes:
    """Return the classes of a scene, tile by tile; `UNLABELLED` where there are no data.

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


def confusion(pairs: Iterable[Pair], card: Card) -> LandcoverEvaluation:
    """Compare true and found classes where both have one."""
    return LandcoverEvaluation(card.classes, _by_block(pairs, card).sum(axis=0), _PIXEL_M2)


def metrics(pairs: Iterable[Pair], card: Card) -> dict[str, Any]:
    """Return accuracy and IoU of found classes against true ones.

    `accuracy_95` is the accuracy's interval by a bootstrap of blocks of `BOOTSTRAP_PX`.
    """
    blocks = _by_block(pairs, card)
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


def _by_block(pairs: Iterable[Pair], card: Card) -> NDArray[np.int64]:
    index = np.arange(len(card.classes))
    return np.concatenate([confusion_by_block(truth, found, index, BOOTSTRAP_PX) for truth, found in pairs])


def _confusions(result: LandcoverEvaluation, count: int = 4) -> dict[str, float | None]:
    """Return the most frequent confusions, as shares of all pixels."""
    wrong = np.where(np.eye(len(result.legend), dtype=bool), 0, result.matrix)
    most = [np.unravel_index(index, wrong.shape) for index in np.argsort(-wrong, axis=None)[:count]]
    return {
        f"{result.legend[i].name} as {result.legend[j].name}": _rounded(float(wrong[i, j]) / result.pixels)
        for i, j in most
        if wrong[i, j]
    }


def land_use_metrics(results: Iterable[tuple[LabelledScene, Pair]], card: Card) -> dict[str, Any]:
    """Return `metrics` of land use, beside those of the scenes' labels on the same pixels.

    `results` are scenes, each with its land use where that counts, and with found classes. `advantage` is the
    accuracy less that of the labels (`pseudo_label_accuracy`), with its interval.
    """
    count, pairs, right, blocks = len(card.classes), [], [], []
    for scene, (truth, found) in results:
        both = (truth < count) & (scene.labels < count) & (found < count)
        row, col = np.nonzero(both)
        across = -(-scene.shape[1] // BOOTSTRAP_PX)
        _, block = np.unique(row // BOOTSTRAP_PX * across + col // BOOTSTRAP_PX, return_inverse=True)
        labels_right = (scene.labels == truth)[both]
        gained = (found == truth)[both].astype(float) - labels_right
        blocks.append(np.stack([np.bincount(block, gained), np.bincount(block)], axis=1))
        right.append(labels_right)
        pairs.append((_masked(truth, both), found))
    pixels, counts = np.concatenate(right), np.concatenate(blocks)
    interval = block_bootstrap(counts, lambda sums: sums[..., 0] / np.maximum(sums[..., 1], 1))
    return metrics(pairs, card) | {
        "pseudo_label_accuracy": _rounded(pixels.mean()) if len(pixels) else None,
        "advantage": _rounded(counts[:, 0].sum() / len(pixels)) if len(pixels) else None,
        "advantage_95": [_rounded(bound) for bound in interval],
    }


def land_use_where(scene: LabelledScene, where: NDArray[np.bool_]) -> Classes:
    """Return the land use of a scene where `where` (H, W) is True."""
    none = np.full(scene.shape, UNLABELLED, np.uint8)
    return none if scene.land_use is None else np.where(where, scene.land_use, none)


def held_out_pairs(
    network: nn.Module, scenes: Iterable[LabelledScene], card: Card, without: Sequence[str] = ()
) -> list[Pair]:
    """Return labels and found classes of scenes, labels in held-out blocks only."""
    return [
        (_masked(scene.labels, scene.held_out_mask), segment(network, scene, card, without=without))
        for scene in scenes
    ]


def measure(network: nn.Module, scenes: Sequence[LabelledScene], card: Card) -> dict[str, Any]:
    """Return how well a network does on what was held out, by the name of the scenes, for its card.

    `held_out`: agreement with the labels in the held-out blocks, also as if the optional bands were not
    there. Where there is land use: accuracy on its polygons, in held-out blocks and overall, beside that of
    the labels.
    """
    quality: dict[str, Any] = {}
    for name in dict.fromkeys(scene.name for scene in scenes if scene.held_out):
        group = [scene for scene in scenes if scene.name == name and scene.held_out]
        pairs = held_out_pairs(network, group, card)
        blocks = sum(len(scene.held_out) for scene in group)
        quality[name] = {"held_out": {"blocks": blocks, **metrics(pairs, card)}}
        if card.optional_bands:
            blind = held_out_pairs(network, group, card, card.optional_bands)
            quality[name]["held_out_without_optional_bands"] = metrics(blind, card)
        for key, everywhere in (("land_use_held_out", False), ("land_use_everywhere", True)):
            results = [
                (scene, (land_use_where(scene, scene.held_out_mask | everywhere), found))
                for scene, (_, found) in zip(group, pairs, strict=True)
                if scene.land_use is not None
            ]
            if results:
                quality[name][key] = land_use_metrics(results, card)
    return quality


def _masked(classes: Classes, where: NDArray[np.bool_]) -> Classes:
    return np.where(where, classes, np.uint8(UNLABELLED))


def _rounded(share: float) -> float | None:
    return round(float(share), 3) if np.isfinite(share) else None
