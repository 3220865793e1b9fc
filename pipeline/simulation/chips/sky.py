"""Clouds, their shadows and contrails over a chip; high objects move from band to band."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from pipeline.scenes.msi import BAND_DELAYS_S
from pipeline.simulation.chips.palette import CHIP_BANDS, ChipWorld, Image, fractal
from pipeline.simulation.chips.streets import any_arc
from pipeline.simulation.rendering import strip_coverage

PARALLAX_PX_PER_KM = 0.93
"""Parallax: B04 looks 7.3 km / 786 km = 0.0093 rad further than B02, 9.3 m for a kilometre of height."""


def _part(band: str) -> float:
    """Return the time of a band between those of B02 (-0.5) and B04 (+0.5)."""
    return BAND_DELAYS_S[band] / BAND_DELAYS_S["B04"] - 0.5


def _cover(image: Image, opacity: Image, bright: Image, shift_px: float, angle: float) -> None:
    """Blend a cloud (H, W) of a brightness (4,) into an image, moved by `shift_px` from B02 to B04."""
    for channel, band in enumerate(CHIP_BANDS):
        by = shift_px * _part(band)
        moved = ndimage.shift(opacity, (by * np.cos(angle), by * np.sin(angle)), order=1, mode="nearest")
        image[channel] += moved * (bright[channel] - image[channel])


def add_clouds(rng: np.random.Generator, image: Image, world: ChipWorld) -> Image:
    """Add clouds up to 5 km, or thin ones up to 12 km; return their opacity, (H, W)."""
    size = image.shape[1]
    high = rng.uniform() < 0.25
    field = fractal(rng, size, rng.uniform(6, 20) if high else rng.uniform(2, 16))
    opacity = np.clip((field - rng.uniform(0.3, 2.2)) * rng.uniform(0.3, 2.0), 0, 1)
    opacity *= rng.uniform(0.05, 0.4) if high else rng.uniform(0.15, 1.0)
    bright = rng.uniform(0.3, 0.9) * np.array([1.05, 1.0, 1.0, 1.05])
    height_km = rng.uniform(6, 12) if high else rng.uniform(0, 5)
    # Winds of up to 40 m/s move a cloud by up to 4 px within the second, in any direction.
    drift = rng.normal(0, 1) * (1.5 if high else 0.5)
    shift = world.order * height_km * PARALLAX_PX_PER_KM + drift
    _cover(image, opacity.astype(np.float32), bright.astype(np.float32), shift, rng.uniform(0, 2 * np.pi))
    return opacity.astype(np.float32)


def add_contrail(rng: np.random.Generator, image: Image, world: ChipWorld) -> Image:
    """Add a contrail at 8 to 12 km, moved by 7 to 11 px from B02 to B04; return its opacity (H, W)."""
    size = image.shape[1]
    _, across = any_arc(rng, size, 0.002).coordinates(size)
    opacity = strip_coverage(across, rng.uniform(0.3, 3), rng.uniform(0.5, 1.2)) * np.float32(
        rng.uniform(0.1, 0.7)
    )
    shift = world.order * rng.uniform(8, 12) * PARALLAX_PX_PER_KM
    bright = np.full(4, rng.uniform(0.3, 0.7), np.float32)
    _cover(image, opacity, bright, shift, rng.uniform(0, 2 * np.pi))
    return opacity


def cloud_shadow(rng: np.random.Generator, size: int) -> Image:
    """Return (size, size) share of the light that reaches the ground, the same in every band."""
    field = fractal(rng, size, rng.uniform(3, 16))
    dark = np.clip((field - rng.uniform(-0.5, 1.5)) * rng.uniform(0.5, 3.0), 0, 1)
    return (1 - rng.uniform(0.2, 0.75) * dark).astype(np.float32)
