"""Examples for the truck detector: chips to learn from, and scenes to check it on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from rasterio.windows import Window
from torch import Tensor
from torch.utils.data import Dataset

from pipeline.models.bundle import Card
from pipeline.models.normalise import normalise
from pipeline.open_data.resolve import resolved
from pipeline.scenes.open import open_scene
from pipeline.scenes.raster.read import read_pixels
from pipeline.simulation.chips.chip import CERTAIN_KMH, CHIP_BANDS, HEAVY, LIGHT, LabelledImage, draw_chip
from pipeline.simulation.simulate import simulate_scene
from pipeline.simulation.world.stage import GLIMPSED_PX, STANDING_KMH
from pipeline.training.detector.labelled import draw_labelled_chip
from pipeline.training.detector.settings import ChipTraining, GroundScene

Target = dict[str, Tensor]


class Chips(Dataset[tuple[Tensor, Target]]):
    """Endless training chips, normalised (4, H, W), with targets; chip `i` is the same for a seed."""

    def __init__(
        self,
        card: Card,
        grounds: Sequence[LabelledImage],
        scenes: Sequence[LabelledImage],
        size: int,
        seed: int,
        labelled: Sequence[LabelledImage] = (),
        labelled_share: float = 0.0,
    ) -> None:
        self.card, self.grounds, self.scenes = card, grounds, scenes
        self.size, self.seed = size, seed
        self.labelled, self.labelled_share = labelled, labelled_share

    def __getitem__(self, index: int) -> tuple[Tensor, Target]:
        rng = np.random.default_rng((self.seed, index))
        if self.labelled and rng.uniform() < self.labelled_share:
            chip, valid = draw_labelled_chip(rng, self.labelled, self.size)
        else:
            chip = draw_chip(rng, self.grounds, self.scenes, self.size)
            valid = np.ones((self.size, self.size), dtype=bool)
        return normalise(chip.reflectance, valid, self.card), _target(chip)


class HeldOut(Dataset[tuple[Tensor, Target]]):
    """Scenes of any size as they are, from which nothing is learned; items as those of `Chips`."""

    def __init__(self, card: Card, grounds: Sequence[LabelledImage]) -> None:
        self.card, self.grounds = card, grounds

    def __len__(self) -> int:
        return len(self.grounds)

    def __getitem__(self, index: int) -> tuple[Tensor, Target]:
        ground = self.grounds[index]
        valid = np.asarray(ground.reflectance.any(axis=0))
        image = normalise(ground.reflectance, valid, self.card)
        return image, _target(ground)


def _target(image: LabelledImage) -> Target:
    return {
        "boxes": torch.from_numpy(image.boxes),
        "labels": torch.from_numpy(image.labels),
        "ignored": torch.from_numpy(image.ambiguous),
    }


def collate(examples: list[tuple[Tensor, Target]]) -> tuple[Tensor, list[Target]]:
    """Stack the images of examples."""
    images, targets = zip(*examples, strict=True)
    return torch.stack(images), list(targets)


def grounds_and_traffic(settings: ChipTraining) -> tuple[list[LabelledImage], list[LabelledImage]]:
    """Return ground to draw traffic on, real and simulated, and simulated scenes with traffic."""
    grounds = [real_ground(scene) for scene in settings.scenes]
    grounds += [
        LabelledImage(simulate_scene(settings.simulated_px, seed, CHIP_BANDS, traffic=False).reflectance)
        for seed in settings.simulated
    ]
    return grounds, [simulated_traffic(settings.simulated_px, seed) for seed in settings.simulated]


def real_ground(scene: GroundScene) -> LabelledImage:
    """Return a complete real scene, reflectance 0 where it has no data, with the vehicles known in it."""
    opened = open_scene(resolved(scene.path))
    rows, cols = opened.shape
    pixels = read_pixels(opened, Window(0, 0, cols, rows), CHIP_BANDS)
    heavy = np.full(len(scene.trucks), HEAVY, np.int64)
    alike = np.array(scene.look_alikes, np.float32).reshape(-1, 2)
    return LabelledImage(pixels.reflectance, _boxes(scene.trucks), heavy, _boxes(scene.ambiguous), alike)


def simulated_traffic(size: int, seed: int) -> LabelledImage:
    """Return a simulated scene with its heavy and light vehicles.

    Vehicles that no observer could judge or that hardly move, and heavy ones of which nearly nothing is to
    be seen, are ambiguous. What stands is ground.
    """
    scene = simulate_scene(size, seed, CHIP_BANDS)
    boxes, labels, ambiguous = [], [], []
    for one in scene.vehicles:
        visible, heavy = one.contrast * one.light >= GLIMPSED_PX, one.weight == "heavy"
        if one.vehicle.speed_kmh < STANDING_KMH or not (visible or heavy):
            continue
        if visible and one.confidence != "ignore" and one.vehicle.speed_kmh >= CERTAIN_KMH:
            boxes.append(one.box)
            labels.append(HEAVY if heavy else LIGHT)
        else:
            ambiguous.append(one.box)
    return LabelledImage(scene.reflectance, _boxes(boxes), np.array(labels, np.int64), _boxes(ambiguous))


def _boxes(boxes: Sequence[tuple[float, ...]]) -> NDArray[np.float32]:
    return np.array(boxes, np.float32).reshape(-1, 4)
