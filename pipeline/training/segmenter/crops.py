"""Augmented crops of labelled scenes, for the training of a land-cover network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional
from torch.utils.data import Dataset

from pipeline.evaluation.landcover.labels import UNLABELLED
from pipeline.models.bundle import Card
from pipeline.models.normalise import normalise
from pipeline.scenes.atmosphere import PATH_RADIANCE, surface, top_of_atmosphere
from pipeline.training.segmenter.augment import by_band, degraded, drop_bands, turned
from pipeline.training.segmenter.examples import Example
from pipeline.training.segmenter.scenes import LabelledScene


@dataclass(frozen=True)
class Crop:
    """A square of a scene: reflectance (C, H, W), and validity, classes and label weights (H, W)."""

    reflectance: NDArray[np.float32]
    valid: NDArray[np.bool_]
    classes: NDArray[np.uint8]
    weights: NDArray[np.float32]


def cut(scene: LabelledScene, row: int, col: int, side: int) -> Crop:
    """Return the `side` x `side` px crop whose upper left pixel is (row, col); no data beyond the scene."""
    height, width = scene.shape
    top, left = max(0, row), max(0, col)
    source = (slice(top, max(top, min(height, row + side))), slice(left, max(left, min(width, col + side))))
    target = (
        slice(top - row, source[0].stop - row),
        slice(left - col, source[1].stop - col),
    )
    crop = Crop(
        np.zeros((len(scene.reflectance), side, side), np.float32),
        np.zeros((side, side), bool),
        np.full((side, side), UNLABELLED, np.uint8),
        np.zeros((side, side), np.float32),
    )
    crop.reflectance[:, *target] = scene.reflectance[:, *source]
    crop.valid[target] = scene.valid[source]
    crop.classes[target] = scene.classes[source]
    crop.weights[target] = scene.weights[source]
    return crop


def augment(crop: Crop, bands: Sequence[str], hazy: bool, rng: np.random.Generator) -> Crop:
    """Return the crop turned, in light, weather, atmosphere, sharpness, noise and encoding of another scene.

    Most crops change a little, a third change much. Half of the crops change their level: a `hazy` one (L1C)
    loses the atmosphere and another (L2A) gains one, so that the network meets both with either's labels.
    """
    turns, mirrored = int(rng.integers(4)), bool(rng.integers(2))
    image, valid = turned(crop.reflectance, turns, mirrored), turned(crop.valid, turns, mirrored)
    classes, weights = turned(crop.classes, turns, mirrored), turned(crop.weights, turns, mirrored)
    if rng.random() < 0.5:
        image = (surface if hazy else top_of_atmosphere)(image, bands, rng.uniform(0.7, 1.3))
    haze = rng.uniform(-0.008, 0.008)
    if rng.random() < 0.3:
        gain = rng.uniform(0.8, 1.2) * rng.uniform(0.92, 1.08, (len(bands), 1, 1))
    else:
        gain = rng.uniform(0.93, 1.07) * rng.uniform(0.98, 1.02, (len(bands), 1, 1))
    path = by_band(PATH_RADIANCE, bands) / np.float32(PATH_RADIANCE["B02"])
    image = image * gain.astype(np.float32) + np.float32(haze) * path
    image = degraded(image, bands, rng, clouded=0.15, blurred=0.2, blur_px=0.8, noise=0.005)
    if rng.random() < 0.15:
        image = np.round(image * 255) / 255
    if rng.random() < 0.1:
        valid = valid & _swath(valid.shape[0], rng)
    return Crop(np.maximum(image, 1e-4).astype(np.float32), valid, classes, weights)


def _swath(side: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return (side, side), True on one side of a straight edge of data."""
    angle, distance = rng.uniform(0, 2 * np.pi), rng.uniform(0.1, 0.45) * side
    rows, cols = np.mgrid[:side, :side] - side / 2
    inside: NDArray[np.bool_] = rows * np.sin(angle) + cols * np.cos(angle) < distance
    return inside


class Crops(Dataset[Example]):
    """Endless augmented training crops; crop `i` is the same whenever the seed is.

    Half of the crops show a pixel of a class drawn evenly, so that small classes are learned. A share
    `band_dropout` of the crops lacks some optional bands, as scenes do that don't have them.
    """

    def __init__(
        self,
        scenes: Sequence[LabelledScene],
        shares: Sequence[float],
        card: Card,
        side: int,
        seed: int,
        band_dropout: float = 0.0,
    ) -> None:
        self.scenes, self.card, self.side, self.seed = list(scenes), card, side, seed
        self.band_dropout = band_dropout
        self.shares = np.asarray(shares, float) / sum(shares)

    def __getitem__(self, index: int) -> Example:
        rng = np.random.default_rng((self.seed, index))
        scene = self.scenes[int(rng.choice(len(self.scenes), p=self.shares))]
        by_class = scene.centres
        any_class = rng.random() < 0.5
        places = np.concatenate(by_class) if any_class else by_class[int(rng.integers(len(by_class)))]
        row, col = divmod(int(rng.choice(places)), scene.shape[1])
        # The pixel lies in the middle half, where the crop's border is far.
        down, right = rng.integers(self.side // 4, 3 * self.side // 4, 2)
        crop = cut(scene, row - int(down), col - int(right), self.side)
        crop = augment(crop, self.card.bands, scene.hazy, rng)
        example = _example(crop, self.card)
        drop_bands(example[0], self.card, self.band_dropout, rng)
        return example


class HeldOutCrops(Dataset[Example]):
    """Crops of held-out blocks as they are, to check a training; items are as those of `Crops`.

    There are at most `limit` of them, spread over all blocks. Only labels inside the blocks count, land use
    before other labels.
    """

    def __init__(self, scenes: Sequence[LabelledScene], card: Card, side: int, limit: int = 12) -> None:
        self.card, self.side = card, side
        places = [(scene, block) for scene in scenes for block in scene.held_out]
        every = max(1, -(-len(places) // limit))
        self.places = places[::every]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Example:
        scene, (top, left, rows, cols) = self.places[index]
        truth = scene.labels
        if scene.land_use is not None:
            truth = np.where(scene.land_use != UNLABELLED, scene.land_use, truth)
        there = scene.held_out_mask & (truth < len(self.card.classes))
        shown = replace(scene, classes=truth, weights=there.astype(np.float32))
        crop = cut(shown, top + (rows - self.side) // 2, left + (cols - self.side) // 2, self.side)
        return _example(crop, self.card)


def _example(crop: Crop, card: Card) -> Example:
    weights = np.where(crop.valid, crop.weights, np.float32(0))
    classes = torch.from_numpy(np.where(weights > 0, crop.classes, 0).astype(np.int64))
    target = functional.one_hot(classes, len(card.classes)).permute(2, 0, 1).float()
    return normalise(crop.reflectance, crop.valid, card), target, torch.from_numpy(weights)
