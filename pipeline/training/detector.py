"""Training of the truck detector on chips drawn by the simulator, with Lightning."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import lightning as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from pydantic import Field
from rasterio.windows import Window
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from pipeline.config import Settings, load_settings
from pipeline.models.bundle import Bundle, Card, LegendClass, open_bundle, save_bundle
from pipeline.models.detector import DEFAULT_ARGUMENTS, build_detector
from pipeline.models.inputs import normalise
from pipeline.scenes.opening import open_scene
from pipeline.training.chips import CHIP_BANDS, Image, Traffic, draw_chip
from pipeline.training.simulate import simulate_scene

log = logging.getLogger(__name__)

HALO, STRIDE = 48, 4
"""The halo covers the reach of the network (`anatomy`) and of a proposal around a centre in the core."""


class DetectorTraining(Settings):
    """Settings of a training of the truck detector."""

    scenes: tuple[str, ...] = Field((), description="real scenes without labels: ground to draw traffic on")
    simulated: tuple[int, ...] = Field(
        (), description="seeds of simulated scenes, as ground and with traffic"
    )
    simulated_px: int = Field(768, ge=128)
    sources: tuple[dict[str, Any], ...] = Field(
        (), description="the scenes with their licences, for the card"
    )
    start_from: str | None = Field(None, description="a bundle whose weights to start from")

    steps: int = Field(4000, ge=1)
    batch: int = Field(16, ge=1)
    chip_px: int = Field(64, ge=32, multiple_of=4)
    learning_rate: float = Field(1.5e-3, gt=0)
    warmup: int = Field(150, ge=1)
    seed: int = 0
    threads: int = Field(1, ge=1, description="more help only where the cores are free")
    half_precision: bool = True
    arguments: dict[str, Any] = DEFAULT_ARGUMENTS


class ChipStream(IterableDataset[tuple[Tensor, Tensor]]):
    """Endless training chips, normalised (4, H, W), with their boxes; the same for the same seed."""

    def __init__(
        self, card: Card, backgrounds: Sequence[Image], scenes: Sequence[Traffic], size: int, seed: int
    ) -> None:
        self.card, self.backgrounds, self.scenes = card, backgrounds, scenes
        self.size, self.seed = size, seed

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        info = torch.utils.data.get_worker_info()
        rng = np.random.default_rng((self.seed, info.id if info else 0))
        everywhere = np.ones((self.size, self.size), dtype=bool)
        while True:
            chip = draw_chip(rng, self.backgrounds, self.scenes, self.size)
            yield normalise(chip.reflectance, everywhere, self.card), torch.from_numpy(chip.boxes)


def _collate(examples: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, list[Tensor]]:
    images, boxes = zip(*examples, strict=True)
    return torch.stack(images), list(boxes)


class DetectorModule(pl.LightningModule):
    """One optimisation of the detector: AdamW, warm-up, cosine decay."""

    def __init__(self, card: Card, settings: DetectorTraining) -> None:
        super().__init__()
        self.settings = settings
        self.detector = build_detector(card).to(memory_format=torch.channels_last)
        self.detector.half_precision = settings.half_precision

    def training_step(self, batch: tuple[Tensor, list[Tensor]], index: int) -> Tensor:
        """The sum of the losses of proposals and boxes."""
        images, boxes = batch
        images = images.contiguous(memory_format=torch.channels_last)
        targets = [{"boxes": box, "labels": torch.ones(len(box), dtype=torch.int64)} for box in boxes]
        losses = self.detector(images, targets)
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


def real_ground(scene: str) -> Image:
    """A whole real scene as (4, H, W) reflectance of `CHIP_BANDS`, 0 where it has no data."""
    opened = open_scene(scene)
    rows, cols = opened.shape
    return opened.read(Window(0, 0, cols, rows), CHIP_BANDS).reflectance


def simulated_traffic(size: int, seed: int) -> Traffic:
    """A simulated scene with its trucks."""
    scene = simulate_scene(size, seed, CHIP_BANDS)
    boxes = np.array([truck.box for truck in scene.trucks], dtype=np.float32).reshape(-1, 4)
    return Traffic(scene.reflectance, boxes)


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
    torch.set_num_threads(settings.threads)
    pl.seed_everything(settings.seed)
    card = blank_card(settings.arguments)
    module = DetectorModule(card, settings)
    if settings.start_from:
        open_bundle(settings.start_from).load_into(module.detector).train()
    backgrounds = [real_ground(scene) for scene in settings.scenes]
    backgrounds += [
        simulate_scene(settings.simulated_px, seed, CHIP_BANDS, traffic=False).reflectance
        for seed in settings.simulated
    ]
    traffic = [simulated_traffic(settings.simulated_px, seed) for seed in settings.simulated]
    chips = ChipStream(card, backgrounds, traffic, settings.chip_px, settings.seed)
    loader = DataLoader(chips, settings.batch, collate_fn=_collate, num_workers=1, persistent_workers=True)
    checkpoint = ModelCheckpoint(dirpath=out, save_last=True, save_top_k=0, every_n_train_steps=200)
    trainer = pl.Trainer(
        max_steps=settings.steps,
        accelerator="auto",
        logger=CSVLogger(out, name="", version=""),
        log_every_n_steps=min(20, settings.steps),
        callbacks=[checkpoint, EMAWeightAveraging(decay=0.995)],
        gradient_clip_val=5.0,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    last = out / "last.ckpt"
    # Only our own training state is read back here, and only tensors and plain values of it.
    trainer.fit(module, loader, ckpt_path=last if last.exists() else None, weights_only=True)
    return save_bundle(
        out / "bundle",
        card.model_copy(update={"training_data": settings.sources}),
        module.detector.state_dict(),
    )
