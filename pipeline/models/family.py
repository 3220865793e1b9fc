"""Interface of a model family, as listed in `FAMILIES` and built by `build_network`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from pipeline.errors import BundleError
from pipeline.models.bundle import Card, Task


class Detector(Protocol):
    """Network of the task `detection`: convolutions that slide over an image, then boxes."""

    def dense(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return maps (N, H, W, channels) of normalised images (N, C, H, W); a tile's halo is for them."""

    def detections(self, *maps: Tensor, where: Tensor | None = None) -> list[dict[str, Tensor]]:
        """Return `boxes` (K, 4), in pixels, and `scores` (K,) of each image from its maps.

        A network that knows light vehicles also returns `vehicle_scores` (K,), of vehicles of any kind, each
        at least the score of a heavy one. Detections elsewhere than `where` (N, H, W), pixels of the images,
        are not asked for: a network may leave out proposals there.
        """


class MapDetector(nn.Module):
    """Detector all of which follows from its `dense` maps: detections at inference, losses in training."""

    half_precision = False
    """Whether `dense` runs in bfloat16."""

    def forward(self, images: Tensor | list[Tensor], targets: list[dict[str, Tensor]] | None = None) -> Any:
        """Return losses, in training, or detections; `half_precision` applies to `dense` only."""
        batch = images if isinstance(images, Tensor) else torch.stack(images)
        with torch.autocast(batch.device.type, torch.bfloat16) if self.half_precision else nullcontext():
            maps = self.dense(batch)
        if not self.training:
            return self.detections(*maps)
        if targets is None:
            raise ValueError(
                "Training needs targets: one dictionary of boxes and labels for each image. Received: None"
            )
        return self.losses(maps, targets)

    def dense(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return maps, as those of a `Detector`."""
        raise NotImplementedError

    def detections(self, *maps: Tensor, where: Tensor | None = None) -> list[dict[str, Tensor]]:
        """Return the detections of each image, as a `Detector`."""
        raise NotImplementedError

    def losses(self, maps: tuple[Tensor, ...], targets: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Return the losses of maps against the targets of each image."""
        raise NotImplementedError


@dataclass(frozen=True)
class Family:
    """Architecture of a task, under its name in cards."""

    name: str
    task: Task
    network: Callable[..., nn.Module]
    """Constructor of the untrained network.

    Positional arguments: number of bands and, for a segmenter, number of classes. Keyword arguments: those of
    the card.

    A detector is a `Detector`. A segmenter turns normalised images (N, bands, H, W) into logits (N, classes,
    H, W); H and W are multiples of the card's stride.
    """
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Default arguments, for cards without them."""
    scores_vehicles: bool = False
    """True for a detector that returns `vehicle_scores`: its cards have a class of light vehicles."""
    exports_boxes: bool = False
    """True for a detector whose `detections` PyTorch can trace for any number of boxes."""

    @property
    def detected(self) -> tuple[str, ...]:
        """Return the names of what a detector of this family returns for each box."""
        return ("boxes", "scores", "vehicle_scores") if self.scores_vehicles else ("boxes", "scores")

    @property
    def key(self) -> tuple[Task, str]:
        """Return the task and the name, which no two families share."""
        return self.task, self.name

    def build(self, card: Card) -> nn.Module:
        """Return the untrained network of a card of this family.

        Raises
        ------
        BundleError
            If the family does not take the card's arguments.
        """
        channels = [len(card.bands)]
        if self.task == "segmentation":
            channels.append(len(card.classes))
        try:
            return self.network(*channels, **{**self.arguments, **card.arguments})
        except (TypeError, ValueError, LookupError, ArithmeticError, RuntimeError, MemoryError) as error:
            said = " ".join(str(error).split())[:200]
            raise BundleError(
                f"Model {card.id}: {self.name} can't be built with {str(card.arguments)[:200]} ({said})."
            ) from error


class Dense(nn.Module):
    """Sliding part of a network: images (N, C, H, W) to maps (N, H, W, channels)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return a detector's `dense` maps, or the map of any other network."""
        return dense(self.network, images)


def dense(network: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
    """Apply the sliding part of a network, see `Dense`."""
    if hasattr(network, "dense"):
        return tuple(network.dense(images))  # type: ignore[operator]
    return (network(images).permute(0, 2, 3, 1),)
