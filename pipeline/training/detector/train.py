"""Training of the truck detector on simulated and labelled chips, from nothing or from a bundle."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as pl
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from rasterio.windows import Window
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pipeline.config import Settings, load_settings
from pipeline.errors import TrainingError
from pipeline.evaluation.trucks.scores import PRIMARY_RADIUS_M, precision_recall
from pipeline.models.bundle import Bundle, Card, open_bundle, save_bundle
from pipeline.models.halo import with_halo
from pipeline.models.legend import LegendClass
from pipeline.models.normalise import normalise
from pipeline.models.registry import build_network, find_family
from pipeline.scenes.open import open_scene
from pipeline.scenes.raster.read import read_pixels
from pipeline.simulation.chips.chip import CHIP_BANDS, LabelledImage, draw_chip
from pipeline.simulation.rendering import PIXEL_M
from pipeline.simulation.simulate import simulate_scene
from pipeline.training.detector.held_out import evaluate_held_out
from pipeline.training.detector.labelled import (
    LabelledBlocks,
    LabelSettings,
    TruckSource,
    draw_labelled_chip,
    read_labelled,
)
from pipeline.training.fit import (
    FitSettings,
    fit,
    half_precision,
    prepare,
    training_loader,
    warm_cosine,
)
from pipeline.validation.detector_card import DetectorMeasurement, measure_detector, write_quality
from pipeline.validation.observe import Seed

log = logging.getLogger(__name__)

_CHECK_PX = 256
"""Side of the simulated scenes that are looked at while a training goes on."""
_MIN_HALO = 48
"""Tiles were shown to be exact with it; a smaller network gains little by a smaller one."""

PixelBox = tuple[float, float, float, float]


class GroundScene(Settings):
    """A real scene to draw traffic on, and the vehicles that are in it."""

    path: str
    trucks: tuple[PixelBox, ...] = Field((), description="boxes in pixels: x_min, y_min, x_max, y_max")
    ambiguous: tuple[PixelBox, ...] = Field(
        (), description="boxes of what may be one: nothing is learnt there"
    )


class ChipTraining(FitSettings):
    """Settings of a training on chips: where their ground and traffic come from."""

    scenes: tuple[GroundScene, ...] = Field((), description="real scenes: ground to draw traffic on")
    simulated: tuple[int, ...] = Field(
        (), description="seeds of simulated scenes, as ground and with traffic"
    )
    simulated_px: int = Field(768, ge=128)
    sources: tuple[dict[str, Any], ...] = Field(
        (), description="the scenes with their licences, for the card"
    )


class DetectorTraining(ChipTraining):
    """Settings of a training of the truck detector."""

    limitations: tuple[str, ...] = Field((), description="what users must know, for the card")
    labelled: tuple[TruckSource, ...] = Field((), description="scenes with boxes of their trucks")
    labelled_share: float = Field(0.5, ge=0, le=1, description="of the chips, cut from labelled scenes")
    labels: LabelSettings = LabelSettings()
    start_from: str | None = Field(
        None,
        description="a bundle (name or path) whose network to go on with; then its card is the start too",
    )
    id: str | None = Field(None, description="of the model; `trucks`, or what it started from, when not set")
    measure: DetectorMeasurement | None = Field(
        None, description="what the bundle is measured on at the end; held-out blocks are in any case"
    )
    check_seeds: tuple[int, ...] = Field(
        (), description="seeds of simulated scenes to look at while it trains, beside held-out blocks"
    )

    steps: int = Field(4000, ge=1)
    chip_px: int = Field(64, ge=32, multiple_of=4)
    learning_rate: float = Field(1.5e-3, gt=0)
    warmup: int = Field(150, ge=1)
    architecture: str = Field("faster_rcnn", description="a family of detectors")
    arguments: dict[str, Any] = Field({}, description="of the network, where not the family's own")


class FineTuning(DetectorTraining):
    """Settings of a training that goes on with a bundle on labels of one's own: small steps, few of them."""

    start_from: str | None = "trucks"
    simulated: tuple[int, ...] = (1001, 1002)
    simulated_px: int = Field(512, ge=128)
    steps: int = Field(400, ge=1)
    learning_rate: float = Field(2e-4, gt=0)
    warmup: int = Field(20, ge=1)
    average: float = Field(0.98, ge=0, lt=1)
    check_every: int = Field(50, ge=1)
    patience: int = Field(4, ge=0)
    measure: DetectorMeasurement | None = DetectorMeasurement(
        calibration=(Seed(seed=2001), Seed(seed=2002)), held_out=(Seed(seed=42), Seed(seed=123))
    )


Target = dict[str, Tensor]


class Chips(Dataset[tuple[Tensor, Target]]):
    """Training chips without end, normalised (4, H, W), with targets; chip `i` is the same for a seed."""

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
        return normalise(chip.reflectance, valid, self.card), _target(chip.boxes, chip.ignored)


