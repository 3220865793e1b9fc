"""Land-cover U-Net with a bounded receptive field, so that tiles equal the complete scene.

Ronneberger, Fischer and Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation", 2015
(arXiv:1505.04597), with padded convolutions and batch norm. No layer depends on the complete input: there is
no global pooling, and batch norm is an affine map at inference.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from pipeline.models.family import Family


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
    """U-Net with two 3 x 3 convolutions a level, 2 x 2 max pooling and 2 x 2 transposed convolutions.

    `forward` takes (N, bands, H, W), normalised, H and W multiples of the total stride (16 with five levels),
    and returns logits (N, classes, H, W). Five levels reach 107 px to each side. Memory: inference with the
    default widths takes about 700 bytes a pixel in float32, half of that in bfloat16.
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
        """Return logits (N, classes, H, W) of normalised images (N, bands, H, W)."""
        features, skips = images, []
        for convolutions in self.encoder[:-1]:
            features = convolutions(features)
            skips.append(features)
            features = self.down(features)
        features = self.dropout(self.encoder[-1](features))
        for up, convolutions, skip in zip(self.up, self.decoder, reversed(skips), strict=True):
            features = convolutions(torch.cat((up(features), skip), dim=1))
        return self.head(features)


FAMILY = Family("unet", "segmentation", UNet)
