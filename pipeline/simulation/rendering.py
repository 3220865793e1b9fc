"""Analytic rendering of moving vehicles and roads through the blur of the instrument, by band.

A rectangle through a Gaussian point spread function is, in its own axes, a product of two differences of
normal distribution functions, so every vehicle is rendered exactly, without supersampling. A pixel integrates
over its area, which to second order adds a variance of 1/12 px^2 to the blur.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from pipeline.scenes.msi import BAND_DELAYS_S

PIXEL_M = 10.0
_PIXEL_VARIANCE = 1.0 / 12.0
_REACH_SIGMAS = 4.0


def band_times(order: int) -> dict[str, float]:
    """Return the seconds at which each band images a place, relative to the middle of B02 and B04.

    `order` is +1 if B02 is first (odd MSI detectors), -1 if B04 is.
    """
    middle = (BAND_DELAYS_S["B02"] + BAND_DELAYS_S["B04"]) / 2
    return {band: order * (delay - middle) for band, delay in BAND_DELAYS_S.items()}


@dataclass(frozen=True)
class Vehicle:
    """Moving rectangle, at the time midway between B02 and B04."""

    x: float
    y: float
    """Centre, in pixels from the upper left corner of the image."""
    heading_deg: float
    """Direction of travel, clockwise from up (north)."""
    speed_kmh: float
    length_m: float
    width_m: float
    reflectance: Mapping[str, float]
    """Mean reflectance from above, by band."""
    kind: str = ""
    """Kind of road vehicle, as in `world.fleet.KINDS`."""

    @property
    def direction(self) -> tuple[float, float]:
        """Return the unit vector of travel, (dx, dy) in pixels; y points down."""
        angle = np.deg2rad(self.heading_deg)
        return float(np.sin(angle)), float(-np.cos(angle))

    def position(self, seconds: float) -> tuple[float, float]:
        """Return the centre after `seconds`, in pixels."""
        travelled = self.speed_kmh / 3.6 * seconds / PIXEL_M
        dx, dy = self.direction
        return self.x + travelled * dx, self.y + travelled * dy

    def box(
        self, order: int, margin_px: float = 0.25, min_side_px: float = 3.0
    ) -> tuple[float, float, float, float]:
        """Return x_min, y_min, x_max, y_max: bounds of its rectangles in all bands, with room for the blur.

        Sides are at least `min_side_px`, for a box of one pixel can't be matched.
        """
        dx, dy = self.direction
        half_x = (abs(dx) * self.length_m + abs(dy) * self.width_m) / 2 / PIXEL_M + margin_px
        half_y = (abs(dy) * self.length_m + abs(dx) * self.width_m) / 2 / PIXEL_M + margin_px
        places = np.array([self.position(seconds) for seconds in band_times(order).values()])
        half = np.array([half_x, half_y])
        low, high = places.min(axis=0) - half, places.max(axis=0) + half
        pad = np.maximum(min_side_px - (high - low), 0) / 2
        low, high = low - pad, high + pad
        return float(low[0]), float(low[1]), float(high[0]), float(high[1])


GLASS_REFLECTANCE = 0.04
CAR_PAINT_SHARE = 0.4


def car_reflectance(paint: Mapping[str, float]) -> dict[str, float]:
    """Return the mean reflectance of a car from above, by band, from that of its paint.

    More than half of the area is glass, tyres and gaps, and the curved bonnet reflects sunlight elsewhere,
    whereas all of a lorry's flat tarpaulin has the colour of the paint. So a car of 8 m2 is far less visible
    than the fourth of a truck's contrast that its area suggests.
    """
    return {
        band: CAR_PAINT_SHARE * value + (1 - CAR_PAINT_SHARE) * GLASS_REFLECTANCE
        for band, value in paint.items()
    }


def rectangle_coverage(
    shape: tuple[int, int],
    x: float,
    y: float,
    heading_deg: float,
    length_px: float,
    width_px: float,
    sigma_px: float,
) -> tuple[tuple[slice, slice], NDArray[np.float32]]:
    """Return the share of each pixel that a blurred rectangle covers, and the (rows, columns) of the result.

    The values sum to the rectangle's area in pixels (as far as it lies in the image, within 4 % for a blur of
    at least 0.4 px: a sharper one is undersampled): blur keeps energy.
    The window is empty for a rectangle out of sight.
    """
    blur = np.sqrt(sigma_px**2 + _PIXEL_VARIANCE)
    reach = float(np.hypot(length_px, width_px)) / 2 + _REACH_SIGMAS * blur
    rows = slice(max(0, int(np.floor(y - reach))), min(shape[0], int(np.ceil(y + reach)) + 1))
    cols = slice(max(0, int(np.floor(x - reach))), min(shape[1], int(np.ceil(x + reach)) + 1))
    if rows.start >= rows.stop or cols.start >= cols.stop:
        return (slice(0, 0), slice(0, 0)), np.zeros((0, 0), np.float32)
    px = np.arange(cols.start, cols.stop)[None, :] + 0.5 - x
    py = np.arange(rows.start, rows.stop)[:, None] + 0.5 - y
    return (rows, cols), _covered(px, py, heading_deg, (length_px, width_px), blur)


def _covered(
    px: NDArray[np.floating],
    py: NDArray[np.floating],
    heading_deg: float,
    size_px: tuple[float, float],
    blur: NDArray[np.float64] | float,
) -> NDArray[np.float32]:
    """Return the share that a rectangle at the origin covers of pixels at (px, py), which broadcast."""
    angle, (length, width) = np.deg2rad(heading_deg), size_px
    along = px * np.sin(angle) - py * np.cos(angle)
    across = px * np.cos(angle) + py * np.sin(angle)
    share = (ndtr((along + length / 2) / blur) - ndtr((along - length / 2) / blur)) * (
        ndtr((across + width / 2) / blur) - ndtr((across - width / 2) / blur)
    )
    return np.asarray(share, np.float32)


def add_rectangle(
    image: NDArray[np.float32],
    x: float,
    y: float,
    heading_deg: float,
    length_px: float,
    width_px: float,
    reflectance: float,
    sigma_px: float,
) -> None:
    """Paint a blurred rectangle over one band, (H, W) reflectance, in place."""
    (rows, cols), share = rectangle_coverage(image.shape, x, y, heading_deg, length_px, width_px, sigma_px)
    image[rows, cols] += share * (np.float32(reflectance) - image[rows, cols])


def vehicle_coverage(
    shape: tuple[int, int],
    bands: Sequence[str],
    vehicle: Vehicle,
    order: int,
    sigma_px: Mapping[str, float],
) -> tuple[list[int], tuple[slice, slice], NDArray[np.float32]]:
    """Return the share of each pixel that a moving vehicle covers in each band, (C, h, w).

    First come the indices of the C bands that have a delay in `BAND_DELAYS_S`, and the (rows, columns) of the
    result, which are the same whatever the bands.
    """
    times = band_times(order)
    channels = [channel for channel, band in enumerate(bands) if band in times]
    places = {band: vehicle.position(seconds) for band, seconds in times.items()}
    length, width = vehicle.length_m / PIXEL_M, vehicle.width_m / PIXEL_M
    blur = np.sqrt(np.array([sigma_px[bands[channel]] for channel in channels]) ** 2 + _PIXEL_VARIANCE)
    reach = float(np.hypot(length, width)) / 2 + _REACH_SIGMAS * float(blur.max(initial=0))
    xs, ys = zip(*places.values(), strict=True)
    rows = slice(max(0, floor(min(ys) - reach)), min(shape[0], ceil(max(ys) + reach) + 1))
    cols = slice(max(0, floor(min(xs) - reach)), min(shape[1], ceil(max(xs) + reach) + 1))
    if rows.start >= rows.stop or cols.start >= cols.stop or not channels:
        return [], (slice(0, 0), slice(0, 0)), np.zeros((0, 0, 0), np.float32)
    centres = np.array([places[bands[channel]] for channel in channels])
    px = np.arange(cols.start, cols.stop)[None, None, :] + 0.5 - centres[:, 0, None, None]
    py = np.arange(rows.start, rows.stop)[None, :, None] + 0.5 - centres[:, 1, None, None]
    return channels, (rows, cols), _covered(px, py, vehicle.heading_deg, (length, width), blur[:, None, None])


def add_vehicle(
    image: NDArray[np.float32],
    bands: Sequence[str],
    vehicle: Vehicle,
    order: int,
    sigma_px: Mapping[str, float],
) -> None:
    """Paint a vehicle over an image, (C, H, W) reflectance, in place, at its position in each band.

    Bands without a delay in `BAND_DELAYS_S` are unchanged.
    """
    height, width = image.shape[1:]
    channels, part, share = vehicle_coverage((height, width), bands, vehicle, order, sigma_px)
    for channel, covered in zip(channels, share, strict=True):
        here = image[channel, *part]
        here += covered * (np.float32(vehicle.reflectance[bands[channel]]) - here)


def strip_coverage(distance_px: NDArray[np.float32], width_px: float, sigma_px: float) -> NDArray[np.float32]:
    """Return the share of each pixel covered by a long straight strip, from the distance to its middle."""
    blur = np.sqrt(sigma_px**2 + _PIXEL_VARIANCE)
    share = ndtr((distance_px + width_px / 2) / blur) - ndtr((distance_px - width_px / 2) / blur)
    return np.asarray(share, dtype=np.float32)
