"""The interface of a model family: what `FAMILIES` lists and `build_network` builds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor, nn

from pipeline.errors import BundleError
from pipeline.models.bundle import Card, Task


class Detector(Protocol):
    """Network of the task `detection`: convolutions that slide over an image, then boxes."""

    def dense(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return maps (N, H, W, channels) of normalised images (N, C, H, W); a tile's halo is for these."""

    def detections(self, *maps: Tensor) -> list[dict[str, Tensor]]:
        """Return `boxes` (K, 4), in pixels, and `scores` (K,) of each image, from its maps."""


@dataclass(frozen=True)
class Family:
    """One architecture, under the name that cards give it."""

    name: str
    task: Task
    network: Callable[..., nn.Module]
    """Build it untrained; called with the number of bands, of a segmenter also the number of classes, and the
    card's arguments by name.

    A detector is a `Detector`. A segmenter turns normalised images (N, bands, H, W) into logits (N, classes,
    H, W); H and W are multiples of the card's stride.
    """
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Arguments where a card gives none."""

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
        except (TypeError, ValueError) as error:
            raise BundleError(
                f"Model {card.id}: {self.name} can't be built with {card.arguments} ({error})."
            ) from error


class Dense(nn.Module):
    """The part of a network that slides over images (N, C, H, W): maps (N, H, W, channels)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return a detector's `dense` maps, or the map of any other network."""
        return dense(self.network, images)


def dense(network: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
    """Return the maps of the part of a network that slides over images, see `Dense`."""
    if hasattr(network, "dense"):
        return tuple(network.dense(images))  # type: ignore[operator]
    return (network(images).permute(0, 2, 3, 1),)
