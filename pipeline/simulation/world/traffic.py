"""Vehicles on the roads and rails of a simulated world, and aircraft above it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import hypot

import numpy as np
from numpy.typing import NDArray

from pipeline.simulation.rendering import PIXEL_M, Vehicle, car_reflectance
from pipeline.simulation.world.network import Road
from pipeline.simulation.world.objects import World
from pipeline.simulation.world.spectra import BANDS, MATERIALS, PAINTS

PAINT_SHARES = {
    "white": 0.46, "silver": 0.19, "grey": 0.10, "blue": 0.08,
    "red": 0.06, "yellow": 0.05, "green": 0.03, "dark": 0.03,
}  # fmt: skip
_SHARES = tuple(PAINT_SHARES.values())
_LOADS = ("gravel", "soil", "conifer", "concrete", "asphalt")
TRUCK_GAP_M = 52.0
"""Distance between the middles of two trucks of a convoy."""
BORDER_PX = 2.0


@dataclass(frozen=True)
class Aircraft:
    """Body, wings and height of an aircraft; its position in each band depends on the height."""

    parts: tuple[Vehicle, ...]
    height_m: float


@dataclass(frozen=True)
class Vehicles:
    """Moving objects: trucks are the truth, other road vehicles at most ignored, others not in the truth."""

    trucks: tuple[Vehicle, ...] = ()
    details: tuple[Vehicle, ...] = ()
    """Cabs and loads with another colour than their truck, which move with it."""
    buses: tuple[Vehicle, ...] = ()
    vans: tuple[Vehicle, ...] = ()
    cars: tuple[Vehicle, ...] = ()
    wagons: tuple[Vehicle, ...] = ()
    aircraft: tuple[Aircraft, ...] = ()


@dataclass(frozen=True)
class _Jam:
    """Jam on a stretch of one direction of a road, in pixels along its line, with its speed."""

    start: float
    end: float
    speed_kmh: float


def make_traffic(world: World) -> Vehicles:
    """Return trucks, cars, vans and buses on every road, trains, and sometimes an aircraft.

    Trucks on a motorway mostly keep to the outer lane, at least 52 m apart except in a jam. On other roads no
    two are near each other.
    """
    rng = np.random.default_rng([world.seed, 202])
    trucks: list[Vehicle] = []
    places = np.empty((0, 2))
    buses: list[Vehicle] = []
    vans: list[Vehicle] = []
    cars: list[Vehicle] = []
    for road in world.roads:
        if road.oneway:
            continue
        on_this_road: list[Vehicle] = []
        for backwards in (False, True):
            jam = _jam(road, rng)
            on_this_road += _trucks(world, road, backwards, jam, places, on_this_road, rng)
            others = _others(world, road, backwards, jam, rng)
            cars, vans, buses = cars + others[0], vans + others[1], buses + others[2]
        trucks += on_this_road
        places = np.array([(truck.x, truck.y) for truck in trucks]).reshape(-1, 2) if on_this_road else places
    details = [part for truck in trucks for part in _details(truck, rng)]
    wagons = [wagon for railway in world.railways for wagon in _trains(railway, rng)]
    return Vehicles(
        tuple(trucks), tuple(details), tuple(buses), tuple(vans), tuple(cars), tuple(wagons), _aircraft(world)
    )


def roof(rng: np.random.Generator) -> dict[str, float]:
    """Draw the reflectance by band of a roof: mostly white, silver or grey."""
    paint = np.asarray(PAINTS[list(PAINT_SHARES)[int(rng.choice(len(PAINT_SHARES), p=_SHARES))]])
    return _painted(paint, rng)


def _painted(paint: NDArray[np.float64], rng: np.random.Generator) -> dict[str, float]:
    """Return a paint, more or less clean and faded."""
    brightness = min(max(rng.normal(1.0, 0.14), 0.6), 1.35)
    tilt = 1 + rng.normal(0, 0.06) * np.linspace(-1, 1, len(BANDS))
    return dict(zip(BANDS, np.clip(paint * brightness * tilt, 0.02, 1.05).tolist(), strict=True))


def _jam(road: Road, rng: np.random.Generator) -> _Jam | None:
    """Return, on a few motorways, a stretch of 1 to 3 km with standing or creeping traffic."""
    if road.road_class != "motorway" or rng.random() > 0.08:
        return None
    start = float(rng.uniform(0, 0.8) * road.line.length)
    return _Jam(start, start + float(rng.uniform(100, 300)), float(rng.choice([0.0, rng.uniform(3, 30)])))


def _size(rng: np.random.Generator) -> tuple[float, float]:
    """Draw length and width in metres: articulated lorries, road trains, smaller ones; some are wide."""
    length = rng.choice([16.5, 18.7, 12.0, 9.0], p=[0.58, 0.19, 0.13, 0.10]) + rng.normal(0, 0.3)
    width = rng.uniform(2.6, 3.2) if rng.random() < 0.08 else rng.uniform(2.4, 2.6)
    return float(np.clip(length, 8, 19)), float(width)


def _trucks(
    world: World,
    road: Road,
    backwards: bool,
    jam: _Jam | None,
    elsewhere: NDArray[np.float64],
    opposite: list[Vehicle],
    rng: np.random.Generator,
) -> list[Vehicle]:
    motorway = road.road_class == "motorway"
    per_km = rng.uniform(1.5, 4.0) if motorway else (0.25 if road.road_class == "secondary" else 0.08)
    found: list[Vehicle] = []
    for convoy in _convoys(road.line.length, per_km, rng, 0.3 if motorway else 0.0):
        speed = float(np.clip(rng.normal(84, 5), 62, 98) if motorway else np.clip(rng.normal(64, 9), 40, 85))
        overtaking = motorway and len(convoy) == 1 and rng.random() < 0.07
        for distance in convoy:
            if jam and jam.start < distance < jam.end:
                continue
            lane = road.lanes - (2 if overtaking else 1)
            vehicle = _vehicle(
                road, backwards, distance, lane, speed + rng.uniform(-2, 2), _size(rng), roof(rng)
            )
            near = np.hypot(*(elsewhere - [vehicle.x, vehicle.y]).T) <= TRUCK_GAP_M / PIXEL_M + 2
            others = found if motorway else found + opposite
            if is_inside(world, vehicle) and not near.any() and _is_apart(vehicle, others):
                found.append(vehicle)
    if jam:
        distance = jam.start
        while distance < min(jam.end, road.line.length):
            lane = road.lanes - (2 if rng.random() < 0.12 else 1)
            speed = max(0.0, jam.speed_kmh + rng.uniform(-2, 2)) if jam.speed_kmh else 0.0
            vehicle = _vehicle(road, backwards, distance, lane, speed, _size(rng), roof(rng))
            if is_inside(world, vehicle) and rng.random() < 0.75:
                found.append(vehicle)
            distance += float(rng.uniform(2.2, 4.0))
    return found


def _is_apart(vehicle: Vehicle, others: list[Vehicle]) -> bool:
    return all(hypot(o.x - vehicle.x, o.y - vehicle.y) * PIXEL_M > TRUCK_GAP_M for o in others)


def is_inside(world: World, vehicle: Vehicle) -> bool:
    """Return True if the box of a vehicle is inside the scene, with some margin."""
    x0, y0, x1, y1 = vehicle.box(world.order(vehicle.x, vehicle.y))
    return min(x0, y0) >= BORDER_PX and max(x1, y1) <= world.size - BORDER_PX


def _others(
    world: World, road: Road, backwards: bool, jam: _Jam | None, rng: np.random.Generator
) -> tuple[list[Vehicle], list[Vehicle], list[Vehicle]]:
    """Return cars, vans and buses of one direction."""
    motorway = road.road_class == "motorway"
    kinds = (
        # per km, mean speed and its spread, lengths, width, share of paint from above
        (9.0 if motorway else 2.0, *((122, 14) if motorway else (75, 12)), (3.8, 5.0), 1.8, None),
        (0.8 if motorway else 0.2, *((112, 12) if motorway else (72, 10)), (5.2, 7.0), 2.05, 0.75),
        (0.10 if motorway else 0.06, *((96, 4) if motorway else (62, 9)), (11.0, 13.5), 2.55, 1.0),
    )
    found: tuple[list[Vehicle], list[Vehicle], list[Vehicle]] = ([], [], [])
    for (per_km, mean, spread, lengths, width, painted), group in zip(kinds, found, strict=True):
        places = rng.uniform(0, road.line.length, rng.poisson(per_km * road.line.length * PIXEL_M / 1000))
        if jam and painted is None:
            places = np.append(places, np.arange(jam.start, min(jam.end, road.line.length), 1.6))
        for distance in places.tolist():
            queued = jam is not None and jam.start < distance < jam.end
            speed = float(np.clip(rng.normal(mean, spread), 40, 165))
            # in a jam the outer lane is for trucks
            lane = int(rng.integers(max(1, road.lanes - queued)))
            size = float(rng.uniform(*lengths)), width
            vehicle = _vehicle(
                road, backwards, distance, lane, jam.speed_kmh if jam and queued else speed, size, roof(rng)
            )
            if painted is None:
                group.append(replace(vehicle, reflectance=car_reflectance(vehicle.reflectance)))
            elif is_inside(world, vehicle):
                dull = {band: painted * value for band, value in vehicle.reflectance.items()}
                group.append(replace(vehicle, reflectance=dull))
    return found


def _convoys(length_px: float, per_km: float, rng: np.random.Generator, grouped: float) -> list[list[float]]:
    """Draw places along a road: a Poisson process, with convoys of up to six at some points."""
    km = length_px * PIXEL_M / 1000
    convoys: list[list[float]] = []
    for start in rng.uniform(0, length_px, rng.poisson(per_km * km)):
        places = [float(start)]
        if rng.random() < grouped / 3:
            gaps = TRUCK_GAP_M / PIXEL_M + rng.uniform(0.2, 5.0, int(rng.integers(1, 6)))
            places += [float(start + ahead) for ahead in np.cumsum(gaps) if start + ahead < length_px]
        convoys.append(places)
    return convoys


def _vehicle(
    road: Road,
    backwards: bool,
    distance: float,
    lane: int,
    speed: float,
    size_m: tuple[float, float],
    reflectance: dict[str, float],
) -> Vehicle:
    point, tangent = road.place(distance)
    if backwards:
        tangent = -tangent
    right = np.array([-tangent[1], tangent[0]])
    x, y = point + right * road.lane_offset_m(lane) / PIXEL_M
    heading = float(np.rad2deg(np.arctan2(tangent[0], -tangent[1])) % 360)
    return Vehicle(float(x), float(y), heading, float(speed), *size_m, reflectance)


def _details(truck: Vehicle, rng: np.random.Generator) -> list[Vehicle]:
    """Return sometimes a cab of another colour, sometimes an open load."""
    parts = []
    dx, dy = truck.direction
    if truck.length_m > 11 and rng.random() < 0.35:
        ahead = (truck.length_m / 2 - 1.2) / PIXEL_M
        cab = replace(truck, x=truck.x + ahead * dx, y=truck.y + ahead * dy, length_m=2.4)
        parts.append(replace(cab, reflectance=roof(rng)))
    if rng.random() < 0.07:
        load = np.asarray(MATERIALS[str(rng.choice(_LOADS))].spectrum)
        back = -0.08 * truck.length_m / PIXEL_M
        parts.append(
            replace(
                truck,
                x=truck.x + back * dx,
                y=truck.y + back * dy,
                length_m=0.6 * truck.length_m,
                width_m=0.8 * truck.width_m,
                reflectance=_painted(load, rng),
            )
        )
    return parts


def _trains(railway: Road, rng: np.random.Generator) -> list[Vehicle]:
    """Return the wagons of the trains on a railway: passenger trains of one colour, goods trains of a few."""
    length = railway.line.length
    wagons = []
    for _ in range(rng.poisson(0.1 * length * PIXEL_M / 1000)):
        goods, backwards = rng.random() < 0.5, rng.random() < 0.5
        speed = float(rng.uniform(50, 100) if goods else rng.uniform(80, 200))
        size = (float(rng.uniform(13, 20)), 2.9) if goods else (25.8, 2.85)
        paints = [roof(rng) for _ in range(int(rng.integers(1, 4)) if goods else 1)]
        dirt = rng.uniform(0.25, 0.6) if goods else rng.uniform(0.4, 0.8)
        start, pitch = rng.uniform(0, length), (size[0] + 1.0) / PIXEL_M
        for number in range(int(rng.integers(10, 32) if goods else rng.integers(3, 13))):
            distance = start + number * pitch
            if distance < length:
                paint = paints[int(rng.integers(len(paints)))]
                dirty = {band: dirt * value for band, value in paint.items()}
                wagons.append(_vehicle(railway, backwards, distance, 0, speed, size, dirty))
    return wagons


def _aircraft(world: World) -> tuple[Aircraft, ...]:
    white = dict(zip(BANDS, PAINTS["white"], strict=True))
    aircraft = []
    for flight in world.flights:
        body = Vehicle(
            flight.x,
            flight.y,
            flight.heading_deg,
            flight.speed_kmh,
            flight.length_m,
            0.13 * flight.length_m,
            white,
        )
        wings = replace(body, length_m=0.13 * flight.length_m, width_m=0.9 * flight.length_m)
        aircraft.append(Aircraft((body, wings), flight.height_m))
    return tuple(aircraft)


def contrast(vehicle: Vehicle, surface: Sequence[float]) -> float:
    """Return the contrast of a vehicle: reflectance times pixels in the second best visible band.

    `surface` is the road's reflectance by band, in the order of `BANDS`.
    """
    visible = ("B02", "B03", "B04")
    contrasts = sorted(abs(vehicle.reflectance[band] - surface[BANDS.index(band)]) for band in visible)
    return float(contrasts[1] * vehicle.length_m * vehicle.width_m / PIXEL_M**2)
