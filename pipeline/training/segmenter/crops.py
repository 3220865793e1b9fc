"""Augmented crops of labelled scenes, for the training of a land-cover network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, zoom
from torch import Tensor
from torch.utils.data import Dataset

from pipeline.evaluation.landcover.labels import UNLABELLED
from pipeline.models.bundle import Card
from pipeline.models.normalise import normalise
from pipeline.training.segmenter.scenes import LabelledScene

PATH_RADIANCE = {
    "B01": 1.2, "B02": 1.0, "B03": 0.6, "B04": 0.35, "B05": 0.28, "B06": 0.22, "B07": 0.18, "B08": 0.13,
    "B8A": 0.1, "B09": 0.05, "B11": 0.02, "B12": 0.01,
}  # fmt: skip
"""What a clear atmosphere adds to the reflectance, relative to B02 (about wavelength to the power -4)."""

CLOUD_REFLECTANCE = {
    "B01": 1.0, "B02": 1.0, "B03": 0.98, "B04": 0.97, "B05": 1.0, "B06": 1.02, "B07": 1.03, "B08": 1.03,
    "B8A": 1.04, "B09": 0.9, "B11": 0.62, "B12": 0.48,
}  # fmt: skip
"""Of a water cloud, relative to B02: ice and water absorb in the short-wave infrared."""


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

    Most crops change a little. A third change much: then a `hazy` one (L1C) mostly loses path radiance and
    another mostly gains it, so that the network meets both levels with either's labels.
    """
    turns, mirrored = int(rng.integers(4)), bool(rng.integers(2))

    def turn(array: NDArray[Any]) -> NDArray[Any]:
        turned = np.rot90(array, turns, axes=(-2, -1))
        return np.ascontiguousarray(turned[..., ::-1] if mirrored else turned)

    image, valid = turn(crop.reflectance), turn(crop.valid)
    if rng.random() < 0.3:
        haze = rng.uniform(-0.08, 0.03) if hazy else rng.uniform(-0.01, 0.08)
        gain = rng.uniform(0.8, 1.2) * rng.uniform(0.92, 1.08, (len(bands), 1, 1))
    else:
        haze = rng.uniform(-0.008, 0.008)
        gain = rng.uniform(0.93, 1.07) * rng.uniform(0.98, 1.02, (len(bands), 1, 1))
    path = np.array([PATH_RADIANCE[band] for band in bands], np.float32)[:, None, None]
    image = image * gain.astype(np.float32) + np.float32(haze) * path
    if rng.random() < 0.15:
        image = _under_clouds(image, bands, rng)
    if rng.random() < 0.2:
        sigma = rng.uniform(0.3, 0.8)
        image = gaussian_filter(image, (0, sigma, sigma))
    if rng.random() < 0.3:
        image = image + rng.normal(0, rng.uniform(0, 0.005), image.shape).astype(np.float32)
    if rng.random() < 0.15:
        image = np.round(image * 255) / 255
    if rng.random() < 0.1:
        valid = valid & _swath(valid.shape[0], rng)
    return Crop(np.maximum(image, 1e-4).astype(np.float32), valid, turn(crop.classes), turn(crop.weights))


def _under_clouds(
    image: NDArray[np.float32], bands: Sequence[str], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return the image (C, S, S) under thin cloud and in the shadow of thicker clouds.

    Linear mixing with a cloud's own reflectance; in shadow the sky still lights the blue bands best.
    """

    def patches(strongest: float) -> NDArray[np.float32]:
        coarse = int(rng.integers(3, 7))
        smooth = zoom(rng.random((coarse, coarse)), image.shape[-1] / coarse, order=1)
        from_there = rng.uniform(0.2, 0.7)
        field: NDArray[np.float32] = np.clip((smooth - from_there) / (1 - from_there), 0, 1).astype(
            np.float32
        )
        return field * np.float32(rng.uniform(0.2, strongest))

    def of_bands(values: Mapping[str, float]) -> NDArray[np.float32]:
        return np.array([values[band] for band in bands], np.float32)[:, None, None]

    if rng.random() < 0.6:
        image = image * (1 - patches(0.8) * (1 - 0.3 * of_bands(PATH_RADIANCE)))
    if rng.random() < 0.6:
        opacity, cloud = patches(0.9), np.float32(rng.uniform(0.3, 0.7)) * of_bands(CLOUD_REFLECTANCE)
        image = image * (1 - opacity) + cloud * opacity
    return image


def _swath(side: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return (side, side), True on one side of a straight edge of data."""
    angle, distance = rng.uniform(0, 2 * np.pi), rng.uniform(0.1, 0.45) * side
    rows, cols = np.mgrid[:side, :side] - side / 2
    inside: NDArray[np.bool_] = rows * np.sin(angle) + cols * np.cos(angle) < distance
    return inside


class Crops(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """Endless augmented training crops; crop `i` is the same whenever the seed is.

    Half of the crops show a pixel of a class drawn evenly, so that small classes are learned. An item is the
    normalised image (C, H, W), the classes (H, W) and the label weights (H, W). A share `band_dropout` of
    the crops lacks the optional bands, as scenes do that don't have them.
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

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
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
        image, classes, weights = _item(crop, self.card)
        if self.card.optional_bands and rng.random() < self.band_dropout:
            image[[band in self.card.optional_bands for band in self.card.bands]] = 0
        return image, classes, weights


class HeldOutCrops(Dataset[tuple[Tensor, Tensor, Tensor]]):
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

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        scene, (top, left, rows, cols) = self.places[index]
        truth = scene.labels
        if scene.land_use is not None:
            truth = np.where(scene.land_use != UNLABELLED, scene.land_use, truth)
        there = scene.held_out_mask & (truth < len(self.card.classes))
        shown = replace(scene, classes=truth, weights=there.astype(np.float32))
        crop = cut(shown, top + (rows - self.side) // 2, left + (cols - self.side) // 2, self.side)
        return _item(crop, self.card)


def _item(crop: Crop, card: Card) -> tuple[Tensor, Tensor, Tensor]:
    """Return the normalised image (C, H, W), the classes (H, W) and the label weights (H, W) of a crop."""
    weights = np.where(crop.valid, crop.weights, np.float32(0))
    classes = np.where(weights > 0, crop.classes, 0).astype(np.int64)
    image = normalise(crop.reflectance, crop.valid, card)
    return image, torch.from_numpy(classes), torch.from_numpy(weights)
