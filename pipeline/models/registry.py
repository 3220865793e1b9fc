"""The list of model families, and the networks that cards describe."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from torch import Tensor, nn

from pipeline.errors import BundleError
from pipeline.models.bundle import Card
from pipeline.models.faster_rcnn import DEFAULT_ARGUMENTS, TruckDetector
from pipeline.models.fcos import SINGLE_STAGE_ARGUMENTS, SingleStageDetector
from pipeline.models.library_segmenters import fcn, smp_unet
from pipeline.models.screener import TruckScreener
from pipeline.models.unet import UNet

SEGMENTERS: dict[str, Callable[..., nn.Module]] = {"unet": UNet, "fcn": fcn, "smp_unet": smp_unet}
"""Architectures by the name a card gives them; called with bands, classes and the card's arguments."""


def build_segmenter(card: Card) -> nn.Module:
    """The untrained network of a card: (N, C, H, W) normalised in, logits (N, classes, H, W) out.

    H and W must be multiples of the card's stride; C follows `card.bands`.

    Raises
    ------
    BundleError
        If the architecture is not known, or does not take the card's arguments.
    """
    if card.architecture not in SEGMENTERS:
        raise BundleError(
            f"Model {card.id} has architecture {card.architecture}, which is not a segmenter. "
            f"Known: {', '.join(SEGMENTERS)}."
        )
    arguments: dict[str, Any] = card.arguments
    try:
        return SEGMENTERS[card.architecture](len(card.bands), len(card.classes), **arguments)
    except TypeError as error:
        raise BundleError(f"Model {card.id}: {card.architecture} can't be built so ({error}).") from error


class Detector(Protocol):
    """What the engine asks of a truck detector: convolutions that slide over an image, then boxes."""

    def dense(self, images: Tensor) -> tuple[Tensor, ...]:
        """Maps (N, H, W, channels) of normalised images (N, C, H, W): all that a tile's halo is for."""

    def detections(self, *maps: Tensor) -> list[dict[str, Tensor]]:
        """`boxes` (K, 4), in pixels, and `scores` (K,) of each image, from its maps."""


DETECTORS: dict[str, tuple[Callable[..., TruckDetector | SingleStageDetector], dict[str, Any]]] = {
    "faster_rcnn": (TruckDetector, DEFAULT_ARGUMENTS),
    "fcos": (SingleStageDetector, SINGLE_STAGE_ARGUMENTS),
}
"""Families by the name a card gives them, each with the arguments it has where a card says nothing."""


def build_detector(card: Card) -> TruckDetector | SingleStageDetector:
    """The untrained network that a card describes.

    Raises
    ------
    BundleError
        If the architecture or one of its arguments is unknown.
    """
    if card.architecture not in DETECTORS:
        raise BundleError(
            f"Unknown detector {card.architecture} in bundle {card.id}. Known: {', '.join(DETECTORS)}."
        )
    family, defaults = DETECTORS[card.architecture]
    try:
        return family(bands=len(card.bands), **{**defaults, **card.arguments})
    except TypeError as error:
        raise BundleError(f"Arguments of bundle {card.id} don't fit {card.architecture}: {error}.") from error


SCREENERS = {"block_screener": TruckScreener}


def build_screener(card: Card) -> TruckScreener:
    """The untrained network that a card describes.

    Raises
    ------
    BundleError
        If the card is not that of a screener, or has arguments that it does not take.
    """
    if card.task != "screening" or card.architecture not in SCREENERS:
        raise BundleError(
            f"Model {card.id} is no screener: it has task {card.task} and architecture {card.architecture}. "
            f"Expected: screening and {', '.join(SCREENERS)}."
        )
    try:
        return SCREENERS[card.architecture](len(card.bands), **card.arguments)
    except (TypeError, ValueError) as error:
        raise BundleError(f"Arguments of bundle {card.id} don't fit {card.architecture}: {error}.") from error


class Dense(nn.Module):
    """What slides over images (N, C, H, W) of a network: maps (N, H, W, channels).

    Of a detector that is all but its boxes (see `pipeline.models.registry.Detector`).
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        if hasattr(self.network, "dense"):
            return tuple(self.network.dense(images))  # type: ignore[operator]
        return (self.network(images).permute(0, 2, 3, 1),)


def build_network(card: Card) -> nn.Module:
    """The network that a card describes, without its weights. Errors as of the task's builder."""
    if card.task == "detection":
        return build_detector(card)
    return build_segmenter(card) if card.task == "segmentation" else build_screener(card)
