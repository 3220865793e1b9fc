"""Block screener: a small network that rejects blocks of a scene without trucks.

Its blocks are fixed on the scene's grid, so results do not depend on tiles.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.models.family import Family

BLOCK_PX = 64
"""Side of a block, in 10 m pixels; also the total stride of the network."""
CELL_PX = 8
"""Side of the cells of a block, in 10 m pixels; a block has the score of its best cell."""


def _convolution(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class TruckScreener(nn.Module):
    """Network of strided convolutions with batch norm, then the maximum over each block.

    (N, bands, H, W), normalised, H and W multiples of 64 -> logits (N, 1, H / 64, W / 64).
    """

    def __init__(self, bands: int, widths: tuple[int, ...] = (16, 24, 48)) -> None:
        super().__init__()
        fine, middle, coarse = widths
        self.features = nn.Sequential(
            _convolution(bands, fine, 5, 2),
            _convolution(fine, middle, 3, 2),
            _convolution(middle, coarse, 3, 2),
            _convolution(coarse, coarse, 3, 1),
        )
        self.head = nn.Conv2d(coarse, 1, 1)
        self.block = nn.MaxPool2d(BLOCK_PX // CELL_PX)

    def cells(self, images: Tensor) -> Tensor:
        """Return logits (N, 1, H / 8, W / 8) that the centre of a truck is in a cell."""
        logits: Tensor = self.head(self.features(images))
        return logits

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of blocks, see the class."""
        blocks: Tensor = self.block(self.cells(images))
        return blocks


def accepted(logits: Tensor, threshold: float, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return a mask (H, W) of `shape`: the pixels of blocks with a probability of at least `threshold`.

    `logits` (R, C) are of the blocks from the upper left corner of the shape.
    """
    blocks = logits.double().sigmoid() >= threshold
    pixels = blocks.repeat_interleave(BLOCK_PX, 0).repeat_interleave(BLOCK_PX, 1)
    return np.asarray(pixels[: shape[0], : shape[1]].cpu().numpy(), dtype=np.bool_)


FAMILY = Family("block_screener", "screening", TruckScreener)
