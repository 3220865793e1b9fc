"""Layers that keep how bright an image is: batch renormalisation, and a learned transfer of reflectance."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_RENORM_FROM = 100
"""Training steps of plain batch norm, and then steps until it is renormalised completely."""


class BatchRenorm(nn.BatchNorm2d):
    """Batch norm that normalises by its running statistics in training, too, once it has some.

    Ioffe, "Batch Renormalization", NIPS 2017 (arXiv:1702.03275). A few tiles of a batch, one of them snow and
    one the sea, have other statistics than the world; batch norm would hide how bright a tile is. At
    inference it is batch norm.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return features (N, C, H, W), normalised."""
        tracked = self.num_batches_tracked
        if not self.training or tracked is None or self.running_mean is None or self.running_var is None:
            return super().forward(input)
        with torch.no_grad():  # batch norm itself is the fastest way to the statistics of the batch
            mean, variance = torch.zeros_like(self.running_mean), torch.ones_like(self.running_var)
            nn.functional.batch_norm(input, mean, variance, None, None, True, 1.0, self.eps)
            known = (self.running_var + self.eps).sqrt()
            limit = min(1.0, max(0.0, (int(tracked) - _RENORM_FROM) / _RENORM_FROM))
            scale = ((variance + self.eps).sqrt() / known).clamp(1 / (1 + 4 * limit), 1 + 4 * limit)
            shift = ((mean - self.running_mean) / known).clamp(-8 * limit, 8 * limit)
            weight = max(self.momentum or 0.1, 1 / (1 + int(tracked)))  # the mean of all batches at first
            self.running_mean.lerp_(mean, weight)
            self.running_var.lerp_(variance, weight)
            tracked.add_(1)
        slope, bias = self.weight * scale, self.weight * shift + self.bias
        return nn.functional.batch_norm(input, None, None, slope, bias, True, 0.0, self.eps)


class Compression(nn.Module):
    """Reflectance compressed band by band, s(a log(1 + 50 r) + b) - s(b) with the sigmoid s; 0 stays 0.

    The transfer of Brown et al., "Dynamic World", Scientific Data 9:251, 2022, which shows dark water and
    bright sand alike; a and b are learned.
    """

    def __init__(self, bands: int) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.full((bands,), 2.2))
        self.shift = nn.Parameter(torch.full((bands,), -5.5))

    def forward(self, images: Tensor) -> Tensor:
        """Return images (N, bands, H, W) of reflectance 0-1, compressed to about 0-1."""
        slope, shift = self.slope[:, None, None], self.shift[:, None, None]
        return torch.sigmoid(torch.log(images.clamp(min=0) * 50 + 1) * slope + shift) - torch.sigmoid(shift)
