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
from torch import Tensor
from torch.utils.data import DataLoader

from pipeline.errors import TrainingError
from pipeline.evaluation.trucks.precision_recall import precision_recall
from pipeline.evaluation.trucks.scores import PRIMARY_RADIUS_M
from pipeline.models.boxes import HEAVY, LIGHT, heavy_only
from pipeline.models.bundle import Bundle, Card, open_bundle, save_bundle
from pipeline.models.halo import with_halo
from pipeline.models.legend import LegendClass
from pipeline.models.registry import build_network, find_family
from pipeline.open_data.resolve import located
from pipeline.simulation.chips.chip import CHIP_BANDS
from pipeline.simulation.rendering import PIXEL_M
from pipeline.training.detector.chips import (
    Chips,
    HeldOut,
    Target,
    collate,
    grounds_and_traffic,
    simulated_traffic,
)
from pipeline.training.detector.held_out import evaluate_held_out
from pipeline.training.detector.labelled import LabelledBlocks, read_labelled
from pipeline.training.detector.settings import DetectorTraining
from pipeline.training.fit import fit, half_precision, prepare, training_loader, warm_cosine
from pipeline.validation.detector_card import measure_detector, write_quality

log = logging.getLogger(__name__)

_CHECK_PX = 256
"""Side of the simulated scenes that a training is checked on."""
_CLASSES = (
    LegendClass(value=HEAVY, name="heavy vehicle", colour="#FF00FF"),
    LegendClass(value=LIGHT, name="light vehicle", colour="#00C8FF"),
)


class DetectorModule(pl.LightningModule):
    """One optimisation of the detector: AdamW, warm-up, cosine decay."""

    def __init__(self, card: Card, settings: DetectorTraining) -> None:
        super().__init__()
        self.settings = settings
        self.detector = build_network(card).to(memory_format=torch.channels_last)
        self.detector.half_precision = half_precision(settings)  # type: ignore[assignment]
        self.found: list[tuple[Target, Target]] = []

    def training_step(self, batch: tuple[Tensor, list[Target]], index: int) -> Tensor:
        """Return the sum of the losses."""
        images, targets = batch
        losses = self.detector(images.contiguous(memory_format=torch.channels_last), targets)
        total = torch.stack(list(losses.values())).sum()
        self.log_dict({"loss": total, **losses})
        return total

    def validation_step(self, batch: tuple[Tensor, list[Target]], index: int) -> None:
        """Collect the detections and the heavy vehicles of a held-out block."""
        images, targets = batch
        self.found += zip(self.detector(images), heavy_only(targets), strict=True)

    def on_validation_epoch_end(self) -> None:
        """Log the average precision of centres within 20 m over all held-out blocks."""
        self.log("val_ap", average_precision(self.found), batch_size=1)
        self.found = []

    def configure_optimizers(self) -> Any:
        """Learning rate: linear warm-up, then half a cosine to a fiftieth."""
        return warm_cosine(self.parameters(), self.settings, floor=0.02)


def average_precision(found: Sequence[tuple[Target, Target]]) -> float:
    """Return the average precision of centres within 20 m over many pairs of detections and targets.

    Detections have `boxes` (K, 4) and `scores` (K,), targets `boxes` (N, 4) and `ignored` (M, 4), all in
    10 m pixels. NaN without any truck.
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
    """Return the card of a detector that is not trained yet; halo and stride follow from the network."""
    family = find_family("detection", architecture)
    return with_halo(
        Card(
            id="trucks",
            version="1",
            task="detection",
            architecture=architecture,
            arguments={**family.arguments, **(arguments or {})},
            bands=CHIP_BANDS,
            mean=(0.09, 0.10, 0.10, 0.22),
            std=(0.06, 0.06, 0.07, 0.11),
            classes=_CLASSES if family.scores_vehicles else _CLASSES[:1],
            score_threshold=0.5,
            halo=0,
            stride=1,
        )
    )


def first_card(settings: DetectorTraining, out: Path) -> Card:
    """Return the card that a training begins with: a blank one, or that of the bundle to start from.

    Raises
    ------
    TrainingError
        If that bundle is no truck detector on the bands of chips.
    """
    if settings.start_from is None:
        blank = blank_card(settings.architecture, settings.arguments)
        card = blank.model_copy(update={"version": settings.version})
        reported = {"training_data": settings.sources, "limitations": settings.limitations}
        return card.model_copy(update={"id": settings.id or card.id, **reported})
    card = open_bundle(settings.start_from).card
    if card.task != "detection" or card.bands != CHIP_BANDS:
        raise TrainingError(
            f"A detector can start from a detector on {', '.join(CHIP_BANDS)}. {settings.start_from} does "
            f"{card.task} on {', '.join(card.bands)}."
        )
    own = tuple(source.provenance for source in settings.labelled)
    more = tuple(item for item in (*settings.sources, *own) if item not in card.training_data)
    name = settings.id or (f"{card.id}-{out.resolve().name}" if settings.labelled else card.id)
    return card.model_copy(
        update={"id": name, "training_data": card.training_data + more, "quality": {}, "weights_sha256": ""}
    )


def train_detector(settings: DetectorTraining, out: Path) -> Bundle:
    """Train a detector and leave it in `out/bundle`; the same command resumes after a stop.

    Chips are drawn over the settings' scenes; a share of them is cut from labelled scenes, of which blocks
    are held out. `out` gets what `fit` writes and, with held-out blocks, `held_out/`: the blocks, their
    boxes, and an evaluation of the bundle on them. Its metrics are in the card, beside those of the bundle
    that the training started from.

    Raises
    ------
    TrainingError
        If there is nothing to learn from, or the bundle to start from does not fit; see also `fit`.
    TruckscapeError
        As reading scenes and labels may raise.
    """
    card = first_card(settings, out)
    prepare(settings)
    module = DetectorModule(card, settings)
    if settings.start_from:
        open_bundle(settings.start_from).load_into(module.detector).train()
    sources = [located(one) for one in settings.labelled]
    labelled = [read_labelled(one, settings.labels, card.bands, settings.seed) for one in sources]
    fit(
        module,
        training_loader(_chips(card, settings, labelled), settings, collate),
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
    return evaluate_held_out(bundle, settings.start_from, sources, labelled, out / "held_out")


def _chips(card: Card, settings: DetectorTraining, labelled: Sequence[LabelledBlocks]) -> Chips:
    grounds, traffic = grounds_and_traffic(settings)
    blocks = [block for one in labelled for block in one.training]
    return Chips(card, grounds, traffic, settings.chip_px, settings.seed, blocks, settings.labelled_share)


def _checks(
    card: Card, settings: DetectorTraining, labelled: Sequence[LabelledBlocks]
) -> DataLoader[Any] | None:
    """Return held-out blocks and simulated scenes to check the training on."""
    blocks = [block for one in labelled for block in one.held_out]
    blocks += [simulated_traffic(_CHECK_PX, seed) for seed in settings.check_seeds]
    if blocks:
        return DataLoader(HeldOut(card, blocks), batch_size=1, collate_fn=collate)
    if settings.patience:
        raise TrainingError(
            "Stopping early needs scenes to check: labelled scenes with labels.held_out above 0, or "
            "check_seeds. Or set patience: 0."
        )
    return None
