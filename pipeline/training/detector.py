"""Training of the truck detector on chips drawn by the simulator, with Lightning."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as pl
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from rasterio.windows import Window
from torch import Tensor
from torch.utils.data import Dataset

from pipeline.config import Settings, load_settings
from pipeline.models.bundle import Bundle, Card, LegendClass, open_bundle, save_bundle
from pipeline.models.detector import DEFAULT_ARGUMENTS, build_detector
from pipeline.models.inputs import normalise
from pipeline.scenes.opening import open_scene
from pipeline.training.chips import CHIP_BANDS, Ground, draw_chip
from pipeline.training.fitting import FitSettings, fit, half_precision, prepare, training_loader
from pipeline.training.simulate import simulate_scene

HALO, STRIDE = 48, 4
"""The halo covers the reach of the network (`anatomy`) and of a proposal around a centre in the core."""


PixelBox = tuple[float, float, float, float]


class GroundScene(Settings):
    """A real scene to draw traffic on, and the vehicles that are in it."""

    path: str
    trucks: tuple[PixelBox, ...] = Field((), description="boxes in pixels: x_min, y_min, x_max, y_max")
    doubtful: tuple[PixelBox, ...] = Field(
        (), description="boxes of what may be one: nothing is learnt there"
    )


class DetectorTraining(FitSettings):
    """Settings of a training of the truck detector."""

    scenes: tuple[GroundScene, ...] = Field((), description="real scenes: ground to draw traffic on")
    simulated: tuple[int, ...] = Field(
        (), description="seeds of simulated scenes, as ground and with traffic"
    )
    simulated_px: int = Field(768, ge=128)
    sources: tuple[dict[str, Any], ...] = Field(
        (), description="the scenes with their licences, for the card"
    )
    start_from: str | None = Field(None, description="a bundle whose weights to start from")

    steps: int = Field(4000, ge=1)
    chip_px: int = Field(64, ge=32, multiple_of=4)
    learning_rate: float = Field(1.5e-3, gt=0)
    warmup: int = Field(150, ge=1)
    arguments: dict[str, Any] = DEFAULT_ARGUMENTS


Target = dict[str, Tensor]


class Chips(Dataset[tuple[Tensor, Target]]):
    """Training chips without end, normalised (4, H, W), with targets; chip `i` is the same for a seed."""

    def __init__(
        self, card: Card, grounds: Sequence[Ground], scenes: Sequence[Ground], size: int, seed: int
    ) -> None:
        self.card, self.grounds, self.scenes = card, grounds, scenes
        self.size, self.seed = size, seed

    def __getitem__(self, index: int) -> tuple[Tensor, Target]:
        rng = np.random.default_rng((self.seed, index))
        chip = draw_chip(rng, self.grounds, self.scenes, self.size)
        everywhere = np.ones((self.size, self.size), dtype=bool)
        target = {
            "boxes": torch.from_numpy(chip.boxes),
            "labels": torch.ones(len(chip.boxes), dtype=torch.int64),
            "ignored": torch.from_numpy(chip.ignored),
        }
        return normalise(chip.reflectance, everywhere, self.card), target


def _collate(examples: list[tuple[Tensor, Target]]) -> tuple[Tensor, list[Target]]:
    images, targets = zip(*examples, strict=True)
    return torch.stack(images), list(targets)


class DetectorModule(pl.LightningModule):
    """One optimisation of the detector: AdamW, warm-up, cosine decay."""

    def __init__(self, card: Card, settings: DetectorTraining) -> None:
        super().__init__()
        self.settings = settings
        self.detector = build_detector(card).to(memory_format=torch.channels_last)
        self.detector.half_precision = half_precision(settings)

    def training_step(self, batch: tuple[Tensor, list[Target]], index: int) -> Tensor:
        """The sum of the losses of proposals and boxes."""
        images, targets = batch
        losses = self.detector(images.contiguous(memory_format=torch.channels_last), targets)
        total = torch.stack(list(losses.values())).sum()
        self.log_dict({"loss": total, **losses})
        return total

    def configure_optimizers(self) -> Any:
        """Learning rate: linear warm-up, then half a cosine to a fiftieth."""
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.settings.learning_rate, weight_decay=1e-3)

        def rate(step: int) -> float:
            warm = min(1.0, (step + 1) / self.settings.warmup)
            progress = min(1.0, step / self.settings.steps)
            return warm * (0.02 + 0.98 * 0.5 * (1 + float(np.cos(np.pi * progress))))

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def blank_card(arguments: dict[str, Any] | None = None) -> Card:
    """The card of a detector that is not trained yet."""
    return Card(
        id="trucks",
        version="1",
        task="detection",
        architecture="faster_rcnn",
        arguments=arguments or DEFAULT_ARGUMENTS,
        bands=CHIP_BANDS,
        mean=(0.09, 0.10, 0.10, 0.22),
        std=(0.06, 0.06, 0.07, 0.11),
        classes=(LegendClass(value=1, name="truck", colour="#FF00FF"),),
        score_threshold=0.5,
        halo=HALO,
        stride=STRIDE,
    )


def real_ground(scene: GroundScene) -> Ground:
    """A whole real scene, reflectance 0 where it has no data, with the vehicles that are known in it."""
    opened = open_scene(scene.path)
    rows, cols = opened.shape
    pixels = opened.read(Window(0, 0, cols, rows), CHIP_BANDS)
    return Ground(pixels.reflectance, _boxes(scene.trucks), _boxes(scene.doubtful))


def simulated_traffic(size: int, seed: int) -> Ground:
    """A simulated scene with its trucks; those that count neither way are doubtful."""
    scene = simulate_scene(size, seed, CHIP_BANDS)
    firm = [truck.box for truck in scene.trucks if truck.confidence != "low"]
    doubtful = [truck.box for truck in scene.trucks if truck.confidence == "low"]
    return Ground(scene.reflectance, _boxes(firm), _boxes(doubtful))


def _boxes(boxes: Sequence[tuple[float, ...]]) -> NDArray[np.float32]:
    return np.array(boxes, np.float32).reshape(-1, 4)


def train_from_config(config: Path | None, out: Path) -> Bundle:
    """Train by the settings of a YAML file; see `DetectorTraining` for what it may hold.

    Raises
    ------
    ConfigError
        If a setting is unknown or out of range.
    """
    return train_detector(load_settings(DetectorTraining, config), out)


def train_detector(settings: DetectorTraining, out: Path) -> Bundle:
    """Train on chips drawn over the settings' scenes; resumes from `out/last.ckpt`.

    Leaves checkpoints and `metrics.csv` in `out`, and the bundle in `out/bundle`.
    """
    prepare(settings)
    card = blank_card(settings.arguments)
    module = DetectorModule(card, settings)
    if settings.start_from:
        open_bundle(settings.start_from).load_into(module.detector).train()
    grounds = [real_ground(scene) for scene in settings.scenes]
    grounds += [
        Ground(simulate_scene(settings.simulated_px, seed, CHIP_BANDS, traffic=False).reflectance)
        for seed in settings.simulated
    ]
    traffic = [simulated_traffic(settings.simulated_px, seed) for seed in settings.simulated]
    chips = Chips(card, grounds, traffic, settings.chip_px, settings.seed)
    # The detector runs its convolutions in half precision, and its boxes in single, by itself.
    fit(module, training_loader(chips, settings, _collate), None, settings, out, autocast=False)
    return save_bundle(
        out / "bundle",
        card.model_copy(update={"training_data": settings.sources}),
        module.detector.state_dict(),
    )
