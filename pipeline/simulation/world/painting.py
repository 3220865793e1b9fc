"""Painting of roofs, vehicles and aircraft over an image of the ground."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pipeline.simulation.rendering import PIXEL_M, Vehicle, add_vehicle, rectangle_coverage, vehicle_coverage
from pipeline.simulation.world import atmosphere
from pipeline.simulation.world.buildings import Roof
from pipeline.simulation.world.fleet import is_heavy
from pipeline.simulation.world.objects import World
from pipeline.simulation.world.spectra import BANDS
from pipeline.simulation.world.traffic import Aircraft, Vehicles

REACH_PX = 30.0
"""Half of the maximum length, and the maximum displacement, of any object."""
VEHICLE_HEIGHT_M = 3.8
"""Height of heavy vehicles; the shadows of light ones are left out."""
_SHADE = np.float32(0.6)
"""Share of the light that a shadow takes away."""


def paint_roofs(
    image: NDArray[np.float32],
    bands: Sequence[str],
    roofs: Sequence[Roof],
    sun_azimuth_deg: float,
    sigma_px: Mapping[str, float],
    corner: tuple[float, float] = (0.0, 0.0),
) -> NDArray[np.float32]:
    """Paint roofs with their shadows over (C, H, W) reflectance in place; return their share (H, W).

    `corner` is the x, y of the image's upper left corner, `sigma_px` the blur of each band.
    """
    shape = image.shape[1:]
    built = np.zeros(shape, np.float32)
    alike: dict[float, list[int]] = {}
    for channel, band in enumerate(bands):
        alike.setdefault(sigma_px[band], []).append(channel)
    azimuth = np.deg2rad(sun_azimuth_deg)
    for roof in roofs:
        x, y = roof.x - corner[0], roof.y - corner[1]
        colour = np.array([roof.reflectance[BANDS.index(band)] for band in bands], np.float32)
        away = -roof.shadow / 2 * np.sin(azimuth), roof.shadow / 2 * np.cos(azimuth)
        outline = roof.heading_deg, roof.length, roof.width
        for sigma, channels in alike.items():
            if roof.shadow:
                part, share = rectangle_coverage(shape, x + away[0], y + away[1], *outline, sigma)
                for channel in channels:
                    image[channel, *part] *= 1 - _SHADE * share
            part, share = rectangle_coverage(shape, x, y, *outline, sigma)
            for channel in channels:
                image[channel, *part] += share * (colour[channel] - image[channel, *part])
        built[part] = np.maximum(built[part], share)
    return built


def paint_vehicles(
    image: NDArray[np.float32],
    bands: Sequence[str],
    world: World,
    traffic: Vehicles,
    sigma_px: Mapping[str, float],
    corner: tuple[float, float] = (0.0, 0.0),
) -> None:
    """Paint what moves over (C, H, W) reflectance in place, at its position in each band.

    Arguments as for `paint_roofs`.
    """
    height, width = image.shape[1:]
    left, top = corner
    for vehicle in (*traffic.light, *traffic.heavy, *traffic.parts, *traffic.wagons):
        x, y = vehicle.x - left, vehicle.y - top
        if -REACH_PX < x < width + REACH_PX and -REACH_PX < y < height + REACH_PX:
            here, order = replace(vehicle, x=x, y=y), world.order(vehicle.x, vehicle.y)
            if vehicle.kind and is_heavy(vehicle):
                _shade(image, bands, world, here, order, sigma_px)
            add_vehicle(image, bands, here, order, sigma_px)
    for aircraft in traffic.aircraft:
        _paint_aircraft(image, bands, world, aircraft, sigma_px, corner)


def _shade(
    image: NDArray[np.float32],
    bands: Sequence[str],
    world: World,
    vehicle: Vehicle,
    order: int,
    sigma_px: Mapping[str, float],
) -> None:
    """Darken the ground beside a vehicle by its shadow, which moves with it."""
    season = world.season
    length_m = VEHICLE_HEIGHT_M * np.tan(np.deg2rad(season.sun_zenith_deg))
    azimuth = np.deg2rad(season.sun_azimuth_deg)
    shadow = replace(
        vehicle,
        x=float(vehicle.x - length_m / 2 / PIXEL_M * np.sin(azimuth)),
        y=float(vehicle.y + length_m / 2 / PIXEL_M * np.cos(azimuth)),
        width_m=float(abs(np.sin(azimuth - np.deg2rad(vehicle.heading_deg))) * length_m),
    )
    height, width = image.shape[1:]
    channels, part, share = vehicle_coverage((height, width), bands, shadow, order, sigma_px)
    for channel, covered in zip(channels, share, strict=True):
        image[channel, *part] *= 1 - _SHADE * covered


def _paint_aircraft(
    image: NDArray[np.float32],
    bands: Sequence[str],
    world: World,
    aircraft: Aircraft,
    sigma_px: Mapping[str, float],
    corner: tuple[float, float],
) -> None:
    """Paint an aircraft at its position in each band, which depends on its speed and height."""
    for part in aircraft.parts:
        order = world.order(part.x, part.y)
        for channel, band in enumerate(bands):
            right, down = atmosphere.parallax(band, order, aircraft.height_m)
            here = replace(part, x=part.x - corner[0] + right, y=part.y - corner[1] + down)
            add_vehicle(image[channel : channel + 1], (band,), here, order, sigma_px)
