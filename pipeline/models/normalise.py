"""Normalisation of the input of all networks: zero where there are no data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.models.bundle import Card


def normalise(
    reflectance: NDArray[np.float32],
    valid: NDArray[np.bool_],
    card: Card,
    bands: Sequence[str] | None = None,
) -> Tensor:
    """Return (reflectance - mean) / std by band of the card: (C, H, W) float32, 0 where there are no data.

    `reflectance` is (B, H, W), 0-1. `bands` names its bands; by default those of the card in its order.
    `valid` is (H, W); a single band without data is NaN, and only this band is 0 there. Pixels without data,
    and optional bands missing in `bands`, get the value of a convolution's padding beyond the scene's border,
    so all are equal.

    Raises
    ------
    ValueError
        If the number of bands is wrong, a required band is missing, or the mask has another shape.
    """
    bands = card.bands if bands is None else bands
    lacking = [band for band in card.required_bands if band not in bands]
    if lacking or reflectance.shape[0] != len(bands) or reflectance.shape[1:] != valid.shape:
        raise ValueError(
            f"{card.id} takes {', '.join(card.required_bands)} and a mask of their shape. "
            f"Received: {', '.join(bands)} as reflectance {reflectance.shape}, valid {valid.shape}"
        )
    image = np.zeros((len(card.bands), *valid.shape), np.float32)
    for channel, band in enumerate(card.bands):
        if band in bands:
            values = reflectance[bands.index(band)]
            image[channel] = normalise_band(values, valid & np.isfinite(values), card, band)
    return torch.from_numpy(image)


def normalise_band(
    values: NDArray[np.float32], valid: NDArray[np.bool_], card: Card, band: str
) -> NDArray[np.float32]:
    """Return (reflectance - mean) / std of one band of the card, (H, W), 0 where it has no data."""
    channel = card.bands.index(band)
    scaled = values - np.float32(card.mean[channel])
    scaled /= np.float32(card.std[channel])
    scaled[~valid] = 0
    return scaled
