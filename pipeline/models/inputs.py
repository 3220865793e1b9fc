"""What every network is fed: normalised bands, zero where there is no data."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.models.bundle import Card


def normalise(reflectance: NDArray[np.float32], valid: NDArray[np.bool_], card: Card) -> Tensor:
    """(reflectance - mean) / std by band of the card: (C, H, W) float32, 0 where not valid.

    `reflectance` is (C, H, W), 0-1, its bands in the card's order; `valid` is (H, W). A pixel without data
    gets the value that a convolution pads with beyond the scene's border, so both look the same.

    Raises
    ------
    ValueError
        If the number of bands is not the card's, or the mask has another shape.
    """
    if reflectance.shape[0] != len(card.bands) or reflectance.shape[1:] != valid.shape:
        raise ValueError(
            f"{card.id} takes {len(card.bands)} bands and a mask of their shape. "
            f"Received: reflectance {reflectance.shape}, valid {valid.shape}"
        )
    mean = np.asarray(card.mean, np.float32)[:, None, None]
    std = np.asarray(card.std, np.float32)[:, None, None]
    return torch.from_numpy(np.where(valid, (reflectance - mean) / std, np.float32(0)).astype(np.float32))
