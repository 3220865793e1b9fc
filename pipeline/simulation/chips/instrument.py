"""Instrument of a chip: registration, haze, light, noise and encoding."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture
from scipy import ndimage

from pipeline.simulation.chips.ground import CHIP_BANDS, Image

MAX_MISREGISTRATION_PX = 0.3


def any_noise(rng: np.random.Generator) -> float:
    """Draw the noise of an instrument, in reflectance."""
    return float(np.exp(rng.uniform(np.log(0.0008), np.log(0.006))))


def any_blur(rng: np.random.Generator) -> dict[str, float]:
    """Draw the blur of each band, in pixels."""
    common = rng.uniform(0.38, 0.62)
    return {band: float(common + rng.normal(0, 0.03)) for band in CHIP_BANDS}


def observe(rng: np.random.Generator, image: NDArray[np.floating], noise: float) -> Image:
    """Return a chip (4, H, W) as in a product: misregistered, hazy, noisy, quantised or lossy."""
    if rng.uniform() < 0.7:
        image = _misregistered(rng, image)
    if rng.uniform() < 0.5:
        haze = rng.uniform(0, 0.10) * np.array(
            [1.0, rng.uniform(0.5, 0.8), rng.uniform(0.3, 0.6), rng.uniform(0.1, 0.35)]
        )
        image = image * (1 - haze[:, None, None]) + haze[:, None, None]
    image = image * rng.uniform(0.75, 1.25) * rng.normal(1, 0.04, (4, 1, 1))
    image = image + rng.normal(0, noise, image.shape)
    kind = rng.uniform()
    if kind < 0.30:
        step = 1 / 255 * rng.uniform(0.6, 1.2)
        image = np.clip(np.round(image / step), 0, 255) * step
    elif kind < 0.40:
        step = rng.uniform(0.002, 0.006)
        image = np.round(image / step) * step
    elif kind < 0.47:
        image = _lossy(image, 1 / 255 * rng.uniform(0.6, 1.2), int(rng.integers(85, 99)))
    return np.clip(image, 0, 1.5).astype(np.float32)


def _misregistered(rng: np.random.Generator, image: NDArray[np.floating]) -> NDArray[np.floating]:
    """Move each band by up to 0.3 px, mostly far less."""
    moved = np.empty_like(image)
    for channel, band in enumerate(image):
        by = np.clip(rng.normal(0, 0.09, 2), -MAX_MISREGISTRATION_PX, MAX_MISREGISTRATION_PX)
        moved[channel] = ndimage.shift(band, by, order=1, mode="nearest")
    return moved


def _lossy(image: NDArray[np.floating], step: float, quality: int) -> Image:
    """Encode each band in 8 bits and JPEG, as pictures of scenes are."""
    bands = []
    for band in np.clip(np.round(image / step), 0, 255).astype(np.uint8):
        packed = io.BytesIO()
        Picture.fromarray(band).save(packed, "JPEG", quality=quality)
        bands.append(np.asarray(Picture.open(packed), np.float32) * np.float32(step))
    return np.stack(bands)
