"""Vehicles on a chip's streets, and their visibility as moving trucks."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pipeline.simulation.chips.palette import (
    CHIP_BANDS,
    ROOFS,
    ChipWorld,
    Image,
    paint,
    truck_colour,
)
from pipeline.simulation.chips.streets import Street
from pipeline.simulation.rendering import PIXEL_M, Vehicle, add_vehicle, car_reflectance

MIN_CONTRAST = 0.010
"""Minimum peak difference from the road, in reflectance, of a visible vehicle."""
CERTAIN_KMH = 42.0
"""Speed at which a truck is displaced by more than a pixel from B02 to B04."""
STANDING_KMH = 12.0
"""Speed below which no displacement from band to band is visible."""
MAX_OPACITY = 0.35


@dataclass(frozen=True)
class Moving:
    """Vehicle and its contrast with the road; 1 is the limit of visibility to a person."""

    vehicle: Vehicle
    contrast: float
    truck: bool

    def certain(self, light: float, opacity: float) -> bool:
        """Return True if it is clearly a moving truck in that light (0-1) and cloud opacity (0-1)."""
        seen = self.contrast * light * (1 - opacity)
        return self.truck and self.vehicle.speed_kmh >= CERTAIN_KMH and opacity < MAX_OPACITY and seen >= 1

    @property
    def ambiguous(self) -> bool:
        """Return True if it may look like a truck: any moving truck, and a visible car."""
        return self.vehicle.speed_kmh > STANDING_KMH and (self.truck or self.contrast > 0.7)


def add_traffic(rng: np.random.Generator, image: Image, world: ChipWorld, street: Street) -> list[Moving]:
    """Draw vehicles in both directions, on lanes of their driving side; a few streets have a jam."""
    size = image.shape[1]
    before = image.copy()
    jam = rng.uniform() < 0.06
    typical = rng.uniform(62, 92) if street.lanes > 1 else rng.uniform(45, 80)
    typical = rng.uniform(0, 35) if jam else typical
    gap_px = float(np.exp(rng.uniform(np.log(2.5 if jam else 5), np.log(60))))
    moving: list[Moving] = []
    for side in (-1, 1):
        backwards = side != world.driving_side
        s = rng.uniform(-size, -size + gap_px)
        while s < size:
            lane = street.lanes - 1 if rng.uniform() < 0.85 else int(rng.integers(0, street.lanes))
            x, y, heading = street.arc.place(s, side * street.lane(lane))
            if -3 < x < size + 3 and -3 < y < size + 3:
                heading = (heading + 180) % 360 if backwards else heading
                under, rough = _surface(before, x, y)
                if rng.uniform() < 0.35:
                    vehicle = _car(rng, x, y, heading, jam)
                    add_vehicle(image, CHIP_BANDS, vehicle, world.order, world.sigma)
                else:
                    speed = float(np.clip(rng.normal(typical, 7), 0 if jam else 38, 112))
                    vehicle = _truck(rng, x, y, heading, speed)
                    _add_truck(rng, image, world, vehicle, under)
                shown = contrast(vehicle, under, max(MIN_CONTRAST, 2 * world.noise, 0.5 * rough))
                moving.append(Moving(vehicle, shown, vehicle.length_m > 7))
            s += max(2.5 if jam else 4.5, rng.exponential(gap_px))
    return moving


def _surface(image: Image, x: float, y: float) -> tuple[Image, float]:
    """Return the mean reflectance (4,) under a vehicle, and the deviation of the visible bands there."""
    size = image.shape[1]
    row, col = (int(np.clip(value, 1, size - 2)) for value in (y, x))
    around = image[:, row - 1 : row + 2, col - 1 : col + 2].reshape(4, -1)
    return around.mean(axis=1), float(around[:3].std(axis=1).mean())


def contrast(vehicle: Vehicle, under: Image, least: float) -> float:
    """Return the contrast of a vehicle with the surface (4,) in multiples of `least`.

    It is that of the second best visible band, or a third of that of the best one.
    """
    area = vehicle.length_m * vehicle.width_m / PIXEL_M**2
    roof = np.array([vehicle.reflectance[band] for band in CHIP_BANDS[:3]])
    peak = np.sort(np.abs(roof - under[:3]) * min(1.0, area) * 0.75)
    return float(max(peak[1], peak[2] / 3) / least)


def _car(rng: np.random.Generator, x: float, y: float, heading: float, jam: bool) -> Vehicle:
    painted = car_reflectance(paint(rng, str(rng.choice(list(ROOFS)))))
    speed = rng.uniform(0, 40) if jam else rng.uniform(60, 150)
    return Vehicle(x, y, heading, speed, rng.uniform(3.8, 5.0), rng.uniform(1.7, 1.9), painted)


def _truck(rng: np.random.Generator, x: float, y: float, heading: float, speed: float) -> Vehicle:
    length = rng.uniform(13, 19) if rng.uniform() < 0.7 else rng.uniform(8, 12)
    return Vehicle(x, y, heading, speed, length, rng.uniform(2.4, 3.2), paint(rng, truck_colour(rng)))


def _add_truck(
    rng: np.random.Generator, image: Image, world: ChipWorld, truck: Vehicle, under: Image
) -> None:
    """Add its shadow, its load, and sometimes a cab or a trailer of another colour."""
    _add_shadow(rng, image, world, truck, under)
    add_vehicle(image, CHIP_BANDS, truck, world.order, world.sigma)
    if rng.uniform() < 0.4:
        part = 2.4 if rng.uniform() < 0.7 else truck.length_m / 2
        add_vehicle(image, CHIP_BANDS, _front(rng, truck, part), world.order, world.sigma)


def _front(rng: np.random.Generator, truck: Vehicle, length_m: float) -> Vehicle:
    dx, dy = truck.direction
    ahead = (truck.length_m - length_m) / 2 / PIXEL_M
    return replace(
        truck,
        x=truck.x + ahead * dx,
        y=truck.y + ahead * dy,
        length_m=length_m,
        reflectance=paint(rng, truck_colour(rng)),
    )


def _add_shadow(
    rng: np.random.Generator, image: Image, world: ChipWorld, truck: Vehicle, under: Image
) -> None:
    """Add the truck's shadow on the road, which moves with it."""
    angle = np.deg2rad(world.shadow_heading)
    shift = world.shadow_length_m / 2 / PIXEL_M
    across = abs(np.sin(angle - np.deg2rad(truck.heading_deg))) * world.shadow_length_m
    if across < 0.3:
        return
    dark = (under * np.float32(rng.uniform(0.3, 0.6))).tolist()
    shadow = replace(
        truck,
        x=truck.x + shift * np.sin(angle),
        y=truck.y - shift * np.cos(angle),
        width_m=float(across),
        reflectance=dict(zip(CHIP_BANDS, dark, strict=True)),
    )
    add_vehicle(image, CHIP_BANDS, shadow, world.order, world.sigma)
