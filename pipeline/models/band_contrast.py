"""Proposals from image features: a moving vehicle is a spot of blue next to a spot of red.

The instrument sees a place in blue a second before it sees it in red. What moves has a pixel that is brighter
in blue than in the other bands, and one that is brighter in red, a few pixels apart. What stands still has
neither. No parameter is learned.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import clip_boxes_to_image

MOST_SHIFT_PX = 3
"""Most pixels from the blue spot to the red one, in x and in y."""
_BOX_MARGIN_PX = 0.75
_MEAN_PX, _NOISE_PX = 5, 17
"""Sides of the squares over which the mean is subtracted, and the noise is measured."""
_LEAST_NOISE = 0.1
"""Noise of the quietest ground, in units of normalised images."""


class BandContrast(nn.Module):
    """Contrast of blue and of red with the other visible bands, in units of local noise.

    (N, C, H, W) normalised, of which the first three channels are blue, green and red -> (N, 2, H, W).
    """

    def forward(self, images: Tensor) -> Tensor:
        """Return the contrasts, see the class."""
        blue, green, red = (images[:, band : band + 1] for band in range(3))
        excess = torch.cat([blue - (green + red) / 2, red - (blue + green) / 2], dim=1)
        contrast = excess - _mean(excess, _MEAN_PX)
        return contrast / (_mean(contrast * contrast, _NOISE_PX) + _LEAST_NOISE**2).sqrt()


def _mean(images: Tensor, side: int) -> Tensor:
    return functional.avg_pool2d(images, side, stride=1, padding=side // 2)


def spot_pairs(contrast: Tensor, least: float) -> Tensor:
    """Return boxes (K, 4), in pixels, around each blue spot and its red spot, from contrasts (H, W, 2).

    A blue spot is a pixel with a contrast of at least `least` that no neighbour exceeds. Its red spot is the
    pixel with the highest contrast of red at most `MOST_SHIFT_PX` away, if that is at least `least`, too. All
    pairs are proposals, not the best of a tile, so tiles with a halo give the same boxes.
    """
    blue, red = contrast.float().unbind(-1)
    height, width = (int(side) for side in blue.shape)
    highest = functional.max_pool2d(blue[None, None], 3, stride=1, padding=1)[0, 0]
    row, col = torch.nonzero((blue == highest) & (blue >= least), as_tuple=True)
    side = 2 * MOST_SHIFT_PX + 1
    padded = functional.pad(red, [MOST_SHIFT_PX] * 4, value=-torch.inf)
    steps = torch.arange(side, device=red.device)
    around = padded[row[:, None, None] + steps[:, None], col[:, None, None] + steps].flatten(1)
    strength, place = around.max(dim=1)
    paired = strength >= least
    row, col, place = row[paired], col[paired], place[paired]
    red_row, red_col = row + place // side - MOST_SHIFT_PX, col + place % side - MOST_SHIFT_PX
    low = torch.stack([torch.minimum(col, red_col), torch.minimum(row, red_row)], dim=1)
    high = torch.stack([torch.maximum(col, red_col), torch.maximum(row, red_row)], dim=1) + 1
    boxes = torch.cat([low - _BOX_MARGIN_PX, high + _BOX_MARGIN_PX], dim=1)
    return clip_boxes_to_image(boxes, (height, width))
