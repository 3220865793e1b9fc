"""The land-cover network in training: loss, optimiser, the weights it starts from."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from pipeline.errors import BundleError, TrainingError
from pipeline.models.bundle import Bundle, Card
from pipeline.models.registry import build_network
from pipeline.training.fit import fit, prepare, training_loader
from pipeline.training.segmenter.crops import Crops, HeldOutCrops
from pipeline.training.segmenter.examples import Blend, Example
from pipeline.training.segmenter.scenes import LabelledScene
from pipeline.training.segmenter.settings import SegmenterTraining
from pipeline.training.segmenter.tiles import TeacherTiles


class SegmenterModule(lightning.LightningModule):
    """The network in training: weighted cross entropy, AdamW, a short warm-up and a cosine to zero.

    Targets are probabilities: those of a teacher (Hinton, Vinyals and Dean, "Distilling the Knowledge in a
    Neural Network", arXiv:1503.02531), or 1 for the class of a label.
    """

    def __init__(self, card: Card, settings: SegmenterTraining, class_weights: Tensor) -> None:
        super().__init__()
        self.network = build_network(card).to(memory_format=torch.channels_last)
        self.settings = settings
        self.class_weights: Tensor
        self.register_buffer("class_weights", class_weights, persistent=False)

    def training_step(self, batch: Example, _: int) -> Tensor:
        """Return the mean loss over the pixels that count, each by its weight and its class's."""
        loss, agreement = self._compare(batch)
        self.log_dict({"loss": loss, "agreement": agreement}, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: Example, _: int) -> None:
        """Log the same metrics in held-out blocks."""
        loss, agreement = self._compare(batch)
        self.log_dict({"val_loss": loss, "val_agreement": agreement}, batch_size=len(batch[0]))

    def _compare(self, batch: Example) -> tuple[Tensor, Tensor]:
        images, target, weights = batch
        logits = self.network(images.contiguous(memory_format=torch.channels_last)).float()
        smoothing = self.settings.label_smoothing
        smooth = target * (1 - smoothing) + smoothing / target.shape[1]
        losses = -(smooth * nn.functional.log_softmax(logits, dim=1)).sum(dim=1)
        balanced = weights * torch.einsum("nkhw,k->nhw", target, self.class_weights)
        loss = (losses * balanced).sum() / balanced.sum().clamp_min(1.0)
        if self.settings.consistency and self.training:
            loss = loss + self.settings.consistency * divergence(logits, target, balanced)
        same = (logits.argmax(1) == target.argmax(1)) & (weights > 0)
        return loss, same.sum() / (weights > 0).sum().clamp_min(1)

    def configure_optimizers(self) -> Any:
        """Return AdamW (no decay of biases and batch norms), learning rate set at every step."""
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


def divergence(logits: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Return the mean Jensen-Shannon divergence between two views of one tile, 0 without any.

    Neighbours in the batch (2i and 2i + 1) are two views if they have the same target. After Lin, "Divergence
    measures based on the Shannon entropy", 1991. `logits` and `target` are (N, K, H, W), `weights` (N, H, W).
    """
    pairs = len(logits) // 2
    first, second = (slice(start, 2 * pairs, 2) for start in (0, 1))
    same = (target[first] == target[second]).flatten(1).all(dim=1)
    of_pairs = weights[first] * same[:, None, None]
    one, two = (logits[part].log_softmax(dim=1) for part in (first, second))
    middle = torch.logaddexp(one, two) - math.log(2)
    apart = sum((view.exp() * (view - middle)).sum(dim=1) for view in (one, two))
    return (apart * of_pairs).sum() / 2 / of_pairs.sum().clamp_min(1.0)


def trained(
    card: Card,
    scenes: Sequence[LabelledScene],
    shares: Mapping[str, float],
    settings: SegmenterTraining,
    out: Path,
    start: Bundle | None = None,
    tiles: TeacherTiles | None = None,
    teacher_share: float = 0.0,
) -> nn.Module:
    """Return the network of a card, trained on crops of the scenes: the moving average, rounded.

    `shares` of the crops are by kind of scene; within a kind every pixel that is learned counts the same.
    With `tiles` a share of the examples is the teacher's. Resumes from `out/last.ckpt` where there is one.

    Raises
    ------
    TrainingError
        If no pixel has a label to learn; see also `fit` of `pipeline.training.fit`.
    """
    learned = [scene for scene in scenes if shares.get(scene.kind, 0.0) > 0 and scene.learned]
    teacher_share = 0.0 if tiles is None else 1.0 if not learned else teacher_share
    if not learned and tiles is None:
        raise TrainingError("No pixel outside the held-out blocks has a label: there is nothing to learn.")
    pixels: Counter[str] = Counter()
    for scene in learned:
        pixels[scene.kind] += scene.learned
    parts = [shares[scene.kind] * scene.learned / pixels[scene.kind] for scene in learned]
    prepare(settings)
    frequency = class_frequency(learned, parts, len(card.classes)) * (1 - teacher_share)
    examples: Dataset[Example]
    crops = Crops(learned, parts, card, settings.crop_px, settings.seed, settings.band_dropout)
    examples = crops
    if tiles is not None:
        frequency = frequency + teacher_share * tiles.frequency()
        examples = Blend(tiles, crops, teacher_share, settings.seed) if learned else tiles
    weights = class_weights(frequency, settings.class_balance)
    weights *= torch.tensor([settings.emphasis.get(item.name, 1.0) for item in card.classes])
    module = SegmenterModule(card, settings, weights)
    if start:
        start_from(start, module.network, card)
    validation = HeldOutCrops(scenes, card, settings.crop_px)
    fit(
        module,
        training_loader(examples, settings),
        DataLoader(validation, settings.batch) if len(validation) else None,
        settings,
        out,
    )
    network = module.network.eval()
    network.load_state_dict({name: value.float() for name, value in rounded(network).items()})
    return network


def rounded(network: nn.Module) -> dict[str, Tensor]:
    """Return the weights as a bundle keeps them: half precision, except biases and batch norms."""
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
        transposed = isinstance(network.get_submodule(last.removesuffix(".weight")), nn.ConvTranspose2d)
        for name, axis in ((last, int(transposed)), (last.removesuffix("weight") + "bias", 0)):
            head = own[name].clone()
            for channel, item in enumerate(ours.classes):
                if item.name in names:
                    head.select(axis, channel).copy_(state[name].select(axis, names.index(item.name)))
            state[name] = head
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise BundleError(
            f"Weights of model {theirs.id}, built with {theirs.arguments}, don't fit a {ours.architecture} "
            f"built with {ours.arguments}."
        ) from error


def class_frequency(
    scenes: Sequence[LabelledScene], shares: Sequence[float], count: int
) -> NDArray[np.float64]:
    """Return the share (count,) of each class among the labels that are learned; 0 without any."""
    frequency = np.zeros(count)
    for scene, share in zip(scenes, shares, strict=True):
        counts = np.bincount(scene.classes[scene.weights > 0], minlength=count)
        frequency += share * counts / max(1, counts.sum())
    return frequency / max(1e-9, frequency.sum())


def class_weights(frequency: NDArray[np.float64], balance: float) -> Tensor:
    """Return (K,) weights (median frequency / frequency) ** balance, between 0.4 and 2.5.

    Median frequency balancing after Eigen and Fergus (arXiv:1411.4734), softened by `balance`.
    """
    ratio = np.median(frequency) / np.maximum(frequency, 1e-6)
    return torch.tensor(np.clip(ratio**balance, 0.4, 2.5), dtype=torch.float32)