class HeldOut(Dataset[tuple[Tensor, Target]]):
    """Blocks that nothing is learnt from, as they are: the same items as `Chips`, of any size."""

    def __init__(self, card: Card, grounds: Sequence[LabelledImage]) -> None:
        self.card, self.grounds = card, grounds

    def __len__(self) -> int:
        return len(self.grounds)

    def __getitem__(self, index: int) -> tuple[Tensor, Target]:
        ground = self.grounds[index]
        valid = np.asarray(ground.reflectance.any(axis=0))
        image = normalise(ground.reflectance, valid, self.card)
        return image, _target(ground.trucks, ground.ambiguous)


def _target(boxes: NDArray[np.float32], ignored: NDArray[np.float32]) -> Target:
    return {
        "boxes": torch.from_numpy(boxes),
        "labels": torch.ones(len(boxes), dtype=torch.int64),
        "ignored": torch.from_numpy(ignored),
    }


def _collate(examples: list[tuple[Tensor, Target]]) -> tuple[Tensor, list[Target]]:
    images, targets = zip(*examples, strict=True)
    return torch.stack(images), list(targets)


class DetectorModule(pl.LightningModule):
    """One optimisation of the detector: AdamW, warm-up, cosine decay."""

    def __init__(self, card: Card, settings: DetectorTraining) -> None:
        super().__init__()
        self.settings = settings
        self.detector = build_network(card).to(memory_format=torch.channels_last)
        self.detector.half_precision = half_precision(settings)  # type: ignore[assignment]
        self.found: list[tuple[Target, Target]] = []

    def training_step(self, batch: tuple[Tensor, list[Target]], index: int) -> Tensor:
        """The sum of the losses of proposals and boxes."""
        images, targets = batch
        losses = self.detector(images.contiguous(memory_format=torch.channels_last), targets)
        total = torch.stack(list(losses.values())).sum()
        self.log_dict({"loss": total, **losses})
        return total

    def validation_step(self, batch: tuple[Tensor, list[Target]], index: int) -> None:
        """What is found in a held-out block, and what is there."""
        images, targets = batch
        self.found += zip(self.detector(images), targets, strict=True)

    def on_validation_epoch_end(self) -> None:
        """Average precision of centres within 20 m over all held-out blocks."""
        self.log("val_ap", average_precision(self.found), batch_size=1)
        self.found = []

    def configure_optimizers(self) -> Any:
        """Learning rate: linear warm-up, then half a cosine to a fiftieth."""
        return warm_cosine(self.parameters(), self.settings, floor=0.02)


def average_precision(found: Sequence[tuple[Target, Target]]) -> float:
    """Average precision of centres within 20 m over many images: pairs of detections and targets.

    Detections have `boxes` (K, 4) and `scores` (K,), targets `boxes` (N, 4) and `ignored` (M, 4), all in
    10 m pixels. NaN where there is no truck at all.
    """
    pairs: list[NDArray[np.intp]] = []
    affinity: list[NDArray[np.float64]] = []
    scores, ignored = [], []
    detections = references = 0
    for detection, target in found:
        truth = torch.cat([target["boxes"], target["ignored"]])
        apart = torch.cdist(_centres(detection["boxes"]), _centres(truth)).double().cpu().numpy() * PIXEL_M
        near = np.argwhere(apart <= PRIMARY_RADIUS_M)
        pairs.append(near + np.array([detections, references]))
        affinity.append(-apart[tuple(near.T)])
        scores.append(detection["scores"].double().cpu().numpy())
        ignored.append(np.arange(len(truth)) >= len(target["boxes"]))
        detections, references = detections + len(apart), references + len(truth)
    if not pairs:
        return float("nan")
    parts = (np.concatenate(part) for part in (scores, pairs, affinity, ignored))
    return precision_recall(*parts).average_precision


def _centres(boxes: Tensor) -> Tensor:
    return (boxes[:, :2] + boxes[:, 2:]) / 2


def blank_card(architecture: str = "faster_rcnn", arguments: Mapping[str, Any] | None = None) -> Card:
    """The card of a detector that is not trained yet; its halo and stride follow from the network."""
    card = with_halo(
        Card(
            id="trucks",
            version="1",
            task="detection",
            architecture=architecture,
            arguments={**find_family("detection", architecture).arguments, **(arguments or {})},
            bands=CHIP_BANDS,
            mean=(0.09, 0.10, 0.10, 0.22),
            std=(0.06, 0.06, 0.07, 0.11),
            classes=(LegendClass(value=1, name="truck", colour="#FF00FF"),),
            score_threshold=0.5,
            halo=0,
            stride=1,
        )
    )
    return card.model_copy(update={"halo": max(card.halo, _MIN_HALO)})


