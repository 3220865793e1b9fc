"""Land-cover U-Net with a bounded receptive field, so that tiles equal the complete scene.

Ronneberger, Fischer and Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation", 2015
(arXiv:1505.04597), with padded convolutions and batch norm. No layer depends on the complete input: there is
no global pooling, and batch norm is an affine map at inference.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from pipeline.models.family import Family
from pipeline.models.renorm import BatchRenorm, Compression


def _convolutions(inputs: int, outputs: int, count: int, stride: int = 1) -> nn.Sequential:
    layers: list[nn.Module] = []
    for step, channels in zip(
        (stride, *(1,) * (count - 1)), (inputs, *(outputs,) * (count - 1)), strict=True
    ):
        layers += [
            nn.Conv2d(channels, outputs, 3 * step, step, padding=step, bias=False),
            BatchRenorm(outputs),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """U-Net with 3 x 3 convolutions, 2 x 2 max pooling and 2 x 2 transposed convolutions.

    `forward` takes (N, bands, H, W), normalised, H and W multiples of the total stride (16 with five levels),
    and returns logits (N, classes, H, W). `convolutions` counts those of each level of the encoder, the
    decoder has `decoder_convolutions` a level. The encoder's features are concatenated to the decoder's
    (`skip` is `concat`), or added to them (`sum`), which halves the decoder's work. With `stem` 2 the first
    convolution has a stride of 2 and 6 x 6 pixels: all levels have half the resolution, and the last
    convolution, a transposed one, doubles it. With `compress` the input is reflectance, and its transfer is
    learned. Memory: inference with the default widths takes about 700 bytes a pixel in float32, half of that
    in bfloat16.
    """

    def __init__(
        self,
        bands: int,
        classes: int,
        widths: Sequence[int] = (24, 48, 96, 160, 224),
        dropout: float = 0.0,
        convolutions: Sequence[int] | None = None,
        decoder_convolutions: int = 2,
        skip: Literal["concat", "sum"] = "concat",
        compress: bool = False,
        stem: Literal[1, 2] = 1,
    ) -> None:
        super().__init__()
        counts = tuple(convolutions or (2,) * len(widths))
        if len(counts) != len(widths) or min(*counts, decoder_convolutions) < 1:
            raise ValueError(f"convolutions needs {len(widths)} numbers of at least 1. Received: {counts}")
        if skip not in ("concat", "sum"):
            raise ValueError(f"skip is concat or sum. Received: {skip}")
        if stem not in (1, 2):
            raise ValueError(f"stem is 1 or 2. Received: {stem}")
        self.adds = skip == "sum"
        self.compression = Compression(bands) if compress else nn.Identity()
        levels = zip(pairwise((bands, *widths)), counts, (stem, *(1,) * len(widths)), strict=False)
        self.encoder = nn.ModuleList(_convolutions(a, b, count, step) for (a, b), count, step in levels)
        self.down = nn.MaxPool2d(2)
        self.dropout = nn.Dropout2d(dropout)
        upward = list(reversed(widths))
        self.up = nn.ModuleList(nn.ConvTranspose2d(a, b, 2, stride=2) for a, b in pairwise(upward))
        self.decoder = nn.ModuleList(
            _convolutions(width if self.adds else 2 * width, width, decoder_convolutions)
            for width in upward[1:]
        )
        self.head = (
            nn.Conv2d(widths[0], classes, 1) if stem == 1 else nn.ConvTranspose2d(widths[0], classes, 2, 2)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, classes, H, W) of normalised images (N, bands, H, W)."""
        features, skips = self.compression(images), []
        for convolutions in self.encoder[:-1]:
            features = convolutions(features)
            skips.append(features)
            features = self.down(features)
        features = self.dropout(self.encoder[-1](features))
        for up, convolutions, skip in zip(self.up, self.decoder, reversed(skips), strict=True):
            above = up(features)
            features = convolutions(above + skip if self.adds else torch.cat((above, skip), dim=1))
        return self.head(features)


FAMILY = Family("unet", "segmentation", UNet)
