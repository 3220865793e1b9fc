"""Land-cover networks: a U-Net that sees a bounded neighbourhood, so that tiles equal the whole scene.

Ronneberger, Fischer and Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation", 2015
(arXiv:1505.04597), with padded convolutions and batch norm. No layer looks at the whole input: nothing is
pooled globally, and batch norm is an affine map at inference.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.errors import BundleError
from pipeline.models.bundle import Card, LegendClass
from pipeline.models.segmenter_library import fcn, smp_unet

DYNAMIC_WORLD = tuple(
    LegendClass(value=value, name=name, colour=colour)
    for value, (name, colour) in enumerate(
        (
            ("water", "#419BDF"),
            ("trees", "#397D49"),
            ("grass", "#88B053"),
            ("flooded vegetation", "#7A87C6"),
            ("crops", "#E49635"),
            ("shrub and scrub", "#DFC35A"),
            ("built", "#C4281B"),
            ("bare", "#A59B8F"),
            ("snow and ice", "#B39FE1"),
        )
    )
)
"""Values, names and official colours: Brown et al., "Dynamic World", Scientific Data 9:251, 2022."""


def _convolutions(inputs: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        layers += [
            nn.Conv2d(channels, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """Two 3 x 3 convolutions a level; down by 2 x 2 maxima, up by learned 2 x 2 transposed convolutions.

    `forward` takes (N, bands, H, W), normalised, H and W multiples of the total stride (16 with five
    levels), and gives logits (N, classes, H, W). Five levels see 107 px to any side.
    Inference with the default widths takes about 700 bytes a pixel in float32, half of that in bfloat16.
    """

    def __init__(
        self, bands: int, classes: int, widths: Sequence[int] = (24, 48, 96, 160, 224), dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.encoder = nn.ModuleList(
            [_convolutions(bands, widths[0]), *(_convolutions(a, b) for a, b in pairwise(widths))]
        )
        self.down = nn.MaxPool2d(2)
        self.dropout = nn.Dropout2d(dropout)
        upward = list(reversed(widths))
        self.up = nn.ModuleList(nn.ConvTranspose2d(a, b, 2, stride=2) for a, b in pairwise(upward))
        self.decoder = nn.ModuleList(_convolutions(2 * width, width) for width in upward[1:])
        self.head = nn.Conv2d(widths[0], classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes, H, W) of normalised images (N, bands, H, W)."""
        features, skips = images, []
        for convolutions in self.encoder[:-1]:
            features = convolutions(features)
            skips.append(features)
            features = self.down(features)
        features = self.dropout(self.encoder[-1](features))
        for up, convolutions, skip in zip(self.up, self.decoder, reversed(skips), strict=True):
            features = convolutions(torch.cat((up(features), skip), dim=1))
        return self.head(features)


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