def first_card(settings: DetectorTraining, out: Path) -> Card:
    """The card that a training begins with: a blank one, or that of the bundle it goes on with.

    Raises
    ------
    TrainingError
        If that bundle is no truck detector on the bands that chips have.
    """
    if settings.start_from is None:
        card = blank_card(settings.architecture, settings.arguments)
        reported = {"training_data": settings.sources, "limitations": settings.limitations}
        return card.model_copy(update={"id": settings.id or card.id, **reported})
    card = open_bundle(settings.start_from).card
    if card.task != "detection" or card.bands != CHIP_BANDS:
        raise TrainingError(
            f"A detector goes on with a detector on {', '.join(CHIP_BANDS)}. {settings.start_from} does "
            f"{card.task} on {', '.join(card.bands)}."
        )
    own = tuple(source.provenance for source in settings.labelled)
    more = tuple(item for item in (*settings.sources, *own) if item not in card.training_data)
    name = settings.id or (f"{card.id}-{out.resolve().name}" if settings.labelled else card.id)
    return card.model_copy(
        update={"id": name, "training_data": card.training_data + more, "quality": {}, "weights_sha256": ""}
    )


def real_ground(scene: GroundScene) -> LabelledImage:
    """A whole real scene, reflectance 0 where it has no data, with the vehicles that are known in it."""
    opened = open_scene(scene.path)
    rows, cols = opened.shape
    pixels = read_pixels(opened, Window(0, 0, cols, rows), CHIP_BANDS)
    return LabelledImage(pixels.reflectance, _boxes(scene.trucks), _boxes(scene.ambiguous))


def simulated_traffic(size: int, seed: int) -> LabelledImage:
    """A simulated scene with its trucks; those of low confidence are ambiguous."""
    scene = simulate_scene(size, seed, CHIP_BANDS)
    certain = [truck.box for truck in scene.trucks if truck.confidence != "low"]
    ambiguous = [truck.box for truck in scene.trucks if truck.confidence == "low"]
    return LabelledImage(scene.reflectance, _boxes(certain), _boxes(ambiguous))


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
    """Train a detector and leave it in `out/bundle`; the same command goes on with what was cut short.

    Chips are drawn over the settings' scenes; a share of them is cut from labelled scenes, of which whole
    blocks are held out. `out` gets what `fit` leaves and, with held-out blocks, `held_out/`: the blocks,
    their boxes, and an evaluation of the bundle on them. Its figures are in the card, beside those of the
    bundle that the training went on with.

    Raises
    ------
    TrainingError
        If there is nothing to learn from, or the bundle to start from does not fit; see also `fit`.
    TruckscapeError
        Whatever reading scenes and labels may raise.
    """
    card = first_card(settings, out)
    prepare(settings)
    module = DetectorModule(card, settings)
    if settings.start_from:
        open_bundle(settings.start_from).load_into(module.detector).train()
    labelled = [read_labelled(one, settings.labels, card.bands, settings.seed) for one in settings.labelled]
    fit(
        module,
        training_loader(_chips(card, settings, labelled), settings, _collate),
        _checks(card, settings, labelled),
        settings,
        out,
        monitor="val_ap",
        better="max",
        # The detector runs its convolutions in half precision, and its boxes in single, by itself.
        autocast=False,
    )
    bundle = save_bundle(out / "bundle", card, module.detector.state_dict())
    if settings.measure:
        log.info("measuring")
        bundle = write_quality(measure_detector(bundle, settings.measure), bundle)
    return evaluate_held_out(bundle, settings.start_from, settings.labelled, labelled, out / "held_out")


def grounds_and_traffic(settings: ChipTraining) -> tuple[list[LabelledImage], list[LabelledImage]]:
    """Ground to draw traffic on, real and simulated, and simulated scenes that have their own."""
    grounds = [real_ground(scene) for scene in settings.scenes]
    grounds += [
        LabelledImage(simulate_scene(settings.simulated_px, seed, CHIP_BANDS, traffic=False).reflectance)
        for seed in settings.simulated
    ]
    return grounds, [simulated_traffic(settings.simulated_px, seed) for seed in settings.simulated]


def _chips(card: Card, settings: DetectorTraining, labelled: Sequence[LabelledBlocks]) -> Chips:
    grounds, traffic = grounds_and_traffic(settings)
    blocks = [block for one in labelled for block in one.training]
    return Chips(card, grounds, traffic, settings.chip_px, settings.seed, blocks, settings.labelled_share)


def _checks(
    card: Card, settings: DetectorTraining, labelled: Sequence[LabelledBlocks]
) -> DataLoader[Any] | None:
    """The held-out blocks and simulated scenes that are looked at while the training goes on."""
    blocks = [block for one in labelled for block in one.held_out]
    blocks += [simulated_traffic(_CHECK_PX, seed) for seed in settings.check_seeds]
    if blocks:
        return DataLoader(HeldOut(card, blocks), batch_size=1, collate_fn=_collate)
    if settings.patience:
        raise TrainingError(
            "Stopping early needs something to look at: labelled scenes with labels.held_out above 0, or "
            "check_seeds. Or set patience: 0."
        )
    return None
