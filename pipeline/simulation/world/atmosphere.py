"""Clouds, their shadows and haze over a simulated world, with the line of sight of each band."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from pipeline.scenes.msi import BAND_DELAYS_S
from pipeline.simulation.rendering import PIXEL_M, rectangle_coverage
from pipeline.simulation.world.noise import fractal_field, smooth_field
from pipeline.simulation.world.objects import World

ORBIT_KM = 786.0
LINE_OF_SIGHT_KM = {
    "B02": 0.0, "B08": -1.89, "B03": -3.78, "B10": -6.35, "B04": -7.28, "B05": -9.18, "B11": -10.85,
    "B06": -11.05, "B07": -12.94, "B8A": -14.81, "B12": -15.32, "B01": -16.83, "B09": -18.74,
}  # fmt: skip
"""Kilometres by which the satellite is north of its place over B02 when an odd detector images a band.

That is the orbital height times tan(zenith) cos(azimuth) of the viewing angles in `MTD_TL.xml`. An even
detector has the opposite sign. Measured in a product of baseline 05.09.
"""
EAST_OF_NORTH = 0.22
"""Kilometres east for each kilometre north, along the descending orbit."""
VEIL_HEIGHT_M = 9000.0
SHADE = np.float32(0.62)
"""Share of sunlight that an opaque cloud blocks in its shadow."""
_MARGIN = 24


@dataclass(frozen=True)
class Sky:
    """Opacities and shadows over the ground on a 10 m grid, (H, W) each, all from 0 to 1."""

    cloud: NDArray[np.float32]
    """Opacity of the clouds in B02."""
    cirrus: NDArray[np.float32]
    """Opacity of thin high cloud and contrails in B02."""
    shadow: NDArray[np.float32]
    """Share of sunlight blocked by clouds."""


def cloud_field(world: World, xs: NDArray[np.float64], ys: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the opacity of the clouds above each place, (len(ys), len(xs)), 0-1 with soft edges."""
    field = fractal_field(xs, ys, world.cloud_scale, world.sky_seed + 120, 6, world.cloud_gain)
    threshold = ndtri(1 - world.cloud_cover)
    opacity = np.clip((field - np.float32(threshold)) / np.float32(world.cloud_softness), 0, 1)
    return np.asarray(opacity * opacity * (3 - 2 * opacity), np.float32)


def parallax(band: str, order: int, height_m: float) -> tuple[float, float]:
    """Return the shift right and down of an object at a height from B02 to a band, pixels.

    The shift is away from the satellite: height over orbital height, times the flight between the bands.
    `order` is +1 for odd MSI detectors, -1 for even ones.
    """
    north = order * LINE_OF_SIGHT_KM[band] / ORBIT_KM * height_m / PIXEL_M
    return -north * EAST_OF_NORTH, north


def delay_s(band: str, order: int) -> float:
    """Return the seconds after B02 (negative: before it) at which any band images a place."""
    return order * LINE_OF_SIGHT_KM[band] / LINE_OF_SIGHT_KM["B04"] * BAND_DELAYS_S["B04"]


def cloud_shift(world: World, band: str, order: int) -> tuple[float, float]:
    """Return the shift right and down of the clouds from B02 to a band, pixels: parallax and drift."""
    right, down = parallax(band, order, world.cloud_height_m)
    seconds = delay_s(band, order)
    east, south = world.wind_ms
    return right + east * seconds / PIXEL_M, down + south * seconds / PIXEL_M


