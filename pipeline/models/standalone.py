"""Networks for other software than this: reflectance in, probabilities or maps out, in one module."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pipeline.models.bundle import Bundle, Card
from pipeline.models.family import Dense
from pipeline.models.registry import build_network


class Standalone(nn.Module):
    """Network of a card with its normalisation, and for land cover its calibrated probabilities.

    `forward` takes reflectance (N, bands, H, W), 0-1, in the order of the card. NaN is no data: in an
    optional band that band is 0 after normalisation, in a required one all bands are, as in a run. H and W
    are multiples of the card's stride. A segmenter returns probabilities (N, classes, H, W). Any other
    network returns its `dense` maps (N, H, W, channels).
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, card: Card) -> None:
        super().__init__()
        self.dense = Dense(network)
        self.segments = card.task == "segmentation"
        self.temperature = card.calibration.temperature
        self.required = [card.bands.index(band) for band in card.required_bands]
        self.register_buffer("mean", torch.tensor(card.mean)[:, None, None])
        self.register_buffer("std", torch.tensor(card.std)[:, None, None])

    def forward(self, reflectance: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs, see the class."""
        known = ~torch.isnan(reflectance)
        known = known & known[:, self.required].all(dim=1, keepdim=True)
        normalised = (reflectance - self.mean) / self.std
        maps = self.dense(torch.where(known, normalised, torch.zeros_like(normalised)))
        if not self.segments:
            return tuple(maps)
        return ((maps[0].permute(0, 3, 1, 2) / self.temperature).softmax(dim=1),)


class Boxes(nn.Module):
    """Second step of a detector of `Family.exports_boxes`: the maps of one image to its detections."""

    def __init__(self, network: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.network, self.names = network, names

    def forward(self, *maps: Tensor) -> tuple[Tensor, ...]:
        """Return the detections that `names` lists, of `dense`'s maps (1, H, W, channels)."""
        (found,) = self.network.detections(*maps)  # type: ignore[operator]
        return tuple(found[name] for name in self.names)


def standalone(bundle: Bundle) -> Standalone:
    """Return the network of a bundle, ready for inference; BundleError if it can't be built or loaded."""
    network = bundle.load_into(build_network(bundle.card))
    return Standalone(network, bundle.card).eval()
