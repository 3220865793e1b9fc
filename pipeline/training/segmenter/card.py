"""Accuracy of a land-cover network on what was held out of labelled scenes, for its card."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pipeline.evaluation.landcover.labels import UNLABELLED
from pipeline.models.bundle import Card
from pipeline.models.normalise import normalise
from pipeline.tiling import plan, round_up
from pipeline.training.segmenter.scenes import LabelledScene
from pipeline.validation.landcover_metrics import Classes, Pair, advantage, metrics


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


def land_use_metrics(results: Iterable[tuple[LabelledScene, Pair]], card: Card) -> dict[str, Any]:
    """Return `metrics` of land use, beside those of the scenes' labels on the same pixels.

    `results` are scenes, each with its land use where that counts, and with found classes. `advantage` is the
    accuracy less that of the labels (`pseudo_label_accuracy`), with its interval.
    """
    compared = [
        (
            np.where((scene.labels < UNLABELLED) & (found < UNLABELLED), truth, np.uint8(UNLABELLED)),
            found,
            scene,
        )
        for scene, (truth, found) in results
    ]
    of_labels, gained, interval = advantage((truth, found, scene.labels) for truth, found, scene in compared)
    return metrics([(truth, found) for truth, found, _ in compared], card) | {
        "pseudo_label_accuracy": of_labels,
        "advantage": gained,
        "advantage_95": interval,
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