def veil(world: World, xs: NDArray[np.float64], ys: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the opacity of cirrus above each place in B02, (len(ys), len(xs)), 0-0.2."""
    field = smooth_field(xs, ys, 260, world.sky_seed + 130) - np.float32(1.3)
    return np.clip(field * np.float32(0.16), 0, 0.2)


def contrails(
    world: World, xs: NDArray[np.float64], ys: NDArray[np.float64], band: str = "B02", order: int = 1
) -> NDArray[np.float32]:
    """Return the opacity of the contrails above each place in a band, (len(ys), len(xs))."""
    opacity = np.zeros((len(ys), len(xs)), np.float32)
    for trail in world.contrails:
        right, down = parallax(band, order, trail.height_m)
        x, y = trail.x + right - (xs[0] - 0.5), trail.y + down - (ys[0] - 0.5)
        part, share = rectangle_coverage(
            opacity.shape, x, y, trail.heading_deg, trail.length, trail.width, 0.25 * trail.width
        )
        opacity[part] += (1 - opacity[part]) * share * np.float32(trail.opacity)
    return opacity


def light_left(world: World, xs: NDArray[np.float64], ys: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the share, 0-1, of a ground contrast that cloud, veil, contrail and cloud shadow leave."""
    above = sky(world, xs, ys)
    return (1 - above.cloud) * (1 - above.cirrus) * (1 - SHADE * above.shadow)


def sky(world: World, xs: NDArray[np.float64], ys: NDArray[np.float64]) -> Sky:
    """Return clouds, thin cloud and cloud shadow over a grid."""
    height = world.cloud_height_m * np.tan(np.deg2rad(world.season.sun_zenith_deg)) / PIXEL_M
    azimuth = np.deg2rad(world.season.sun_azimuth_deg)
    # the cloud that shades a place is towards the sun
    shadow = cloud_field(world, xs + height * np.sin(azimuth), ys - height * np.cos(azimuth))
    thin = np.maximum(veil(world, xs, ys), contrails(world, xs, ys))
    return Sky(cloud_field(world, xs, ys), thin, shadow)


def add_sky(
    image: NDArray[np.float32],
    bands: Sequence[str],
    world: World,
    xs: NDArray[np.float64],
    ys: NDArray[np.float64],
    above: Sky,
) -> None:
    """Darken, veil and cloud an image, (C, H, W) reflectance of the ground, in place.

    Clouds are high and drift, so their position differs between bands; see `cloud_shift` and `parallax`.
    """
    brightness = 0.42 + 0.34 * above.cloud + 0.05 * smooth_field(xs, ys, 11, world.sky_seed + 131)
    wide_x = np.arange(-_MARGIN, len(xs) + _MARGIN) + xs[0]
    wide_y = np.arange(-_MARGIN, len(ys) + _MARGIN) + ys[0]
    clouds, thin = cloud_field(world, wide_x, wide_y), veil(world, wide_x, wide_y)
    odd = world.detector(xs[None, :], ys[:, None]) % 2 == 1
    haze = np.float32(world.haze) * (1 + smooth_field(xs, ys, 400, world.sky_seed + 132))
    for channel, band in enumerate(bands):
        ground = image[channel]
        ground *= 1 - SHADE * above.shadow
        ground += haze * _HAZE_COLOUR[band]
        if world.contrails:
            streaks = np.where(odd, *(contrails(world, xs, ys, band, order) for order in (1, -1)))
            ground += streaks * (np.float32(0.5) - ground)
        if thin.any():
            cirrus = np.where(odd, *(_shifted(thin, *parallax(band, o, VEIL_HEIGHT_M)) for o in (1, -1)))
            ground += cirrus * (np.float32(0.45) - ground)
        if clouds.any():
            opacity = np.where(odd, *(_shifted(clouds, *cloud_shift(world, band, o)) for o in (1, -1)))
            ground += opacity * (brightness * _CLOUD_COLOUR[band] - ground)


_HAZE_COLOUR = {
    "B01": 1.3, "B02": 1.0, "B03": 0.7, "B04": 0.5, "B05": 0.4, "B06": 0.3, "B07": 0.3, "B08": 0.25,
    "B8A": 0.2, "B09": 0.2, "B11": 0.1, "B12": 0.05,
}  # fmt: skip
_CLOUD_COLOUR = {
    "B01": 1.0, "B02": 1.0, "B03": 0.98, "B04": 0.97, "B05": 1.0, "B06": 1.02, "B07": 1.03, "B08": 1.03,
    "B8A": 1.04, "B09": 0.9, "B11": 0.62, "B12": 0.48,
}  # fmt: skip


def _shifted(wide: NDArray[np.float32], right: float, down: float) -> NDArray[np.float32]:
    """Return a field with `_MARGIN` on all sides after a shift, interpolated bilinearly."""
    top, left = _MARGIN - down, _MARGIN - right
    i, j = int(np.floor(top)), int(np.floor(left))
    fy, fx = np.float32(top - i), np.float32(left - j)
    height, width = wide.shape[0] - 2 * _MARGIN, wide.shape[1] - 2 * _MARGIN
    part = wide[i : i + height + 1, j : j + width + 1]
    rows = part[:-1] * (1 - fy) + part[1:] * fy
    return np.asarray(rows[:, :-1] * (1 - fx) + rows[:, 1:] * fx, np.float32)
