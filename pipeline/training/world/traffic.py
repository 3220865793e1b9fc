"""Vehicles on the roads of a simulated world."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import hypot

import numpy as np
from numpy.typing import NDArray

from pipeline.training.rendering import PIXEL_M, Vehicle, car_reflectance
from pipeline.training.world.layout import World
from pipeline.training.world.network import Road
from pipeline.training.world.spectra import BANDS, PAINTS

PAINT_SHARES = {
    "white": 0.46, "silver": 0.19, "grey": 0.10, "blue": 0.08,
    "red": 0.06, "yellow": 0.05, "green": 0.03, "dark": 0.03,
}  # fmt: skip
_SHARES = tuple(PAINT_SHARES.values())
TRUCK_GAP_M = 45.0
BORDER_PX = 2.0


@dataclass(frozen=True)
class Traffic:
    """What moves: trucks are the truth, cars and aircraft are not."""

    trucks: tuple[Vehicle, ...]
    cars: tuple[Vehicle, ...]
    aircraft: tuple[Vehicle, ...]


def make_traffic(world: World) -> Traffic:
    """Trucks and cars on every road, and now and then an aircraft.

    Trucks on a motorway keep to the outer lane, 45 m apart or more; on other roads no two come near.
    """
    rng = np.random.default_rng([world.seed, 202])
    trucks: list[Vehicle] = []
    places = np.empty((0, 2))
    cars: list[Vehicle] = []
    for road in world.roads:
        if road.oneway:
            continue
        on_this_road: list[Vehicle] = []
        for backwards in (False, True):
            on_this_road += _trucks(world, road, backwards, places, on_this_road, rng)
            cars += _cars(world, road, backwards, rng)
        trucks += on_this_road
        places = np.array([(truck.x, truck.y) for truck in trucks]).reshape(-1, 2) if on_this_road else places
    return Traffic(tuple(trucks), tuple(cars), _aircraft(world, rng))


def roof(rng: np.random.Generator) -> dict[str, float]:
    """Reflectance by band of a random roof: mostly white, silver or grey."""
    paint = np.asarray(PAINTS[list(PAINT_SHARES)[int(rng.choice(len(PAINT_SHARES), p=_SHARES))]])
    brightness = min(max(rng.normal(1.0, 0.14), 0.6), 1.35)
    tilt = 1 + rng.normal(0, 0.06) * np.linspace(-1, 1, len(BANDS))
    return dict(zip(BANDS, np.clip(paint * brightness * tilt, 0.02, 1.05).tolist(), strict=True))


def _trucks(
    world: World,
    road: Road,
    backwards: bool,
    elsewhere: NDArray[np.float64],
    opposite: list[Vehicle],
    rng: np.random.Generator,
) -> list[Vehicle]:
    motorway = road.road_class == "motorway"
    per_km = rng.uniform(1.5, 4.0) if motorway else (0.25 if road.road_class == "secondary" else 0.08)
    found: list[Vehicle] = []
    apart = TRUCK_GAP_M / PIXEL_M
    for distance in _distances(road.line.length, per_km, rng, 0.25 if motorway else 0.0):
        length = float(rng.choice([16.5, 18.7, 12.0, 9.0], p=[0.62, 0.18, 0.12, 0.08]) + rng.normal(0, 0.3))
        speed = float(np.clip(rng.normal(84, 5), 60, 95) if motorway else np.clip(rng.normal(64, 9), 40, 85))
        vehicle = _vehicle(
            road, backwards, distance, road.lanes - 1, speed, length, rng.uniform(2.4, 2.6), rng
        )
        x, y = vehicle.x, vehicle.y
        x0, y0, x1, y1 = vehicle.box(world.order(x, y))
        inside = min(x0, y0) >= BORDER_PX and max(x1, y1) <= world.size - BORDER_PX
        near = np.hypot(*(elsewhere - [x, y]).T) <= apart + 2
        others = found if motorway else found + opposite
        if inside and not near.any() and all(hypot(o.x - x, o.y - y) > apart + 2 for o in others):
            found.append(vehicle)
    return found


def _cars(world: World, road: Road, backwards: bool, rng: np.random.Generator) -> list[Vehicle]:
    motorway = road.road_class == "motorway"
    found = []
    for distance in _distances(road.line.length, 9.0 if motorway else 2.0, rng, 0.0):
        lane = int(rng.integers(road.lanes))
        speed = float(
            np.clip(rng.normal(122, 14), 85, 160) if motorway else np.clip(rng.normal(75, 12), 40, 105)
        )
        car = _vehicle(road, backwards, distance, lane, speed, rng.normal(4.5, 0.3), 1.8, rng)
        found.append(replace(car, reflectance=car_reflectance(car.reflectance)))
    return found


def _distances(length_px: float, per_km: float, rng: np.random.Generator, grouped: float) -> list[float]:
    """Places along a road: a Poisson process, some of whose points lead a group."""
    km = length_px * PIXEL_M / 1000
    places: list[float] = []
    for start in rng.uniform(0, length_px, rng.poisson(per_km * km)):
        places.append(float(start))
        if rng.random() < grouped / 3:
            gaps = rng.uniform(6.8, 12.0, int(rng.integers(1, 4)))
            places += [float(start + ahead) for ahead in np.cumsum(gaps) if start + ahead < length_px]
    return places


def _vehicle(
    road: Road,
    backwards: bool,
    distance: float,
    lane: int,
    speed: float,
    length: float,
    width: float,
    rng: np.random.Generator,
) -> Vehicle:
    point, tangent = road.place(distance)
    if backwards:
        tangent = -tangent
    right = np.array([-tangent[1], tangent[0]])
    x, y = point + right * road.lane_offset_m(lane) / PIXEL_M
    heading = float(np.rad2deg(np.arctan2(tangent[0], -tangent[1])) % 360)
    return Vehicle(float(x), float(y), heading, speed, float(length), float(width), roof(rng))


def _aircraft(world: World, rng: np.random.Generator) -> tuple[Vehicle, ...]:
    if world.size < 512 or rng.random() < 0.4:
        return ()
    white = dict(zip(BANDS, PAINTS["white"], strict=True))
    x, y = rng.uniform(0.1, 0.9, 2) * world.size
    heading = float(rng.uniform(0, 360))
    body = Vehicle(float(x), float(y), heading, 760.0, 38.0, 5.0, white)
    wings = Vehicle(float(x), float(y), heading, 760.0, 5.0, 34.0, white)
    return body, wings
