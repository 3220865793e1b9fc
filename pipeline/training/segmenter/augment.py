"""Changes of a training image that leave its land cover as it is: orientation, weather, missing bands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.ndimage import gaussian_filter, zoom
from torch import Tensor

from pipeline.models.bundle import Card
from pipeline.scenes.atmosphere import PATH_RADIANCE

Share = Annotated[float, Field(ge=0, le=1)]

CLOUD_REFLECTANCE = {
    "B01": 1.0, "B02": 1.0, "B03": 0.98, "B04": 0.97, "B05": 1.0, "B06": 1.02, "B07": 1.03, "B08": 1.03,
    "B8A": 1.04, "B09": 0.9, "B11": 0.62, "B12": 0.48,
}  # fmt: skip
"""Reflectance of a water cloud, relative to B02: ice and water absorb in the short-wave infrared."""


def turned(array: NDArray[Any], turns: int, mirrored: bool) -> NDArray[Any]:
    """Return an array (..., S, S) turned by quarters, then mirrored."""
    rotated = np.rot90(array, turns, axes=(-2, -1))
    return np.ascontiguousarray(rotated[..., ::-1] if mirrored else rotated)


def by_band(values: Mapping[str, float], bands: Sequence[str]) -> NDArray[np.float32]:
    """Return values of bands (C, 1, 1)."""
    return np.array([values[band] for band in bands], np.float32)[:, None, None]


def smooth_field(side: int, rng: np.random.Generator, low: int = 3, high: int = 7) -> NDArray[np.float32]:
    """Return a smooth random field (S, S) between 0 and 1, from `low` to `high` - 1 waves across."""
    coarse = int(rng.integers(low, high))
    return np.asarray(zoom(rng.random((coarse, coarse)), side / coarse, order=1), np.float32)


def under_clouds(
    image: NDArray[np.float32], bands: Sequence[str], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return the image (C, S, S) under thin cloud and in the shadow of thicker clouds.

    Linear mixing with a cloud's own reflectance; in shadow the sky still lights the blue bands best.
    """

    def patches(strongest: float) -> NDArray[np.float32]:
        start = rng.uniform(0.2, 0.7)
        field = np.clip((smooth_field(image.shape[-1], rng) - start) / (1 - start), 0, 1)
        return np.asarray(field * rng.uniform(0.2, strongest), np.float32)

    if rng.random() < 0.6:
        sky = by_band(PATH_RADIANCE, bands) / np.float32(PATH_RADIANCE["B02"])
        image = image * (1 - patches(0.8) * (1 - 0.3 * sky))
    if rng.random() < 0.6:
        opacity = patches(0.9)
        cloud = np.float32(rng.uniform(0.3, 0.7)) * by_band(CLOUD_REFLECTANCE, bands)
        image = image * (1 - opacity) + cloud * opacity
    return np.asarray(image, np.float32)


def degraded(
    image: NDArray[np.float32],
    bands: Sequence[str],
    rng: np.random.Generator,
    *,
    clouded: float,
    blurred: float,
    blur_px: float,
    noise: float,
) -> NDArray[np.float32]:
    """Return the image (C, S, S), some times under clouds, some times blurred, and often with noise.

    `clouded` and `blurred` are probabilities, `blur_px` and `noise` the largest standard deviations.
    """
    if rng.random() < clouded:
        image = under_clouds(image, bands, rng)
    if rng.random() < blurred:
        sigma = rng.uniform(0.3, blur_px)
        image = gaussian_filter(image, (0, sigma, sigma))
    if rng.random() < 0.3:
        image = image + rng.normal(0, rng.uniform(0, noise), image.shape).astype(np.float32)
    return image


def drop_bands(image: Tensor, card: Card, share: float, rng: np.random.Generator) -> None:
    """Set optional bands of a normalised image (C, H, W) to 0, as in scenes that lack them.

    A `share` of the images lacks some: half of these all optional ones, the others any of them.
    """
    optional = [number for number, band in enumerate(card.bands) if band in card.optional_bands]
    if not optional or rng.random() >= share:
        return
    if rng.random() < 0.5:
        image[optional] = 0
    else:
        keep = rng.random(len(optional)) < rng.uniform(0.2, 0.9)
        image[[number for number, kept in zip(optional, keep, strict=True) if not kept]] = 0
