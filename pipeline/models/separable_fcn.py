"""Land-cover network of depthwise separable convolutions at half resolution, with a small receptive field.

After the network of Brown et al., "Dynamic World", Scientific Data 9:251, 2022, which sees 25 pixels to each
side: texture and spectrum tell land cover, not distant surroundings. Fully convolutional (Long, Shelhamer and
Darrell, arXiv:1411.4038), with depthwise separable convolutions (Chollet, arXiv:1610.02357).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pipeline.models.family import Family
from pipeline.models.renorm import BatchRenorm, Compression


def _separable(inputs: int, outputs: int) -> list[nn.Module]:
    """Return layers that mix channels, then neighbours of each channel."""
    return [
        nn.Conv2d(inputs, outputs, 1, bias=False),
        BatchRenorm(outputs),
        nn.ReLU(inplace=True),
        nn.Conv2d(outputs, outputs, 3, padding=1, groups=outputs),
        nn.ReLU(inplace=True),
    ]


class _Block(nn.Module):
    """Separable convolutions beside a shortcut of one convolution."""

    def __init__(self, inputs: int, outputs: int, depth: int) -> None:
        super().__init__()
        widths = (inputs, *(outputs,) * (depth - 1))
        self.layers = nn.Sequential(*(layer for width in widths for layer in _separable(width, outputs)))
        self.shortcut = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x) + self.shortcut(x)


class SeparableFCN(nn.Module):
    """Stem of stride 2, blocks of separable convolutions, and a head that doubles the resolution.

    `forward` takes (N, bands, H, W) of reflectance 0-1, whose transfer is learned, H and W even, and returns
    logits (N, classes, H, W). `widths` are those of the blocks, each with `depth` separable convolutions; the
    last block also sees `detail` channels from the stem, for sharp borders.
    """

    def __init__(
        self,
        bands: int,
        classes: int,
        stem: int = 64,
        widths: Sequence[int] = (80, 96, 96),
        detail: int = 32,
        depth: int = 3,
    ) -> None:
        super().__init__()
        if len(widths) < 2 or depth < 1:
            raise ValueError(f"needs two widths and a depth of 1 at least. Received: {widths}, {depth}")
        self.compression = Compression(bands)
        self.stem = nn.Sequential(
            nn.Conv2d(bands, stem, 4, stride=2, padding=1, bias=False),
            BatchRenorm(stem),
            nn.ReLU(inplace=True),
        )
        inputs = (stem, *widths[:-2])
        self.blocks = nn.Sequential(*(_Block(a, b, depth) for a, b in zip(inputs, widths[:-1], strict=True)))
        self.detail = nn.Sequential(*_separable(stem, detail))
        self.last = _Block(widths[-2] + detail, widths[-1], depth)
        self.head = nn.ConvTranspose2d(widths[-1], classes, 2, 2)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits, see the class."""
        fine = self.stem(self.compression(images))
        return self.head(self.last(torch.cat((self.blocks(fine), self.detail(fine)), dim=1)))


FAMILY = Family("separable_fcn", "segmentation", SeparableFCN)
