"""Clouds, their shadows and haze over a simulated world, each band from its own line of sight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from pipeline.training.rendering import PIXEL_M
from pipeline.training.world.layout import World
from pipeline.training.world.noise import fractal_field, smooth_field

ORBIT_KM = 786.0
LINE_OF_SIGHT_KM = {
    "B02": 0.0, "B08": -1.89, "B03": -3.78, "B10": -6.35, "B04": -7.28, "B05": -9.18, "B11": -10.85,
    "B06": -11.05, "B07": -12.94, "B8A": -14.81, "B12": -15.32, "B01": -16.83, "B09": -18.74,
}  # fmt: skip
"""How far north of its place over B02 the satellite is when an odd detector sees a place in each band.

Orbital height times tan(zenith) cos(azimuth) of the viewing angles in `MTD_TL.xml`; an even detector has the
opposite sign. Measured in a product of baseline 05.09.
"""
EAST_OF_NORTH = 0.22
"""Kilometres east for each kilometre north, along the descending orbit."""
_MARGIN = 8


@dataclass(frozen=True)
class Sky:
    """What hides or darkens the ground on a 10 m grid, (H, W) each, all from 0 to 1."""

    cloud: NDArray[np.float32]
    """Opacity of the clouds as B02 sees them."""
    cirrus: NDArray[np.float32]
    """Opacity of thin high cloud."""
    shadow: NDArray[np.float32]
    """Share of sunlight that clouds take away."""


def cloud_field(world: World, xs: NDArray[np.float64], ys: NDArray[np.float64]) -> NDArray[np.float32]:
    """Opacity of the clouds above each place, (len(ys), len(xs)), 0-1 with soft edges."""
    field = fractal_field(xs, ys, world.cloud_scale, world.field_seed + 120, 6, world.cloud_gain)
    threshold = ndtri(1 - world.cloud_cover)
    opacity = np.clip((field - np.float32(threshold)) / np.float32(world.cloud_softness), 0, 1)
    return np.asarray(opacity * opacity * (3 - 2 * opacity), np.float32)


def sky(world: World, xs: NDArray[np.float64], ys: NDArray[np.float64]) -> Sky:
    """Clouds, thin cloud and cloud shadow over a grid."""
    height = world.cloud_height_m * np.tan(np.deg2rad(world.season.sun_zenith_deg)) / PIXEL_M
    azimuth = np.deg2rad(world.season.sun_azimuth_deg)
    # the cloud that shades a place stands towards the sun from it
    shadow = cloud_field(world, xs + height * np.sin(azimuth), ys - height * np.cos(azimuth))
    veil = smooth_field(xs, ys, 260, world.field_seed + 130) - np.float32(1.3)
    return Sky(cloud_field(world, xs, ys), np.clip(veil * np.float32(0.16), 0, 0.2), shadow)


def add_sky(
    image: NDArray[np.float32],
    bands: Sequence[str],
    world: World,
    xs: NDArray[np.float64],
    ys: NDArray[np.float64],
    above: Sky,
) -> None:
    """Darken, veil and cloud an image, (C, H, W) reflectance of the ground, in place.

    Clouds are high, so each band sees them elsewhere: by cloud height over orbital height times the way the
    satellite flew between the bands, the other way round for even detectors.
    """
    brightness = 0.42 + 0.34 * above.cloud + 0.05 * smooth_field(xs, ys, 11, world.field_seed + 131)
    clouded = bool(above.cloud.any())
    if clouded:
        wide_x = np.arange(-_MARGIN, len(xs) + _MARGIN) + xs[0]
        wide_y = np.arange(-_MARGIN, len(ys) + _MARGIN) + ys[0]
        wide = cloud_field(world, wide_x, wide_y)
        odd = world.detector(xs[None, :], ys[:, None]) % 2 == 1
    haze = np.float32(0.006) * (1 + smooth_field(xs, ys, 400, world.field_seed + 132))
    for channel, band in enumerate(bands):
        ground = image[channel]
        ground *= 1 - np.float32(0.62) * above.shadow
        ground += haze * _HAZE_COLOUR[band]
        ground += above.cirrus * (np.float32(0.45) - ground)
        if clouded:
            north = LINE_OF_SIGHT_KM[band] / ORBIT_KM * world.cloud_height_m / PIXEL_M
            # an apparent shift away from the satellite: south (down) by `north` for an odd detector
            seen = [_shifted(wide, sign * north, -sign * north * EAST_OF_NORTH) for sign in (1, -1)]
            opacity = np.where(odd, *seen)
            ground += opacity * (brightness * _CLOUD_COLOUR[band] - ground)


_HAZE_COLOUR = {
    "B01": 1.3, "B02": 1.0, "B03": 0.7, "B04": 0.5, "B05": 0.4, "B06": 0.3, "B07": 0.3, "B08": 0.25,
    "B8A": 0.2, "B09": 0.2, "B11": 0.1, "B12": 0.05,
}  # fmt: skip
_CLOUD_COLOUR = {
    "B01": 1.0, "B02": 1.0, "B03": 0.98, "B04": 0.97, "B05": 1.0, "B06": 1.02, "B07": 1.03, "B08": 1.03,
    "B8A": 1.04, "B09": 0.9, "B11": 0.62, "B12": 0.48,
}  # fmt: skip


def _shifted(wide: NDArray[np.float32], down: float, right: float) -> NDArray[np.float32]:
    """What a field with `_MARGIN` on all sides shows when it is moved, between pixels by bilinear weights."""
    top, left = _MARGIN - down, _MARGIN - right
    i, j = int(np.floor(top)), int(np.floor(left))
    fy, fx = np.float32(top - i), np.float32(left - j)
    height, width = wide.shape[0] - 2 * _MARGIN, wide.shape[1] - 2 * _MARGIN
    part = wide[i : i + height + 1, j : j + width + 1]
    rows = part[:-1] * (1 - fy) + part[1:] * fy
    return np.asarray(rows[:, :-1] * (1 - fx) + rows[:, 1:] * fx, np.float32)
