"""Examples of land cover to learn from, and datasets of them put together."""

from __future__ import annotations

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

Example = tuple[Tensor, Tensor, Tensor]
"""Normalised image (C, H, W), target probabilities (K, H, W) and weights (H, W)."""


class Blend(Dataset[Example]):
    """Endless examples of two datasets: a `share` of the first; example `i` is the same for a seed.

    Examples 2i and 2i + 1 are of one dataset, so that two views of a tile stay neighbours.
    """

    def __init__(self, first: Dataset[Example], second: Dataset[Example], share: float, seed: int) -> None:
        self.first, self.second, self.share, self.seed = first, second, share, seed

    def __getitem__(self, index: int) -> Example:
        is_first = np.random.default_rng((self.seed, 9, index // 2)).random() < self.share
        return self.first[index] if is_first else self.second[index]
